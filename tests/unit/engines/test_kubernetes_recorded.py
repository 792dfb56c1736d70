"""What a newer server answers than the one that the tests start: Kubernetes 1.36.2, recorded on 2026-11-29.

`kubernetes-1.36.2.json` holds the Jobs and pods at several moments, and replies to calls. The pods were executed by the
kubelet of `tests/kubernetes`. `tests/kubernetes/test_kueue.py` makes them anew on any server that is new enough.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from reconciler.engines.http.reply import Reply
from reconciler.engines.kubernetes.api import reason_of
from reconciler.engines.kubernetes.observations import observation, waits_in_a_queue
from reconciler.engines.kubernetes.sent import config_of
from reconciler.engines.port import Status

RECORDED: dict[str, Any] = json.loads((Path(__file__).parent / "kubernetes-1.36.2.json").read_text())


@pytest.mark.parametrize(
    ("moment", "status", "word"),
    [
        ("queued", Status.ACTIVE, "queued"),
        ("queued, aborted", Status.ABORTED, "suspended"),
        ("started by its queue", Status.ACTIVE, ""),
        ("preempted", Status.ACTIVE, "queued"),
        ("executes", Status.ACTIVE, ""),
        # The Job has a condition that it is to fail, while its pod has a grace of 20 seconds.
        ("aborted, and its pod ends", Status.ACTIVE, ""),
        ("aborted", Status.ABORTED, "Failed"),
        ("an exit code that allows no attempt", Status.FAILED, "Failed"),
        ("complete", Status.COMPLETE, "Complete"),
    ],
)
def test_the_status_of_a_recorded_job(moment: str, status: Status, word: str) -> None:
    recorded = RECORDED[moment]
    found = observation(recorded["job"], recorded["pods"])
    assert (found.status, found.word) == (status, word)
    assert found.run_id == recorded["job"]["metadata"]["name"]


def test_what_a_newer_server_fills_in_is_no_drift() -> None:
    for moment, recorded in RECORDED.items():
        if "job" in recorded:
            annotation = recorded["job"]["metadata"]["annotations"]["reconciler/config"]
            assert config_of(recorded["job"]) == json.loads(annotation), moment


def test_a_failed_run_names_its_exit_code() -> None:
    recorded = RECORDED["an exit code that allows no attempt"]
    found = observation(recorded["job"], recorded["pods"])
    assert (found.detail, found.execution.exit_code) == ("exit code 4", 4)


def test_only_a_job_that_is_to_be_started_waits_in_a_queue() -> None:
    jobs = {moment: recorded["job"] for moment, recorded in RECORDED.items() if "job" in recorded}
    assert {moment for moment, job in jobs.items() if waits_in_a_queue(job)} == {"queued", "preempted"}


@pytest.mark.parametrize(
    ("call", "status", "reason", "words"),
    [
        ("unknown field", 400, "BadRequest", 'strict decoding error: unknown field "spec.paralelism"'),
        ("taken", 409, "AlreadyExists", "already exists"),
        ("other uid", 422, "Invalid", "metadata.uid"),
        ("delete of another uid", 409, "Conflict", "does not match the UID in record"),
    ],
)
def test_the_reply_to_a_recorded_call(call: str, status: int, reason: str, words: str) -> None:
    recorded = RECORDED[call]
    reply = Reply(True, recorded["status"], document=recorded["document"])
    assert (reply.status, reason_of(reply)) == (status, reason)
    assert words in recorded["document"]["message"]
