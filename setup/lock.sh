#!/usr/bin/env bash
# Writes requirements.txt and requirements-dev.txt anew from pyproject.toml, and what `make bench-jobs` compares with from
# its requirements.in: the newest versions that they allow, or, with the argument --no-upgrade, those that are pinned
# already. uv does the resolving, from a throwaway place.
set -euo pipefail

cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
.venv/bin/python -m venv "$work/venv"
"$work/venv/bin/python" -m pip --disable-pip-version-check -q install uv
# Universal: for every Python that the project supports, whichever .venv has. Some requirements depend on the patch level.
compile=("$work/venv/bin/uv" --quiet pip compile "${@:---upgrade}" --python .venv/bin/python
    --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header)
"${compile[@]}" pyproject.toml -o requirements.txt
"${compile[@]}" pyproject.toml --group dev -c requirements.txt -o requirements-dev.txt
rivals=tests/bench_jobs/rivals/requirements
"${compile[@]}" "$rivals.in" -o "$rivals.txt"
