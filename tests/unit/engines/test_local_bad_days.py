"""What this machine may do to jobs: roots that can't be used, full disks, no processes left, clocks that jump."""

import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from local_runs import (
    end_all,
    engine_at,
    is_alive,
    kill,
    kill_supervisor,
    look_at,
    over,
    run_folder,
    spawner_of,
    step_of,
    surroundings,
)
from local_service import supervisor_of
from reconciler.engines.local import root as roots
from reconciler.engines.local import spawning
from reconciler.engines.local.engine import LocalEngine
from reconciler.engines.local.plugin import PLUGIN
from reconciler.engines.local.processes import MARK, mark_of, survivors
from reconciler.engines.port import AnswerClass, EngineError, Reason, Status, Verb
from waits import until

WAITS_FOR_GO = {"script": "while [ ! -e go ]; do sleep 0.02; done"}


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    end_all(tmp_path)


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can do this to a machine")


def fault_of_opening(folder: Path) -> EngineError:
    with pytest.raises(EngineError) as caught, engine_at(folder) as engine:
        engine.identity()
    return caught.value


# --- the root ----------------------------------------------------------------------------------------------------


def test_a_plan_of_nothing_makes_no_folder(folder: Path) -> None:
    with engine_at(folder) as engine:
        assert engine.observe("a").status is Status.MISSING
        assert list(engine.observe_all()) == []
        assert engine.send(step_of("a-1", verb=Verb.ABORT)).reason is Reason.NO_SUCH_JOB
    assert list(folder.iterdir()) == []


def test_a_state_that_is_kept_elsewhere_needs_a_root_with_a_name(folder: Path) -> None:
    """The folder beside the manifest would be another one in each checkout."""
    around = surroundings(state_is_file=False, beside_state=str(folder / "jobs"))
    with (
        pytest.raises(EngineError, match="the state is not a file on this machine"),
        PLUGIN.open(PLUGIN.target({}, str(folder)), around),
    ):
        pass
    assert list(folder.iterdir()) == []
    with engine_at(folder, around=around) as engine:
        assert engine.identity()


def test_the_root_is_beside_the_state_for_one_user_and_ignored_by_git(folder: Path) -> None:
    target = PLUGIN.target({}, str(folder))
    with PLUGIN.open(target, surroundings(beside_state=str(folder / "jobs"))) as engine:
        identity = engine.identity()
    root = folder / "jobs.local"
    assert (root.stat().st_mode & 0o777, (root / ".gitignore").read_text()) == (0o700, "*\n")
    assert identity["root"] == json.loads((root / "root.json").read_text())["id"]


def test_a_root_to_which_others_can_write_is_refused(folder: Path) -> None:
    (folder / "runs").mkdir()
    (folder / "runs").chmod(0o770)
    fault = fault_of_opening(folder)
    assert (str(fault), fault.hint) == (
        f"other users can write to {folder}/runs, and so could start commands",
        f"chmod 700 {folder}/runs",
    )


@needs_root
def test_the_root_of_another_user_is_refused(folder: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    (folder / "runs").mkdir(0o700)
    os.chown(folder / "runs", nobody.pw_uid, nobody.pw_gid)
    fault = fault_of_opening(folder)
    assert str(fault) == f"{folder}/runs belongs to the user nobody, and this command runs as root"
    assert fault.hint == "run the command as nobody, or name another folder with target.root"


def test_the_root_of_another_machine_is_refused(folder: Path) -> None:
    """As two machines have it that share a home folder."""
    with engine_at(folder) as engine:
        engine.identity()
    path = folder / "runs" / "root.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "machine": "another"}))
    if not roots.machine_id():
        pytest.skip("this machine has no id")
    fault = fault_of_opening(folder)
    assert str(fault).startswith(f"{folder}/runs belongs to another machine: its id is another, and that of this")


def test_a_root_on_a_network_file_system_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "runs").mkdir(0o700)
    kind = subprocess.run(
        ["findmnt", "-n", "-o", "FSTYPE", "-T", folder], capture_output=True, text=True, check=False
    ).stdout.strip()
    if not kind:
        pytest.skip("findmnt does not know the file system")
    assert kind not in roots.NETWORK
    monkeypatch.setattr(roots, "NETWORK", frozenset({kind}))
    fault = fault_of_opening(folder)
    assert str(fault) == (
        f"{folder}/runs is on a network file system ({kind}), where a lock does not prove that a process lives"
    )


