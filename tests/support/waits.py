"""Waiting until another process or thread has brought something about."""

import time
from collections.abc import Callable
from typing import Literal, TypeVar

WITHIN_S = 60.0
"""A machine that is busy with something else is given this long."""

_LOOK_EVERY_S = 0.01
_Value = TypeVar("_Value")


def until(holds: Callable[[], _Value | Literal[False] | None], otherwise: str = "it did not come to that") -> _Value:
    """Wait until something holds, and return it. Raises `AssertionError` if it does not hold in time."""
    until_s = time.monotonic() + WITHIN_S
    while not (value := holds()):
        assert time.monotonic() < until_s, otherwise
        time.sleep(_LOOK_EVERY_S)
    return value
