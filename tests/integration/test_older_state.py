"""A state that went back behind its own history: no command acts on it, and the printed way out counts what has run."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from project import Project, done, served_project

FIRST, SECOND = "a: {state: running, runToken: mon}", "a: {state: running, runToken: tue}"
NO_READS = ("read:404", "list:404")


def runs(project: Project) -> int:
    """The number of runs that the service has carried out."""
    return done(project).count(("run", "a"))


@pytest.fixture
def older(tmp_path: Path) -> Iterator[Project]:
    """The second run is in the history alone, the service shows nothing, and this machine never saw the newer state."""
    with served_project(tmp_path, *NO_READS) as project:
        project.write(FIRST)
        assert project.run("apply", "--yes").code == 0
        before = (tmp_path / "jobs.state.json").read_bytes()
        project.write(SECOND)
        assert project.run("apply", "--yes").code == 0
        (tmp_path / "jobs.state.json").write_bytes(before)
        project.env["XDG_STATE_HOME"] = str(tmp_path / "another-machine")
        assert runs(project) == 2
        yield project


@pytest.mark.parametrize(
    "command",
    [
        ["apply", "--yes"],
        ["apply", "--dry-run"],
        ["plan"],
        ["plan", "--refresh"],
        ["drift"],
        ["status"],
        ["rerun", "a"],
        ["import", "b=b"],
        ["resolve", "a", "--applied"],
        ["state", "forget", "a"],
        ["state", "mv", "a", "b"],
        ["state", "list"],
    ],
    ids=" ".join,
)
def test_each_command_refuses_it_and_names_both_serials(command: list[str], older: Project) -> None:
    state = (older.folder / "jobs.state.json").read_bytes()
    run = older.run(*command)
    assert run.code == 4, run
    assert "jobs.state.json is older than its history: it is at serial 1" in run.err
    assert "jobs.history.jsonl tells of serial 2" in run.err
    assert (older.folder / "jobs.state.json").read_bytes() == state
    assert runs(older) == 2


def test_the_way_out_that_is_printed_works_and_nothing_runs_twice(older: Project) -> None:
    run = older.run("apply", "--yes")
    assert "reconciler state accept" in run.err
    accepted = older.run("state", "accept")
    assert accepted.code == 0, accepted
    assert "the history tells of later runs of a: they count as run" in accepted.out + accepted.err
    plan = older.run("plan")
    assert (plan.code, "No changes: 1 job is as recorded." in plan.out) == (0, True), plan
    assert older.run("apply", "--yes").code == 0
    assert runs(older) == 2
    older.write("a: {state: running, runToken: wed}")
    assert older.run("apply", "--yes").code == 0
    assert older.state["jobs"]["a"]["run"] == 3
    assert older.run("history", "--check").code == 0


def test_a_state_that_went_back_together_with_its_history_is_taken(tmp_path: Path) -> None:
    with served_project(tmp_path) as project:
        project.write(FIRST)
        assert project.run("apply", "--yes").code == 0
        kept = tmp_path / "kept"
        kept.mkdir()
        for name in ("jobs.state.json", "jobs.history.jsonl"):
            shutil.copy(tmp_path / name, kept / name)
        project.write(SECOND)
        assert project.run("apply", "--yes").code == 0
        for name in ("jobs.state.json", "jobs.history.jsonl"):
            shutil.copy(kept / name, tmp_path / name)
        project.env["XDG_STATE_HOME"] = str(tmp_path / "another-machine")
        assert project.run("plan").code == 0
