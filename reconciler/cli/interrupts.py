"""Signals that end an apply: SIGINT (Ctrl-C), SIGTERM, and SIGHUP (the terminal is gone)."""

import os
import signal
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, NoReturn

from reconciler.cli.shell import Shell
from reconciler.model.commands import settling, with_place
from reconciler.model.errors import ExitCode

if TYPE_CHECKING:
    from types import FrameType

_CODES = {
    signal.SIGINT: ExitCode.INTERRUPTED,
    signal.SIGTERM: ExitCode.TERMINATED,
    signal.SIGHUP: ExitCode.TERMINATED,
}
"""The exit code for each signal. SIGHUP has the same meaning as SIGTERM."""
_MOST_NAMES = 20


class Interrupts:
    """Handles the signals that end an apply, as a context manager.

    After the first signal no new call starts, and the calls under way are recorded. The second signal ends the process
    at once, and names the jobs whose calls are in doubt. A signal that the process was started to ignore (`nohup`, a
    job in the background) stays ignored.

    `exit_code` is the exit code for the first signal, or None.
    """

    def __init__(self, shell: Shell) -> None:
        self._shell = shell
        self._before: dict[signal.Signals, Any] = {}
        self._is_asking = False
        self._is_leaving = False
        self._in_flight: Callable[[], Collection[str]] = tuple
        self.exit_code: ExitCode | None = None

    def __enter__(self) -> "Interrupts":
        for number in heeded(*_CODES):
            self._before[number] = signal.signal(number, self._received)
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def watch(self, in_flight: Callable[[], Collection[str]]) -> None:
        """Name the jobs with a call under way, which `in_flight` returns, if a second signal ends the process."""
        self._in_flight = in_flight

    @contextmanager
    def asking(self) -> Iterator[None]:
        """A context in which a signal ends the command at once, since no call is under way while the user is asked."""
        self._is_asking = True
        try:
            if self.exit_code is not None:  # the signal came before the question
                self._leave(self.exit_code)
            yield
        finally:
            self._is_asking = False

    def _received(self, number: int, frame: "FrameType | None") -> None:
        code = _CODES[signal.Signals(number)]
        if self.exit_code is not None:
            self._leave_at_once(code)
        self.exit_code = code
        if self._is_asking:
            self._leave(code)
        self._shell.world.stop.set()
        self._shell.terminal.urgent(
            "Stopping: no new call starts, and each call under way is recorded once it is answered. "
            "Repeat to leave at once."
        )

    def _leave_at_once(self, code: ExitCode) -> NoReturn:
        if not self._is_leaving:  # a third signal may come while this one writes
            self._is_leaving = True
            with suppress(Exception):
                if words := _in_doubt(sorted(self._in_flight())):
                    self._shell.terminal.urgent(with_place(words, self._shell.terminal.given))
        os._exit(int(code))

    def _leave(self, code: ExitCode) -> NoReturn:
        self._shell.terminal.urgent("\nStopped at the question: not carried out.")
        raise SystemExit(int(code))


def _in_doubt(names: Sequence[str]) -> str:
    """What to do about the calls of these jobs, which nobody waits for any more; "" if there are none."""
    if not names:
        return ""
    shown = ", ".join(names[:_MOST_NAMES]) + (f" and {len(names) - _MOST_NAMES} more" if names[_MOST_NAMES:] else "")
    what, each = ("Call", "it") if len(names) == 1 else ("Calls", "each of them")
    return (
        f"Stopped at once. {what} in doubt: {shown}. The next apply checks {each}; or settle it: {settling(names[0])}"
    )


def heeded(*numbers: signal.Signals) -> list[signal.Signals]:
    """The signals among `numbers` that this process was not started to ignore."""
    return [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]
