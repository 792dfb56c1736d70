"""How the run of a Job is aborted: by a deadline that has passed, through Kueue, or by a delete while it waits.

A deadline counts from the start of the Job. Where the pods can't be made, as under a quota, a controller may never note
a start (Kubernetes 1.20 does not), so that no deadline ends the Job, and its pods come once the quota is lifted. So a
Job without a start also gets the parallelism 0, with which it makes no pods.

Each way may be repeated, and each is about the one object that was observed, by its uid.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from reconciler.engines.http.reply import Reply
from reconciler.engines.kubernetes.api import MERGE_PATCH, Api, Request, segment
from reconciler.engines.kubernetes.fields import labels, name, spec, text, uid
from reconciler.engines.kubernetes.kueue import Kueue
from reconciler.engines.kubernetes.objects import ABORT_OP, QUEUE_LABEL
from reconciler.engines.kubernetes.pods import is_being_stopped
from reconciler.engines.port import AnswerClass, Reason, Result


class Aborting:
    """Aborts the Jobs of one namespace. Several threads may call any method at the same time."""

    def __init__(self, api: Api, jobs_path: str, pods_path: str, kueue: Kueue) -> None:
        self._api = api
        self._jobs_path = jobs_path
        self._pods_path = pods_path
        self._kueue = kueue

    def abort(self, job: Mapping[str, Any], op: str, may_be_sent: Callable[[], bool]) -> Result:
        """Abort the active run of a Job. `op` identifies the call, and marks the Job as aborted by us.

        Raises `EngineError` and `CredentialsError` if a read fails before anything is sent.
        """
        if QUEUE_LABEL not in labels(job):
            return self._marked(job, op, may_be_sent, _deadline(job))
        workload = self._kueue.workload_of(uid(job))
        if workload is not None:
            reply = self._kueue.deactivate(workload, may_be_sent)
            result = self._api.result(reply)
            if result.kind is not AnswerClass.APPLIED:
                return result
            # The mark comes last. A Job that is marked and suspended counts as aborted, and Kueue may suspend a Job at
            # any time until its Workload is inactive.
            return self._marked(job, op, may_be_sent, {})
        if spec(job).get("suspend") is True:
            # Nothing would start this Job, and no deadline ends a Job that is suspended.
            return self._gone(self._deleted(job, may_be_sent))
        return self._marked(job, op, may_be_sent, _deadline(job))

    def end_pods(self, pods: Sequence[Mapping[str, Any]], may_be_sent: Callable[[], bool]) -> Result:
        """Delete pods whose Job is gone, each by its uid. Those that were deleted before get SIGTERM by now."""
        for pod in pods:
            if is_being_stopped(pod):
                continue
            reply = self._api.call(
                Request("DELETE", f"{self._pods_path}/{segment(name(pod))}", _only(pod)), may_be_sent
            )
            if reply.status in (404, 409):
                continue  # It is gone, or another pod has its name by now.
            result = self._api.result(reply)
            if result.kind is not AnswerClass.APPLIED:
                return result
        return Result(AnswerClass.APPLIED)

    def _marked(
        self, job: Mapping[str, Any], op: str, may_be_sent: Callable[[], bool], fields: Mapping[str, Any]
    ) -> Result:
        """Mark a Job as aborted, and change these fields of its spec."""
        patch = {"metadata": {"uid": uid(job), "annotations": {ABORT_OP: op}}, **({"spec": fields} if fields else {})}
        path = f"{self._jobs_path}/{segment(name(job))}?fieldManager=reconciler"
        return self._gone(self._api.call(Request("PATCH", path, patch, MERGE_PATCH), may_be_sent))

    def _deleted(self, job: Mapping[str, Any], may_be_sent: Callable[[], bool]) -> Reply:
        body = {"propagationPolicy": "Background", **_only(job)}
        return self._api.call(Request("DELETE", f"{self._jobs_path}/{segment(name(job))}", body), may_be_sent)

    def _gone(self, reply: Reply) -> Result:
        """Return what a reply means, where the object that was observed may be gone or another one by now."""
        message = self._api.message(reply)
        if reply.status in (404, 409) or (reply.status == 422 and "uid" in message):
            return Result(AnswerClass.REJECTED, Reason.NOT_RUNNING, message, str(reply.status))
        return self._api.result(reply)


def _deadline(job: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the fields of the spec that end a Job."""
    has_started = text(job, "status", "startTime") != ""
    return {"activeDeadlineSeconds": 1} if has_started else {"activeDeadlineSeconds": 1, "parallelism": 0}


def _only(there: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the part of the body of a delete that keeps it to the object that was read."""
    return {"preconditions": {"uid": uid(there)}}
