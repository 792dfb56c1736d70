"""The ends of runs that the waiting rounds of an apply read, and their way onto record."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from reconciler.apply.context import is_stale
from reconciler.apply.observe import note_ends
from reconciler.model.jobs import Desired, Evidence, Observation, Status
from reconciler.rules.runs import is_same_run

if TYPE_CHECKING:
    from reconciler.engines.port import Engine
    from reconciler.rules.matching import Subject
    from reconciler.state.session import Session


def with_ends(
    session: "Session",
    engine: "Engine",
    subjects: Mapping[str, "Subject"],
    observed: Mapping[str, Observation],
    runs: Mapping[str, tuple[str, Evidence]],
    now: str,
) -> Mapping[str, "Subject"]:
    """Record the ends that a look shows. Returns the subjects with their records as they are now.

    That a run is active is not recorded: each look would be a line of its own. A look that may be older than a run of
    this apply counts only if its run id or its handle is that of the recorded run. `runs` is as in `ApplyContext`.
    Raises `JournalBroken` if the journal can't be written.
    """
    ended = {job_id: seen for job_id, seen in observed.items() if seen.status is not Status.ACTIVE}
    sure = [s for s in subjects.values() if s.job.id in ended and _is_of_last_run(s, ended[s.job.id], runs)]
    if not sure:
        return subjects
    note_ends(session, engine, sure, ended, now)
    return {name: subject._replace(record=session.record_of(name)) for name, subject in subjects.items()}


def without_end(names: Iterable[str], subjects: Mapping[str, "Subject"]) -> list[str]:
    """The engine job ids of those named jobs whose recorded run has no recorded end."""
    records = [subjects[name].record for name in names]
    return [r.id for r in records if r is not None and r.state is Desired.RUNNING and r.end is None]


def _is_of_last_run(subject: "Subject", seen: Observation, runs: Mapping[str, tuple[str, Evidence]]) -> bool:
    """Whether an observation is certainly no older than the last run that this apply started."""
    if not is_stale(runs, subject.job.name, seen):
        return True
    return subject.record is not None and is_same_run(subject.record._replace(submitted_at=None), seen)
