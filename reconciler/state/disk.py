"""The few things that state asks of a disk, one system call each, so that a test can stand in for a failing one."""

import os
import stat
from contextlib import suppress
from typing import Protocol

from reconciler.errors import StateError


class File(Protocol):
    """An open file that is written at given offsets."""

    def write(self, offset: int, content: bytes) -> None:
        """Write all of `content` at `offset`. Raises `OSError`."""

    def allocate(self, size_bytes: int) -> None:
        """Take disk space up to `size_bytes`; new bytes read as zero. Raises `OSError`."""

    def sync(self) -> None:
        """Return once all that was written is on disk. Raises `OSError`; it is then unknown what is."""

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


def replace(disk: Disk, path: str, content: bytes, mode: int) -> None:
    """Put `content` at `path` so that after a crash either the old or the new content is there, whole."""
    temporary = f"{path}.tmp"
    file = disk.create(temporary, mode)
    try:
        try:
            file.write(0, content)
            file.sync()
        finally:
            file.close()
        disk.rename(temporary, path)
    except OSError:
        with suppress(OSError):  # the disk is failing: what stays is removed by the next command
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

    def read(self, path: str) -> bytes | None:
        try:
            with open(path, "rb", opener=_open_to_read) as file:
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
        try:
            os.unlink(path)
        except FileNotFoundError:
            pass
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
        os.fchmod(descriptor, mode)
        return OsFile(descriptor)

    def rename(self, old: str, new: str) -> None:
        _keep_owner(old, new)
        os.rename(old, new)

    def remove(self, path: str) -> None:
        os.unlink(path)

    def sync_folder(self, path: str) -> None:
        descriptor = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def mode(self, path: str) -> int | None:
        try:
            return stat.S_IMODE(os.lstat(path).st_mode)
        except FileNotFoundError:
            return None


class OsFile:
    """An open file on the real disk."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

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


def _keep_owner(path: str, replaced: str) -> None:
    """Give a file the owner of the one that it is to replace, as far as that is allowed: root may."""
    try:
        before, now = os.lstat(replaced), os.lstat(path)
    except FileNotFoundError:
        return
    if (before.st_uid, before.st_gid) != (now.st_uid, now.st_gid):
        try:
            os.chown(path, before.st_uid, before.st_gid, follow_symlinks=False)
        except OSError:
            with suppress(OSError):
                os.chown(path, -1, before.st_gid, follow_symlinks=False)


def _open_to_read(path: str, _flags: int) -> int:
    # O_NONBLOCK, since to open a pipe would wait for whoever writes to it.
    return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)


def _irregular(path: str) -> StateError:
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
