"""Commands that mend a state, on a disk that fails: a sample of `mending.py`, and reads that fail."""

import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from in_process import TARGET, carried_out, engine_at, planned, store_in
from project import TOKEN, Project, no_fault_in, served_project
from reconciler.engines.bytenite.engine import ByteniteEngine
from reconciler.engines.sandbox.life import calls, ledger
from reconciler.engines.sandbox.server import SandboxServer
from reconciler.host.disk import OsDisk
from reconciler.model.jobs import Desired, Job, Observation
from reconciler.model.outcomes import Outcome

HARNESS = Path(__file__).with_name("mending.py")


def test_a_state_that_is_mended_on_a_failing_disk_is_as_before_or_as_after() -> None:
    """At 32 breaks of some 1,440; `make crash` takes all."""
    output = no_fault_in(HARNESS, "--sample", "4", "--seed", "20261121")
    assert " 0 faults" in output.splitlines()[-1]


# --- reads that fail ---------------------------------------------------------------------------------------------


@pytest.fixture
def doubtful(tmp_path: Path) -> Iterator[Project]:
    """A project in which job a is in doubt, b is done, and c is not applied yet."""
    with served_project(tmp_path, "run:503:after:times=1", "read:404", "list:404") as project:
        project.write("a: {state: running}\nb: {state: running}")
        assert project.run("apply", "--yes", "--parallelism", "1").code == 5
        project.write("a: {state: running}\nb: {state: running}\nc: {state: running}")
        yield project


COMMANDS = (
    ("plan",),
    ("apply", "--yes"),
    ("status",),
    ("resolve", "a", "--applied"),
    ("state", "forget", "b"),
    ("state", "list"),
    ("state", "accept"),
)


@pytest.mark.parametrize("name", ["jobs.state.json", "jobs.state.json.journal"])
def test_a_state_or_journal_that_can_not_be_read_ends_every_command_before_its_first_call(
    doubtful: Project, name: str
) -> None:
    program = shutil.which("strace")
    if program is None:
        pytest.skip("strace is not installed")
    path = doubtful.folder / name
    if name.endswith(".journal"):
        path.write_bytes(bytes(64))
    files_before, calls_before = kept(doubtful), calls(doubtful.folder / "server.db")
    inject = ("-e", "inject=read,readv,pread64:error=EIO")
    for command in COMMANDS:
        run = subprocess.run(
            [program, "-f", "-qq", "-o", os.devnull, f"-P{path}", *inject, *doubtful.command(*command)],
            cwd=doubtful.folder,
            env=doubtful.env,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert run.returncode == 1, run.stdout + run.stderr
        assert f"{name} can't be read: Input/output error" in run.stderr
        assert "\n  mend its permissions or the disk" in run.stderr
        assert "Traceback" not in run.stderr
        assert kept(doubtful) == files_before
        assert calls(doubtful.folder / "server.db") == calls_before


def kept(project: Project) -> dict[str, bytes]:
    """Return the user's files, without caches."""
    return {name: content for name, content in project.files.items() if not name.startswith(".cache")}


@pytest.mark.parametrize("name", ["jobs.state.json", "jobs.state.json.journal"])
@pytest.mark.parametrize("kind", ["folder", "pipe"])
def test_what_is_no_file_in_the_place_of_one_is_refused_and_not_waited_for(
    doubtful: Project, name: str, kind: str
) -> None:
    path = doubtful.folder / name
    path.unlink(missing_ok=True)
    if kind == "folder":
        path.mkdir()
    else:
        os.mkfifo(path)
    calls_before = calls(doubtful.folder / "server.db")
    for command in (("plan",), ("apply", "--yes"), ("state", "accept")):
        run = doubtful.run(*command)
        assert run.code == 1
        assert f"{name} is {'a folder' if kind == 'folder' else 'no regular file'}" in run.err
    assert calls(doubtful.folder / "server.db") == calls_before


# --- the first flush fails ---------------------------------------------------------------------------------------


class FailsOnce(OsDisk):
    """A disk on which the first flush of a file fails, and no later flush."""

    def __init__(self) -> None:
        super().__init__()
        self._left = [OSError(5, "Input/output error")]

    def create(self, path: str, mode: int):  # type: ignore[no-untyped-def]
        file = super().create(path, mode)
        sync = file.sync

        def sync_or_fail() -> None:
            if self._left:
                raise self._left.pop()
            sync()

        file.sync = sync_or_fail  # type: ignore[method-assign]
        return file


class Together(ByteniteEngine):
    """Observes both jobs before either continues, so that both are past the check for an apply that ended."""

    both = threading.Barrier(2)

    def observe(self, job_id: str, run_id: str = "") -> Observation:
        found = super().observe(job_id, run_id)
        self.both.wait(30)
        return found


def test_once_a_first_flush_failed_no_other_thread_sends(tmp_path: Path) -> None:
    plan, subjects = planned({name: Job(name, name, Desired.RUNNING, {}) for name in "ab"}, {})
    with SandboxServer(tmp_path / "server.db", access_token=TOKEN, create_missing=True) as server:
        engine = engine_at(server.endpoint, parallelism=2, kind=Together)
        with store_in(tmp_path, FailsOnce()).open(TARGET, "apply", 0) as session:
            outcomes = carried_out(plan, subjects, engine, session, parallelism=2)
        engine.close()
    assert [(one.outcome, one.error[:8]) for one in outcomes] == [(Outcome.FAILED, "not sent")] * 2
    assert ledger(tmp_path / "server.db") == []
