"""A disk in memory that loses power: flushed data survives, and any other data may be lost or damaged.

After a loss of power, each write since the file's last flush is decided sector by sector: the sector is kept, dropped,
zeroed or filled with garbage. The new length of the file may be lost too. Changes of names (create, rename, remove)
since the folder's last flush survive as a prefix, or as any subset. A rename is atomic for the new name, but the old
name may survive beside it. A flush of a file does not flush its name, and a flush of a folder does not flush the
content of its files. A flush that fails may have flushed any part. A later flush never flushes the rest, although a
read returns that rest until the power is lost.
"""

import errno
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from itertools import count
from random import Random
from typing import NamedTuple

from reconciler.host.disk import File
from reconciler.model.history import Origin
from reconciler.state.session import Scribe

SECTOR_BYTES = 512


SCRIBE = Scribe(lambda: Origin("ada"), lambda: "2026-11-21T10:00:00Z", map("made-{}".format, count()).__next__)
"""The author and the clock of a session without a store."""


class PowerLoss(BaseException):
    """The machine is off. The product must not catch this exception."""


class _Write(NamedTuple):
    offset: int
    content: bytes


class _Grow(NamedTuple):
    size_bytes: int


class _Inode:
    def __init__(self, mode: int) -> None:
        self.mode = mode
        self.cached = bytearray()
        self.durable = bytearray()
        self.pending: list[_Write | _Grow] = []
        self.doomed: list[_Write | _Grow] = []


class _Name(NamedTuple):
    """One change of a folder: `path` is bound to `inode` (None removes the name), and the name `gone` is removed."""

    path: str
    inode: _Inode | None
    gone: str = ""


class LossyDisk:
    """A `Disk`, deterministic for a given `random`.

    Each operation that changes the disk is a tick, counted from 0. The power is lost at the tick `off_at`, and every
    operation from there on raises `PowerLoss`. `failing` is the probability that a flush fails. `torn_sectors` lets a
    torn write damage the whole of each sector that the write touches, including bytes of earlier flushes.
    `before_flush` is called when a flush begins, if the file was flushed before and written to since. Writes made in
    that call are not part of the flush.
    """

    def __init__(self, random: Random) -> None:
        self.random = random
        self.off = False
        self.off_at: int | None = None
        self.ticks = 0
        self.failing = 0.0
        self.torn_sectors = True
        self.before_flush: Callable[[str], None] | None = None
        self._names: dict[str, _Inode] = {}
        self._durable_names: dict[str, _Inode] = {}
        self._pending_names: list[_Name] = []

    def tick(self) -> None:
        """Count one operation; lose the power if its turn has come."""
        if self.off_at is not None and self.ticks >= self.off_at:
            self.off = True
        if self.off:
            raise PowerLoss
        self.ticks += 1

    def read(self, path: str) -> bytes | None:
        inode = self._names.get(path)
        return None if inode is None else bytes(inode.cached)

    def mode(self, path: str) -> int | None:
        inode = self._names.get(path)
        return None if inode is None else inode.mode

    def create(self, path: str, mode: int) -> "LossyFile":
        self.tick()
        if path in self._names:
            self._rename(_Name(path, None))
        inode = _Inode(mode)
        self._rename(_Name(path, inode))
        return LossyFile(self, path, inode)

    def rename(self, old: str, new: str) -> None:
        self.tick()
        self._rename(_Name(new, self._names[old], old))

    def remove(self, path: str) -> None:
        self.tick()
        if path not in self._names:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", path)
        self._rename(_Name(path, None))

    def sync_folder(self, path: str) -> None:
        self.tick()
        self.maybe_fail()
        folder = path.rpartition("/")[0]
        left = []
        for name in self._pending_names:
            if name.path.rpartition("/")[0] == folder:
                _bind(self._durable_names, name, keeps_old=False)
            else:
                left.append(name)
        self._pending_names = left

    def hold(self, path: str) -> AbstractContextManager[None]:
        return nullcontext()

    def stamp(self, path: str) -> object:
        return self.read(path)

    def is_at(self, path: str, file: File) -> bool:
        return isinstance(file, LossyFile) and self._names.get(path) is file.inode

    def names(self) -> list[str]:
        """Return the names of all files, sorted."""
        return sorted(self._names)

    def maybe_fail(self) -> None:
        """Fail a flush by chance."""
        if self.failing and self.random.random() < self.failing:
            raise OSError(errno.EIO, "Input/output error")

    def power_up(self) -> "LossyDisk":
        """Return the disk as it is found when the power is back; everything found is durable."""
        found = LossyDisk(self.random)
        found.torn_sectors = self.torn_sectors
        names = dict(self._durable_names)
        pending = self._pending_names
        if self.random.random() < 0.5:
            pending = pending[: self.random.randint(0, len(pending))]
        else:
            pending = [name for name in pending if self.random.random() < 0.5]
        for name in pending:
            _bind(names, name, keeps_old=self.random.random() < 0.2)
        survivors: dict[int, _Inode] = {}
        for path, inode in names.items():
            if id(inode) not in survivors:
                survivors[id(inode)] = self._survivor(inode)
            found._names[path] = found._durable_names[path] = survivors[id(inode)]
        return found

    def _survivor(self, inode: _Inode) -> _Inode:
        survivor = _Inode(inode.mode)
        image = bytearray(inode.durable)
        sizes = [len(image)]
        for change in [*inode.doomed, *inode.pending]:
            match change:
                case _Grow(size_bytes):
                    _stretch(image, size_bytes)
                    sizes.append(size_bytes)
                case _Write(offset, content):
                    sizes.append(offset + len(content))
                    self._spill(image, offset, content)
        size_bytes = max(sizes) if self.random.random() < 0.5 else self.random.choice(sizes)
        size_bytes = max(size_bytes, len(inode.durable))
        survivor.cached = image[:size_bytes].ljust(size_bytes, b"\0")
        survivor.durable = bytearray(survivor.cached)
        return survivor

    def _spill(self, image: bytearray, offset: int, content: bytes) -> None:
        """Decide the fate of one write, sector by sector."""
        random = self.random
        end = offset + len(content)
        _stretch(image, end)
        # Half of the writes have one fate for all their sectors. With a fate for each sector, few long records would
        # survive as a whole.
        shared = random.choice("kdzg") if random.random() < 0.5 else ""
        for start in range(offset - offset % SECTOR_BYTES, end, SECTOR_BYTES):
            low, high = max(start, offset), min(start + SECTOR_BYTES, end)
            wide_low, wide_high = (start, min(start + SECTOR_BYTES, len(image))) if self.torn_sectors else (low, high)
            match shared or random.choice("kkddzg"):
                case "k":
                    image[low:high] = content[low - offset : high - offset]
                case "z":
                    image[wide_low:wide_high] = bytes(wide_high - wide_low)
                case "g":
                    if random.random() < 0.5:
                        image[wide_low:wide_high] = random.randbytes(wide_high - wide_low)
                    else:
                        cut = random.randint(low, high)
                        image[low:cut] = content[low - offset : cut - offset]
                        image[cut:wide_high] = random.randbytes(wide_high - cut)

    def _rename(self, name: _Name) -> None:
        _bind(self._names, name, keeps_old=False)
        self._pending_names.append(name)


