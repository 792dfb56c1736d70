"""Pauses, retries and the rate of requests."""

import threading
from random import Random

import pytest

from raw_server import Pauses
from reconciler.engines.http import RateLimiter, Reply, backoff_s, retry_after_s, send_with_retries

NOW_S = 1_792_000_000.0  # Wed, 14 Oct 2026 17:46:40 GMT


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": " 0 "}, 0.0),
        ({"retry-after": "9" * 5000}, float("inf")),
        ({"retry-after": "Wed, 14 Oct 2026 17:47:10 GMT"}, 30.0),
        ({"retry-after": "Wed, 14 Oct 2026 17:46:10 GMT"}, 0.0),
        ({"retry-after": "Tue, 01 Jan 2030 00:00:09 GMT", "date": "Tue, 01 Jan 2030 00:00:00 GMT"}, 9.0),
        ({"retry-after": "Wed, 14 Oct 2026 17:47:10 GMT", "date": "rubbish"}, 30.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "1.5"}, None),
        ({"retry-after": "٣"}, None),
        ({"retry-after": "Wed, 99 Oct 9999999 00:00:00 GMT"}, None),
        ({"retry-after": ""}, None),
        ({}, None),
    ],
)
def test_a_pause_is_read_as_seconds_or_as_a_date(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after_s(headers, NOW_S) == pytest.approx(seconds)


def test_a_backoff_doubles_up_to_its_cap_and_half_of_it_is_chance() -> None:
    for attempt, full in enumerate([0.5, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0]):
        pauses = [backoff_s(attempt, Random(seed)) for seed in range(50)]
        assert full / 2 <= min(pauses) < max(pauses) <= full


def _retried(replies: list[Reply], *, stop: bool = False) -> tuple[Reply, list[float], int]:
    left = iter(replies)
    pauses = Pauses(stop=stop)
    sent = 0

    def send() -> Reply:
        nonlocal sent
        sent += 1
        return next(left)

    reply = send_with_retries(
        send, lambda reply: reply.status == 429, wait=pauses, random=Random(1), wall_clock=lambda: NOW_S
    )
    return reply, pauses, sent


def test_the_fourth_reply_is_the_last() -> None:
    slow_down = Reply(sent=True, status=429)
    reply, pauses, sent = _retried([slow_down] * 9)
    assert (reply, len(pauses), sent) == (slow_down, 3, 4)


def test_a_reply_that_forbids_it_is_not_followed_by_another_request() -> None:
    assert _retried([Reply(sent=True, status=500)])[1:] == ([], 1)


def test_a_pause_that_is_told_is_kept_to() -> None:
    reply, pauses, _ = _retried(
        [Reply(sent=True, status=429, headers={"retry-after": "60"}), Reply(sent=True, status=200)]
    )
    assert (reply.status, pauses) == (200, [60.0])


def test_a_pause_beyond_the_cap_is_not_waited_for() -> None:
    assert _retried([Reply(sent=True, status=429, headers={"retry-after": "61"})])[1:] == ([], 1)


def test_a_stop_ends_the_retries_with_the_last_reply() -> None:
    reply, pauses, sent = _retried([Reply(sent=True, status=429)] * 2, stop=True)
    assert (reply.status, len(pauses), sent) == (429, 1, 1)


def test_requests_of_many_threads_start_evenly_spaced() -> None:
    waits = Pauses()
    limiter = RateLimiter(4, clock=lambda: 100.0, wait=waits)
    threads = [threading.Thread(target=limiter.stopped) for _ in range(9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(waits) == [0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0]


def test_time_that_went_by_unused_is_not_saved_up_for_a_burst() -> None:
    now_s = 0.0
    waits = Pauses()
    limiter = RateLimiter(2, clock=lambda: now_s, wait=waits)
    limiter.stopped()
    now_s = 10.0
    limiter.stopped()
    limiter.stopped()
    assert waits == [0.5]


def test_without_a_limit_nothing_waits() -> None:
    def wait(_seconds: float) -> bool:
        raise AssertionError

    limiter = RateLimiter(None, clock=lambda: 0.0, wait=wait)
    assert not any(limiter.stopped() for _ in range(100))


def test_a_stop_while_waiting_for_a_start_is_told() -> None:
    limiter = RateLimiter(1, clock=lambda: 0.0, wait=lambda _: True)
    assert [limiter.stopped(), limiter.stopped()] == [False, True]
