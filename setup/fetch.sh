# shellcheck shell=bash
# Sourced. Packages that are downloaded and unpacked below .lab, and never installed.

refresh_lists() { apt-get -qq -o DPkg::Lock::Timeout=120 update </dev/null || true; }

# fetch WORK NAMING: downloads the package that NAMING prints the name of into WORK, and unpacks it into WORK/tree.
fetch() {
    local work=$1 naming=$2 package
    chmod 755 "$work" # apt downloads as its own user
    package=$($naming)
    if ! (cd "$work" && apt-get -qq download "$package") >"$work/log" 2>&1; then
        refresh_lists >>"$work/log" 2>&1 # they may be older than the archive
        package=$($naming)
        if ! (cd "$work" && apt-get -qq download "$package") >>"$work/log" 2>&1; then
            tail -n 15 "$work/log" >&2
            echo "setup: fetching $package failed; the lines above are what apt-get said" >&2
            exit 1
        fi
    fi
    dpkg -x "$work/$package"_*.deb "$work/tree"
}
