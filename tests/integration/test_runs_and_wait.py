"""`runs`, `wait` and what `status` tells of executions: on this machine, and on an engine without ids of runs."""

import fcntl
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from local_project import LocalProject, local_project
from local_runs import kill, run_folder
from local_service import supervisor_of
from project import Project, Run
from reconciler.engines.sandbox.cluster import ATOMIC
from reconciler.manifest.schema import schema_text
from reconciler.model.history import HistoryEntry
from reconciler.model.jobs import Status
from reconciler.usecases.runs import RunEntries
from waits import until
from ways_out import PersonsProject, persons_project


@pytest.fixture
def project(tmp_path: Path) -> Iterator[LocalProject]:
    with local_project(tmp_path) as made:
        yield made


def document(run: Run, name: str) -> Any:
    """The JSON that a command has printed, which fits its schema."""
    found = json.loads(run.out)
    jsonschema.validate(found, json.loads(schema_text(f"{name}.schema.json")))
    return found


def script(text: str) -> str:
    return f"config: {{script: {json.dumps(text)}}}"


def job(name: str, text: str, *fields: str) -> str:
    return f"{name}: {{{', '.join(('state: running', script(text), *fields))}}}"


# --- wait --------------------------------------------------------------------------------------------------------


def test_wait_ends_with_the_last_run_and_records_how_all_ended(project: LocalProject) -> None:
    project.write("\n".join((job("a", "sleep 0.5"), job("b", "exit 3"), job("c", "true", "after: [a]"))))
    assert project.run("apply", "--yes").code == 0
    waited = project.run("wait")
    assert waited.code == 3, waited
    assert waited.err in ("", "b: failed; 1 more to wait for\n")
    head, a, b, counts = waited.out.splitlines()
    assert head.split() == ["JOB", "RUN", "STATUS", "TOOK"]
    assert a.split()[:3] == ["a", "a-1", "complete"]
    assert b.split()[:3] + b.split()[-3:] == ["b", "b-1", "failed", "exit", "code", "3"]
    assert counts == "Waited: 1 complete, 1 not complete."
    recorded = {name: project.run("state", "show", name, "--format", "json").json.get("end") for name in "ab"}
    assert recorded == {"a": "complete", "b": "failed"}
    assert project.run("wait", "a").code == 0
    assert project.run("apply", "--yes").code in (0, 4)
    assert project.run("wait", "c").code == 0


def test_wait_can_be_limited_and_says_what_goes_on(project: LocalProject) -> None:
    project.write(job("a", "sleep 1000"))
    assert project.run("apply", "--yes").code == 0
    began_s = time.monotonic()
    waited = project.run("wait", "--timeout", "0.5", "--format", "json")
    assert time.monotonic() - began_s >= 0.5
    assert waited.code == 2
    (row,) = document(waited, "wait")["jobs"]
    assert (row["job"], row["over"], row["complete"], row["runId"]) == ("a", False, False, "a-1")
    assert "still under way" in project.run("wait", "a", "--timeout", "0").out


def test_there_is_nothing_to_wait_for(project: LocalProject) -> None:
    project.write("a: {state: aborted}\n" + job("b", "true"))
    assert project.run("wait") == Run(0, "Nothing to wait for: no job is recorded as running.\n", "")
    assert project.run("apply", "--yes", "--target", "a").code == 0
    aborted = project.run("wait", "a")
    assert (aborted.code, "a is recorded as aborted" in aborted.err) == (1, True), aborted
    assert project.run("wait", "b").code == 1
    assert project.run("wait", "nothing").code == 1


def test_a_run_that_is_killed_by_hand_ends_the_wait(project: LocalProject) -> None:
    project.write(job("a", "exec sleep 1000"))
    assert project.run("apply", "--yes").code == 0
    until((run_folder(project.folder, "a-1") / "started.json").exists)
    with project.start("wait", "a") as waiting:
        time.sleep(0.3)
        kill(project.folder, supervisor_of(run_folder(project.folder, "a-1")))
        assert waiting.wait(timeout=60) == 3
    assert project.run("state", "show", "a", "--format", "json").json["end"] == "failed"


