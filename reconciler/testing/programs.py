"""Starting the programs of a test, and telling them to wait, to stop, to go on, or to die.

The signals are real, and go to one process id each.
"""

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

DEADLINE_S = 120.0
"""How long a program may take to the next point. After that it counts as hanging, which fails the test."""


class Program:
    """One program that `python -m MODULE ARGUMENT` starts. It is killed when the block of the context manager ends."""

    def __init__(self, module: str, argument: object, env: Mapping[str, str], folder: str) -> None:
        """`argument` is sent as JSON. What the program prints to stderr goes to a file in `folder`."""
        self._errors = os.path.join(folder, f"stderr-{time.monotonic_ns()}")
        with open(self._errors, "wb") as errors:
            self._child = subprocess.Popen(
                [sys.executable, "-m", module, json.dumps(argument)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env={**os.environ, **env},
                cwd=folder,
            )
        self._unread = b""
        self._is_stopped = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, at: TracebackType | None) -> None:
        self.kill()
        for pipe in (self._child.stdin, self._child.stdout):
            if pipe is not None:
                pipe.close()

    def next_line(self, within_s: float = DEADLINE_S) -> Mapping[str, Any]:
        """Return the next line that the program writes.

        Raises `AssertionError` if the program ends without one, or writes nothing within the time.
        """
        assert self._child.stdout is not None
        until_s = time.monotonic() + within_s
        while b"\n" not in self._unread:
            ready, _, _ = select.select([self._child.stdout], [], [], max(0.0, until_s - time.monotonic()))
            piece = os.read(self._child.stdout.fileno(), 65536) if ready else b""
            if not piece:
                raise AssertionError(f"the program {'ended' if ready else 'hangs'}: {self._printed()}")
            self._unread += piece
        line, _, self._unread = self._unread.partition(b"\n")
        found: Mapping[str, Any] = json.loads(line)
        return found

    def await_point(self, point: str) -> Mapping[str, Any]:
        """Return the line of a point, or the line of the program's end if it never came there."""
        while True:
            line = self.next_line()
            if line.get("at") == point or "end" in line:
                return line

    def await_end(self) -> Mapping[str, Any]:
        """Return the line of the program's end."""
        while "end" not in (line := self.next_line()):
            pass
        return line

    def go_on(self) -> None:
        """Let the program leave the point at which it waits."""
        assert self._child.stdin is not None
        self._child.stdin.write(b"\n")
        self._child.stdin.flush()

    def stop(self) -> None:
        """Stop the program, as a machine that is suspended stops it."""
        self._child.send_signal(signal.SIGSTOP)
        self._is_stopped = True

    def resume(self) -> None:
        """Let a stopped program continue."""
        self._child.send_signal(signal.SIGCONT)
        self._is_stopped = False

    def kill(self) -> None:
        """Kill the program with SIGKILL, and wait until it is gone."""
        if self._child.poll() is None:
            self._child.kill()
        self._child.wait(DEADLINE_S)

    def _printed(self) -> str:
        with open(self._errors, encoding="utf-8", errors="replace") as errors:
            return errors.read()[-4000:]
