"""Run `reconciler apply` as a CI step: `apply.py [options and paths of reconciler apply]`, with `--push BRANCH`.

reconciler pushes the state by itself. This script covers two cases that reconciler cannot cover. If reconciler is
killed, this script pushes the files that reconciler left on disk. If the CI service cancels the step, this script
passes each signal on once, whether the service signals one process or the whole group, and waits for reconciler to end.

Start the script with `exec`, so that no shell stands between the script and the CI service.
"""

import signal

signal.signal(signal.SIGINT, signal.SIG_DFL)  # a step that is cancelled during the imports ends at once

import ctypes
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType

# Python does not add the script's folder itself where PYTHONSAFEPATH is set.
sys.path.insert(0, str(Path(__file__).parent))

from commit_state import commit_state, workspace_of
from reconciler.model.errors import ExitCode, ReconcilerError

_PR_SET_PDEATHSIG = 1
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_ENDS_BY_ITSELF = frozenset({code.value for code in ExitCode} - {ExitCode.INTERRUPTED, ExitCode.TERMINATED})
"""With these exit codes reconciler has pushed the state, or has printed why it could not.

INTERRUPTED and TERMINATED are left out: a second signal ends reconciler before the push.
"""


def run_apply(words: Sequence[str], *, branch: str, tell: Callable[[str], None]) -> int:
    """Run `reconciler apply` with these arguments and push what a killed apply left; return the exit code.

    `branch` has the form of `--push`. `tell` is called with an error message for the log.
    """
    code = _run(["reconciler", "apply", *words])
    if code in _ENDS_BY_ITSELF:
        return code
    try:
        fault = commit_state(workspace_of(words), branch)
    except (ReconcilerError, OSError) as error:
        fault = str(error)
    if fault:
        tell(f"reconciler ended with {code}, and what it left could not be pushed: {fault}")
    elif code not in (ExitCode.INTERRUPTED, ExitCode.TERMINATED):
        tell(f"reconciler was killed (exit {code}); what it left is pushed, and the next apply goes on from there")
    return code


def _run(command: Sequence[str]) -> int:
    """Run a command to its end and pass each signal on once; return 128 + N if signal N ended the command."""
    child: subprocess.Popen[bytes] | None = None
    early: list[int] = []

    def pass_on(number: int, frame: FrameType | None) -> None:
        if child is None:
            early.append(number)
        elif child.poll() is None:
            child.send_signal(number)

    for number in _SIGNALS:
        signal.signal(number, pass_on)
    # The child has a process group of its own. Otherwise a signal to the whole group would reach the child twice, once
    # from the sender and once from this process, and a second signal ends reconciler at once.
    arrange = _end_with_parent(os.getpid())
    child = subprocess.Popen(command, process_group=0, preexec_fn=arrange)  # noqa: PLW1509  there are no threads here
    for missed in early:
        child.send_signal(missed)
    code = child.wait()
    return 128 - code if code < 0 else code


def _end_with_parent(parent: int) -> Callable[[], None]:
    """Return a function for the child that has Linux send the child SIGTERM when the parent is killed.

    On other systems the child of a killed parent runs to its end.
    """
    prctl = getattr(ctypes.CDLL(None, use_errno=True), "prctl", None)

    def arrange() -> None:
        if prctl is not None:
            prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
            if os.getppid() != parent:
                os.kill(os.getpid(), signal.SIGTERM)

    return arrange


def _say(text: str) -> None:
    sys.stderr.write(f"error: {text}\n")


def main() -> int:
    from reconciler.cli.apply import apply

    words = sys.argv[1:]
    branch = apply.make_context("apply", list(words), resilient_parsing=True).params["push"]
    if not branch:
        sys.stderr.write("error: --push BRANCH is missing: name the branch that the state is pushed to\n")
        return int(ExitCode.USAGE)
    return run_apply(words, branch=branch, tell=_say)


if __name__ == "__main__":
    sys.exit(main())
