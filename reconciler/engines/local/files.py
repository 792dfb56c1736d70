"""JSON files that are there as a whole or not at all, and locks whose holder the kernel names.

The spawner imports this module, so it imports little.
"""

import fcntl
import json
import os
import struct
import sys
from collections.abc import Mapping
from typing import Any, NamedTuple

# struct flock of <fcntl.h>: on Linux (type, whence, start, len, pid), on macOS (start, len, pid, type, whence).
_IS_LINUX = sys.platform.startswith("linux")
_GET_PATH: int = getattr(fcntl, "F_GETPATH", -1)  # macOS alone has it
_FLOCK = "hhqqi4x" if _IS_LINUX else "qqihh"

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
"""The flags to open a folder with."""


SCRIPT = "script"
"""The file of a run with a script whose first line names its program."""


class Holder(NamedTuple):
    """Who holds a lock. `pid` is 0 if the process is not visible from here, as in another container."""

    is_alive: bool
    pid: int = 0


class Damaged(ValueError):
    """A file does not hold what this engine has written."""


def path_of(folder: int) -> str:
    """Return the path of an open folder as it is called now; "" if the kernel does not tell."""
    try:
        if _IS_LINUX:
            return os.readlink(f"/proc/self/fd/{folder}")
        return fcntl.fcntl(folder, _GET_PATH, bytes(1024)).rstrip(b"\0").decode()
    except (OSError, ValueError):
        return ""


def put(folder: int, name: str, value: Mapping[str, Any], *, replaces: bool = True) -> None:
    """Write a JSON file. It is on disk as a whole once this returns.

    A file of that name is replaced; without `replaces` it stays as it is. `folder` is an open descriptor. Raises
    `OSError`; the file may be there or not after that.
    """
    temporary = f".{name}.{os.urandom(6).hex()}"
    is_renamed = False
    try:
        write_flushed(folder, temporary, json.dumps(value).encode())
        if replaces:
            os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
            is_renamed = True
        else:
            os.link(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
    except FileExistsError:
        pass
    finally:
        if not is_renamed:
            remove(folder, temporary)
    os.fsync(folder)


def write_flushed(folder: int, name: str, content: bytes) -> None:
    """Write a new file and flush it. Its name is not flushed. Raises `OSError`."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(name, flags, 0o600, dir_fd=folder)
    try:
        write_all(descriptor, content)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_all(descriptor: int, content: bytes) -> None:
    """Write all of `content` where the file stands. Raises `OSError`."""
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]


def get(folder: int, name: str) -> dict[str, Any] | None:
    """Return what a JSON file holds, None where there is no file. Raises `OSError` and `Damaged`."""
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    except FileNotFoundError:
        return None
    with open(descriptor, "rb", buffering=0) as file:
        content = file.readall()
    try:
        value = json.loads(content)
    except ValueError as fault:
        raise Damaged(f"{name} is damaged: {fault}") from fault
    if not isinstance(value, dict):
        raise Damaged(f"{name} is damaged: it holds no JSON object")
    return value


def exists(folder: int, name: str) -> bool:
    """Return whether there is a file of this name."""
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def remove(folder: int, name: str) -> None:
    """Remove a file, if it is there and can be removed."""
    try:
        os.unlink(name, dir_fd=folder)
    except OSError:
        pass


def is_at(path: str, folder: int) -> bool:
    """Return whether `path` still leads to an open folder, which may have been moved or removed."""
    try:
        there, held = os.stat(path), os.fstat(folder)
    except OSError:
        return False
    return (there.st_dev, there.st_ino) == (held.st_dev, held.st_ino)


def lock(descriptor: int, at: int = 0) -> bool:
    """Lock byte `at` of an open file for this process. Return False if another process holds it.

    The kernel takes the lock back once this process closes any descriptor of the file. A fork does not have it.
    """
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, at)
    except (BlockingIOError, PermissionError):
        return False
    return True


def holder(folder: int, name: str, at: int = 0) -> Holder:
    """Return who holds the lock on byte `at` of a file. Nobody does if there is no file.

    Never call this in the process that holds the lock: the lock would be lost.
    """
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    except FileNotFoundError:
        return Holder(is_alive=False)
    try:
        return holder_of(descriptor, at)
    finally:
        os.close(descriptor)


def holder_of(descriptor: int, at: int = 0) -> Holder:
    """Return who holds the lock on byte `at` of an open file."""
    asked = (fcntl.F_WRLCK, os.SEEK_SET, at, 1, 0) if _IS_LINUX else (at, 1, 0, fcntl.F_WRLCK, os.SEEK_SET)
    answer = struct.unpack(_FLOCK, fcntl.fcntl(descriptor, fcntl.F_GETLK, struct.pack(_FLOCK, *asked)))
    kind, pid = (answer[0], answer[4]) if _IS_LINUX else (answer[3], answer[2])
    return Holder(is_alive=False) if kind == fcntl.F_UNLCK else Holder(is_alive=True, pid=max(0, pid))
