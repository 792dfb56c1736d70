"""State in a file beside the manifest, committed to git."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from itertools import count
from typing import NamedTuple

from reconciler.host.disk import Disk, OsDisk, is_mounted_alone, replace
from reconciler.host.lock import holder_of, locked
from reconciler.model.commands import command, settling
from reconciler.model.errors import LockTaken, Refused, StateError
from reconciler.model.history import ACCEPT, Origin
from reconciler.model.jobs import State, Target
from reconciler.state import codec, history
from reconciler.state.journal import Displaced, decode, journal_path
from reconciler.state.loading import load, mark_held, only_known_shapes, refuse_other_target, salvage
from reconciler.state.replay import LoadedState, merged
from reconciler.state.session import Scribe, Session


class Surroundings(NamedTuple):
    """What a file store takes from the world around it.

    `who` names the person and machine that hold the lock, `now` gives RFC 3339 time for people to read,
    `new_lineage` a fresh id; `wait` pauses for seconds and returns True where a stop was asked for.
    `origin` says who acts by a command, for the history; without it that is `who`.
    """

    disk: Disk
    marks_folder: str
    who: str
    now: Callable[[], str]
    new_lineage: Callable[[], str]
    wait: Callable[[float], bool]
    origin: Callable[[str], Origin] | None = None


_OWN_SUFFIXES = (".journal", ".journal.kept", ".lock", ".tmp", ".history.jsonl")


class FileStore:
    """A `Store` on the local disk."""

    _session: Callable[..., Session] = Session

    def __init__(self, path: str, around: Surroundings) -> None:
        """Raises `Refused` for a path that a state's own files may have."""
        _refuse_own_name(path)
        self._path = path
        self._around = around
        self._marks = HighWaterMarks(around.disk, around.marks_folder)

    @property
    def where(self) -> str:
        return self._path

    def read(self, target: Target) -> State | None:
        with self._looking() as folder:
            loaded = self._load(target)
            holder = self._at_work(folder) if loaded and loaded.in_flight else ""
            if loaded and loaded.in_flight and not holder:
                # The command may have ended meanwhile; then its calls were answered.
                loaded = self._load(target)
        if loaded is None:
            return None
        return _under_way(loaded, holder) if holder else loaded.state

    def _load(self, target: Target) -> LoadedState | None:
        self._refuse_shared_history()
        loaded = load(self._around.disk, self._path, target)
        kept = self._kept(loaded.state.lineage if loaded else "")
        if kept:
            raise StateError(
                f"{kept[0][0]} holds calls of a command whose lock or journal was taken away while it was at work",
                "look at the jobs that it names, and accept them into the state: `reconciler state accept`",
            )
        if loaded is not None:
            self._marks.refuse_older(loaded.state.lineage, loaded.serial_in_place, loaded.digest, self._path)
        return loaded

    @contextmanager
    def open(self, target: Target, what: str, timeout_s: float) -> Iterator[Session]:
        with self._locked(what, timeout_s) as is_locked:
            loaded = self._load(target)
            if loaded is not None and loaded.digest:
                # Written elsewhere and pulled, or here by a command that ended before it could note so.
                in_place = loaded.state._replace(serial=loaded.serial_in_place)
                self._marks.note_found(in_place, loaded.digest, self._path)
            scribe = Scribe(lambda: self._origin(what), self._around.now, self._around.new_lineage)
            disk, noted = self._around.disk, self._marks.note
            session = self._session(disk, self._path, loaded, lambda: self._fresh(target), noted, scribe, is_locked)
            try:
                session.refuse_displaced()
                yield session
            finally:
                try:
                    session.close()
                except Displaced as fault:
                    if session.is_stranded:
                        raise self._rescue(session, fault, what, is_locked) from fault
                    raise

    def accept(self, target: Target, timeout_s: float, *, has_moved: bool = False) -> tuple[State, list[str]]:
        with self._locked("state accept", timeout_s) as is_locked:
            refuse_displaced = self._witness(is_locked)
            trouble = ""
            try:
                loaded = self._load(target)
            except StateError as fault:
                loaded, trouble = None, fault.message
            if loaded is not None:
                self._drop_held("state accept", loaded)
                return loaded.state, []
            salvaged, remarks = salvage(
                self._around.disk, self._path, target, self._around.new_lineage(), has_moved=has_moved
            )
            kept = self._kept(salvaged.state.lineage)
            for name, disk in kept:
                salvaged = self._with_kept(salvaged, name, disk, remarks)
            remarks = remarks or [trouble]
            state = salvaged.state
            codec.refuse_ambiguous(state.jobs, f"{self._path}, with the journal beside it,")
            serial = max(state.serial, self._marks.serial_of(state.lineage)) + 1
            accepted = State(state.lineage, serial, target, state.jobs)
            content = codec.encode(accepted)
            digest = codec.stated_digest(content)
            unwritten = salvaged.unwritten
            self._take("state accept", accepted, content, digest, unwritten, remarks, refuse_displaced, was_sound=False)
            with self._writing("state accept"):
                for name, disk in kept:
                    disk.remove(name)
                    disk.sync_folder(name)
        return accepted, remarks

    def put(self, state: State, target: Target, timeout_s: float) -> bool:
        with self._locked("state push", timeout_s) as is_locked:
            refuse_displaced = self._witness(is_locked)
            refuse_other_target(state.target, target, "the state to push")
            loaded = self._load(target)
            if not _is_newer(state, loaded.state if loaded else None, self.where):
                if loaded is not None:
                    self._drop_held("state push", loaded)
                return False
            content = codec.encode(state)
            digest = codec.stated_digest(content)
            self._marks.refuse_older(state.lineage, state.serial, digest, "the state to push")
            remarks = [f"serial {state.serial} was pushed"]
            unwritten = loaded.unwritten if loaded else ()
            self._take("state push", state, content, digest, unwritten, remarks, refuse_displaced, was_sound=True)
        return True

    def _take(
        self,
        command: str,
        state: State,
        content: bytes,
        digest: str,
        unwritten: Sequence[history.HistoryLine],
        remarks: Sequence[str],
        refuse_displaced: Callable[[], None],
        *,
        was_sound: bool,
    ) -> None:
        """Put a state in place of the one there and of its journal; its lock is held.

        Raises `StateError`, and `Displaced` where the files there are no longer those that were read.
        """
        disk = self._around.disk
        with self._writing(command):
            refuse_displaced()
            # First, as an intent is: a state is not to be taken with nobody's name to it.
            self._tell_taken(command, unwritten, state, digest, remarks)
            mark_held(disk, self._path, state, digest, was_sound=was_sound)
            replace(disk, self._path, content, disk.mode(self._path) or 0o600, refuse_displaced)
            self._marks.note(state, digest)
            self._remove_journal()

    def _drop_held(self, command: str, loaded: LoadedState) -> None:
        """Remove a journal that says nothing which the file lacks: it was to go with the state before this one."""
        if loaded.entries is not None and not loaded.changed:
            with self._writing(command):
                self._tell(loaded.unwritten)
                self._remove_journal()

    def _remove_journal(self) -> None:
        disk, journal = self._around.disk, journal_path(self._path)
        if disk.mode(journal) is not None:
            disk.remove(journal)
            disk.sync_folder(self._path)

    @contextmanager
    def _writing(self, name: str) -> Iterator[None]:
        """Turn the failure of a write into a `StateError`."""
        try:
            yield
        except OSError as fault:
            words = command(name, "FILE") if name == "state push" else command(name)
            raise StateError(
                f"{self._path} could not be written: {fault.strerror}",
                f"make room or mend the disk, and again: {words}",
            ) from fault

    def _witness(self, is_locked: Callable[[], bool]) -> Callable[[], None]:
        """What raises `Displaced` once the state file is not the file that is there now, or the lock is lost."""
        disk, path = self._around.disk, self._path
        stamp = disk.stamp(path)

        def refuse_displaced() -> None:
            if not is_locked():
                raise Displaced(f"{path}.lock was removed or replaced while this command was at work")
            if disk.stamp(path) != stamp:
                raise Displaced(f"another file took the place of {path} while this command was at work")

        return refuse_displaced

    def _rescue(self, session: Session, fault: Displaced, what: str, is_locked: Callable[[], bool]) -> Displaced:
        """Bring what a session did to a file again, and return the error that says to which."""
        with suppress(OSError, StateError, LockTaken), ExitStack() as stack:
            if not is_locked():
                is_locked = stack.enter_context(self._locked(what, 0.0))
            session.restore(is_locked)
            return fault.changed(kept=f"what was done is in {self._path} all the same: plan again, and apply")
        kept = self._path_to_keep(session.state.lineage)
        for path, disk in kept:
            with suppress(OSError, StateError):
                session.keep(path, disk)
                return fault.changed(
                    kept=f"what was done is kept in {path}: look at it, and once no other command is at work take it "
                    "into the state: `reconciler state accept`"
                )
        return fault.changed(
            kept="what was done could not be recorded: look at each job that was called", doubtful=session.doubtful
        )

    def _path_to_keep(self, lineage: str) -> Iterator[tuple[str, Disk]]:
        """Free paths for a journal that is kept: beside the state; where that folder is gone, with the marks."""
        for path, disk in self._places_to_keep(lineage):
            with suppress(OSError):
                yield next((name, disk) for name in _numbered(path) if disk.mode(name) is None)

    def _places_to_keep(self, lineage: str) -> Iterator[tuple[str, Disk]]:
        yield f"{journal_path(self._path)}.kept", self._around.disk
        if self._around.marks_folder:
            yield self._marks.kept_path(lineage), OsDisk()

    def _refuse_shared_history(self) -> None:
        """Raise `Refused` where another state keeps its history in the same file: `prod` and `prod.state.json`."""
        stem = self._path.removesuffix(".state.json")
        other = stem if stem != self._path else f"{self._path}.state.json"
        content = None
        with suppress(StateError, Refused):  # a folder, such as that of the manifest
            content = self._around.disk.read(other)
        if content is not None and codec.stated_digest(content):
            raise Refused(
                f"{self._path} and {other} would share one history, {history.history_path(self._path)}",
                "name another place with --state",
            )

    def _kept(self, lineage: str) -> list[tuple[str, Disk]]:
        """The journals that were kept of sessions whose own journal was taken away."""
        found: list[tuple[str, Disk]] = []
        for path, disk in self._places_to_keep(lineage):
            with suppress(OSError):  # best effort, as all marks
                for name in _numbered(path):
                    if disk.mode(name) is None:
                        break
                    found.append((name, disk))
        return found

    def _with_kept(self, salvaged: LoadedState, path: str, disk: Disk, remarks: list[str]) -> LoadedState:
        """What was salvaged, with what a kept journal tells."""
        header, *entries = decode(disk.read(path) or b"", path)
        remarks.append(f"took {len(entries)} records of {path}")
        state = salvaged.state
        with only_known_shapes(self._path):
            if not state.serial and not state.jobs:
                state = state._replace(lineage=codec.text_from_json(header["lineage"]))
            found = merged(state, entries, remarks)
        return found._replace(unwritten=(*salvaged.unwritten, *found.unwritten))

    def read_history(self) -> history.StoredHistory:
        disk, path = self._around.disk, history.history_path(self._path)
        with self._looking():
            content = disk.read(path) or b""
            try:
                loaded = load(disk, self._path, None)
            except StateError as fault:
                return history.StoredHistory(path, content, trouble=fault.message)
        return history.StoredHistory(path, content, *((loaded.unwritten, loaded.state) if loaded else ()))

    def _tell_taken(
        self, command: str, unwritten: Sequence[history.HistoryLine], state: State, digest: str, remarks: Sequence[str]
    ) -> None:
        """Tell the history of what the journal still held, and of who takes the state as it stands."""
        line = {
            **history.origin_to_json(self._origin(command)),
            "op": f"accept-{digest[:16]}",
            "at": self._around.now(),
            "verb": ACCEPT,
            "outcome": "succeeded",
            "reason": "; ".join(remarks),
        }
        self._tell([*unwritten, *history.stamped([line], state.lineage, state.serial)])

    def _tell(self, lines: Sequence[history.HistoryLine]) -> None:
        """Append to the history what it lacks of these."""
        disk = self._around.disk
        history.append(disk, history.history_path(self._path), disk.mode(self._path) or 0o600, lines, again=True)

    def _origin(self, what: str) -> Origin:
        around = self._around
        return Origin(around.who, command=what) if around.origin is None else around.origin(what)

    @contextmanager
    def _locked(self, what: str, timeout_s: float) -> Iterator[Callable[[], bool]]:
        """Hold the state's folder, and the lock in it; yields what says whether the lock is still ours."""
        around, lock_path = self._around, f"{self._path}.lock"
        holder = {"who": around.who, "what": what, "since": around.now()}
        with ExitStack() as stack:
            try:
                folder = stack.enter_context(around.disk.hold(self._path))
            except OSError as fault:
                raise StateError(
                    f"the lock file {lock_path} can't be made: {fault.strerror}",
                    "state must lie in a folder that can be written to",
                ) from fault
            lock = stack.enter_context(locked(lock_path, holder, timeout_s, around.wait, folder))
            self._clear()
            if is_mounted_alone(self._path):
                raise StateError(
                    f"{self._path} is a mount of its own (a container's volume, as it seems), so it can't be replaced",
                    "mount the folder that it lies in, and not the file; or name another place with --state",
                )
            yield lock.is_held

    @contextmanager
    def _looking(self) -> Iterator[int | None]:
        """Hold the state's folder while several of its files are read, so that all are of one folder; yields that."""
        with ExitStack() as stack:
            folder = None
            with suppress(OSError):  # what can't be held may still be read, or is not there
                folder = stack.enter_context(self._around.disk.hold(self._path))
            yield folder

    def _at_work(self, folder: int | None) -> str:
        """Which command is at work on this state, and since when, "" where none is."""
        return holder_of(f"{self._path}.lock", folder)

    def _clear(self) -> None:
        """Remove what a command left that ended while it made a new file; nothing ever reads it.

        Raises `StateError` where something of that name can't be removed: no file could be replaced later.
        """
        disk = self._around.disk
        history_path = history.history_path(self._path)
        for path in (f"{self._path}.tmp", f"{journal_path(self._path)}.tmp", f"{history_path}.tmp"):
            try:
                if disk.mode(path) is not None:
                    disk.remove(path)
            except FileNotFoundError:
                continue
            except OSError as fault:
                raise StateError(
                    f"{path} is in the way of new files and can't be removed: {fault.strerror}",
                    "remove it, or name another place with --state",
                ) from fault

    def _fresh(self, target: Target) -> State:
        return State(self._around.new_lineage(), 0, target, {})


