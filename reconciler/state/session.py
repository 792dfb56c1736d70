"""The state while a command holds it: what is recorded, and the only way to change it.

A session is made of two parts. The `Writer` puts each change into the journal and folds the journal into the state
file. The `Gate` decides whether an intended call may be sent: at once for a state on a local disk, and once the intent
was published for a state on a remote.
"""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from reconciler.model.history import ACCEPT, ADOPT, ENDED, FORGET, NOTE, Details, Origin
from reconciler.model.jobs import Desired, Doubt, Record, State, Status, title
from reconciler.rules.identities import parts_text
from reconciler.state import history, json_types, record_json
from reconciler.state.gate import Gate, LocalGate
from reconciler.state.journal import RESERVE_BYTES, Displaced, encode_entry, record_bytes
from reconciler.state.records import Call
from reconciler.state.replay import ANNOUNCED, intent_fields, record_fields
from reconciler.state.writer import Writer

_END_WORDS = {Status.COMPLETE: "complete", Status.FAILED: "failed", Status.ABORTED: "aborted by someone else"}


def _end_told(before: Record | None, record: Record) -> Mapping[str, object]:
    """What the history tells of the end of a run that is new in a record; nothing if none is."""
    run = f"run {record.run or 'without a number'}"
    if before is not None and before.state is Desired.RUNNING and record.state is Desired.ABORTED:
        return {"reason": f"{run}: withdrawn by the engine before it began"}
    if record.end is None or (before is not None and before.end is record.end):
        return {}
    return {"end": record.end.value, "reason": f"{run}: {_END_WORDS[record.end]}"}


class Scribe(NamedTuple):
    """What a session needs to say who did something, and when.

    `origin` is called once, before the first change. `now` returns the time as RFC 3339 text for people to read.
    `new_id` returns a fresh id.
    """

    origin: Callable[[], Origin]
    now: Callable[[], str]
    new_id: Callable[[], str]


class Announced(NamedTuple):
    """A call that an apply may send: its job, the doubt that stays if no result follows, and the call's reason."""

    job: str
    job_id: str
    doubt: Doubt
    reason: str


class _Signature:
    """Says in the records of the journal who makes a change, when, and for which plan."""

    def __init__(self, scribe: Scribe) -> None:
        self._scribe = scribe
        self._origin: Origin | None = None
        self._plan, self._allowed = "", ""
        self._by: dict[str, object] = {}
        self._turn = threading.Lock()

    def rests_on(self, plan_digest: str, allowed: str) -> None:
        self._plan, self._allowed, self._by = plan_digest, allowed, {}

    @property
    def by(self) -> dict[str, object]:
        """The JSON of the origin, with the plan."""
        if not self._by:
            with self._turn:
                self._origin = self._origin or self._scribe.origin()
                self._by = history.origin_to_json(self._origin._replace(plan=self._plan, allowed=self._allowed))
        return self._by

    def fields(self, record: Record | None) -> dict[str, object]:
        """The fields of a change that is made now, to the engine job of `record` if there is one."""
        job = {} if record is None else {"id": record.id}
        return {**job, "op": self._scribe.new_id(), "at": self._scribe.now(), "by": self.by}


