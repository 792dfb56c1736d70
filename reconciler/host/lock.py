"""A lock that dies with its holder: `flock` on a file of its own. Never stolen by age or process id."""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

from reconciler.host.clocks import boot_s
from reconciler.model.errors import LockTaken, StateError

_POLL_S = 0.1


class Lock:
    """A lock that is held."""

    def __init__(self, descriptor: int, name: str, folder: int | None) -> None:
        found = os.fstat(descriptor)
        self._identity = found.st_dev, found.st_ino
        self._name, self._folder = name, folder

    def is_held(self) -> bool:
        """Whether the lock file is still the one that was locked.

        If someone removed or replaced the file, another command can take the lock on the new file.
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
    """Hold the lock file at `path`; `holder` (who, what, since) is shown to whoever finds it taken.

    Tries for `timeout_s` by `clock`, pausing with `wait`, which returns True to give up early. `folder` is an open
    descriptor of the folder that `path` stands in; without it the path is resolved each time. Raises `LockTaken`
    after the timeout, `StateError` where the file can't be made.
    """
    place = _Place(path, path if folder is None else os.path.basename(path), folder)
    descriptor = _acquire(place, timeout_s, wait, clock)
    lock = Lock(descriptor, place.name, folder)
    try:
        _sign(descriptor, holder)
        yield lock
    finally:
        # Removed while still held: whoever waits on this file then finds that it is no longer the one at `path`.
        # Another file at `path` is the lock of another command, and stays.
        with suppress(OSError):  # it stays, held by nobody, and serves the next
            if lock.is_held():
                os.unlink(place.name, dir_fd=folder)
        os.close(descriptor)


class _Place(NamedTuple):
    path: str
    name: str
    folder: int | None


def _sign(descriptor: int, holder: dict[str, str]) -> None:
    """Say in the lock file who holds it, where the disk lets us: the lock itself needs no byte of it."""
    import json

    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(holder).encode(), 0)
    except OSError:
        pass


def _acquire(place: _Place, timeout_s: float, wait: Callable[[float], bool], clock: Callable[[], float]) -> int:
    # Two tries at least: at the first it may be `holder_of` that looks at the file.
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
    """Who holds the lock file at `path`, for what and since when, "" for nobody; arguments are as in `locked`."""
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
        os.close(descriptor)  # which gives up the lock, too
    return ""


def _holder(descriptor: int) -> str:
    import json

    try:
        holder = json.loads(os.pread(descriptor, 4096, 0))
        return f"{holder['who']} has been running `{holder['what']}` since {holder['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another command holds it"
