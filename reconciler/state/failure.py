"""The reason why a session ended early, shared by everything that writes or sends in that session."""

from reconciler.state.journal import JournalBroken


class Failure:
    """The error after which a session neither writes nor sends anything. At first there is none.

    The writer of the journal and the gate share one object, so that an error of one of them stops both. The object is
    safe for use by many threads.
    """

    def __init__(self) -> None:
        self._error: JournalBroken | None = None

    @property
    def error(self) -> JournalBroken | None:
        """The latest error, or None while the session may go on."""
        return self._error

    def end_with(self, error: JournalBroken) -> JournalBroken:
        """End the session with this error, and return the error, so that the caller can raise it."""
        self._error = error
        return error

    def check(self) -> None:
        """Raise a copy of the error if there is one. Threads never share an exception object."""
        error = self._error
        if error is not None:
            raise error.changed() from error
