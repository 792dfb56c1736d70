"""Kueue: a queue in front of the Jobs of a cluster (https://kueue.sigs.k8s.io/docs/tasks/run/jobs/).

A Job with the label of a queue is created suspended. Kueue makes a Workload for the Job, and starts the Job once there
is room. Kueue would start a Job again that somebody else suspends. So an abort goes through the Workload: Kueue
suspends the Job of a Workload that is not active (`spec.active`), and its pods are ended.
"""

from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from threading import Lock
from typing import Any

from reconciler.engines.http.reply import Reply
from reconciler.engines.kubernetes.api import MERGE_PATCH, Api, Request, segment
from reconciler.engines.kubernetes.fields import document, items, labels, name, text, uid
from reconciler.engines.port import EngineError

_GROUP = "/apis/kueue.x-k8s.io"
_JOB_UID_LABEL = "kueue.x-k8s.io/job-uid"
"""The label of a Workload with the uid of its Job, since Kueue 0.5."""


class Kueue:
    """The Workloads of one namespace. Several threads may call any method at the same time."""

    def __init__(self, api: Api, namespace: str) -> None:
        self._api = api
        self._namespace = namespace
        self._lock = Lock()
        self._known_version: str | None = None

    def workload_of(self, job_uid: str) -> Mapping[str, Any] | None:
        """Return the Workload of a Job; None if there is none, or if the cluster has no Kueue.

        Raises `EngineError` if the Workloads can't be read, and `CredentialsError`.
        """
        if not (version := self._version()):
            return None
        found = self._api.listed(self._path(version), f"{_JOB_UID_LABEL}={job_uid}")
        return next((workload for workload in found if _is_of(workload, job_uid)), None)

    def deactivate(self, workload: Mapping[str, Any], may_be_sent: Callable[[], bool]) -> Reply:
        """Let Kueue suspend the Job of a Workload for good, and return the reply. It may be sent again."""
        patch = {"metadata": {"uid": uid(workload)}, "spec": {"active": False}}
        path = f"{self._path(self._version())}/{segment(name(workload))}?fieldManager=reconciler"
        return self._api.call(Request("PATCH", path, patch, MERGE_PATCH), may_be_sent)

    def why_waiting(self, job_uids: Collection[str]) -> Mapping[str, str]:
        """Return why Kueue has yet to start each of these Jobs, by uid, as far as the Workloads can be read.

        That takes one list, whatever the number of Jobs. Raises `CredentialsError`.
        """
        found: dict[str, str] = {}
        with suppress(EngineError):
            if job_uids and (version := self._version()):
                selector = f"{_JOB_UID_LABEL}={next(iter(job_uids))}" if len(job_uids) == 1 else ""
                for workload in self._api.listed(self._path(version), selector):
                    job_uid, why = labels(workload).get(_JOB_UID_LABEL, ""), _why(workload)
                    if job_uid in job_uids and why:
                        found[job_uid] = why
        return found

    def _path(self, version: str) -> str:
        return f"{_GROUP}/{segment(version)}/namespaces/{segment(self._namespace)}/workloads"

    def _version(self) -> str:
        """Return the version of the API that the server prefers, such as "v1beta1"; "" for a cluster without Kueue."""
        with self._lock:
            if self._known_version is None:
                reply = self._api.read(_GROUP)
                if reply.status not in (200, 404):
                    raise EngineError(f"{self._api.server}{_GROUP}: {reply.status}: {self._api.message(reply)}")
                # The document of a 404 has no version.
                self._known_version = text(document(reply), "preferredVersion", "version")
            return self._known_version


def _is_of(workload: Mapping[str, Any], job_uid: str) -> bool:
    return any(owner.get("uid") == job_uid for owner in items(workload, "metadata", "ownerReferences"))


def _why(workload: Mapping[str, Any]) -> str:
    """Return the message of the condition QuotaReserved while it is false, such as "insufficient unused quota"."""
    for condition in items(workload, "status", "conditions"):
        if condition.get("type") == "QuotaReserved":
            waits = condition.get("status") == "False"
            return f"waits in its queue: {text(condition, 'message')}".removesuffix(": ") if waits else ""
    return "waits in its queue"
