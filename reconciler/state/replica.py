"""The files of a state on a remote, as a disk in memory."""

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from reconciler.host.disk import File
from reconciler.state.lease import holder_of
from reconciler.state.paths import paths_of
from reconciler.state.port import Append, Content, Fold, Hold, Leave, Remote, Snapshot, Write

_PAGE_LINES = 10_000
"""The number of lines that one page of the history has."""

_END = b"\0"
"""The byte at the end of a journal. A journal without it was cut off."""


class ReplicaDisk:
    """State, journal and history of a snapshot as a `Disk`. Files that the command writes are in memory until they are
    published.

    Without a snapshot there are no files. Safe for use by many threads.
    """

    def __init__(self, remote: Remote, snapshot: Snapshot | None, path: str) -> None:
        """`path` is the path that the state file has on this disk."""
        self._remote = remote
        self._version = snapshot.version if snapshot else None
        self._state_path, self._journal_path, self._history_path, *_ = paths_of(path)
        self.remote_turn = threading.Lock()
        """Held by the thread that uses the remote. It is taken last: who holds it waits for no other lock."""
        self._turn = threading.RLock()
        self._base = snapshot.content if snapshot else Content()
        self._history: bytes | None = None if snapshot else b""
        """The history on the remote, None as long as it was not read."""
        self._files: dict[str, ReplicaFile | None] = {}
        """The files that were written since; None for a file that was removed."""

    @property
    def content(self) -> Content:
        """What the remote holds, as far as this command knows."""
        return self._base

    def read(self, path: str) -> bytes | None:
        """See `Disk.read`."""
        with self._turn:
            if path in self._files:
                file = self._files[path]
                return None if file is None else file.content
            return self._on_remote(path)

    def create(self, path: str, mode: int) -> "ReplicaFile":
        """See `Disk.create`. The mode is ignored."""
        with self._turn:
            file = self._files[path] = ReplicaFile()
            return file

    def rename(self, old: str, new: str) -> None:
        """See `Disk.rename`."""
        with self._turn:
            self._files[new] = self._files.pop(old)

    def remove(self, path: str) -> None:
        """See `Disk.remove`."""
        with self._turn:
            self._files[path] = None

    def sync_folder(self, path: str) -> None:
        """Do nothing: a publish makes all changes durable at once."""

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

    def write_for(self, holder: bytes | None) -> Write | None:
        """The write that brings to the remote all that was written here, with this content of the lease.

        None as `holder` gives the lease up. Returns None if there is nothing to write.
        """
        with self._turn:
            base = self._base
            state, journal = self.read(self._state_path), self.read(self._journal_path)
            lines = b""
            if self._files.get(self._history_path) is not None:
                lines = (self.read(self._history_path) or b"")[base.history_bytes :]
        grown_from = _kept_bytes(base.journal, journal)
        if state != base.state or lines or grown_from is None or (holder is None and journal != base.journal):
            return Fold(holder, None if state == base.state else state, journal, lines)
        if holder is None:
            return None if base.holder is None else Leave()
        if journal is None or journal == base.journal:
            return Hold(holder)
        return Append(holder, grown_from, journal[grown_from:])

    def published(self, write: Write) -> None:
        """Record that the remote has this write."""
        with self._turn:
            self._base = self._base.after(write)
            if isinstance(write, Fold) and self._history is not None:
                self._history += write.history

    def _on_remote(self, path: str) -> bytes | None:
        if path == self._state_path:
            return self._base.state
        if path == self._journal_path:
            return self._base.journal
        if path == self._history_path:
            return self._history_on_remote() or None
        return None

    def _history_on_remote(self) -> bytes:
        if self._history is None:
            pages: list[bytes] = []
            after: str | None = None
            with self.remote_turn:
                while self._version is not None and (not pages or after is not None):
                    content, after = self._remote.past(self._version, after, _PAGE_LINES)
                    pages.append(content)
            self._history = b"".join(pages)
        return self._history


class ReplicaFile:
    """An open file in memory. If more space is allocated than was written, the content ends with one zero byte."""

    def __init__(self) -> None:
        self._written = bytearray()
        self._size_bytes = 0

    @property
    def content(self) -> bytes:
        """The content as it goes to the remote."""
        written = bytes(self._written)
        return written + _END if len(written) < self._size_bytes else written

    def write(self, offset: int, content: bytes) -> None:
        """See `File.write`."""
        self._written[offset : offset + len(content)] = content

    def allocate(self, size_bytes: int) -> None:
        """See `File.allocate`."""
        self._size_bytes = size_bytes

    def sync(self) -> None:
        """Do nothing: a publish makes all changes durable at once."""

    def read(self) -> bytes:
        """See `File.read`."""
        return self.content

    def close(self) -> None:
        """Do nothing."""


class ReplicaLock:
    """The lock of a state on a remote. It locks nothing: the publish of one command excludes that of another."""

    def __init__(self, disk: ReplicaDisk) -> None:
        self._disk = disk

    @contextmanager
    def held(self, what: str, timeout_s: float) -> Iterator[Callable[[], bool]]:
        """Yield a function that tells whether the lock is still held, and always returns True.

        If another command publishes first, the next publish of this command raises an error.
        """
        yield lambda: True

    def holder(self, folder: int | None) -> str:
        """The holder as the lease on the remote names it."""
        lease = self._disk.content.holder
        return holder_of(lease) if lease else ""


def _kept_bytes(before: bytes | None, now: bytes | None) -> int | None:
    """How many bytes of a journal stay if it has only grown, None if it is another one or is gone."""
    if before is None:
        return 0
    if now is None:
        return None
    records = before.removesuffix(_END)
    if now.startswith(before):
        return len(before)
    return len(records) if now.startswith(records) else None
