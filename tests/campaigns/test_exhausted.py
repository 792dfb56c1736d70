"""Machines that lack threads, processes or open files: an apply finishes with fewer, or records what was done."""

import os
import resource
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from no_thread import NoThread
from project import Project, Run, done, served_project
from reconciler.host import threads
from reconciler.host.threads import WorkerPool, affordable_connections, map_in_order

JOBS = "\n".join(f"job-{number}: {{state: running}}" for number in range(40))
RUNS = sorted(("run", f"job-{number}") for number in range(40))
NOBODY = 65534
# The kernel does not limit the processes of root. The capability lets this user read a Python in root's own folder.
AS_NOBODY = ["setpriv", "--reuid", str(NOBODY), "--regid", str(NOBODY), "--clear-groups"]
AS_NOBODY += ["--inh-caps", "+dac_override", "--ambient-caps", "+dac_override"]


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    with served_project(tmp_path) as made:
        made.write(JOBS)
        yield made


def limited(project: Project, *arguments: str, files: int = 0, tasks: int = 0) -> Run:
    """Run a command with a limit on open files, or as `nobody` with a limit on that user's processes and threads."""
    limits = ["prlimit", *([f"--nofile={files}:{files}"] if files else []), *([f"--nproc={tasks}"] if tasks else [])]
    user = AS_NOBODY if tasks else []
    for path in (project.folder, *project.folder.rglob("*")):
        if tasks:
            os.chown(path, NOBODY, NOBODY)
    ended = subprocess.run(
        [*user, *limits, *project.command(*arguments)],
        cwd=project.folder,
        env=project.env | {"HOME": str(project.folder)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "please report it" not in ended.stderr + ended.stdout, ended.stderr + ended.stdout
    assert "Traceback" not in ended.stderr, ended.stderr
    return Run(ended.returncode, ended.stdout, ended.stderr)


NEEDS_PRLIMIT = pytest.mark.skipif(not shutil.which("prlimit"), reason="prlimit sets the limits")
NEEDS_ROOT = pytest.mark.skipif(
    os.getuid() != 0 or not shutil.which("setpriv") or not shutil.which("prlimit"),
    reason="only root can run a program as a user with fewer processes, and root itself has no such limit",
)


@NEEDS_PRLIMIT
@pytest.mark.parametrize("files", [20, 24, 40])
def test_with_few_open_files_fewer_connections_do_all(project: Project, files: int) -> None:
    run = limited(project, "apply", "--yes", "--parallelism", "64", files=files)
    assert run.code == 0, run
    assert sorted(done(project)) == RUNS
    for command in (["plan", "--refresh"], ["drift"], ["status"]):
        assert limited(project, *command, files=files).code == 0


@NEEDS_PRLIMIT
@pytest.mark.parametrize("files", [20, 24, 32])
def test_the_embedded_sandbox_has_the_other_end_of_each_connection(tmp_path: Path, files: int) -> None:
    project = Project(tmp_path)
    project.write(JOBS)
    assert limited(project, "apply", "--yes", files=files).code == 0
    assert len(project.state["jobs"]) == 40


@NEEDS_PRLIMIT
@pytest.mark.parametrize("files", [14, 20, 28])
def test_state_on_a_branch_with_few_open_files_ends_and_loses_nothing(
    project: Project, tmp_path: Path, files: int
) -> None:
    remote = tmp_path / "remote.git"
    subprocess.run(["git", "init", "-q", "--bare", str(remote)], check=True, timeout=60)
    url = f"git+file://{remote}#state"
    run = limited(project, "apply", "--yes", "--state", url, files=files)
    assert run.code in (0, 1), run
    assert (run.code == 0) == (sorted(done(project)) == RUNS)
    assert run.code == 0 or done(project) == []
    assert project.run("apply", "--yes", "--state", url).code == 0
    assert sorted(done(project)) == RUNS


@NEEDS_ROOT
@pytest.mark.parametrize("tasks", [2, 3, 4, 6, 9])
@pytest.mark.parametrize("home", ["file", "branch"])
def test_with_few_threads_it_goes_on_or_ends_with_what_was_done_on_record(tasks: int, home: str) -> None:
    """Uses a folder outside pytest's own folders, which other users cannot read."""
    with open_folder() as folder, served_project(folder) as project:
        project.write(JOBS)
        more = []
        if home == "branch":
            remote = folder / "remote.git"
            subprocess.run(["git", "init", "-q", "--bare", str(remote)], check=True, timeout=60)
            more = ["--state", f"git+file://{remote}#state"]
        run = limited(project, "apply", "--yes", *more, tasks=tasks)
        sent = sorted(done(project))
        match run.code:
            case 0:
                assert sent == RUNS
            case 1:
                assert sent == []
            case _:
                assert run.code in (3, 5), run
                assert sent
        # If git cannot fork, git reports that in its own words.
        assert run.code == 0 or home == "branch" or "ulimit -u" in run.out + run.err, run
        for path in (folder, *folder.rglob("*")):
            os.chown(path, 0, 0)
        assert project.run("apply", "--yes", "--settle", "0.1", *more).code == 0
        assert sorted(done(project)) == RUNS


@NEEDS_ROOT
def test_reads_go_on_with_the_threads_that_there_are() -> None:
    with open_folder() as folder, served_project(folder) as project:
        project.write(JOBS)
        assert project.run("apply", "--yes").code == 0
        for command in (["plan", "--refresh", "--detailed-exitcode"], ["drift"], ["import", "--all", "--dry-run"]):
            assert limited(project, *command, tasks=6).code == 0, command


@contextmanager
def open_folder() -> Iterator[Path]:
    import tempfile

    with tempfile.TemporaryDirectory(prefix="reconciler-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        if subprocess.run(
            [*AS_NOBODY, "env", sys.executable, "-c", "import reconciler"],
            cwd=folder,
            capture_output=True,
            check=False,
        ).returncode:
            pytest.skip("nobody else can read this Python")
        yield folder


# --- the parts ---------------------------------------------------------------------------------------------------


def test_a_pool_that_gets_no_thread_has_its_tasks_done_by_who_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "Thread", NoThread)
    with WorkerPool(8) as pool:
        futures = [pool.submit(threading.get_ident) for _ in range(5)]
        assert {pool.result(future) for future in futures} == {threading.get_ident()}
    assert map_in_order(lambda number: number * 2, range(20), 8) == list(range(0, 40, 2))


def test_a_pool_that_gets_some_threads_goes_on_with_those(monkeypatch: pytest.MonkeyPatch) -> None:
    class Few(threading.Thread):
        left = 3

        def start(self) -> None:
            if not Few.left:
                raise RuntimeError("can't start new thread")
            Few.left -= 1
            super().start()

    monkeypatch.setattr(threads, "Thread", Few)
    ran = map_in_order(lambda number: (number, threading.get_ident()), range(200), 64)
    assert [number for number, _ in ran] == list(range(200))
    assert len({ident for _, ident in ran} - {threading.get_ident()}) <= 3


def test_the_first_fault_is_raised_and_what_has_not_begun_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    began: list[int] = []

    def work(number: int) -> None:
        began.append(number)
        raise ValueError(number)

    monkeypatch.setattr(threads, "Thread", NoThread)
    with pytest.raises(ValueError, match="0"):
        map_in_order(work, range(10), 4)
    assert began == [0]


def test_no_more_connections_than_there_are_files_for() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        assert affordable_connections(8, 1) == 8
        used = len(os.listdir("/dev/fd"))
        resource.setrlimit(resource.RLIMIT_NOFILE, (used + 16, hard))
        assert affordable_connections(8, 1) == 8, "the limit may be raised"
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > used + 16
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
