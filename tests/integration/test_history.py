"""Who did what, and on whose word: what the history tells, that it tells it once, and that it shows what is missing."""

import json
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jsonschema
import pytest

from clone import Clone, served_clone
from project import TOKEN, Project
from reconciler.engines.sandbox.life import ledger
from reconciler.host.ci import ci_identity
from reconciler.host.disk import File, OsDisk, OsFile
from reconciler.manifest.schema import schema_text
from reconciler.model.history import Details, Origin
from reconciler.model.jobs import Desired, Doubt, Record, Target, Verb
from reconciler.state import history
from reconciler.state.file_lock import FileContext
from reconciler.state.file_store import FileStore
from reconciler.state.journal import JournalBroken

TARGET = Target("bytenite", "https://api.example/v1/customer")
RUNNING = Record("id-a", Desired.RUNNING)
GITHUB = {"GITHUB_ACTIONS": "true", "GITHUB_ACTOR": "grace", "GITHUB_RUN_ID": "7", "GITHUB_RUN_ATTEMPT": "2"}


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Clone]:
    with served_clone(tmp_path) as clone:
        yield clone


def lines(project: Clone) -> list[str]:
    return (project.folder / "jobs.history.jsonl").read_text().splitlines()


def check(project: Clone) -> tuple[int, str]:
    run = project.run("history", "--check")
    return run.code, run.out


# --- what it tells -----------------------------------------------------------------------------------------------


def test_a_call_is_told_with_who_why_from_which_commit_and_plan_and_what_the_service_said(served: Clone) -> None:
    served.write("a: {id: job-1, state: running}")
    here = served.commit()
    assert served.run("plan", "--out", "plan.json").code == 0
    shown = served.run("plan", "--format", "markdown").out
    assert served.run("apply", "--plan", "plan.json", "--yes", **GITHUB).code == 0
    [entry] = served.history()
    took_s, request, op, lineage = (entry.pop(name) for name in ("seconds", "requestId", "op", "lineage"))
    assert (took_s >= 0, len(request), bool(op)) == (True, 36, True)
    assert lineage == served.state["lineage"]
    assert entry.pop("at").startswith("20")
    assert entry.pop("plan") in shown
    assert entry == {
        "job": "a",
        "id": "job-1",
        "verb": "run",
        "outcome": "succeeded",
        "status": 200,
        "reason": "first run; the job is draft (JOB_STATE_NEW)",
        "answer": "the sandbox had never heard of this job and created it as a draft; run (simulated)",
        "who": "grace, GitHub Actions run 7 attempt 2",
        "command": "apply",
        "commit": here,
        "allowed": "",
        "serial": 1,
        "run": 1,
        "runId": "job-1-1",
        "end": "",
        "config": {},
        "runToken": None,
    }


@pytest.mark.parametrize(
    ("env", "who"),
    [
        (GITHUB, "grace, GitHub Actions run 7 attempt 2"),
        ({**GITHUB, "GITHUB_TRIGGERING_ACTOR": "alan"}, "alan, GitHub Actions run 7 attempt 2"),
        ({"GITLAB_CI": "true", "GITLAB_USER_LOGIN": "grace", "CI_JOB_ID": "5", "CI_PIPELINE_ID": "4"},
         "grace, GitLab job 5 pipeline 4"),
        ({"CI": "true", "BUILDKITE": "true", "BUILDKITE_BUILD_NUMBER": "9"}, "Buildkite build 9"),
        ({"CI": "1", "BUILD_NUMBER": "12"}, "CI build 12"),
        ({"CI": "true"}, ""),
        ({"GITHUB_ACTIONS": "false", "GITHUB_ACTOR": "grace"}, ""),
        ({}, ""),
    ],
)  # fmt: skip
def test_who_runs_a_pipeline_is_read_from_its_environment(env: dict[str, str], who: str) -> None:
    assert ci_identity(env) == who


def test_outside_of_ci_it_is_the_git_user_and_without_one_the_user_of_the_machine(served: Clone) -> None:
    served.apply("a: {state: running}")
    served.git("config", "--unset", "user.email")
    served.git("config", "--unset", "user.name")
    served.apply("a: {state: aborted}")
    first, second = served.history()
    assert first["who"] == "Ada <ada@example.org>"
    assert second["who"] == f"ada@{os.uname().nodename}"
    assert second["commit"] is None


