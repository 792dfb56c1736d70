"""State files that are replaced, moved or removed by something else while a command is at work on them."""

import json
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from project import Project, Run, done, served_project
from reconciler.engines.port import Engine
from reconciler.model.jobs import Config, Desired, Record
from reconciler.rules import naming
from reconciler.rules.reruns import text_of
from reconciler.state.codec import decode, encode
from reconciler.usecases import named_records
from reconciler.usecases.apply import apply
from reconciler.usecases.apply_options import ApplyOptions, Interaction
from reconciler.usecases.engines import LazyEngine
from reconciler.usecases.place import Place
from reconciler.usecases.selection import Selection
from reconciler.usecases.workspace import Workspace
from reconciler.usecases.world import World
from waits import until

DEADLINE_S = 30.0
SIX = "\n".join(f"{name}: {{state: running}}" for name in "abcdef")
RUNS = [("run", name) for name in "abcdef"]


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    """A service without reads: whatever is off the record is run again."""
    with served_project(tmp_path, "read:404", "list:404", "run:slow:seconds=0.3") as made:
        yield made


def end_of(child: "subprocess.Popen[str]") -> Run:
    try:
        out, err = child.communicate(timeout=DEADLINE_S)
    finally:
        child.kill()
    assert "Traceback" not in err, err
    return Run(child.returncode, out, err)


def begun(project: Project, *arguments: str) -> "subprocess.Popen[str]":
    """An apply that has its first call behind it, and others before it."""
    child = project.start("apply", "--yes", "--parallelism", "1", *arguments)
    until(lambda: len(done(project)) >= 1)
    return child


def other_state(state: Path, **records: Record) -> bytes:
    """The state that another machine wrote after the one at `state`: one serial later, with these records more."""
    there = decode(state.read_bytes(), str(state))
    return encode(there._replace(serial=there.serial + 1, jobs={**there.jobs, **records}))


# --- another state file takes the place of the first -------------------------------------------------------------


def test_a_state_file_that_was_replaced_under_an_apply_is_not_written_over(project: Project) -> None:
    state = project.folder / "jobs.state.json"
    project.write("z: {state: running}")
    assert project.run("apply", "--yes").code == 0
    before = done(project)
    theirs = other_state(state, p=Record("p", Desired.RUNNING))
    ours = state.read_bytes()
    project.write("z: {state: running}\np: {state: running}\n" + SIX)
    child = project.start("apply", "--yes", "--parallelism", "1")
    until(lambda: len(done(project)) > len(before))
    # As git does: the file is removed, and made anew.
    state.unlink()
    state.write_bytes(theirs)
    run = end_of(child)
    sent = done(project)
    assert run.code == 3, run
    assert "another file took the place of" in run.out + run.err
    assert len(sent) < len(before) + 4, "calls went on"
    assert state.read_bytes() == theirs
    refused = project.run("apply", "--yes")
    assert refused.code == 1, refused
    assert "reconciler state accept" in refused.err
    assert done(project) == sent
    # One way out: the file as it was; nothing of ours is lost.
    state.write_bytes(ours)
    assert project.run("apply", "--yes").code == 0
    assert sorted(done(project)) == sorted([("run", "z"), ("run", "p"), *RUNS])


def test_both_are_taken_together_by_accept_and_nothing_runs_twice(project: Project) -> None:
    state = project.folder / "jobs.state.json"
    project.write("z: {state: running}")
    assert project.run("apply", "--yes").code == 0
    theirs = other_state(state, f=Record("f", Desired.RUNNING))
    project.write("z: {state: running}\n" + SIX)
    child = project.start("apply", "--yes", "--parallelism", "1")
    until(lambda: len(done(project)) >= 2)
    other = state.with_name("other")
    other.write_bytes(theirs)
    other.rename(state)
    assert end_of(child).code == 3
    accepted = project.run("state", "accept")
    assert accepted.code == 0, accepted
    assert set(project.state["jobs"]) >= {"z", "a", "f"}
    assert project.run("apply", "--yes").code == 0
    # f was run by the other machine.
    assert sorted(done(project)) == sorted([("run", "z"), *RUNS[:-1]])
    assert project.run("history", "--check").code == 0


