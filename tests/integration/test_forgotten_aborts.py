"""Restarts whose abort has an effect that nobody has seen, on an engine that forgets runs.

The rules alone are in `unit/rules/test_unseen_aborts.py`.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from project import Run
from reconciler.engines.sandbox.cluster import ATOMIC, Lost
from reconciler.model.jobs import Status
from ways_out import PersonsProject, persons_project

OLD = "a: {state: running, config: {text: A}, runToken: t1}"
NEW = "a: {state: running, config: {text: A}, runToken: t2}"
FORGETFUL = ATOMIC._replace(keeps_ended_s=0.0)


@pytest.fixture
def project(tmp_path: Path) -> Iterator[PersonsProject]:
    with persons_project(tmp_path, FORGETFUL) as project:
        project.begin(OLD)
        yield project


def lose_the_abort(project: PersonsProject) -> None:
    """Restart the job, and lose each request of the abort before the cluster reads it. The run ends by itself later."""
    project.lost, project.times_lost = Lost.BEFORE, 3
    project.write(NEW)
    assert project.apply().code == 5
    project.lost = None
    project.write(NEW)
    project.cluster.end("a")


def apply_until_settled(project: PersonsProject) -> Run:
    return project.run("apply", "--yes", "--settle", "0")


def test_a_restart_that_is_taken_back_runs_nothing_if_the_run_was_forgotten(project: PersonsProject) -> None:
    lose_the_abort(project)
    project.write(OLD)
    run = apply_until_settled(project)
    assert (run.code, "may have ended by itself; the job is not there; say how the run ended" in run.out) == (4, True)
    assert project.run_ids == ["a-1"]
    (said,) = [words for words in project.commands("a") if words[0] == "resolve"]
    project.follow(said)
    project.is_at_rest(OLD, ["a-1"])
    # The token that led to no run may be given once more.
    project.is_at_rest(NEW, ["a-1", "a-2"])


def test_a_restart_that_is_still_asked_for_runs_once_if_the_run_was_forgotten(project: PersonsProject) -> None:
    lose_the_abort(project)
    assert apply_until_settled(project).code == 0
    project.is_at_rest(NEW, ["a-1", "a-2"])


@pytest.mark.parametrize("state", ["aborted", "absent"])
def test_a_lost_abort_of_a_forgotten_run_is_no_reason_to_run_it_again(project: PersonsProject, state: str) -> None:
    project.lost, project.times_lost = Lost.BEFORE, 3
    project.write(f"a: {{state: {state}, runToken: t1}}")
    assert project.apply().code == 5
    project.lost = None
    project.cluster.end("a")
    project.write(OLD)
    assert apply_until_settled(project).code == 4
    assert project.run_ids == ["a-1"]


def test_a_run_that_is_forgotten_as_soon_as_it_is_aborted_is_followed_by_the_next_one(project: PersonsProject) -> None:
    project.write(NEW)
    run = project.apply()
    assert (run.code, "deleted the job" in run.out) == (0, False), run
    project.is_at_rest(NEW, ["a-1", "a-2"])


def test_the_end_of_a_run_is_recorded_though_the_job_is_held(tmp_path: Path) -> None:
    """A service may have forgotten it by the time that the hold is lifted, and nobody would know how the run ended."""
    with persons_project(tmp_path) as project:
        project.begin(OLD)
        lose_the_abort(project)
        held = OLD.replace("text: A", "text: B").replace("}, run", "}, onConfigChange: hold, run")
        project.write(held)
        assert apply_until_settled(project).code == 4
        project.cluster.forget("a")
        assert project.apply().code == 4
        assert project.run_ids == ["a-1"]


def test_the_token_of_a_restart_that_led_to_no_run_may_be_given_once_more(project: PersonsProject) -> None:
    lose_the_abort(project)
    project.write(OLD)
    apply_until_settled(project)
    project.run("resolve", "a", "--ended", "complete")
    again = project.run("rerun", "a", "--token", "t2")
    assert again.code == 0, again


def test_a_job_that_is_declared_aborted_after_all_is_run_once_it_is_declared_running(tmp_path: Path) -> None:
    with persons_project(tmp_path) as project:
        project.begin(OLD)
        project.lost, project.times_lost = Lost.AFTER, 3
        project.write(NEW)
        project.run("apply", "--yes")
        project.lost = None
        project.write("a: {state: aborted}")
        assert apply_until_settled(project).code == 0
        project.write(OLD)
        assert project.apply().code == 0
        assert [run.status for run in project.cluster.runs("a")][-1] is Status.ACTIVE
