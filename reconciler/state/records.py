"""The records of a state in memory, and the calls of this session that have no result yet."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from reconciler.model.jobs import Doubt, Record, State
from reconciler.state import history, record_json
from reconciler.state.journal import Entry
from reconciler.state.replay import in_doubt, renamed, set_record


class Call(NamedTuple):
    """A call without a result: its intent, and the bytes that the journal keeps free for the result."""

    intent: Entry
    room_bytes: int


class Records:
    """What a session knows: the record of each job, the calls in flight, and the history lines to be appended.

    Each method is one step that other threads can't divide. The writer keeps a checkpoint from starting while a change
    goes to the journal and then to this object.
    """

    def __init__(self, start: State, *, is_changed: bool) -> None:
        """`start` holds the records, and `is_changed` says whether it differs from the state file that is in place."""
        self._jobs = dict(start.jobs)
        self._last = dict(start.last)
        self._identity = dict(start.identity)
        self._in_file = start.jobs
        self._calls: dict[str, Call] = {}
        self._lines: list[history.HistoryLine] = []
        self.is_changed = is_changed
        """Whether the next checkpoint has to write the state file."""

    @property
    def jobs(self) -> dict[str, Record]:
        """A copy of all records, by the name of the job."""
        return dict(self._jobs)

    def state(self, base: State) -> State:
        """A copy of all that is known, with the lineage, the serial and the target of `base`."""
        return base._replace(jobs=dict(self._jobs), last=dict(self._last), identity=dict(self._identity))

    def last_of(self, job_id: str) -> int:
        """The number of the last run of an engine job, 0 if the job was never run."""
        return self._last.get(job_id, 0)

    @property
    def identity(self) -> Mapping[str, str]:
        """A copy of the named parts that tell the service of the target from another one."""
        return dict(self._identity)

    def identify(self, identity: Mapping[str, str]) -> None:
        """Replace the named parts that tell the service from another one."""
        self._identity, self.is_changed = dict(identity), True

    def get(self, name: str) -> Record | None:
        """The record of one job, or None."""
        return self._jobs.get(name)

    def put(self, name: str, record: Record | None) -> None:
        """Set the record of a job; None removes the record."""
        if self._jobs.get(name) != record:
            self.is_changed = True
        set_record(self._jobs, self._last, name, record)

    def rename(self, moves: Mapping[str, str]) -> None:
        """Give records new names, all in one step. Raises `ValueError` as `renamed` does."""
        self._jobs = renamed(self._jobs, moves)
        self.is_changed = True

    def refuse_lossy(self, moves: Mapping[str, str]) -> None:
        """Raise `ValueError` if these moves would put one record on top of another."""
        renamed(self._jobs, moves)

    def drop(self, names: Sequence[str]) -> None:
        """Remove records without a reason to write the state file. They leave the file when it is written next."""
        for name in names:
            self._jobs.pop(name, None)

    def add_lines(self, lines: Sequence[history.HistoryLine]) -> None:
        """Keep lines for the history until the next checkpoint appends them."""
        self._lines += lines

    @property
    def lines(self) -> list[history.HistoryLine]:
        """The lines that the history lacks."""
        return list(self._lines)

    def wrote_lines(self) -> None:
        """Record that the history has all lines."""
        self._lines = []

    def begin_call(self, op: str, call: Call) -> None:
        """Add a call that is about to be sent, under its operation id."""
        self._calls[op] = call

    def call(self, op: str) -> Call | None:
        """The call of this session with that operation id, or None if it has a result or is of another session."""
        return self._calls.get(op)

    def end_call(self, op: str) -> None:
        """Remove a call, because its result is in the journal."""
        self._calls.pop(op, None)

    def doubt_unanswered(self) -> None:
        """Turn each call without a result into a doubt in the record of its job."""
        for op, (intent, _) in tuple(self._calls.items()):
            self._calls.pop(op)
            self.put(intent["job"], in_doubt(self._jobs.get(intent["job"]), intent))
            self._lines.append(history.call_line(intent, None))

    def unsettled(self, name: str) -> Doubt | None:
        """The call of a job without a known outcome: the one in flight, or the doubt of its record."""
        in_flight = next((intent for intent in self.intents if intent["job"] == name), None)
        if in_flight is not None:
            return record_json.doubt_from_json(in_flight["doubt"])
        record = self.get(name)
        return record.doubt if record is not None else None

    @property
    def intents(self) -> list[Entry]:
        """The intents of the calls without a result, in the order in which they were written."""
        return [call.intent for call in tuple(self._calls.values())]

    @property
    def room_bytes(self) -> int:
        """The bytes that the journal keeps free for the results of all calls in flight."""
        return sum(call.room_bytes for call in tuple(self._calls.values()))

    @property
    def in_flight(self) -> frozenset[str]:
        """The jobs of the calls without a result."""
        return frozenset(intent["job"] for intent in self.intents)

    @property
    def doubtful(self) -> frozenset[str]:
        """The jobs whose record has a doubt."""
        return frozenset(name for name, record in tuple(self._jobs.items()) if record.doubt)

    def wrote_state(self) -> None:
        """Record that the state file holds all records."""
        self._in_file, self.is_changed = dict(self._jobs), False

    def base(self) -> dict[str, object]:
        """The JSON of the records that the state file has for each job that differs; None for a job it lacks."""
        names = [name for name, record in self._jobs.items() if self._in_file.get(name) != record]
        names += self._in_file.keys() - self._jobs.keys()
        return {
            name: record_json.record_to_json(record) if (record := self._in_file.get(name)) else None for name in names
        }
