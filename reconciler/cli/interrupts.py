"""What Ctrl-C and SIGTERM do to an apply."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from reconciler.cli.shell import Shell
from reconciler.errors import ExitCode

if TYPE_CHECKING:
    from types import FrameType


class Interrupts:
    """The first Ctrl-C or SIGTERM starts nothing new and lets what is in flight end; the second leaves at once."""

    def __init__(self, shell: Shell) -> None:
        self._shell = shell
        self._before: dict[signal.Signals, Any] = {}
        self.exit_code: ExitCode | None = None

    def __enter__(self) -> "Interrupts":
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._received)
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextmanager
    def suspended(self) -> Iterator[None]:
        """While a person is asked, Ctrl-C ends the command."""
        with_handler = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, with_handler)

    def _received(self, number: int, frame: "FrameType | None") -> None:
        code = ExitCode.INTERRUPTED if number == signal.SIGINT else ExitCode.TERMINATED
        if self.exit_code is not None:
            os._exit(int(code))
        self.exit_code = code
        self._shell.world.stop.set()
        self._shell.terminal.urgent(
            "Stopping: nothing new starts, what is in flight is put on record. Again to leave at once."
        )
