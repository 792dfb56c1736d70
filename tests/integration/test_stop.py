"""A flag that a signal handler sets while the same thread waits for it."""

import signal
import threading
import time

from reconciler.host.stop import Stop


def test_a_signal_at_any_moment_of_a_wait_ends_the_wait() -> None:
    """With a `threading.Event` one signal in some hundreds met the lock of the event, and nothing went on."""
    before = signal.getsignal(signal.SIGALRM)
    stop = Stop()
    signal.signal(signal.SIGALRM, lambda number, frame: stop.set())
    try:
        for number in range(300):
            stop = Stop()
            # Many short waits, so that the signal often comes while one begins or ends.
            signal.setitimer(signal.ITIMER_REAL, 0.0005 + number % 40 * 0.00005)
            until_s = time.monotonic() + 5
            while not stop.wait(0.00001):
                assert time.monotonic() < until_s
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_all_threads_that_wait_are_woken() -> None:
    stop = Stop()
    threads = [threading.Thread(target=stop.wait, args=(30,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    began_s = time.monotonic()
    stop.set()
    for thread in threads:
        thread.join(10)
    assert time.monotonic() - began_s < 5
    assert stop.is_set()


def test_a_wait_ends_at_its_time() -> None:
    stop = Stop()
    began_s = time.monotonic()
    assert not stop.wait(0.3)
    assert not stop.wait(0)
    assert 0.29 < time.monotonic() - began_s < 5
