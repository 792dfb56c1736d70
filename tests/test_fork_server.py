"""A program that is forked is as one that is started afresh."""

import subprocess
import sys
from pathlib import Path

import pytest

import fork_server
from project import Project, Run

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere every program is started afresh")


class Afresh(Project):
    """A folder in which every command is started as a user does."""

    def run(self, *arguments: str, stdin: str = "", **env: str) -> Run:
        return super().run(*arguments, stdin=stdin, PYTHONUTF8="1", **env)


def test_it_prints_exits_and_leaves_what_one_started_afresh_does(tmp_path: Path) -> None:
    told = []
    for name, kind in (("forked", Project), ("afresh", Afresh)):
        (tmp_path / name).mkdir()
        project = kind(tmp_path / name)
        project.write("a: {state: running}\nb: {state: absent, runTokn: x}")
        runs = [project.run("plan"), project.run("no-such-command"), project.run("plan", NO_COLOR="1")]
        project.write("a: {state: running}\nb: {state: absent}")
        for command in (["plan"], ["apply"], ["apply", "--yes"], ["plan", "--format", "json"], ["status"]):
            runs.append(project.run(*command, stdin="n\n"))
        told.append([(run.code, run.out.replace(str(project.state["lineage"]), ""), run.err) for run in runs])
        told[-1].append(sorted(project.files))
    assert told[0] == told[1]
    assert {run[0] for run in told[0][:-1]} == {0, 1, 4, 64}


def forked(folder: Path, program: str, *arguments: str, timeout_s: float = 60) -> "subprocess.CompletedProcess[str]":
    path = folder / "program.py"
    path.write_text(program)
    return fork_server.run([sys.executable, str(path), *arguments], folder, {"A": "b"}, "given", timeout_s)


def test_it_has_its_own_folder_environment_arguments_and_files(tmp_path: Path) -> None:
    done = forked(
        tmp_path, "import os, sys; print(os.getcwd(), dict(os.environ), sys.argv[1:], input()); sys.exit(7)", "x"
    )
    assert (done.returncode, done.stderr) == (7, "")
    assert done.stdout == f"{tmp_path} {{'A': 'b'}} ['x'] given\n"


def test_what_ends_it_is_told(tmp_path: Path) -> None:
    assert forked(tmp_path, "import os; os.kill(os.getpid(), 9)").returncode == -9
    broken = forked(tmp_path, "raise ValueError('odd')")
    assert broken.returncode == 1
    assert broken.stderr.endswith("ValueError: odd\n")
    with pytest.raises(subprocess.TimeoutExpired):
        forked(tmp_path, "import time; time.sleep(1000)", timeout_s=0.1)
