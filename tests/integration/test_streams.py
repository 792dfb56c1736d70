"""What is printed may find nobody, or no room: what is done is done all the same."""

import subprocess
from pathlib import Path

import pytest

from project import Project, done, served_project

FULL = "error: stdout can't be written: No space left on device"


def in_shell(project: Project, redirection: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", "-c", f'exec "$@" {redirection}', "sh", *project.command(*arguments)],
        cwd=project.folder,
        env=project.env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("redirection", [">&-", "2>&-", "<&-", ">&- 2>&- <&-"])
def test_an_apply_with_a_stream_that_is_closed_does_all_the_same(tmp_path: Path, redirection: str) -> None:
    with served_project(tmp_path) as project:
        project.write("a: {state: running}")
        run = in_shell(project, redirection, "apply", "--yes")
        assert (run.returncode, "Traceback" in run.stderr, "error" in run.stderr) == (0, False, False)
        assert done(project) == [("run", "a")]
        assert project.state["jobs"]["a"]["state"] == "running"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux alone has a file that is always full")
def test_an_apply_whose_output_finds_no_room_goes_on_and_says_so(tmp_path: Path) -> None:
    with served_project(tmp_path) as project:
        project.write("a: {state: running}\nb: {state: running}")
        run = in_shell(project, ">/dev/full", "apply", "--yes")
        words = [FULL, "  what was done is recorded: reconciler history"]
        assert (run.returncode, run.stderr.splitlines()[-2:]) == (1, words)
        assert sorted(done(project)) == [("run", "a"), ("run", "b")]
        assert project.run("plan", "--detailed-exitcode").code == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux alone has a file that is always full")
@pytest.mark.parametrize("arguments", [("schema",), ("--help",), ("plan", "--help"), ("completion", "bash")])
def test_any_output_that_finds_no_room_is_an_error_and_no_fault_of_the_tool(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    run = in_shell(Project(tmp_path), ">/dev/full", *arguments)
    assert (run.returncode, run.stderr) == (1, f"{FULL}\n")
