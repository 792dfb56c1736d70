"""Observes many jobs: with the service's list if that takes fewer requests, else one by one."""

from collections.abc import Iterable, Mapping, Sequence

from reconciler.engines.port import Engine
from reconciler.host.threads import map_in_order
from reconciler.model.errors import EngineError, ListIncomplete
from reconciler.model.jobs import Observation, Status
from reconciler.rules.circles import all_before
from reconciler.rules.matching import Subject

_LIST_FROM = 20
"""The number of jobs from which on the list is read first. A page of the list holds more jobs than that."""

_LIST_PER_JOB = 50
"""The number of listed jobs for each wanted job at which the list is given up. Single reads are cheaper from there."""

_READ_ITSELF = frozenset({Status.MISSING, Status.UNREADABLE})
"""If the list gives a job one of these statuses, the job is read by itself: a list may be old, or lack details."""


def observe_jobs(engine: Engine, job_ids: Sequence[str], parallelism: int) -> Mapping[str, Observation]:
    """The observations of the jobs, by engine job id. Up to `parallelism` jobs are read at once.

    A job that the list leaves out is read by itself. Raises `CredentialsError` or `EngineError` as `Engine.observe`
    does.
    """
    found: dict[str, Observation] = {}
    if len(job_ids) >= _LIST_FROM:
        found = _listed(engine, frozenset(job_ids))
    left = [job_id for job_id in job_ids if job_id not in found]
    found.update(zip(left, map_in_order(engine.observe, left, parallelism), strict=True))
    return found


def observe_before(
    engine: Engine, names: Iterable[str], subjects: Mapping[str, Subject], parallelism: int
) -> Mapping[str, Observation]:
    """The observations of all jobs that come before the named jobs, by engine job id.

    `after` in the manifest says which jobs come before a job. Raises as `observe_jobs` does.
    """
    before = sorted(all_before(names, lambda name: subjects[name].job.after))
    return observe_jobs(engine, [subjects[name].job.id for name in before], parallelism) if before else {}


def _listed(engine: Engine, wanted: frozenset[str]) -> dict[str, Observation]:
    """The observations that the list has of the wanted jobs. Some may be missing if the list is not complete."""
    found: dict[str, Observation] = {}
    try:
        for count, (job_id, observation) in enumerate(engine.observe_all()):
            if job_id in wanted and observation.status not in _READ_ITSELF:
                found[job_id] = observation
            if len(found) == len(wanted) or count >= _LIST_PER_JOB * len(wanted):
                break
    except ListIncomplete:
        return found
    except EngineError:
        return {}
    return found
