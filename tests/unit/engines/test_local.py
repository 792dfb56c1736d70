"""Jobs as processes on this machine: each run id is executed once, and an abort ends all that it has started."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from local_runs import (
    OURS,
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
from reconciler.engines.local.engine import LocalEngine
from reconciler.engines.local.processes import survivors
from reconciler.engines.port import AnswerClass, Reason, Status, Verb
from waits import until

FOREVER: Mapping[str, Any] = {"command": ["sleep", "1000"]}


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    end_all(tmp_path)


@pytest.fixture
def engine(folder: Path) -> Iterator[LocalEngine]:
    with engine_at(folder) as opened:
        yield opened


def start(engine: LocalEngine, run_id: str, config: Mapping[str, Any]) -> None:
    result = engine.send(step_of(run_id, config))
    assert result.kind is AnswerClass.APPLIED, result


def log_of(engine: LocalEngine, run_id: str, tail: int | None = None, *, follow: bool = False) -> bytes:
    return b"".join(engine.log(run_id.rpartition("-")[0], run_id, tail=tail, follow=follow, stop=threading.Event()))


def is_running(engine: LocalEngine, run_id: str) -> bool:
    return look_at(engine, run_id).word == "running"


# --- how a run ends ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "status", "detail"),
    [
        ({"command": ["true"]}, Status.COMPLETE, ""),
        ({"script": "exit 3"}, Status.FAILED, "exit code 3"),
        ({"script": "kill -SEGV $$"}, Status.FAILED, "killed by SIGSEGV"),
        (
            {"command": ["no-such-program"]},
            Status.FAILED,
            "the command can't be started: no-such-program: No such file or directory",
        ),
        (
            {"command": ["true"], "workdir": "/no/such/folder"},
            Status.FAILED,
            "the command can't be started: workdir /no/such/folder: No such file or directory",
        ),
        ({**FOREVER, "jobTimeout": 1}, Status.FAILED, "timed out: jobTimeout is 1 s"),
        ({**FOREVER, "taskTimeout": 1}, Status.FAILED, "timed out: taskTimeout is 1 s"),
        (
            {**FOREVER, "taskTimeout": 1, "retry": {"times": 1}},
            Status.FAILED,
            "timed out: taskTimeout is 1 s, after 2 attempts",
        ),
        ({"script": "exit 3", "retry": {"times": 2}}, Status.FAILED, "exit code 3, after 3 attempts"),
        ({"script": "exit 3", "retry": {"times": 2, "exitCodes": [4]}}, Status.FAILED, "exit code 3"),
    ],
)
def test_a_run_ends_as_its_command_does(
    engine: LocalEngine, config: Mapping[str, Any], status: Status, detail: str
) -> None:
    start(engine, "a-1", config)
    end = over(engine, "a-1")
    assert (end.status, end.detail, end.run_id, end.marks, end.config) == (status, detail, "a-1", OURS, config)


def test_a_script_is_executed_by_the_program_that_its_first_line_names(engine: LocalEngine, folder: Path) -> None:
    start(engine, "a-1", {"script": "#!/usr/bin/env python3\nimport sys\nprint(sys.argv[0])\nsys.exit(3)\n"})
    start(engine, "b-1", {"script": "#!/no/such/program\n", "retry": {"times": 1}})
    path = run_folder(folder, "a-1") / "script"
    assert over(engine, "a-1").detail == "exit code 3"
    assert log_of(engine, "a-1") == f"{path}\n".encode()
    assert over(engine, "b-1").detail == "the command can't be started: #!/no/such/program: No such file or directory"
    engine.send(step_of("a-1", verb=Verb.DELETE))
    assert not path.exists()


def test_an_attempt_after_a_failure_may_complete_the_run(engine: LocalEngine, folder: Path) -> None:
    tried = folder / "tried"
    start(engine, "a-1", {"script": f"[ -e {tried} ] || {{ touch {tried}; exit 1; }}", "retry": {"times": 5}})
    assert over(engine, "a-1").status is Status.COMPLETE


def test_no_attempt_follows_an_abort_or_the_end_of_all_time(engine: LocalEngine, folder: Path) -> None:
    script = f"echo x >> {folder}/ran; trap 'exit 1' TERM; while :; do sleep 0.05; done"
    start(engine, "a-1", {"script": script, "retry": {"times": 5}})
    start(engine, "b-1", {"script": script, "retry": {"times": 5}, "jobTimeout": 1})
    until(lambda: (folder / "ran").exists() and len((folder / "ran").read_text().splitlines()) == 2)
    engine.send(step_of("a-1", verb=Verb.ABORT))
    assert (over(engine, "a-1").status, over(engine, "b-1").status) == (Status.ABORTED, Status.FAILED)
    assert (folder / "ran").read_text() == "x\nx\n"


def test_what_a_command_leaves_behind_ends_with_it(engine: LocalEngine, folder: Path) -> None:
    start(engine, "a-1", {"script": f"setsid sleep 1000 & echo $! > {folder}/pid"})
    assert over(engine, "a-1").status is Status.COMPLETE
    pid = int((folder / "pid").read_text())
    assert pid not in {each for pids in survivors().values() for each in pids}


def test_a_command_that_allocates_more_than_its_limit_fails(engine: LocalEngine) -> None:
    program = "bytearray(300 << 20)"
    start(engine, "a-1", {"command": ["python3", "-c", program], "resources": {"memory": "100MiB"}})
    start(engine, "b-1", {"command": ["python3", "-c", program], "resources": {"memory": "1GiB"}})
    assert (over(engine, "a-1").status, over(engine, "b-1").status) == (Status.FAILED, Status.COMPLETE)
    assert b"MemoryError" in log_of(engine, "a-1")


# --- no run twice ------------------------------------------------------------------------------------------------


def test_a_run_that_is_deleted_leaves_a_tombstone_and_its_id_is_never_used_again(
    engine: LocalEngine, folder: Path
) -> None:
    config = {"script": f"echo x >> {folder}/ran"}
    start(engine, "a-1", config)
    over(engine, "a-1")
    assert engine.send(step_of("a-1", verb=Verb.DELETE)).kind is AnswerClass.APPLIED
    assert (look_at(engine, "a-1").status, engine.observe("a").status) == (Status.MISSING, Status.MISSING)
    assert list(engine.observe_all()) == []
    assert engine.send(step_of("a-1", config)).reason is Reason.WAS_THERE
    other = step_of("a-1", config)
    assert engine.send(other._replace(marks=OURS._replace(lineage="other"))).reason is Reason.OTHER_OWNER
    start(engine, "a-2", config)
    assert over(engine, "a-2").status is Status.COMPLETE
    assert (folder / "ran").read_text() == "x\nx\n"
    assert sorted(os.listdir(run_folder(folder, "a-1"))) == ["removed.json"]


def test_a_run_that_was_kept_long_enough_leaves_a_tombstone_that_knows_its_end(folder: Path) -> None:
    config = {"script": f"echo x >> {folder}/ran; exit 3", "keepFor": 0}
    kept = {"script": "echo printed", "keepFor": 3600}
    with engine_at(folder) as engine:
        start(engine, "a-1", config)
        start(engine, "b-1", kept)
        before = [over(engine, run_id) for run_id in ("a-1", "b-1")]
    until(lambda: os.listdir(run_folder(folder, "a-1")) == ["removed.json"])
    with engine_at(folder) as engine:
        after = look_at(engine, "a-1")
        assert after.detail == "exit code 3; its log was removed, as keepFor says"
        assert after == before[0]._replace(config=None, detail=after.detail)
        assert look_at(engine, "b-1") == before[1]
        assert (log_of(engine, "a-1"), log_of(engine, "b-1")) == (b"", b"printed\n")
        assert engine.send(step_of("a-1", config)).reason is Reason.WAS_THERE
        assert engine.send(step_of("a-1", verb=Verb.DELETE)).kind is AnswerClass.APPLIED
        assert engine.observe("a").status is Status.MISSING
        assert engine.send(step_of("a-1", config)).reason is Reason.WAS_THERE
        start(engine, "c-1", {"command": ["true"]})
        over(engine, "c-1")
    assert (folder / "ran").read_text() == "x\n"


def test_a_run_whose_supervisor_was_killed_is_not_started_again(engine: LocalEngine, folder: Path) -> None:
    start(engine, "a-1", {"script": f"echo x >> {folder}/ran; exec sleep 1000"})
    until(lambda: (folder / "ran").exists() and (folder / "ran").read_text() == "x\n")
    kill_supervisor(folder, "a-1")
    assert engine.send(step_of("a-1", FOREVER)).reason is Reason.WAS_THERE
    end = over(engine, "a-1")
    assert end.status is Status.FAILED
    assert end.detail == "its supervisor was killed; how the command ended is not known"
    assert (folder / "ran").read_text() == "x\n"


def test_a_run_that_was_going_on_when_the_machine_went_down_has_failed(engine: LocalEngine, folder: Path) -> None:
    start(engine, "a-1", FOREVER)
    until(lambda: is_running(engine, "a-1"))
    started = run_folder(folder, "a-1") / "started.json"
    kill_supervisor(folder, "a-1")
    started.write_text(re.sub(r'"boot": "[^"]*"', '"boot": "another"', started.read_text()))
    end = over(engine, "a-1")
    assert (end.status, end.detail) == (
        Status.FAILED,
        "the machine was restarted; how the command ended is not known",
    )


# --- aborts ------------------------------------------------------------------------------------------------------


def test_an_abort_kills_what_ignores_the_signal_and_what_has_left_the_group(engine: LocalEngine, folder: Path) -> None:
    stubborn = f"trap '' TERM; echo \\$\\$ > {folder}/pid; sleep 1000; sleep 1000"
    script = f"trap '' TERM; setsid sh -c \"{stubborn}\" & wait; sleep 1000"
    start(engine, "a-1", {"script": script, "abort": {"grace": 1}})
    until(lambda: (folder / "pid").exists() and (folder / "pid").read_text())
    began_s = time.monotonic()
    assert engine.send(step_of("a-1", verb=Verb.ABORT)).kind is AnswerClass.APPLIED
    assert time.monotonic() - began_s >= 1
    assert look_at(engine, "a-1").status is Status.ABORTED
    assert not is_alive(int((folder / "pid").read_text()))


def test_an_abort_sends_the_signal_of_the_config_and_waits_for_the_end(engine: LocalEngine, folder: Path) -> None:
    script = f"trap 'sleep 0.2; touch {folder}/tidy; exit 0' INT; touch {folder}/on; while :; do sleep 0.05; done"
    start(engine, "a-1", {"script": script, "abort": {"signal": "INT", "grace": 60}})
    until((folder / "on").exists)
    assert engine.send(step_of("a-1", verb=Verb.ABORT)).kind is AnswerClass.APPLIED
    assert (folder / "tidy").exists()
    assert look_at(engine, "a-1").status is Status.ABORTED
    assert engine.send(step_of("a-1", verb=Verb.ABORT)).reason is Reason.NOT_RUNNING


def test_an_abort_of_a_run_that_has_just_completed_is_none(engine: LocalEngine, folder: Path) -> None:
    start(engine, "a-1", {"script": "while [ ! -e go ]; do sleep 0.02; done"})
    until(lambda: is_running(engine, "a-1"))

    def completed() -> bool:
        (folder / "go").touch()
        return over(engine, "a-1").status is Status.COMPLETE

    result = engine.send(step_of("a-1", verb=Verb.ABORT), completed)
    assert (result.kind, result.reason) == (AnswerClass.REJECTED, Reason.NOT_RUNNING)
    assert look_at(engine, "a-1").status is Status.COMPLETE


def test_a_run_that_is_aborted_in_the_queue_never_starts(folder: Path) -> None:
    with engine_at(folder, slots=1) as engine:
        start(engine, "a-1", {"script": "while [ ! -e go ]; do sleep 0.02; done"})
        until(lambda: is_running(engine, "a-1"))
        start(engine, "b-1", {"script": f"touch {folder}/ran"})
        assert look_at(engine, "b-1").detail == "waits for a free slot"
        assert engine.send(step_of("b-1", verb=Verb.ABORT)).kind is AnswerClass.APPLIED
        assert look_at(engine, "b-1").status is Status.ABORTED
        (folder / "go").touch()
        over(engine, "a-1")
        start(engine, "c-1", {"command": ["true"]})
        over(engine, "c-1")
    assert not (folder / "ran").exists()
    assert not (run_folder(folder, "b-1") / "started.json").exists()


def test_what_a_killed_supervisor_left_is_active_and_can_be_aborted(engine: LocalEngine, folder: Path) -> None:
    start(engine, "a-1", {"script": f"setsid sleep 1000 & echo $! > {folder}/pid; wait", "abort": {"grace": 1}})
    until(lambda: (folder / "pid").exists() and (folder / "pid").read_text())
    pid = int((folder / "pid").read_text())
    kill_supervisor(folder, "a-1")
    # The shell dies with the supervisor, and may still be there for a moment.
    words = f"its supervisor was killed; what it started lives on (processes {pid})"
    until(lambda: look_at(engine, "a-1").detail == words)
    left = look_at(engine, "a-1")
    assert (left.status, left.word) == (Status.ACTIVE, "left")
    assert left.execution.pid == pid
    assert engine.send(step_of("a-1", verb=Verb.DELETE)).reason is Reason.OTHER
    assert engine.send(step_of("a-1", verb=Verb.ABORT)).kind is AnswerClass.APPLIED
    assert look_at(engine, "a-1").status is Status.ABORTED
    assert not is_alive(pid)


def test_sigterm_alone_is_no_abort(engine: LocalEngine, folder: Path) -> None:
    start(engine, "a-1", {"script": "while [ ! -e go ]; do sleep 0.02; done"})
    until(lambda: is_running(engine, "a-1"))
    supervisor = supervisor_of(run_folder(folder, "a-1"))
    assert supervisor > 1
    os.kill(supervisor, signal.SIGTERM)
    time.sleep(0.1)
    assert is_running(engine, "a-1")
    (folder / "go").touch()
    assert over(engine, "a-1").status is Status.COMPLETE


# --- the queue ---------------------------------------------------------------------------------------------------


def test_no_more_runs_execute_at_a_time_than_there_are_slots(folder: Path) -> None:
    """Also if the spawner is killed, since its supervisors hold their slots themselves."""
    script = """
