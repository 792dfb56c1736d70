"""The few things that state asks of a disk, one system call each, so that a test can stand in for a failing one."""

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Protocol

from reconciler.model.errors import StateError


class File(Protocol):
    """An open file that is written at given offsets."""

    def write(self, offset: int, content: bytes) -> None:
        """Write all of `content` at `offset`. Raises `OSError`."""

    def allocate(self, size_bytes: int) -> None:
        """Take disk space up to `size_bytes`; new bytes read as zero. Raises `OSError`."""

    def sync(self) -> None:
        """Return once all that was written is on disk. Raises `OSError`; it is then unknown what is."""

    def read(self) -> bytes:
        """The whole content, also of a file that has no name any more. Raises `OSError`."""

    def close(self) -> None:
        """Close without a flush."""


class Disk(Protocol):
    """Paths and their content. A symbolic link in a path's last place is refused, never followed."""

    def read(self, path: str) -> bytes | None:
        """The whole content, None where there is no such file."""

    def create(self, path: str, mode: int) -> File:
        """A new empty file; one of that name is removed first."""

    def rename(self, old: str, new: str) -> None:
        """Put `old` in the place of `new` in one step, as its owner's; durable once the folder is synced."""

    def remove(self, path: str) -> None:
        """Remove a file that is there; durable once the folder is synced."""

    def sync_folder(self, path: str) -> None:
        """Return once the names in the folder that holds `path` are on disk."""

    def mode(self, path: str) -> int | None:
        """The permission bits, None where there is no such file."""

    def hold(self, path: str) -> AbstractContextManager[int | None]:
        """Keep hold of the folder that `path` stands in.

        Until the end, each path in that folder means this folder, even if its name leads elsewhere by then.
        Yields a descriptor of the folder, None where the disk has none. Raises `OSError` where it can't be opened.
        """

    def stamp(self, path: str) -> object:
        """What changes when the file is written to, or another file takes its place; None where there is no file.

        The stamp may also change while the content stays the same. Two stamps are compared with `==`.
        """

    def is_at(self, path: str, file: File) -> bool:
        """Whether the open file is the one that stands at `path`."""


def replace(disk: Disk, path: str, content: bytes, mode: int, before_rename: Callable[[], None] = lambda: None) -> None:
    """Put `content` at `path` so that after a crash either the old or the new content is there, whole.

    `before_rename` is called right before the new file takes the old file's place. If it raises, the old file stays.
    """
    temporary = f"{path}.tmp"
    file = disk.create(temporary, mode)
    try:
        try:
            file.write(0, content)
            file.sync()
            before_rename()
        finally:
            file.close()
        disk.rename(temporary, path)
    except BaseException:
        with suppress(OSError):  # the disk is failing: what stays is removed by the next command
            # A command that lost its lock has no right to a file of this name that another command made.
            if disk.is_at(temporary, file):
                disk.remove(temporary)
        raise
    disk.sync_folder(path)


def is_mounted_alone(path: str) -> bool:
    """Whether a file is a mount of its own, as a container's volume may be: then no other can take its place.

    False where there is no such file, and where the system does not tell (only Linux does).
    """
    try:
        return _mount_of(path, os.O_NOFOLLOW) != _mount_of(os.path.dirname(path) or ".", 0)
    except OSError:
        return False


def _mount_of(path: str, flags: int) -> str:
    """The mount that a path lies on, as proc(5) numbers them. Raises `OSError`."""
    descriptor = os.open(path, getattr(os, "O_PATH", os.O_RDONLY | os.O_NONBLOCK) | os.O_CLOEXEC | flags)
    try:
        with open(f"/proc/self/fdinfo/{descriptor}", encoding="ascii") as file:
            return next((line for line in file if line.startswith("mnt_id:")), "")
    finally:
        os.close(descriptor)


