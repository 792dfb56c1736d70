"""The calls and the jobs of the jobs API, from and to the values of the model."""

import subprocess
import sys
from urllib.parse import quote

import pytest

from reconciler.engines.bytenite.wire import ApiRequest, api_request, job_path, observation_from
from reconciler.model.jobs import Status, Verb
from steps import step_for

ID = "7728ba38-f0a0-4319-ae28-07734448a334"


@pytest.mark.parametrize(
    ("verb", "request_"),
    [
        (Verb.RUN, ApiRequest("POST", f"/jobs/{ID}/run", {"config": {"taskTimeout": 600, "isTestJob": False}})),
        (Verb.ABORT, ApiRequest("POST", f"/jobs/{ID}/abort", None)),
        (Verb.DELETE, ApiRequest("DELETE", f"/jobs/{ID}", None)),
    ],
)
def test_each_verb_is_one_call(verb: Verb, request_: ApiRequest) -> None:
    assert api_request(step_for(verb, ID, {"taskTimeout": 600, "isTestJob": False})) == request_


def test_a_run_without_config_sends_an_empty_one_as_the_body_is_required() -> None:
    assert api_request(step_for(Verb.RUN, ID)).body == {"config": {}}


@pytest.mark.parametrize("job_id", ["a/b", "a?b#c", "a b", "%2e", "..;x", "ümlaut", "A-z_0.9~", "+&=@:", "\n"])
def test_an_id_stays_one_segment_of_the_path(job_id: str) -> None:
    assert job_path(job_id) == "/jobs/" + quote(job_id, safe="")


@pytest.mark.parametrize(
    ("word", "status"),
    [
        ("JOB_STATE_NEW", Status.DRAFT),
        ("JOB_STATE_COMPLETE", Status.COMPLETE),
        ("JOB_STATE_FAILED", Status.FAILED),
        ("JOB_STATE_ABORTED", Status.ABORTED),
        ("JOB_STATE_CANCELLED", Status.ABORTED),
        ("JOB_STATE_RUNNING", Status.ACTIVE),
        ("JOB_STATE_NEWLY_INVENTED", Status.ACTIVE),
        ("JOB_STATE_COMPLETED_PARTLY", Status.ACTIVE),
    ],
)
def test_a_state_word_is_mapped_and_kept(word: str, status: Status) -> None:
    observation = observation_from({"id": ID, "state": word})
    assert (observation.status, observation.word) == (status, word)


@pytest.mark.parametrize("state", [None, "", 3, ["JOB_STATE_NEW"]])
def test_a_job_without_a_state_word_is_unreadable(state: object) -> None:
    observation = observation_from({"id": ID, "state": state})
    assert observation.status is Status.UNREADABLE
    assert observation.detail == "the service tells no state of this job"


def test_a_deleted_job_is_missing_whatever_its_state() -> None:
    observation = observation_from({"state": "JOB_STATE_COMPLETE", "deletedAt": "2026-01-02T03:04:05Z"})
    assert (observation.status, observation.word) == (Status.MISSING, "JOB_STATE_COMPLETE")


@pytest.mark.parametrize("deleted_at", [None, ""])
def test_a_time_of_deletion_that_is_not_set_deletes_nothing(deleted_at: str | None) -> None:
    assert observation_from({"state": "JOB_STATE_NEW", "deletedAt": deleted_at}).status is Status.DRAFT


@pytest.mark.parametrize(
    ("value", "config"),
    [
        (
            {"taskTimeout": 600, "jobTimeout": 7200, "isTestJob": True},
            {"taskTimeout": 600, "jobTimeout": 7200, "isTestJob": True},
        ),
        ({"taskTimeout": "600", "jobTimeout": "9223372036854775807"}, {"taskTimeout": 600, "jobTimeout": 2**63 - 1}),
        ({"taskTimeout": "-5", "jobTimeout": 60.0}, {"taskTimeout": -5, "jobTimeout": 60}),
        ({"taskTimeout": 1, "somethingNew": {"deep": []}}, {"taskTimeout": 1}),
        ({"taskTimeout": None}, {}),
        ({}, {}),
    ],
)
def test_a_config_is_read_as_protocol_buffers_write_it(value: object, config: object) -> None:
    assert observation_from({"state": "JOB_STATE_NEW", "config": value}).config == config


@pytest.mark.parametrize(
    "value",
    [
        None,
        "600",
        [],
        {"taskTimeout": "1_000"},
        {"taskTimeout": "６００"},
        {"taskTimeout": ""},
        {"taskTimeout": "9223372036854775808"},
        {"taskTimeout": "9" * 5000},
        {"taskTimeout": True},
        {"taskTimeout": 1.5},
        {"taskTimeout": float("nan")},
        {"taskTimeout": float("inf")},
        {"isTestJob": "true"},
        {"isTestJob": 1},
        {"taskTimeout": 600, "jobTimeout": {}},
    ],
)
def test_a_malformed_config_is_not_told_at_all_so_that_it_does_not_look_like_drift(value: object) -> None:
    assert observation_from({"state": "JOB_STATE_NEW", "config": value}).config is None


def test_times_that_tell_one_run_from_the_next_are_kept_as_they_came() -> None:
    observation = observation_from(
        {
            "state": "JOB_STATE_RUNNING",
            "submittedAt": "2026-01-02T03:04:05Z",
            "stateTimestamps": {"JOB_STATE_NEW": "2026-01-01T00:00:00Z", "JOB_STATE_ODD": 7, "JOB_STATE_NONE": None},
        }
    )
    assert observation.submitted_at == "2026-01-02T03:04:05Z"
    assert observation.timestamps == {"JOB_STATE_NEW": "2026-01-01T00:00:00Z"}


@pytest.mark.parametrize("odd", [None, "", 7, [], {"a": 1}])
def test_odd_times_are_not_told(odd: object) -> None:
    observation = observation_from({"state": "JOB_STATE_RUNNING", "submittedAt": odd, "stateTimestamps": odd})
    assert observation.submitted_at is None
    assert observation.timestamps == {}


def test_a_jobs_error_message_is_its_detail_and_bounded() -> None:
    assert observation_from({"state": "JOB_STATE_FAILED", "errorMessage": "out of disk"}).detail == "out of disk"
    assert len(observation_from({"state": "JOB_STATE_FAILED", "errorMessage": "x" * 9999}).detail) == 500


@pytest.mark.parametrize("module", ["wire", "engine"])
def test_importing_it_does_not_import_requests(module: str) -> None:
    code = f"import sys, reconciler.engines.bytenite.{module}; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    slow = {"requests", "urllib3", "ssl", "socket", "http.client", "email"}
    assert not slow & set(loaded)
