#!/bin/sh
# A fleet on the embedded sandbox, which simulates the service: in a folder of its own that is removed at the end.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export XDG_STATE_HOME="$folder/.local/state"
export XDG_CACHE_HOME="$folder/.cache"
cp "$here/jobs.yaml" "$folder/jobs.yaml"
cd "$folder"

show() {
    printf '\n$ %s\n' "$*"
    "$@"
}

show reconciler validate
show reconciler plan
printf '\n# An apply reads the jobs first. Here it finds two jobs to abort that never ran, and adopts them without a call.\n'
show reconciler apply --yes
show reconciler status
printf '\n# One config changes: nightly-transcode may take 3 hours.\n'
sed 's/taskTimeout: 600, jobTimeout: 7200/taskTimeout: 600, jobTimeout: 10800/' jobs.yaml >changed && mv changed jobs.yaml
show reconciler plan
show reconciler apply --yes
show reconciler plan