mkdir one || mkdir two || touch three
while [ ! -e go ]; do sleep 0.02; done
rmdir two || rmdir one
"""
    runs = [f"job{number}-1" for number in range(8)]
    with engine_at(folder, slots=2) as engine:
        for run_id in runs:
            start(engine, run_id, {"script": script})
        until((folder / "two").exists)
        kill(folder, spawner_of(folder))
    with engine_at(folder, slots=2) as engine:
        until(lambda: look_at(engine, runs[-1]).detail == "waits for a free slot")
        time.sleep(0.5)
        (folder / "go").touch()
        assert {over(engine, run_id).status for run_id in runs} == {Status.COMPLETE}
    assert not (folder / "three").exists()


def test_the_queue_outlives_the_command_that_filled_it(folder: Path) -> None:
    with engine_at(folder, slots=1) as engine:
        for number in range(4):
            start(engine, f"job{number}-1", {"script": f"sleep 0.1; echo x >> {folder}/ran"})
    until(lambda: (folder / "ran").exists() and (folder / "ran").read_text() == "x\n" * 4)
    until(lambda: spawner_of(folder) == 0)
    assert list((folder / "runs").glob("queue")) == []


def test_a_queue_whose_spawner_was_killed_goes_on_with_the_next_command(folder: Path) -> None:
    with engine_at(folder, slots=1) as engine:
        start(engine, "a-1", {"script": "while [ ! -e go ]; do sleep 0.02; done"})
        until(lambda: is_running(engine, "a-1"))
        start(engine, "b-1", {"script": f"echo x >> {folder}/ran"})
        kill(folder, spawner_of(folder))
    with engine_at(folder, slots=1) as engine:
        assert spawner_of(folder)
        kill(folder, spawner_of(folder))
        assert look_at(engine, "b-1").detail.startswith("waits; its spawner was killed")
        assert look_at(engine, "b-1").detail == "waits for a free slot"
        (folder / "go").touch()
        over(engine, "a-1")
        assert over(engine, "b-1").status is Status.COMPLETE
    assert (folder / "ran").read_text() == "x\n"


_KILLED_BEFORE_THE_START = """
import os, sys
from pathlib import Path
from local_runs import engine_at, step_of
from reconciler.engines.local.engine import LocalEngine
LocalEngine._start = lambda *arguments: os.kill(os.getpid(), 9)
folder = sys.argv[1]
with engine_at(Path(folder), slots=1) as engine:
    engine.send(step_of("a-1", {"script": f"echo x >> {folder}/ran", "env": {"GIVEN": "kept"}}))
