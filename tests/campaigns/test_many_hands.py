"""Several people, programs, clones and machines with one state: nothing runs twice, and nobody is overwritten."""

import ctypes
import json
import os
import select
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

from many_hands import rounds
from project import TOKEN, Project, sandbox_in
from reconciler.engines.sandbox.life import calls, ledger
from reconciler.engines.sandbox.server import SandboxServer

WAIT_S = 60.0


@pytest.fixture
def server(tmp_path: Path) -> Iterator[SandboxServer]:
    with sandbox_in(tmp_path, job_seconds=10_000) as served:
        yield served


def by_hand(server: SandboxServer, call: str) -> None:
    headers = {"Authorization": TOKEN}
    assert requests.post(f"{server.endpoint}/jobs/{call}", json={"config": {}}, headers=headers, timeout=10).ok


def done(tmp_path: Path) -> list[tuple[str, str]]:
    return [(execution.verb, execution.job_id) for execution in ledger(tmp_path / "server.db")]


def test_of_eight_applies_at_once_one_does_the_work_and_nothing_runs_twice(tmp_path: Path) -> None:
    found = []
    rounds(tmp_path, 3, lambda number, made: found.append(made))
    assert [(made.worked, made.locked + made.idle) for made in found] == [(1, 7)] * 3
    assert all(made.idle >= 1 for made in found), "two of them wait for the lock, and one may have done the work"


# --- the lock ----------------------------------------------------------------------------------------------------

_HOLDER = """
import json, sys
from reconciler.host.lock import locked
with locked(sys.argv[1], json.loads(sys.argv[2]), 0, lambda seconds: False):
    print("held", flush=True)
    sys.stdin.readline()
"""


@contextmanager
def held(project: Project) -> Iterator["subprocess.Popen[str]"]:
    """Hold the lock in another program until the block ends."""
    path = str(project.folder / "jobs.state.json.lock")
    holder = {"who": "grace@host (process 7)", "what": "apply", "since": "2026-11-21T10:00:00Z"}
    arguments = [sys.executable, "-c", _HOLDER, path, json.dumps(holder)]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "held\n"
        yield child
        child.kill()


def test_who_holds_the_lock_since_when_is_shown_and_no_call_is_made(tmp_path: Path, server: SandboxServer) -> None:
    project = Project(tmp_path, server)
    project.write("a: {state: running}")
    with held(project):
        run = project.run("apply", "--yes")
    assert run.code == 4
    assert "grace@host (process 7) has been running `apply` since 2026-11-21T10:00:00Z" in run.err
    assert "--lock-timeout" in run.err
    assert calls(tmp_path / "server.db") == []


def test_a_lock_timeout_waits_for_the_holder_and_goes_on(tmp_path: Path, server: SandboxServer) -> None:
    project = Project(tmp_path, server)
    project.write("a: {state: running}")
    with held(project) as holder:
        with opens(tmp_path / "jobs.state.json.lock") as next_open:
            waiting = project.start("apply", "--yes", "--lock-timeout", "60")
            for _ in range(3):
                next_open()
        assert calls(tmp_path / "server.db") == []
        holder.kill()
        out, _ = waiting.communicate(timeout=WAIT_S)
    assert waiting.returncode == 0, out
    assert done(tmp_path) == [("run", "a")]


def test_a_lock_timeout_that_runs_out_is_refused(tmp_path: Path, server: SandboxServer) -> None:
    project = Project(tmp_path, server)
    project.write("a: {state: running}")
    with held(project):
        run = project.run("apply", "--yes", "--lock-timeout", "0.3")
    assert (run.code, done(tmp_path)) == (4, [])


def test_no_lock_is_stolen_for_its_age_or_its_process_id(tmp_path: Path, server: SandboxServer) -> None:
    """The process with the id 7 ended long ago, and the file is from 1970. The lock still counts."""
    project = Project(tmp_path, server)
    project.write("a: {state: running}")
    with held(project):
        os.utime(tmp_path / "jobs.state.json.lock", (0, 0))
        assert project.run("apply", "--yes").code == 4
        assert (tmp_path / "jobs.state.json.lock").exists()
    assert done(tmp_path) == []