def test_the_author_that_the_environment_names_comes_before_the_configuration_of_git(served: Clone) -> None:
    served.env["GIT_AUTHOR_NAME"] = "Grace"
    served.apply("a: {state: running}")
    served.env["GIT_AUTHOR_EMAIL"] = "grace@example.org"
    served.apply("a: {state: aborted}")
    assert [line["who"] for line in served.history()] == ["Grace <ada@example.org>", "Grace <grace@example.org>"]


def test_the_newest_stands_first_and_columns_are_aligned(served: Clone) -> None:
    served.apply("a: {state: running}")
    served.apply("a: {state: running, runToken: again}")
    head, *rows = served.run("history").out.splitlines()
    assert [row[head.index("ACTION") :].split()[:3] for row in rows] == [
        ["run", "succeeded", "200"],
        ["abort", "succeeded", "200"],
        ["run", "succeeded", "200"],
    ]
    assert rows[0].endswith(f"run (simulated); request {served.history()[-1]['requestId']}")
    assert 'new runToken "again"' in rows[0]


def test_an_apply_with_nothing_to_do_leaves_every_byte(served: Clone) -> None:
    served.apply("a: {state: running}")
    before = served.files
    assert served.apply("a: {state: running}").code == 0
    assert served.files == before


def test_a_call_that_is_rejected_is_told_though_the_state_stays_as_it_was(tmp_path: Path) -> None:
    with served_clone(tmp_path, "run:403") as project:
        project.write("a: {state: running}")
        assert project.run("apply", "--yes").code == 3
        assert project.run("apply", "--yes").code == 3
        assert [(e["verb"], e["outcome"], e["status"], e["serial"]) for e in project.history()] == [
            ("run", "failed", 403, 0),
            ("run", "failed", 403, 0),
        ]
        assert not (project.folder / "jobs.state.json").exists()
        assert check(project) == (0, "The history is whole: 2 entries.\n")


def test_records_that_change_without_a_call_are_told_as_what_they_are(served: Clone) -> None:
    served.apply("a: {state: running}\nb: {state: running}")
    (served.folder / "jobs.state.json").unlink()
    served.write("a: {state: running}\nb: {state: running}")
    assert served.run("apply", "--yes", "--state", "jobs.state.json").code == 0
    served.apply("z: {id: a, state: running}\nb: {state: running}")
    assert served.run("state", "forget", "b").code == 0
    served.write("z: {id: a, state: running}")
    assert served.run("import", "c=b").code == 0
    outcomes = served.outcomes()
    assert sorted(outcomes[:2]) == [("a", "run", "succeeded"), ("b", "run", "succeeded")]
    assert sorted(outcomes[2:4]) == [("a", "adopt", "succeeded"), ("b", "adopt", "succeeded")]
    assert outcomes[4] == ("z", "rename", "succeeded")
    assert ("b", "forget", "succeeded") in outcomes
    assert outcomes[-1] == ("c", "import", "succeeded")
    assert [entry["command"] for entry in served.history()][-2:] == ["state forget", "import"]
    assert check(served)[0] == 0


def test_a_job_is_followed_through_its_names_and_found_by_its_id(served: Clone) -> None:
    served.apply("a: {id: job-1, state: running}\nb: {state: running}")
    served.apply("z: {id: job-1, state: aborted}\nb: {state: running}")
    own = [("a", "run", "succeeded"), ("z", "rename", "succeeded"), ("z", "abort", "succeeded")]
    assert served.outcomes("z") == served.outcomes("a") == served.outcomes("job-1") == own
    assert served.outcomes("z", "jobs.yaml") == own
    assert len(served.outcomes("jobs.yaml")) == 4
    nobody = served.run("history", "nobody")
    assert (nobody.code, "has no entry for nobody" in nobody.err) == (1, True)


def test_a_call_in_doubt_and_what_settled_it_are_told_apart(tmp_path: Path) -> None:
    with served_clone(tmp_path, "run:503:after:times=1", "read:404", "list:404") as project:
        assert project.apply("a: {state: running}").code == 5
        assert project.run("resolve", "a", "--applied", "--reason", "seen in the console", **GITHUB).code == 0
        call, settled = project.history()
        assert (call["outcome"], call["status"], call["who"]) == ("in-doubt", 503, "Ada <ada@example.org>")
        assert (settled["outcome"], settled["verb"], settled["command"]) == ("applied", "run", "resolve")
        assert (settled["who"], settled["reason"]) == ("grace, GitHub Actions run 7 attempt 2", "seen in the console")
        assert settled["op"] == call["op"]
        assert check(project) == (0, "The history is whole: 2 entries.\n")


