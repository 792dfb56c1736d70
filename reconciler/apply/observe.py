"""Observes the jobs that come before other jobs."""

from collections.abc import Iterable, Mapping

from reconciler.engines.port import Engine
from reconciler.model.jobs import Observation
from reconciler.rules.circles import all_before
from reconciler.rules.matching import Subject


def observe_before(engine: Engine, names: Iterable[str], subjects: Mapping[str, Subject]) -> Mapping[str, Observation]:
    """The observations of all jobs that come before the named jobs, by engine job id.

    `after` in the manifest says which jobs come before a job. Raises as `Engine.observe_many` does.
    """
    before = sorted(all_before(names, lambda name: subjects[name].job.after))
    return engine.observe_many([subjects[name].job.id for name in before]) if before else {}