def test_a_lock_file_whose_holder_was_killed_is_no_lock(tmp_path: Path, server: SandboxServer) -> None:
    project = Project(tmp_path, server)
    project.write("a: {state: running}")
    with held(project) as holder:
        holder.kill()
        holder.wait()
        assert (tmp_path / "jobs.state.json.lock").exists()
        assert project.run("apply", "--yes").code == 0
    assert done(tmp_path) == [("run", "a")]


def test_a_plan_reads_beside_a_running_apply(tmp_path: Path, server: SandboxServer) -> None:
    project = Project(tmp_path, server)
    project.write("a: {state: running}")
    with held(project):
        assert project.run("plan").code == 0
        assert project.run("status").code == 0


@contextmanager
def opens(path: Path) -> Iterator[Callable[[], None]]:
    """Yield a function that returns once someone opens the file again.

    A program that waits for the lock does so each time.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    watch = libc.inotify_init()
    assert watch >= 0
    assert libc.inotify_add_watch(watch, os.fsencode(path), 0x20) >= 0  # IN_OPEN, of a file: 16 bytes an event

    def next_open() -> None:
        assert select.select([watch], [], [], WAIT_S)[0], "nobody came"
        os.read(watch, 16)

    try:
        yield next_open
    finally:
        os.close(watch)


# --- clones, and states of yesterday -----------------------------------------------------------------------------


class Clone(Project):
    """A clone of the one repository; `machine` names the state home that the clone uses."""

    def __init__(self, tmp_path: Path, name: str, server: SandboxServer, machine: str) -> None:
        origin = tmp_path / "origin.git"
        if not origin.exists():
            subprocess.run(["git", "init", "-q", "--bare", "-b", "main", str(origin)], check=True, timeout=60)
        (tmp_path / name).mkdir()
        super().__init__(tmp_path / name, server)
        self.env["XDG_STATE_HOME"] = str(tmp_path / machine)
        assert self.git("init", "-q", "-b", "main") == 0
        assert self.git("remote", "add", "origin", str(origin)) == 0
        self.git("pull", "-q", "origin", "main")

    def git(self, *arguments: str) -> int:
        who = ["-c", "user.name=ada", "-c", "user.email=ada@example.org", "-c", "commit.gpgsign=false"]
        command = ["git", *who, *arguments]
        return subprocess.run(command, cwd=self.folder, capture_output=True, check=False, timeout=60).returncode

    def apply(self) -> int:
        return self.run("apply", "--yes").code

    def commit(self) -> None:
        assert self.git("add", "jobs.yaml", "jobs.state.json") == 0
        assert self.git("commit", "-q", "-m", "applied") == 0

    def push(self) -> bool:
        return self.git("push", "-q", "origin", "HEAD:main") == 0


def test_two_clones_on_one_machine_and_the_later_apply_is_refused(tmp_path: Path, server: SandboxServer) -> None:
    first = Clone(tmp_path, "first", server, "machine")
    first.write("old: {state: running}")
    assert first.apply() == 0
    first.commit()
    assert first.push()
    second = Clone(tmp_path, "second", server, "machine")
    for clone in (first, second):
        clone.write("old: {state: running}\nnew: {state: running}")
    assert first.apply() == 0
    before = calls(tmp_path / "server.db")
    run = second.run("apply", "--yes")
    assert run.code == 4
    assert "was rolled back: it is at serial 1, and serial 2 was written from this machine before" in run.err
    assert "git pull" in run.err
    assert calls(tmp_path / "server.db") == before
    first.commit()
    assert first.push()
    assert second.git("checkout", "-q", "--", ".") == 0
    assert second.git("pull", "-q", "--ff-only", "origin", "main") == 0
    assert second.apply() == 0
    assert done(tmp_path) == [("run", "old"), ("run", "new")]


def test_two_clones_on_two_machines_and_the_later_one_adopts_then_the_push_conflicts(
    tmp_path: Path, server: SandboxServer
) -> None:
    first = Clone(tmp_path, "first", server, "machine-1")
    first.write("old: {state: running}")
    assert first.apply() == 0
    first.commit()
    assert first.push()
    second = Clone(tmp_path, "second", server, "machine-2")
    for clone in (first, second):
        clone.write("old: {state: aborted}\nnew: {state: running, config: {jobTimeout: 900}}")
    assert first.apply() == 0
    run = second.run("apply", "--yes", "--format", "json")
    assert run.code == 0, run.err
    assert {action["job"]: action["action"] for action in run.json["actions"]} == {"new": "adopt", "old": "adopt"}
    assert done(tmp_path) == [("run", "old"), ("abort", "old"), ("run", "new")]
    for clone in (first, second):
        clone.write("old: {state: aborted}\nnew: {state: aborted}")
    second.apply()
    first.commit()
    second.commit()
    assert first.push()
    assert not second.push()
    assert second.git("pull", "-q", "--no-rebase", "origin", "main") != 0
    before = calls(tmp_path / "server.db")
    conflicted = second.run("apply", "--yes")
    assert conflicted.code == 1
    assert "merge conflict" in conflicted.err
    assert calls(tmp_path / "server.db") == before


def test_the_same_serial_with_another_content_is_not_taken_for_the_one_that_was_seen(
    tmp_path: Path, server: SandboxServer
) -> None:
    """Two machines each write serial 2, and a forced pull of the other machine's state is noticed."""
    first = Clone(tmp_path, "first", server, "machine-1")
    first.write("a: {state: running}")
    assert first.apply() == 0
    first.commit()
    assert first.push()
    second = Clone(tmp_path, "second", server, "machine-2")
    second.write("a: {state: running}\nb: {state: running}")
    assert second.apply() == 0
    second.commit()
    assert second.push()
    first.write("a: {state: aborted}")
    assert first.apply() == 0
    assert first.git("fetch", "-q", "origin") == 0
    assert first.git("reset", "-q", "--hard", "FETCH_HEAD") == 0
    run = first.run("apply", "--yes")
    assert run.code == 4
    assert "replaced by another one of the same serial" in run.err


