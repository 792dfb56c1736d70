"""The engine: each run id starts its script once, whoever is killed, and an abort ends all that the script started."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from reconciler.engines.port import (
    AnswerClass,
    Engine,
    EngineError,
    Marks,
    Observation,
    Reason,
    Status,
    Step,
    Surroundings,
    Target,
    Verb,
)
from reconciler_scripts.plugin import LONGEST_BYTES, PLUGIN, Call

pytestmark = pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="the engine needs /proc")

OURS = Marks("state-1", "op-1", "config-1", "token-1", "commit-1")
WITHIN_S = 60.0
FOREVER = "sleep 1000"


def pause(seconds: float) -> bool:
    time.sleep(seconds)
    return False


SURROUNDINGS = Surroundings(
    env={"PATH": os.environ["PATH"], "BYTENITE_API_KEY": "a-made-up-key"},
    pause=pause,
    note_credential=lambda text: None,
    boot_s=time.monotonic,
    wall_s=time.time,
    parallelism=4,
    max_rps=None,
    beside_state="jobs",
)


def target_in(folder: Path, grace_s: int = 30) -> Target:
    return PLUGIN.target({"folder": "scripts", "gracePeriod": grace_s}, str(folder))


def write(folder: Path, job_id: str, text: str) -> None:
    """Write the script of a job. Each execution of the script adds a line to `JOB.ran`."""
    script = folder / "scripts" / f"{job_id}.sh"
    script.write_text(f"#!/bin/sh\necho \"$@\" >> '{folder}/{job_id}.ran'\n{text}\n")
    script.chmod(0o755)


def times_run(folder: Path, job_id: str) -> int:
    path = folder / f"{job_id}.ran"
    return len(path.read_text().splitlines()) if path.exists() else 0


def step(verb: Verb, run_id: str = "a-1", marks: Marks = OURS, config: Mapping[str, Any] | None = None) -> Step:
    return Step(verb, run_id.rpartition("-")[0], run_id, config=config or {}, marks=marks)


def until(holds: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + WITHIN_S
    while not holds():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


def ended(engine: Engine, run_id: str = "a-1") -> Observation:
    """Wait until a run has ended."""
    job_id = run_id.rpartition("-")[0]
    until(lambda: engine.observe(job_id, run_id).status is not Status.ACTIVE)
    return engine.observe(job_id, run_id)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "scripts").mkdir()
    return tmp_path


@pytest.fixture
def engine(folder: Path) -> Iterator[Engine]:
    with PLUGIN.open(target_in(folder), SURROUNDINGS) as opened:
        yield opened
        for job_id, observed in opened.observe_all():
            opened.send(step(Verb.ABORT, observed.run_id or job_id, observed.marks))


@pytest.mark.parametrize(
    ("text", "status", "detail"),
    [("exit 0", Status.COMPLETE, ""), ("exit 3", Status.FAILED, "exit code 3"), ("kill -9 $$", Status.FAILED, "137")],
)
def test_a_run_ends_as_its_script_does(engine: Engine, folder: Path, text: str, status: Status, detail: str) -> None:
    write(folder, "a", text)
    config = {"args": ["--full", "two words"], "env": {"LEVEL": "3"}}
    assert engine.send(step(Verb.RUN, config=config)).kind is AnswerClass.APPLIED
    observed = ended(engine)
    assert (observed.status, observed.run_id, observed.marks, observed.config) == (status, "a-1", OURS, config)
    assert detail in observed.detail
    assert (folder / "a.ran").read_text() == "--full two words\n"


def test_a_script_gets_the_variables_of_its_config_and_no_credentials(engine: Engine, folder: Path) -> None:
    write(folder, "a", "env")
    engine.send(step(Verb.RUN, config={"env": {"LEVEL": "3", "PATH": "/usr/bin:/bin:/only"}}))
    ended(engine)
    printed = b"".join(engine.log("a", "a-1", tail=None, follow=False, stop=threading.Event())).decode().splitlines()
    assert {"LEVEL=3", "PATH=/usr/bin:/bin:/only"} <= set(printed)
    assert not any("made-up-key" in line for line in printed)


@pytest.mark.parametrize(
    ("marks", "reason"),
    [
        (OURS, Reason.WAS_THERE),
        (OURS._replace(op="op-2"), Reason.WAS_THERE),
        (OURS._replace(op="op-2", config_digest="config-2"), Reason.OTHER_OP),
        (OURS._replace(lineage="state-2"), Reason.OTHER_OWNER),
    ],
)
def test_a_second_run_of_a_run_id_is_refused_with_whose_it_is(
    engine: Engine, folder: Path, marks: Marks, reason: Reason
) -> None:
    write(folder, "a", "exit 0")
    engine.send(step(Verb.RUN))
    ended(engine)
    again = engine.send(step(Verb.RUN, marks=marks))
    assert (again.kind, again.reason) == (AnswerClass.REJECTED, reason)
    engine.send(step(Verb.DELETE))
    assert engine.send(step(Verb.RUN, marks=marks)).reason is reason
    assert times_run(folder, "a") == 1


def test_eight_senders_of_one_run_id_start_its_script_once(engine: Engine, folder: Path) -> None:
    write(folder, "a", "exit 0")
    results = []
    senders = [threading.Thread(target=lambda: results.append(engine.send(step(Verb.RUN)))) for _ in range(8)]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    ended(engine)
    assert sorted(one.kind for one in results) == [AnswerClass.APPLIED] + [AnswerClass.REJECTED] * 7
    assert times_run(folder, "a") == 1


SENDER = """\
import sys
from test_scripts_engine import OURS, PLUGIN, SURROUNDINGS, Path, Verb, step, target_in