def test_wait_records_nothing_while_another_command_holds_the_state(project: LocalProject) -> None:
    project.write(job("a", "sleep 0.2"))
    assert project.run("apply", "--yes").code == 0
    with (project.folder / "jobs.state.json.lock").open("a+b") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        waited = project.run("wait", "a")
    assert waited.code == 0, waited
    assert "not recorded yet" in waited.err
    assert "end" not in project.run("state", "show", "a", "--format", "json").json


@pytest.fixture
def forgetful(tmp_path: Path) -> Iterator[PersonsProject]:
    """On a cluster that forgets a run soon after its end."""
    with persons_project(tmp_path, ATOMIC._replace(keeps_ended_s=0.1)) as made:
        yield made


def test_wait_names_the_run_that_was_forgotten_and_the_way_out(forgetful: PersonsProject) -> None:
    forgetful.begin("a: {state: running}")
    forgetful.cluster.end("a")
    until(lambda: "forgotten" in forgetful.run("status").out)
    waited = forgetful.run("wait", "a")
    _, row, counts = waited.out.splitlines()
    assert (waited.code, row.split()[:3], counts) == (3, ["a", "a-1", "forgotten"], "Waited: 1 not complete.")
    way_out = "say how the run ended: `reconciler resolve a --ended complete`, or the same with `--ended failed`"
    assert way_out in row
    (found,) = document(forgetful.run("wait", "--format", "json"), "wait")["jobs"]
    assert (found["runId"], found["wayOut"].startswith(way_out), found["detail"]) == ("a-1", True, "")
    forgetful.follow(["resolve", "a", "--ended", "complete"])
    waited = forgetful.run("wait", "a")
    assert (waited.code, waited.out.splitlines()[1].split()) == (0, ["a", "a-1", "forgotten,", "complete"]), waited


def test_wait_names_the_run_that_was_taken_away_and_the_way_out(tmp_path: Path) -> None:
    with persons_project(tmp_path) as project:
        project.begin("a: {state: running}")
        project.cluster.end("a")
        project.cluster.forget("a")
        waited = project.run("wait")
        assert (waited.code, waited.out.splitlines()[1].split()[:4]) == (3, ["a", "a-1", "taken", "away"]), waited
        assert "if the run had ended, say how: `reconciler resolve a --ended complete`" in waited.out


# --- runs and status ---------------------------------------------------------------------------------------------


def test_each_run_is_shown_with_its_reason_and_its_end(project: LocalProject) -> None:
    project.write(job("a", "echo 1; exit 3"))
    assert project.run("apply", "--yes").code == 0
    assert project.run("wait").code == 3
    project.write(job("a", "echo 2; exec sleep 1000"))
    assert project.run("apply", "--yes").code == 0
    until(lambda: project.run("status", "--format", "json").json["jobs"][0]["observedWord"] == "running")
    found = document(project.run("runs", "a", "--format", "json"), "runs")
    assert (found["job"], found["more"]) == ("a", 0)
    second, first = found["runs"]
    assert (second["runId"], second["status"], first["runId"], first["status"]) == ("a-2", "active", "a-1", "failed")
    assert (first["execution"]["exitCode"], first["detail"]) == (3, "exit code 3")
    assert first["asked"]["reason"].startswith("first run")
    assert "config.script" in second["asked"]["reason"]
    assert second["execution"]["node"] == os.uname().nodename
    lines = project.run("runs", "a").out.splitlines()
    assert lines[0].startswith("RUN  ASKED")
    assert [line.split()[0] for line in lines[1:]] == ["a-2", "a-1"]
    assert "exit code 3; first run" in lines[2]
    only = project.run("runs", "a", "--last", "1")
    assert only.out.splitlines()[-1] == "(1 older run; --last shows more)"


def test_an_entry_of_the_history_has_one_schema() -> None:
    of_runs, of_history = (json.loads(schema_text(f"{name}.schema.json"))["$defs"] for name in ("runs", "history"))
    assert {name: of_runs[name] for name in of_history} == of_history


@pytest.mark.parametrize(
    ("name", "row", "field"), [("wait", "job", "observed"), ("status", "job", "observed"), ("runs", "run", "status")]
)
def test_a_schema_knows_each_status(name: str, row: str, field: str) -> None:
    rows = json.loads(schema_text(f"{name}.schema.json"))["$defs"][row]
    assert set(rows["properties"][field]["enum"]) == set(Status)