def test_a_doubt_that_is_settled_by_looking_says_so(tmp_path: Path) -> None:
    with served_clone(tmp_path, "run:503:times=1") as project:
        assert project.apply("a: {state: running}").code == 5
        assert project.apply("a: {state: running}").code == 0
        assert [(e["outcome"], e["reason"]) for e in project.history()] == [
            ("in-doubt", "first run; the job is draft (JOB_STATE_NEW)"),
            ("not-applied", "observed: two checks, some time apart, found no trace of it"),
            ("succeeded", "first run; the job is draft (JOB_STATE_NEW)"),
        ]


def test_to_take_a_state_as_it_stands_is_told(served: Clone) -> None:
    served.apply("a: {state: running}")
    path = served.folder / "jobs.state.json"
    path.write_text(path.read_text().replace("running", "aborted"))
    assert served.run("state", "accept").code == 0
    entry = served.history()[-1]
    assert (entry["verb"], entry["command"], entry["serial"]) == ("accept", "state accept", 2)
    assert "edited or merged by hand" in entry["reason"]
    assert check(served)[0] == 0


def test_the_page_of_a_plan_shows_what_was_done_to_each_job(served: Clone) -> None:
    served.apply("a: {state: running}", **GITHUB)
    served.apply("z: {id: a, state: aborted}")
    page = served.run("plan", "--format", "html").out
    listed = page.partition('<ol class="times">')[2].partition("</ol>")[0]
    assert [part.split("</b>")[0] for part in listed.split("<b>")[1:]] == ["run", "rename", "abort"]
    assert "by grace, GitHub Actions run 7 attempt 2" in listed


def test_a_page_is_made_where_the_history_cannot_be_read(served: Clone) -> None:
    served.apply("a: {state: running}")
    path = served.folder / "jobs.history.jsonl"
    path.unlink()
    path.mkdir()
    assert served.run("plan", "--format", "html").code == 0
    assert "is a folder" in served.run("history").err


# --- told once ---------------------------------------------------------------------------------------------------


def around(tmp_path: Path, disk: OsDisk) -> FileContext:
    numbers = iter(range(1_000_000))
    return FileContext(
        disk=disk,
        marks_folder=str(tmp_path / "marks"),
        who="ada@host (process 1)",
        now=lambda: "2026-11-21T10:00:00Z",
        new_lineage=lambda: f"{id(disk)}.{next(numbers)}",
        wait=lambda seconds: False,
        origin=lambda command: Origin("ada", "8f3c", command=command),
    )


def store(tmp_path: Path, disk: OsDisk | None = None) -> FileStore:
    return FileStore(str(tmp_path / "jobs.state.json"), around(tmp_path, disk or OsDisk()))


def doubt(op: str) -> Doubt:
    return Doubt(op, Verb.RUN, {}, None, None, "2026-11-21T10:00:00Z", "")


class FullDisk(OsDisk):
    """A disk that has no room for a history."""

    def create(self, path: str, mode: int) -> File:  # type: ignore[override]
        if ".history.jsonl" in path:
            raise OSError(28, "No space left on device")
        return super().create(path, mode)


def test_a_history_without_room_loses_neither_the_state_nor_a_line(tmp_path: Path) -> None:
    with (
        pytest.raises(JournalBroken, match=r"jobs\.history\.jsonl could not be written: No space left on device"),
        store(tmp_path, FullDisk()).open(TARGET, "apply", 0) as session,
    ):
        session.intend("a", "id-a", doubt("op-1"), "first run")
        session.conclude("op-1", "a", RUNNING, "HTTP 200", Details("succeeded", 200, "r-1", 0.5))
    assert (tmp_path / "jobs.state.json.journal").exists()
    found = store(tmp_path).read_history()
    assert [(e.op, e.outcome, e.serial) for e in found.entries] == [("op-1", "succeeded", 1)]
    with store(tmp_path).open(TARGET, "apply", 0) as session:
        assert session.state.jobs == {"a": RUNNING}
    stored = store(tmp_path).read_history()
    assert [(e.op, e.status, e.request_id, e.seconds, e.commit) for e in stored.entries] == [
        ("op-1", 200, "r-1", 0.5, "8f3c")
    ]
    assert (stored.unwritten, history.faults(stored), (tmp_path / "jobs.state.json.journal").exists()) == (
        (),
        [],
        False,
    )


