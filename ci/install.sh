#!/usr/bin/env bash
# Install this checkout of reconciler into a folder: first the dependencies, checked by hash, then the package.
set -euo pipefail
folder=$1
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

if [ -x "$folder/bin/reconciler" ]; then
    exit 0
fi
"${PYTHON:-python3}" -m venv "$folder"
pip() { "$folder/bin/python" -m pip --disable-pip-version-check --no-input -qq "$@"; }
pip install --require-hashes -r "$here/requirements/run.txt" -r "$here/requirements/build.txt"
pip install --no-deps --no-build-isolation "$here"
