"""A program that is forked is as one that is started afresh."""

import os
import re
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
    reports: list[tuple[list[tuple[int, str, str]], list[str]]] = []
    for kind in (Project, Afresh):
        folder = tmp_path / kind.__name__
        folder.mkdir()
        project = kind(folder)
        project.write("a: {state: running}\nb: {state: absent, runTokn: x}")
        runs = [project.run("plan"), project.run("no-such-command")]
        project.write("a: {state: running}\nb: {state: absent}")
        commands = (["plan"], ["apply"], ["apply", "--yes"], ["status"], ["plan", "--detailed-exitcode"])
        runs += [project.run(*command, stdin="n\n") for command in commands]
        reports.append(
            ([(run.code, re.sub(r"[0-9.]+ s", "", run.out), run.err) for run in runs], sorted(os.listdir(folder)))
        )
    assert reports[0] == reports[1]
    assert {code for code, _, _ in reports[0][0]} == {0, 1, 4, 64}


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
    assert forked(tmp_path, "").returncode == 0
