"""`reconciler wait`: wait until the runs of jobs have ended, and record how they ended."""

from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, NamedTuple

from reconciler.model.commands import command
from reconciler.model.errors import EngineError, ExitCode, ReconcilerError, Refused, StateError
from reconciler.model.jobs import Desired, Observation, State, Status, title
from reconciler.usecases.engines import Pace
from reconciler.usecases.selection import Selection, matching_of

if TYPE_CHECKING:
    from reconciler.engines.port import Engine
    from reconciler.rules.matching import Subject
    from reconciler.usecases.workspace import Workspace

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 5.0
_UNDER_WAY = frozenset({Status.ACTIVE, Status.DRAFT, Status.UNREADABLE})


_UNKNOWN = frozenset(
    {
        Status.MISSING,
        Status.TAKEN_AWAY,
        Status.FORGOTTEN,
        Status.FORGOTTEN_COMPLETE,
        Status.FORGOTTEN_FAILED,
        Status.FORGOTTEN_ABORTED,
    }
)
"""The statuses of a run that the engine does not know."""


class Waited(NamedTuple):
    """A job and its run, as it was observed last.

    `is_in_doubt` is set if the last call for the job is in doubt. `run_id` is that of the observed run, or of the
    recorded run if the engine does not know that run; "" if there is none. `way_out` is what a user can do about a run
    that has no recorded end, and that nobody can read any more; "" for any other run.
    """

    name: str
    observed: Observation
    is_in_doubt: bool = False
    run_id: str = ""
    way_out: str = ""

    @property
    def is_over(self) -> bool:
        """Whether the run has ended, or is gone."""
        return self.observed.status not in _UNDER_WAY

    @property
    def is_complete(self) -> bool:
        """Whether the run has completed."""
        return self.observed.status in (Status.COMPLETE, Status.FORGOTTEN_COMPLETE)


class Waiting(NamedTuple):
    """What came of waiting, sorted by the names of the jobs. `is_interrupted` is set if a stop was requested."""

    jobs: tuple[Waited, ...]

    @property
    def exit_code(self) -> ExitCode:
        """The exit code. Doubt outweighs failure, and failure outweighs a run that goes on."""
        if any(job.is_in_doubt for job in self.jobs):
            return ExitCode.IN_DOUBT
        if any(job.is_over and not job.is_complete for job in self.jobs):
            return ExitCode.FAILED
        return ExitCode.DONE if all(job.is_over for job in self.jobs) else ExitCode.PENDING


def wait(
    workspace: "Workspace",
    names: Collection[str],
    timeout_s: float | None,
    lock_timeout_s: float,
    ended: Callable[[Waited, int], None],
) -> Waiting:
    """Wait until the last runs of the named jobs have ended, or of all recorded jobs that are to run.

    `ended` is called with each run that was seen to go on before it ended, and with the number of those that still go
    on. How a run ended is recorded; the state is held for no longer than that takes. Raises `ReconcilerError` for a job
    that is not recorded as running, and `EngineError` if the service offers no reads.
    """
    state = workspace.read_state()
    subjects = _subjects(workspace, state, names)
    if not subjects:
        return Waiting(())
    boot_s = workspace.world.clocks.boot_s
    until_s = float("inf") if timeout_s is None else boot_s() + timeout_s
    found: dict[str, Waited] = {}
    pause_s = _FIRST_PAUSE_S
    with workspace.open_engine(Pace(), state.identity) as engine:
        while True:
            left = [subject for name, subject in subjects.items() if name not in found or not found[name].is_over]
            is_first = not found
            looks = _looks(workspace, engine, left, is_first=is_first)
            found |= looks
            over = [look for look in looks.values() if look.is_over]
            for look in over if not is_first else ():
                ended(look, len(left) - len(over))
            if over:
                pause_s = _FIRST_PAUSE_S
                _record(workspace, engine, over, lock_timeout_s)
            rest_s = until_s - boot_s()
            if len(over) == len(left) or rest_s <= 0 or workspace.world.pause(min(pause_s, rest_s)):
                return Waiting(tuple(found[name] for name in sorted(found)))
            pause_s = min(_LONGEST_PAUSE_S, pause_s * 1.3)