with PLUGIN.open(target_in(Path(sys.argv[1])), SURROUNDINGS) as engine:
    print(flush=True)
    engine.send(step(Verb.RUN, sys.argv[2]))
"""


def test_a_sender_that_is_killed_at_any_moment_is_followed_by_exactly_one_run(engine: Engine, folder: Path) -> None:
    write(folder, "a", "exit 0")
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    for number in range(1, 21):
        run_id = f"a-{number}"
        command = [sys.executable, "-c", SENDER, str(folder), run_id]
        with subprocess.Popen(command, env=env, stdout=subprocess.PIPE) as sender:
            assert sender.stdout is not None
            sender.stdout.readline()
            time.sleep(number * 0.0005)
            sender.send_signal(signal.SIGKILL)
        engine.send(step(Verb.RUN, run_id))
        assert ended(engine, run_id).status is Status.COMPLETE
        assert times_run(folder, "a") == number


def test_an_abort_ends_all_that_a_script_started_and_may_be_repeated(engine: Engine, folder: Path) -> None:
    write(folder, "a", f"setsid {FOREVER} & {FOREVER}")
    engine.send(step(Verb.RUN))
    until(lambda: times_run(folder, "a") == 1)
    assert engine.observe("a").status is Status.ACTIVE
    assert engine.send(step(Verb.DELETE)).kind is AnswerClass.REJECTED
    assert engine.send(step(Verb.ABORT)).kind is AnswerClass.APPLIED
    observed = engine.observe("a", "a-1")
    assert (observed.status, sorted(observed.timestamps)) == (Status.ABORTED, ["aborted", "began"])
    assert engine.send(step(Verb.ABORT)).reason is Reason.NOT_RUNNING


def test_a_script_that_ignores_sigterm_is_killed_once_the_grace_period_is_over(folder: Path) -> None:
    write(folder, "a", f"trap '' TERM\n{FOREVER} & {FOREVER}")
    with PLUGIN.open(target_in(folder, grace_s=0), SURROUNDINGS) as engine:
        engine.send(step(Verb.RUN))
        until(lambda: times_run(folder, "a") == 1)
        engine.send(step(Verb.ABORT))
        assert engine.observe("a").status is Status.ABORTED


def test_a_run_is_active_as_long_as_anything_of_it_executes_though_its_shell_was_killed(
    engine: Engine, folder: Path
) -> None:
    write(folder, "a", f"kill -9 $PPID\n{FOREVER}")
    engine.send(step(Verb.RUN))
    until(lambda: times_run(folder, "a") == 1)
    assert engine.observe("a").status is Status.ACTIVE
    engine.send(step(Verb.ABORT))
    assert engine.observe("a").status is Status.ABORTED


def test_a_delete_leaves_a_job_alone_that_has_a_newer_run(engine: Engine, folder: Path) -> None:
    write(folder, "a", "exit 0")
    for run_id in ("a-1", "a-2"):
        engine.send(step(Verb.RUN, run_id))
        ended(engine, run_id)
    assert engine.send(step(Verb.DELETE, "a-1")).kind is AnswerClass.REJECTED
    assert (engine.observe("a").status, engine.observe("a").run_id) == (Status.COMPLETE, "a-2")


def test_a_job_that_is_deleted_is_missing_until_its_next_run(engine: Engine, folder: Path) -> None:
    write(folder, "a", "exit 0")
    for run_id in ("a-9", "a-10"):
        engine.send(step(Verb.RUN, run_id))
        ended(engine, run_id)
    assert engine.observe("a").run_id == "a-10"
    assert engine.send(step(Verb.DELETE, "a-10")).kind is AnswerClass.APPLIED
    assert [one.status for one in (engine.observe("a"), engine.observe("a", "a-9"))] == [Status.MISSING] * 2
    assert list(engine.observe_all()) == []
    assert engine.send(step(Verb.DELETE, "a-10")).reason is Reason.NO_SUCH_JOB
    engine.send(step(Verb.RUN, "a-11"))
    assert ended(engine, "a-11").status is Status.COMPLETE
    assert [job_id for job_id, _ in engine.observe_all()] == ["a"]


@pytest.mark.parametrize("verb", [Verb.ABORT, Verb.DELETE])
def test_a_run_of_another_state_is_left_alone(engine: Engine, folder: Path, verb: Verb) -> None:
    write(folder, "a", FOREVER)
    engine.send(step(Verb.RUN))
    assert engine.send(step(verb, marks=OURS._replace(lineage="state-2"))).reason is Reason.OTHER_OWNER
    assert engine.observe("a").status is Status.ACTIVE


def test_a_log_is_followed_until_the_run_is_over(engine: Engine, folder: Path) -> None:
    write(folder, "a", f"echo one; echo two; while [ ! -e '{folder}/go' ]; do sleep 0.01; done; echo three")
    engine.send(step(Verb.RUN))
    pieces = engine.log("a", "a-1", tail=1, follow=True, stop=threading.Event())
    until((folder / "a.ran").exists)
    printed = b""
    for piece in pieces:
        printed += piece
        (folder / "go").touch()
    assert printed.endswith(b"two\nthree\n")
    stopped = threading.Event()
    stopped.set()
    assert list(engine.log("a", "a-1", tail=1, follow=True, stop=stopped)) == [b"three\n"]


@pytest.mark.parametrize("name", ["../a", "a/b", ".", "a..b", "", "a" * 200, "a\n", "ä"])
def test_a_name_that_no_file_can_have_is_refused(engine: Engine, name: str) -> None:
    assert engine.observe(name).status is Status.MISSING
    result = engine.send(Step(Verb.RUN, name, f"{name}-1", marks=OURS))
    assert (result.kind, result.reason) == (AnswerClass.REJECTED, Reason.INVALID)


def test_a_job_without_a_script_is_refused_before_its_run_id_is_taken(engine: Engine, folder: Path) -> None:
    assert engine.send(step(Verb.RUN)).reason is Reason.INVALID
    write(folder, "a", "exit 0")
    assert engine.send(step(Verb.RUN)).kind is AnswerClass.APPLIED


def test_a_call_that_may_not_be_sent_does_nothing(engine: Engine, folder: Path) -> None:
    write(folder, "a", "exit 0")
    assert engine.send(step(Verb.RUN), lambda: False).kind is AnswerClass.NOT_SENT
    assert engine.observe("a").status is Status.MISSING


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"began": "", "config": {}, "marks": {"x": 1}}'])
def test_a_damaged_file_of_a_run_makes_the_job_unreadable(engine: Engine, folder: Path, content: str) -> None:
    write(folder, "a", "exit 0")
    engine.send(step(Verb.RUN))
    ended(engine)
    (folder / "scripts" / ".runs" / "a" / "a-1.json").write_text(content)
    assert engine.observe("a").status is Status.UNREADABLE
    assert engine.send(step(Verb.RUN)).kind is AnswerClass.IN_DOUBT


def test_a_run_that_can_not_be_recorded_is_rejected_and_does_not_begin(engine: Engine, folder: Path) -> None:
    write(folder, "a", "exit 0")
    path = "/no/program/is/here"
    with PLUGIN.open(target_in(folder), SURROUNDINGS._replace(env={"PATH": path})) as without_programs:
        result = without_programs.send(step(Verb.RUN))
    assert (result.kind, "ln" in result.message) == (AnswerClass.REJECTED, True)
    assert engine.observe("a").status is Status.MISSING
    assert list((folder / "scripts" / ".runs" / "a").iterdir()) == []


def test_a_folder_has_one_identity_that_another_folder_does_not_have(folder: Path, tmp_path_factory: Any) -> None:
    other = tmp_path_factory.mktemp("other")
    (other / "scripts").mkdir()
    identities = []
    for where in (folder, folder, other):
        with PLUGIN.open(target_in(where), SURROUNDINGS) as engine:
            identities.append(engine.identity()["folder"])
    assert identities[0] == identities[1] != identities[2]


def test_a_folder_that_does_not_exist_is_an_error_that_says_how_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(EngineError) as caught, PLUGIN.open(target_in(tmp_path), SURROUNDINGS):
        pass
    assert caught.value.hint == f"mkdir -p {tmp_path}/scripts"


@pytest.mark.parametrize("text", ["a\0b", "\ud800", "x" * (LONGEST_BYTES + 1)])
@pytest.mark.parametrize("field", ["args", "env"])
def test_a_text_that_no_program_can_get_is_a_fault_of_the_job(
    engine: Engine, folder: Path, text: str, field: str
) -> None:
    write(folder, "a", "exit 0")
    config = {"args": [text]} if field == "args" else {"env": {"TEXT": text}}
    told = f"is too long: it has {len(text)} bytes" if len(text) > LONGEST_BYTES else "no program can get the text"
    assert told in Call.of("a", config).fault()
    assert engine.send(step(Verb.RUN, config=config)).reason is Reason.INVALID


def test_a_plan_names_the_script_and_the_run() -> None:
    target = PLUGIN.target({"folder": "scripts"}, "/srv")
    [request] = PLUGIN.wording(target, step(Verb.RUN, config={"args": ["x"]}))
    assert str(request) == 'start a.sh as a-1 {"args":["x"]}'
    assert PLUGIN.addressed(target, request).text == "start a.sh as a-1 in /srv/scripts"
    assert [PLUGIN.wording(target, step(verb))[0].text for verb in (Verb.ABORT, Verb.DELETE)] == [
        "end a-1",
        "remove the runs of a",
    ]
    assert PLUGIN.same_config({}, {"args": [], "env": {}})
    assert not PLUGIN.same_config({}, {"args": ["x"]})