def _is_newer(state: State, recorded: State | None, where: str) -> bool:
    """Whether a state may take the place of the one that is recorded; False where it is the same.

    Raises `Refused` where it is not newer, of another lineage, or would drop a call in doubt.
    """
    if recorded is None or state == recorded:
        return recorded is None
    look = f"look at both: {command('state pull', options=['--out', 'FILE'])} writes the one that is there to a file"
    if state.lineage != recorded.lineage:
        raise Refused(f"{where} is of lineage {recorded.lineage}, and the state to push of {state.lineage}", look)
    if state.serial <= recorded.serial:
        raise Refused(
            f"{where} is at serial {recorded.serial}, and the state to push at {state.serial}: not newer", look
        )
    for name, record in recorded.jobs.items():
        pushed = state.jobs.get(name)
        if record.doubt is not None and (pushed is None or pushed.doubt != record.doubt):
            raise Refused(
                f"{where} has a call in doubt of {name}, which the state to push lacks",
                f"settle it first: {command('apply')}, or {settling(name)}",
            )
    return True


def _refuse_own_name(path: str) -> None:
    found = next((suffix for suffix in _OWN_SUFFIXES if path.endswith(suffix)), "")
    if found:
        raise Refused(
            f"{path}: a state can't have a name that ends in {found}, as files beside a state do",
            "name another place with --state",
        )


