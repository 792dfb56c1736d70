"""What every engine over HTTP shares: the reply as a value, when to ask again, how fast to ask.

The transport itself is `engines.transport`; this module imports nothing slow.
"""

import math
import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Protocol

ATTEMPTS = 4
BACKOFF_BASE_S = 0.5
BACKOFF_CAP_S = 8.0
RETRY_AFTER_CAP_S = 60.0
_MORE_RPS = 0.05
"""What an answer adds to a learned rate: five percent of it in a second."""

Wait = Callable[[float], bool]
"""Waits so many seconds; True, at once, where a stop is asked for."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back of one request.

    `sent` is False only where it is certain that no byte of the request left. `status` is None
    where no whole head was read. `headers` holds the few that are read, by lower-case name.
    `text` is the body as far as it was read, undecodable bytes replaced. `document` is the same
    as JSON, None where it is none. `fault` says what went wrong on the way, "" where the body was
    read to its end.
    """

    sent: bool
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    text: str = ""
    document: object = None
    fault: str = ""


class BaseTransport(Protocol):
    """Whatever carries requests to a service: `engines.transport` over the network, or one in memory."""

    def exchange(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None) -> Reply:
        """Send one request once, and read what comes back. Never raises for what the network does."""

    def close(self) -> None:
        """Drop the connections."""


def send_with_retries(
    send: Callable[[], Reply],
    may_repeat: Callable[[Reply], bool],
    *,
    wait: Wait,
    random: Random,
    wall_clock: Callable[[], float],
) -> Reply:
    """Send up to four times, while the reply allows it, and return the last reply.

    A `Retry-After` is kept to; one beyond the cap is not waited for, and neither is a stop.
    """
    for attempt in range(ATTEMPTS - 1):
        reply = send()
        if not may_repeat(reply):
            return reply
        told_s = retry_after_s(reply.headers, wall_clock())
        if told_s is not None and told_s > RETRY_AFTER_CAP_S:
            return reply
        if wait(backoff_s(attempt, random) if told_s is None else told_s):
            return reply
    return send()


def backoff_s(attempt: int, random: Random) -> float:
    """The pause after an attempt (counted from 0): it doubles, and half of it is left to chance."""
    return min(BACKOFF_CAP_S, BACKOFF_BASE_S * 2.0**attempt) * random.uniform(0.5, 1.0)


def retry_after_s(headers: Mapping[str, str], now_s: float) -> float | None:
    """The seconds that `Retry-After` asks for (RFC 9110, 10.2.3), None where it is missing or rubbish.

    A date is counted from the answer's own `Date`, so that a wrong clock here does no harm, and
    from `now_s` (seconds since the epoch) where there is none.
    """
    told = headers.get("retry-after", "").strip()
    if told.isascii() and told.isdigit():
        return float(told)
    until_s = _http_date_s(told)
    if until_s is None:
        return None
    since_s = _http_date_s(headers.get("date", ""))
    return max(0.0, until_s - (now_s if since_s is None else since_s))


def _http_date_s(text: str) -> float | None:
    from email.utils import parsedate_to_datetime

    try:
        return parsedate_to_datetime(text).timestamp()
    except (ValueError, OverflowError):
        return None


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
