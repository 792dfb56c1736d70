"""Observes many jobs: with the service's list if that takes fewer requests, else one by one.

Engines whose service reads single jobs and lists pages of jobs share this.
"""

from collections.abc import Callable, Collection, Iterator, Mapping

from reconciler.host.threads import map_in_order
from reconciler.model.errors import EngineError, ListIncomplete
from reconciler.model.jobs import Observation, Status

_LIST_FROM = 20
"""The number of jobs from which on the list is read first. A page of the list holds more jobs than that."""

_LIST_PER_JOB = 50
"""The number of listed jobs for each wanted job at which the list is given up. Single reads are cheaper from there."""

_READ_ITSELF = frozenset({Status.MISSING, Status.UNREADABLE})
"""If the list gives a job one of these statuses, the job is read by itself: a list may be old, or lack details."""


def observe_many(
    job_ids: Collection[str],
    observe: Callable[[str], Observation],
    observe_all: Callable[[], Iterator[tuple[str, Observation]]],
    parallelism: int,
) -> Mapping[str, Observation]:
    """Return the observations of the jobs, by engine job id. Up to `parallelism` jobs are read at once.

    `observe` and `observe_all` are those of the engine. A job that the list leaves out is read by itself. Raises
    `CredentialsError` or `EngineError` as `Engine.observe` does.
    """
    found: dict[str, Observation] = {}
    if len(job_ids) >= _LIST_FROM:
        found = _listed(observe_all, frozenset(job_ids))
    left = [job_id for job_id in job_ids if job_id not in found]
    found.update(zip(left, map_in_order(observe, left, parallelism), strict=True))
    return found


def _listed(
    observe_all: Callable[[], Iterator[tuple[str, Observation]]], wanted: frozenset[str]
) -> dict[str, Observation]:
    """Return the observations that the list has of the wanted jobs. Some may be missing if the list is incomplete."""
    found: dict[str, Observation] = {}
    try:
        for count, (job_id, observation) in enumerate(observe_all()):
            if job_id in wanted and observation.status not in _READ_ITSELF:
                found[job_id] = observation
            if len(found) == len(wanted) or count >= _LIST_PER_JOB * len(wanted):
                break
    except ListIncomplete:
        return found
    except EngineError:
        return {}
    return found
