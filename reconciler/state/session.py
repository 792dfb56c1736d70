"""The state while a command holds it: each change goes to the journal first, and a checkpoint folds the journal.

A checkpoint writes the whole state file and cuts the journal. The journal's header names the file that the journal
starts from, by its digest. A checkpoint record names the file that is about to take that file's place. After a crash
between the two steps, a reader therefore knows which records the file already holds. The history gets the lines of
the journal once the file is in place, and before the journal is cut.
"""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import NamedTuple

from reconciler.host.disk import Disk
from reconciler.host.disk import replace as replace_file
from reconciler.model.errors import StateError
from reconciler.model.history import Details, Origin
from reconciler.model.jobs import Doubt, Record, State, title
from reconciler.state import codec, history
from reconciler.state.journal import (
    RESERVE_BYTES,
    Displaced,
    Entry,
    Journal,
    JournalBroken,
    encode_entry,
    journal_path,
    record_bytes,
)
from reconciler.state.replay import (
    ANNOUNCED,
    LoadedState,
    checkpoint_entry,
    header_of,
    in_doubt,
    intent_fields,
    record_fields,
    renamed,
    set_record,
)

_CHECKPOINT_BYTES = 8 * 1024 * 1024
"""A journal longer than this, and longer than the state file, is folded into the state."""


class Scribe(NamedTuple):
    """What a session takes from the world to say who did something, and when.

    `origin` is asked once, when there is something to say. `now` gives RFC 3339 time for people to
    read, `new_id` a fresh id.
    """

    origin: Callable[[], Origin]
    now: Callable[[], str]
    new_id: Callable[[], str]


class Announced(NamedTuple):
    """A call that an apply may come to send: of which job, what stays in doubt of it, and why it is planned."""

    job: str
    job_id: str
    doubt: Doubt
    reason: str


class _Open(NamedTuple):
    """A call without a result: its intent, and the bytes that the journal keeps for the result."""

    intent: Entry
    room_bytes: int