class OsDisk:
    """The real disk."""

    def __init__(self) -> None:
        self._held: dict[str, list[int]] = {}
        """The descriptors of the folders that are held, by the folder's name; the last one counts."""

    @contextmanager
    def hold(self, path: str) -> Iterator[int | None]:
        folder = os.path.dirname(path)
        descriptor = os.open(folder or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        held = self._held.setdefault(folder, [])
        held.append(descriptor)
        try:
            yield descriptor
        finally:
            held.remove(descriptor)
            os.close(descriptor)

    def read(self, path: str) -> bytes | None:
        name, folder = self._at(path)
        try:
            with open(name, "rb", opener=lambda name, _: _open_to_read(name, folder)) as file:
                if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                    raise _irregular(path)
                return file.read()
        except FileNotFoundError:
            return None
        except IsADirectoryError as fault:
            raise _irregular(path) from fault
        except OSError as fault:
            raise _unusable(path, fault) from fault

    def create(self, path: str, mode: int) -> "OsFile":
        name, folder = self._at(path)
        try:
            os.unlink(name, dir_fd=folder)
        except FileNotFoundError:
            pass
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(name, flags, mode, dir_fd=folder)
        os.fchmod(descriptor, mode)
        return OsFile(descriptor)

    def rename(self, old: str, new: str) -> None:
        (old_name, old_folder), (new_name, new_folder) = self._at(old), self._at(new)
        self._keep_owner(old, new)
        os.rename(old_name, new_name, src_dir_fd=old_folder, dst_dir_fd=new_folder)

    def remove(self, path: str) -> None:
        name, folder = self._at(path)
        os.unlink(name, dir_fd=folder)

    def sync_folder(self, path: str) -> None:
        _, folder = self._at(path)
        if folder is not None:
            os.fsync(folder)
            return
        descriptor = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def mode(self, path: str) -> int | None:
        found = self._stat(path)
        return None if found is None else stat.S_IMODE(found.st_mode)

    def stamp(self, path: str) -> object:
        found = self._stat(path)
        if found is None:
            return None
        return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns

    def is_at(self, path: str, file: File) -> bool:
        found = self._stat(path)
        return isinstance(file, OsFile) and found is not None and (found.st_dev, found.st_ino) == file.identity

    def _keep_owner(self, path: str, replaced: str) -> None:
        """Give a file the owner of the one that it is to replace, as far as that is allowed: root may."""
        before, now = self._stat(replaced), self._stat(path)
        if before is None or now is None or (before.st_uid, before.st_gid) == (now.st_uid, now.st_gid):
            return
        name, folder = self._at(path)
        try:
            os.chown(name, before.st_uid, before.st_gid, dir_fd=folder, follow_symlinks=False)
        except OSError:
            with suppress(OSError):
                os.chown(name, -1, before.st_gid, dir_fd=folder, follow_symlinks=False)

    def _at(self, path: str) -> tuple[str, int | None]:
        """The name by which to reach a file, and the folder that it is relative to; None for the working directory."""
        folder, name = os.path.split(path)
        held = self._held.get(folder)
        return (name, held[-1]) if held else (path, None)

    def _stat(self, path: str) -> os.stat_result | None:
        name, folder = self._at(path)
        try:
            return os.stat(name, dir_fd=folder, follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            return None


class OsFile:
    """An open file on the real disk."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        found = os.fstat(descriptor)
        self.identity = found.st_dev, found.st_ino
        """What no other file has while this one is open."""

    def read(self) -> bytes:
        pieces: list[bytes] = []
        offset = 0
        while piece := os.pread(self._descriptor, 1 << 20, offset):
            pieces.append(piece)
            offset += len(piece)
        return b"".join(pieces)

    def write(self, offset: int, content: bytes) -> None:
        view = memoryview(content)
        while view:
            written = os.pwrite(self._descriptor, view, offset)
            view, offset = view[written:], offset + written

    def allocate(self, size_bytes: int) -> None:
        os.posix_fallocate(self._descriptor, 0, size_bytes)

    def sync(self) -> None:
        os.fdatasync(self._descriptor)

    def close(self) -> None:
        os.close(self._descriptor)


def _open_to_read(name: str, folder: int | None) -> int:
    # O_NONBLOCK, since to open a pipe would wait for whoever writes to it.
    return os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)


def _irregular(path: str) -> StateError:
    if os.path.isdir(path):
        return StateError(f"{path} is a folder", "name a file in it, or another place, with --state")
    return StateError(f"{path} is no regular file", "remove it, or name another place with --state")


def _unusable(path: str, fault: OSError) -> StateError:
    if os.path.islink(path):
        return StateError(
            f"{path} is a symbolic link", "replace it by the file itself, or name another place with --state"
        )
    return StateError(
        f"{path} can't be read: {fault.strerror}",
        "mend its permissions or the disk, or name another place with --state",
    )
