"""States whose paths exclude each other: no state is written over another one, and no call is sent."""

from pathlib import Path

import pytest

from git_crash import BRANCH, files_of
from git_races import Team, applied, resumed, stopped
from project import Project, done, served_project

ONE = "a: {state: running}"


def url(group: Team, path: str) -> str:
    return f"git+file://{group.remote}#{BRANCH}:{path}"


@pytest.mark.parametrize(
    ("first", "second", "kind"),
    [
        ("prod", "prod/eu.json", "file"),
        ("prod/eu.json", "prod", "folder"),
        ("a/prod", "a/prod/b/eu.json", "file"),
        ("a/prod/b/eu.json", "a/prod", "folder"),
        ("prod/eu.json", "prod/eu.json/x", "file"),
    ],
)
def test_a_file_and_a_folder_of_one_name_are_refused_in_either_order(
    group: Team, first: str, second: str, kind: str
) -> None:
    one, two = group.machine(url(group, first)), group.machine(url(group, second))
    assert applied(one, ONE).code == 0
    two.write("b: {state: running}")
    for command in (["plan"], ["apply", "--yes"], ["state", "list"]):
        run = two.run(*command)
        assert (run.code, f"is a {kind} there" in run.err) == (4, True), run
    assert group.executions() == [("run", "a")]
    assert one.run("plan", "--detailed-exitcode").code == 0, "the first state is still there"


def test_a_file_that_comes_where_a_folder_is_to_be_is_not_replaced(group: Team) -> None:
    """One machine is stopped before its first push.

    Another one makes the file. Then the first push follows that commit.
    """
    one, two = group.machine(url(group, "prod/eu.json")), group.machine(url(group, "prod"))
    child = stopped(one, "fast-import", ONE)
    assert applied(two, "b: {state: running}").code == 0
    run = resumed(child)
    assert run.code == 4, run
    assert group.executions() == [("run", "b")]
    assert set(files_of(group.remote, path="x")) == {"prod", "prod.history.jsonl"}
    assert two.run("plan", "--detailed-exitcode").code == 0


@pytest.mark.parametrize("suffix", [".journal", ".lock", ".tmp", ".history.jsonl", ".journal.kept"])
def test_a_state_has_no_name_that_files_beside_a_state_have(group: Team, suffix: str) -> None:
    for place in (url(group, f"prod{suffix}"), str(group.folder / f"prod{suffix}")):
        machine = group.machine(place)
        machine.write(ONE)
        run = machine.run("apply", "--yes")
        assert (run.code, f"ends in {suffix}" in run.err) == (4, True), run
    assert group.executions() == []


@pytest.mark.parametrize(("first", "second"), [("prod", "prod.state.json"), ("prod.state.json", "prod")])
def test_two_states_with_one_history_are_refused(group: Team, first: str, second: str) -> None:
    for places in ([url(group, first), url(group, second)], [str(group.folder / name) for name in (first, second)]):
        one, two = map(group.machine, places)
        one.write("x: {state: aborted}")
        assert one.run("apply", "--yes").code == 0
        two.write(ONE)
        run = two.run("apply", "--yes")
        assert (run.code, "would share one history" in run.err) == (4, True), run
    assert ("run", "a") not in group.executions()


@pytest.mark.parametrize("beside", ["", ".journal", ".lock", ".tmp", ".journal.tmp"])
def test_a_folder_where_a_file_of_the_state_is_to_be_is_refused_before_the_first_call(
    tmp_path: Path, beside: str
) -> None:
    with served_project(tmp_path) as project:
        project.write(ONE)
        (tmp_path / f"jobs.state.json{beside}").mkdir()
        refused(project)


def test_a_folder_where_the_history_is_to_be_is_refused_before_the_first_call(tmp_path: Path) -> None:
    with served_project(tmp_path) as project:
        project.write(ONE)
        (tmp_path / "jobs.history.jsonl").mkdir()
        refused(project)


def test_a_file_where_the_folder_of_the_state_is_to_be_is_refused_before_the_first_call(tmp_path: Path) -> None:
    with served_project(tmp_path) as project:
        project.write(ONE)
        (tmp_path / "prod").write_text("")
        refused(project, "--state", "prod/eu.json")


def refused(project: Project, *more: str) -> None:
    run = project.run("apply", "--yes", *more)
    assert run.code in (1, 3, 4), run
    assert "please report it" not in run.err
    assert done(project) == []
