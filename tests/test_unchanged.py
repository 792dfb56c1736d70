"""A plan that came to nothing is remembered, and taken for nothing else than the very same files."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from project import Project

PLAN = """
import sys
from reconciler.cli import main
try:
    main()
finally:
    print("planned" if "reconciler.planner" in sys.modules else "remembered")
"""
NOTHING = "No changes: 2 jobs are as recorded."


@pytest.fixture
def applied(tmp_path: Path) -> Project:
    project = Project(tmp_path)
    project.write("a: {state: running}\nb: {state: running, config: {jobTimeout: 5}}")
    assert project.run("apply", "--yes").code == 0
    return project


def plan(project: Project, *arguments: str) -> list[str]:
    """The lines of a plan, and whether it was made or remembered."""
    done = subprocess.run(
        [sys.executable, "-c", PLAN, "plan", *arguments],
        cwd=project.folder,
        env=project.env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "Traceback" not in done.stderr
    return done.stdout.splitlines()


def test_the_same_files_are_planned_once(applied: Project) -> None:
    assert plan(applied) == [NOTHING, "planned"]
    assert plan(applied) == [NOTHING, "remembered"]
    assert plan(applied, "--detailed-exitcode") == [NOTHING, "remembered"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--no-cache"],
        ["--format", "json"],
        ["--out", "plan.json"],
        ["--refresh"],
        ["--prune"],
        ["--target", "a"],
        ["--exclude", "a"],
        ["--allow", "delete=1"],
    ],
)
def test_whoever_asks_for_more_gets_a_plan(applied: Project, arguments: list[str]) -> None:
    plan(applied)
    assert plan(applied, *arguments)[-1] == "planned"
    assert plan(applied) == [NOTHING, "remembered"]


def a_comment(project: Project) -> None:
    path = project.folder / "jobs.yaml"
    path.write_text(path.read_text() + "# more\n")


def one_more_file(project: Project) -> None:
    folder = project.folder / "jobs"
    folder.mkdir()
    (project.folder / "jobs.yaml").rename(folder / "jobs.yaml")
    (project.folder / "jobs.state.json").rename(project.folder / "jobs" / "kept.json")
    (folder / "more.yaml").write_text("apiVersion: reconciler/v1\njobs: {c: {state: running}}\n")
    (folder / "kept.json").rename(project.folder / "jobs.state.json")


def another_config(project: Project) -> None:
    project.write("a: {state: running}\nb: {state: running, config: {jobTimeout: 6}}")


def no_state(project: Project) -> None:
    (project.folder / "jobs.state.json").unlink()


def a_record_less(project: Project) -> None:
    assert project.run("state", "forget", "a").code == 0


def a_journal(project: Project) -> None:
    (project.folder / "jobs.state.json.journal").write_text("rubbish")


def a_hand_edit(project: Project) -> None:
    path = project.folder / "jobs.state.json"
    path.write_text(path.read_text().replace('"running"', '"aborted"', 1))


def an_older_state(project: Project) -> None:
    path = project.folder / "jobs.state.json"
    older = path.read_bytes()
    a_record_less(project)
    path.write_bytes(older)


@pytest.mark.parametrize(
    "change",
    [a_comment, one_more_file, another_config, no_state, a_record_less, a_journal, a_hand_edit],
)
def test_after_any_change_it_is_planned_anew(applied: Project, change: Callable[[Project], None]) -> None:
    plan(applied)
    change(applied)
    anew = plan(applied, "--no-cache")
    assert plan(applied) == anew
    assert anew[-1] == "planned"


def test_a_state_that_was_rolled_back_is_refused_though_its_plan_is_known(applied: Project) -> None:
    plan(applied)
    an_older_state(applied)
    run = applied.run("plan")
    assert (run.code, run.out) == (1, "")
    assert "was rolled back" in run.err


def test_another_endpoint_is_another_target(applied: Project) -> None:
    plan(applied)
    assert applied.run("plan", "--endpoint", "http://127.0.0.1:9/v1/customer").code == 1


@pytest.mark.parametrize(
    "jobs",
    [
        "a: {state: running}",
        "a: {state: running, suspend: {reason: why}}\nb: {state: running, config: {jobTimeout: 5}}",
    ],
)
def test_a_plan_that_says_more_is_not_remembered(applied: Project, jobs: str) -> None:
    applied.write(jobs)
    said = plan(applied)
    assert said[-1] == "planned"
    assert plan(applied) == said