def _numbered(path: str) -> Iterator[str]:
    """The path, and the path with a number at its end, from 2 on."""
    yield path
    yield from (f"{path}-{number}" for number in count(2))


def _under_way(loaded: LoadedState, holder: str) -> State:
    """The state, with the command that is at work named in each doubt that is about a call of its own."""
    jobs = dict(loaded.state.jobs)
    for name in loaded.in_flight:
        record = jobs[name]
        if record.doubt is not None:
            jobs[name] = record._replace(doubt=record.doubt._replace(holder=holder))
    return loaded.state._replace(jobs=jobs)


class HighWaterMarks:
    """The newest serial seen of each lineage, kept outside the checkout, so that a rolled-back state shows.

    Best effort: a folder that can't be written, or that there is none ("" for its path), is no reason to stop,
    since the engine is asked too.
    """

    def __init__(self, disk: Disk, folder: str) -> None:
        self._disk = disk
        self._folder = folder

    def note(self, state: State, digest: str) -> None:
        """Remember that this state was written, unless one as new is remembered."""
        if not self._folder or state.serial <= self.serial_of(state.lineage):
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
                f"and take it: {command('state accept')}",
            )

    def kept_path(self, lineage: str) -> str:
        """Where a journal of this lineage is kept whose own folder is gone."""
        return f"{self._path(lineage)}.journal.kept"

    def _read(self, lineage: str) -> tuple[int, str]:
        if not self._folder:
            return 0, ""
        try:
            serial, digest = (self._disk.read(self._path(lineage)) or b"").decode().split()
            return int(serial), digest
        except (StateError, OSError, ValueError):
            return 0, ""

    def _path(self, lineage: str) -> str:
        return os.path.join(self._folder, codec.digest_of(lineage.encode())[:32])
