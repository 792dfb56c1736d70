"""Times as services write them: what is one instant, what is later, and what nobody can tell."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.model.times import TimeOrder, compare, instant, is_other, is_zero

TEN = "2026-11-21T10:00:00Z"


@pytest.mark.parametrize(
    "same",
    [
        TEN,
        "2026-11-21T10:00:00.000Z",
        "2026-11-21T10:00:00.0000000000000Z",
        "2026-11-21t10:00:00z",
        "2026-11-21 10:00:00Z",
        "2026-11-21T10:00:00+00:00",
        "2026-11-21T10:00:00-00:00",
        "2026-11-21T10:00:00+0000",
        "2026-11-21T11:30:00.00+01:30",
        "2026-11-20T23:00:00-11:00",
    ],
)
def test_one_instant_has_many_texts(same: str) -> None:
    assert compare(same, TEN) is TimeOrder.SAME
    assert compare(TEN, same) is TimeOrder.SAME
    assert not is_other(same, TEN)


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        (TEN, "2026-11-21T10:00:01Z"),
        ("2026-11-21T11:59:59+02:00", TEN),
        ("2026-11-21T10:00:00.123456788Z", "2026-11-21T10:00:00.123456789Z"),
        ("2026-11-21T10:00:00.9Z", "2026-11-21T10:00:01.1Z"),
        ("2016-12-31T23:59:59Z", "2016-12-31T23:59:60Z"),
        ("2016-12-31T23:59:59.999Z", "2016-12-31T23:59:60Z"),
        ("2016-12-31T23:59:60Z", "2016-12-31T23:59:60.5Z"),
        ("2017-01-01T08:59:60+09:00", "2017-01-01T00:00:00Z"),
        ("0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"),
        ("", "0001-01-01T00:00:00Z"),
        ("", "words"),
    ],
)
def test_later_is_later_whatever_the_digits_and_offsets(earlier: str, later: str) -> None:
    assert compare(later, earlier) is TimeOrder.LATER
    assert compare(earlier, later) is TimeOrder.EARLIER
    assert is_other(earlier, later)


@pytest.mark.parametrize(
    ("fewer", "more"),
    [
        (TEN, "2026-11-21T10:00:00.123Z"),
        ("2026-11-21T10:00:01Z", "2026-11-21T10:00:00.9996Z"),
        ("2026-11-21T10:00:00.123Z", "2026-11-21T11:00:00.123456+01:00"),
        ("2026-11-21T10:00:00.123456Z", "2026-11-21T10:00:00.123456789Z"),
    ],
)
def test_a_text_with_fewer_digits_may_be_the_other_one_cut_or_rounded(fewer: str, more: str) -> None:
    assert compare(fewer, more) is compare(more, fewer) is TimeOrder.CLOSE
    assert not is_other(fewer, more)


@pytest.mark.parametrize(
    "words",
    [
        "yesterday",
        "run 7",
        "2026-11-21",
        "2026-11-21T10:00:00",
        "2026-13-21T10:00:00Z",
        "2026-02-30T10:00:00Z",
        "2026-11-21T24:00:00Z",
        "2026-11-21T10:60:00Z",
        "2026-11-21T10:00:61Z",
        "2026-11-21T10:00:60Z",
        "2026-11-21T10:00:00+24:00",
        "2026-11-21T10:00:00+05:99",
        "2026-11-21T10:00:00.Z",
        "2026-11-21T10:00:00,5Z",
        "２０26-11-21T10:00:00Z",
        "2026-11-21T10:00:00Z\n",
        f"2026-11-21T10:00:00.{'1' * 5000}Z",
        "0000-01-01T00:00:00Z",
    ],
)
def test_words_that_are_no_time_have_no_order(words: str) -> None:
    assert instant(words) is None
    assert compare(words, words) is TimeOrder.SAME
    assert compare(words, TEN) is compare(TEN, words) is TimeOrder.UNLIKE
    assert is_other(words, TEN)


def test_what_is_not_told_stands_to_nothing() -> None:
    assert compare(None, TEN) is compare(TEN, None) is compare(None, None) is compare(None, "") is TimeOrder.UNKNOWN
    assert not is_other(None, TEN)


def test_never_is_never() -> None:
    assert compare("", "") is TimeOrder.SAME


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00Z", "0001-01-01T00:00:00.000Z", "0001-01-01T00:00:00+00:00"])
def test_the_zero_time_of_go_was_never_set(text: str) -> None:
    assert is_zero(text)
    assert not is_zero(TEN)
    assert not is_zero("0001-01-01T00:00:01Z")
    assert not is_zero("")


ANY_TIME = st.datetimes(datetime(2, 1, 1), datetime(9998, 12, 31), timezones=st.just(UTC))  # noqa: DTZ001
OFFSET = st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes)))


@settings(deadline=None)
@given(ANY_TIME, ANY_TIME, OFFSET, OFFSET)
def test_times_are_ordered_as_the_calendar_has_them(
    left: datetime, right: datetime, east: timezone, west: timezone
) -> None:
    texts = [at.astimezone(zone).isoformat(timespec="microseconds") for at, zone in ((left, east), (right, west))]
    expected = TimeOrder.SAME if left == right else TimeOrder.LATER if left > right else TimeOrder.EARLIER
    assert compare(*texts) is expected


@settings(deadline=None)
@given(st.text(max_size=40), st.text(max_size=40))
def test_any_two_texts_are_compared_both_ways_alike(left: str, right: str) -> None:
    mirrored = {TimeOrder.LATER: TimeOrder.EARLIER, TimeOrder.EARLIER: TimeOrder.LATER}
    order = compare(left, right)
    assert compare(right, left) is mirrored.get(order, order)
