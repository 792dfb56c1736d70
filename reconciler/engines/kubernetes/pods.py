"""What a pod bears of its Job, and the observation of pods whose Job is gone.

A Job that somebody deletes is gone at once if its pods are left alone (`kubectl delete --cascade=orphan`), and before
its pods have ended by default. What executes is still the run. A pod has the labels of its run and the name of its
Job, and so says which run it is of.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from reconciler.engines.kubernetes.fields import labels, metadata, name, text
from reconciler.engines.kubernetes.objects import JOB_LABEL, LINEAGE_LABEL, job_id_of
from reconciler.engines.port import Execution, Marks, Observation, Status
from reconciler.rules.runs import number_of

_UIDS_OF_JOB = ("batch.kubernetes.io/controller-uid", "controller-uid")
_NAMES_OF_JOB = ("batch.kubernetes.io/job-name", "job-name")
"""The labels of a pod with the uid and the name of its Job. Servers before 1.27 have the second one alone."""


def job_uid_of(pod: Mapping[str, Any]) -> str:
    """Return the uid of the Job that has made a pod; "" if it does not say."""
    return next((labels(pod)[label] for label in _UIDS_OF_JOB if label in labels(pod)), "")


def job_name_of(pod: Mapping[str, Any]) -> str:
    """Return the name of the Job that has made a pod, which is its run id; "" if it does not say."""
    return next((labels(pod)[label] for label in _NAMES_OF_JOB if label in labels(pod)), "")


def is_of_a_run(pod: Mapping[str, Any]) -> bool:
    """Return whether a pod says that a Job has made it, for which job, and for which state."""
    return JOB_LABEL in labels(pod) and lineage_of(pod) != "" and job_uid_of(pod) != ""


def lineage_of(pod: Mapping[str, Any]) -> str:
    """Return the lineage that a pod bears; "" for none."""
    return text(pod, "metadata", "labels", LINEAGE_LABEL)


def is_being_stopped(pod: Mapping[str, Any]) -> bool:
    """Return whether a pod was deleted, and has yet to end."""
    return "deletionTimestamp" in metadata(pod)


def newest_of(pods: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the pods of the newest run of a job. `pods` are of that one job."""

    def age(pod: Mapping[str, Any]) -> tuple[int, str]:
        return number_of(job_name_of(pod), job_id_of(pod)), text(pod, "metadata", "creationTimestamp")

    newest = job_uid_of(max(pods, key=age)) if pods else ""
    return [pod for pod in pods if job_uid_of(pod) == newest]


def observation_of_strays(pods: Sequence[Mapping[str, Any]]) -> Observation:
    """Return the observation of a run whose Job is gone, and whose pods still execute. `pods` are those, at least one.

    When the run began and what it was asked for with went with the Job.
    """
    pod = pods[0]
    run_id = job_name_of(pod)
    shown = f"the pod {name(pod)} still executes" if len(pods) == 1 else f"{len(pods)} pods still execute"
    return Observation(
        Status.ACTIVE,
        word="stopping" if all(map(is_being_stopped, pods)) else "",
        detail=f"the Job {run_id} is gone, and {shown}",
        name=run_id,
        run_id=run_id,
        ref=job_uid_of(pod),
        marks=Marks(lineage=lineage_of(pod)),
        execution=Execution(node=text(pod, "spec", "nodeName"), started_at=text(pod, "status", "startTime")),
    )
