#!/bin/sh
# Real jobs on this machine, in a folder of its own that is removed at the end. Nothing is simulated.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
folder=$(mktemp -d)
export XDG_STATE_HOME="$folder/.local/state"
export XDG_CACHE_HOME="$folder/.cache"
cp "$here/jobs.yaml" "$folder/jobs.yaml"
cd "$folder"

# What still runs is ended by the tool itself, whatever ended the demo.
leave() {
    sed 's/^    state: running$/    state: absent/' jobs.yaml >changed && mv changed jobs.yaml
    reconciler apply --yes --allow delete=100 --allow abort=100 --settle 0 >/dev/null 2>&1 || true
    cd / && rm -rf "$folder"
}
trap leave EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

say() {
    printf '\n# %s\n' "$*"
}
# A command that ends with another code than 0 is a part of the show: holds are 4, failed runs are 3, drift is 2.
show() {
    printf '\n$ %s\n' "$*"
    code=0
    "$@" || code=$?
    if [ "$code" -ne 0 ]; then printf '(exit %s)\n' "$code"; fi
}

say 'A dozen jobs. The plan reads nothing and starts nothing.'
show reconciler plan
say 'Each job is started once. --wait goes on with the jobs that come after others.'
show reconciler apply --yes --wait 30
show reconciler wait package nightly-report nightly-loudness caption-trailer render-credits
show reconciler status
say 'One job has failed, and its log says why.'
show reconciler logs caption-trailer

say 'A new LEVEL for live-preview: its config changes, so the job is restarted, and no other one.'
sed 's/LEVEL: "3"/LEVEL: "4"/' jobs.yaml >changed && mv changed jobs.yaml
show reconciler plan --target live-preview
show reconciler apply --yes --target live-preview
show reconciler runs live-preview

say 'A completed job gets another config, which is reverted later. Its work is done, so both are recorded, and nothing runs.'
cp jobs.yaml kept
sed 's/FRAMES: "500"/FRAMES: "700"/' jobs.yaml >changed && mv changed jobs.yaml
show reconciler apply --yes --target transcode-low
mv kept jobs.yaml
show reconciler apply --yes --target transcode-low
show reconciler runs transcode-low

say 'Somebody kills the preview by hand. That is drift, and nothing runs again unasked.'
pid=$(reconciler status --format json | sed -n '/"job": "live-preview"/,/"pid"/s/.*"pid": \([0-9][0-9]*\).*/\1/p')
if [ -n "$pid" ] && [ "$pid" -gt 1 ]; then show kill -9 "$pid"; fi
show reconciler wait live-preview
show reconciler drift --target live-preview

say 'What was done, by whom, and why.'
show reconciler history live-preview
