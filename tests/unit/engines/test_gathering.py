"""Reads that several threads ask for at once."""

import signal
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait

import pytest

from reconciler.engines.gathering import Gathering
from waits import until

WITHIN_S = 30
LONG_S = 20.0


class Reads:
    """The reads of a test, each of which waits until it may answer. A value is the number of its read."""

    def __init__(self) -> None:
        self.keys: list[list[str]] = []
        self.begun = threading.Semaphore(0)
        self.may_end = threading.Semaphore(0)

    def read(self, keys: Sequence[str]) -> Mapping[str, int]:
        self.keys.append(sorted(keys))
        number = len(self.keys)
        self.begun.release()
        assert self.may_end.acquire(timeout=WITHIN_S)
        if "bad" in keys:
            raise ValueError("bad")
        return dict.fromkeys(keys, number)


def test_what_is_asked_for_during_a_read_is_answered_by_the_next_one() -> None:
    reads = Reads()
    gathering = Gathering(reads.read, 10)
    with ThreadPoolExecutor(5) as pool:
        first = pool.submit(gathering.get, "a")
        assert reads.begun.acquire(timeout=WITHIN_S)
        # The read of "a" has begun, so that a second question for "a" may not be answered by it.
        later = [pool.submit(gathering.get, key) for key in ("a", "b", "c")]
        until(lambda: len(gathering._waiting) == 3)
        reads.may_end.release()
        assert first.result(WITHIN_S) == 1
        assert reads.begun.acquire(timeout=WITHIN_S)
        reads.may_end.release()
        assert [each.result(WITHIN_S) for each in later] == [2, 2, 2]
    assert reads.keys == [["a"], ["a", "b", "c"]]


def test_whoever_has_an_answer_does_not_wait_for_the_next_read() -> None:
    reads = Reads()
    gathering = Gathering(reads.read, 1)
    with ThreadPoolExecutor(3) as pool:
        waits = [pool.submit(gathering.get, key) for key in ("a", "b", "c")]
        for number in range(1, 4):
            assert reads.begun.acquire(timeout=WITHIN_S)
            assert len(wait(waits, timeout=0).done) == number - 1
            reads.may_end.release()
            wait([each for each in waits if not each.done()], WITHIN_S, FIRST_COMPLETED)
    assert sorted(each.result() for each in waits) == [1, 2, 3]


def test_a_read_that_fails_fails_for_all_that_it_was_made_for_and_for_nobody_else() -> None:
    reads = Reads()
    gathering = Gathering(reads.read, 10)
    with ThreadPoolExecutor(5) as pool:
        first = pool.submit(gathering.get, "a")
        assert reads.begun.acquire(timeout=WITHIN_S)
        later = [pool.submit(gathering.get, key) for key in ("bad", "b")]
        until(lambda: len(gathering._waiting) == 2)
        for _ in range(2):
            reads.may_end.release()
        assert first.result(WITHIN_S) == 1
        for each in later:
            with pytest.raises(ValueError, match="bad"):
                each.result(WITHIN_S)
        reads.may_end.release()
        assert pool.submit(gathering.get, "b").result(WITHIN_S) == 3


def test_a_read_waits_a_moment_for_those_who_are_about_to_ask() -> None:
    reads = Reads()
    gathering = Gathering(reads.read, 10, linger_s=1.0)
    reads.may_end.release()
    with ThreadPoolExecutor(2) as pool:
        asked = [pool.submit(gathering.get, key) for key in ("a", "b")]
        assert [each.result(WITHIN_S) for each in asked] == [1, 1]


def test_a_read_that_is_interrupted_while_it_waits_leaves_the_next_one_free() -> None:
    """Ctrl-C may come at any moment, and other threads still ask."""
    reads = Reads()
    gathering = Gathering(reads.read, 10, linger_s=LONG_S)

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        with pytest.raises(KeyboardInterrupt):
            gathering.get("a")
    finally:
        signal.signal(signal.SIGALRM, before)
    gathering._linger_s = 0.0
    reads.may_end.release()
    assert gathering.get("b") == 1
