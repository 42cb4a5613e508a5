#!/usr/bin/env bash
# Fetches cloud-init, whose own code reads the tests' config drives, into .lab/cloud-init. It is never installed: its
# services would take this machine for a new one.
set -euo pipefail
# shellcheck source=setup/fetch.sh
. "$(dirname "$0")/fetch.sh"

cache=$1/cloud-init
[ ! -f "$cache/done" ] || exit 0

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
echo "setup: fetching cloud-init, to be unpacked below ${cache}"
fetch "$work" "echo cloud-init"

rm -rf "$cache"
mkdir -p "$cache"
cp -r "$work/tree/usr/lib/python3/dist-packages/cloudinit" "$cache/cloudinit"
touch "$cache/done"
