#!/usr/bin/env bash
# Get Slurm, MUNGE and MariaDB from Debian's packages, so that the tests can start clusters of their own.
#
# The packages want to start services. A policy forbids that while they are installed, and is taken away after that, so
# that nothing of Slurm runs on this machine but what a test starts. Only the first run does any of it.
#
# Needs Debian on Linux, and root where a package is missing.
set -euo pipefail

POLICY=/usr/sbin/policy-rc.d
declare -A PACKAGES=(
    [slurmctld]=slurmctld [slurmd]=slurmd [slurmdbd]=slurmdbd [sbatch]=slurm-client [munged]=munge
    [mariadbd]=mariadb-server [sshd]=openssh-server [ssh]=openssh-client
)
export PATH=$PATH:/usr/sbin:/sbin

say() { echo "$*" >&2; }
fail() {
    say "no Slurm for the tests: $*"
    exit 1
}

missing=()
for program in "${!PACKAGES[@]}"; do
    command -v "$program" >/dev/null || missing+=("${PACKAGES[$program]}")
done
[ ${#missing[@]} -gt 0 ] || exit 0

[ "$(uname -s)" = Linux ] || fail "it runs on Linux alone, and this is $(uname -s)"
command -v apt-get >/dev/null || fail "it comes from Debian's packages, and this machine has no apt-get"
[ "$(id -u)" = 0 ] || fail "as root: apt-get install --no-install-recommends ${missing[*]}"

kept=""
restore() { if [ -n "$kept" ]; then mv "$kept" "$POLICY"; else rm -f "$POLICY"; fi; }
if [ -e "$POLICY" ]; then
    kept=$(mktemp "$POLICY.XXXXXX")
    mv "$POLICY" "$kept"
fi
trap restore EXIT
printf '#!/bin/sh\nexit 101\n' >"$POLICY"
chmod 755 "$POLICY"

say "installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
apt=(apt-get -q -o DPkg::Lock::Timeout=600)
{ "${apt[@]}" update && "${apt[@]}" install -y --no-install-recommends "${missing[@]}"; } >&2 ||
    fail "${missing[*]} can't be installed"