class KilledDisk(OsDisk):
    """A disk of a command that is killed before or after it appends to the history."""

    def __init__(self, is_appended: bool) -> None:
        super().__init__()
        self._is_appended = is_appended

    def create(self, path: str, mode: int) -> OsFile:
        if path.endswith(".history.jsonl.tmp") and not self._is_appended:
            raise KeyboardInterrupt
        return super().create(path, mode)

    def remove(self, path: str) -> None:
        if path.endswith(".journal"):
            raise KeyboardInterrupt
        super().remove(path)


@pytest.mark.parametrize("is_appended", [False, True])
def test_a_crash_before_the_journal_is_cut_neither_loses_a_line_nor_writes_it_twice(
    tmp_path: Path, is_appended: bool
) -> None:
    with pytest.raises(KeyboardInterrupt), store(tmp_path, KilledDisk(is_appended)).open(TARGET, "apply", 0) as session:
        session.intend("a", "id-a", doubt("op-1"))
        session.conclude("op-1", "a", RUNNING, "HTTP 200", Details())
        session.intend("b", "id-b", doubt("op-2"))
    for _ in range(2):
        with store(tmp_path).open(TARGET, "apply", 0):
            pass
    stored = store(tmp_path).read_history()
    assert [(e.op, e.outcome) for e in stored.entries] == [("op-1", "succeeded"), ("op-2", "in-doubt")]
    assert history.faults(stored) == []


def test_a_call_without_a_result_as_its_command_ends_is_told_as_in_doubt(tmp_path: Path) -> None:
    with store(tmp_path).open(TARGET, "apply", 0) as session:
        session.intend("a", "id-a", doubt("op-1"), "first run")
    stored = store(tmp_path).read_history()
    assert [(e.op, e.outcome, e.reason, e.serial) for e in stored.entries] == [("op-1", "in-doubt", "first run", 1)]
    assert stored.unwritten == ()


def test_who_acts_is_asked_once_however_many_threads_write(tmp_path: Path) -> None:
    asked: list[str] = []

    def origin(command: str) -> Origin:
        asked.append(command)
        time.sleep(0.01)
        return Origin("ada")

    surroundings = around(tmp_path, OsDisk())._replace(origin=origin)
    with (
        FileStore(str(tmp_path / "jobs.state.json"), surroundings).open(TARGET, "import", 0) as session,
        ThreadPoolExecutor(8) as pool,
    ):
        list(pool.map(lambda name: session.put(name, RUNNING._replace(id=f"id-{name}")), "abcdefgh"))
    assert asked == ["import"]


def test_a_call_in_flight_over_a_checkpoint_is_told_once_its_answer_is_there(tmp_path: Path) -> None:
    with store(tmp_path).open(TARGET, "apply", 0) as session:
        session.intend("a", "id-a", doubt("op-1"), "first run")
        session.put("b", Record("id-b", Desired.RUNNING))
        session.checkpoint()
        assert [e.verb for e in store(tmp_path).read_history().entries] == ["adopt", "run"]
        session.conclude("op-1", "a", RUNNING, "HTTP 200", Details())
    entries = store(tmp_path).read_history().entries
    assert [(e.verb, e.outcome, e.reason) for e in entries] == [
        ("adopt", "succeeded", ""),
        ("run", "succeeded", "first run"),
    ]


def test_a_note_on_a_run_has_a_line_only_where_its_write_of_the_state_has_no_other(tmp_path: Path) -> None:
    began = {"a": RUNNING._replace(submitted_at="2026-11-21")}
    with store(tmp_path).open(TARGET, "apply", 0) as session:
        session.intend("a", "id-a", doubt("op-1"))
        session.conclude("op-1", "a", RUNNING, "HTTP 200", Details())
        session.put_all(began, "note")
    assert [e.verb for e in store(tmp_path).read_history().entries] == ["run"]
    with store(tmp_path).open(TARGET, "apply", 0) as session:
        session.put_all({"a": RUNNING}, "note")
    stored = store(tmp_path).read_history()
    assert [(e.verb, e.serial) for e in stored.entries] == [("run", 1), ("note", 2)]
    assert history.faults(stored) == []


