"""The lock of a state, and the lock file beside a state on the local disk."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import NamedTuple, Protocol, Self

from reconciler.host.disk import Disk, is_mounted_alone
from reconciler.host.lock import holder_of, locked
from reconciler.model.errors import StateError
from reconciler.model.history import Origin
from reconciler.state.paths import paths_of
from reconciler.state.port import Surroundings


class FileContext(NamedTuple):
    """What a store of files needs from its environment.

    `who` names the person and the machine that hold the lock. `now` returns the time as RFC 3339 text for people to
    read. `new_lineage` returns a fresh id. `wait` pauses for seconds, and returns True if a stop was asked for.
    `origin` says for the history who runs a command; without it, that is `who`. `tell` gives the user a line of text.
    """

    disk: Disk
    marks_folder: str
    who: str
    now: Callable[[], str]
    new_lineage: Callable[[], str]
    wait: Callable[[float], bool]
    origin: Callable[[str], Origin] | None = None
    tell: Callable[[str], None] = lambda text: None

    @classmethod
    def of(cls, surroundings: Surroundings, disk: Disk) -> Self:
        """What the surroundings of a store give to its files on a disk."""
        around = surroundings
        return cls(
            disk, around.marks_folder, around.user, around.now, around.new_id, around.wait, around.origin, around.tell
        )


class StateLock(Protocol):
    """The lock of one state."""

    def held(self, what: str, timeout_s: float) -> AbstractContextManager[Callable[[], bool]]:
        """Hold the lock for the command `what` during the block.

        Yields a function that says whether the lock is still held. Raises `LockTaken` if another command holds the
        lock for longer than `timeout_s`.
        """

    def holder(self, folder: int | None) -> str:
        """The words for the command that holds the lock and for when it began, "" if no command does.

        `folder` is a descriptor of the folder of the state, or None.
        """


class FileLock:
    """A lock file beside the state file."""

    def __init__(self, path: str, context: FileContext) -> None:
        """`path` is the path of the state file."""
        self._path = path
        self._context = context

    @contextmanager
    def held(self, what: str, timeout_s: float) -> Iterator[Callable[[], bool]]:
        """Hold the folder of the state, and the lock file in it. Raises `LockTaken`.

        Raises `StateError` if the folder can't be written to, or if the state file could not be replaced.
        """
        context, lock_path = self._context, paths_of(self._path).lock
        holder = {"who": context.who, "what": what, "since": context.now()}
        with ExitStack() as stack:
            try:
                folder = stack.enter_context(context.disk.hold(self._path))
            except OSError as fault:
                raise StateError(
                    f"the lock file {lock_path} can't be made: {fault.strerror}",
                    "state must lie in a folder that can be written to",
                ) from fault
            lock = stack.enter_context(locked(lock_path, holder, timeout_s, context.wait, folder))
            self._remove_unfinished()
            if is_mounted_alone(self._path):
                raise StateError(
                    f"{self._path} is a mount of its own (a container's volume, as it seems), so it can't be replaced",
                    "mount the folder that it lies in, and not the file; or name another place with --state",
                )
            yield lock.is_held

    def holder(self, folder: int | None) -> str:
        """The holder as the lock file names it."""
        return holder_of(paths_of(self._path).lock, folder)

    def _remove_unfinished(self) -> None:
        """Remove the new files of a command that ended before it put them in place. They are never read.

        Raises `StateError` if such a file can't be removed, because no file could be replaced later.
        """
        disk = self._context.disk
        paths = paths_of(self._path)
        for path in (paths.state, paths.journal, paths.history):
            unfinished = f"{path}.tmp"
            try:
                if disk.mode(unfinished) is not None:
                    disk.remove(unfinished)
            except FileNotFoundError:
                continue
            except OSError as fault:
                raise StateError(
                    f"{unfinished} is in the way of new files and can't be removed: {fault.strerror}",
                    "remove it, or name another place with --state",
                ) from fault
