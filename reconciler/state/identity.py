"""Checks that the files of a state are still the files that a session opened.

Other programs can replace or remove these files while a command is at work. `git checkout` replaces the state file,
and `git clean` removes the lock file and the journal. A session that went on would overwrite the state of another
command.
"""

from collections.abc import Callable

from reconciler.host.disk import Disk
from reconciler.model.errors import StateError
from reconciler.state import codec
from reconciler.state.journal import Displaced, Journal
from reconciler.state.paths import paths_of


class FileIdentity:
    """Knows which lock file, journal and state file belong to a session.

    Once a file was found displaced, every later check fails too, even if somebody puts the file back. The caller must
    make sure that no checkpoint replaces the files during a check.
    """

    def __init__(
        self, disk: Disk, path: str, is_locked: Callable[[], bool], digest: Callable[[], str], stamp: object
    ) -> None:
        """`is_locked` says whether the lock file is still the locked one.

        `digest` returns the digest of the state file of the session, "" if there is no such file. `stamp` is the stamp
        that the state file has now.
        """
        self._disk = disk
        self._path = path
        self._is_locked = is_locked
        self._digest = digest
        self._stamp = stamp
        self._displaced: Displaced | None = None

    def check(self, journal: Journal | None) -> None:
        """Raise `Displaced` if the lock file, the journal or the state file is not the session's own file."""
        if self._displaced is None and (why := self._why_displaced(journal)):
            self._displaced = self._error(why)
        self.refuse_displaced()

    def refuse_displaced(self) -> None:
        """Raise `Displaced` if an earlier check found a displaced file. This looks at no file."""
        if self._displaced is not None:
            raise self._displaced

    def displace(self, why: str) -> Displaced:
        """Record that a file is displaced, for the reason `why`, and return the error to raise."""
        self._displaced = self._error(why)
        return self._displaced

    def wrote_state(self) -> None:
        """Record that the session itself has just replaced the state file. Raises `OSError`."""
        self._stamp = self._disk.stamp(self._path)

    def begin_again(self, is_locked: Callable[[], bool]) -> None:
        """Forget an earlier displacement, under a lock that was taken anew."""
        self._is_locked, self._displaced = is_locked, None

    def _error(self, why: str) -> Displaced:
        return Displaced(f"{why} while this command was at work")

    def _why_displaced(self, journal: Journal | None) -> str:
        """The displaced file and what happened to it, or "" if every file is in place."""
        if not self._is_locked():
            return f"{paths_of(self._path).lock} was removed or replaced"
        if journal is not None and not journal.is_in_place:
            return f"{paths_of(self._path).journal} was removed or replaced"
        try:
            stamp = self._disk.stamp(self._path)
            if stamp == self._stamp:
                return ""
            content = self._disk.read(self._path)
        except (OSError, StateError):
            return f"{self._path} can no longer be read"
        if content is None and self._digest():
            return f"{self._path} was removed"
        if content is not None and not codec.is_intact(content, self._digest()):
            return f"another file took the place of {self._path}"
        self._stamp = stamp
        return ""
