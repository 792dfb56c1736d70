"""`reconciler logs`: what a run has printed, harmless at a terminal, and byte by byte in a pipe."""

import os
import pty
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from local_runs import end_all, engine_at, over, step_of
from project import Project, Run
from reconciler.engines.port import AnswerClass

PRINTS = "printf 'one\\ntwo\\033[31m\\r\\n::error::no\\n\\ttab \\377\\n\\001r'; printf last >&2"
PRINTED = b"one\ntwo\x1b[31m\r\n::error::no\n\ttab \xff\n\x01rlast"
SHOWN = "one\ntwo\\x1b[31m\n\\::error::no\n\ttab \\xff\n\\x01rlast\n"
MANIFEST = """\
apiVersion: reconciler/v1
target: {engine: local, root: runs}
jobs: {}
"""


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    """A folder whose job `nightly` has run twice, which the state knows."""
    (tmp_path / "jobs.yaml").write_text(MANIFEST)
    with engine_at(tmp_path) as engine:
        for run_id, script in (("nightly-1", "echo first"), ("nightly-2", PRINTS)):
            assert engine.send(step_of(run_id, {"script": script})).kind is AnswerClass.APPLIED
            over(engine, run_id)
    project = Project(tmp_path)
    known = project.run("import", "nightly=nightly")
    assert known.code == 0, known
    yield project
    end_all(tmp_path)


def test_the_last_run_is_shown_and_nothing_in_it_reaches_the_terminal(project: Project) -> None:
    assert project.run("logs", "nightly") == Run(0, SHOWN, "")
    assert project.run("logs", "nightly", "--tail", "2").out == "\ttab \\xff\n\\x01rlast\n"
    assert project.run("logs", "nightly", "--run", "1").out == "first\n"


def test_a_pipe_gets_each_byte_and_a_terminal_does_not(project: Project) -> None:
    command = project.command("logs", "nightly", "--raw")
    piped = subprocess.run(command, cwd=project.folder, env=project.env, capture_output=True, check=False)
    assert (piped.returncode, piped.stdout, piped.stderr) == (0, PRINTED, b"")
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        command, cwd=project.folder, env=project.env, stdout=theirs, stderr=subprocess.PIPE
    ) as refused:
        _, fault = refused.communicate(timeout=60)
    os.close(theirs)
    os.close(ours)
    assert refused.returncode == 64
    assert b"--raw writes each byte as it was printed" in fault


def test_a_run_that_is_followed_is_shown_until_its_end(project: Project) -> None:
    with engine_at(project.folder) as engine:
        engine.send(step_of("nightly-3", {"script": "echo begun; while [ ! -e go ]; do sleep 0.02; done; echo ended"}))
        with subprocess.Popen(
            project.command("logs", "nightly", "-f", "--run", "3"),
            cwd=project.folder,
            env=project.env,
            stdout=subprocess.PIPE,
        ) as following:
            assert following.stdout is not None
            assert following.stdout.readline() == b"begun\n"
            (project.folder / "go").touch()
            assert following.stdout.read() == b"ended\n"
        assert following.returncode == 0


def test_a_reader_that_has_seen_enough_ends_the_command(project: Project) -> None:
    with engine_at(project.folder) as engine:
        engine.send(step_of("nightly-3", {"script": "while :; do echo line; done"}))
        with subprocess.Popen(
            project.command("logs", "nightly", "-f", "--run", "3"),
            cwd=project.folder,
            env=project.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as following:
            assert following.stdout is not None
            assert following.stderr is not None
            assert following.stdout.readline() == b"line\n"
            following.stdout.close()
            assert following.wait(timeout=60) == 0
            assert following.stderr.read() == b""


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["weekly"], 1, "weekly"),
        (["nightly", "--run", "7"], 1, "the engine local has no nightly-7\n  `reconciler runs nightly` shows its runs"),
        (["nightly", "--run", "0"], 64, "--run"),
        (["nightly", "--tail", "-1"], 64, "--tail"),
    ],
)
def test_what_can_not_be_shown_is_named(project: Project, words: list[str], code: int, says: str) -> None:
    run = project.run("logs", *words)
    assert (run.code, run.out) == (code, "")
    assert says in run.err


def test_an_empty_log_is_said_to_be_empty(project: Project) -> None:
    with engine_at(project.folder) as engine:
        engine.send(step_of("nightly-3", {"command": ["no-such-program"]}))
        over(engine, "nightly-3")
    run = project.run("logs", "nightly", "--run", "3")
    why = "failed, the command can't be started: no-such-program: No such file or directory"
    assert (run.code, run.out, run.err) == (0, "", f"the log of nightly-3 is empty: {why}\n")
    assert project.run("logs", "nightly", "--run", "3", "--tail", "0").err == ""


def test_an_engine_without_logs_says_so(tmp_path: Path) -> None:
    project = Project(tmp_path)
    project.write("a: {state: running}")
    assert project.run("apply", "--yes").code == 0
    run = project.run("logs", "a")
    assert (run.code, run.out) == (1, "")
    assert "the engine sandbox gives no logs" in run.err