def test_a_job_that_both_sides_called_keeps_the_run_tokens_and_the_configs_of_both(project: Project) -> None:
    state = project.folder / "jobs.state.json"
    project.write('a: {state: running, runToken: "1"}')
    assert project.run("apply", "--yes").code == 0
    their_config: Config = {"jobTimeout": 7}
    their = Record(
        "a", Desired.RUNNING, their_config, frozenset({"1", "theirs"}), ran_configs=frozenset({text_of(their_config)})
    )
    theirs = other_state(state, a=their)
    project.write('a: {state: running, runToken: "ours"}\n' + SIX.replace("a:", "aa:"))
    child = project.start("apply", "--yes", "--parallelism", "1")
    until(lambda: len(done(project)) > 2)
    other = state.with_name("other")
    other.write_bytes(theirs)
    other.rename(state)
    assert end_of(child).code == 3
    accepted = project.run("state", "accept")
    assert accepted.code == 0, accepted
    assert "a: the state file and the journal both hold calls of this job" in accepted.err
    assert project.state["jobs"]["a"]["runTokens"] == ["1", "ours", "theirs"]
    assert project.state["jobs"]["a"]["ranConfigs"] == ['{"jobTimeout":7}', "{}"]


def test_the_same_bytes_under_another_inode_are_still_the_same_state(project: Project) -> None:
    state = project.folder / "jobs.state.json"
    project.write("z: {state: running}")
    assert project.run("apply", "--yes").code == 0
    project.write("z: {state: running}\n" + SIX)
    child = begun_after(project, 2)
    copy = state.with_name("copy")
    shutil.copy(state, copy)
    copy.rename(state)
    assert end_of(child).code == 0
    assert sorted(done(project)) == sorted([("run", "z"), *RUNS])


def begun_after(project: Project, calls: int) -> "subprocess.Popen[str]":
    child = project.start("apply", "--yes", "--parallelism", "1")
    until(lambda: len(done(project)) >= calls)
    return child


def test_a_state_file_that_comes_while_a_first_apply_is_at_work_is_not_written_over(project: Project) -> None:
    other = Project(project.folder / "other", project.server)
    other.folder.mkdir()
    other.write("p: {state: running}")
    assert other.run("apply", "--yes").code == 0
    theirs = (other.folder / "jobs.state.json").read_bytes()
    project.write(SIX)
    child = begun_after(project, 2)
    (project.folder / "jobs.state.json").write_bytes(theirs)
    run = end_of(child)
    assert run.code == 3, run
    assert (project.folder / "jobs.state.json").read_bytes() == theirs
    assert (project.folder / "jobs.state.json.journal").exists()


