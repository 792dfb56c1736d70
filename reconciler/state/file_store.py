"""State in files on a disk: a file beside the manifest, or the copy of a remote in memory."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from typing import NamedTuple

from reconciler.host.disk import replace
from reconciler.model.commands import command
from reconciler.model.errors import Refused, StateError
from reconciler.model.history import ACCEPT, HistoryEntry, Origin
from reconciler.model.jobs import State, Target
from reconciler.state import codec, history
from reconciler.state.file_lock import FileContext, FileLock, StateLock
from reconciler.state.gate import Gate, LocalGate
from reconciler.state.journal import Displaced
from reconciler.state.kept import KeptJournals
from reconciler.state.loading import load, mark_held, refuse_other_target, salvage
from reconciler.state.marks import HighWaterMarks
from reconciler.state.paths import OWN_SUFFIXES, paths_of, states_with
from reconciler.state.port import NoRevisions, Unreachable
from reconciler.state.replay import LoadedState
from reconciler.state.rollback import (
    RolledBack,
    Unknown,
    brought_up,
    gap_of,
    lineage_remarks,
    refuse_older_than_history,
    unknown_to,
    unknown_to_new,
)
from reconciler.state.session import Scribe, Session
from reconciler.state.state_files import Opened
from reconciler.state.successors import is_newer
from reconciler.state.writer import Writer


class _Taken(NamedTuple):
    """A state that takes the place of the recorded one, and the reason.

    `unwritten` are the lines of the old journal that the history lacks. `remarks` are the reason in words. `was_sound`
    says whether the old journal could be read.
    """

    command: str
    state: State
    unwritten: Sequence[history.HistoryLine]
    remarks: Sequence[str]
    was_sound: bool


class FileStore:
    """A `Store` of files: the state file, and the journal and the history beside it."""

    def __init__(
        self,
        path: str,
        context: FileContext,
        *,
        lock: StateLock | None = None,
        marks: HighWaterMarks | None = None,
        note: Callable[[State, str], None] | None = None,
        gate: Callable[[Writer], Gate] | None = None,
        revisions: Callable[[str], history.StoredHistory] | None = None,
    ) -> None:
        """`path` is the path of the state file on the disk of the `context`.

        The defaults are those of a local disk. `note` is called with each state that is written and with the digest of
        its file. `gate` makes the gate of a session from the session's writer. `revisions` answers `at`. Raises
        `Refused` for a path that one of the files beside a state would have.
        """
        _refuse_own_name(path)
        self._path = path
        self._context = context
        self._disk = context.disk
        self._lock = lock or FileLock(path, context)
        self._marks = marks or HighWaterMarks(context.disk, context.marks_folder, os.path.abspath(path))
        self._note = note or self._marks.note
        self._gate = gate or (lambda writer: LocalGate(writer.verify))
        self._revisions = revisions
        self._kept = KeptJournals(path, context.disk, self._marks)
        self._has_warned = False

    @property
    def where(self) -> str:
        """The path of the state file."""
        return self._path

    def read(self, target: Target) -> State | None:
        """See `Store.read`."""
        with self._holding_folder() as folder:
            loaded = self._load(target)
            holder = self._lock.holder(folder) if loaded and loaded.in_flight else ""
            if loaded and loaded.in_flight and not holder:
                # The command may have ended after the files were read. Then the results of its calls are on record.
                loaded = self._load(target)
        if loaded is None:
            return None
        return _under_way(loaded, holder) if holder else loaded.state

    @contextmanager
    def open(self, target: Target, what: str, timeout_s: float) -> Iterator[Session]:
        """See `Store.open`."""
        with self._lock.held(what, timeout_s) as is_locked:
            loaded = self._load(target)
            if loaded is not None and loaded.digest:
                # The file was pulled, or a command of this machine ended before it could keep the mark.
                in_place = loaded.state._replace(serial=loaded.serial_in_place)
                self._marks.note_found(in_place, loaded.digest, lambda: self._disk.sync_folder(self._path))
            opened = Opened(self._disk, self._path, loaded, lambda: self._fresh(target), self._note)
            writer = Writer(opened, is_locked)
            scribe = Scribe(lambda: self._origin(what), self._context.now, self._context.new_lineage)
            session = Session(writer, scribe, self._gate(writer))
            try:
                writer.refuse_displaced()
                yield session
            finally:
                self._close(session, writer, is_locked, lambda: self._lock.held(what, 0.0))

    def accept(self, target: Target, timeout_s: float, *, has_moved: bool = False) -> tuple[State, list[str]]:
        """See `Store.accept`."""
        with self._lock.held("state accept", timeout_s) as is_locked:
            refuse_displaced = self._displacement_check(is_locked)
            trouble = ""
            try:
                loaded = self._load(target)
            except StateError as fault:
                loaded, trouble = None, fault.message
            if loaded is not None:
                self._drop_held("state accept", loaded)
                return loaded.state, []
            salvaged, remarks = salvage(self._disk, self._path, self._fresh(target), has_moved=has_moved)
            kept = self._kept.found(salvaged.state.lineage)
            for journal in kept:
                salvaged = journal.merged_into(salvaged, self._path, remarks)
            remarks = remarks or [trouble]
            state = salvaged.state
            codec.refuse_ambiguous(state.jobs, f"{self._path}, with the journal beside it,")
            told = self._told(salvaged.unwritten)
            in_history = max((entry.serial for entry in told if entry.lineage == state.lineage), default=0)
            serial = max(state.serial, self._marks.serial_of(state.lineage), in_history) + 1
            remarks += lineage_remarks(state, told)
            state, later = brought_up(state, self._unknown_to(state, told))
            remarks += later
            accepted = state._replace(serial=serial, target=target)
            self._take(_Taken("state accept", accepted, salvaged.unwritten, remarks, was_sound=False), refuse_displaced)
            with self._wording("state accept"):
                for journal in kept:
                    journal.remove()
        return accepted, remarks

    def put(self, state: State, target: Target, timeout_s: float) -> bool:
        """See `Store.put`."""
        with self._lock.held("state push", timeout_s) as is_locked:
            refuse_displaced = self._displacement_check(is_locked)
            refuse_other_target(state.target, target, "the state to push")
            # A newer state may be what brings back a state that was rolled back.
            loaded = self._load(target, is_replaced=True)
            if not is_newer(state, loaded.state if loaded else None, self.where):
                if loaded is not None:
                    self._drop_held("state push", loaded)
                return False
            digest = codec.stated_digest(codec.encode(state))
            self._marks.refuse_older(state.lineage, state.serial, digest, "the state to push")
            if loaded is not None:  # Where no state is, an older one is better than none: it can be accepted there.
                refuse_older_than_history(state, self._history(), "the state to push", paths_of(self._path).history)
            unwritten = loaded.unwritten if loaded else ()
            remarks = [f"serial {state.serial} was pushed"]
            self._take(_Taken("state push", state, unwritten, remarks, was_sound=True), refuse_displaced)
        return True

    def read_history(self) -> history.StoredHistory:
        """See `Store.read_history`."""
        path = paths_of(self._path).history
        with self._holding_folder():
            content = self._disk.read(path) or b""
            try:
                loaded = load(self._disk, self._path, None)
            except StateError as fault:
                return history.StoredHistory(path, content, trouble=fault.message)
        return history.StoredHistory(path, content, *((loaded.unwritten, loaded.state) if loaded else ()))

    def at(self, revision: str) -> history.StoredHistory:
        """See `Store.at`."""
        if self._revisions is None:
            raise NoRevisions(f"{self._path} has no older revisions", f"{command('history')} shows what was done")
        return self._revisions(revision)

    def _load(self, target: Target, *, is_replaced: bool = False) -> LoadedState | None:
        """What the files hold, None if there are none. Raises `StateError` for a state that can't be trusted.

        With `is_replaced`, a state that was rolled back is loaded all the same.
        """
        refuse_shared_history(self._path, self._disk.read)
        for is_last in (is_replaced, True):
            # The history is read first. While this reads without a lock, a command at work may write a newer state and
            # then append to the history.
            told = b"" if is_replaced else self._history()
            loaded = load(self._disk, self._path, target)
            self._kept.refuse(loaded.state.lineage if loaded else "")
            if loaded is None:
                return None
            if not is_replaced:
                serial, digest = loaded.serial_in_place, loaded.digest
                self._marks.refuse_older(loaded.state.lineage, serial, digest, self._path, self._path)
            try:
                where = paths_of(self._path).history
                refuse_older_than_history(loaded.state, told, self._path, where, loaded.unwritten, file=self._path)
            except RolledBack:
                # Another command may have put the newer state in place between the two reads.
                if is_last:
                    raise
            else:
                break
        if not is_replaced:
            self._warn_of_gap(loaded, told)
        return loaded

    def _warn_of_gap(self, loaded: LoadedState | None, told: bytes) -> None:
        """Tell the user, once, if a rollback of this state would not be noticed. `told` is the history."""
        if loaded is None or not loaded.digest or self._has_warned:
            return
        where, in_place = paths_of(self._path).history, loaded.state._replace(serial=loaded.serial_in_place)
        gap = gap_of(in_place, told, where, loaded.unwritten)
        if gap:  # A command at work may have appended to the history since it was read.
            gap = gap_of(in_place, self._history(), where, loaded.unwritten)
        if gap:
            self._has_warned = True
            check = command("history", options=["--check"])
            self._context.tell(f"warning: {gap}: a state that is rolled back would not be noticed; see {check}")

    def _close(
        self,
        session: Session,
        writer: Writer,
        is_locked: Callable[[], bool],
        lock_again: Callable[[], AbstractContextManager[Callable[[], bool]]],
    ) -> None:
        """Close the session. If its files were displaced, save its records and raise the error that says where."""
        try:
            session.close()
        except Displaced as fault:
            raise self._kept.rescued(writer, fault, is_locked, lock_again) from fault

    def _take(self, taken: _Taken, refuse_displaced: Callable[[], None]) -> None:
        """Replace the state file with the taken state, and remove the journal. The lock is held.

        Raises `StateError`, and `Displaced` if the files are no longer those that were read.
        """
        disk, content = self._disk, codec.encode(taken.state)
        digest = codec.stated_digest(content)
        with self._wording(taken.command):
            refuse_displaced()
            # The history comes before the state, as an intent does: no state is taken without the name of the person
            # who did it. What the history then has of the journal is on disk before.
            mark_held(disk, self._path, taken.state, digest, was_sound=taken.was_sound)
            self._append_history([*taken.unwritten, *self._taken_lines(taken, digest)])
            replace(disk, self._path, content, disk.mode(self._path) or 0o600, refuse_displaced)
            self._note(taken.state, digest)
            self._remove_journal()

    def _drop_held(self, command: str, loaded: LoadedState) -> None:
        """Remove a journal that holds nothing which the state file lacks."""
        if loaded.entries is not None and not loaded.changed:
            with self._wording(command):
                self._append_history(loaded.unwritten)
                self._remove_journal()

    def _remove_journal(self) -> None:
        journal = paths_of(self._path).journal
        if self._disk.mode(journal) is not None:
            self._disk.remove(journal)
            self._disk.sync_folder(self._path)

    @contextmanager
    def _wording(self, name: str) -> Iterator[None]:
        """Turn the `OSError` of a write into a `StateError` that says how to run the command `name` again."""
        try:
            yield
        except OSError as fault:
            words = command(name, "FILE") if name == "state push" else command(name)
            raise StateError(
                f"{self._path} could not be written: {fault.strerror}",
                f"make room or mend the disk, and again: {words}",
            ) from fault

    def _displacement_check(self, is_locked: Callable[[], bool]) -> Callable[[], None]:
        """A function that raises `Displaced` once the state file is another one than now, or the lock is lost."""
        disk, path = self._disk, self._path
        stamp = disk.stamp(path)

        def refuse_displaced() -> None:
            if not is_locked():
                raise Displaced(f"{path}.lock was removed or replaced while this command was at work")
            if disk.stamp(path) != stamp:
                raise Displaced(f"another file took the place of {path} while this command was at work")

        return refuse_displaced

    def _taken_lines(self, taken: _Taken, digest: str) -> list[history.HistoryLine]:
        """The history line that says who took this state."""
        line = {
            **history.origin_to_json(self._origin(taken.command)),
            "op": f"accept-{digest[:16]}",
            "at": self._context.now(),
            "verb": ACCEPT,
            "outcome": "succeeded",
            "reason": "; ".join(taken.remarks),
        }
        return history.stamped([line], taken.state)

    def _append_history(self, lines: Sequence[history.HistoryLine]) -> None:
        """Append those of the lines that the history lacks."""
        path, mode = paths_of(self._path).history, self._disk.mode(self._path) or 0o600
        history.append(self._disk, path, mode, lines, again=True)

    def _origin(self, what: str) -> Origin:
        context = self._context
        return Origin(context.who, command=what) if context.origin is None else context.origin(what)

    @contextmanager
    def _holding_folder(self) -> Iterator[int | None]:
        """Hold the folder of the state, so that all files are read from one folder. Yields its descriptor, or None."""
        with ExitStack() as stack:
            folder = None
            with suppress(OSError):  # a folder that can't be held may still be read, or is not there
                folder = stack.enter_context(self._disk.hold(self._path))
            yield folder

    def _fresh(self, target: Target) -> State:
        """An empty state. The history of a state that was lost tells how often its jobs ran."""
        counts = history.run_counts(self._told())
        return State(self._context.new_lineage(), 0, target, {}, counts)

    def _told(self, unwritten: Sequence[history.HistoryLine] = ()) -> list[HistoryEntry]:
        """The entries of the history in the order of its lines, and then those of `unwritten`, lines of a journal."""
        lines, _ = history.read(self._history())
        added = (history.entry_of(line) for line in unwritten)
        return [*(line.entry for line in lines), *(entry for entry in added if entry is not None)]

    def _unknown_to(self, state: State, told: Sequence[HistoryEntry]) -> Unknown:
        """What the history tells of runs that a salvaged state lacks."""
        if self._disk.mode(self._path) is not None:
            return unknown_to(state, told)
        # The state file is gone, and the run counts of the state that takes its place come from the history.
        return unknown_to_new(state._replace(last={one.id: one.run for one in state.jobs.values()}), told)

    def _history(self) -> bytes:
        """The content of the history. Nothing is recorded as long as a history can't be read."""
        try:
            return self._disk.read(paths_of(self._path).history) or b""
        except Unreachable:
            raise
        except StateError:
            return b""


