"""What a Job and its pods say about a run.

    status        Job
    ACTIVE        without a final condition; or with one, while a pod of its uid still executes
    COMPLETE      the condition Complete
    FAILED        the condition Failed
    ABORTED       the condition Failed and our annotation of an abort; or suspended with that annotation, without pods
    DRAFT         suspended without the label of a queue: somebody else made it, and nobody has started it

A Job says Failed while its pods still get SIGTERM. So a run is over once each pod of its uid is terminal.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from reconciler.engines.kubernetes.importing import config_from, owner_of
from reconciler.engines.kubernetes.objects import ABORT_OP, JOB_LABEL, QUEUE_LABEL, config_of, marks_of
from reconciler.engines.port import Execution, Observation, Status

_FINAL = {"Complete": Status.COMPLETE, "Failed": Status.FAILED}
_NOT_STARTED_REASONS = frozenset({"ContainerCreating", "PodInitializing"})


def status_of(job: Mapping[str, Any], pods: Collection[Mapping[str, Any]]) -> Status:
    """Return the status of the run of a Job. `pods` are its pods; those that have succeeded may be left out."""
    spec, metadata = _mapping(job.get("spec")), _mapping(job.get("metadata"))
    was_aborted = ABORT_OP in _mapping(metadata.get("annotations"))
    final = final_condition(job)
    if not all(map(is_terminal, pods)):
        return Status.ACTIVE
    if final is not None:
        status = _FINAL[final["type"]]
        return Status.ABORTED if status is Status.FAILED and was_aborted else status
    if spec.get("suspend") is True:
        if was_aborted:
            return Status.ABORTED
        return Status.ACTIVE if QUEUE_LABEL in _mapping(metadata.get("labels")) else Status.DRAFT
    return Status.ACTIVE


def lacks_pods(job: Mapping[str, Any], pods: Collection[Mapping[str, Any]]) -> bool:
    """Return whether the cluster is to make pods for a Job that has none. `pods` are as in `status_of`."""
    has_run = _number(_mapping(job.get("status")).get("succeeded"))
    return (
        not pods
        and not has_run
        and final_condition(job) is None
        and _mapping(job.get("spec")).get("suspend") is not True
    )


def waits_in_a_queue(job: Mapping[str, Any]) -> bool:
    """Return whether Kueue has yet to start a Job."""
    metadata = _mapping(job.get("metadata"))
    is_queued = QUEUE_LABEL in _mapping(metadata.get("labels"))
    was_aborted = ABORT_OP in _mapping(metadata.get("annotations"))
    return (
        is_queued
        and not was_aborted
        and final_condition(job) is None
        and _mapping(job.get("spec")).get("suspend") is True
    )


def observation(job: Mapping[str, Any], pods: Sequence[Mapping[str, Any]], refusal: str = "") -> Observation:
    """Return the observation of the run of a Job. `pods` are as in `status_of`.

    `refusal` says why the cluster or Kueue does not start the Job; "" if it is started, or if that is not known.
    """
    metadata = _mapping(job.get("metadata"))
    name, uid = _text(metadata.get("name")), _text(metadata.get("uid"))
    status = status_of(job, pods)
    final = final_condition(job)
    is_ours = JOB_LABEL in _mapping(metadata.get("labels"))
    sent = config_of(job)
    times = dict(_times(job, status, final))
    return Observation(
        status,
        word=_word(job, status, final),
        config=config_from(job) if sent is None else sent,
        submitted_at=_text(metadata.get("creationTimestamp")) or None,
        timestamps=times,
        detail=_detail(job, status, final, pods, refusal),
        name=name,
        run_id=name if is_ours else "",
        ref=uid,
        marks=marks_of(job),
        execution=_execution(job, status, final, pods),
        owned_by=owner_of(job),
    )


def final_condition(job: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the condition Complete or Failed of a Job, if it is true."""
    for condition in _items(_mapping(job.get("status")).get("conditions")):
        if condition.get("type") in _FINAL and condition.get("status") == "True":
            return condition
    return None


def is_terminal(pod: Mapping[str, Any]) -> bool:
    """Return whether nothing of a pod executes any more."""
    return _mapping(pod.get("status")).get("phase") in ("Succeeded", "Failed")


def why_waiting(pod: Mapping[str, Any]) -> str:
    """Return why a pod does not start, such as "Unschedulable: 0/3 nodes are available"; "" if it has started."""
    status = _mapping(pod.get("status"))
    for container in (*_items(status.get("initContainerStatuses")), *_items(status.get("containerStatuses"))):
        waiting = _mapping(_mapping(container.get("state")).get("waiting"))
        reason = _text(waiting.get("reason"))
        if reason and reason not in _NOT_STARTED_REASONS:
            return _joined(reason, _text(waiting.get("message")))
    for condition in _items(status.get("conditions")):
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            return _joined(_text(condition.get("reason")), _text(condition.get("message")))
    return ""