"""


def killed_before_the_start(folder: Path) -> None:
    """Accept the run a-1 by a program that is killed right after, before it has the run started."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    program = subprocess.run([sys.executable, "-c", _KILLED_BEFORE_THE_START, str(folder)], env=env, check=False)
    assert program.returncode == -signal.SIGKILL
    assert (run_folder(folder, "a-1") / "spec.json").exists()


def test_a_run_is_executed_whose_command_is_killed_right_after_it_was_accepted(folder: Path) -> None:
    killed_before_the_start(folder)
    until((folder / "ran").exists)
    until(lambda: spawner_of(folder) == 0)
    with engine_at(folder) as engine:
        assert look_at(engine, "a-1").status is Status.COMPLETE
    assert (folder / "ran").read_text() == "x\n"


def test_a_run_that_waits_for_nobody_is_started_by_whoever_observes_it(folder: Path) -> None:
    """Its spawner is gone, and so is the file that says that something waits: a power loss has taken both."""
    with engine_at(folder, slots=1) as engine:
        start(engine, "a-1", {"script": "while [ ! -e go ]; do sleep 0.02; done"})
        until(lambda: is_running(engine, "a-1"))
        start(engine, "b-1", {"script": f"echo x >> {folder}/ran"})
        kill(folder, spawner_of(folder))
    (folder / "runs" / "queue").unlink()
    (folder / "go").touch()
    with engine_at(folder, slots=1) as engine:
        assert look_at(engine, "b-1").status is Status.ACTIVE
        assert over(engine, "b-1").status is Status.COMPLETE
    assert (folder / "ran").read_text() == "x\n"


