"""Observes the jobs that come before other jobs, and records what observations tell of the runs on record."""

from collections.abc import Iterable, Mapping

from reconciler.engines.port import Engine
from reconciler.model.jobs import Observation
from reconciler.rules.circles import all_before
from reconciler.rules.matching import Subject
from reconciler.rules.records import noted
from reconciler.state.session import Session


def observe_before(engine: Engine, names: Iterable[str], subjects: Mapping[str, Subject]) -> Mapping[str, Observation]:
    """The observations of all jobs that come before the named jobs, by engine job id.

    `after` in the manifest says which jobs come before a job. Raises as `Engine.observe_many` does.
    """
    before = sorted(all_before(names, lambda name: subjects[name].job.after))
    return engine.observe_many([subjects[name].job.id for name in before]) if before else {}


def note_ends(
    session: Session, engine: Engine, subjects: Iterable[Subject], observed: Mapping[str, Observation], now: str
) -> None:
    """Record how the recorded runs ended, as observed, and that they were active `now`.

    `observed` maps engine job ids to observations. Raises `JournalBroken` if the journal can't be written.
    """
    promises = engine.promises
    records = [
        (subject.job.name, record, observed[subject.job.id])
        for subject in subjects
        if subject.job.id in observed
        for record in [session.record_of(subject.job.name)]
        if record is not None
    ]
    session.note_ends({name: noted(record, seen, now, promises) for name, record, seen in records})
