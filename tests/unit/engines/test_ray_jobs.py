"""What a job of the Jobs API of Ray says of a run."""

from typing import Any

import pytest

from reconciler.engines.port import Execution, Marks, Status, Step, Verb, same_json
from reconciler.engines.ray.jobs import RayJob
from reconciler.engines.ray.marks import mark_in, metadata_of
from reconciler.engines.ray.reading import Seen
from reconciler.testing.hostile import TEXTS

STARTED_MS, ENDED_MS = 1_795_969_875_859, 1_795_969_878_815


def ray_job(submission_id: str = "nightly-7", status: str = "RUNNING", **fields: Any) -> RayJob:
    """Return a job as a head of Ray 2.60 tells of it."""
    return RayJob(
        {
            "type": "SUBMISSION",
            "job_id": None,
            "submission_id": submission_id,
            "driver_info": None,
            "status": status,
            "entrypoint": "true",
            "message": "",
            "error_type": None,
            "start_time": STARTED_MS,
            "end_time": None if status in ("PENDING", "RUNNING") else ENDED_MS,
            "metadata": None,
            "runtime_env": None,
            "driver_agent_http_address": None,
            "driver_node_id": None,
            "driver_exit_code": None,
            **fields,
        }
    )


def ours(job_id: str, number: int, status: str = "RUNNING", lineage: str = "mine", **fields: Any) -> RayJob:
    marks = Marks(lineage, f"op-{number}", "config", "token", "commit")
    metadata = metadata_of(Step(Verb.RUN, job_id, f"{job_id}-{number}", marks=marks))
    return ray_job(f"{job_id}-{number}", status, metadata=metadata, **fields)


@pytest.mark.parametrize(
    ("word", "status"),
    [
        ("PENDING", Status.ACTIVE),
        ("RUNNING", Status.ACTIVE),
        ("SUCCEEDED", Status.COMPLETE),
        ("FAILED", Status.FAILED),
        ("STOPPED", Status.ABORTED),
        ("DREAMING", Status.UNREADABLE),
    ],
)
def test_each_word_of_ray_has_a_status(word: str, status: Status) -> None:
    found = ray_job(status=word).observation()
    assert (found.status, found.word) == (status, word)
    assert found.submitted_at == "2026-11-29T16:31:15.859Z"
    assert dict(found.timestamps) == ({word: "2026-11-29T16:31:18.815Z"} if status.name in _ENDED else {})
    assert (found.detail == "the head says DREAMING") == (word == "DREAMING")


_ENDED = ("COMPLETE", "FAILED", "ABORTED")


def test_a_run_of_ours_tells_its_run_id_and_its_marks() -> None:
    found = ours("nightly", 7).observation()
    assert (found.run_id, found.ref, found.name, found.config) == ("nightly-7", "nightly-7", "nightly-7", None)
    assert found.marks == Marks("mine", "op-7", "config", "token", "commit")


def test_a_job_of_somebody_else_has_its_submission_id_and_its_config() -> None:
    job = ray_job("train", entrypoint="python train.py", runtime_env={"env_vars": {"LEVEL": "3"}, "pip": ["torch"]})
    found = job.observation()
    assert (job.job_id, found.run_id, found.marks) == ("train", "", Marks())
    assert found.config is not None
    expected = {"script": "python train.py", "env": {"LEVEL": "3"}, "runtime_env": {"pip": ["torch"]}}
    assert same_json(found.config, expected)


def test_marks_that_somebody_has_copied_to_another_job_count_for_nothing() -> None:
    """A person may submit a job again with all that the head told of it, but for the submission id."""
    copied = metadata_of(Step(Verb.RUN, "nightly", "nightly-7", marks=Marks("mine", "op")))
    assert ray_job("raysubmit_1", metadata=copied).mark is None


@pytest.mark.parametrize("text", TEXTS)
def test_marks_come_back_as_they_were_and_are_plain_text(text: str) -> None:
    marks = Marks(text, text, text, text, text)
    metadata = metadata_of(Step(Verb.RUN, "nightly", "nightly-7", marks=marks))
    for value in metadata.values():
        assert value.isascii()
        assert value.isprintable()
    found = mark_in(metadata)
    assert found is not None
    assert found.marks == marks


@pytest.mark.parametrize(
    "metadata",
    [
        None,
        3,
        [],
        {},
        {"reconciler/job": 3},
        {"reconciler/job": "a"},
        {"reconciler/job": "a%FF", "reconciler/run": "a-1", "reconciler/op": "%ED%A0"},
    ],
)
def test_metadata_of_any_kind_are_read(metadata: object) -> None:
    assert mark_in(metadata) is None


