"""What Ctrl-C, SIGTERM and the end of the terminal (SIGHUP) do to an apply."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

from reconciler.cli.shell import Shell
from reconciler.errors import ExitCode

if TYPE_CHECKING:
    from types import FrameType

_CODES = {
    signal.SIGINT: ExitCode.INTERRUPTED,
    signal.SIGTERM: ExitCode.TERMINATED,
    signal.SIGHUP: ExitCode.TERMINATED,
}
"""A terminal that went away asks for the same as SIGTERM does, and ends with the same exit code."""


class Interrupts:
    """The first signal starts nothing new and lets what is in flight end; the second one leaves at once.

    A signal that whoever started the command had it ignore (`nohup`, a job in the background) stays ignored.
    """

    def __init__(self, shell: Shell) -> None:
        self._shell = shell
        self._before: dict[signal.Signals, Any] = {}
        self._is_asking = False
        self.exit_code: ExitCode | None = None

    def __enter__(self) -> "Interrupts":
        for number in heeded(*_CODES):
            self._before[number] = signal.signal(number, self._received)
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextmanager
    def asking(self) -> Iterator[None]:
        """While a person is asked, a signal ends the command: nothing is in flight, and the lock is given back."""
        self._is_asking = True
        try:
            if self.exit_code is not None:  # it came before the question
                self._leave(self.exit_code)
            yield
        finally:
            self._is_asking = False

    def _received(self, number: int, frame: "FrameType | None") -> None:
        code = _CODES[signal.Signals(number)]
        if self.exit_code is not None:
            os._exit(int(code))
        self.exit_code = code
        if self._is_asking:
            self._leave(code)
        self._shell.world.stop.set()
        self._shell.terminal.urgent(
            "Stopping: no new call starts, and each call under way is recorded once it is answered. "
            "Repeat to leave at once."
        )

    def _leave(self, code: ExitCode) -> NoReturn:
        self._shell.terminal.urgent("\nStopped at the question: not carried out.")
        raise SystemExit(int(code))


def heeded(*numbers: signal.Signals) -> list[signal.Signals]:
    """Those signals that whoever started this program did not have it ignore."""
    return [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]