def test_a_run_that_waits_for_a_secret_says_so(folder: Path) -> None:
    config = {"script": f"echo $TOKEN >> {folder}/ran", "env": {"TOKEN": {"secret": "TOKEN"}}}
    around = surroundings(env={"PATH": os.environ["PATH"], "TOKEN": "s"})
    with engine_at(folder, 1, around, secretVariables=["TOKEN"]) as engine:
        start(engine, "a-1", {"script": "while [ ! -e go ]; do sleep 0.02; done"})
        until(lambda: is_running(engine, "a-1"))
        start(engine, "b-1", config)
        kill(folder, spawner_of(folder))
    with engine_at(folder, 1, secretVariables=["TOKEN"]) as engine:
        assert look_at(engine, "b-1").detail == "waits: there is no secret TOKEN: the variable TOKEN is not set"
    (folder / "go").touch()
    with engine_at(folder, 1, around, secretVariables=["TOKEN"]) as engine:
        assert over(engine, "b-1").status is Status.COMPLETE


def test_a_run_is_not_started_with_the_environment_of_another_call(folder: Path) -> None:
    """A state that is older than the engine sends a run id whose run still waits, for a secret that is missing here."""
    around = surroundings(env={"PATH": os.environ["PATH"], "TOKEN": "ours"})
    config = {"script": f"echo $WHOSE >> {folder}/ran", "env": {"WHOSE": {"secret": "TOKEN"}}}
    with engine_at(folder, 1, around, secretVariables=["TOKEN"]) as engine:
        start(engine, "a-1", {"script": "while [ ! -e go ]; do sleep 0.02; done"})
        until(lambda: is_running(engine, "a-1"))
        start(engine, "b-1", config)
        kill(folder, spawner_of(folder))
    with engine_at(folder, 1, secretVariables=["TOKEN"]) as engine:
        other = step_of("b-1", {"command": ["true"], "env": {"WHOSE": "other"}})
        marks = OURS._replace(op="op-2", config_digest="config-2")
        assert engine.send(other._replace(marks=marks)).reason is Reason.OTHER_OP
    (folder / "go").touch()
    until(lambda: spawner_of(folder) == 0)
    with engine_at(folder, 1, around, secretVariables=["TOKEN"]) as engine:
        assert over(engine, "b-1").status is Status.COMPLETE
    assert (folder / "ran").read_text() == "ours\n"


