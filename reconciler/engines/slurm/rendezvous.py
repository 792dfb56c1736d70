"""Lets threads that submit at the same time go on together, so that each command that follows serves all of them."""

import threading


class Rendezvous:
    """A place where threads wait for those that are about to come. Several threads may call any method."""

    def __init__(self, within_s: float) -> None:
        """`within_s` is how long a thread waits at most."""
        self._within_s = within_s
        self._changed = threading.Condition()
        self._expected: set[str] = set()

    def expect(self, key: str) -> None:
        """Have the others wait for a thread that comes soon."""
        with self._changed:
            self._expected.add(key)

    def leave(self, key: str) -> None:
        """Have nobody wait for a thread that does not come after all."""
        with self._changed:
            self._expected.discard(key)
            self._changed.notify_all()

    def arrive(self, key: str) -> None:
        """Wait until all have come that are expected. What does not come in time is not waited for again."""
        with self._changed:
            self._expected.discard(key)
            self._changed.notify_all()
            if not self._changed.wait_for(lambda: not self._expected, self._within_s):
                self._expected.clear()
