#!/usr/bin/env bash
# Makes .lab/rivals: the environment of the engines that `make bench-jobs` measures beside Hostler, pinned and verified by
# hash. Nothing of it is the product's or the tests'. Redone when what it was made of changes.
set -euo pipefail

cd "$(dirname "$0")/.."
requirements=tests/bench_jobs/rivals/requirements.txt
venv=.lab/rivals
made=$(sha256sum "$requirements")
mkdir -p .lab
exec 9>.lab/setup.lock
flock 9 # two at once would undo each other's work

[ "$(cat "$venv/made-from" 2>/dev/null)" = "$made" ] && exit
echo "setup: installing the engines to compare with into $venv"
.venv/bin/python -m venv --clear "$venv"
if ! "$venv/bin/python" -m pip --disable-pip-version-check --no-input install --require-hashes -r "$requirements" \
    >.lab/rivals.log 2>&1 </dev/null; then
    tail -n 15 .lab/rivals.log >&2
    echo "setup: installing them failed; all of pip's output is in .lab/rivals.log" >&2
    exit 1
fi
echo "$made" >"$venv/made-from"
