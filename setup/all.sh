#!/usr/bin/env bash
# Everything that `make demo` and `make test` need; a second run finds all of it there and takes no time.
# With an argument only what that needs: "environment" (`make check`) or "demo".
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$here/../.lab"
cache=$(cd "$here/../.lab" && pwd)
for=${1:-tests}
exec 9>"$cache/setup.lock"
flock 9 # two at once would undo each other's work

"$here/packages.sh" "$for"
"$here/python-environment.sh" "$cache"
[ "$for" = environment ] || "$here/guest-kernel.sh" "$cache"
[ "$for" != tests ] || "$here/cloud-init.sh" "$cache"
