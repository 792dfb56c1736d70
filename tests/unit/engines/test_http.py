"""Pauses, retries and the rate of requests."""

import threading
from random import Random

import pytest

from raw_server import Pauses
from reconciler.engines.http.rate import RateLimiter
from reconciler.engines.http.reply import Reply
from reconciler.engines.http.retries import backoff_s, retry_after_s, send_with_retries

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


class Clock:
    """A clock that only a wait puts forward."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s

    def wait(self, seconds: float) -> bool:
        self.now_s += seconds
        return False


def test_requests_of_many_threads_start_evenly_spaced() -> None:
    waits = Pauses()
    limiter = RateLimiter(4, clock=lambda: 100.0, wait=waits)
    threads = [threading.Thread(target=limiter.started_s) for _ in range(9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(waits) == [0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0]


def test_time_that_went_by_unused_is_not_saved_up_for_a_burst() -> None:
    now_s = 0.0
    waits = Pauses()
    limiter = RateLimiter(2, clock=lambda: now_s, wait=waits)
    limiter.started_s()
    now_s = 10.0
    limiter.started_s()
    limiter.started_s()
    assert waits == [0.5]


def test_without_a_limit_nothing_waits() -> None:
    def wait(_seconds: float) -> bool:
        raise AssertionError

    limiter = RateLimiter(None, clock=lambda: 0.0, wait=wait)
    assert [limiter.started_s() for _ in range(100)] == [0.0] * 100


def test_a_stop_while_waiting_for_a_start_is_told() -> None:
    limiter = RateLimiter(1, clock=lambda: 0.0, wait=lambda _: True)
    assert [limiter.started_s(), limiter.started_s()] == [0.0, None]


def _limiter(clock: Clock, max_rps: float | None = None) -> RateLimiter:
    return RateLimiter(max_rps, clock=clock, wait=clock.wait)


def _answered(status: int) -> Reply:
    return Reply(sent=True, status=status)


@pytest.mark.parametrize("status", [429, 503])
def test_a_service_that_is_overrun_is_asked_at_three_quarters_of_what_it_took(status: int) -> None:
    clock = Clock()
    limiter = _limiter(clock)
    for _ in range(20):
        limiter.note(_answered(200), 0.0)
    limiter.note(_answered(status), 0.0)
    starts = [limiter.started_s() for _ in range(4)]
    assert starts == pytest.approx([1 / 15, 2 / 15, 3 / 15, 4 / 15])


def test_rejections_of_requests_that_were_under_way_already_slow_down_once() -> None:
    clock = Clock()
    limiter = _limiter(clock)
    for _ in range(20):
        limiter.note(_answered(200), 0.0)
    clock.now_s = 0.5
    for _ in range(40):
        limiter.note(_answered(429), 0.1)
    assert limiter.started_s() == pytest.approx(0.5 + 1 / 15)


def test_a_service_that_takes_all_again_is_asked_more_and_more_but_never_more_than_was_allowed() -> None:
    clock = Clock()
    limiter = _limiter(clock, max_rps=12.0)
    for _ in range(8):
        limiter.note(_answered(200), 0.0)
    limiter.note(_answered(429), 0.0)
    gaps = []
    for _ in range(200):
        before_s, start_s = clock.now_s, limiter.started_s()
        assert start_s is not None
        gaps.append(start_s - before_s)
        limiter.note(_answered(200), start_s)
    assert gaps[0] == pytest.approx(1 / 6)
    assert gaps == sorted(gaps, reverse=True)
    assert gaps[-1] == pytest.approx(1 / 12)


def test_a_service_that_takes_nothing_tells_no_rate() -> None:
    clock = Clock()
    limiter = _limiter(clock)
    limiter.note(_answered(503), 0.0)
    assert [limiter.started_s() for _ in range(3)] == [0.0] * 3


def test_an_answer_that_never_came_says_nothing_of_the_rate() -> None:
    clock = Clock()
    limiter = _limiter(clock)
    limiter.note(Reply(sent=True), 0.0)
    assert [limiter.started_s() for _ in range(3)] == [0.0] * 3
