# Start a command at most once for a run: sh run.sh PREPARED RUN COMMAND [ARGUMENT]...
#
# PREPARED is a file that describes the run, and RUN.json is the name that it gets. All of this happens in a shell of its
# own, which no kill of the sender reaches. Standard output stays open until it is certain whether the run is taken.
prepared=$1
run=$2
shift 2
(
    # The link is made in one step, and fails if RUN.json exists: of all senders of a run, one goes on.
    ln "$prepared" "$run.json" || exit
    rm "$prepared"
    # After a power failure the run must still be taken, so the link reaches the disk before the command begins.
    sync "$(dirname "$run")" || exit
    exec >"$run.log" 2>&1
    # An abort sends SIGTERM to every process of the run. This shell stays, and records the exit code.
    trap : TERM
    "$@"
    echo "$?" >"$run.code.new" && sync "$run.code.new" && mv "$run.code.new" "$run.code"
) &
