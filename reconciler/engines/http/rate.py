"""The rate of requests to a service, and the number of requests at the same time."""

import math
import threading
from collections import deque
from collections.abc import Callable

from reconciler.engines.http.reply import Reply
from reconciler.engines.http.retries import Wait

_MORE_RPS = 0.05
"""The requests a second that each accepted request adds to a learned rate: five percent of the rate within a second."""


class Slots:
    """The slots for requests at the same time.

    A request that found no room for another connection on this machine loses its slot. The remaining requests then
    share the connections that are open.
    """

    def __init__(self, count: int) -> None:
        self._count = max(1, count)
        self._free = threading.Semaphore(self._count)
        self._lock = threading.Lock()

    def take(self) -> None:
        """Wait for a free slot, and take the slot."""
        self._free.acquire()

    def give_back(self, *, is_exhausted: bool = False) -> bool:
        """Free a slot, and return False.

        If the machine is exhausted, drop the slot and return True; the last slot is never dropped.

        A request whose slot was dropped is worth another attempt with another slot.
        """
        with self._lock:
            drops = is_exhausted and self._count > 1
            self._count -= drops
        if not drops:
            self._free.release()
        return drops


class RateLimiter:
    """Spaces the starts of requests evenly over all threads, and learns the rate that the service accepts.

    `max_rps` is in requests a second; None sets no limit. An answer 429 or 503 lowers the rate to three quarters of the
    requests that the service accepted in the last second. The answer counts only if its request started after the last
    lowering. Each accepted request then raises the rate a little (additive increase and multiplicative decrease, as in
    RFC 5681).
    """

    def __init__(self, max_rps: float | None, *, clock: Callable[[], float], wait: Wait) -> None:
        self._max_rps = max_rps or math.inf
        self._rps = self._max_rps
        self._clock = clock
        self._wait = wait
        self._lock = threading.Lock()
        self._next_s = clock()
        self._slowed_s = -math.inf
        self._taken_s: deque[float] = deque()
        """The times of the last second at which the service accepted a request."""

    def started_s(self) -> float | None:
        """Wait for the next free start, and return its time in seconds of the clock.

        Return None if a stop is requested during the wait.
        """
        with self._lock:
            now_s = self._clock()
            start_s = max(now_s, self._next_s)
            if self._rps != math.inf:
                self._next_s = start_s + 1.0 / self._rps
        return None if start_s > now_s and self._wait(start_s - now_s) else start_s

    def note(self, reply: Reply, started_s: float) -> None:
        """Learn from the reply to the request that started at `started_s`."""
        if reply.status is None:
            return
        with self._lock:
            now_s = self._clock()
            while self._taken_s and self._taken_s[0] <= now_s - 1.0:
                self._taken_s.popleft()
            if reply.status not in (429, 503):
                self._taken_s.append(now_s)
                self._rps = min(self._max_rps, self._rps + _MORE_RPS)
            elif self._taken_s and started_s > self._slowed_s:
                # Without an accepted request no rate is known, and the pause before the retry is enough.
                self._slowed_s = now_s
                self._rps = min(self._max_rps, 0.75 * len(self._taken_s))
                self._next_s = max(self._next_s, now_s + 1.0 / self._rps)
