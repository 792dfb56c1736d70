"""The abort of a Job in a queue of Kueue, against replies of Kubernetes 1.36.2.

The replies with Jobs are recorded (`kubernetes-1.36.2.json`). Those with Workloads have the form that the API of Kueue
documents. `tests/kubernetes/test_kueue.py` does the same on a server that is new enough.
"""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from reconciler.engines.http.reply import BaseTransport, Reply
from reconciler.engines.kubernetes.aborting import Aborting
from reconciler.engines.kubernetes.api import Api
from reconciler.engines.kubernetes.credentials import Credential, Credentials
from reconciler.engines.kubernetes.kubeconfig import User
from reconciler.engines.kubernetes.kueue import Kueue
from reconciler.engines.port import AnswerClass, EngineError, Reason, Surroundings, always
from reconciler.model.jobs import EMPTY

RECORDED: dict[str, Any] = json.loads((Path(__file__).parent / "kubernetes-1.36.2.json").read_text())
GROUP = {"kind": "APIGroup", "name": "kueue.x-k8s.io", "preferredVersion": {"version": "v1beta1"}}
JOBS, WORKLOADS = "/apis/batch/v1/namespaces/batch/jobs", "/apis/kueue.x-k8s.io/v1beta1/namespaces/batch/workloads"
PODS = "/api/v1/namespaces/batch/pods"
QUEUED, EXECUTES = RECORDED["queued"]["job"], RECORDED["started by its queue"]["job"]


class RecordedServer(BaseTransport):
    """Answers each request with the reply of its method and path, and notes the requests that change something."""

    def __init__(self, replies: Mapping[str, tuple[int, object]]) -> None:
        self._replies = replies
        self.changes: list[tuple[str, Any]] = []

    def exchange(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None) -> Reply:
        request = f"{method} {url.removeprefix('https://api').partition('?')[0]}"
        if method != "GET":
            self.changes.append((request, json.loads(body or b"null")))
        status, document = self._replies[request]
        return Reply(True, status, document=document)

    def of(self, credential: Credential) -> BaseTransport:
        return self

    def close(self) -> None:
        """Nothing is open."""


def workload_of(job: Mapping[str, Any]) -> dict[str, Any]:
    uid = job["metadata"]["uid"]
    return {
        "metadata": {
            "name": "job-a",
            "uid": "workload-uid",
            "labels": {"kueue.x-k8s.io/job-uid": uid},
            "ownerReferences": [{"uid": uid}],
        },
        "status": {"conditions": [{"type": "QuotaReserved", "status": "False", "message": "no room"}]},
    }


def parts(server: RecordedServer) -> tuple[Aborting, Kueue]:
    surroundings = Surroundings(
        env={},
        pause=lambda seconds: False,
        note_credential=lambda credential: None,
        boot_s=time.monotonic,
        wall_s=time.time,
        parallelism=1,
        max_rps=None,
        beside_state="",
    )
    api = Api("https://api", server, Credentials(User(), surroundings), surroundings)
    kueue = Kueue(api, "batch")
    return Aborting(api, JOBS, PODS, kueue), kueue


def server_with(
    job: Mapping[str, Any], more: Mapping[str, tuple[int, object]] = EMPTY, *, workload: bool = True
) -> RecordedServer:
    name = job["metadata"]["name"]
    items = [workload_of(job)] if workload else []
    replies: dict[str, tuple[int, object]] = {
        "GET /apis/kueue.x-k8s.io": (200, GROUP),
        f"GET {WORKLOADS}": (200, {"items": items, "metadata": {}}),
        f"PATCH {WORKLOADS}/job-a": (200, {}),
        f"PATCH {JOBS}/{name}": (200, job),
        f"DELETE {JOBS}/{name}": (200, {}),
    }
    return RecordedServer({**replies, **more})


@pytest.mark.parametrize("job", [QUEUED, EXECUTES])
def test_the_workload_is_deactivated_and_then_the_job_is_marked(job: dict[str, Any]) -> None:
    """A Job that is marked and suspended counts as aborted. So Kueue must not start it any more by then."""
    server = server_with(job)
    assert parts(server)[0].abort(job, "op-1", always).kind is AnswerClass.APPLIED
    uid = job["metadata"]["uid"]
    assert server.changes == [
        (f"PATCH {WORKLOADS}/job-a", {"metadata": {"uid": "workload-uid"}, "spec": {"active": False}}),
        (
            f"PATCH {JOBS}/{job['metadata']['name']}",
            {"metadata": {"uid": uid, "annotations": {"reconciler/abort-op": "op-1"}}},
        ),
    ]


def test_a_workload_that_may_not_be_changed_leaves_the_job_as_it_is() -> None:
    server = server_with(QUEUED, {f"PATCH {WORKLOADS}/job-a": (403, {"message": "forbidden"})})
    result = parts(server)[0].abort(QUEUED, "op-1", always)
    assert (result.kind, result.reason, len(server.changes)) == (AnswerClass.REJECTED, Reason.NOT_PERMITTED, 1)


def test_workloads_that_can_not_be_read_end_the_abort_before_anything_is_sent() -> None:
    server = server_with(QUEUED, {f"GET {WORKLOADS}": (403, {"message": "forbidden"})})
    with pytest.raises(EngineError, match="forbidden"):
        parts(server)[0].abort(QUEUED, "op-1", always)
    assert server.changes == []


@pytest.mark.parametrize("group", [(200, GROUP), (404, {"kind": "Status"})], ids=["no Workload", "no Kueue"])
def test_a_job_that_nobody_would_start_is_deleted_by_its_uid(group: tuple[int, object]) -> None:
    server = server_with(QUEUED, {"GET /apis/kueue.x-k8s.io": group}, workload=False)
    assert parts(server)[0].abort(QUEUED, "op-1", always).kind is AnswerClass.APPLIED
    ((request, body),) = server.changes
    assert request == f"DELETE {JOBS}/{QUEUED['metadata']['name']}"
    assert body == {"propagationPolicy": "Background", "preconditions": {"uid": QUEUED["metadata"]["uid"]}}


def test_a_job_that_executes_without_a_workload_gets_a_deadline() -> None:
    server = server_with(EXECUTES, workload=False)
    assert parts(server)[0].abort(EXECUTES, "op-1", always).kind is AnswerClass.APPLIED
    ((_, body),) = server.changes
    assert body["spec"] == {"activeDeadlineSeconds": 1}


def test_another_object_of_the_name_is_not_aborted() -> None:
    recorded = RECORDED["other uid"]
    name = EXECUTES["metadata"]["name"]
    replies = {f"PATCH {JOBS}/{name}": (recorded["status"], recorded["document"])}
    result = parts(server_with(EXECUTES, replies, workload=False))[0].abort(EXECUTES, "op-1", always)
    assert (result.kind, result.reason) == (AnswerClass.REJECTED, Reason.NOT_RUNNING)


def test_the_queue_says_why_a_job_waits() -> None:
    uid = QUEUED["metadata"]["uid"]
    _, kueue = parts(server_with(QUEUED))
    assert kueue.why_waiting({uid}) == {uid: "waits in its queue: no room"}
    assert kueue.why_waiting({uid, "another"}) == {uid: "waits in its queue: no room"}
    _, without = parts(server_with(QUEUED, {"GET /apis/kueue.x-k8s.io": (404, {})}))
    assert without.why_waiting({uid}) == {}