def rolled_back(tmp_path: Path, server: SandboxServer, *manifests: str, has_history: bool = True) -> Clone:
    """Apply and commit each manifest; then restore the state alone to the commit before the last.

    Without a history, nothing beside the state tells of the later applies.
    """
    clone = Clone(tmp_path, "clone", server, "machine")
    for jobs in manifests:
        clone.write(jobs)
        assert clone.apply() == 0
        clone.commit()
    assert clone.git("checkout", "-q", "HEAD~1", "--", "jobs.state.json") == 0
    if not has_history:
        (clone.folder / "jobs.history.jsonl").unlink()
    return clone


def test_a_state_of_an_old_checkout_is_noticed_and_nothing_is_called(tmp_path: Path, server: SandboxServer) -> None:
    clone = rolled_back(tmp_path, server, "a: {state: running}", 'a: {state: running, runToken: "2"}')
    before = calls(tmp_path / "server.db")
    for command in (["apply", "--yes"], ["plan"], ["plan", "--refresh"], ["status"]):
        run = clone.run(*command)
        assert run.code == 4
        assert "was rolled back: it is at serial 1, and serial 2" in run.err
    assert calls(tmp_path / "server.db") == before


def test_a_git_revert_of_an_apply_is_noticed(tmp_path: Path, server: SandboxServer) -> None:
    clone = Clone(tmp_path, "clone", server, "machine")
    for jobs in ("a: {state: running}", "a: {state: running}\nb: {state: running}"):
        clone.write(jobs)
        assert clone.apply() == 0
        clone.commit()
    assert clone.git("revert", "--no-edit", "HEAD") == 0
    run = clone.run("apply", "--yes")
    assert run.code == 4
    assert "was rolled back" in run.err
    assert done(tmp_path) == [("run", "a"), ("run", "b")]


