#!/bin/sh
# Applies what is on the branch main. For a user of its own, in `crontab -e`:
#
#   PATH=/opt/reconciler/bin:/usr/local/bin:/usr/bin:/bin
#   MAILTO=batch-team@example.com
#   17 * * * * flock -n "$HOME/jobs.lock" /srv/jobs.sh
#
# cron starts a job without the PATH and the variables of a login shell. PATH above names where reconciler, git and flock
# are. The variables stand in ~/.config/jobs.env, which its user alone can read (chmod 600):
#
#   export JOBS_REMOTE=https://host.example/org/repo.git
#   export BYTENITE_API_KEY=...
#
# Git gets in by a credential helper, or by a key without a passphrase: cron has no agent and nobody to ask.
# cron mails what is printed. So an apply with nothing to do prints nothing, and any other apply prints all of it.
set -eu
. "$HOME/.config/jobs.env"
clone=$(mktemp -d)
git clone -q --depth=1 --branch=main "$JOBS_REMOTE" "$clone"
cd "$clone"
code=0
said=$(reconciler apply --yes --push main 2>&1) || code=$?
case $code$said in
"0Nothing to do"*) ;;
*) printf '%s\n' "$said" ;;
esac
# What fails keeps its clone; what is killed has announced its calls on the branch, and the next run looks at them.
[ "$code" -ne 0 ] || rm -rf "$clone"
exit "$code"
