#!/usr/bin/env bash
# Fetches the kernel that the lab's guests run, into .lab/kernel: downloaded and unpacked there, never installed.
set -euo pipefail

cache=$1/kernel
[ ! -f "$cache/done" ] || exit 0

meta=linux-image-cloud-$(dpkg --print-architecture)
# The metapackage only depends on the real one, whose name carries the version.
real_package() {
    apt-cache depends "$meta" 2>/dev/null | sed -n 's/^ *Depends: \(linux-image-[0-9][^ ]*\)$/\1/p' | head -n 1 || true
}
if [ -z "$(real_package)" ]; then
    apt-get -qq -o DPkg::Lock::Timeout=120 update </dev/null || true
fi
package=$(real_package)
if [ -z "$package" ]; then
    echo "setup: apt knows no $meta, the kernel that the lab's guests run; add Debian's main archive to its sources" >&2
    exit 1
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
chmod 755 "$work" # apt downloads as its own user
echo "setup: fetching the guests' kernel ($package), to be unpacked below ${cache}"
if ! (cd "$work" && apt-get -qq download "$package") >"$work/log" 2>&1; then
    # The lists may be older than the archive.
    apt-get -qq -o DPkg::Lock::Timeout=120 update </dev/null >>"$work/log" 2>&1 || true
    package=$(real_package)
    if ! (cd "$work" && apt-get -qq download "$package") >>"$work/log" 2>&1; then
        tail -n 15 "$work/log" >&2
        echo "setup: fetching $package failed; the lines above are what apt-get said" >&2
        exit 1
    fi
fi
dpkg -x "$work/$package"_*.deb "$work/tree"

rm -rf "$cache"
mkdir -p "$cache/modules"
cp "$work"/tree/boot/vmlinuz-* "$cache/vmlinuz"
for module in virtio virtio_ring virtio_pci virtio_pci_modern_dev virtio_pci_legacy_dev virtio_blk virtio_net \
    net_failover failover virtio_balloon button evdev; do
    find "$work/tree" -name "$module.ko" -exec cp -t "$cache/modules" {} +
done
echo "$package" >"$cache/done"
