"""The port between a session and whatever decides that an intended call may be sent."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol


class Gate(Protocol):
    """Decides whether the calls that a session intended may be sent.

    The session reports to its gate when actions begin and end, when an intent is in the journal, and when the session
    closes. Every method may be called by many threads, except `closing`.
    """

    @property
    def is_local(self) -> bool:
        """Whether the session waits for nothing but a disk of this machine."""

    def threads(self, parallelism: int) -> int:
        """How many actions should be under way at once, so that `parallelism` of their calls are."""

    def begin(self, actions: int) -> None:
        """`actions` more actions begin. Raises `JournalBroken` if nothing could be sent."""

    def end(self) -> None:
        """One of the actions has ended."""

    def await_intent(self) -> None:
        """Return once an intent, which the caller has just written to the journal, is where it has to be.

        Raises `JournalBroken` if it can't be put there.
        """

    def assure(self) -> bool:
        """Whether an intended call may be sent now. This is asked right before each call.

        False means that a stop was asked for. Raises `JournalBroken` if nothing may be sent any more.
        """

    def maybe_sent(self, in_flight: frozenset[str]) -> frozenset[str]:
        """The jobs with a call that may have been sent and has no result; `in_flight` have an intent and no result."""

    def closing(self) -> AbstractContextManager[None]:
        """Surround the last checkpoint of the session.

        On entry, the gate stops what it does in the background. On exit, the gate publishes what was written, if that
        is needed. A `JournalBroken` is raised on with the values that only the gate knows.
        """


class LocalGate:
    """The gate of a session whose files are on a disk of this machine: the flushed journal is all that a call needs."""

    is_local = True

    def __init__(self, verify: Callable[[], None]) -> None:
        """`verify` raises `JournalBroken` if the journal failed, or if lock, journal or state file were displaced."""
        self._verify = verify

    def threads(self, parallelism: int) -> int:
        # Some threads wait for the disk, and send nothing meanwhile. One action at a time needs no other thread.
        return parallelism + parallelism // 4

    def begin(self, actions: int) -> None:
        return

    def end(self) -> None:
        return

    def await_intent(self) -> None:
        return

    def assure(self) -> bool:
        self._verify()
        return True

    def maybe_sent(self, in_flight: frozenset[str]) -> frozenset[str]:
        return in_flight

    def closing(self) -> AbstractContextManager[None]:
        return nullcontext()
