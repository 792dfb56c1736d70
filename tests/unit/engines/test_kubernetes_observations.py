"""What a Job and its pods say of a run, as newer servers than that of tests/kubernetes write it."""

from typing import Any

import pytest

from reconciler.engines.kubernetes.observations import observation
from reconciler.engines.port import Status

FAILED = [{"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded", "message": "Job has failed"}]


def job(spec: dict[str, Any], status: dict[str, Any]) -> dict[str, Any]:
    return {"metadata": {"name": "a-1", "labels": {"reconciler/job": "a"}}, "spec": spec, "status": status}


def pod(**status: Any) -> dict[str, Any]:
    return {"metadata": {"name": "a-1-x"}, "spec": {}, "status": {"phase": "Failed", **status}}


def terminated(code: int, reason: str, message: str = "") -> list[dict[str, Any]]:
    return [{"state": {"terminated": {"exitCode": code, "reason": reason, "message": message}}}]


INDEXED = {"completionMode": "Indexed", "completions": 40}


@pytest.mark.parametrize(
    ("status", "shown"),
    [
        ({}, "0 of 40 indexes complete"),
        ({"completedIndexes": "0-10,39"}, "12 of 40 indexes complete"),
        ({"completedIndexes": "5", "failedIndexes": "0,2-3"}, "1 of 40 indexes complete, 3 failed"),
        ({"completedIndexes": "what is this", "failedIndexes": "-4,x-2"}, "0 of 40 indexes complete"),
        ({"completedIndexes": "²", "failedIndexes": f"0-{'9' * 5000}"}, "0 of 40 indexes complete"),
    ],
)
def test_indexes_are_counted(status: dict[str, Any], shown: str) -> None:
    found = observation(job(INDEXED, status), [])
    assert (found.status, found.detail) == (Status.ACTIVE, shown)
    assert found.execution.attempts == 0


def test_a_failed_job_of_indexes_says_how_far_it_came_and_why_it_failed() -> None:
    status = {"completedIndexes": "0-11", "failedIndexes": "12", "conditions": FAILED}
    found = observation(job(INDEXED, status), [pod(containerStatuses=terminated(3, "Error"))])
    assert (found.status, found.detail) == (Status.FAILED, "12 of 40 indexes complete, 1 failed; exit code 3")


@pytest.mark.parametrize(
    ("status", "shown"),
    [
        ({"containerStatuses": terminated(137, "OOMKilled")}, "OOMKilled: exit code 137"),
        ({"containerStatuses": terminated(128, "StartError", "no such file")}, "StartError: no such file"),
        (
            {"reason": "Evicted", "message": "low on memory", "containerStatuses": terminated(137, "Error")},
            "Evicted: low on memory",
        ),
        (
            {
                "containerStatuses": terminated(143, "Error"),
                "conditions": [
                    {
                        "type": "DisruptionTarget",
                        "status": "True",
                        "reason": "EvictionByEvictionAPI",
                        "message": "Eviction API: evicting",
                    }
                ],
            },
            "disrupted: EvictionByEvictionAPI: Eviction API: evicting",
        ),
    ],
    ids=["memory", "start", "eviction", "drain"],
)
def test_what_ended_a_pod_is_said_before_what_its_container_tells(status: dict[str, Any], shown: str) -> None:
    assert observation(job({}, {"conditions": FAILED}), [pod(**status)]).detail == shown


def test_a_refusal_is_said_of_a_run_that_is_active() -> None:
    assert observation(job({}, {}), [], "FailedCreate: exceeded quota").detail == "FailedCreate: exceeded quota"
    assert observation(job({}, {"conditions": FAILED}), [], "FailedCreate: old").detail == (
        "BackoffLimitExceeded: Job has failed"
    )
