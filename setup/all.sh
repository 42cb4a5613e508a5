#!/usr/bin/env bash
# Everything that `make demo` and `make test` need; a second run finds all of it there and takes no time.
# With the argument "environment": only what `make check` needs.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$here/../.lab"
cache=$(cd "$here/../.lab" && pwd)
exec 9>"$cache/setup.lock"
flock 9 # two at once would undo each other's work

"$here/packages.sh"
"$here/python-environment.sh" "$cache"
[ "${1:-}" = environment ] || "$here/guest-kernel.sh" "$cache"