class LossyFile:
    """A `File` of a `LossyDisk`."""

    def __init__(self, disk: LossyDisk, path: str, inode: _Inode) -> None:
        self._disk = disk
        self._path = path
        self.inode = inode

    def write(self, offset: int, content: bytes) -> None:
        self._disk.tick()
        _stretch(self.inode.cached, offset + len(content))
        self.inode.cached[offset : offset + len(content)] = content
        self.inode.pending.append(_Write(offset, bytes(content)))

    def allocate(self, size_bytes: int) -> None:
        self._disk.tick()
        if size_bytes > len(self.inode.cached):
            _stretch(self.inode.cached, size_bytes)
            self.inode.pending.append(_Grow(size_bytes))

    def sync(self) -> None:
        inode = self.inode
        count = len(inode.pending)
        if self._disk.before_flush is not None and inode.durable and any(isinstance(c, _Write) for c in inode.pending):
            self._disk.before_flush(self._path)
        self._disk.tick()
        flushed, inode.pending = inode.pending[:count], inode.pending[count:]
        try:
            self._disk.maybe_fail()
        except OSError:
            inode.doomed += flushed
            raise
        for change in flushed:
            match change:
                case _Grow(size_bytes):
                    _stretch(inode.durable, size_bytes)
                case _Write(offset, content):
                    _stretch(inode.durable, offset + len(content))
                    inode.durable[offset : offset + len(content)] = content

    def read(self) -> bytes:
        return bytes(self.inode.cached)

    def close(self) -> None:
        pass


def _bind(names: dict[str, _Inode], name: _Name, *, keeps_old: bool) -> None:
    if name.inode is None:
        names.pop(name.path, None)
        return
    names[name.path] = name.inode
    if not keeps_old and names.get(name.gone) is name.inode:
        del names[name.gone]


def _stretch(content: bytearray, size_bytes: int) -> None:
    if len(content) < size_bytes:
        content.extend(bytes(size_bytes - len(content)))
