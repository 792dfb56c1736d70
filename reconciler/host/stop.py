"""A flag that a signal handler sets, and that threads wait for."""

import threading
import time
from typing import Protocol

_SLICE_S = 0.2
"""No wait is longer in one piece: a signal may arrive after a thread looked at the flag, and before it sleeps."""


class Flag(Protocol):
    """What a `Stop` and a `threading.Event` have in common."""

    def is_set(self) -> bool:
        """Whether `set` was called."""

    def set(self) -> None:
        """Set the flag."""

    def wait(self, timeout: float | None = None, /) -> bool:
        """Wait for the flag, for so many seconds at most; returns whether it is set."""


class Stop:
    """Whether nothing new may start. Every method may be called from any thread, `set` from a signal handler too.

    The `set` of a `threading.Event` may not: a signal that arrives within `Event.wait` runs its handler while the same
    thread holds the lock of the event, and the handler would wait for that lock for ever.
    """

    def __init__(self) -> None:
        self._is_set = False
        self._condition = threading.Condition(threading.RLock())

    def is_set(self) -> bool:
        """Whether `set` was called."""
        return self._is_set

    def set(self) -> None:
        """Set the flag, for good, and wake whoever waits for it."""
        self._is_set = True
        with self._condition:
            self._condition.notify_all()

    def wait(self, timeout_s: float | None = None, /) -> bool:
        """Wait until the flag is set, for `timeout_s` at most; returns whether it is."""
        until_s = None if timeout_s is None else time.monotonic() + timeout_s
        while not self._is_set:
            left_s = _SLICE_S if until_s is None else until_s - time.monotonic()
            if left_s <= 0:
                break
            with self._condition:
                if not self._is_set:
                    self._condition.wait(min(left_s, _SLICE_S))
        return self._is_set
