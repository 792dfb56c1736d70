"""Names, keys and ids: no record takes the place of another, and a name means what a plan means by it."""

import json
import re
import shlex
from pathlib import Path

import pytest

from in_process import TARGET, store_in
from project import Project, done, served_project
from reconciler.engines.bytenite.plugin import PLUGIN
from reconciler.manifest.faults import job_fault
from reconciler.model.errors import ReconcilerError, StateError
from reconciler.model.jobs import Desired, Job, Record, State, displaced_key, title
from reconciler.rules.matching import match_records, prune
from reconciler.rules.naming import record_named, records_by_name
from reconciler.state import codec

RUNNING = Desired.RUNNING
NO_READS = ("read:404", "list:404")


def job(name: str, job_id: str) -> Job:
    return Job(name, job_id, RUNNING, {})


def ids_of(project: Project) -> dict[str, str]:
    return {name: record["id"] for name, record in project.state["jobs"].items()}


# --- no key of ours is a name ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["deploy", "deploy@web1", "a (id b)", "@", "'x'"])
def test_the_key_of_a_displaced_record_is_no_name_that_a_manifest_permits(name: str) -> None:
    assert not job_fault(name, {"id": "web1", "state": "running"})
    key = displaced_key(name, "web1")
    assert job_fault(key, {"id": "web1", "state": "running"})
    assert title(key) == f"{name} (id web1)"


def test_a_name_that_is_given_a_new_id_displaces_no_job_that_people_named_like_it(tmp_path: Path) -> None:
    with served_project(tmp_path, "run:503:after:times=1:job=q", *NO_READS) as project:
        project.write('deploy: {id: web1, state: running}\n"deploy@web1": {id: q, state: running}')
        assert project.run("apply", "--yes").code == 5
        project.write('deploy: {id: web2, state: running}\n"deploy@web1": {id: q, state: running}')
        assert project.run("apply", "--yes").code == 5
        assert ids_of(project) == {"deploy": "web2", " deploy@web1": "web1", "deploy@web1": "q"}
        assert project.state["jobs"]["deploy@web1"]["inDoubt"]["verb"] == "run"
        assert "left alone: deploy (id web1)\n" in project.run("plan").out
        # Back to the old id: nothing is run again.
        project.write('deploy: {id: web1, state: running}\n"deploy@web1": {id: q, state: running}')
        assert project.run("apply", "--yes").code == 5
        assert ids_of(project) == {"deploy": "web1", " deploy@web2": "web2", "deploy@web1": "q"}
        assert sorted(done(project)) == [("run", "q"), ("run", "web1"), ("run", "web2")]


def test_prune_takes_the_displaced_job_and_no_other(tmp_path: Path) -> None:
    with served_project(tmp_path) as project:
        project.write('deploy: {id: web1, state: running}\n"deploy@web1": {id: q, state: running}')
        assert project.run("apply", "--yes").code == 0
        project.write('deploy: {id: web2, state: running}\n"deploy@web1": {id: q, state: running}')
        assert project.run("apply", "--yes").code == 0
        shown = project.run("plan", "--prune", "--format", "json").json["actions"]
        assert [(one["job"], one["id"]) for one in shown if one["action"] == "delete"] == [(" deploy@web1", "web1")]
        run = project.run("apply", "--yes", "--prune")
        assert (run.code, "deploy (id web1)" in run.out) == (0, True)
        assert ids_of(project) == {"deploy": "web2", "deploy@web1": "q"}
        assert [execution for execution in done(project) if execution[0] != "run"] == [
            ("abort", "web1"),
            ("delete", "web1"),
        ]


def test_a_displaced_record_is_shown_and_forgotten_as_it_is_printed(tmp_path: Path) -> None:
    project = Project(tmp_path)
    project.write("deploy: {id: web1, state: running}")
    assert project.run("apply", "--yes").code == 0
    project.write("deploy: {id: web2, state: running}")
    assert project.run("apply", "--yes").code == 0
    assert "deploy (id web1)  running  web1" in project.run("state", "list").out
    for word in ("deploy (id web1)", " deploy@web1"):
        assert project.run("state", "show", word, "--format", "json").json["id"] == "web1"
    assert project.run("state", "show", "deploy", "--format", "json").json["id"] == "web2"
    assert project.run("state", "forget", "deploy (id web1)").out.startswith("Forgotten: deploy (id web1)")
    assert ids_of(project) == {"deploy": "web2"}