def test_what_a_killed_command_had_prepared_is_removed_once_it_is_old(folder: Path) -> None:
    with engine_at(folder) as engine:
        engine.identity()
        for name in ("old", "new"):
            (folder / "runs" / "tmp" / name).mkdir()
            (folder / "runs" / "tmp" / name / "spec.json").touch()
        os.utime(folder / "runs" / "tmp" / "old", (0, 0))
        start(engine, "a-1", {"command": ["true"]})
    until(lambda: spawner_of(folder) == 0)
    assert os.listdir(folder / "runs" / "tmp") == ["new"]


def test_engines_that_are_opened_at_one_time_share_one_spawner(folder: Path) -> None:
    together = threading.Barrier(6)
    pids = []

    def work(number: int) -> None:
        with engine_at(folder) as engine:
            together.wait()
            start(engine, f"job{number}-1", {"command": ["true"]})
            pids.append(spawner_of(folder))
            together.wait()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(pids) == 6
    assert len(set(pids)) == 1


# --- logs --------------------------------------------------------------------------------------------------------


def test_a_log_has_both_streams_in_order(engine: LocalEngine) -> None:
    start(engine, "a-1", {"script": "echo one; echo two >&2; echo three; printf four >&2"})
    over(engine, "a-1")
    assert log_of(engine, "a-1") == b"one\ntwo\nthree\nfour"
    assert (log_of(engine, "a-1", 2), log_of(engine, "a-1", 0)) == (b"three\nfour", b"")


