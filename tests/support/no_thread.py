"""What stands in for `threading.Thread` where a history must be the same each time."""

from typing import Any


class NoThread:
    """A thread that can't be had, so that all is done in one: starting threads would take most of the time."""

    def __init__(self, **_: Any) -> None:
        pass

    def start(self) -> None:
        raise RuntimeError("can't start new thread")