@pytest.mark.parametrize(
    ("before", "after", "outcome"),
    [
        ("z: {state: running}", "z: {state: running}\na: {state: running}", "adopt"),
        ("z: {state: running}", "z: {state: running}\na: {state: running, config: {jobTimeout: 9}}", "adopt"),
        ("a: {state: running}", "a: {state: aborted}", "adopt"),
        ("a: {state: running}", "a: {state: absent}", "adopt"),
    ],
)
def test_a_rolled_back_state_whose_mark_is_lost_too_is_seen_through_by_reading(
    tmp_path: Path, server: SandboxServer, before: str, after: str, outcome: str
) -> None:
    clone = rolled_back(tmp_path, server, before, after, has_history=False)
    executions = done(tmp_path)
    clone.env["XDG_STATE_HOME"] = str(tmp_path / "another machine")
    run = clone.run("apply", "--yes", "--format", "json")
    assert run.code == 0, run.err
    touched = [action for action in run.json["actions"] if action["job"] == "a"]
    assert [action.get("done", action["action"]) for action in touched] == [outcome]
    assert done(tmp_path) == executions


@pytest.mark.parametrize("job_seconds", [10000, 0.01])
@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('a: {state: running, runToken: "1"}', 'a: {state: running, runToken: "2"}'),
        ("a: {state: running}", "a: {state: running, config: {jobTimeout: 900}}"),
        ("a: {state: aborted}", "a: {state: running}"),
    ],
)
def test_an_older_state_on_another_machine_runs_nothing_again(
    tmp_path: Path, before: str, after: str, job_seconds: float
) -> None:
    with sandbox_in(tmp_path, job_seconds=job_seconds) as server:
        clone = rolled_back(tmp_path, server, before, after, has_history=False)
        executions = done(tmp_path)
        clone.env["XDG_STATE_HOME"] = str(tmp_path / "another machine")
        run = clone.run("apply", "--yes")
        assert run.code in (0, 4)
        assert ("run since this was recorded" in run.out) or run.code == 0
        assert done(tmp_path) == executions
        if run.code == 4:
            assert clone.run("resolve", "a", "--applied").code == 0
            assert clone.run("plan", "--detailed-exitcode").code == 0
            assert clone.run("apply", "--yes").code == 0
            assert done(tmp_path) == executions


def test_a_run_by_someone_else_is_not_counted_as_the_one_that_is_asked_for_unless_a_person_says_so(
    tmp_path: Path, server: SandboxServer
) -> None:
    clone = Clone(tmp_path, "clone", server, "machine")
    clone.write('a: {state: running, runToken: "1"}')
    assert clone.apply() == 0
    by_hand(server, "a/abort")
    by_hand(server, "a/run")
    clone.write('a: {state: running, runToken: "2"}')
    run = clone.run("apply", "--yes")
    assert run.code == 4
    assert "reconciler resolve a --applied" in run.out
    before = done(tmp_path)
    resolved = clone.run("resolve", "a", "--not-applied", "--reason", "by hand, for a test")
    assert "was not applied, says" in resolved.out
    assert "by hand, for a test" in resolved.out
    assert clone.apply() == 0
    assert done(tmp_path)[len(before) :] == [("abort", "a"), ("run", "a")]
    assert clone.run("resolve", "a", "--not-applied").code == 1


def test_a_state_that_is_lost_with_its_mark_runs_nothing_again(tmp_path: Path, server: SandboxServer) -> None:
    clone = Clone(tmp_path, "clone", server, "machine")
    clone.write('a: {state: running, runToken: "1"}\nb: {state: running, config: {jobTimeout: 900}}')
    assert clone.apply() == 0
    (clone.folder / "jobs.state.json").unlink()
    clone.env["XDG_STATE_HOME"] = str(tmp_path / "another machine")
    refused = clone.run("apply", "--yes")
    assert (refused.code, "the state is gone" in refused.err) == (4, True)
    assert clone.run("apply", "--yes", "--state", "jobs.state.json").code == 0
    assert sorted(done(tmp_path)) == [("run", "a"), ("run", "b")]