def test_a_log_that_is_followed_ends_with_the_run(engine: LocalEngine) -> None:
    start(engine, "a-1", {"script": "for i in 1 2 3; do echo $i; sleep 0.3; done"})
    assert log_of(engine, "a-1", follow=True) == b"1\n2\n3\n"


def test_a_log_keeps_its_end_within_its_bound(folder: Path) -> None:
    with engine_at(folder, logBytes=8192) as engine:
        start(engine, "a-1", {"script": "i=0; while [ $i -lt 2000 ]; do echo line $i; i=$((i+1)); done"})
        over(engine, "a-1")
        note, _, kept = log_of(engine, "a-1").partition(b"\n")
        assert log_of(engine, "a-1", 1) == b"line 1999\n"
        assert log_of(engine, "a-1", 2000) == note + b"\n" + kept
    assert kept.endswith(b"line 1998\nline 1999\n")
    assert 4096 < len(kept) <= 8192
    printed = b"".join(b"line %d\n" % i for i in range(2000))
    assert note == b"[the first %d bytes of this log were removed: logBytes]" % (len(printed) - len(kept))
    assert sum((run_folder(folder, "a-1") / name).stat().st_size for name in ("log", "log.1")) == len(kept)


def test_a_log_that_is_kept_as_a_whole_says_nothing_of_a_removal(folder: Path) -> None:
    with engine_at(folder, logBytes=8192) as engine:
        start(engine, "a-1", {"script": "printf '%4000d\\n' 1; sleep 0.3; printf '%1000d\\n' 2"})
        over(engine, "a-1")
        assert (run_folder(folder, "a-1") / "log.1").exists()
        assert log_of(engine, "a-1") == log_of(engine, "a-1", 9) == b"%4000d\n%1000d\n" % (1, 2)


