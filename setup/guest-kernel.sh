#!/usr/bin/env bash
# Fetches the kernel that the lab's guests run, into .lab/kernel: downloaded and unpacked there, never installed.
set -euo pipefail
# shellcheck source=setup/fetch.sh
. "$(dirname "$0")/fetch.sh"

cache=$1/kernel
[ ! -f "$cache/done" ] || exit 0

meta=linux-image-cloud-$(dpkg --print-architecture)
# The metapackage only depends on the real one, whose name carries the version.
real_package() {
    apt-cache depends "$meta" 2>/dev/null | sed -n 's/^ *Depends: \(linux-image-[0-9][^ ]*\)$/\1/p' | head -n 1 || true
}
if [ -z "$(real_package)" ]; then
    refresh_lists
fi
package=$(real_package)
if [ -z "$package" ]; then
    echo "setup: apt knows no $meta, the kernel that the lab's guests run; add Debian's main archive to its sources" >&2
    exit 1
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
echo "setup: fetching the guests' kernel ($package), to be unpacked below ${cache}"
fetch "$work" real_package

rm -rf "$cache"
mkdir -p "$cache/modules"
cp "$work"/tree/boot/vmlinuz-* "$cache/vmlinuz"
for module in virtio virtio_ring virtio_pci virtio_pci_modern_dev virtio_pci_legacy_dev virtio_blk virtio_net \
    net_failover failover virtio_balloon button evdev; do
    find "$work/tree" -name "$module.ko" -exec cp -t "$cache/modules" {} +
done
real_package >"$cache/done"
