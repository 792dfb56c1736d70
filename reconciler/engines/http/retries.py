"""When a request is sent again, and the pause before the next attempt."""

from collections.abc import Callable, Mapping
from random import Random

from reconciler.engines.http.reply import Reply

ATTEMPTS = 4
BACKOFF_BASE_S = 0.5
BACKOFF_CAP_S = 8.0
RETRY_AFTER_CAP_S = 60.0
Wait = Callable[[float], bool]
"""A function that waits for a number of seconds. The function returns True at once if a stop is requested."""


def send_with_retries(
    send: Callable[[], Reply],
    may_repeat: Callable[[Reply], bool],
    *,
    wait: Wait,
    random: Random,
    wall_clock: Callable[[], float],
) -> Reply:
    """Send a request up to four times, as long as `may_repeat` allows another attempt, and return the last reply.

    The pause is the time in `Retry-After`, or the backoff. A time above `RETRY_AFTER_CAP_S` seconds ends the attempts,
    and so does a stop during the pause. `wall_clock` gives seconds since 1970.
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
    """Return the pause in seconds after an attempt, counted from 0.

    The pause doubles with each attempt, and half of each pause is random.
    """
    return min(BACKOFF_CAP_S, BACKOFF_BASE_S * 2.0**attempt) * random.uniform(0.5, 1.0)


def retry_after_s(headers: Mapping[str, str], now_s: float) -> float | None:
    """Return the seconds that the header `Retry-After` asks for, or None (RFC 9110, section 10.2.3).

    None stands for a missing or malformed header. A date is compared with the answer's own `Date`, so that a wrong
    clock on this machine does no harm. Without a `Date`, the date is compared with `now_s`, in seconds since 1970.
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