def test_a_number_that_is_used_again_belongs_to_the_later_call() -> None:
    def entry(outcome: str, reason: str) -> HistoryEntry:
        return HistoryEntry("2026-11-21T10:00:00Z", "ada", None, "run", outcome, run=1, reason=reason)

    lost, settled, sent = entry("in-doubt", "first"), entry("not-applied", "resolved"), entry("succeeded", "second")
    assert RunEntries([lost]).asked == {1: lost}
    assert RunEntries([lost, settled]).asked == {}
    assert RunEntries([lost, settled, sent]).asked == {1: sent}
    assert RunEntries([lost, entry("applied", "observed"), entry("failed", "later")]).asked == {1: lost}


def test_a_run_that_was_deleted_is_still_known_by_its_end(project: LocalProject) -> None:
    project.write(job("a", "exit 3"))
    assert project.run("apply", "--yes").code == 0
    assert project.run("wait").code == 3
    project.write(f"a: {{state: absent, {script('exit 3')}}}")
    assert project.run("apply", "--yes").code == 0
    (only,) = document(project.run("runs", "a", "--format", "json"), "runs")["runs"]
    assert (only["runId"], only["status"]) == ("a-1", "failed")


def test_status_says_where_a_run_is_and_since_when(project: LocalProject) -> None:
    project.write("\n".join((job("a", "exec sleep 1000"), job("b", "exit 3"))))
    assert project.run("apply", "--yes").code == 0
    assert project.run("wait", "b").code == 3
    until(lambda: project.run("status", "--format", "json").json["jobs"][0]["observedWord"] == "running")
    a, b = document(project.run("status", "--format", "json"), "status")["jobs"]
    assert a["execution"]["pid"] > 1
    assert "pid" not in b["execution"]
    assert b["execution"]["endedAt"] >= b["execution"]["startedAt"]
    head, of_a, of_b = project.run("status").out.splitlines()
    assert head.split() == ["JOB", "DESIRED", "RECORDED", "OBSERVED", "LAST", "RUN", "SINCE", "TOOK", "WHERE"]
    assert of_a.split()[3:7] == ["active", "(running)", "a-1", f"{a['execution']['startedAt'][:19]}Z"]
    assert of_a.endswith(f"{os.uname().nodename} pid {a['execution']['pid']}")
    assert of_b.endswith("exit code 3")


def test_status_shows_the_last_run_though_only_an_earlier_one_is_left(project: LocalProject) -> None:
    for token in ("1", "2"):
        project.write(f"a: {{state: running, runToken: '{token}', {script('exit 3')}}}")
        assert project.run("apply", "--yes").code == 0
        assert project.run("wait").code == 3
    assert "the observed run" not in project.run("status").out
    run_folder(project.folder, "a-2").rename(project.folder / "elsewhere")
    of_a = project.run("status").out.splitlines()[1]
    assert "a-2, failed" in of_a
    assert "a-1" not in of_a


def test_a_log_is_a_document_too(project: LocalProject) -> None:
    project.write(job("a", "echo out; echo err >&2"))
    assert project.run("apply", "--yes").code == 0
    assert project.run("wait").code == 0
    found = document(project.run("logs", "a", "--format", "json"), "logs")
    assert (found["job"], found["runId"], found["text"]) == ("a", "a-1", "out\nerr\n")
    assert project.run("logs", "a", "--format", "json", "-f").code == 64


def test_an_engine_without_ids_of_runs_shows_what_the_history_has(tmp_path: Path) -> None:
    project = Project(tmp_path)
    project.write("a: {state: running, runToken: '1'}\nb: {state: aborted}")
    assert project.run("apply", "--yes").code == 0
    project.write("a: {state: running, runToken: '2'}\nb: {state: aborted}")
    assert project.run("apply", "--yes").code in (0, 4)
    found = document(project.run("runs", "a", "--format", "json"), "runs")
    assert found["runs"][-1]["runId"] == "a-1"
    assert found["runs"][0]["status"] == "active"
    waited = project.run("wait", "--timeout", "0")
    assert (waited.code, "1 still under way" in waited.out) == (2, True), waited
