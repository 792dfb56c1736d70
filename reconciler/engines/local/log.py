"""The log of a run: two files of a bounded size, which the supervisor writes and any command reads.

A third file says how much of the beginning was removed. There is none as long as all of the log is kept.

The spawner imports this module, so it imports little.
"""

import os
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress

from reconciler.engines.local.files import remove, write_all

NEWER, OLDER, REMOVED = LOG_FILES = ("log", "log.1", "log.removed")
DEFAULT_BYTES = 64 << 20
"""How much of a log is kept, in bytes."""

_PIECE_BYTES = 1 << 16
_FOLLOW_EVERY_S = 0.2
_APPEND = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC


class LogWriter:
    """Writes what a command prints.

    A disk that is full costs lines of the log and does not stop the command. The log then says how much is missing.
    """

    def __init__(self, folder: int, limit_bytes: int) -> None:
        """`folder` is an open descriptor of the run's folder."""
        self._folder = folder
        self._half_bytes = max(1, limit_bytes // 2)
        self._descriptor = -1
        self._size_bytes = 0
        self._lost_bytes = 0

    def write(self, content: bytes) -> None:
        """Write one piece, and make room for it if the limit is reached."""
        for start in range(0, len(content), self._half_bytes):
            self._write(content[start : start + self._half_bytes])

    @property
    def lost_bytes(self) -> int:
        """How much could not be written of late, and is not noted in the log."""
        return self._lost_bytes

    def close(self) -> None:
        """Close the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _write(self, content: bytes) -> None:
        try:
            self._open()
            if self._size_bytes + len(content) > self._half_bytes:
                self._note_removal()
                os.rename(NEWER, OLDER, src_dir_fd=self._folder, dst_dir_fd=self._folder)
                self.close()
                self._open()
            if self._lost_bytes:
                note = f"\n[{self._lost_bytes} bytes of this log could not be written]\n".encode()
                write_all(self._descriptor, note)
                self._lost_bytes, self._size_bytes = 0, self._size_bytes + len(note)
            write_all(self._descriptor, content)
            self._size_bytes += len(content)
        except OSError:
            self._lost_bytes += len(content)

    def _note_removal(self) -> None:
        """Record that the older part is about to be removed, if there is one."""
        with suppress(FileNotFoundError):
            size_bytes = os.stat(OLDER, dir_fd=self._folder, follow_symlinks=False).st_size
            removed_bytes = _removed_bytes(self._folder) + size_bytes
            remove(self._folder, REMOVED)
            descriptor = os.open(REMOVED, _APPEND, 0o600, dir_fd=self._folder)
            try:
                write_all(descriptor, str(removed_bytes).encode())
            finally:
                os.close(descriptor)

    def _open(self) -> None:
        if self._descriptor < 0:
            self._descriptor = os.open(NEWER, _APPEND, 0o600, dir_fd=self._folder)
            self._size_bytes = os.fstat(self._descriptor).st_size


def read_log(
    folder: int, tail: int | None, goes_on: Callable[[], bool], wait: Callable[[float], object]
) -> Iterator[bytes]:
    """Yield the log in pieces, from the beginning of what is kept or from the last `tail` lines on.

    If the beginning of what is asked for was removed, a line says so first.
    As long as `goes_on` returns True, the pieces go on after `wait`, which waits for a number of seconds. `folder` is
    an open descriptor, and the caller closes it after the last piece. Raises `OSError`.
    """
    older, newer = _opened(folder, OLDER), _opened(folder, NEWER)
    removed_bytes = _removed_bytes(folder)
    note = f"[the first {removed_bytes} bytes of this log were removed: logBytes]\n".encode() if removed_bytes else b""
    try:
        if tail is not None:
            yield from _last_lines([each for each in (older, newer) if each >= 0], tail, note)
        elif older >= 0:
            if note:
                yield note
            yield from _pieces(older)
        while True:
            is_last = not goes_on()  # asked before the file is read: what comes before the end is read then
            if newer >= 0:
                yield from _pieces(newer)
            following = _following(folder, newer)
            if following >= 0:
                # The writer has opened another file, so the one before has got its last piece.
                if newer >= 0:
                    yield from _pieces(newer)
                    os.close(newer)
                newer = following
                continue
            if is_last:
                return
            wait(_FOLLOW_EVERY_S)
    finally:
        for each in (older, newer):
            if each >= 0:
                os.close(each)


def remove_log(folder: int) -> None:
    """Remove the files of a log."""
    for name in LOG_FILES:
        remove(folder, name)


def _following(folder: int, newer: int) -> int:
    """Return a descriptor of the file that the writer has begun after the open one; -1 if there is none."""
    found = _opened(folder, NEWER)
    if found < 0:
        return -1
    if newer >= 0 and os.path.sameopenfile(found, newer):
        os.close(found)
        return -1
    return found


def _opened(folder: int, name: str) -> int:
    try:
        return os.open(name, _READ, dir_fd=folder)
    except FileNotFoundError:
        return -1


def _pieces(descriptor: int) -> Iterator[bytes]:
    while piece := os.read(descriptor, _PIECE_BYTES):
        yield piece


def _removed_bytes(folder: int) -> int:
    """Return how much of the beginning of a log was removed. 0 if a power loss has damaged the file that says so."""
    descriptor = _opened(folder, REMOVED)
    if descriptor < 0:
        return 0
    try:
        return int(os.read(descriptor, 32))
    except ValueError:
        return 0
    finally:
        os.close(descriptor)


def _last_lines(descriptors: list[int], count: int, note: bytes) -> Iterator[bytes]:
    """Yield the last lines of several files, and leave each file at its end.

    `note` comes first if there are fewer lines.
    """
    kept: deque[bytes] = deque(maxlen=count)
    rest = b""
    for descriptor in descriptors:
        for piece in _pieces(descriptor):
            *lines, rest = (rest + piece).split(b"\n")
            kept.extend(line + b"\n" for line in lines)
    if rest:
        kept.append(rest)
    if len(kept) < count and note:
        yield note
    yield from kept
