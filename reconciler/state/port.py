"""The port to wherever state lives, and what every store promises."""

from contextlib import AbstractContextManager
from typing import Protocol

from reconciler.model.jobs import State, Target
from reconciler.state.history import StoredHistory
from reconciler.state.session import Session


class Store(Protocol):
    """One state, kept somewhere.

    Promises: `read` writes nothing. While a session is open, no other session on the same state is,
    in this or any other program. What a session's method returned from is on disk, through a kill
    or a loss of power. A state that is damaged, for another target, or older than one that was
    already seen here is refused by both, with `StateError`. What a session did is in the history
    once, by the time that the session is left or, after a crash, the next one opened.
    """

    @property
    def where(self) -> str:
        """The place in words."""

    def read(self, target: Target) -> State | None:
        """What is recorded, the journal included; None where nothing was ever applied."""

    def open(self, target: Target, what: str, timeout_s: float) -> AbstractContextManager[Session]:
        """Lock the state for the command `what` and load it; on leaving, write it and unlock.

        Raises `LockTaken` where another command holds the lock for longer than `timeout_s`.
        """

    def read_history(self) -> StoredHistory:
        """What was done. Writes nothing; a state that is refused does not keep it from being read."""

    def put(self, state: State, target: Target, timeout_s: float) -> bool:
        """Record a whole state in the place of an older one; False where it is recorded already.

        Raises `Refused` where it is not newer than what is recorded, of another lineage, or lacks a call in doubt.
        """

    def accept(self, target: Target, timeout_s: float, *, has_moved: bool = False) -> tuple[State, list[str]]:
        """Take the state as it stands as true, whether it was edited, merged or rolled back.

        A state of another target is taken only where the service `has_moved` to this one. Returns it with remarks on
        what was accepted, none where it was sound already. Raises `StateError` where it is no state at all, or is for
        another target.
        """
