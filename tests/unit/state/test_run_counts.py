"""Run counts and identity in the state: a count never decreases, whatever becomes of the record."""

import json
from pathlib import Path

import pytest

from in_process import TARGET, store_in
from reconciler.host.disk import OsDisk
from reconciler.model.errors import Refused, StateError
from reconciler.model.history import Details
from reconciler.model.jobs import Desired, Doubt, Evidence, Record, State, Status, Verb
from reconciler.state import codec, history
from reconciler.state.session import Session

RAN = frozenset({"{}", '{"size":1}'})
RUN = Record("id-a", Desired.RUNNING, {"size": 1}, run=3, ran_configs=RAN)
DOUBT = Doubt("op-4", Verb.RUN, {}, None, Evidence(Status.COMPLETE, ""), "2026-11-21T10:00:00Z", "", run=4)


def recorded(folder: Path) -> State:
    state = store_in(folder).read(TARGET)
    assert state is not None
    return state


def applied(folder: Path, record: Record | None = RUN, name: str = "a") -> None:
    with store_in(folder).open(TARGET, "apply", 0) as session:
        session.put(name, record)


def killed_after(session: Session) -> None:
    """Leave the journal as it is, as a killed command does."""
    session.close = lambda: None  # type: ignore[method-assign]


def lines(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "jobs.history.jsonl").read_text().splitlines()]


def test_a_count_stays_when_its_record_is_forgotten_or_falls_behind(tmp_path: Path) -> None:
    applied(tmp_path)
    applied(tmp_path, None)
    assert recorded(tmp_path).last == {"id-a": 3}
    applied(tmp_path, RUN._replace(run=1))
    assert recorded(tmp_path).last == {"id-a": 3}
    applied(tmp_path, RUN._replace(run=4))
    assert recorded(tmp_path).last == {"id-a": 4}


def test_a_count_goes_with_the_engine_job_through_renames_and_new_ids(tmp_path: Path) -> None:
    applied(tmp_path)
    with store_in(tmp_path).open(TARGET, "apply", 0) as session:
        session.move({"a": "b"})
        session.put("a", Record("id-new", Desired.RUNNING, run=1))
        assert (session.last_of("id-a"), session.last_of("id-new"), session.last_of("id-none")) == (3, 1, 0)
    assert recorded(tmp_path).last == {"id-a": 3, "id-new": 1}


def test_dropping_an_absent_record_keeps_its_count_in_the_file(tmp_path: Path) -> None:
    applied(tmp_path, RUN._replace(state=Desired.ABSENT))
    with store_in(tmp_path).open(TARGET, "apply", 0) as session:
        session.drop_spent(("a",))
        session.put("b", Record("id-b", Desired.ABORTED))
    assert recorded(tmp_path).last == {"id-a": 3}
    assert json.loads((tmp_path / "jobs.state.json").read_text())["last"] == {"id-a": 3}


def test_counts_of_a_killed_command_are_those_of_its_results_and_not_of_its_doubts(tmp_path: Path) -> None:
    applied(tmp_path)
    with store_in(tmp_path).open(TARGET, "apply", 0) as session:
        session.intend("a", "id-a", DOUBT)
        session.conclude("op-4", "a", RUN._replace(run=4), "done")
        session.intend("b", "id-b", DOUBT._replace(op="op-1", run=1))
        killed_after(session)
    state = recorded(tmp_path)
    assert state.last == {"id-a": 4}
    doubt = state.jobs["b"].doubt
    assert doubt is not None
    assert doubt.run == 1


def test_the_identity_of_a_killed_command_is_on_record(tmp_path: Path) -> None:
    with store_in(tmp_path).open(TARGET, "apply", 0) as session:
        session.identify({"cluster": "9d8e"})
        session.intend("a", "id-a", DOUBT)
        killed_after(session)
    assert recorded(tmp_path).identity == {"cluster": "9d8e"}
    applied(tmp_path)
    assert codec.decode((tmp_path / "jobs.state.json").read_bytes(), "x").identity == {"cluster": "9d8e"}


@pytest.mark.parametrize("is_killed", [False, True])
def test_a_serial_that_is_written_for_the_identity_alone_has_its_line(is_killed: bool, tmp_path: Path) -> None:
    with store_in(tmp_path).open(TARGET, "apply", 0) as session:
        session.identify({"cluster": "9d8e"})
        if is_killed:
            killed_after(session)
    with store_in(tmp_path).open(TARGET, "apply", 0):
        pass
    assert [(line["verb"], line["serial"], line["reason"]) for line in lines(tmp_path)] == [
        ("note", 1, "the service is cluster 9d8e")
    ]
    assert history.faults(store_in(tmp_path).read_history()) == []


def test_an_identity_that_is_recorded_with_a_call_has_no_line_of_its_own(tmp_path: Path) -> None:
    with store_in(tmp_path).open(TARGET, "apply", 0) as session:
        session.identify({"cluster": "9d8e"})
        session.put("a", RUN)
    assert [line["verb"] for line in lines(tmp_path)] == ["adopt"]


def test_the_same_identity_again_writes_nothing(tmp_path: Path) -> None:
    with store_in(tmp_path).open(TARGET, "apply", 0) as session:
        session.identify({"cluster": "9d8e"})
    before = (tmp_path / "jobs.state.json").read_bytes()
    with store_in(tmp_path).open(TARGET, "apply", 0) as session:
        session.identify({"cluster": "9d8e"})
        assert session.journal_bytes == 0
    assert (tmp_path / "jobs.state.json").read_bytes() == before


