"""Keeps a head of Ray: starts it, and kills all that it has started when this program is told to end.

    python keeper.py MARK COMMAND ...

Ray starts its parts as daemons, and those start workers and the commands of jobs. Each of them has MARK in its
environment, by which it is found. This program gets SIGTERM when the test that has started it ends in whatever way.
"""

import os
import signal
import subprocess
import sys

from kubernetes.kubelet import MARK, sweep


def main(mark: str, command: list[str]) -> int:
    """Run the command until it ends or this program is told to end. Leaves no process with the mark."""

    def stop(*_: object) -> None:
        raise SystemExit(0)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    try:
        return subprocess.call(command, stdin=subprocess.DEVNULL, env={**env, MARK: mark})
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        sweep(mark)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
