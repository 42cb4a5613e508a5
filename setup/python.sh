# shellcheck shell=bash
# Sourced: finds a Python that the project can use.

# Prints the first interpreter of version 3.11 or newer; $PYTHON, when set, is asked first.
find_python() {
    local candidate
    for candidate in ${PYTHON:-} python3 python3.14 python3.13 python3.12 python3.11; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    return 1
}
