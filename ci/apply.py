"""`reconciler apply` as a CI step: `apply.py [options and paths of reconciler apply]`, with `--push BRANCH` among them.

reconciler itself pushes the state. This sees to what reconciler can't: where it is killed, what it left on disk is
pushed; where the step is cancelled, each signal reaches it once, however the CI service sends it, and the step waits
for its end. Start it with `exec`, so that no shell stands between it and the CI service.
"""

import signal

signal.signal(signal.SIGINT, signal.SIG_DFL)  # a step that is cancelled while this loads just ends

import ctypes
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType

# Also where PYTHONSAFEPATH is set.
sys.path.insert(0, str(Path(__file__).parent))

from commit_state import commit_state, workspace_of
from reconciler.model.errors import ExitCode, ReconcilerError

_PR_SET_PDEATHSIG = 1
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_ENDS_BY_ITSELF = frozenset({code.value for code in ExitCode} - {ExitCode.INTERRUPTED, ExitCode.TERMINATED})
"""With these the state was pushed, or why it was not is said. A second signal ends reconciler before it pushes."""


def run_apply(words: Sequence[str], *, branch: str, tell: Callable[[str], None]) -> int:
    """Run `reconciler apply` with these words to its end, and push what it leaves. Returns the exit code.

    `branch` is as `--push` takes it. `tell` gets an error for whoever reads the log.
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
    """Run a command to its end, each signal passed on to it once; 128 + N where signal N ended it."""
    child: subprocess.Popen[bytes] | None = None
    early: list[int] = []

    def pass_on(number: int, frame: FrameType | None) -> None:
        if child is None:
            early.append(number)
        elif child.poll() is None:
            child.send_signal(number)

    for number in _SIGNALS:
        signal.signal(number, pass_on)
    # In a group of its own: a signal to the whole group would reach it twice, and a second one ends it at once.
    arrange = _end_with_parent(os.getpid())
    child = subprocess.Popen(command, process_group=0, preexec_fn=arrange)  # noqa: PLW1509  there are no threads here
    for missed in early:
        child.send_signal(missed)
    code = child.wait()
    return 128 - code if code < 0 else code


def _end_with_parent(parent: int) -> Callable[[], None]:
    """What has Linux send SIGTERM to a child whose parent is killed; elsewhere it goes on to its end."""
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
