"""A lock that dies with its holder: `flock` on a file of its own. Never stolen by age or process id."""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from reconciler.errors import LockTaken, StateError

_POLL_S = 0.1


@contextmanager
def locked(path: str, holder: dict[str, str], timeout_s: float, wait: Callable[[float], bool]) -> Iterator[None]:
    """Hold the lock file at `path`; `holder` (who, what, since) is shown to whoever finds it taken.

    Tries for `timeout_s`, pausing with `wait`, which returns True to give up early. Raises `LockTaken`
    after that, `StateError` where the file can't be made.
    """
    descriptor = _acquire(path, timeout_s, wait)
    try:
        _sign(descriptor, holder)
        yield
    finally:
        # Removed while still held: whoever waits on this file then finds that it is no longer the one at `path`.
        try:
            os.unlink(path)
        except OSError:  # it stays, held by nobody, and serves the next
            pass
        os.close(descriptor)


def _sign(descriptor: int, holder: dict[str, str]) -> None:
    """Say in the lock file who holds it, where the disk lets us: the lock itself needs no byte of it."""
    import json

    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(holder).encode(), 0)
    except OSError:
        pass


def _acquire(path: str, timeout_s: float, wait: Callable[[float], bool]) -> int:
    waited_s = 0.0
    while True:
        descriptor = _open(path)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _holder(descriptor)
            os.close(descriptor)
            if waited_s >= timeout_s or wait(_POLL_S):
                raise LockTaken(
                    f"the state is locked: {holder} ({path})",
                    "wait for it to end and try again, or give --lock-timeout SECONDS",
                ) from None
            waited_s += _POLL_S
            continue
        except OSError as fault:
            os.close(descriptor)
            raise StateError(
                f"{path} can't be locked: {fault.strerror}", "state must lie on a disk that has locks (flock)"
            ) from fault
        if _is_at(path, descriptor):
            return descriptor
        os.close(descriptor)


def _open(path: str) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as fault:
        reason = "it is a symbolic link" if os.path.islink(path) else fault.strerror
        raise StateError(
            f"the lock file {path} can't be made: {reason}", "state must lie in a folder that can be written to"
        ) from fault


def _is_at(path: str, descriptor: int) -> bool:
    try:
        there = os.lstat(path)
    except FileNotFoundError:
        return False
    held = os.fstat(descriptor)
    return (there.st_dev, there.st_ino) == (held.st_dev, held.st_ino)


def _holder(descriptor: int) -> str:
    import json

    try:
        holder = json.loads(os.pread(descriptor, 4096, 0))
        return f"{holder['who']} has been running `{holder['what']}` since {holder['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another command holds it"
