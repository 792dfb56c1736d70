"""Reads for several threads at once: what is asked for while a read is under way is read together by the next one."""

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import Generic, TypeVar

_Value = TypeVar("_Value")


class Gathering(Generic[_Value]):
    """Answers questions by key, with as few reads as its callers leave it.

    A read answers only what was asked for before it began. So each caller gets a value that is no older than its own
    call, as if it had read by itself. One of the callers reads for all that wait.
    """

    def __init__(self, read: Callable[[Sequence[str]], Mapping[str, _Value]], most: int) -> None:
        """`read` returns the value of each key, and is called by one thread at a time, with `most` keys at most."""
        self._read = read
        self._most = most
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
                # Those who have waited longest come first.
                asked = {each: self._waiting.pop(each) for each in list(self._waiting)[: self._most]}
            self._answer(asked)

    def _answer(self, asked: Mapping[str, Future[_Value]]) -> None:
        """Read, and hand over what was read or raised."""
        try:
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