def test_a_state_that_counts_fewer_runs_can_t_be_pushed(tmp_path: Path) -> None:
    applied(tmp_path)
    older = recorded(tmp_path)
    applied(tmp_path, RUN._replace(run=5))
    pushed = older._replace(serial=9)
    with pytest.raises(Refused, match="counted 5 runs of the engine job id-a, and the state to push counts 3"):
        store_in(tmp_path).put(pushed, TARGET, 0)
    assert store_in(tmp_path).put(pushed._replace(last={"id-a": 5}), TARGET, 0)


def test_a_lost_state_begins_with_the_counts_of_its_history(tmp_path: Path) -> None:
    with store_in(tmp_path).open(TARGET, "apply", 0) as session:
        session.intend("a", "id-a", DOUBT)
        session.conclude("op-4", "a", RUN._replace(run=4), "done", Details())
        session.intend("b", "id-b", DOUBT._replace(op="op-7", run=7))
        session.conclude("op-7", "b", None, "no", Details("failed"))
    (tmp_path / "jobs.state.json").unlink()
    (tmp_path / "marks" / codec.digest_of(b"lineage")[:32]).unlink()
    with store_in(tmp_path).open(TARGET, "apply", 0) as session:
        assert session.state.last == {"id-a": 4}
        session.intend("b", "id-b", DOUBT._replace(op="op-8", run=1))
        killed_after(session)
    assert recorded(tmp_path).last == {"id-a": 4}


def test_accepting_a_state_keeps_counts_and_identity(tmp_path: Path) -> None:
    with store_in(tmp_path).open(TARGET, "apply", 0) as session:
        session.put("a", RUN)
        session.put("a", None)
        session.identify({"cluster": "9d8e"})
    path = tmp_path / "jobs.state.json"
    path.write_bytes(path.read_bytes().replace(b'"serial": 1', b'"serial": 2'))
    with pytest.raises(StateError, match="edited"):
        store_in(tmp_path).read(TARGET)
    accepted, _ = store_in(tmp_path).accept(TARGET, 0)
    assert (accepted.last, accepted.identity) == ({"id-a": 3}, {"cluster": "9d8e"})
    assert recorded(tmp_path) == accepted


def test_accepting_a_rolled_back_state_takes_the_counts_of_its_history(tmp_path: Path) -> None:
    def ran(run: int) -> None:
        with store_in(tmp_path).open(TARGET, "apply", 0) as session:
            session.intend("a", "id-a", DOUBT._replace(op=f"op-{run}", run=run))
            session.conclude(f"op-{run}", "a", RUN._replace(run=run), "done", Details())

    path = tmp_path / "jobs.state.json"
    ran(3)
    older = path.read_bytes()
    ran(4)
    ran(5)
    path.write_bytes(older)
    accepted, remarks = store_in(tmp_path).accept(TARGET, 0)
    assert (accepted.jobs["a"].run, accepted.last) == (5, {"id-a": 5})
    assert "the history tells of later runs of id-a: they count as run, and their run ids are not used" in remarks[-1]
    assert recorded(tmp_path) == accepted
    with store_in(tmp_path).open(TARGET, "apply", 0) as session:
        assert session.last_of("id-a") == 5


def test_a_stranded_journal_that_is_merged_raises_counts_and_never_lowers_them(tmp_path: Path) -> None:
    applied(tmp_path)
    with store_in(tmp_path).open(TARGET, "apply", 0) as session:
        session.put("a", RUN._replace(run=4))
        session.put("c", Record("id-c", Desired.RUNNING, run=2))
        killed_after(session)
    journal = (tmp_path / "jobs.state.json.journal").read_bytes()
    (tmp_path / "jobs.state.json.journal").unlink()
    applied(tmp_path, RUN._replace(run=6))
    (tmp_path / "jobs.state.json.journal").write_bytes(journal)
    accepted, _ = store_in(tmp_path).accept(TARGET, 0)
    assert accepted.last == {"id-a": 6, "id-c": 2}


def test_ends_are_written_once_and_the_history_tells_of_each_run(tmp_path: Path) -> None:
    with store_in(tmp_path).open(TARGET, "apply", 0) as session:
        session.intend("a", "id-a", DOUBT._replace(op="op-3", run=3))
        session.conclude("op-3", "a", RUN, "done", Details())
        session.note_ends({"a": RUN._replace(last_active="2026-11-21T10:01:00Z")})
        ended = RUN._replace(end=Status.FAILED, last_active="2026-11-21T10:01:00Z")
        session.note_ends({"a": ended})
        session.note_ends({"a": ended})
    assert recorded(tmp_path).jobs["a"] == ended
    told = [(line["verb"], line.get("run"), line.get("end")) for line in lines(tmp_path)]
    assert told == [("run", 3, None), ("ended", 3, "failed")]
    [_, entry] = history.StoredHistory("x", OsDisk().read(str(tmp_path / "jobs.history.jsonl")) or b"").entries
    assert (entry.job, entry.run, entry.end, entry.reason) == ("a", 3, "failed", "run 3: failed")


def test_a_call_about_no_counted_run_says_nothing_of_a_number(tmp_path: Path) -> None:
    with store_in(tmp_path).open(TARGET, "apply", 0) as session:
        session.intend("a", "id-a", DOUBT._replace(run=0))
        session.conclude("op-4", "a", Record("id-a", Desired.ABORTED), "done", Details())
    assert [line for line in lines(tmp_path) if "run" in line] == []
