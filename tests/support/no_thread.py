"""A substitute for `threading.Thread`, for histories that must be the same each time."""

from typing import Any


class NoThread:
    """A thread that fails to start, so that one thread does everything; thread starts would take most of the time."""

    def __init__(self, **_: Any) -> None:
        pass

    def start(self) -> None:
        raise RuntimeError("can't start new thread")
