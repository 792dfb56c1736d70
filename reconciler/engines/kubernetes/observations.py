"""What a Job and its pods say about a run.

    status        Job
    ACTIVE        without a final condition; or with one, while a pod of its uid still executes
    COMPLETE      the condition Complete
    FAILED        the condition Failed
    ABORTED       the condition Failed and our annotation of an abort; or that annotation on a Job that executes nothing
                  and makes no pods: it is suspended, or has the parallelism 0
    DRAFT         suspended without the label of a queue: somebody else made it, and nobody has started it

A Job says Failed while its pods still get SIGTERM. So a run is over once each pod of its uid is terminal.
"""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from reconciler.engines.kubernetes.fields import items, mapping, text
from reconciler.engines.kubernetes.importing import config_from, owner_of
from reconciler.engines.kubernetes.objects import ABORT_OP, JOB_LABEL, QUEUE_LABEL, marks_of
from reconciler.engines.kubernetes.sent import config_of
from reconciler.engines.port import Execution, Observation, Status

_FINAL = {"Complete": Status.COMPLETE, "Failed": Status.FAILED}
_INDEX = re.compile(r"[0-9]{1,10}")
_NOT_STARTED_REASONS = frozenset({"ContainerCreating", "PodInitializing"})


def status_of(job: Mapping[str, Any], pods: Collection[Mapping[str, Any]]) -> Status:
    """Return the status of the run of a Job. `pods` are its pods; those that have succeeded may be left out."""
    spec, metadata = mapping(job, "spec"), mapping(job, "metadata")
    was_aborted = ABORT_OP in mapping(metadata, "annotations")
    final = final_condition(job)
    if not all(map(is_terminal, pods)):
        return Status.ACTIVE
    if final is not None:
        status = _FINAL[final["type"]]
        return Status.ABORTED if status is Status.FAILED and was_aborted else status
    if was_aborted and (spec.get("suspend") is True or spec.get("parallelism") == 0):
        return Status.ABORTED
    if spec.get("suspend") is True:
        return Status.ACTIVE if QUEUE_LABEL in mapping(metadata, "labels") else Status.DRAFT
    return Status.ACTIVE


def lacks_pods(job: Mapping[str, Any], pods: Collection[Mapping[str, Any]]) -> bool:
    """Return whether the cluster is to make pods for a Job that has none. `pods` are as in `status_of`."""
    if pods or _number(mapping(job, "status").get("succeeded")) or final_condition(job) is not None:
        return False
    return mapping(job, "spec").get("suspend") is not True and status_of(job, pods) is not Status.ABORTED


def waits_in_a_queue(job: Mapping[str, Any]) -> bool:
    """Return whether Kueue has yet to start a Job."""
    metadata = mapping(job, "metadata")
    is_queued = QUEUE_LABEL in mapping(metadata, "labels")
    was_aborted = ABORT_OP in mapping(metadata, "annotations")
    return (
        is_queued and not was_aborted and final_condition(job) is None and mapping(job, "spec").get("suspend") is True
    )


def observation(job: Mapping[str, Any], pods: Sequence[Mapping[str, Any]], refusal: str = "") -> Observation:
    """Return the observation of the run of a Job. `pods` are as in `status_of`.

    `refusal` says why the cluster or Kueue does not start the Job; "" if it is started, or if that is not known.
    """
    metadata = mapping(job, "metadata")
    name, uid = text(metadata, "name"), text(metadata, "uid")
    status = status_of(job, pods)
    final = final_condition(job)
    marks = marks_of(job)
    # A label alone makes no run of ours: anybody may have written it.
    is_ours = JOB_LABEL in mapping(metadata, "labels") and marks.lineage != ""
    sent = config_of(job)
    times = dict(_times(job, status, final))
    return Observation(
        status,
        word=_word(job, status, final),
        config=config_from(job) if sent is None else sent,
        submitted_at=text(metadata, "creationTimestamp") or None,
        timestamps=times,
        detail=_detail(job, status, final, pods, refusal),
        name=name,
        run_id=name if is_ours else "",
        ref=uid,
        marks=marks,
        execution=_execution(job, status, final, pods),
        owned_by=owner_of(job),
    )


