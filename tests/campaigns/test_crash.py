"""A sample of the breaks of `crash.py`, breaks by strace in the real program, and disks that are full or read-only."""

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import tally
from project import Project, no_fault_in, sandbox_in
from reconciler.engines.sandbox.life import calls, ledger

HARNESS = Path(__file__).with_name("crash.py")
JOURNAL = "jobs.state.json.journal"


def broken(*arguments: str) -> None:
    output = no_fault_in(HARNESS, "--workers", "4", "--seed", "20261121", *arguments)
    assert " 0 broken, " in output.splitlines()[-1]


def _picked(*names: str) -> list[str]:
    return [f"--scenario={name}" for name in names]


@pytest.mark.parametrize("count", [1, 3, 8])
def test_the_parts_of_a_run_are_the_whole_and_no_point_is_in_two(count: int) -> None:
    parts = [tally.part(f"{number}/{count}") for number in range(1, count + 1)]
    assert all([part.has(point) for part in parts].count(True) == 1 for point in (*range(100), 10**9))


@pytest.mark.parametrize("text", ["0/3", "4/3", "2", "a/b", "1/"])
def test_a_part_that_there_is_not_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="is no part K/N"):
        tally.part(text)


def test_an_apply_killed_anywhere_ends_as_asked() -> None:
    """Before one call of each scenario, 28 of some 2,700; `make crash` takes all."""
    broken("--sample", "1")


def test_a_recovery_that_is_killed_too_ends_as_asked() -> None:
    """At 2 pairs of calls in 5 scenarios; `make crash` takes 60 in each."""
    broken("--twice", "--sample", "2", *_picked("mixed", "cannot-read", "recovery", "fails-after", "folding"))


def test_a_disk_that_fails_anywhere_sends_nothing_that_is_not_on_record() -> None:
    """At 4 calls in 3 scenarios; `make crash` takes all."""
    broken("--faults", "--sample", "4", *_picked("mixed", "cannot-read", "folding"))


def test_signals_anywhere_end_as_they_should_and_lose_nothing() -> None:
    """At 4 calls in 3 scenarios; `make crash` takes all."""
    broken("--signals", "--sample", "4", *_picked("mixed", "parallel", "recovery"))


def test_the_program_started_afresh_fares_no_worse() -> None:
    broken("--exec", "--sample", "1", *_picked("restart-by-config"))


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Project]:
    """A folder for the user's files only, so that a fault of its disk does not affect the server."""
    (tmp_path / "disk").mkdir()
    with sandbox_in(tmp_path) as server:
        project = Project(tmp_path / "disk", server)
        project.env |= {"XDG_STATE_HOME": str(tmp_path / "marks"), "XDG_CACHE_HOME": str(tmp_path / "cache")}
        yield project


def done(project: Project) -> list[tuple[str, str]]:
    return [(execution.verb, execution.job_id) for execution in ledger(project.folder.parent / "server.db")]


def sent(project: Project) -> list[str]:
    """Return the calls received that change a job."""
    return [call.path for call in calls(project.folder.parent / "server.db") if call.method != "GET"]


