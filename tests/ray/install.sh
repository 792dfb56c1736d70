#!/usr/bin/env bash
# Install Ray into a venv of its own in a folder of the cache, so that the tests can start a head of their own.
#
# Ray takes 384 MB and pins what it needs, so it is no dependency of the project, and never in the project's venv. The
# versions and their hashes stand in requirements.txt. `--lock` renews that file from the version below, with the uv of
# the project's venv. Only the first run installs, and the first one after a change of requirements.txt. Prints the
# folder of the venv.
#
# RAY_VENV names another venv that has Ray, and nothing is installed then.
set -euo pipefail

VERSION=2.60.0
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
LOCK=$HERE/requirements.txt
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/reconciler-tests/ray-$VERSION

say() { echo "$*" >&2; }
fail() {
    say "no Ray for the tests: $*"
    exit 1
}

if [ "${1:-}" = --lock ]; then
    echo "ray[default]==$VERSION" | "$HERE/../../.venv/bin/uv" pip compile -q --universal --python-version 3.11 \
        --generate-hashes --no-annotate --no-emit-index-url --no-emit-find-links \
        --custom-compile-command 'tests/ray/install.sh --lock' -o "$LOCK" -
    exit
fi
if [ -n "${RAY_VENV:-}" ]; then
    echo "$RAY_VENV"
    exit
fi

mkdir -p "$CACHE"
exec 9>"$CACHE/lock"
flock 9
wanted=$(sha256sum <"$LOCK")
if [ "$(cat "$CACHE/installed" 2>/dev/null)" != "$wanted" ]; then
    python=${PYTHON:-python3}
    "$python" -c 'import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null ||
        fail "$python is not a Python 3.11 to 3.13 with venv; name one that is: PYTHON=python3.12"
    say "installing Ray $VERSION, about a minute"
    rm -f "$CACHE/installed"
    "$python" -m venv --clear "$CACHE/venv"
    "$CACHE/venv/bin/python" -m pip --disable-pip-version-check --no-input -qq install --require-hashes -r "$LOCK" >&2 ||
        fail "its packages can't be installed"
    echo "$wanted" >"$CACHE/installed"
fi
echo "$CACHE/venv"
