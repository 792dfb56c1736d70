"""Reads for several threads at once: what is asked for while a read is under way is read together by the next one."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import Generic, TypeVar

_Value = TypeVar("_Value")


class Gathering(Generic[_Value]):
    """Answers questions by key, with as few reads as its callers leave it.

    A read answers only what was asked for before it began. So each caller gets a value that is no older than its own
    call, as if it had read by itself. One of the callers reads for all that wait.
    """

    def __init__(self, read: Callable[[Sequence[str]], Mapping[str, _Value]], most: int, linger_s: float = 0.0) -> None:
        """`read` returns the value of each key, and is called by one thread at a time, with `most` keys at most.

        `linger_s` is how long a read waits for callers that are about to ask.
        """
        self._read = read
        self._most = most
        self._linger_s = linger_s
        self._turn = threading.Condition()
        self._waiting: dict[str, Future[_Value]] = {}
        self._is_reading = False

    def get(self, key: str) -> _Value:
        """Return the value of a key. Raises what the read raises."""
        with self._turn:
            mine = self._waiting.setdefault(key, Future())
        while True:
            with self._turn:
                self._turn.wait_for(lambda: mine.done() or not self._is_reading)
                if mine.done():
                    return mine.result()
                self._is_reading = True
            self._read_for_all()

    def _read_for_all(self) -> None:
        """Read what is asked for by now, and hand over what was read or raised."""
        asked: Mapping[str, Future[_Value]] = {}
        try:
            time.sleep(self._linger_s)
            with self._turn:
                # Those who have waited longest come first.
                asked = {each: self._waiting.pop(each) for each in list(self._waiting)[: self._most]}
            found = self._read(list(asked))
            for key, future in asked.items():
                future.set_result(found[key])
        except BaseException as fault:
            for future in asked.values():
                if not future.done():
                    future.set_exception(fault)
            if not isinstance(fault, Exception):
                raise
        finally:
            with self._turn:
                self._is_reading = False
                self._turn.notify_all()