def strace(project: Project, inject: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run a command under strace; `inject` says how strace breaks the command's calls on the journal."""
    program = shutil.which("strace")
    if program is None:
        pytest.skip("strace is not installed")
    paths = [f"-P{name}" for name in (str(project.folder / JOURNAL), str(project.folder / f"{JOURNAL}.tmp"))]
    return subprocess.run(
        [program, "-f", "-qq", "-o", os.devnull, *paths, "-e", f"inject={inject}", *project.command(*arguments)],
        cwd=project.folder,
        env=project.env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(("write", "was_sent"), [(2, False), (3, True)])
def test_strace_kills_before_a_write_of_the_journal_and_one_run_is_done_in_the_end(
    served: Project, write: int, was_sent: bool
) -> None:
    """The first write of the journal is the header, the second the intent, and the third the result."""
    served.write("a: {state: running}")
    assert strace(served, f"pwrite64:signal=KILL:when={write}", "apply", "--yes").returncode == -9
    assert bool(sent(served)) == was_sent
    healed = served.run("apply", "--yes", "--settle", "0.1")
    assert healed.code == 0, healed.out
    assert done(served) == [("run", "a")]


@pytest.mark.parametrize("fault", ["fdatasync:error=EIO", "pwrite64:error=ENOSPC", "fallocate:error=ENOSPC"])
def test_strace_breaks_the_disk_and_nothing_is_sent(served: Project, fault: str) -> None:
    served.write("a: {state: running}")
    run = strace(served, fault, "apply", "--yes")
    assert run.returncode == 3 or "nothing was sent" in run.stderr, run.stdout + run.stderr
    assert "Traceback" not in run.stderr
    assert sent(served) == []
    assert served.run("apply", "--yes").code == 0
    assert done(served) == [("run", "a")]


class SmallDisk:
    """A file system in memory, mounted over the user's folder."""

    def __init__(self, folder: Path, size: str) -> None:
        self._folder = folder
        self._mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs")

    def turn(self, option: str) -> None:
        self._mount("-o", f"remount,{option}")

    def close(self) -> None:
        subprocess.run(["umount", self._folder], check=True)

    def _mount(self, *arguments: str) -> None:
        mounted = subprocess.run(["mount", *arguments, self._folder], capture_output=True, text=True, check=False)
        if mounted.returncode:
            pytest.skip(f"mounting is not permitted: {mounted.stderr.strip()}")


@pytest.fixture
def disk(served: Project) -> Iterator[SmallDisk]:
    if sys.platform != "linux" or shutil.which("mount") is None:
        pytest.skip("it takes Linux and its mount")
    disk = SmallDisk(served.folder, "16k")
    try:
        yield disk
    finally:
        disk.close()


def test_a_disk_of_16_kib_has_no_room_for_a_journal_so_nothing_is_sent(served: Project, disk: SmallDisk) -> None:
    served.write("a: {state: running}\nb: {state: absent}")
    run = served.run("apply", "--yes")
    assert run.code in (1, 3)
    assert "No space left on device" in run.out + run.err
    assert sent(served) == []
    disk.turn("size=1m")
    assert served.run("apply", "--yes").code == 0
    assert sorted(done(served)) == [("delete", "b"), ("run", "a")]


def test_a_disk_without_room_for_the_state_keeps_what_was_done_in_the_journal(served: Project, disk: SmallDisk) -> None:
    disk.turn("size=72k")  # exactly the manifest, 64 KiB of journal, and the file that names the lock's holder
    served.write("a: {state: running}")
    run = served.run("apply", "--yes")
    assert run.code == 3
    assert "the journal beside it has what was done" in run.err
    assert done(served) == [("run", "a")]
    disk.turn("size=1m")
    healed = served.run("apply", "--yes")
    assert healed.code == 0
    assert done(served) == [("run", "a")]
    assert served.state["jobs"]["a"]["state"] == "running"


def test_a_read_only_folder_is_said_as_such_and_nothing_is_sent(served: Project, disk: SmallDisk) -> None:
    disk.turn("size=1m")
    served.write("a: {state: running}")
    assert served.run("apply", "--yes").code == 0
    served.write("a: {state: aborted}")
    disk.turn("ro")
    run = served.run("apply", "--yes")
    assert run.code == 1
    assert "Read-only file system" in run.err
    assert served.run("plan").code == 0
    assert done(served) == [("run", "a")]
    disk.turn("rw")
    assert served.run("apply", "--yes").code == 0
    assert done(served) == [("run", "a"), ("abort", "a")]


def test_without_lock_and_journal_from_any_call_on_nothing_is_lost() -> None:
    no_fault_in(
        HARNESS, "--workers", "4", "--cleaned", "--scenario", "mixed", "--scenario", "recovery", "--sample", "3"
    )