def final_condition(job: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the condition Complete or Failed of a Job, if it is true."""
    for condition in items(job, "status", "conditions"):
        if condition.get("type") in _FINAL and condition.get("status") == "True":
            return condition
    return None


def is_terminal(pod: Mapping[str, Any]) -> bool:
    """Return whether nothing of a pod executes any more."""
    return mapping(pod, "status").get("phase") in ("Succeeded", "Failed")


def why_waiting(pod: Mapping[str, Any]) -> str:
    """Return why a pod does not start, such as "Unschedulable: 0/3 nodes are available"; "" if it has started."""
    status = mapping(pod, "status")
    for container in (*items(status, "initContainerStatuses"), *items(status, "containerStatuses")):
        waiting = mapping(container, "state", "waiting")
        reason = text(waiting, "reason")
        if reason and reason not in _NOT_STARTED_REASONS:
            return _joined(reason, text(waiting, "message"))
    for condition in items(status, "conditions"):
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            return _joined(text(condition, "reason"), text(condition, "message"))
    return ""


def how_ended(pod: Mapping[str, Any]) -> str:
    """Return how a pod that failed ended, such as "OOMKilled" or "exit code 3"; "" if it does not say.

    What ended the whole pod comes first, since its containers only tell of the signal that they got then.
    """
    status = mapping(pod, "status")
    for condition in items(status, "conditions"):
        if condition.get("type") == "DisruptionTarget" and condition.get("status") == "True":
            return f"disrupted: {_joined(text(condition, 'reason'), text(condition, 'message'))}"
    if (reason := text(status, "reason")) == "DeadlineExceeded":
        return f"timed out: taskTimeout is {mapping(pod, 'spec').get('activeDeadlineSeconds')} s"
    if reason:
        return _joined(reason, text(status, "message"))
    for container in (*items(status, "initContainerStatuses"), *items(status, "containerStatuses")):
        ended = mapping(container, "state", "terminated")
        reason, code = text(ended, "reason"), ended.get("exitCode")
        if ended and code != 0:
            how = f"exit code {code}"
            return how if reason in ("", "Error") else _joined(reason, text(ended, "message") or how)
    return text(status, "message")


def progress(job: Mapping[str, Any]) -> str:
    """Return how far a Job of several pods is, such as "12 of 40 indexes complete"; "" for a Job of one pod."""
    spec, status = mapping(job, "spec"), mapping(job, "status")
    wanted = _number(spec.get("completions"))
    if wanted < 2:
        return ""
    if spec.get("completionMode") != "Indexed":
        return f"{_number(status.get('succeeded'))} of {wanted} pods complete"
    complete, failed = (_count_of(text(status, name)) for name in ("completedIndexes", "failedIndexes"))
    return f"{complete} of {wanted} indexes complete" + (f", {failed} failed" if failed else "")


def _count_of(indexes: str) -> int:
    """Return how many indexes a list such as "0-5,7" has."""
    count = 0
    for part in filter(None, indexes.split(",")):
        first, _, last = part.partition("-")
        if _INDEX.fullmatch(first) and _INDEX.fullmatch(last or first):
            count += int(last or first) - int(first) + 1
    return count


def _word(job: Mapping[str, Any], status: Status, final: Mapping[str, Any] | None) -> str:
    """Return the cluster's own word for the state of a Job, if it says more than the status."""
    if final is not None:
        return "stopping" if status is Status.ACTIVE else text(final, "type")
    if mapping(job, "metadata").get("deletionTimestamp"):
        return "being deleted"
    if mapping(job, "spec").get("suspend") is True:
        return "queued" if status is Status.ACTIVE else "suspended"
    return ""


def _detail(
    job: Mapping[str, Any],
    status: Status,
    final: Mapping[str, Any] | None,
    pods: Sequence[Mapping[str, Any]],
    refusal: str,
) -> str:
    """Return how far a run is, and why it does not start or how it failed."""
    match status:
        case Status.ACTIVE if mapping(job, "spec").get("parallelism") == 0:
            why = "parallelism is 0, so no pod is started"
        case Status.ACTIVE:
            why = next((why for pod in pods if (why := why_waiting(pod))), refusal)
        case Status.FAILED if final is not None:
            why = _how_failed(job, final, pods)
        case _:
            return ""
    return "; ".join(filter(None, (progress(job), why)))


def _how_failed(job: Mapping[str, Any], final: Mapping[str, Any], pods: Sequence[Mapping[str, Any]]) -> str:
    reason = text(final, "reason")
    if reason == "DeadlineExceeded":
        timeout_s = mapping(job, "spec").get("activeDeadlineSeconds")
        return f"timed out: jobTimeout is {timeout_s} s"
    ended = [how for pod in sorted(pods, key=_created) if is_terminal(pod) and (how := how_ended(pod))]
    return ended[-1] if ended else _joined(reason, text(final, "message"))


def _times(job: Mapping[str, Any], status: Status, final: Mapping[str, Any] | None) -> Iterator[tuple[str, str]]:
    if started := text(job, "status", "startTime"):
        yield "started", started
    if final is not None and status is not Status.ACTIVE and (ended := text(final, "lastTransitionTime")):
        yield text(final, "type"), ended


def _execution(
    job: Mapping[str, Any], status: Status, final: Mapping[str, Any] | None, pods: Sequence[Mapping[str, Any]]
) -> Execution:
    counts = mapping(job, "status")
    is_one_pod = _number(mapping(job, "spec").get("completions", 1)) < 2
    attempts = sum(_number(counts.get(name)) for name in ("active", "succeeded", "failed")) if is_one_pod else 0
    live = [pod for pod in pods if not is_terminal(pod)]
    node = next((name for pod in live if (name := text(pod, "spec", "nodeName"))), "")
    codes = [code for pod in sorted(pods, key=_created) if (code := _exit_code(pod)) is not None]
    is_over = status in (Status.COMPLETE, Status.FAILED, Status.ABORTED)
    return Execution(
        node=node,
        started_at=text(counts, "startTime"),
        ended_at=text(final, "lastTransitionTime") if final is not None and is_over else "",
        exit_code=codes[-1] if codes and status is Status.FAILED else 0 if status is Status.COMPLETE else None,
        reason=text(final, "reason") if final is not None and status is Status.FAILED else "",
        attempts=attempts,
    )


def _exit_code(pod: Mapping[str, Any]) -> int | None:
    """Return the exit code of the first container of a pod that failed; None if there is none."""
    for container in items(pod, "status", "containerStatuses"):
        code = mapping(container, "state", "terminated").get("exitCode")
        if isinstance(code, int) and code:
            return code
    return None


def _created(pod: Mapping[str, Any]) -> str:
    return text(pod, "metadata", "creationTimestamp")


def _joined(reason: str, message: str) -> str:
    return ": ".join(filter(None, (reason, message)))


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0
