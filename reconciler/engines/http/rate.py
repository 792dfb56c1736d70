"""How fast a service is asked, and how many requests are under way at once."""

import math
import threading
from collections import deque
from collections.abc import Callable

from reconciler.engines.http.reply import Reply
from reconciler.engines.http.retries import Wait

_MORE_RPS = 0.05
"""What an answer adds to a learned rate: five percent of it in a second."""


class Slots:
    """How many requests are under way at once.

    There is one slot fewer for each request that found no room for another connection on this machine: the
    requests that are left then share the connections that there are.
    """

    def __init__(self, count: int) -> None:
        self._count = max(1, count)
        self._free = threading.Semaphore(self._count)
        self._lock = threading.Lock()

    def take(self) -> None:
        """Wait for a free slot."""
        self._free.acquire()

    def give_back(self, *, is_exhausted: bool = False) -> bool:
        """Free a slot; where the machine is exhausted, drop the slot instead. The last slot is never dropped.

        Returns whether the slot was dropped: the request is then worth another try, in its turn.
        """
        with self._lock:
            drops = is_exhausted and self._count > 1
            self._count -= drops
        if not drops:
            self._free.release()
        return drops


class RateLimiter:
    """Spaces the starts of requests evenly, over all threads that share it, and finds the service's own rate.

    `max_rps` is in requests a second; None sets no limit. A 429 or 503 to a request that started since
    the last slowing down slows all down, to three quarters of what the service took in the last
    second; each answer that it takes then adds a little (additive increase, multiplicative decrease,
    as in RFC 5681).
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
        """When the service took a request, over the last second."""

    def started_s(self) -> float | None:
        """Wait for the next free start, and return its time; None where a stop was asked for while waiting."""
        with self._lock:
            now_s = self._clock()
            start_s = max(now_s, self._next_s)
            if self._rps != math.inf:
                self._next_s = start_s + 1.0 / self._rps
        return None if start_s > now_s and self._wait(start_s - now_s) else start_s

    def note(self, reply: Reply, started_s: float) -> None:
        """Learn from the reply to a request that started then."""
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
                # Where nothing was taken there is no rate to tell; the pause before a retry is enough then.
                self._slowed_s = now_s
                self._rps = min(self._max_rps, 0.75 * len(self._taken_s))
                self._next_s = max(self._next_s, now_s + 1.0 / self._rps)
