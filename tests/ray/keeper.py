"""Keeps a head of Ray: starts it, and kills all that it has started when this program is told to end.

    python keeper.py MARK COMMAND ...

Ray starts its parts as daemons, and those start workers and the commands of jobs. Each of them has MARK in its
environment, by which it is found. This program gets SIGTERM when the test that has started it ends in whatever way.
"""

import ctypes
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

VARIABLE = "RAY_HEAD_MARK"
"""The variable with the mark."""

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True)


def dies_with_parent(parent: int) -> None:
    """Let the kernel send this process SIGTERM when the thread that forked it ends."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def marked(mark: str) -> list[int]:
    """Return the ids of the processes that have a mark."""
    return [int(entry.name) for entry in os.scandir("/proc") if entry.name.isdigit() and _has(int(entry.name), mark)]


def sweep(mark: str) -> None:
    """Kill every process that has a mark, until there is none.

    A descriptor stands for a process while it is looked at, so that no other one is killed, whatever its id belongs to.
    """
    while pids := marked(mark):
        for pid in pids:
            with suppress(ProcessLookupError):
                process = os.pidfd_open(pid)
                try:
                    if _has(pid, mark):
                        signal.pidfd_send_signal(process, signal.SIGKILL)
                finally:
                    os.close(process)
        time.sleep(0.01)


def _has(pid: int, mark: str) -> bool:
    with suppress(OSError):
        return f"{VARIABLE}={mark}".encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    return False


def main(mark: str, command: list[str]) -> int:
    """Run the command until it ends or this program is told to end. Leaves no process with the mark."""

    def stop(*_: object) -> None:
        raise SystemExit(0)

    signal.signal(signal.SIGTERM, stop)
    try:
        return subprocess.call(command, stdin=subprocess.DEVNULL, env={**os.environ, VARIABLE: mark})
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        sweep(mark)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
