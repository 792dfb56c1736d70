"""`reconciler runs`: each run of a job: when it was asked for and why, and how it ended."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from reconciler.model.executions import UNKNOWN, Execution
from reconciler.model.history import APPLIED, ENDED, NOT_APPLIED, HistoryEntry, of_job
from reconciler.model.jobs import EMPTY, ENDS, NOT_OBSERVED, Observation, Record, Status, Verb, title
from reconciler.usecases.engines import Pace
from reconciler.usecases.named_records import find_record

if TYPE_CHECKING:
    from reconciler.engines.port import Engine
    from reconciler.usecases.workspace import Workspace

_COUNTED = frozenset({"succeeded", "in-doubt", APPLIED})
"""The outcomes of a call that has used up the number of its run."""


class JobRun(NamedTuple):
    """One run of a job.

    `number` is 0 for a run that this tool did not start. `asked` is the entry of the history about the call that
    started the run; None if there is none. `status` says what the run does, or how it ended, as far as the service, the
    record or the history tells; `NOT_OBSERVED` if none of them does. `detail` is what the service says beside it.
    """

    number: int
    run_id: str
    asked: HistoryEntry | None
    status: Status = Status.NOT_OBSERVED
    detail: str = ""
    execution: Execution = UNKNOWN


class JobRuns(NamedTuple):
    """The runs of the job of a name, the newest one first. `more` is the number of older runs that are left out."""

    name: str
    runs: tuple[JobRun, ...]
    more: int = 0


def runs(workspace: "Workspace", job: str, most: int) -> JobRuns:
    """The newest runs of a job, `most` of them at most. Reads the service, and changes nothing.

    Raises `ReconcilerError` if the job is not recorded.
    """
    state = workspace.store.read(workspace.head.target)
    found = find_record(job, workspace.declared_ids, state, workspace.world.remark)
    record = found.record
    told = RunEntries(of_job(workspace.store.read_history().entries, record.id))
    last = max(record.run, state.last.get(record.id, 0) if state else 0, *told.asked, 0)
    numbers = range(last, max(0, last - most), -1) if last else range(1)
    with workspace.open_engine(Pace(), state.identity if state else EMPTY) as engine:
        seen = dict(_observations(engine, record, numbers))
    shown = tuple(_run_of(record, number, told, seen.get(number, NOT_OBSERVED)) for number in numbers)
    return JobRuns(title(found.name), shown, last - len(numbers) if last else 0)


class RunEntries:
    """What the history tells of the runs of a job, by their numbers."""

    def __init__(self, entries: Iterable[HistoryEntry]) -> None:
        self.asked: dict[int, HistoryEntry] = {}
        self.ended: dict[int, Status] = {}
        for entry in entries:
            if entry.verb == Verb.RUN and entry.outcome in _COUNTED and entry.run:
                # A call in doubt is settled by a later entry, which does not say why the run was asked for.
                self.asked.setdefault(entry.run, entry)
            elif entry.verb == Verb.RUN and entry.outcome == NOT_APPLIED:
                self.asked.pop(entry.run, None)  # The next run has the number of this one.
            elif entry.verb == Verb.ABORT and entry.outcome in _COUNTED:
                self.ended.setdefault(entry.run, Status.ABORTED)
            elif entry.verb == ENDED and entry.end:
                self.ended[entry.run] = Status(entry.end)


def _observations(engine: "Engine", record: Record, numbers: Iterable[int]) -> Iterator[tuple[int, Observation]]:
    """Yield the observation of each run that the service still tells from others, with its number."""
    from reconciler.rules.runs import is_other_run, run_id

    for number in numbers:
        wanted = run_id(record.id, number)
        observed = engine.observe(record.id, wanted)
        if observed.run_id == wanted or (number == record.run and not is_other_run(record, observed)):
            yield number, observed
        if not observed.run_id and observed.status is not Status.MISSING:
            return  # An engine without ids of runs reports its newest run, whatever it is asked for.


def _run_of(record: Record, number: int, told: RunEntries, observed: Observation) -> JobRun:
    from reconciler.rules.runs import run_id

    known = told.ended.get(number)
    if number == record.run and record.end is not None:
        known = record.end
    status, detail = observed.status, observed.detail
    if known is not None and status not in ENDS and status is not Status.ACTIVE:
        status = known
    return JobRun(number, run_id(record.id, number), told.asked.get(number), status, detail, observed.execution)
