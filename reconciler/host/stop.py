"""A flag that a signal handler sets, and that threads wait for."""

import threading
import time
from typing import Protocol

_SLICE_S = 0.2
"""The longest single wait. A signal may set the flag after a thread has read it and before the thread sleeps."""


class Flag(Protocol):
    """The interface that a `Stop` and a `threading.Event` share."""

    def is_set(self) -> bool:
        """Whether `set` was called."""

    def set(self) -> None:
        """Set the flag."""

    def wait(self, timeout: float | None = None, /) -> bool:
        """Wait until the flag is set, for `timeout` seconds at most. Returns whether the flag is set."""


class Stop:
    """A flag that says that nothing new may start. Any thread may call its methods, and a signal handler may call
    `set`.

    A signal handler may not call the `set` of a `threading.Event`. The signal may interrupt `Event.wait` in the same
    thread, which then holds the lock of the event. The handler would wait for that lock for ever.
    """

    def __init__(self) -> None:
        self._is_set = False
        self._condition = threading.Condition(threading.RLock())

    def is_set(self) -> bool:
        """Whether `set` was called."""
        return self._is_set

    def set(self) -> None:
        """Set the flag, which is never cleared, and wake every thread that waits for it."""
        self._is_set = True
        with self._condition:
            self._condition.notify_all()

    def wait(self, timeout_s: float | None = None, /) -> bool:
        """Wait until the flag is set, for `timeout_s` at most. Returns whether the flag is set."""
        until_s = None if timeout_s is None else time.monotonic() + timeout_s
        while not self._is_set:
            left_s = _SLICE_S if until_s is None else until_s - time.monotonic()
            if left_s <= 0:
                break
            with self._condition:
                if not self._is_set:
                    self._condition.wait(min(left_s, _SLICE_S))
        return self._is_set