@pytest.mark.parametrize("command", [["state", "forget", "z"], ["state", "mv", "z", "x"]])
def test_a_mend_that_meets_another_state_file_changes_nothing(
    project: Project, command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is replaced between the load and the first write."""
    from reconciler.cli import cli

    state = project.folder / "jobs.state.json"
    project.write("z: {state: running}")
    assert project.run("apply", "--yes").code == 0
    theirs = other_state(state, p=Record("p", Desired.RUNNING))
    found = naming.record_named

    def replace_and_find(word: str, ids: Mapping[str, str] | None, records: Mapping[str, Record]) -> naming.NamedRecord:
        state.unlink()
        state.write_bytes(theirs)
        return found(word, ids, records)

    monkeypatch.setattr(named_records, "record_named", replace_and_find)
    monkeypatch.chdir(project.folder)
    monkeypatch.setenv("XDG_STATE_HOME", project.env["XDG_STATE_HOME"])
    assert int(cli.main(command, standalone_mode=False)) == 4
    assert state.read_bytes() == theirs
    assert not (project.folder / "jobs.state.json.journal").exists()


def test_lines_that_were_pulled_into_the_history_meanwhile_stay(project: Project) -> None:
    history = project.folder / "jobs.history.jsonl"
    project.write("z: {state: running}")
    assert project.run("apply", "--yes").code == 0
    theirs = history.read_text().replace('"z"', '"p"').replace('"op":"', '"op":"other-')
    project.write("z: {state: running}\n" + SIX)
    child = begun_after(project, 2)
    pulled = history.with_name("pulled")
    pulled.write_text(history.read_text() + theirs)
    pulled.rename(history)
    assert end_of(child).code == 0
    recorded_names = [json.loads(line)["job"] for line in history.read_text().splitlines()]
    assert sorted(recorded_names) == sorted(["z", "p", *"abcdef"])


def test_a_line_that_comes_into_the_history_between_read_and_rename_stays(tmp_path: Path) -> None:
    from reconciler.host.disk import OsDisk
    from reconciler.state import history

    path = str(tmp_path / "jobs.history.jsonl")

    class PulledOnce(OsDisk):
        left = 1

        def create(self, path: str, mode: int):  # type: ignore[no-untyped-def]
            if self.left and path.endswith(".tmp"):
                self.left = 0
                (tmp_path / "jobs.history.jsonl").write_bytes(history.encode(line("theirs"), []) + b"\n")
            return super().create(path, mode)

    def line(op: str) -> dict[str, object]:
        return {"op": op, "at": "now", "verb": "run", "outcome": "succeeded", "job": "a", "id": "a"}

    history.append(PulledOnce(), path, 0o600, [line("ours")])
    assert [one.entry.op for one in history.read(Path(path).read_bytes())[0]] == ["theirs", "ours"]


# --- the folder is switched --------------------------------------------------------------------------------------


def test_a_link_that_is_switched_during_an_apply_changes_nothing_for_it(project: Project) -> None:
    old, new, link = (project.folder / name for name in ("release-1", "release-2", "current"))
    for folder in (old, new):
        folder.mkdir()
        project.write(SIX, name=f"{folder.name}/jobs.yaml")
    link.symlink_to(old.name)
    child = project.start("apply", "current/jobs.yaml", "--yes", "--parallelism", "1")
    until(lambda: len(done(project)) >= 1)
    switched = link.with_name("switched")
    switched.symlink_to(new.name)
    switched.rename(link)
    run = end_of(child)
    assert run.code == 0, run
    assert sorted(done(project)) == RUNS
    assert sorted(path.name for path in old.iterdir()) == ["jobs.history.jsonl", "jobs.state.json", "jobs.yaml"]
    assert [path.name for path in new.iterdir()] == ["jobs.yaml"]
    assert set(json.loads((old / "jobs.state.json").read_text())["jobs"]) == set("abcdef")


def test_a_folder_that_is_renamed_during_an_apply_takes_the_state_along(project: Project) -> None:
    (project.folder / "prod").mkdir()
    project.write(SIX, name="prod/jobs.yaml")
    child = project.start("apply", "prod/jobs.yaml", "--yes", "--parallelism", "1")
    until(lambda: len(done(project)) >= 1)
    (project.folder / "prod").rename(project.folder / "moved")
    assert end_of(child).code == 0
    names = sorted(path.name for path in (project.folder / "moved").iterdir())
    assert names == ["jobs.history.jsonl", "jobs.state.json", "jobs.yaml"]


def test_the_embedded_sandbox_keeps_its_jobs_in_the_folder_that_the_state_is_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its database is opened later than the state is: the link is switched in between."""
    project = Project(tmp_path)
    for name in ("release-1", "release-2"):
        (tmp_path / name).mkdir()
        project.write("a: {state: running}", name=f"{name}/jobs.yaml")
    link = tmp_path / "current"
    link.symlink_to("release-1")
    opened = LazyEngine.open

    def switch_and_open(engine: LazyEngine) -> Engine:
        if os.readlink(link) == "release-1":
            link.unlink()
            link.symlink_to("release-2")
        return opened(engine)

    monkeypatch.setattr(LazyEngine, "open", switch_and_open)
    workspace = Workspace(Place((str(link / "jobs.yaml"),)), World(project.env, threading.Event()))
    interaction = Interaction(confirm=lambda plan: None, watch=lambda plan, ended: None)
    done = apply(workspace, Selection(), ApplyOptions(), interaction)
    assert done.exit_code == 0
    made = sorted(path.name for path in (tmp_path / "release-1").iterdir())
    assert made == ["jobs.history.jsonl", "jobs.sandbox.db", "jobs.state.json", "jobs.yaml"]
    assert [path.name for path in (tmp_path / "release-2").iterdir()] == ["jobs.yaml"]


# --- lock and journal are taken away -----------------------------------------------------------------------------


def clean(project: Project) -> None:
    """What `git clean -ffdx` takes: the state is tracked, the lock and the journal are not."""
    for name in ("jobs.state.json.lock", "jobs.state.json.journal"):
        (project.folder / name).unlink(missing_ok=True)


@pytest.mark.parametrize("taken", ["both", "lock", "journal"])
def test_without_its_lock_or_journal_an_apply_sends_nothing_more_and_what_was_done_is_in_the_state(
    project: Project, taken: str
) -> None:
    project.write(SIX)
    child = begun(project)
    for name in ("lock", "journal"):
        if taken in ("both", name):
            (project.folder / f"jobs.state.json.{name}").unlink()
    run = end_of(child)
    sent = done(project)
    assert run.code == 3, run
    assert "was removed or replaced while this command was at work" in run.out + run.err
    assert 1 <= len(sent) <= 3
    assert project.run("apply", "--yes").code == 0
    assert sorted(done(project)) == RUNS
    assert sorted(path.name for path in project.folder.glob("jobs.*")) == [
        "jobs.history.jsonl",
        "jobs.state.json",
        "jobs.yaml",
    ]


def test_a_second_apply_that_started_meanwhile_is_not_damaged_and_both_are_on_record(project: Project) -> None:
    project.write("z: {state: running}")
    assert project.run("apply", "--yes").code == 0
    project.write("z: {state: running}\n" + SIX)
    first = begun_after(project, 2)
    os.kill(first.pid, 19)  # SIGSTOP: as a machine that is slow
    clean(project)
    project.write("z: {state: running}\n" + "\n".join(f"{name}: {{state: running}}" for name in "qrstu"))
    second = project.start("apply", "--yes", "--parallelism", "1")
    until(lambda: any(job in "qrstu" for _, job in done(project)))
    os.kill(first.pid, 18)
    stopped = end_of(first)
    assert stopped.code == 3, stopped
    assert "is kept in jobs.state.json.journal.kept" in stopped.out + stopped.err
    finished = end_of(second)
    assert finished.code == 0, finished
    assert set(project.state["jobs"]) == {"z", *"qrstu"}
    ran = {job for _, job in done(project)}
    for command in (["plan"], ["apply", "--yes"], ["state", "forget", "z"]):
        refused = project.run(*command)
        assert (refused.code, "jobs.state.json.journal.kept" in refused.err) == (1, True), refused
    assert project.run("state", "accept").code == 0
    assert set(project.state["jobs"]) == ran
    assert not list(project.folder.glob("*.kept*"))
    project.write("z: {state: running}\n" + SIX + "\n" + "\n".join(f"{name}: {{state: running}}" for name in "qrstu"))
    assert project.run("apply", "--yes").code == 0
    assert sorted(done(project)) == sorted(("run", name) for name in "abcdefqrstuz")
    assert project.run("history", "--check").code == 0


def test_the_lock_file_of_another_command_is_left_alone(tmp_path: Path) -> None:
    from reconciler.host.lock import locked

    path = tmp_path / "jobs.state.json.lock"
    who = {"who": "ada", "what": "apply", "since": "now"}
    with locked(str(path), who, 0.0, lambda _: True) as first:
        assert first.is_held()
        path.unlink()
        assert not first.is_held()
        second = locked(str(path), who, 0.0, lambda _: True)
        second.__enter__()
    assert path.exists(), "the first took the second's lock file away"
    second.__exit__(None, None, None)
    assert not path.exists()


def test_where_the_whole_folder_is_removed_what_was_done_is_kept_with_the_marks(project: Project) -> None:
    (project.folder / "prod").mkdir()
    project.write("z: {state: running}", name="prod/jobs.yaml")
    assert project.run("apply", "prod/jobs.yaml", "--yes").code == 0
    copy = project.folder / "copy"
    shutil.copytree(project.folder / "prod", copy)
    project.write("z: {state: running}\n" + SIX, name="prod/jobs.yaml")
    child = project.start("apply", "prod/jobs.yaml", "--yes", "--parallelism", "1")
    until(lambda: len(done(project)) >= 2)
    shutil.rmtree(project.folder / "prod")
    run = end_of(child)
    assert run.code == 3, run
    assert "what was done is kept in" in run.out + run.err
    # A clone brings the state back as it was; the next command knows of what is kept.
    copy.rename(project.folder / "prod")
    project.write("z: {state: running}\n" + SIX, name="prod/jobs.yaml")
    assert project.run("plan", "prod/jobs.yaml").code == 1
    assert project.run("state", "accept", "prod/jobs.yaml").code == 0
    assert project.run("apply", "prod/jobs.yaml", "--yes").code == 0
    assert sorted(done(project)) == sorted([("run", "z"), *RUNS])


def test_to_look_before_each_call_costs_next_to_nothing(tmp_path: Path) -> None:
    from in_process import TARGET, store_in
    from reconciler.model.jobs import Doubt, Verb

    with store_in(tmp_path).open(TARGET, "apply", 0) as session:
        doubt = Doubt("op", Verb.RUN, {}, None, None, "now", "")
        session.intend("a", "a", doubt)
        started_s = time.perf_counter()
        for _ in range(1000):
            assert session.assure()
        took_s = time.perf_counter() - started_s
        session.conclude("op", "a", Record("a", Desired.RUNNING), "ok")
    assert took_s < 0.25, f"{took_s * 1000:.0f} µs a call"


def test_only_one_thread_looks_at_a_time_while_checkpoints_replace_the_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A checkpoint replaces state and journal: no other thread takes that for someone else's doing."""
    from in_process import TARGET, store_in
    from reconciler.model.jobs import Doubt, Verb
    from reconciler.state import writer

    monkeypatch.setattr(writer, "CHECKPOINT_BYTES", 2000)
    faults: list[BaseException] = []
    with store_in(tmp_path).open(TARGET, "apply", 0) as session:

        def work(number: int) -> None:
            try:
                for step in range(20):
                    op, name = f"{number}.{step}", f"job-{number}"
                    session.intend(name, name, Doubt(op, Verb.RUN, {}, None, None, "now", ""))
                    assert session.assure()
                    session.conclude(op, name, Record(name, Desired.RUNNING, {}, frozenset({op})), "ok")
            except BaseException as fault:  # noqa: BLE001  told below
                faults.append(fault)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert faults == []
