"""A disk in memory, and a fuse that ends the program before any operation of the disk or the network.

Data written before that operation stays.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from errno import ENOENT
from typing import NamedTuple

from reconciler.model.errors import LockTaken


class Crash(BaseException):
    """The program is gone. The product must not catch this exception, and has no further effect."""


class Fuse:
    """Ends the program before its n-th operation, and before each later one; can let others act before an operation."""

    def __init__(self) -> None:
        self.left: int | None = None
        self.burnt = False
        self._meanwhile: Callable[[], object] | None = None
        self._before = 0

    def meanwhile(self, operations: int, act: Callable[[], object] | None) -> None:
        """Call `act` before the operation that follows after `operations` others."""
        self._before, self._meanwhile = operations, act

    def set(self, operations: int | None) -> None:
        """End the program after this many operations; None never ends it."""
        self.left, self.burnt = operations, False

    def pass_one(self, *, alone: bool = False) -> None:
        """Begin the next operation.

        Others do not act before an operation that is `alone`, but before the one after it.
        """
        self._before -= 1
        if self._before < 0 and not alone and self._meanwhile is not None:
            act, self._meanwhile = self._meanwhile, None
            act()
        if self.left == 0:
            self.burnt = True
        if self.burnt:
            raise Crash
        if self.left is not None:
            self.left -= 1


Files = dict[str, bytearray]
"""A folder: file names and contents. An open file is the content itself, even after its name changed."""


class MemoryDisk:
    """A `Disk` that loses nothing. `changes` counts its changes; a torn write leaves its first half.

    `files` is the folder at the path. Someone else may change the path to another folder. A program that holds the
    first folder stays with that folder.
    """

    def __init__(self, fuse: Fuse) -> None:
        self.fuse = fuse
        self.files: Files = {}
        self.changes = 0
        self.held: list[Files] = []
        self.reads: Counter[str] = Counter()
        self._locks: list[bytearray] = []

    @property
    def _there(self) -> Files:
        return self.held[-1] if self.held else self.files

    def change(self) -> None:
        self.fuse.pass_one()
        self.changes += 1

    def put(self, path: str, content: bytes | None) -> None:
        """Write or remove a file, as somebody else."""
        self.changes += 1
        if content is None:
            self.files.pop(path, None)
        else:
            self.files[path] = bytearray(content)

    def lead_to(self, files: Files) -> None:
        """Change the path to another folder."""
        self.changes += 1
        self.files = files

    def read(self, path: str) -> bytes | None:
        self.reads[path] += 1
        found = self._there.get(path)
        return None if found is None else bytes(found)

    def create(self, path: str, mode: int) -> "MemoryFile":
        self.change()
        self._there[path] = bytearray()
        return MemoryFile(self, self._there[path])

    def rename(self, old: str, new: str) -> None:
        # A check and a rename are two steps, so others act after the rename instead of before it.
        self.fuse.pass_one(alone=True)
        self.changes += 1
        if old not in self._there:
            raise FileNotFoundError(ENOENT, "No such file or directory")
        self._there[new] = self._there.pop(old)

    def remove(self, path: str) -> None:
        self.fuse.pass_one(alone=True)
        self.changes += 1
        if self._there.pop(path, None) is None:
            raise FileNotFoundError(ENOENT, "No such file or directory")

    def sync_folder(self, path: str) -> None:
        self.fuse.pass_one()

    def mode(self, path: str) -> int | None:
        return 0o600 if path in self._there else None

    @contextmanager
    def hold(self, path: str) -> Iterator[None]:
        self.held.append(self._there)
        try:
            yield
        finally:
            self.held.pop()

    def stamp(self, path: str) -> object:
        content = self._there.get(path)
        return None if content is None else (id(content), bytes(content))

    def is_at(self, path: str, file: object) -> bool:
        return isinstance(file, MemoryFile) and self._there.get(path) is file.content

    @contextmanager
    def locked(self, path: str, *_: object) -> "Iterator[HeldLock]":
        """A substitute for `state.lock.locked`: the lock belongs to the file, and is gone when the file is."""
        there = self._there
        content = there.setdefault(path, bytearray(b"{}"))
        if any(content is held for held in self._locks):
            raise LockTaken(f"the state is locked ({path})", "wait for it to end and try again")
        self._locks.append(content)
        try:
            yield HeldLock(there, path, content)
        finally:
            self._locks = [held for held in self._locks if held is not content]
            if not self.fuse.burnt and there.get(path) is content:
                del there[path]


class HeldLock(NamedTuple):
    """A lock that is held on a file of a `MemoryDisk`."""

    files: Files
    path: str
    content: bytearray

    def is_held(self) -> bool:
        """Whether the lock file is still the file that was locked."""
        return self.files.get(self.path) is self.content


class MemoryFile:
    """An open file of a `MemoryDisk`."""

    def __init__(self, disk: MemoryDisk, content: bytearray) -> None:
        self._disk = disk
        self.content = content

    def write(self, offset: int, content: bytes) -> None:
        try:
            self._disk.change()
        except Crash:
            if self._disk.fuse.left == 0:
                self._put(offset, content[: len(content) // 2])
                self._disk.fuse.left = -1
            raise
        self._put(offset, content)

    def _put(self, offset: int, content: bytes) -> None:
        self.allocate_bytes(offset + len(content))
        self.content[offset : offset + len(content)] = content

    def allocate(self, size_bytes: int) -> None:
        self._disk.change()
        self.allocate_bytes(size_bytes)

    def allocate_bytes(self, size_bytes: int) -> None:
        self.content.extend(bytes(max(0, size_bytes - len(self.content))))

    def sync(self) -> None:
        self._disk.fuse.pass_one()

    def read(self) -> bytes:
        return bytes(self.content)

    def close(self) -> None:
        pass