def test_a_link_is_no_root(folder: Path) -> None:
    (folder / "elsewhere").mkdir(0o700)
    (folder / "runs").symlink_to("elsewhere")
    assert "the folder of the runs can't be used" in str(fault_of_opening(folder))


def test_a_root_that_is_removed_takes_its_queue_along_and_another_one_has_another_id(folder: Path) -> None:
    with engine_at(folder, slots=1) as engine:
        first = engine.identity()
        engine.send(step_of("a-1", {"script": f"echo $$ > {folder}/pid; {WAITS_FOR_GO['script']}; touch {folder}/end"}))
        until(lambda: (folder / "pid").exists() and (folder / "pid").read_text())
        engine.send(step_of("b-1", {"script": f"touch {folder}/ran"}))
        spawner = spawner_of(folder)
        shutil.rmtree(folder / "runs")
        # Also for an engine that was open all the time.
        assert look_at(engine, "a-1").status is Status.MISSING
        assert engine.identity()["root"] != first["root"]
        assert engine.send(step_of("c-1", {"command": ["true"]})).kind is AnswerClass.APPLIED
        assert over(engine, "c-1").status is Status.COMPLETE
    (folder / "go").touch()
    until((folder / "end").exists)  # what executed went on
    until(lambda: not is_alive(spawner))
    assert not (folder / "ran").exists()


def test_a_root_that_was_moved_has_its_runs_at_the_new_place(folder: Path) -> None:
    with engine_at(folder, slots=1) as engine:
        engine.send(step_of("a-1", {"script": WAITS_FOR_GO["script"]}))
        _await_running(engine, "a-1")
        engine.send(step_of("b-1", {"script": f"echo x >> {folder}/ran"}))
    (folder / "new").mkdir()
    (folder / "runs").rename(folder / "new" / "runs")
    until(lambda: spawner_of(folder / "new") == 0)
    with engine_at(folder / "new", slots=1) as engine:
        assert look_at(engine, "a-1").word == "running"
        (folder / "go").touch()
        assert {over(engine, "a-1").status, over(engine, "b-1").status} == {Status.COMPLETE}
    assert (folder / "ran").read_text() == "x\n"
    end_all(folder / "new")


def test_what_waits_or_is_tried_again_in_a_project_that_was_moved_finds_its_working_folder(tmp_path: Path) -> None:
    project = tmp_path / "before"
    (project / "work").mkdir(parents=True)
    go = tmp_path / "go"
    again = f"#!/bin/sh\npwd >> ../where; until [ -e {go} ]; do sleep 0.02; done; [ -e ../moved ]"
    with engine_at(project, slots=1) as engine:
        engine.send(step_of("a-1", {"script": again, "workdir": "work", "retry": {"times": 1}}))
        # It is running before it has executed anything.
        until(lambda: (project / "where").is_file() and (project / "where").read_text().endswith("\n"))
        engine.send(step_of("b-1", {"script": "pwd >> ../where", "workdir": "work"}))
        engine.send(step_of("c-1", {"script": f"pwd >> {tmp_path}/elsewhere", "workdir": str(tmp_path)}))
    moved = tmp_path / "after"
    project.rename(moved)
    until(lambda: spawner_of(moved) == 0)
    with engine_at(moved, slots=1) as engine:
        go.touch()
        until(lambda: len((moved / "where").read_text().splitlines()) == 2)
        (moved / "moved").touch()
        for run_id in ("b-1", "c-1"):
            assert over(engine, run_id).status is Status.COMPLETE
    assert (moved / "where").read_text().splitlines() == [str(project / "work"), *[str(moved / "work")] * 2]
    assert (tmp_path / "elsewhere").read_text() == f"{tmp_path}\n"
    end_all(moved)


def test_a_file_that_is_damaged_makes_one_job_unreadable(folder: Path) -> None:
    with engine_at(folder) as engine:
        for run in ("a-1", "b-1"):
            engine.send(step_of(run, {"command": ["true"]}))
            over(engine, run)
        (run_folder(folder, "a-1") / "ended.json").write_text("{")
        found = engine.observe_many(["a", "b"])
        assert (found["a"].status, found["b"].status) == (Status.UNREADABLE, Status.COMPLETE)
        assert found["a"].detail.startswith("a: ended.json is damaged: ")
        assert engine.send(step_of("a-1", verb=Verb.DELETE)).kind is AnswerClass.REJECTED


# --- the disk, processes, the clock --------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, of one megabyte."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m,mode=700", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("this user can't mount a file system")
    try:
        yield place
    finally:
        end_all(place)
        until(lambda: subprocess.run(["umount", place], capture_output=True, check=False).returncode == 0)


