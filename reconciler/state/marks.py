"""High-water marks: the newest serial of each lineage that this machine has seen, to notice a state that went back."""

import os
from collections.abc import Callable
from typing import NamedTuple

from reconciler.host.disk import Disk, replace
from reconciler.model.errors import StateError
from reconciler.model.jobs import State
from reconciler.state import codec
from reconciler.state.rollback import RolledBack


class _Mark(NamedTuple):
    """The newest serial of a lineage, 0 if none is remembered; the digest of that state, and where it was written."""

    serial: int = 0
    digest: str = ""
    place: str = ""


class HighWaterMarks:
    """The newest serial of each lineage, kept in a folder outside of any checkout.

    The marks are best effort. A folder that can't be written is ignored, because the engine is asked too. An empty
    folder name means that no marks are kept. `place` is the absolute path of the state, or "" for a state that is no
    file. It is kept with a mark, because a copy of a folder has the lineage of the original.
    """

    def __init__(self, disk: Disk, folder: str, place: str = "") -> None:
        self._disk = disk
        self._folder = folder
        self._place = place

    def note(self, state: State, digest: str) -> None:
        """Remember that this state was written, with the digest of its file, unless a newer serial is remembered."""
        if not self._folder or state.serial <= self.serial_of(state.lineage):
            return
        try:
            os.makedirs(self._folder, mode=0o700, exist_ok=True)
            content = f"{state.serial} {digest}\n".encode() + os.fsencode(self._place)
            replace(self._disk, self._path(state.lineage), content, 0o600)
        except OSError:
            pass

    def note_found(self, state: State, digest: str, sync: Callable[[], None]) -> None:
        """Remember a state that was found, after `sync` has put the name of its file on disk.

        The file may have been put in place by a write that failed, and a loss of power would bring the older file
        back. If `sync` raises `OSError`, nothing is remembered.
        """
        if state.serial > self.serial_of(state.lineage):
            try:
                sync()
            except OSError:
                return
            self.note(state, digest)

    def serial_of(self, lineage: str) -> int:
        """The newest serial of a lineage, 0 if none is remembered."""
        return self._read(lineage).serial

    def refuse_older(self, lineage: str, serial: int, digest: str, path: str, file: str = "") -> None:
        """Raise `RolledBack` for a state older than the newest one, or for another state of the same serial.

        `path` is what messages call the state, and `file` its path if it is a file.
        """
        newest = self._read(lineage)
        if serial < newest.serial or (serial == newest.serial and digest != newest.digest):
            was = "rolled back" if serial < newest.serial else "replaced by another one of the same serial"
            is_elsewhere = newest.place not in ("", self._place) and os.path.exists(newest.place)
            copy = newest.place if is_elsewhere else ""
            message = f"it is at serial {serial}, and serial {newest.serial} was written from this machine before"
            raise RolledBack(f"{path} was {was}: {message}{f', to {copy}' if copy else ''}", file, copy)

    def kept_path(self, lineage: str) -> str:
        """The path for a journal of this lineage whose own folder is gone; "" if there is no folder of marks."""
        return f"{self._path(lineage)}.journal.kept" if self._folder else ""

    def _read(self, lineage: str) -> _Mark:
        if not self._folder:
            return _Mark()
        try:
            head, _, place = (self._disk.read(self._path(lineage)) or b"").partition(b"\n")
            serial, digest = head.decode().split()
            return _Mark(int(serial), digest, os.fsdecode(place))
        except (StateError, OSError, ValueError):
            return _Mark()

    def _path(self, lineage: str) -> str:
        return os.path.join(self._folder, codec.digest_of(lineage.encode())[:32])
