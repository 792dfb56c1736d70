"""The few disk operations that a state needs, one system call each. A test can replace them by a failing disk."""

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Protocol

from reconciler.model.errors import StateError


class File(Protocol):
    """An open file. Writes go to a given offset."""

    def write(self, offset: int, content: bytes) -> None:
        """Write all of `content` at `offset`, in bytes. Raises `OSError`."""

    def allocate(self, size_bytes: int) -> None:
        """Allocate disk space, so that the file has at least `size_bytes`. New bytes are zero. Raises `OSError`."""

    def sync(self) -> None:
        """Return once everything that was written is on disk. Raises `OSError`; what is on disk is then unknown."""

    def read(self) -> bytes:
        """The whole content, even if the file has no name any more. Raises `OSError`."""

    def close(self) -> None:
        """Close the file, without a flush."""


class Disk(Protocol):
    """Files by path. A symbolic link as the last part of a path is refused."""

    def read(self, path: str) -> bytes | None:
        """The whole content of a file, None where there is no file."""

    def create(self, path: str, mode: int) -> File:
        """A new empty file with the permission bits `mode`. An older file of this name is removed first."""

    def rename(self, old: str, new: str) -> None:
        """Replace `new` by `old` in one step, and keep the owner of `new`. Durable after `sync_folder`."""

    def remove(self, path: str) -> None:
        """Remove an existing file. Durable after `sync_folder`."""

    def sync_folder(self, path: str) -> None:
        """Return once the names in the folder that contains `path` are on disk."""

    def mode(self, path: str) -> int | None:
        """The permission bits of a file, None where there is no file."""

    def hold(self, path: str) -> AbstractContextManager[int | None]:
        """Hold the folder that contains `path` open.

        Until the end of the block, every path in that folder means this folder, even if its name then leads elsewhere.
        Yields a descriptor of the folder, None for a disk without descriptors. Raises `OSError` where the folder can't
        be opened.
        """

    def stamp(self, path: str) -> object:
        """A value that changes when the file is written to or replaced, None where there is no file.

        The value may also change while the content stays the same. Compare two stamps with `==`.
        """

    def is_at(self, path: str, file: File) -> bool:
        """Whether `path` is a name of the open file."""


def replace(disk: Disk, path: str, content: bytes, mode: int, before_rename: Callable[[], None] = lambda: None) -> None:
    """Replace the file at `path` by `content`. After a crash, either the old or the new content is there, complete.

    `mode` is the permission bits of the new file. `before_rename` is called right before the new file replaces the old
    one. If it raises, the old file stays. Raises `OSError`.
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
        with suppress(OSError):  # The next command replaces a temporary file that stays.
            # Another command may have made a file of the same name. Only our own file may be removed.
            if disk.is_at(temporary, file):
                disk.remove(temporary)
        raise
    disk.sync_folder(path)


def is_mounted_alone(path: str) -> bool:
    """Whether the file at `path` is a mount point, as a container's volume may be. No other file can replace it then.

    Returns False where there is no file, and on systems other than Linux.
    """
    try:
        return _mount_of(path, os.O_NOFOLLOW) != _mount_of(os.path.dirname(path) or ".", 0)
    except OSError:
        return False


def _mount_of(path: str, flags: int) -> str:
    """The line of /proc/self/fdinfo with the id of the mount that contains `path` (proc(5)). Raises `OSError`."""
    descriptor = os.open(path, getattr(os, "O_PATH", os.O_RDONLY | os.O_NONBLOCK) | os.O_CLOEXEC | flags)
    try:
        with open(f"/proc/self/fdinfo/{descriptor}", encoding="ascii") as file:
            return next((line for line in file if line.startswith("mnt_id:")), "")
    finally:
        os.close(descriptor)


class OsDisk:
    """The disk of this machine."""

    def __init__(self) -> None:
        self._held: dict[str, list[int]] = {}
        """The open descriptors of held folders, by the folder's name. The last one of a folder is in use."""

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
        """Give `path` the owner and group of `replaced`, as far as the system allows it to this user."""
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
        """A name and the folder that it is relative to; None stands for the working directory."""
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
    """An open file on the disk of this machine."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        found = os.fstat(descriptor)
        self.identity = found.st_dev, found.st_ino
        """The device and inode. No other file has the same pair while this file is open."""

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
    # Without O_NONBLOCK, opening a named pipe would wait for a program that writes to the pipe.
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