class Session:
    """The state while its lock is held. Safe for use by many threads.

    Every change is on disk when its method returns. Each method raises `JournalBroken` if the change can't be put on
    disk. After that nothing may be sent any more.
    """

    def __init__(self, writer: Writer, scribe: Scribe, gate: Gate | None = None) -> None:
        """Without a `gate`, the files are taken to be on a disk of this machine."""
        self._writer = writer
        self._records = writer.records
        self._gate = gate or LocalGate(writer.verify)
        self._signature = _Signature(scribe)
        self._has_intended = False

    @property
    def is_local(self) -> bool:
        """Whether the session waits for nothing but a disk of this machine."""
        return self._gate.is_local

    @property
    def state(self) -> State:
        """A copy of what is recorded now."""
        return self._writer.state

    @property
    def doubtful(self) -> frozenset[str]:
        """The jobs whose last call may have been sent and has no known outcome, including calls in flight."""
        return self._gate.maybe_sent(self._records.in_flight) | self._records.doubtful

    @property
    def in_flight(self) -> frozenset[str]:
        """The jobs with a call that may have been sent and has no result. This takes no lock, for a signal handler."""
        return self._gate.maybe_sent(self._records.in_flight)

    @property
    def has_sent(self) -> bool:
        """Whether this session intended any call. Each intended call may have been sent."""
        return self._has_intended

    @property
    def journal_bytes(self) -> int:
        """The length of the journal in bytes, including records that still wait for a flush; 0 without a journal."""
        return self._writer.journal_bytes

    @property
    def lineage(self) -> str:
        """The lineage of the state."""
        return self._writer.lineage

    @property
    def identity(self) -> Mapping[str, str]:
        """The recorded identity of the service, as in `State`."""
        return self._records.identity

    def record_of(self, name: str) -> Record | None:
        """The record of one job now, or None."""
        return self._records.get(name)

    def unsettled(self, name: str) -> Doubt | None:
        """The call of a job that has no known outcome: the one in flight, or the one in doubt."""
        return self._records.unsettled(name)

    def last_of(self, job_id: str) -> int:
        """The number of the last run of an engine job now, 0 if the job was never run."""
        return self._records.last_of(job_id)

    def threads(self, parallelism: int) -> int:
        """How many actions should be under way at once, so that `parallelism` of their calls are."""
        return self._gate.threads(parallelism)

    def begin(self, actions: int) -> None:
        """Report that `actions` more actions begin.

        Each action reports its end with `end`, and up to `threads` of them are under way at once. Raises
        `JournalBroken` if nothing could be sent.
        """
        self._gate.begin(actions)

    def end(self) -> None:
        """Report that one action has ended."""
        self._gate.end()

    def assure(self) -> bool:
        """Whether an intended call may be sent now. This is asked right before each call.

        False means that a stop was asked for. Raises `JournalBroken` if nothing may be sent any more.
        """
        return self._gate.assure()

    def rests_on(self, plan_digest: str, allowed: str = "") -> None:
        """Record with every later change that it carries out this plan.

        `allowed` says in words which guards the plan may go past.
        """
        self._signature.rests_on(plan_digest, allowed)

    @contextmanager
    def announcing(self, calls: Sequence[Announced]) -> Iterator[None]:
        """Let the journal on disk name all these calls as possibly sent, while the block runs.

        A reader who is given a copy of the journal from within the block finds each call in doubt. After the block,
        the journal says that the announcement is over. From then on each call has an intent of its own.
        """
        intents = [
            {
                "type": "intent",
                **intent_fields(call.job, call.job_id, call.doubt._replace(answer=ANNOUNCED), call.reason),
                "by": self._signature.by,
            }
            for call in calls
        ]
        with self._writer.changing() as journal:
            journal.append(encode_entry({"type": "announced", "intents": intents}))
        try:
            yield
        finally:
            with self._writer.changing() as journal:
                journal.append(encode_entry({"type": "announced", "intents": []}))

    def intend(self, name: str, job_id: str, doubt: Doubt, reason: str = "") -> None:
        """Record that a call is about to be sent. `doubt` is what stays in the record if no result follows."""
        entry = {"type": "intent", **intent_fields(name, job_id, doubt, reason), "by": self._signature.by}
        content, before = encode_entry(entry), self._records.get(name)
        # The record of the result is made of the values of the record before and of the doubt.
        known_bytes = len(encode_entry(record_fields(name, before))) if before is not None else 0
        room_bytes = RESERVE_BYTES + record_bytes(len(content) + known_bytes)
        with self._writer.changing() as journal:
            self._has_intended = True
            self._records.begin_call(doubt.op, Call(entry, room_bytes))
            journal.append(content, reserve_bytes=room_bytes)
        self._gate.await_intent()

    def conclude(self, op: str, name: str, record: Record | None, answer: str, details: Details | None = None) -> None:
        """Record the result of a call: the record that it leads to, the answer in words, and details for the history.

        A call of this session is answered by this, and a call of an earlier session is settled.
        """
        if record is not None and record.doubt is not None:
            record = record._replace(doubt=record.doubt._replace(answer=history.cut(record.doubt.answer)))
        entry = {**record_fields(name, record), "type": "result", "op": op, "answer": history.cut(answer)}
        if details is not None:
            entry["details"] = history.details_to_json(details)
        call = self._records.call(op)
        if call is None:
            before = self._records.get(name)
            doubt = before.doubt if before is not None else None
            about = {"verb": doubt.verb, "run": doubt.run} if doubt is not None else {"verb": "call"}
            entry |= {**self._signature.fields(before or record), **about, "op": op}
        # The result of a call of this session is recorded whatever happened to the files.
        with self._writer.changing(is_result=call is not None) as journal:
            journal.append(encode_entry(entry), reserve_bytes=-call.room_bytes if call else 0)
            self._records.end_call(op)
            self._records.put(name, record)
            line = history.call_line(call.intent, entry) if call else history.settled_line(entry)
            self._records.add_lines([line])
        self._writer.checkpoint_if_long()

    def put(self, name: str, record: Record | None, verb: str = "", details: Details | None = None) -> None:
        """Change the record of a job without a call. None removes the record.

        `verb` is the word for the change in the history. The default is `adopt`, or `forget` for a removal.
        """
        before = self._records.get(name)
        if before == record:
            return
        entry = {
            **record_fields(name, record),
            **self._signature.fields(record or before),
            "type": "record",
            "verb": verb or (FORGET if record is None else ADOPT),
            # A line about a job that is gone is about no run: what runs later under its name begins anew (`rollback`).
            "run": record.run if record is not None and record.state is not Desired.ABSENT else 0,
            "details": history.details_to_json(details or Details()),
        }
        with self._writer.changing() as journal:
            journal.append(encode_entry(entry))
            self._records.put(name, record)
            self._records.add_lines([history.record_line(entry)])
        self._writer.checkpoint_if_long()

    def put_all(self, records: Mapping[str, Record], verb: str = ADOPT, reason: str = "") -> None:
        """Change the records of several jobs without a call, all in one step. `verb` is as in `put`."""
        if not records:
            return
        details = {"outcome": "succeeded", "reason": reason}
        lines = {name: {"id": record.id, "run": record.run, **details} for name, record in records.items()}
        self._put_batch(records, verb, lines)

    def note_ends(self, records: Mapping[str, Record]) -> None:
        """Record how runs ended and when they were last seen active, all in one step.

        The history gets a line for each run whose end is new.
        """
        changed = {name: record for name, record in records.items() if self._records.get(name) != record}
        if not changed:
            return
        ended = {
            name: {"id": record.id, "outcome": "succeeded", "run": record.run, **told}
            for name, record in changed.items()
            if (told := _end_told(self._records.get(name), record))
        }
        if ended:
            self._put_batch(changed, ENDED, ended)
        else:
            # Each serial has a line in the history: a state that is ahead of its history looks like one without it.
            words = "1 run was seen active" if len(changed) == 1 else f"{len(changed)} runs were seen active"
            self._put_batch(changed, NOTE, {"": {"outcome": "succeeded", "reason": words}})

    def _put_batch(self, records: Mapping[str, Record], verb: str, lines: Mapping[str, Mapping[str, object]]) -> None:
        """Put several records in one entry of the journal. `lines` are those of the history, by the name of the job."""
        entry = {
            **self._signature.fields(None),
            "type": "records",
            "records": {name: record_json.record_to_json(record) for name, record in records.items()},
            "verb": verb,
            "lines": lines,
        }
        with self._writer.changing() as journal:
            journal.append(encode_entry(entry))
            for name, record in records.items():
                self._records.put(name, record)
            self._records.add_lines(history.batch_lines(entry))
        self._writer.checkpoint_if_long()

    def identify(self, identity: Mapping[str, str], why: str = "") -> None:
        """Record the identity of the service, in place of the recorded one.

        `why` says why a person wants that, for the history. Without it, the history has a note, which stands there only
        if the state is written for the identity alone. Raises `TypeError` for an identity that no state can have.
        """
        if dict(identity) == self._records.identity:
            return
        details = history.details_to_json(Details(reason=why or f"the service is {parts_text(identity)}"))
        entry = {
            **self._signature.fields(None),
            "type": "identity",
            "identity": json_types.texts_from_json(identity),
            "verb": ACCEPT if why else NOTE,
            "details": details,
        }
        with self._writer.changing() as journal:
            journal.append(encode_entry(entry))
            self._records.identify(identity)
            self._records.add_lines([history.record_line(entry)])

    def move(self, moves: Mapping[str, str]) -> None:
        """Give records new names, all in one step. `moves` maps each old name to the new one.

        Raises `ValueError` if a record would be lost. Then nothing is written.
        """
        if not moves:
            return
        self._records.refuse_lossy(moves)
        jobs = self._records.jobs
        entry = {
            **self._signature.fields(None),
            "type": "moves",
            "moves": dict(moves),
            "verb": "rename",
            "lines": {
                new: {"id": jobs[old].id, "outcome": "succeeded", "reason": f"was {title(old)}"}
                for old, new in moves.items()
            },
        }
        with self._writer.changing() as journal:
            journal.append(encode_entry(entry))
            self._records.rename(moves)
            self._records.add_lines(history.batch_lines(entry))

    def drop_spent(self, names: tuple[str, ...]) -> None:
        """Remove these records from memory. They leave the state file when it is written next, and cause no write."""
        self._records.drop(names)

    def checkpoint(self) -> None:
        """Write the state file if anything changed, and remove the journal. Raises `JournalBroken`.

        The intents of calls in flight go to a new journal.
        """
        self._writer.checkpoint()

    def close(self) -> None:
        """Make the last checkpoint. A call without a result becomes a doubt in the record of its job.

        Raises `JournalBroken`. Raises `Displaced` if a file of the session is no longer in place: then no file was
        written over, and the journal still has what was done.
        """
        with self._gate.closing():
            self._records.doubt_unanswered()
            try:
                self._writer.checkpoint()
                self._writer.refuse_displaced()
            except Displaced as fault:
                raise fault.changed(is_unsent=not self._has_intended) from fault
