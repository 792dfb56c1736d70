"""A restart whose abort is lost, and a run that ends by itself meanwhile: the run does not count as aborted."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from project import Project, done, served_project
from reconciler.model.history import APPLIED, NOT_APPLIED

RUN = ("run", "a")
ENDS_AFTER_S = 5.0


def history(project: Project) -> list[Mapping[str, Any]]:
    entries: list[Mapping[str, Any]] = project.run("history", "--format", "json").json["entries"]
    return entries


def in_doubt_until_the_end(project: Project) -> None:
    """Run a job, lose the abort of its restart, and wait until the run has ended by itself."""
    project.write("a: {state: running, runToken: '1', config: {taskTimeout: 60}}")
    assert project.run("apply", "--yes").code == 0
    project.write("a: {state: running, runToken: '2', config: {taskTimeout: 60}}")
    assert project.run("apply", "--yes").code == 5
    until_s = time.monotonic() + 60
    while project.run("status", "--format", "json").json["jobs"][0]["observed"] not in ("complete", "failed"):
        assert time.monotonic() < until_s


@pytest.mark.parametrize("end", ["complete", "failed"])
def test_a_change_that_is_taken_back_runs_nothing(tmp_path: Path, end: str) -> None:
    fails = ["run:fail"] if end == "failed" else []
    with served_project(tmp_path, "abort:reset", *fails, job_seconds=ENDS_AFTER_S) as project:
        in_doubt_until_the_end(project)
        project.write("a: {state: running, runToken: '1', config: {taskTimeout: 60}}")
        run = project.run("apply", "--yes")
        assert (run.code, run.out) == (0, "Nothing to do: 1 job is as recorded.\n")
        assert done(project) == [RUN]
        settled = [entry for entry in history(project) if entry["outcome"] in (APPLIED, NOT_APPLIED)]
        assert [entry["outcome"] for entry in settled] == [NOT_APPLIED]
        assert "the run has ended by itself" in settled[0]["reason"]
        record = project.run("state", "show", "a", "--format", "json").json
        assert (record["state"], record["runTokens"]) == ("running", ["1"])


def test_a_run_that_is_still_asked_for_is_run_and_the_reason_is_the_token(tmp_path: Path) -> None:
    with served_project(tmp_path, "abort:reset", job_seconds=ENDS_AFTER_S) as project:
        in_doubt_until_the_end(project)
        run = project.run("apply", "--yes")
        assert run.code == 0, run
        assert done(project) == [RUN, RUN]
        assert "new runToken" in history(project)[0]["reason"]
        assert project.run("apply", "--yes").out.startswith("Nothing to do")


def test_a_new_config_of_a_run_that_has_completed_is_recorded_without_a_run(tmp_path: Path) -> None:
    with served_project(tmp_path, "abort:reset", job_seconds=ENDS_AFTER_S) as project:
        in_doubt_until_the_end(project)
        project.write("a: {state: running, runToken: '1', config: {taskTimeout: 90}}")
        assert project.run("apply", "--yes").code == 0
        assert done(project) == [RUN]
        record = project.run("state", "show", "a", "--format", "json").json
        assert record["config"] == {"taskTimeout": 90}


def test_a_run_that_ends_while_its_abort_is_sent_again_is_not_recorded_as_aborted(tmp_path: Path) -> None:
    # The run after the abort is refused. So the record of the abort is what the next apply finds.
    with served_project(tmp_path, "abort:reset", "run:400:skip=1:times=1", job_seconds=1.0) as project:
        project.write("a: {state: running, runToken: '1', config: {taskTimeout: 60}}")
        assert project.run("apply", "--yes").code == 0
        project.write("a: {state: running, runToken: '2', config: {taskTimeout: 60}}")
        run = project.run("apply", "--yes")
        assert (run.code, "run was rejected" in run.out) == (3, True)
        record = project.run("state", "show", "a", "--format", "json").json
        assert (record["state"], record["runTokens"]) == ("running", ["1"])
        project.write("a: {state: running, runToken: '1', config: {taskTimeout: 60}}")
        assert project.run("apply", "--yes").out == "Nothing to do: 1 job is as recorded.\n"
        assert done(project) == [RUN]
