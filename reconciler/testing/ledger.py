"""The ledger: what the workers of a test really did, in the order in which they did it.

The file is opened with O_APPEND, and each line is one write. So the lines are in the order of what was done, for
all programs on this machine, and no clock is needed to compare them. To write a line is the call that a job asks for.
"""

import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import NamedTuple

from reconciler.model.history import HistoryEntry
from reconciler.model.jobs import State
from reconciler.state import history
from reconciler.state.history import StoredHistory


class Kind(StrEnum):
    """What a line says.

    HELD     the first intent of a session was acknowledged, so the session holds the state
    CALLED   the call of a job was carried out
    CLOSED   the session was left without an error
    """

    HELD = "held"
    CALLED = "called"
    CLOSED = "closed"


class Line(NamedTuple):
    """One line. `serial` and `lineage` are those of the state that the session had. `op` and `job` are of a call."""

    kind: Kind
    session: str
    job: str = ""
    op: str = ""
    serial: int = 0
    lineage: str = ""


class Ledger:
    """A ledger in a file. Threads and programs may write to one file at the same time."""

    def __init__(self, path: str) -> None:
        self._path = path

    def write(self, line: Line) -> None:
        """Append a line, and return once the line is on disk."""
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(descriptor, json.dumps(line).encode() + b"\n")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def lines(self) -> list[Line]:
        """Return all lines, in the order in which they were written; [] without a file."""
        try:
            with open(self._path, encoding="utf-8") as file:
                found = [json.loads(line) for line in file]
        except FileNotFoundError:
            return []
        return [Line(Kind(kind), *rest) for kind, *rest in found]

    def has_call(self, op: str) -> bool:
        """Return whether the call with this id was carried out."""
        return any(line.kind is Kind.CALLED and line.op == op for line in self.lines())


def faults(lines: Sequence[Line], state: State | None, stored: StoredHistory) -> list[str]:
    """Return the faults of a home of state, in words; [] for a sound one.

    `lines` are the whole ledger. `state` and `stored` are what the home has once a session was left in which nothing
    stayed in doubt.
    """
    return [
        *_run_twice(lines),
        *_overtaken(lines),
        *_backwards(lines, state),
        *_unrecorded(lines, state, stored.entries),
        *_made_up(lines, stored.entries),
        *(f"history: {fault}" for fault in history.faults(stored)),
    ]


def _run_twice(lines: Sequence[Line]) -> Iterator[str]:
    counts = Counter(line.job for line in lines if line.kind is Kind.CALLED)
    for job, count in counts.items():
        if count > 1:
            yield f"{job} was called {count} times, for one run that was asked for"


def _overtaken(lines: Sequence[Line]) -> Iterator[str]:
    """Calls of a session after the moment at which another session held the state."""
    holder = ""
    for line in lines:
        if line.kind is Kind.HELD:
            holder = line.session
        elif line.kind is Kind.CALLED and line.session != holder:
            yield f"{line.session} called {line.job} while {holder or 'nobody'} held the state"


def _backwards(lines: Sequence[Line], state: State | None) -> Iterator[str]:
    known, lineages = 0, set() if state is None else {state.lineage}
    for line in lines:
        if line.kind is Kind.CALLED:
            continue
        lineages.add(line.lineage)
        if line.serial < known:
            yield f"{line.session} found serial {line.serial} after serial {known}"
        known = max(known, line.serial)
    if state is not None and state.serial < known:
        yield f"the state is at serial {state.serial} after serial {known}"
    if len(lineages) > 1:
        yield f"the state has {len(lineages)} lineages: a state was begun anew"


def _unrecorded(lines: Sequence[Line], state: State | None, entries: Sequence[HistoryEntry]) -> Iterator[str]:
    """Calls without an intent, and calls that the record does not show."""
    intended = {entry.op for entry in entries if not entry.settles}
    for line in lines:
        if line.kind is not Kind.CALLED:
            continue
        record = None if state is None else state.jobs.get(line.job)
        if line.op not in intended:
            yield f"{line.job} was called, and the history has no intent {line.op}"
        if record is None or record.state is None:
            yield f"{line.job} was called, and is not recorded"
        elif record.doubt is not None:
            yield f"{line.job} is in doubt, though its session ended"


def _made_up(lines: Sequence[Line], entries: Sequence[HistoryEntry]) -> Iterator[str]:
    """Results without a call, and results without an intent."""
    called = {line.op for line in lines if line.kind is Kind.CALLED}
    intended = {entry.op for entry in entries if not entry.settles}
    for entry in entries:
        if entry.outcome == "succeeded" and entry.verb == "run" and entry.op not in called:
            yield f"{entry.job} is recorded as run by {entry.op}, and that call was never made"
        if entry.settles and entry.op not in intended:
            yield f"{entry.job} has a result without an intent: {entry.op}"
