"""When a request is sent again, and how long the pause before it is."""

from collections.abc import Callable, Mapping
from random import Random

from reconciler.engines.http.reply import Reply

ATTEMPTS = 4
BACKOFF_BASE_S = 0.5
BACKOFF_CAP_S = 8.0
RETRY_AFTER_CAP_S = 60.0
Wait = Callable[[float], bool]
"""Waits so many seconds; True, at once, where a stop is asked for."""


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
        asked_s = retry_after_s(reply.headers, wall_clock())
        if asked_s is not None and asked_s > RETRY_AFTER_CAP_S:
            return reply
        if wait(backoff_s(attempt, random) if asked_s is None else asked_s):
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
    header = headers.get("retry-after", "").strip()
    if header.isascii() and header.isdigit():
        return float(header)
    until_s = _http_date_s(header)
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