def _await_running(engine: LocalEngine, run: str) -> None:
    until(lambda: look_at(engine, run).word == "running")


def fill(place: Path) -> None:
    with pytest.raises(OSError, match="No space left"), (place / "filler").open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 4096)


def test_on_a_full_disk_nothing_is_accepted_and_nothing_is_let_go(small_disk: Path, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    with engine_at(small_disk, slots=2) as engine:
        for run in ("a-1", "b-1"):
            engine.send(step_of(run, {"command": ["sh", "-c", "while [ ! -e go ]; do sleep 0.02; done"]}))
            _await_running(engine, run)
        engine.send(step_of("c-1", {"script": f"echo x >> {ran}"}))
        fill(small_disk)
        result = engine.send(step_of("d-1", {"command": ["true"]}))
        assert (result.kind, result.reason) == (AnswerClass.REJECTED, Reason.OTHER)
        assert result.message == f"{small_disk}/runs: No space left on device; nothing was started"
        # Its slot is free from then on, so the next supervisor forks its child, and can't record that.
        kill_supervisor(small_disk, "a-1")
        time.sleep(1.5)
        assert look_at(engine, "c-1").word == "queued"
        assert not ran.exists()
        (small_disk / "filler").unlink()
        assert over(engine, "c-1").status is Status.COMPLETE
        assert look_at(engine, "d-1").status is Status.MISSING
        assert engine.send(step_of("d-1", {"command": ["true"]})).kind is AnswerClass.APPLIED
        (small_disk / "go").touch()
        assert over(engine, "b-1").status is Status.COMPLETE
    assert ran.read_text() == "x\n"


def test_a_run_that_ends_on_a_full_disk_says_so_once_it_can(small_disk: Path) -> None:
    with engine_at(small_disk) as engine:
        engine.send(step_of("a-1", WAITS_FOR_GO))
        _await_running(engine, "a-1")
        fill(small_disk)
        (small_disk / "go").touch()  # an empty file takes no room
        until(lambda: "has ended, and its supervisor has yet to record that" in look_at(engine, "a-1").detail)
        found = look_at(engine, "a-1")
        assert (found.status, found.execution.pid) == (Status.ACTIVE, 0)
        (small_disk / "filler").unlink()
        assert over(engine, "a-1").status is Status.COMPLETE


def test_a_log_that_finds_no_room_costs_lines_and_no_run(small_disk: Path, tmp_path: Path) -> None:
    script = f"""
echo first
while [ ! -e go ]; do sleep 0.02; done
head -c 4000000 /dev/zero
touch {tmp_path}/printed
while [ ! -e again ]; do sleep 0.02; done
echo last
"""
    with engine_at(small_disk) as engine:
        engine.send(step_of("a-1", {"script": script}))
        until((run_folder(small_disk, "a-1") / "log").exists)
        (small_disk / "go").touch()
        until((tmp_path / "printed").exists)
        log = run_folder(small_disk, "a-1") / "log"
        log.write_bytes(b"")  # somebody makes room
        (small_disk / "again").touch()
        assert over(engine, "a-1").status is Status.COMPLETE
    assert b"bytes of this log could not be written]\nlast\n" in log.read_bytes()


def test_a_log_whose_end_finds_no_room_is_said_to_lack_it(small_disk: Path) -> None:
    script = "while [ ! -e go ]; do sleep 0.02; done; head -c 4000000 /dev/zero"
    with engine_at(small_disk) as engine:
        engine.send(step_of("a-1", {"script": script}))
        _await_running(engine, "a-1")
        (small_disk / "go").touch()
        until(lambda: "yet to record" in look_at(engine, "a-1").detail)
        log = run_folder(small_disk, "a-1") / "log"
        lost = 4000000 - log.stat().st_size
        log.unlink()
        end = over(engine, "a-1")
    assert end.status is Status.COMPLETE
    assert lost <= int(end.detail.split()[0]) <= lost + 65536
    assert end.detail.endswith(" bytes of its log could not be written")


@pytest.mark.parametrize("place", ["job", "run"])
@pytest.mark.parametrize("kind", ["file", "link"])
def test_what_is_no_folder_makes_one_job_unreadable(folder: Path, tmp_path: Path, place: str, kind: str) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    with engine_at(folder, slots=1) as engine:
        engine.send(step_of("z-1", {"script": f"echo x >> {folder}/ran; exec sleep 1", "keepFor": 0}))
        _await_running(engine, "z-1")
        engine.send(step_of("y-1", {"script": f"echo x >> {folder}/ran"}))
        path = folder / "runs" / "jobs" / "a"
        if place == "run":
            path.mkdir()
            (path / ".DS_Store").touch()
            assert look_at(engine, "a-1").status is Status.MISSING
            path /= "a-1"
        path.symlink_to(elsewhere) if kind == "link" else path.touch()
        found = engine.observe_many(["a", "z"])
        assert (found["a"].status, found["z"].status) == (Status.UNREADABLE, Status.ACTIVE)
        assert f"{path} is no folder; remove what is there" in found["a"].detail
        assert {job: observed.status for job, observed in engine.observe_all()}["z"] is Status.ACTIVE
        result = engine.send(step_of("a-1", {"command": ["true"]}))
        assert (result.kind, list(elsewhere.iterdir())) == (AnswerClass.REJECTED, [])
        kill(folder, spawner_of(folder))
    # Whoever comes next starts the jobs that wait behind it, and keepFor takes away what it is to take.
    with engine_at(folder, slots=1) as engine:
        assert over(engine, "y-1").status is Status.COMPLETE
    until(lambda: not (run_folder(folder, "z-1") / "spec.json").exists())
    path.unlink()
    assert (folder / "ran").read_text() == "x\nx\n"


@pytest.fixture
def processes() -> Iterator[Path]:
    """A group of processes whose number can be limited."""
    for place in (Path("/sys/fs/cgroup/pids"), Path("/sys/fs/cgroup")):
        group = place / f"reconciler-{os.getpid()}"
        try:
            group.mkdir()
        except OSError:
            continue
        if (group / "pids.max").exists():
            break
        group.rmdir()
    else:
        pytest.skip("this user can't limit the number of processes")
    try:
        yield group
    finally:
        until(lambda: not (group / "cgroup.procs").read_text())
        group.rmdir()


def test_a_run_for_which_there_is_no_process_waits_and_says_why(folder: Path, processes: Path) -> None:
    with engine_at(folder, slots=1) as engine:
        engine.send(step_of("first-1", {"command": ["true"]}))
        over(engine, "first-1")
        (processes / "cgroup.procs").write_text(str(spawner_of(folder)))
        (processes / "pids.max").write_text("1")
        assert engine.send(step_of("a-1", {"script": f"echo x >> {folder}/ran"})).kind is AnswerClass.APPLIED
        until(lambda: "limit of processes" in look_at(engine, "a-1").detail)
        assert look_at(engine, "a-1").word == "queued"
        # Now there is room for the supervisor, and none for the command.
        (processes / "pids.max").write_text("2")
        time.sleep(1.5)
        assert look_at(engine, "a-1").status is Status.ACTIVE
        assert not (folder / "ran").exists()
        (processes / "pids.max").write_text("max")
        assert over(engine, "a-1").status is Status.COMPLETE
    assert (folder / "ran").read_text() == "x\n"


def test_a_spawner_that_gives_no_answer_is_named_and_nothing_is_accepted(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spawning, "WITHIN_S", 0.5)
    with engine_at(folder) as engine:
        engine.send(step_of("a-1", {"command": ["true"]}))
        spawner = spawner_of(folder)
        assert spawner > 1
        os.kill(spawner, signal.SIGSTOP)
        result = engine.send(step_of("b-1", {"command": ["true"]}))
        os.kill(spawner, signal.SIGCONT)
        assert result.kind is AnswerClass.NOT_SENT
        assert result.message == f"the spawner of {folder}/runs (process {spawner}) gives no answer"
        assert look_at(engine, "b-1").status is Status.MISSING
        assert engine.send(step_of("b-1", {"command": ["true"]})).kind is AnswerClass.APPLIED
        assert over(engine, "b-1").status is Status.COMPLETE


def test_an_abort_says_at_once_that_it_waits_for_a_supervisor_that_is_stopped(folder: Path) -> None:
    with engine_at(folder) as engine:
        engine.send(step_of("a-1", {"command": ["sleep", "1000"]}))
        until(lambda: look_at(engine, "a-1").word == "running")
        supervisor = supervisor_of(run_folder(folder, "a-1"))
        assert supervisor > 1
        os.kill(supervisor, signal.SIGSTOP)
        began_s = time.monotonic()
        result = engine.send(step_of("a-1", verb=Verb.ABORT))
        assert time.monotonic() - began_s < 10  # The grace is as long as that, and more follows it.
        waits = (
            f"its supervisor, process {supervisor}, is stopped, and ends it once it goes on: kill -CONT {supervisor}"
        )
        assert result.kind is AnswerClass.IN_DOUBT
        assert result.message == f"a-1 is to end, and still executes: {waits}"
        os.kill(supervisor, signal.SIGCONT)
        assert over(engine, "a-1").status is Status.ABORTED


def test_a_clock_that_goes_back_does_not_make_a_later_run_an_earlier_one(folder: Path) -> None:
    now_s = [1_700_000_000.0]
    with engine_at(folder, around=surroundings(wall_s=lambda: now_s[0])) as engine:
        began = []
        for number in (1, 2, 3):
            engine.send(step_of(f"a-{number}", {"command": ["true"]}))
            began.append(over(engine, f"a-{number}").submitted_at)
            now_s[0] -= 3600
    assert began == [
        "2023-11-14T22:13:20.000000Z",
        "2023-11-14T22:13:20.000001Z",
        "2023-11-14T22:13:20.000002Z",
    ]


_CLEANS_SLOWLY = """\
import os, sys, time
from reconciler.engines.local import supervisor
def slowly(*arguments):
    print("cleans", flush=True)
    time.sleep(60)
supervisor.remove_left_group = slowly
supervisor.supervise(os.open(sys.argv[1], os.O_RDONLY), sys.argv[1], supervisor.Order("jobs/a/a-1", {}))
"""


def test_a_run_that_has_failed_is_not_active_again_while_somebody_cleans_up_after_it(folder: Path) -> None:
    with engine_at(folder) as engine:
        engine.send(step_of("a-1", {"command": ["sleep", "1000"]}))
        _await_running(engine, "a-1")
        kill_supervisor(folder, "a-1")
        until(lambda: look_at(engine, "a-1").status is Status.FAILED)
        program = [sys.executable, "-c", _CLEANS_SLOWLY, str(folder / "runs")]
        with subprocess.Popen(program, stdout=subprocess.PIPE) as cleaner:
            assert cleaner.stdout is not None
            assert cleaner.stdout.readline() == b"cleans\n"
            seen = look_at(engine, "a-1").status
            cleaner.kill()
        assert seen is Status.FAILED


_COMES_LATE = """\
import os, sys
from reconciler.engines.local import supervisor
started = os.path.join(sys.argv[1], "jobs/a/a-1/started.json")
lock = supervisor.lock
def late(file):
    os.rename(f"{started}.away", started)
    return lock(file)
supervisor.lock = late
supervisor.supervise(os.open(sys.argv[1], os.O_RDONLY), sys.argv[1], supervisor.Order("jobs/a/a-1", {}))
"""


def test_a_run_is_not_started_again_by_a_supervisor_that_looked_before_the_first_one_started_it(folder: Path) -> None:
    """The first supervisor has started the run, and was killed, before the second one has the lock."""
    with engine_at(folder) as engine:
        engine.send(step_of("a-1", {"script": f"echo x >> {folder}/ran; exec sleep 1000"}))
        until(lambda: (folder / "ran").exists() and (folder / "ran").read_text() == "x\n")
        kill_supervisor(folder, "a-1")
        until(lambda: look_at(engine, "a-1").status is Status.FAILED)
    started = run_folder(folder, "a-1") / "started.json"
    started.rename(f"{started}.away")
    subprocess.run([sys.executable, "-c", _COMES_LATE, str(folder / "runs")], check=True, timeout=60)
    assert (folder / "ran").read_text() == "x\n"


_LATE_CHILD = """\
import os, time
from reconciler.engines.local.processes import die_with
parent = os.getpid()
if os.fork():
    os._exit(0)
while os.getppid() == parent:
    time.sleep(0.001)
die_with(parent)
print("executes the command")
"""


def test_a_child_whose_supervisor_was_killed_before_it_came_to_anything_executes_nothing() -> None:
    done = subprocess.run([sys.executable, "-c", _LATE_CHILD], capture_output=True, check=True, timeout=60)
    assert (done.stdout, done.stderr) == (b"", b"")


def test_a_process_that_executes_new_programs_all_the_time_is_always_found(tmp_path: Path) -> None:
    """For a moment such a process has no environment, and so no mark. A run must not count as ended then."""
    script = tmp_path / "again.sh"
    script.write_text('#!/bin/sh\nexec "$0"\n')
    script.chmod(0o755)
    mark = mark_of("root", "job", tmp_path.name)
    process = subprocess.Popen([script], env={MARK: mark, "PATH": os.environ["PATH"]})
    try:
        until(lambda: mark in survivors())
        missed = sum(process.pid not in survivors().get(mark, ()) for _ in range(300))
    finally:
        process.kill()
        process.wait()
    assert missed == 0
