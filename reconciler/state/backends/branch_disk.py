"""The files of one commit of a branch, as a disk in memory."""

import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext

from reconciler.host.disk import File
from reconciler.model.errors import Refused, StateError
from reconciler.state.backends.repository import Repository
from reconciler.state.lease import holder_of


class BranchDisk:
    """The files of the commit `tip` as a `Disk`. Files that the command writes are in memory until they are published.

    Without a commit there are no files. Safe for use by many threads.
    """

    def __init__(self, repository: Repository, tip: str | None, path: str) -> None:
        """`path` is the path of the state file. Raises `Refused` if a folder of that path is a file there."""
        self.tip = tip
        self._repository = repository
        if tip is not None and (file := repository.file_above(tip, path)):
            raise clash(path, file, "file", repository.where)
        self._entries = {} if tip is None else repository.entries(tip, os.path.dirname(path))
        self._turn = threading.RLock()
        self._base: dict[str, bytes | None] = {}
        """The content on the branch of each path that was read or written; None if there is no file."""
        self._files: dict[str, BranchFile | None] = {}
        """The files that were written since; None for a file that was removed."""

    def read(self, path: str) -> bytes | None:
        """See `Disk.read`. Raises `Refused` for a folder, and `StateError` for anything else that is no file."""
        with self._turn:
            if path in self._files:
                file = self._files[path]
                return None if file is None else file.content
            return self._read_base(path)

    def create(self, path: str, mode: int) -> "BranchFile":
        """See `Disk.create`. The mode is ignored."""
        with self._turn:
            file = self._files[path] = BranchFile()
            return file

    def rename(self, old: str, new: str) -> None:
        """See `Disk.rename`."""
        with self._turn:
            self._read_base(new)
            self._files[new] = self._files.pop(old)

    def remove(self, path: str) -> None:
        """See `Disk.remove`."""
        with self._turn:
            self._read_base(path)
            self._files[path] = None

    def sync_folder(self, path: str) -> None:
        """Do nothing: a push makes all changes durable at once."""

    def mode(self, path: str) -> int | None:
        """See `Disk.mode`. Every file has the mode 0644."""
        return None if self.read(path) is None else 0o644

    def hold(self, path: str) -> AbstractContextManager[None]:
        """See `Disk.hold`. There is no folder that could be moved away."""
        return nullcontext()

    def stamp(self, path: str) -> object:
        """See `Disk.stamp`. The stamp is the content."""
        return self.read(path)

    def is_at(self, path: str, file: File) -> bool:
        """See `Disk.is_at`."""
        with self._turn:
            return self._files.get(path) is file

    def changes(self) -> dict[str, bytes | None]:
        """The files that differ from the branch at this moment: the new content, or None for a removed file."""
        with self._turn:
            now = {
                path: None if file is None else file.content
                for path, file in self._files.items()
                if not path.endswith(".tmp")
            }
            return {path: content for path, content in now.items() if content != self._base.get(path)}

    def published(self, changes: Mapping[str, bytes | None]) -> None:
        """Record that the branch has these changes."""
        with self._turn:
            self._base |= changes

    @property
    def touched(self) -> frozenset[str]:
        """The paths that were read or written."""
        with self._turn:
            return frozenset(self._base) | frozenset(path for path in self._files if not path.endswith(".tmp"))

    def _read_base(self, path: str) -> bytes | None:
        if path not in self._base:
            entry = self._entries.get(path)
            if entry is not None and entry.type == "tree":
                raise clash(path, path, "folder", self._repository.where)
            if entry is not None and entry.mode not in ("100644", "100755"):
                raise StateError(f"{path} is no regular file", "remove it from the branch, or name another --state")
            self._base[path] = None if entry is None else self._repository.content(entry.id)
        return self._base[path]


class BranchFile:
    """An open file in memory. If more space is allocated than was written, the content ends with one zero byte."""

    def __init__(self) -> None:
        self._written = bytearray()
        self._size_bytes = 0

    @property
    def content(self) -> bytes:
        """The content as it goes to the branch."""
        written = bytes(self._written)
        return written + b"\0" if len(written) < self._size_bytes else written

    def write(self, offset: int, content: bytes) -> None:
        """See `File.write`."""
        self._written[offset : offset + len(content)] = content

    def allocate(self, size_bytes: int) -> None:
        """See `File.allocate`."""
        self._size_bytes = size_bytes

    def sync(self) -> None:
        """Do nothing: a push makes all changes durable at once."""

    def read(self) -> bytes:
        """See `File.read`."""
        return self.content

    def close(self) -> None:
        """Do nothing."""


class BranchLock:
    """The lock of a state on a branch. It locks nothing: the push of one command excludes that of another."""

    def __init__(self, disk: BranchDisk, path: str) -> None:
        """`path` is the path of the state file."""
        self._disk = disk
        self._path = path

    @contextmanager
    def held(self, what: str, timeout_s: float) -> Iterator[Callable[[], bool]]:
        """Yield a function that tells whether the lock is still held, and always returns True.

        If another command pushes first, the next push of this command raises an error.
        """
        yield lambda: True

    def holder(self, folder: int | None) -> str:
        """The holder as the lock file on the branch names it."""
        lock = self._disk.read(lock_path(self._path))
        return holder_of(lock) if lock else ""


def lock_path(path: str) -> str:
    """The path of the lock file of a state file."""
    return f"{path}.lock"


def clash(path: str, there: str, kind: str, where: str) -> Refused:
    """The error for a path that a branch can't have, because `there` is a file or a folder (`kind`) on it."""
    return Refused(
        f"{path} can't be on {where}: {there} is a {kind} there, and git has no file and folder of one name",
        "name another path with --state; what is there belongs to another state, as it seems",
    )