CHAINS = {
    "a chain": {"a": "2", "b": "3", "c": "4"},
    "a swap": {"a": "2", "b": "1", "c": "3"},
    "a circle of three": {"a": "2", "b": "3", "c": "1"},
    "one takes the name of another, which gets a new id": {"a": "2", "b": "9", "c": "3"},
    "a name that looks like a key of ours": {"a": "9", "a@1": "2", "c": "3"},
    "none of them": {"x": "7"},
}


@pytest.mark.parametrize("ids", CHAINS.values(), ids=list(CHAINS))
def test_renames_lose_no_record_whatever_they_come_to_and_whenever_the_power_goes(
    tmp_path: Path, ids: dict[str, str]
) -> None:
    records = {"a": Record("1", RUNNING), "b": Record("2", RUNNING), "c": Record("3", RUNNING)}
    jobs = {name: job(name, job_id) for name, job_id in ids.items()}
    with store_in(tmp_path).open(TARGET, "apply", 0) as session:
        session.put_all(records)
    matching = match_records(jobs, records, PLUGIN.same_config)
    with store_in(tmp_path).open(TARGET, "apply", 0) as session:
        session.move(matching.moves)
        # What a command finds that comes after this one was killed here: the moves as one, or none of them.
        at_kill = store_in(tmp_path).read(TARGET)
    after = store_in(tmp_path).read(TARGET)
    assert after is not None
    assert at_kill == after
    assert sorted(record.id for record in after.jobs.values()) == ["1", "2", "3"]
    again = match_records(jobs, after.jobs, PLUGIN.same_config)
    assert again.moves == {}
    assert {one.job.name: one.record.id for one in again.subjects if one.record} == {
        name: job_id for name, job_id in ids.items() if job_id in ("1", "2", "3")
    }
    ends = {one.job.id for one in prune(again, after.jobs).subjects if not one.keep}
    assert ends == {"1", "2", "3"} - set(ids.values())


def test_a_move_on_top_of_another_record_is_never_written(tmp_path: Path) -> None:
    with store_in(tmp_path).open(TARGET, "apply", 0) as session:
        session.put_all({"a": Record("1", RUNNING), "b": Record("2", RUNNING)})
        with pytest.raises(ValueError, match="on top of another"):
            session.move({"a": "b"})
    state = store_in(tmp_path).read(TARGET)
    assert state is not None
    assert sorted(state.jobs) == ["a", "b"]


def test_state_mv_takes_no_name_that_is_taken_or_that_no_job_can_have(tmp_path: Path) -> None:
    project = Project(tmp_path)
    project.write("a: {id: one, state: running}\nb: {id: two, state: running}")
    assert project.run("apply", "--yes").code == 0
    project.write("a: {id: one, state: running}\nz: {id: two, state: running}")
    for new, message in (
        ("b", "b is recorded already"),
        ("z", "z is recorded already"),
        (" a@one", 'no job can be called " a@one"'),
        ("", 'no job can be called ""'),
    ):
        run = project.run("state", "mv", "a", new)
        assert (run.code, message in run.err) == (1, True), run.err
    assert ids_of(project) == {"a": "one", "b": "two"}
    assert project.run("state", "mv", "a", "c").code == 0
    assert ids_of(project) == {"b": "two", "c": "one"}


# --- a name means what a plan means by it ------------------------------------------------------------------------


def in_doubt(project: Project) -> dict[str, bool]:
    """The engine jobs on record, and whether a call of each is in doubt."""
    return {record["id"]: "inDoubt" in record for record in project.state["jobs"].values()}


def swapped_in_doubt(project: Project) -> None:
    """Two jobs whose first runs are in doubt, and a manifest that has swapped their names since."""
    project.write("a: {id: id1, state: running}\nb: {id: id2, state: running}")
    assert project.run("apply", "--yes").code == 5
    assert in_doubt(project) == {"id1": True, "id2": True}
    project.write("a: {id: id2, state: running}\nb: {id: id1, state: running}")