class Session:
    """The state while its lock is held. Safe for use by many threads.

    Every change is on disk when its method returns. Each method raises `JournalBroken` where it
    can't be put there; then nothing may be sent any more.
    """

    is_local = True
    """Whether a disk of this machine is all that it waits for."""

    def __init__(
        self,
        disk: Disk,
        path: str,
        loaded: LoadedState | None,
        fresh: Callable[[], State],
        noted: Callable[[State, str], None],
        scribe: Scribe,
        is_locked: Callable[[], bool] = lambda: True,
    ) -> None:
        """`fresh` makes an empty state, with a new lineage; `noted` is told of each state file written.

        `is_locked` says whether the lock file is still the one that was locked.
        """
        self._disk = disk
        self._path = path
        self._noted = noted
        self._scribe = scribe
        self._origin: Origin | None = None
        self._plan, self._allowed = "", ""
        self._signature: dict[str, object] = {}
        self._lines: list[history.HistoryLine] = []
        self._mode = disk.mode(path) or 0o600
        self._is_locked = is_locked
        self._digest = loaded.digest if loaded else ""
        self._stamp: object = loaded.stamp if loaded else None
        """The state file's, as it was read or written last."""
        self._written_bytes = 0
        state = loaded.state if loaded else fresh()
        self._target, self._lineage = state.target, state.lineage
        self._serial = loaded.serial_in_place if loaded else state.serial
        self._jobs = dict(state.jobs)
        self._in_file: Mapping[str, Record] = state.jobs
        """The records that the state file holds, once a journal that was found is folded."""
        self._changed = bool(loaded and loaded.changed)
        self._open: dict[str, _Open] = {}
        self._journal: Journal | None = None
        self._turn = threading.Lock()
        self._moved = threading.Condition(self._turn)
        """Notified when a checkpoint may begin, or has ended."""
        self._writers = 0
        self._folding = False
        self._broken: JournalBroken | None = None
        self._displaced: Displaced | None = None
        self._unplaced: tuple[Entry, ...] = ()
        """The records of a journal that was found, and that went away before a new journal had them."""
        self._has_intended = False
        if loaded and loaded.entries is not None:
            # Of the file that is to come, too: it comes out the same, whenever it is written.
            try:
                self._tell(loaded.unwritten, again=True)
                self._journal = self._new_journal(loaded.entries)
                self.checkpoint()
            except Displaced:
                # Whoever closes the session is told, and can bring what was found to a file again.
                self._unplaced = () if self._journal is not None else loaded.entries

    @property
    def state(self) -> State:
        """What is recorded now, a copy."""
        with self._turn:
            return State(self._lineage, self._serial, self._target, dict(self._jobs))

    @property
    def doubtful(self) -> frozenset[str]:
        """The jobs of which nobody knows what became of their last call, those in flight included."""
        with self._turn:
            return frozenset(self._in_flight() | {name for name, record in self._jobs.items() if record.doubt})

    @property
    def has_sent(self) -> bool:
        """Whether this session intended any call, each of which may have been sent."""
        return self._has_intended

    def record_of(self, name: str) -> Record | None:
        """What is recorded of one job now."""
        return self._jobs.get(name)

    def threads(self, parallelism: int) -> int:
        """How many actions may be under way at once, so that `parallelism` of their calls can be.

        Some more than that wait for the disk meanwhile; of one at a time none.
        """
        return parallelism + parallelism // 4

    def begin(self, actions: int) -> None:
        """So many actions begin; each tells its end with `end`, and up to `threads` of them are under way at once."""

    def end(self) -> None:
        """One action came to its end."""

    def assure(self) -> bool:
        """Whether what was intended may still be sent: asked right before each call.

        False where a stop was asked for. Raises `JournalBroken` where nothing may be sent any more. Looks at three
        files each time (lock, journal and state): some 10 µs.
        """
        with self._turn:
            self._check()
            if self._journal is not None:
                self._journal.check()
            self._refuse_displaced()
        return True

    def rests_on(self, plan_digest: str, allowed: str = "") -> None:
        """What is done from now on carries out this plan; `allowed` says in words what may go past its guards."""
        self._plan, self._allowed, self._signature = plan_digest, allowed, {}

    @contextmanager
    def announcing(self, calls: Sequence[Announced]) -> Iterator[None]:
        """Have the journal on disk name all these calls as possibly sent, while the block runs.

        Whoever is given a copy of the journal in the block, and nothing later, finds each call in doubt. After the
        block the journal says that the announcement is over: from then on each call has an intent of its own.
        """
        intents = [
            {
                "type": "intent",
                **intent_fields(call.job, call.job_id, call.doubt._replace(answer=ANNOUNCED), call.reason),
            }
            for call in calls
        ]
        by = self._by()
        with self._writing() as journal:
            journal.append(encode_entry({"type": "announced", "intents": [{**intent, "by": by} for intent in intents]}))
        try:
            yield
        finally:
            with self._writing() as journal:
                journal.append(encode_entry({"type": "announced", "intents": []}))

    def intend(self, name: str, job_id: str, doubt: Doubt, reason: str = "") -> None:
        """Put on disk that a call is about to be sent; `doubt` is what stays if no result follows."""
        entry = {"type": "intent", **intent_fields(name, job_id, doubt, reason), "by": self._by()}
        content, before = encode_entry(entry), self._jobs.get(name)
        # All that the record may become is in this one and in the doubt.
        known_bytes = len(encode_entry(record_fields(name, before))) if before is not None else 0
        room = RESERVE_BYTES + record_bytes(len(content) + known_bytes)
        with self._writing() as journal:
            self._has_intended = True
            self._open[doubt.op] = _Open(entry, room)
            journal.append(content, reserve_bytes=room)

    def conclude(self, op: str, name: str, record: Record | None, answer: str, details: Details | None = None) -> None:
        """Put on disk what became of a call: the record it leads to, the answer in words, and what to tell of it.

        A call of an earlier session is settled by this, one of this session answered.
        """
        if record is not None and record.doubt is not None:
            record = record._replace(doubt=record.doubt._replace(answer=history.cut(record.doubt.answer)))
        entry = {**record_fields(name, record), "type": "result", "op": op, "answer": history.cut(answer)}
        if details is not None:
            entry["details"] = history.details_to_json(details)
        call = self._open.get(op)
        if call is None:
            before = self._jobs.get(name)
            verb = before.doubt.verb if before is not None and before.doubt is not None else None
            entry |= {**self._signed(before or record), "verb": verb or "call", "op": op}
        # What became of a call of this session is kept whatever happened to the files.
        with self._writing(is_result=call is not None) as journal:
            journal.append(encode_entry(entry), reserve_bytes=-call.room_bytes if call else 0)
            self._open.pop(op, None)
            self._put(name, record)
            self._lines.append(history.call_line(call.intent, entry) if call else history.settled_line(entry))
        self._checkpoint_if_long()

    def put(self, name: str, record: Record | None, verb: str = "", details: Details | None = None) -> None:
        """Put on disk what is recorded of a job without a call; None drops it.

        `verb` is what this is called in the history: `adopt`, or `forget` where it drops a record.
        """
        before = self._jobs.get(name)
        if before == record:
            return
        entry = {
            **record_fields(name, record),
            **self._signed(record or before),
            "type": "record",
            "verb": verb or ("forget" if record is None else "adopt"),
            "details": history.details_to_json(details or Details()),
        }
        with self._writing() as journal:
            journal.append(encode_entry(entry))
            self._put(name, record)
            self._lines.append(history.record_line(entry))
        self._checkpoint_if_long()

    def put_all(self, records: Mapping[str, Record], verb: str = "adopt", reason: str = "") -> None:
        """Put on disk what is recorded of several jobs without a call, all in one step; `verb` as in `put`."""
        if not records:
            return
        details = {"outcome": "succeeded", "reason": reason}
        entry = {
            **self._signed(None),
            "type": "records",
            "records": {name: codec.record_to_json(record) for name, record in records.items()},
            "verb": verb,
            "lines": {name: {"id": record.id, **details} for name, record in records.items()},
        }
        with self._writing() as journal:
            journal.append(encode_entry(entry))
            for name, record in records.items():
                self._put(name, record)
            self._lines += history.batch_lines(entry)
        self._checkpoint_if_long()

    def move(self, moves: Mapping[str, str]) -> None:
        """Give records new names, all in one step."""
        if moves:
            renamed(self._jobs, moves)  # raises before anything is written
            entry = {
                **self._signed(None),
                "type": "moves",
                "moves": dict(moves),
                "verb": "rename",
                "lines": {
                    new: {"id": self._jobs[old].id, "outcome": "succeeded", "reason": f"was {title(old)}"}
                    for old, new in moves.items()
                },
            }
            with self._writing() as journal:
                journal.append(encode_entry(entry))
                self._jobs = renamed(self._jobs, moves)
                self._changed = True
                self._lines += history.batch_lines(entry)

    def drop_spent(self, names: tuple[str, ...]) -> None:
        """Drop these records from memory; they leave the file with its next write, and cause none."""
        with self._turn:
            for name in names:
                self._jobs.pop(name, None)

    def checkpoint(self) -> None:
        """Write the state file if anything changed, and cut the journal. Raises `JournalBroken`.

        Calls in flight keep their intents in the new journal.
        """
        with self._turn:
            self._fold_alone()

    def close(self) -> None:
        """The last checkpoint; a call without a result on record becomes a doubt in the state.

        Raises `Displaced` where the files are no longer those of this session. Then nothing was written over, and the
        journal still has what was done.
        """
        for op, (intent, _) in list(self._open.items()):
            self._open.pop(op)
            self._put(intent["job"], in_doubt(self._jobs.get(intent["job"]), intent))
            self._lines.append(history.call_line(intent, None))
        try:
            self.checkpoint()
            if self._displaced is not None:
                raise self._displaced
        except Displaced as fault:
            kept = None
            if self._journal is not None and not self.is_stranded:
                self._leave(self._journal)
                kept = (
                    f"what was done is in {journal_path(self._path)}: either put back the state file that was there "
                    "before, and apply; or look at both, and take them together: `reconciler state accept`"
                )
            raise fault.changed(kept=kept, is_unsent=not self._has_intended) from fault

    @property
    def is_stranded(self) -> bool:
        """Whether there are records in a journal that is no longer at its path."""
        if self._journal is None:
            return bool(self._unplaced) and self._disk.mode(journal_path(self._path)) is None
        return not self._journal.is_in_place

    def restore(self, is_locked: Callable[[], bool]) -> None:
        """Put what a stranded journal holds into the state file after all, under a lock that was taken anew.

        Raises `Displaced` where the state file is not as this session knows it or another journal is there, and
        `JournalBroken`.
        """
        stranded, entries = self._journal, self._stranded()
        with self._turn:
            self._is_locked, self._journal, self._displaced = is_locked, None, None
            try:
                self._refuse_displaced()
                if self._disk.mode(journal_path(self._path)) is not None:
                    raise self._displace(f"{journal_path(self._path)} is there again")
                self._journal = self._new_journal(entries)
                self._fold_alone()
            except (OSError, StateError):
                self._journal = stranded
                raise
        if stranded is not None:
            stranded.close()

    def keep(self, path: str, disk: Disk) -> None:
        """Write what a stranded journal holds to a journal of another name. Raises `OSError` and `StateError`."""
        if self._journal is not None:
            self._leave(self._journal)
        header = header_of(State(self._lineage, self._serial, self._target, {}), self._digest)
        Journal(disk, path, self._mode, [header, *self._stranded()]).close()
        if self._journal is not None:
            self._journal.close()
        self._journal, self._unplaced = None, ()

    def refuse_displaced(self) -> None:
        """Raise `Displaced` where the files went away while the session was opened."""
        if self._displaced is not None:
            raise self._displaced

    def _stranded(self) -> list[Entry]:
        return list(self._unplaced) if self._journal is None else self._journal.entries()[1:]

    def _leave(self, journal: Journal) -> None:
        """Say in a journal that stays which records its jobs had before, for a merge with another state."""
        names = [name for name, record in self._jobs.items() if self._in_file.get(name) != record]
        names += self._in_file.keys() - self._jobs.keys()
        with suppress(JournalBroken):
            journal.append(
                encode_entry(
                    {
                        "type": "base",
                        "records": {
                            name: codec.record_to_json(record) if (record := self._in_file.get(name)) else None
                            for name in names
                        },
                    }
                )
            )

    def _in_flight(self) -> set[str]:
        """The jobs of calls without a result; `_turn` is held."""
        return {call.intent["job"] for call in self._open.values()}

    def _fold_alone(self) -> None:
        """Fold once no change is under way; `_turn` is held."""
        self._folding = True
        try:
            while self._writers:
                self._moved.wait()
            self._fold()
        except OSError as fault:
            raise self._fail(f"{self._path} could not be written: {fault.strerror}") from fault
        finally:
            self._folding = False
            self._moved.notify_all()

    def _fold(self) -> None:
        if self._journal is not None:
            self._check()
            # One that failed stays: what it holds may be found again, whatever is done about it now.
            self._journal.check()
            self._refuse_displaced()
            if self._changed:
                self._write_state(self._journal)
            self._tell(history.stamped(self._lines, self._lineage, self._serial))
            self._lines = []
            self._cut(self._journal)

    def _write_state(self, journal: Journal) -> None:
        state = State(self._lineage, self._serial + 1, self._target, self._jobs)
        content = codec.encode(state)
        digest = codec.stated_digest(content)
        journal.append(encode_entry(checkpoint_entry(state.serial, digest)))
        replace_file(self._disk, self._path, content, self._mode, self._refuse_displaced)
        self._stamp = self._disk.stamp(self._path)
        self._in_file = dict(self._jobs)
        self._serial, self._digest, self._changed = state.serial, digest, False
        self._written_bytes = len(content)
        self._noted(state, digest)

    def _tell(self, lines: Sequence[history.HistoryLine], *, again: bool = False) -> None:
        """Append to the history; with `again`, what it lacks."""
        if not lines:
            return
        path = history.history_path(self._path)
        try:
            history.append(self._disk, path, self._mode, lines, again=again)
        except StateError as fault:
            raise self._fail(fault.message) from fault
        except OSError as fault:
            raise self._fail(f"{path} could not be written: {fault.strerror}") from fault

    def _signed(self, record: Record | None) -> dict[str, object]:
        """What a record of the journal says of what is done now: which, when, by whom, to which job."""
        own = {} if record is None else {"id": record.id}
        return {**own, "op": self._scribe.new_id(), "at": self._scribe.now(), "by": self._by()}

    def _by(self) -> dict[str, object]:
        if not self._signature:
            with self._turn:
                self._origin = self._origin or self._scribe.origin()
                self._signature = history.origin_to_json(self._origin._replace(plan=self._plan, allowed=self._allowed))
        return self._signature

    def _cut(self, journal: Journal) -> None:
        if self._open:
            self._journal = self._new_journal([call.intent for call in self._open.values()])
        else:
            self._journal = None
            if journal.is_in_place:
                self._disk.remove(journal_path(self._path))
                self._disk.sync_folder(self._path)
        journal.close()

    def _new_journal(self, entries: Iterable[Entry]) -> Journal:
        header = header_of(State(self._lineage, self._serial, self._target, {}), self._digest)
        try:
            return Journal(
                self._disk,
                journal_path(self._path),
                self._mode,
                [header, *entries],
                reserve_bytes=sum(call.room_bytes for call in self._open.values()),
                before_rename=self._refuse_displaced,
            )
        except OSError as fault:
            raise self._fail(f"{journal_path(self._path)} could not be made: {fault.strerror}") from fault

    def _refuse_unreadable_history(self) -> None:
        """Before anything is done: what could not be told later would keep the journal from being cut."""
        try:
            self._disk.read(history.history_path(self._path))
        except StateError as fault:
            raise JournalBroken(fault.message) from fault

    def _refuse_displaced(self) -> None:
        """Raise `Displaced` where the lock, the journal or the state file is not the file of this session.

        `_turn` is held, so that no checkpoint replaces them meanwhile. Once that was so it stays so.
        """
        if self._displaced is None and (why := self._why_displaced()):
            self._displace(why)
        if self._displaced is not None:
            raise self._displaced

    def _displace(self, why: str) -> Displaced:
        self._displaced = Displaced(f"{why} while this command was at work")
        return self._displaced

    def _why_displaced(self) -> str:
        if not self._is_locked():
            return f"{self._path}.lock was removed or replaced"
        if self._journal is not None and not self._journal.is_in_place:
            return f"{journal_path(self._path)} was removed or replaced"
        try:
            stamp = self._disk.stamp(self._path)
            if stamp == self._stamp:
                return ""
            content = self._disk.read(self._path)
        except (OSError, StateError):
            return f"{self._path} can no longer be read"
        if content is None and self._digest:
            return f"{self._path} was removed"
        if content is not None and not codec.is_intact(content, self._digest):
            return f"another file took the place of {self._path}"
        self._stamp = stamp
        return ""

    def _check(self) -> None:
        if self._broken is not None:
            raise self._broken.changed() from self._broken

    def _fail(self, why: str) -> JournalBroken:
        """The error to raise, now and whenever more is to be written, since nobody knows which file is in place."""
        self._broken = JournalBroken(why)
        return self._broken

    @contextmanager
    def _writing(self, *, is_result: bool = False) -> Iterator[Journal]:
        """Keep checkpoints out while a change goes to journal and memory; many may be under way."""
        with self._turn:
            while self._folding:
                self._moved.wait()
            self._check()
            if not is_result:
                self._refuse_displaced()
            if self._journal is None:
                self._refuse_unreadable_history()
                self._journal = self._new_journal([])
            self._writers += 1
            journal = self._journal
        try:
            yield journal
        finally:
            with self._turn:
                self._writers -= 1
                if not self._writers:
                    self._moved.notify_all()

    def _put(self, name: str, record: Record | None) -> None:
        if self._jobs.get(name) != record:
            self._changed = True
        set_record(self._jobs, name, record)

    def _checkpoint_if_long(self) -> None:
        if self._is_long():
            with self._turn:
                if self._is_long() and not self._folding:
                    # The change itself is in the journal. Whoever wants to send the next call is told.
                    with suppress(Displaced):
                        self._fold_alone()

    def _is_long(self) -> bool:
        journal = self._journal
        return journal is not None and journal.size_bytes > max(_CHECKPOINT_BYTES, self._written_bytes)
