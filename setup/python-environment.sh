#!/usr/bin/env bash
# Makes .venv: the pinned requirements, verified by hash, and the checkout itself. Redone when what it was made of changes.
set -euo pipefail
# shellcheck source=setup/python.sh
. "$(dirname "$0")/python.sh"

checkout=$(cd "$(dirname "$0")/.." && pwd)
cache=$1
venv=$checkout/.venv
log=$cache/pip.log

digest() { (cd "$checkout" && sha256sum "$@"); }
current() { [ -x "$venv/bin/python" ] && [ "$(cat "$venv/$1" 2>/dev/null)" = "$2" ]; }

# run STEP COMMAND...: its output goes to the log, whose end is shown when it fails.
run() {
    local step=$1
    shift
    if ! "$@" >>"$log" 2>&1 </dev/null; then
        tail -n 15 "$log" >&2
        echo "setup: $step failed; all of pip's output is in $log" >&2
        exit 1
    fi
}

requirements=$(digest requirements-dev.txt)
project="$(digest pyproject.toml) $checkout"
pip=("$venv/bin/python" -m pip --disable-pip-version-check --no-input)

if ! current made-from-requirements "$requirements"; then
    : >"$log"
    if ! "$venv/bin/python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        python=$(find_python) || { echo "setup: no Python 3.11 or newer is installed; name one: make setup PYTHON=..." >&2; exit 1; }
        run "making .venv with $python" "$python" -m venv --clear "$venv"
    fi
    echo "setup: installing the Python requirements into .venv"
    run "installing the Python requirements" "${pip[@]}" install --require-hashes -r "$checkout/requirements-dev.txt"
    echo "$requirements" >"$venv/made-from-requirements"
    rm -f "$venv/made-from-project"
fi
if ! current made-from-project "$project"; then
    # setuptools is among the requirements: building needs nothing that is not pinned.
    run "installing the project into .venv" \
        "${pip[@]}" install --no-deps --no-build-isolation -e "$checkout"
    echo "$project" >"$venv/made-from-project"
fi