def test_resolve_settles_the_call_that_the_plan_names_after_a_swap_of_names(tmp_path: Path) -> None:
    with served_project(tmp_path, "run:503:after:job=id1", "run:503:job=id2", *NO_READS) as project:
        swapped_in_doubt(project)
        plan = {one["job"]: one for one in project.run("plan", "--format", "json").json["actions"]}
        assert (plan["a"]["id"], "`reconciler resolve a --applied`" in plan["a"]["reason"]) == ("id2", True)
        sent_at = project.state["jobs"]["b"]["inDoubt"]["sentAt"]
        run = project.run("resolve", "a", "--not-applied")
        assert run.code == 0, run.err
        assert f"settling the call in doubt of a: run of the engine job id2, sent at {sent_at}\n" in run.err
        assert "a is the engine job id2, recorded as b until the next apply\n" in run.err
        assert in_doubt(project) == {"id1": True}
        assert project.run("resolve", "b", "--applied").code == 0
        assert in_doubt(project) == {"id1": False}
        assert project.state["jobs"]["a"]["id"] == "id1"
        project.run("apply", "--yes")
        assert [execution for execution in done(project) if execution == ("run", "id1")] == [("run", "id1")]


def test_resolve_finds_a_job_that_was_renamed_by_either_name(tmp_path: Path) -> None:
    with served_project(tmp_path, "run:503:after", *NO_READS) as project:
        project.write("a: {id: id1, state: running}\nc: {id: id3, state: running}")
        assert project.run("apply", "--yes").code == 5
        project.write("b: {id: id1, state: running}\nd: {id: id3, state: running}")
        assert "reconciler resolve b --applied" in project.run("plan").out
        assert project.run("resolve", "b", "--applied").code == 0
        assert project.run("resolve", "c", "--applied").code == 0
        assert in_doubt(project) == {"id1": False, "id3": False}
        assert project.run("plan").out.startswith("Plan: 2 to adopt")


def test_show_forget_and_mv_take_the_record_that_the_plan_means(tmp_path: Path) -> None:
    project = Project(tmp_path)
    project.write("a: {id: id1, state: running}\nb: {id: id2, state: running}\nc: {id: id3, state: running}")
    assert project.run("apply", "--yes").code == 0
    project.write("b: {id: id1, state: running}\na: {id: id2, state: running}\nc: {id: id3, state: running}")
    shown = project.run("state", "show", "a", "--format", "json")
    assert (shown.json["job"], shown.json["id"]) == ("a", "id2")
    assert "a is the engine job id2, recorded as b until the next apply" in shown.err
    listed = project.run("state", "list", "--format", "json").json["jobs"]
    assert {name: record["id"] for name, record in listed.items()} == {"a": "id2", "b": "id1", "c": "id3"}
    assert project.run("state", "mv", "a", "x").code == 0
    assert ids_of(project) == {"a": "id1", "x": "id2", "c": "id3"}
    assert project.run("state", "forget", "b").code == 0
    assert ids_of(project) == {"x": "id2", "c": "id3"}


def test_a_name_with_a_new_id_is_not_taken_for_the_old_job(tmp_path: Path) -> None:
    with served_project(tmp_path, "run:503:after", *NO_READS) as project:
        project.write("a: {id: id1, state: running}")
        assert project.run("apply", "--yes").code == 5
        project.write("a: {id: id2, state: running}")
        run = project.run("resolve", "a", "--applied")
        assert run.code == 1
        message = "nothing is recorded of a (id id2): what the state has under that name is the engine job id1"
        assert message in run.err
        assert "reconciler state show ' a@id1'" in run.err
        assert in_doubt(project) == {"id1": True}
        assert project.run("resolve", " a@id1", "--applied").code == 0
        assert in_doubt(project) == {"id1": False}


def test_with_a_fault_elsewhere_in_the_manifest_a_name_means_what_it_meant(tmp_path: Path) -> None:
    with served_project(tmp_path, "run:503:after", *NO_READS) as project:
        swapped_in_doubt(project)
        with (project.folder / "jobs.yaml").open("a") as manifest:
            manifest.write("  c: {state: dancing}\n")
        assert project.run("state", "show", "a", "--format", "json").json["id"] == "id2"
        assert project.run("resolve", "a", "--applied").code == 0
        assert in_doubt(project) == {"id1": True, "id2": False}


