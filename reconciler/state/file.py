"""State in a file beside the manifest, committed to git."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from reconciler.errors import StateError
from reconciler.jobs import State, Target
from reconciler.memory import FORGETFUL, Memory
from reconciler.state import codec
from reconciler.state.disk import Disk, replace
from reconciler.state.lock import locked
from reconciler.state.session import Session, journal_path, load, salvage


class Surroundings(NamedTuple):
    """What a file store takes from the world around it.

    `who` names the person and machine, `now` gives RFC 3339 time for people to read, `new_lineage` a
    fresh id; `wait` pauses for seconds and returns True where a stop was asked for.
    """

    disk: Disk
    marks_folder: str
    who: str
    now: Callable[[], str]
    new_lineage: Callable[[], str]
    wait: Callable[[float], bool]
    memory: Memory = FORGETFUL


class FileStore:
    """A `Store` on the local disk."""

    def __init__(self, path: str, around: Surroundings) -> None:
        self._path = path
        self._around = around
        self._marks = HighWaterMarks(around.disk, around.marks_folder)

    @property
    def where(self) -> str:
        return self._path

    def read(self, target: Target) -> State | None:
        loaded = load(self._around.disk, self._path, target, self._around.memory)
        if loaded is None:
            return None
        self._marks.refuse_older(loaded.state.lineage, loaded.state.serial - loaded.changed, loaded.digest, self._path)
        return loaded.state

    @contextmanager
    def open(self, target: Target, what: str, timeout_s: float) -> Iterator[Session]:
        with self._locked(what, timeout_s):
            self.read(target)
            loaded = load(self._around.disk, self._path, target, self._around.memory)
            if loaded is not None and loaded.digest:
                # Written elsewhere and pulled, or here by a command that ended before it could note so.
                in_place = loaded.state._replace(serial=loaded.state.serial - loaded.changed)
                self._marks.note_found(in_place, loaded.digest, self._path)
            session = Session(self._around.disk, self._path, loaded, lambda: self._fresh(target), self._marks.note)
            try:
                yield session
            finally:
                session.close()

    def accept(self, target: Target, timeout_s: float) -> tuple[State, list[str]]:
        disk = self._around.disk
        with self._locked("state accept", timeout_s):
            sound = self._if_sound(target)
            if sound is not None:
                return sound, []
            state, remarks = salvage(disk, self._path, target, self._around.new_lineage())
            serial = max(state.serial, self._marks.serial_of(state.lineage)) + 1
            accepted = State(state.lineage, serial, target, state.jobs)
            content = codec.encode(accepted)
            try:
                replace(disk, self._path, content, disk.mode(self._path) or 0o600)
                self._marks.note(accepted, codec.stated_digest(content))
                if disk.mode(journal_path(self._path)) is not None:
                    disk.remove(journal_path(self._path))
                    disk.sync_folder(self._path)
            except OSError as fault:
                raise StateError(
                    f"{self._path} could not be written: {fault.strerror}",
                    "make room or mend the disk, and again: reconciler state accept",
                ) from fault
        return accepted, remarks

    def _if_sound(self, target: Target) -> State | None:
        try:
            return self.read(target)
        except StateError:
            return None

    @contextmanager
    def _locked(self, what: str, timeout_s: float) -> Iterator[None]:
        around = self._around
        holder = {"who": around.who, "what": what, "since": around.now()}
        with locked(f"{self._path}.lock", holder, timeout_s, around.wait):
            yield

    def _fresh(self, target: Target) -> State:
        return State(self._around.new_lineage(), 0, target, {})


class HighWaterMarks:
    """The newest serial seen of each lineage, kept outside the checkout, so that a rolled-back state shows.

    Best effort: a folder that can't be written is no reason to stop, since the engine is asked too.
    """

    def __init__(self, disk: Disk, folder: str) -> None:
        self._disk = disk
        self._folder = folder

    def note(self, state: State, digest: str) -> None:
        """Remember that this state was written, unless one as new is remembered."""
        if state.serial <= self.serial_of(state.lineage):
            return
        try:
            os.makedirs(self._folder, mode=0o700, exist_ok=True)
            replace(self._disk, self._path(state.lineage), f"{state.serial} {digest}\n".encode(), 0o600)
        except OSError:
            pass

    def note_found(self, state: State, digest: str, path: str) -> None:
        """Remember a state that was found, once its name is on disk: the rename of a failed write may yet be lost."""
        if state.serial > self.serial_of(state.lineage):
            try:
                self._disk.sync_folder(path)
            except OSError:
                return
            self.note(state, digest)

    def serial_of(self, lineage: str) -> int:
        """The newest serial seen, 0 where none was."""
        return self._read(lineage)[0]

    def refuse_older(self, lineage: str, serial: int, digest: str, path: str) -> None:
        """Raise `StateError` for a state that is older than one seen here, or another one of the same serial."""
        newest, newest_digest = self._read(lineage)
        if serial < newest or (serial == newest and digest != newest_digest):
            was = "rolled back" if serial < newest else "replaced by another one of the same serial"
            raise StateError(
                f"{path} was {was}: it is at serial {serial}, and serial {newest} was written from this machine before",
                "bring the newer one back (git pull, git checkout); if the older one is meant, look it through "
                "and take it: reconciler state accept",
            )

    def _read(self, lineage: str) -> tuple[int, str]:
        try:
            serial, digest = (self._disk.read(self._path(lineage)) or b"").decode().split()
            return int(serial), digest
        except (StateError, OSError, ValueError):
            return 0, ""

    def _path(self, lineage: str) -> str:
        return os.path.join(self._folder, codec.digest_of(lineage.encode())[:32])
