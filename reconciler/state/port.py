"""The port to the place where a state lives, and what every store promises."""

from contextlib import AbstractContextManager
from typing import Protocol

from reconciler.model.jobs import State, Target
from reconciler.state.history import StoredHistory
from reconciler.state.session import Session


class Store(Protocol):
    """One state, kept in one place.

    A store promises four things. `read` and `read_history` write nothing. While a session is open, no other session on
    the same state is open, in this program or in any other. When a method of a session has returned, the change is
    durable: neither a kill nor a loss of power undoes it. The history has each change of a session exactly once, by the
    time the session is left or, after a crash, by the time the next session was opened.

    `read`, `open` and `put` raise `StateError` for a state that is damaged, is for another target, or is older than a
    state that this machine knows.
    """

    @property
    def where(self) -> str:
        """The place in words, for messages."""

    def read(self, target: Target) -> State | None:
        """What is recorded, including the journal of a command that was killed; None if nothing was ever applied."""

    def open(self, target: Target, what: str, timeout_s: float) -> AbstractContextManager[Session]:
        """Lock the state for the command `what` and load it. On leaving, the state is written and unlocked.

        Raises `LockTaken` if another command holds the lock for longer than `timeout_s`. On leaving, raises
        `JournalBroken` if the state could not be written.
        """

    def read_history(self) -> StoredHistory:
        """The history. It can be read even if the state is refused."""

    def put(self, state: State, target: Target, timeout_s: float) -> bool:
        """Record a whole state in place of an older one. False means that this state is recorded already.

        Raises `Refused` if the state is not newer than the recorded one, is of another lineage, or lacks a call that
        is in doubt in the recorded one. Raises `LockTaken` as `open` does.
        """

    def accept(self, target: Target, timeout_s: float, *, has_moved: bool = False) -> tuple[State, list[str]]:
        """Accept the state as it is, whether somebody edited it, merged it, or rolled it back.

        A state of another target is accepted only if the service `has_moved` to this target. Returns the state, and a
        remark on each thing that was accepted; there are no remarks if the state was sound. Raises `StateError` if it
        is not a state at all, or is for another target. Raises `LockTaken` as `open` does.
        """