@pytest.mark.parametrize("kind", ["link", "folder"])
def test_a_history_that_cannot_be_read_ends_an_apply_before_its_first_call(served: Clone, kind: str) -> None:
    path = served.folder / "jobs.history.jsonl"
    if kind == "link":
        path.symlink_to(served.folder / "elsewhere")
    else:
        path.mkdir()
    served.write("a: {state: running}")
    run = served.run("apply", "--yes")
    assert run.code == 3
    assert ("symbolic link" if kind == "link" else "is a folder") in run.out
    assert ledger(served.folder.parent / "server.db") == []


def test_marks_of_a_conflict_stop_no_apply_and_are_told_by_the_check(served: Clone) -> None:
    served.apply("a: {state: running}")
    path = served.folder / "jobs.history.jsonl"
    path.write_text("<<<<<<< HEAD\n" + path.read_text() + "=======\n>>>>>>> other\n")
    assert served.apply("a: {state: aborted}").code == 0
    assert served.outcomes() == [("a", "run", "succeeded"), ("a", "abort", "succeeded")]
    assert check(served) == (
        1,
        "".join(f"fault: line {number}: a mark of a git merge conflict\n" for number in (1, 3, 4)),
    )


# --- what is missing shows ---------------------------------------------------------------------------------------


def merged(project: Clone) -> None:
    """Two branches, an apply on each, merged; then one more apply."""
    project.apply("a: {state: running}")
    project.commit()
    project.git("checkout", "-qb", "other")
    project.apply("a: {state: running}\nb: {state: running}")
    project.commit()
    project.git("checkout", "-q", "main")
    project.env["XDG_STATE_HOME"] = str(project.folder.parent / "another machine")
    project.apply("a: {state: running}\nc: {state: running}")
    project.commit()
    project.git("merge", "-q", "-X", "ours", "other")
    project.write("a: {state: running}\nb: {state: running}\nc: {state: running}")
    project.git("checkout", "HEAD~1", "--", "jobs.state.json")
    # The run of the other branch is in the history, and not in the state of this one.
    assert project.run("apply", "--yes").code == 4
    assert project.run("state", "accept").code == 0
    assert project.run("apply", "--yes").code == 0


def test_two_branches_are_merged_by_git_without_a_conflict_and_every_deed_is_there(served: Clone) -> None:
    merged(served)
    assert sorted(served.outcomes()) == [
        ("", "accept", "succeeded"),
        ("a", "run", "succeeded"),
        ("b", "run", "succeeded"),
        ("c", "run", "succeeded"),
    ]
    assert check(served) == (0, "The history is whole: 4 entries.\n")
    assert [served.state["jobs"][name]["run"] for name in "abc"] == [1, 1, 1]


def test_the_line_after_a_merge_follows_both_branches_so_a_loss_from_either_shows(served: Clone) -> None:
    merged(served)
    path = served.folder / "jobs.history.jsonl"
    whole = lines(served)
    for gone in range(len(whole)):
        path.write_text("".join(f"{line}\n" for number, line in enumerate(whole) if number != gone))
        code, out = check(served)
        assert code == 1, gone
        assert "changed or removed" in out or "the history ends with serial" in out
    path.write_text("".join(f"{line}\n" for line in reversed(whole)))
    assert check(served)[0] == 0, "the order of the lines means nothing"


def test_a_changed_line_shows_and_so_does_one_that_was_written_twice(served: Clone) -> None:
    served.apply("a: {state: running}")
    served.apply("a: {state: aborted}")
    path = served.folder / "jobs.history.jsonl"
    first, second = lines(served)
    path.write_text(f"{first.replace('Ada', 'Eve')}\n{second}\n")
    assert check(served) == (1, "fault: line 2: the line before it was changed or removed\n")
    path.write_text(f"{first}\n{second}\n{first}\n")
    assert check(served) == (1, "fault: line 3: it repeats line 1\n")
    assert len(served.history()) == 2
    path.write_text(first.replace('"seconds":', '"seconds":NaN,"x":'))
    assert served.history()[0]["seconds"] is None, "JSON has no such number"
    path.write_text(f"{first}\n{second[:50]}\n")
    assert check(served)[1].splitlines()[0] == "fault: line 2: it can't be read"
    path.write_text(f"{first}\r\n{second}\r\n")
    assert check(served)[0] == 0, "line ends are git's affair"


