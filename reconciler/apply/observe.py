"""Observe many jobs: by the service's list where that takes fewer calls, else one by one."""

from collections.abc import Mapping, Sequence

from reconciler.engines.port import Engine
from reconciler.host.threads import map_in_order
from reconciler.model.errors import EngineError, ListIncomplete
from reconciler.model.jobs import Observation, Status

_LIST_FROM = 20
"""From so many jobs on, the list is asked first: a page of it holds more than that."""

_LIST_PER_JOB = 50
"""A service that lists more jobs than this for each that is asked for is better asked one by one."""


_READ_ITSELF = frozenset({Status.MISSING, Status.UNREADABLE})
"""Where a list says this of a job, the job is read by itself: a list may be old, and may tell less than that read."""


def observe_jobs(engine: Engine, job_ids: Sequence[str], parallelism: int) -> Mapping[str, Observation]:
    """What the service says of each job, by engine job id.

    A job that is not in the list is asked for by itself: a list may leave jobs out. Raises
    `CredentialsError` or `EngineError` as `Engine.observe` does.
    """
    found: dict[str, Observation] = {}
    if len(job_ids) >= _LIST_FROM:
        found = _listed(engine, frozenset(job_ids))
    left = [job_id for job_id in job_ids if job_id not in found]
    found.update(zip(left, map_in_order(engine.observe, left, parallelism), strict=True))
    return found


def _listed(engine: Engine, wanted: frozenset[str]) -> dict[str, Observation]:
    """What the list says of the jobs that are wanted; a list that is not whole lacks some of them."""
    found: dict[str, Observation] = {}
    try:
        for seen, (job_id, observation) in enumerate(engine.observe_all()):
            if job_id in wanted and observation.status not in _READ_ITSELF:
                found[job_id] = observation
            if len(found) == len(wanted) or seen >= _LIST_PER_JOB * len(wanted):
                break
    except ListIncomplete:
        return found
    except EngineError:
        return {}
    return found