def test_where_nobody_knows_what_a_name_means_it_settles_none_of_several_calls(tmp_path: Path) -> None:
    with served_project(tmp_path, "run:503:after", *NO_READS) as project:
        swapped_in_doubt(project)
        with (project.folder / "jobs.yaml").open("a") as manifest:
            manifest.write("<<<<<<< ours\n  c: {state: running}\n=======\n>>>>>>> theirs\n")
        run = project.run("resolve", "a", "--applied")
        assert (
            run.code,
            "it is not known which of them it means by a; the state has the engine job id1" in run.err,
        ) == (
            4,
            True,
        )
        assert in_doubt(project) == {"id1": True, "id2": True}
        by_id = re.search(r"`reconciler (resolve .* --applied)`", run.err)
        assert by_id is not None
        assert project.run(*shlex.split(by_id[1])).code == 0
        assert in_doubt(project) == {"id1": False, "id2": True}
        # One is left: it can only be that one, and what is settled is said.
        run = project.run("resolve", "b", "--not-applied")
        assert (run.code, "settling the call in doubt of b: run of the engine job id2" in run.err) == (0, True)


def test_an_exact_name_wins_over_one_that_looks_like_a_name_with_its_id() -> None:
    records = {"a": Record("id1", RUNNING), "a (id id1)": Record("id2", RUNNING)}
    ids = {"a": "id1", "a (id id1)": "id2"}
    assert record_named("a (id id1)", ids, records).record.id == "id2"
    assert record_named(" a@id1", ids, records).record.id == "id1"
    assert [meant.name for meant in records_by_name(ids, records).values()] == ["a", "a (id id1)"]
    with pytest.raises(ReconcilerError, match="nothing is recorded of a"):
        record_named(" a@id9", ids, records)


def test_a_declared_job_that_was_not_applied_is_told_from_a_word_that_means_nothing(tmp_path: Path) -> None:
    with served_project(tmp_path) as project:
        project.write("apple: {state: running}\npear: {state: running, id: id1}")
        for words in (["runs", "pear"], ["logs", "pear"], ["wait", "pear"], ["state", "show", "pear"]):
            run = project.run(*words)
            assert run.code == 1
            assert "pear is declared, and nothing is recorded of it: no apply has sent a call for it yet" in run.err
            assert "`reconciler plan` shows what an apply would do" in run.err
        typo = project.run("runs", "peer").err
        assert "is declared" not in typo
        assert "did you mean pear?" in typo


def test_rerun_and_history_follow_the_engine_job_and_not_the_name(tmp_path: Path) -> None:
    with served_project(tmp_path) as project:
        project.write("a: {id: id1, state: running}\nb: {id: id2, state: running, runToken: t1}")
        assert project.run("apply", "--yes").code == 0
        project.write("a: {id: id2, state: running, runToken: t1}\nb: {id: id1, state: running}")
        history = project.run("history", "a", "--format", "json")
        assert {entry["id"] for entry in history.json["entries"]} == {"id2"}
        assert "a is the engine job id2" in history.err
        assert {entry["id"] for entry in project.run("history", "id1", "--format", "json").json["entries"]} == {"id1"}
        run = project.run("rerun", "a", "--token", "t1")
        assert (run.code, "a has used the runToken t1 already" in run.err) == (4, True)
        run = project.run("rerun", "a")
        assert (run.code, "a is the engine job id2, recorded as b until the next apply" in run.err) == (0, True)


# --- one record for one engine job -------------------------------------------------------------------------------


def with_one_id_twice(project: Project) -> Path:
    """A state that a merge by hand spoiled: the digest is none, and one engine job stands under two names."""
    project.write("a: {id: id1, state: running}")
    assert project.run("apply", "--yes").code == 0
    path = project.folder / "jobs.state.json"
    document = json.loads(path.read_text())
    document["jobs"]["old"] = document["jobs"]["a"]
    path.write_text(json.dumps(document, indent=2, sort_keys=True) + "\n")
    return path


def test_a_state_with_one_id_under_two_names_is_accepted_by_nobody(tmp_path: Path) -> None:
    with served_project(tmp_path) as project:
        path = with_one_id_twice(project)
        before = path.read_bytes()
        run = project.run("state", "accept")
        assert run.code == 1
        assert "has the engine job id1 under two names, a and old" in run.err
        assert path.read_bytes() == before
        assert project.run("apply", "--yes", "--prune").code == 1
        assert done(project) == [("run", "id1")]


def edited(content: bytes, old: str, new: str) -> bytes:
    """The bytes of a state after an edit, with the right digest. `codec.encode` makes no such state."""
    opening, digest, rest = content.split(b"\n", 2)
    rest = rest.replace(old.encode(), new.encode(), 1)
    return b"\n".join([opening, digest[: -2 - 64] + codec.digest_of(rest).encode() + digest[-2:], rest])