@pytest.mark.parametrize(
    ("fields", "execution"),
    [
        ({"status": "SUCCEEDED", "driver_exit_code": 0}, Execution(exit_code=0)),
        ({"status": "FAILED", "driver_exit_code": 3}, Execution(exit_code=3)),
        ({"status": "FAILED", "driver_exit_code": -9}, Execution(signal="SIGKILL")),
        ({"status": "FAILED", "driver_exit_code": -200}, Execution(signal="signal 200")),
        ({"status": "STOPPED"}, Execution(reason="aborted")),
        (
            {"status": "FAILED", "error_type": "RUNTIME_ENV_SETUP_FAILURE"},
            Execution(reason="the runtime environment could not be set up"),
        ),
        (
            {"status": "FAILED", "driver_exit_code": 124, "entrypoint": "exec timeout --kill-after=10 5 sleep 9"},
            Execution(exit_code=124, reason="jobTimeout"),
        ),
        ({"status": "FAILED", "driver_exit_code": 124, "entrypoint": "exit 124"}, Execution(exit_code=124)),
    ],
)
def test_how_a_run_has_ended(fields: dict[str, Any], execution: Execution) -> None:
    found = ray_job(**fields).observation().execution
    assert found == execution._replace(ended_at="2026-11-29T16:31:18.815Z", took_s=2.956)


@pytest.mark.parametrize(
    ("message", "detail"),
    [
        (
            "Job entrypoint command failed with exit code 3, last available logs (truncated to 20,000 chars):\nsecret",
            "Job entrypoint command failed with exit code 3",
        ),
        (
            "runtime_env setup failed: No.\nTraceback (most recent call last):\n  a.py\nOSError: no x.zip\n",
            "runtime_env setup failed: OSError: no x.zip",
        ),
        ("x" * 9000, "x" * 500 + "…"),
        ("", ""),
    ],
)
def test_why_a_run_has_failed(message: str, detail: str) -> None:
    assert ray_job(status="FAILED", message=message).observation().detail == detail


def test_a_run_that_took_too_long_says_so() -> None:
    entrypoint = "exec timeout --kill-after=10 5 sleep 9"
    found = ray_job(status="FAILED", entrypoint=entrypoint, driver_exit_code=124, message="failed with exit code 124")
    assert found.observation().detail == "jobTimeout: failed with exit code 124"


def test_what_a_run_waits_for() -> None:
    waits = "Job has not started yet. It may be waiting for resources (CPUs) to become available."
    assert ray_job(status="PENDING", message=waits).observation().detail == waits
    assert ray_job(status="RUNNING", message="Job is currently running.").observation().detail == ""


def test_the_newest_run_of_a_job_comes_first_and_those_of_other_jobs_are_left_out() -> None:
    jobs = [ours("a", 2), ours("a", 10), ours("a", 9), ours("a-1", 1), ray_job("b"), ray_job("raysubmit_9")]
    seen = Seen(jobs)
    assert [job.id for job in seen.runs_of("a")] == ["a-10", "a-9", "a-2"]
    assert [job.id for job in seen.runs_of("a-1")] == ["a-1-1"]
    assert [job.id for job in seen.runs_of("b")] == ["b"]
    assert seen.runs_of("c") == ()
    assert sorted(seen.job_ids) == ["a", "a-1", "b", "raysubmit_9"]


def test_a_job_of_somebody_else_under_the_id_of_a_job_of_ours_comes_last() -> None:
    seen = Seen([ray_job("a", start_time=STARTED_MS + 10_000), ours("a", 1)])
    assert [job.id for job in seen.runs_of("a")] == ["a-1", "a"]


def test_drivers_that_nobody_submitted_and_traces_of_deleted_jobs_are_no_jobs() -> None:
    driver = ray_job(submission_id="", type="DRIVER")
    trace = ray_job("a-1", "FAILED", entrypoint="Entrypoint not found.", start_time=None)
    assert list(Seen([driver, trace]).job_ids) == []


@pytest.mark.parametrize("value", [None, 3, True, [], {}, "x", 10**30, -1])
def test_values_of_any_kind_are_read(value: Any) -> None:
    names = ("status", "entrypoint", "message", "error_type", "start_time", "end_time", "metadata", "runtime_env")
    for name in (*names, "driver_exit_code", "driver_node_id"):
        for status in ("FAILED", "RUNNING"):
            ray_job(**{"status": status, name: value}).observation()
