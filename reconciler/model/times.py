"""Times as a service writes them: compared as times, shown and recorded as they came.

A service may write one instant in several ways, such as `10:00:00Z` in a list and `10:00:00.000Z` in a
single read. Two texts for one instant say nothing about a job, so nothing in the program compares such
texts for equality; everything asks `compare`.

A text that is no time by RFC 3339 has no order. Two equal texts of that kind are one moment. Two unequal
ones may be two moments, so an abort or a run that depends on the answer is not sent, but neither of them
is evidence that a job was run.
"""

from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple

_MOST_DIGITS = 1000
"""A fraction of a second with more digits than this is read as a text without a meaning."""

_DAY_S = 86_400


class TimeOrder(StrEnum):
    """How one time stands to another.

    SAME     both name one instant
    CLOSE    one may be the other, written with fewer digits: nobody can tell
    LATER    it comes after the other
    EARLIER  it comes before the other
    UNLIKE   the texts differ, and at least one of them is no time
    UNKNOWN   at least one of them is not known
    """

    SAME = "same"
    CLOSE = "close"
    LATER = "later"
    EARLIER = "earlier"
    UNLIKE = "unlike"
    UNKNOWN = "unknown"


OTHER = frozenset({TimeOrder.LATER, TimeOrder.EARLIER, TimeOrder.UNLIKE})
"""What speaks for two different instants."""


class Instant(NamedTuple):
    """A moment, exact however many digits it was written with.

    `second` counts from the year 1, UTC. A leap second shares the number of the second before it, and has
    `is_leap`. `fraction` holds the decimal digits after the point as they were written.
    """

    second: int
    is_leap: bool
    fraction: str

    @property
    def exact(self) -> tuple[int, bool, str]:
        """What two instants are ordered by: digits of a fraction compare as text once their last zeros are gone."""
        return self.second, self.is_leap, self.fraction.rstrip("0")


def compare(told: str | None, known: str | None) -> TimeOrder:
    """How the first time stands to the second.

    None is a time that is not known. "" is the time of something that never happened: it comes before all
    others.
    """
    if told is None or known is None:
        return TimeOrder.UNKNOWN
    if told == known:
        return TimeOrder.SAME
    if not told or not known:
        return TimeOrder.LATER if told else TimeOrder.EARLIER
    left, right = instant(told), instant(known)
    if left is None or right is None:
        return TimeOrder.UNLIKE
    if left.exact == right.exact:
        return TimeOrder.SAME
    if _may_be_one(left, right):
        return TimeOrder.CLOSE
    return TimeOrder.LATER if left.exact > right.exact else TimeOrder.EARLIER


def is_other(told: str | None, known: str | None) -> bool:
    """Whether two times are not one; False where either is not known or they may be one."""
    return compare(told, known) in OTHER


@lru_cache(maxsize=4096)
def instant(text: str) -> Instant | None:
    """The moment that a text names by RFC 3339; None where it names none.

    Lower case letters, a space in place of the `T`, any offset, and a leap second at the end of a UTC day
    are read as the RFC has them.
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


def is_zero(text: str) -> bool:
    """Whether this is the first moment of the year 1, which Go programs write for a time that was never set."""
    found = instant(text) if text.startswith("0001-01-01") else None
    return found is not None and found.exact == (_DAY_S, False, "")


def _may_be_one(left: Instant, right: Instant) -> bool:
    """Whether one may be the other, cut or rounded to fewer digits."""
    fewer, more = sorted((len(left.fraction), len(right.fraction)))
    if fewer == more or left.is_leap or right.is_leap:
        return False
    apart = abs(_scaled(left, more) - _scaled(right, more))
    return apart < int("1" + "0" * (more - fewer))


def _scaled(at: Instant, digits: int) -> int:
    """The moment as a whole number of the parts that so many digits divide a second into."""
    return int(f"{at.second}{at.fraction.ljust(digits, '0')}")
