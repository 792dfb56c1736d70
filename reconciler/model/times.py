"""Times of a service. The program compares them as instants, and shows and records them as the service wrote them.

A service may write one instant in several ways: `10:00:00Z` in a list, and `10:00:00.000Z` in a single read. So no part
of the program compares two such texts for equality. `compare` compares them.

A text that is no time of RFC 3339 has no order. Two equal texts of that kind are one instant. Two unequal texts of that
kind may be two instants. No abort and no run that depends on the comparison is sent then, and the texts are no evidence
that a job was run.
"""

from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple

_MOST_DIGITS = 1000
"""The number of digits of a fraction of a second. A text with more digits is no time."""

_DAY_S = 86_400


class TimeOrder(StrEnum):
    """The relation of a first time to a second time.

    SAME     both times are one instant
    CLOSE    both times may be one instant, because one of them has fewer digits
    LATER    the first time comes after the second time
    EARLIER  the first time comes before the second time
    UNLIKE   the texts differ, and at least one of them is no time
    UNKNOWN  at least one of the times is not known
    """

    SAME = "same"
    CLOSE = "close"
    LATER = "later"
    EARLIER = "earlier"
    UNLIKE = "unlike"
    UNKNOWN = "unknown"


OTHER = frozenset({TimeOrder.LATER, TimeOrder.EARLIER, TimeOrder.UNLIKE})
"""The relations in which two times are taken for two instants."""


class Instant(NamedTuple):
    """An instant with its full precision.

    `second` counts from the start of the year 1, UTC. A leap second has the number of the second before it, and
    `is_leap` is set. `fraction` holds the decimal digits after the point, as they were written.
    """

    second: int
    is_leap: bool
    fraction: str

    @property
    def exact(self) -> tuple[int, bool, str]:
        """The key that orders instants. The digits of a fraction compare as text without their trailing zeros."""
        return self.second, self.is_leap, self.fraction.rstrip("0")


def compare(first: str | None, second: str | None) -> TimeOrder:
    """The relation of the first time to the second time.

    None is a time that is not known. "" is the time of an event that has not happened, and comes before all times.
    """
    if first is None or second is None:
        return TimeOrder.UNKNOWN
    if first == second:
        return TimeOrder.SAME
    if not first or not second:
        return TimeOrder.LATER if first else TimeOrder.EARLIER
    left, right = instant(first), instant(second)
    if left is None or right is None:
        return TimeOrder.UNLIKE
    if left.exact == right.exact:
        return TimeOrder.SAME
    if _may_be_one(left, right):
        return TimeOrder.CLOSE
    return TimeOrder.LATER if left.exact > right.exact else TimeOrder.EARLIER


def is_other(first: str | None, second: str | None) -> bool:
    """Whether two times are two instants; False if a time is not known, or if both may be one instant."""
    return compare(first, second) in OTHER


@lru_cache(maxsize=4096)
def instant(text: str) -> Instant | None:
    """The instant of a time of RFC 3339; None if the text is no such time.

    As in the RFC, letters may be in lower case, a space may stand for the `T`, an offset may follow, and a leap second
    may stand at the end of a UTC day.
    """
    import re
    from datetime import date

    date_and_time = r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)"
    fraction, offset = rf"(?:\.(\d{{1,{_MOST_DIGITS}}}))?", r"([Zz]|([+-])(\d\d):?(\d\d))"
    found = re.fullmatch(date_and_time + fraction + offset, text, re.ASCII)
    if found is None:
        return None
    year, month, day, hour, minute, second = map(int, found.groups()[:6])
    ahead_h, ahead_min = (int(part or 0) for part in found.groups()[9:])
    is_leap = second == 60
    if hour > 23 or minute > 59 or second > 60 or ahead_h > 23 or ahead_min > 59:
        return None
    try:
        day_number = date(year, month, day).toordinal()
    except ValueError:
        return None
    ahead_s = (ahead_h * 60 + ahead_min) * (-60 if found[9] == "-" else 60)
    at_s = day_number * _DAY_S + hour * 3600 + minute * 60 + second - is_leap - ahead_s
    if is_leap and (at_s + 1) % _DAY_S:
        return None
    return Instant(at_s, is_leap, found[7] or "")


def seconds_since(time: str, now: str) -> int | None:
    """The whole seconds from a time to a later one, negative if it is earlier; None if a text is no time."""
    first, then = instant(time), instant(now)
    return None if first is None or then is None else then.second - first.second


def unix_s(text: str) -> float | None:
    """A time of RFC 3339 in whole seconds since 1970, UTC; None if the text is no such time."""
    passed_s = seconds_since("1970-01-01T00:00:00Z", text)
    return None if passed_s is None else float(passed_s)


def is_zero(text: str) -> bool:
    """Whether a time is the start of the year 1. Go programs write this time for a time that was never set."""
    found = instant(text) if text.startswith("0001-01-01") else None
    return found is not None and found.exact == (_DAY_S, False, "")


def _may_be_one(left: Instant, right: Instant) -> bool:
    """Whether one instant may be the other one, cut or rounded to fewer digits."""
    fewer, more = sorted((len(left.fraction), len(right.fraction)))
    if fewer == more or left.is_leap or right.is_leap:
        return False
    apart = abs(_scaled(left, more) - _scaled(right, more))
    return apart < int("1" + "0" * (more - fewer))


def _scaled(at: Instant, digits: int) -> int:
    """The instant as a whole number. Its unit is a second divided by 10 to the power of `digits`."""
    return int(f"{at.second}{at.fraction.ljust(digits, '0')}")
