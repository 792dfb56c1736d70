"""A lock that ends with the program that holds it: `flock` on a separate lock file.

The age of a lock and the process id of its holder never decide whether a lock is taken over.
"""

import fcntl
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

from reconciler.host.clocks import boot_s
from reconciler.model.errors import LockTaken, StateError

_POLL_S = 0.1


class Lock:
    """A lock that this program holds."""

    def __init__(self, descriptor: int, name: str, folder: int | None) -> None:
        found = os.fstat(descriptor)
        self._identity = found.st_dev, found.st_ino
        self._name, self._folder = name, folder

    def is_held(self) -> bool:
        """Whether the lock file at the path is still the file that was locked.

        If the file was removed or replaced, another program can lock the new file.
        """
        try:
            there = os.stat(self._name, dir_fd=self._folder, follow_symlinks=False)
        except OSError:
            return False
        return (there.st_dev, there.st_ino) == self._identity


@contextmanager
def locked(
    path: str,
    holder: dict[str, str],
    timeout_s: float,
    wait: Callable[[float], bool],
    folder: int | None = None,
    clock: Callable[[], float] = boot_s,
) -> Iterator[Lock]:
    """Hold a lock on the file at `path` for the length of the block.

    `holder` (who, what, since) is shown to other programs that find the lock taken. This function tries for `timeout_s`
    by `clock`. Between tries it calls `wait`, which pauses for a number of seconds and returns True to give up.
    `folder` is an open descriptor of the folder that contains `path`; without it, the path is resolved at each try.
    Raises `LockTaken` where another program holds the lock for the whole time, and `StateError` where the file can't be
    made or locked.
    """
    place = _Place(path, path if folder is None else os.path.basename(path), folder)
    descriptor = _acquire(place, timeout_s, wait, clock)
    lock = Lock(descriptor, place.name, folder)
    try:
        _write_holder(descriptor, holder)
        yield lock
    finally:
        # The file is removed while it is locked. A program that waits for the file then finds that it is gone.
        # Another file at `path` belongs to another program, and stays.
        with suppress(OSError):  # A file that stays is not locked, and the next program uses it.
            if lock.is_held():
                os.unlink(place.name, dir_fd=folder)
        os.close(descriptor)


class _Place(NamedTuple):
    """The lock file: its path for messages, and its name relative to the open folder, if there is one."""

    path: str
    name: str
    folder: int | None


def _write_holder(descriptor: int, holder: dict[str, str]) -> None:
    """Write the holder to the lock file. The lock itself does not need the content, so a full disk is no error."""
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(holder).encode(), 0)
    except OSError:
        pass


def _acquire(place: _Place, timeout_s: float, wait: Callable[[float], bool], clock: Callable[[], float]) -> int:
    # At least two tries: `holder_of` takes the lock for a moment, in a command that only asks who holds the lock.
    until_s = clock() + max(timeout_s, _POLL_S)
    while True:
        descriptor = _open(place)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _holder(descriptor)
            os.close(descriptor)
            if clock() >= until_s or wait(_POLL_S):
                raise LockTaken(
                    f"the state is locked: {holder} ({place.path})",
                    "wait for that command to end and try again, or give --lock-timeout SECONDS",
                ) from None
            continue
        except OSError as fault:
            os.close(descriptor)
            raise StateError(
                f"{place.path} can't be locked: {fault.strerror}", "state must lie on a disk that has locks (flock)"
            ) from fault
        if Lock(descriptor, place.name, place.folder).is_held():
            return descriptor
        os.close(descriptor)


def _open(place: _Place) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.open(place.name, flags, 0o600, dir_fd=place.folder)
    except OSError as fault:
        reason = "it is a symbolic link" if os.path.islink(place.path) else fault.strerror
        raise StateError(
            f"the lock file {place.path} can't be made: {reason}", "state must lie in a folder that can be written to"
        ) from fault


def holder_of(path: str, folder: int | None = None) -> str:
    """The holder of the lock on the file at `path`, in words; "" where no program holds it.

    `folder` is as in `locked`.
    """
    place = _Place(path, path if folder is None else os.path.basename(path), folder)
    try:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(place.name, flags, dir_fd=place.folder)
    except OSError:
        return ""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _holder(descriptor)
    except OSError:
        return ""
    finally:
        os.close(descriptor)  # This also releases the lock.
    return ""


def _holder(descriptor: int) -> str:
    try:
        holder = json.loads(os.pread(descriptor, 4096, 0))
        return f"{holder['who']} has been running `{holder['what']}` since {holder['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another command holds it"