def test_a_history_that_lost_its_beginning_or_its_end_shows(served: Clone) -> None:
    served.apply("a: {state: running}")
    served.apply("a: {state: aborted}")
    path = served.folder / "jobs.history.jsonl"
    path.write_text(f"{lines(served)[0]}\n")
    assert check(served) == (1, "fault: the state is at serial 2, and the history ends with serial 1\n")
    path.unlink()
    assert check(served) == (1, "fault: the state is at serial 2, and the history has nothing of it\n")
    served.apply("a: {state: absent}")
    assert check(served) == (1, "fault: line 1: no line comes before it, and the state was at serial 2 before\n")


def test_no_history_is_no_fault_where_nothing_was_ever_applied(served: Clone) -> None:
    served.write("a: {state: running}")
    assert check(served) == (0, "The history is whole: 0 entries.\n")
    assert served.run("history").out == "The history is empty.\n"


def test_what_a_killed_command_left_is_told_at_once_and_stays(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), store(tmp_path).open(TARGET, "apply", 0) as session:
        session.intend("a", "id-a", doubt("op-1"))
        session.close = lambda: None  # type: ignore[method-assign]
        raise KeyboardInterrupt
    stored = store(tmp_path).read_history()
    assert [(e.op, e.outcome) for e in stored.entries] == [("op-1", "in-doubt")]
    assert stored.content == b""


def test_what_the_check_finds_has_a_schema(served: Clone) -> None:
    served.apply("a: {state: running}")
    schema = json.loads(schema_text("history-check.schema.json"))
    whole = served.run("history", "--check", "--format", "json")
    jsonschema.validate(whole.json, schema)
    assert (whole.code, whole.json["entries"], whole.json["faults"]) == (0, 1, [])
    with (served.folder / "jobs.history.jsonl").open("a") as file:
        file.write("<<<<<<< ours\n")
    damaged = served.run("history", "--check", "--format", "json")
    jsonschema.validate(damaged.json, schema)
    assert (damaged.code, damaged.json["faults"]) == (1, ["line 2: a mark of a git merge conflict"])


def test_the_check_says_where_git_would_not_merge_by_lines(served: Clone) -> None:
    served.apply("a: {state: running}")
    assert served.run("history", "--check").err == ""
    (served.folder / ".gitattributes").unlink()
    run = served.run("history", "--check")
    assert (run.code, "add `*.history.jsonl merge=union` to .gitattributes" in run.err) == (0, True)


def test_init_tells_git_what_to_merge_and_to_ignore_and_leaves_a_file_that_is_there(served: Clone) -> None:
    (served.folder / ".gitattributes").unlink()
    (served.folder / ".gitignore").unlink(missing_ok=True)
    assert served.run("init", "one.yaml").err == ""
    attribute = served.git("check-attr", "merge", "--", "one.history.jsonl")
    assert attribute == "one.history.jsonl: merge: union"
    own = ("one.state.json.lock", "one.state.json.journal", "one.sandbox.db", "one.sandbox.db-wal")
    assert served.git("check-ignore", *own).splitlines() == list(own)
    assert served.run("init", "two.yaml").err == ""
    (served.folder / ".gitattributes").write_text("* text=auto\n")
    (served.folder / ".gitignore").write_text("*.sandbox.db*\n*.state.json.lock\n")
    advice = served.run("init", "three.yaml").err.splitlines()
    assert advice[0].startswith(".gitattributes is there already: let it have *.history.jsonl merge=union")
    missing = "*.state.json.journal, sandbox.db*, plan.json, rehearsal.*"
    assert advice[1:] == [f".gitignore is there already: let it have {missing}"]
    assert (served.folder / ".gitattributes").read_text() == "* text=auto\n"


def test_a_line_is_json_with_sorted_keys_and_holds_no_token(served: Clone) -> None:
    served.apply("a: {state: running}\nb: {state: aborted}")
    for line in lines(served):
        document = json.loads(line)
        assert list(document) == sorted(document)
        assert TOKEN not in line


def test_a_name_whose_job_has_another_id_now_leads_to_the_entries_of_the_job_before(tmp_path: Path) -> None:
    project = Project(tmp_path)
    project.write("a: {state: running}")
    assert project.run("apply", "--yes").code == 0
    project.write("a: {state: running, id: other}")
    assert project.run("apply", "--yes").code == 0
    said = project.run("history", "a")
    assert "other jobs had that name before: reconciler history 'a (id a)'" in said.err, said
    before = project.run("history", "a (id a)")
    assert (before.code, "other" in before.out) == (0, False), before