# --- secrets and the environment ---------------------------------------------------------------------------------


def test_a_command_gets_a_minimal_environment(folder: Path) -> None:
    env = {"PATH": os.environ["PATH"], "HOME": "/home/ada", "LC_TIME": "C", "BYTENITE_API_KEY": "a-made-up-key"}
    with engine_at(folder, around=surroundings(env=env)) as engine:
        start(engine, "a-1", {"command": ["env"], "env": {"LEVEL": "3"}})
        over(engine, "a-1")
        printed = dict(line.split("=", 1) for line in log_of(engine, "a-1").decode().splitlines())
    assert printed.pop("RECONCILER_RUN").endswith("/a/a-1")
    assert printed == {"PATH": env["PATH"], "HOME": "/home/ada", "LC_TIME": "C", "LEVEL": "3"}


def test_secrets_reach_the_command_and_no_file(folder: Path) -> None:
    (folder / "secrets" / "db").mkdir(parents=True)
    (folder / "secrets" / "db" / "password").write_text("made-up-one\n")
    env = {"PATH": os.environ["PATH"], "TOKEN": "made-up-two"}
    noted: list[str] = []
    around = surroundings(env=env, note_credential=noted.append)
    config = {
        "script": f'echo "$A $B" > {folder}/got',
        "env": {"A": {"secret": "db/password"}, "B": {"secret": "TOKEN"}},
    }
    with engine_at(folder, 1, around, secrets="secrets", secretVariables=["TOKEN"]) as engine:
        start(engine, "first-1", {"script": "while [ ! -e go ]; do sleep 0.02; done"})
        start(engine, "a-1", config)
        on_disk = b"".join(path.read_bytes() for path in (folder / "runs").rglob("*") if path.is_file())
        (folder / "go").touch()
        end = over(engine, "a-1")
    assert (folder / "got").read_text() == "made-up-one made-up-two\n"
    assert b"made-up" not in on_disk
    assert b"made-up" not in b"".join(path.read_bytes() for path in (folder / "runs").rglob("*") if path.is_file())
    assert (end.config, noted) == (config, ["made-up-one", "made-up-two"])


def test_a_command_that_crashes_leaves_no_core_with_its_secrets(engine: LocalEngine, folder: Path) -> None:
    start(engine, "a-1", {"script": f"ulimit -S -c > {folder}/soft; ulimit -H -c > {folder}/hard"})
    over(engine, "a-1")
    assert (folder / "soft").read_text() == "0\n"
    # Whoever wants a core raises the limit in the script.
    allowed = subprocess.run(["/bin/sh", "-c", "ulimit -H -c"], capture_output=True, text=True, check=True).stdout
    assert (folder / "hard").read_text() == allowed


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("TOKEN", "there is no secret TOKEN: make the file {}/secrets/TOKEN"),
        ("up/../../x", "the secret up/../../x leads out of the folder {}/secrets"),
        ("ALLOWED", "there is no secret ALLOWED: the variable ALLOWED is not set"),
    ],
)
def test_a_secret_that_can_not_be_had_refuses_the_run(folder: Path, name: str, message: str) -> None:
    env = {"PATH": os.environ["PATH"], "TOKEN": "not allowed by the target"}
    with engine_at(folder, 1, surroundings(env=env), secrets="secrets", secretVariables=["ALLOWED"]) as engine:
        result = engine.send(step_of("a-1", {"command": ["true"], "env": {"A": {"secret": name}}}))
        assert (result.kind, result.reason) == (AnswerClass.REJECTED, Reason.INVALID)
        assert result.message == message.format(folder)
        assert look_at(engine, "a-1").status is Status.MISSING