def refuse_shared_history(path: str, read: Callable[[str], bytes | None]) -> None:
    """Raise `Refused` if another state has its history in the same file, as `prod` and `prod.state.json` would.

    `path` is the path of a state, and `read` returns the content of a file.
    """
    (other,) = (one for one in states_with(paths_of(path).history) if one != path)
    content = None
    with suppress(StateError, Refused):  # a folder, such as the folder of the manifest
        content = read(other)
    if content is not None and codec.stated_digest(content):
        raise Refused(
            f"{path} and {other} would share one history, {paths_of(path).history}",
            "name another place with --state",
        )


def _refuse_own_name(path: str) -> None:
    found = next((suffix for suffix in OWN_SUFFIXES if path.endswith(suffix)), "")
    if found:
        raise Refused(
            f"{path}: a state can't have a name that ends in {found}, as files beside a state do",
            "name another place with --state",
        )


def _under_way(loaded: LoadedState, holder: str) -> State:
    """The state, with the command at work (`holder`) named in the doubt of each call that this command has sent."""
    jobs = dict(loaded.state.jobs)
    for name in loaded.in_flight:
        record = jobs[name]
        if record.doubt is not None:
            jobs[name] = record._replace(doubt=record.doubt._replace(holder=holder))
    return loaded.state._replace(jobs=jobs)
