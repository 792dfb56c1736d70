"""Notes in the comments of jobs that the jobs were released.

A person may hold a job that waits. Without the note, the job would look as if it had never been released. If a note
fails, nothing else does, so that no call waits for one.
"""

import threading
from collections.abc import Sequence

from reconciler.engines.port import EngineError
from reconciler.engines.slurm.commands import Commands

_MOST_AT_ONCE = 50

_EVERY_S = 0.1
"""How long comments are gathered, so that one command writes those of many jobs."""


class Notes:
    """Writes comments while the calls go on. Several threads may add one at the same time."""

    def __init__(self, commands: Commands) -> None:
        self._commands = commands
        self._lock = threading.Lock()
        self._left: dict[str, str] = {}
        self._writer: threading.Thread | None = None
        self._is_closing = threading.Event()

    def add(self, number: str, comment: str) -> None:
        """Have the comment of a job replaced soon."""
        with self._lock:
            self._left[number] = comment
            if self._writer is None:
                self._writer = threading.Thread(target=self._write_all, daemon=True)
                self._writer.start()

    def close(self) -> None:
        """Wait until all comments are written that were added."""
        self._is_closing.set()
        with self._lock:
            writer = self._writer
        if writer:
            writer.join()

    def _write_all(self) -> None:
        while comments := self._gathered():
            try:
                self._commands.run(["scontrol"], "".join(f"update JobId={n} Comment={text}\n" for n, text in comments))
            except EngineError:
                continue

    def _gathered(self) -> Sequence[tuple[str, str]]:
        """Wait a moment, and take the comments that come next. The thread ends once there are none."""
        self._is_closing.wait(_EVERY_S)
        with self._lock:
            taken = list(self._left.items())[:_MOST_AT_ONCE]
            for number, _ in taken:
                del self._left[number]
            if not taken:
                self._writer = None
            return taken
