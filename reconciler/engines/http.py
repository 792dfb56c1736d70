"""What every engine over HTTP shares: the reply as a value, when to ask again, how fast to ask.

The transport itself is `engines.transport`; this module imports nothing slow.
"""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Protocol

ATTEMPTS = 4
BACKOFF_BASE_S = 0.5
BACKOFF_CAP_S = 8.0
RETRY_AFTER_CAP_S = 60.0

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
    """Spaces the starts of requests evenly, over all threads that share it.

    `max_rps` is in requests a second; None sets no limit.
    """

    def __init__(self, max_rps: float | None, *, clock: Callable[[], float], wait: Wait) -> None:
        self._gap_s = 1.0 / max_rps if max_rps else 0.0
        self._clock = clock
        self._wait = wait
        self._lock = threading.Lock()
        self._next_s = clock()

    def stopped(self) -> bool:
        """Wait for the next free start; True where a stop was asked for while waiting."""
        if not self._gap_s:
            return False
        with self._lock:
            now_s = self._clock()
            start_s = max(now_s, self._next_s)
            self._next_s = start_s + self._gap_s
        return start_s > now_s and self._wait(start_s - now_s)