def _subjects(workspace: "Workspace", state: State, names: Collection[str]) -> "dict[str, Subject]":
    """The jobs to wait for, by their names in a plan."""
    from reconciler.usecases.named_records import find_record

    matching = matching_of(workspace.manifest, state, Selection(prune=True), workspace.world.clocks.wall_s())
    by_name = matching.by_name
    if not names:
        return {name: subject for name, subject in by_name.items() if _is_to_run(subject)}
    found = {}
    for word in names:
        named = find_record(word, workspace.declared_ids, state, workspace.world.remark)
        subject = by_name[named.name]
        if not _is_to_run(subject):
            recorded = "not recorded as run" if named.record.state is None else f"recorded as {named.record.state}"
            raise ReconcilerError(
                f"{title(named.name)} is {recorded}, so there is no run to wait for", f"{command('status')} shows all"
            )
        found[named.name] = subject
    return found


def _is_to_run(subject: "Subject") -> bool:
    record = subject.record
    if record is None:
        return False
    return record.state is Desired.RUNNING or (record.state is None and record.doubt is not None)


def _looks(
    workspace: "Workspace", engine: "Engine", subjects: "Sequence[Subject]", *, is_first: bool
) -> dict[str, Waited]:
    """The jobs as they are observed now. A later read that fails tells nothing, and is repeated."""
    from reconciler.rules.observations import no_reads_words
    from reconciler.rules.sight import as_seen

    try:
        observed = engine.observe_many([subject.job.id for subject in subjects])
    except EngineError as fault:
        if is_first:
            raise
        workspace.world.remark(f"{fault.message}; still waiting")
        return {}
    if no_reads := no_reads_words(workspace.manifest.target, observed, "it is not known when a run ends"):
        raise EngineError(no_reads, f"look there by other means; {command('state list')} shows what is recorded")
    return {subject.job.name: _waited(subject, as_seen(subject, observed[subject.job.id])) for subject in subjects}


def _waited(subject: "Subject", seen: Observation) -> Waited:
    """A job with what `seen`, the observation as the rules see it, tells of its run."""
    from reconciler.rules.runs import run_id
    from reconciler.rules.table import Cell
    from reconciler.rules.words import way_out_of

    job, record = subject.job, subject.record
    found = Waited(job.name, seen, record is not None and record.doubt is not None, seen.run_id)
    if record is None or seen.status not in _UNKNOWN:
        return found
    cells = {Status.FORGOTTEN: Cell.NO_END, Status.TAKEN_AWAY: Cell.TAKEN_AWAY}
    # A call in doubt comes first: `resolve --ended` is refused until that is settled.
    cell = None if found.is_in_doubt else cells.get(seen.status)
    return found._replace(run_id=run_id(record.id, record.run), way_out=way_out_of(cell, job) if cell else "")


def _record(workspace: "Workspace", engine: "Engine", over: Sequence[Waited], lock_timeout_s: float) -> None:
    """Record how runs ended. Where the state is held by another command, that command or a later one records it."""
    from reconciler.apply.observe import note_ends

    observed = {look.name: look.observed for look in over}
    try:
        with workspace.store.open(workspace.manifest.target, "wait", lock_timeout_s) as session:
            matching = matching_of(workspace.manifest, session.state, Selection(prune=True))
            subjects = [subject for subject in matching.subjects if subject.job.name in observed]
            by_id = {subject.job.id: observed[subject.job.name] for subject in subjects}
            note_ends(session, engine, subjects, by_id, workspace.world.now())
    except (Refused, StateError) as fault:
        workspace.world.remark(f"not recorded yet: {fault.message}; the next apply records how these runs ended")