def how_ended(pod: Mapping[str, Any]) -> str:
    """Return how a pod that failed ended, such as "OOMKilled" or "exit code 3"; "" if it does not say.

    What ended the whole pod comes first, since its containers only tell of the signal that they got then.
    """
    status = _mapping(pod.get("status"))
    for condition in _items(status.get("conditions")):
        if condition.get("type") == "DisruptionTarget" and condition.get("status") == "True":
            return f"disrupted: {_joined(_text(condition.get('reason')), _text(condition.get('message')))}"
    if (reason := _text(status.get("reason"))) == "DeadlineExceeded":
        return f"timed out: taskTimeout is {_mapping(pod.get('spec')).get('activeDeadlineSeconds')} s"
    if reason:
        return _joined(reason, _text(status.get("message")))
    for container in (*_items(status.get("initContainerStatuses")), *_items(status.get("containerStatuses"))):
        ended = _mapping(_mapping(container.get("state")).get("terminated"))
        reason, code = _text(ended.get("reason")), ended.get("exitCode")
        if ended and code != 0:
            how = f"exit code {code}"
            return how if reason in ("", "Error") else _joined(reason, _text(ended.get("message")) or how)
    return _text(status.get("message"))


def progress(job: Mapping[str, Any]) -> str:
    """Return how far a Job of several pods is, such as "12 of 40 indexes complete"; "" for a Job of one pod."""
    spec, status = _mapping(job.get("spec")), _mapping(job.get("status"))
    wanted = _number(spec.get("completions"))
    if wanted < 2:
        return ""
    if spec.get("completionMode") != "Indexed":
        return f"{_number(status.get('succeeded'))} of {wanted} pods complete"
    complete, failed = (_count_of(_text(status.get(name))) for name in ("completedIndexes", "failedIndexes"))
    return f"{complete} of {wanted} indexes complete" + (f", {failed} failed" if failed else "")


def _count_of(indexes: str) -> int:
    """Return how many indexes a list such as "0-5,7" has."""
    count = 0
    for part in filter(None, indexes.split(",")):
        first, _, last = part.partition("-")
        if first.isdigit() and (last or first).isdigit():
            count += int(last or first) - int(first) + 1
    return count


def _word(job: Mapping[str, Any], status: Status, final: Mapping[str, Any] | None) -> str:
    """Return the cluster's own word for the state of a Job, if it says more than the status."""
    if final is not None:
        return "stopping" if status is Status.ACTIVE else _text(final.get("type"))
    if _mapping(job.get("metadata")).get("deletionTimestamp"):
        return "being deleted"
    if _mapping(job.get("spec")).get("suspend") is True:
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
        case Status.ACTIVE:
            why = next((why for pod in pods if (why := why_waiting(pod))), refusal)
        case Status.FAILED if final is not None:
            why = _how_failed(job, final, pods)
        case _:
            return ""
    return "; ".join(filter(None, (progress(job), why)))


def _how_failed(job: Mapping[str, Any], final: Mapping[str, Any], pods: Sequence[Mapping[str, Any]]) -> str:
    reason = _text(final.get("reason"))
    if reason == "DeadlineExceeded":
        timeout_s = _mapping(job.get("spec")).get("activeDeadlineSeconds")
        return f"timed out: jobTimeout is {timeout_s} s"
    ended = [how for pod in sorted(pods, key=_created) if is_terminal(pod) and (how := how_ended(pod))]
    return ended[-1] if ended else _joined(reason, _text(final.get("message")))


def _times(job: Mapping[str, Any], status: Status, final: Mapping[str, Any] | None) -> Iterator[tuple[str, str]]:
    if started := _text(_mapping(job.get("status")).get("startTime")):
        yield "started", started
    if final is not None and status is not Status.ACTIVE and (ended := _text(final.get("lastTransitionTime"))):
        yield _text(final.get("type")), ended


def _execution(
    job: Mapping[str, Any], status: Status, final: Mapping[str, Any] | None, pods: Sequence[Mapping[str, Any]]
) -> Execution:
    counts = _mapping(job.get("status"))
    is_one_pod = _number(_mapping(job.get("spec")).get("completions", 1)) < 2
    attempts = sum(_number(counts.get(name)) for name in ("active", "succeeded", "failed")) if is_one_pod else 0
    live = [pod for pod in pods if not is_terminal(pod)]
    node = next((name for pod in live if (name := _text(_mapping(pod.get("spec")).get("nodeName")))), "")
    codes = [code for pod in sorted(pods, key=_created) if (code := _exit_code(pod)) is not None]
    is_over = status in (Status.COMPLETE, Status.FAILED, Status.ABORTED)
    return Execution(
        node=node,
        started_at=_text(counts.get("startTime")),
        ended_at=_text(final.get("lastTransitionTime")) if final is not None and is_over else "",
        exit_code=codes[-1] if codes and status is Status.FAILED else 0 if status is Status.COMPLETE else None,
        reason=_text(final.get("reason")) if final is not None and status is Status.FAILED else "",
        attempts=attempts,
    )


def _exit_code(pod: Mapping[str, Any]) -> int | None:
    """Return the exit code of the first container of a pod that failed; None if there is none."""
    for container in _items(_mapping(pod.get("status")).get("containerStatuses")):
        code = _mapping(_mapping(container.get("state")).get("terminated")).get("exitCode")
        if isinstance(code, int) and code:
            return code
    return None


def _created(pod: Mapping[str, Any]) -> str:
    return _text(_mapping(pod.get("metadata")).get("creationTimestamp"))


def _joined(reason: str, message: str) -> str:
    return ": ".join(filter(None, (reason, message)))


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0


def _items(value: object) -> list[Mapping[str, Any]]:
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list) else []


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