def test_such_a_state_is_neither_pushed_nor_loaded_though_its_digest_is_right(tmp_path: Path) -> None:
    state = State("l", 7, TARGET, {"a": Record("id1", RUNNING), "old": Record("id2", RUNNING)})
    content = edited(codec.encode(state), '"id": "id2"', '"id": "id1"')
    with pytest.raises(StateError, match="under two names, a and old"):
        codec.decode(content, "x.json")
    project = Project(tmp_path)
    project.write("a: {id: id1, state: running}")
    (tmp_path / "x.json").write_bytes(content)
    assert "under two names, a and old" in project.run("state", "push", "x.json").err
    (tmp_path / "jobs.state.json").write_bytes(content)
    assert "under two names, a and old" in project.run("plan").err


@pytest.mark.parametrize(
    ("there", "found"),
    [
        ({"old": "id1"}, {"old": "id1"}),
        ({"a": "id2"}, {"a": "id2", " a@id1": "id1"}),
        ({"a": "id2", "b": "id1"}, {"a": "id2", "b": "id1"}),
    ],
    ids=["renamed there", "the name has a new id there", "both"],
)
def test_an_accept_of_another_file_under_a_journal_joins_by_engine_job_and_loses_none(
    tmp_path: Path, there: dict[str, str], found: dict[str, str]
) -> None:
    with store_in(tmp_path).open(TARGET, "apply", 0) as session:
        session.put("a", Record("id1", RUNNING, run_tokens=frozenset({"t"})))
        in_journal = (tmp_path / "jobs.state.json.journal").read_bytes()
    merged = State("lineage", 5, TARGET, {name: Record(job_id, RUNNING) for name, job_id in there.items()})
    (tmp_path / "jobs.state.json").write_bytes(codec.encode(merged))
    (tmp_path / "jobs.state.json.journal").write_bytes(in_journal)
    accepted, _ = store_in(tmp_path).accept(TARGET, 0)
    assert {name: record.id for name, record in accepted.jobs.items()} == found
    assert [record.run_tokens for record in accepted.jobs.values() if record.id == "id1"] == [frozenset({"t"})]


@pytest.mark.parametrize("key", [" a@id2", " a", " @id1x"])
def test_a_record_under_a_key_that_is_neither_a_name_nor_ours_is_refused(key: str) -> None:
    content = edited(codec.encode(State("l", 7, TARGET, {"a": Record("id1", RUNNING)})), '"a": {', f'"{key}": {{')
    with pytest.raises(StateError, match="neither a name that a manifest permits nor the key"):
        codec.decode(content, "x.json")


def test_a_name_that_a_merge_doubled_in_the_file_hides_no_record(tmp_path: Path) -> None:
    project = Project(tmp_path)
    project.write("a: {id: id1, state: running}")
    assert project.run("apply", "--yes").code == 0
    path = tmp_path / "jobs.state.json"
    path.write_text(path.read_text().replace('"jobs": {', '"jobs": {\n    "a": {"id": "id2", "state": "running"},'))
    run = project.run("state", "accept")
    assert (run.code, '"a" stands there twice' in run.err) == (1, True)


def test_resolve_takes_no_two_words_for_one_call(tmp_path: Path) -> None:
    """The last one counted once, so that the record of a run that was done could be dropped by a slip."""
    with served_project(tmp_path, "run:503:after", "read:404", "list:404") as project:
        project.write("a: {state: running}")
        assert project.run("apply", "--yes").code == 5
        before = project.state
        for words in (["--applied", "--not-applied"], ["--not-applied", "--applied"]):
            run = project.run("resolve", "a", *words)
            assert (run.code, "contradict" in run.err) == (64, True), run
        assert project.state == before
        assert project.run("resolve", "a", "--applied").code == 0


def test_the_endpoint_is_named_once_in_a_command(tmp_path: Path) -> None:
    with served_project(tmp_path) as project:
        project.write("a: {state: running}")
        run = project.run("resolve", "a", "--applied", "--state", "q.json", "--endpoint", "http://127.0.0.1:1/v1")
        assert run.code == 1
        assert run.err.count("--endpoint") == 1, run.err
        assert run.err.count("--state") == 1, run.err
