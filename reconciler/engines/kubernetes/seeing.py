"""Which run of a job an observation is of: the newest one of which something executes, otherwise the newest one.

Runs that bear a lineage come first. A Job without one is shown if there is nothing else: it is of somebody else, who
has given it our label or the name of the job, or it was imported.

By the rules, a run starts once nothing of the runs before it executes. A Job that somebody has copied by hand, or whose
Job was deleted without its pods, breaks that. An observation of the newest run would then hide what executes.
"""

from collections.abc import Mapping
from typing import Any

from reconciler.engines.kubernetes.fields import name, uid
from reconciler.engines.kubernetes.objects import marks_of
from reconciler.engines.kubernetes.observations import observation, status_of
from reconciler.engines.kubernetes.pods import job_name_of, lineage_of, newest_of, observation_of_strays
from reconciler.engines.kubernetes.reading import Seen
from reconciler.engines.port import Observation, Status


def observation_of(seen: Seen, run_id: str = "") -> Observation:
    """Return the observation of a run. With `run_id` "", it is the run that the docstring of this module names."""
    if run_id:
        return _of_run(seen, run_id)
    jobs = executing_first(seen)
    lineage = marks_of(jobs[0]).lineage if jobs else ""
    strays = newest_of([pod for pod in seen.strays if lineage in ("", lineage_of(pod))])
    found = _of(seen, jobs[0]) if jobs else Observation(Status.MISSING)
    if strays and (lineage == "" or found.status is not Status.ACTIVE):
        return observation_of_strays(strays)
    if not jobs:
        return found
    others = [name(job) for job in jobs if job is not jobs[0] and _is_active(seen, job)]
    others += sorted({job_name_of(pod) for pod in seen.strays} - {name(jobs[0])})
    if not others:
        return found
    more = f"something of {', '.join(others)} executes too"
    return found._replace(detail="; ".join(filter(None, (found.detail, more))))


def executing_first(seen: Seen) -> list[Mapping[str, Any]]:
    """Return the Jobs of a job: those that execute, then the others, the newest one first each time."""
    active = _executing(seen)
    return [*active, *(job for job in seen.jobs if not any(job is each for each in active))]


def _executing(seen: Seen) -> list[Mapping[str, Any]]:
    """Return the Jobs of the lineage of the newest one of which something executes, the newest one first."""
    return [
        job for job in seen.jobs if marks_of(job).lineage == marks_of(seen.jobs[0]).lineage and _is_active(seen, job)
    ]


def _of_run(seen: Seen, run_id: str) -> Observation:
    for job in seen.jobs:
        if name(job) == run_id:
            return _of(seen, job)
    strays = [pod for pod in seen.strays if job_name_of(pod) == run_id]
    return observation_of_strays(strays) if strays else Observation(Status.MISSING)


def _of(seen: Seen, job: Mapping[str, Any]) -> Observation:
    return observation(job, seen.pods_of(job), seen.refusals.get(uid(job), ""))


def _is_active(seen: Seen, job: Mapping[str, Any]) -> bool:
    return status_of(job, seen.pods_of(job)) is Status.ACTIVE
