"""A merge of a state and a journal that started from another one: nothing that either side ran or counted is lost."""

from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from in_process import TARGET
from reconciler.model.jobs import Desired, Doubt, Record, State, Status, Verb
from reconciler.rules.records import without_old_doubt
from reconciler.rules.reruns import text_of
from reconciler.state import codec, record_json
from reconciler.state.merging import merged, united

IDS = ("id-1", "id-2", "id-3")
NAMES = ("a", "b", "c", "d")


def doubt_of(op: str, run: int = 3, token: str | None = None, at: str = "12:00:00") -> Doubt:
    return Doubt(op, Verb.RUN, {"of": op}, token, None, f"2026-11-21T{at}Z", "no answer", run=run)


# --- one record of two -----------------------------------------------------------------------------------------------

_doubts = st.builds(
    Doubt,
    op=st.sampled_from(["op-1", "op-2", "op-3"]),
    verb=st.sampled_from(Verb),
    config=st.sampled_from([{}, {"size": 1}]),
    run_token=st.none() | st.sampled_from(["s", "t"]),
    before=st.none(),
    sent_at=st.sampled_from(["2026-11-21T10:00:00Z", "2026-11-21T11:00:00Z"]),
    answer=st.just("no answer"),
    run=st.integers(0, 4),
)
_records = st.builds(
    Record,
    id=st.just("a"),
    state=st.sampled_from(Desired),
    config=st.sampled_from([{}, {"size": 1}]),
    run_tokens=st.frozensets(st.sampled_from("stuv")),
    doubt=st.none() | _doubts,
    protect=st.booleans(),
    run=st.integers(0, 4),
    end=st.none() | st.sampled_from([Status.COMPLETE, Status.FAILED]),
    ref=st.sampled_from(["", "uid-1", "uid-2"]),
    ran_configs=st.frozensets(st.sampled_from(['{"n":1}', '{"n":2}', '{"n":3}'])),
    abort_unseen=st.booleans(),
)


@given(_records, _records)
def test_a_merged_record_has_all_that_either_record_consumed(one: Record, other: Record) -> None:
    made, left_out = united(one, other)
    assert made.run_tokens >= one.run_tokens | other.run_tokens
    assert made.ran_configs >= one.ran_configs | other.ran_configs
    assert made.run == max(one.run, other.run)
    assert made.protect == (one.protect or other.protect)
    newest = [record for record in (one, other) if record.run == made.run]
    assert made.ref in {record.ref for record in newest}
    both = [without_old_doubt(record._replace(run=made.run)) for record in (one, other)]
    doubts = [record.doubt for record in both if record.doubt is not None]
    assert (made.doubt is not None) == bool(doubts)
    for doubt in doubts:
        assert made.doubt is not None
        is_same = (doubt.verb, doubt.run, doubt.run_token) == (made.doubt.verb, made.doubt.run, made.doubt.run_token)
        assert doubt in left_out or doubt.op == made.doubt.op or is_same
        assert made.doubt.began_at <= doubt.began_at or not is_same or doubt in left_out
    for doubt in left_out:
        if doubt.verb is Verb.RUN:
            assert made.doubt is not None
            assert made.doubt.verb is Verb.RUN
            assert doubt.run_token is None or doubt.run_token in made.run_tokens
            assert text_of(doubt.config) in made.ran_configs


def test_a_merge_of_a_record_with_itself_is_the_record() -> None:
    record = Record(
        "a", Desired.RUNNING, {}, frozenset("t"), doubt=doubt_of("op-1"), run=2, ran_configs=frozenset({"1", "2"})
    )
    assert united(record, record) == (record, [])


def test_the_record_of_the_newer_run_tells_of_its_own_run() -> None:
    newer = Record("a", Desired.RUNNING, {"size": 2}, run=3, ref="uid-3", keep_for_s=20)
    older = Record("a", Desired.ABORTED, {"size": 1}, run=2, end=Status.FAILED, ref="uid-2", ran_configs=frozenset("1"))
    want = newer._replace(ran_configs=frozenset("1"))
    assert united(newer, older) == united(older, newer) == (want, [])


def test_what_two_records_know_of_one_run_is_put_together() -> None:
    seen = Record("a", Desired.RUNNING, run=2, ref="uid-2", last_active="2026-11-21T12:00:00Z")
    ended = Record("a", Desired.RUNNING, run=2, ref="uid-2", end=Status.FAILED)
    assert united(seen, ended)[0] == seen._replace(end=Status.FAILED)
    elsewhere = ended._replace(ref="uid-9")  # two machines gave two runs one number
    assert united(seen, elsewhere)[0] == seen


# --- a state and a journal -------------------------------------------------------------------------------------------


class _Side(NamedTuple):
    """A machine at work on the state: its records by name, its counts, and the entries of its journal."""

    jobs: dict[str, Record]
    last: dict[str, int]
    entries: list[dict[str, Any]]

    def put(self, name: str, record: Record | None, *, op: str = "") -> None:
        found = None if record is None else record_json.record_to_json(record)
        self.entries.append(
            {"type": "record", "job": name, "record": found} | ({"type": "result", "op": op} if op else {})
        )
        if record is None:
            self.jobs.pop(name, None)
            return
        self.jobs[name] = record
        self.last[record.id] = max(self.last.get(record.id, 0), record.run)


def _work(side: _Side, label: str, steps: list[tuple[str, str, str]]) -> None:
    for number, (step, name, other) in enumerate(steps):
        record = side.jobs.get(name)
        match step:
            case "run":
                job_id = record.id if record else next((i for i in IDS if i not in _ids(side.jobs)), "")
                if job_id:
                    run = side.last.get(job_id, 0) + 1
                    token = f"{label}-{number}"
                    before = record or Record(job_id, None)
                    tokens, configs = before.run_tokens | {token}, before.ran_configs | {token}
                    made = Record(job_id, Desired.RUNNING, {"of": token}, tokens, run=run, ran_configs=configs)
                    side.put(name, made, op=f"op-{label}-{number}")
            case "abort" if record is not None:
                side.put(name, record._replace(state=Desired.ABORTED), op=f"op-{label}-{number}")
            case "forget":
                side.put(name, None)
            case "move" if record is not None and name != other:
                moves = {name: other} | ({other: name} if other in side.jobs else {})
                side.entries.append({"type": "moves", "moves": moves})
                moved = {moves.get(key, key): one for key, one in side.jobs.items()}
                side.jobs.clear()
                side.jobs.update(moved)


def _ids(jobs: dict[str, Record]) -> set[str]:
    return {record.id for record in jobs.values()}


def _by_id(jobs: Any) -> dict[str, Record]:
    return {record.id: record for record in jobs.values()}


_steps = st.lists(
    st.tuples(
        st.sampled_from(["run", "run", "abort", "forget", "move"]), st.sampled_from(NAMES), st.sampled_from(NAMES)
    ),
    max_size=6,
)


@pytest.mark.parametrize("has_base", [True, False])
@given(before=_steps, theirs=_steps, ours=_steps)
def test_a_merge_loses_nothing_that_either_side_ran_and_no_count_goes_back(
    has_base: bool, before: list[Any], theirs: list[Any], ours: list[Any]
) -> None:
    start = _Side({}, {}, [])
    _work(start, "x", before)
    their, our = (_Side(dict(start.jobs), dict(start.last), []) for _ in range(2))
    _work(their, "y", theirs)
    _work(our, "z", ours)
    names = [name for name in {**start.jobs, **our.jobs} if start.jobs.get(name) != our.jobs.get(name)]
    base = {name: record_json.record_to_json(start.jobs[name]) if name in start.jobs else None for name in names}
    entries = [*our.entries, *([{"type": "base", "records": base}] if has_base and base else [])]
    found = merged(State("l", 3, TARGET, their.jobs, their.last), entries, []).state
    codec.refuse_ambiguous(found.jobs, "the merged state")
    made, at_start, there, here = (_by_id(jobs) for jobs in (found.jobs, start.jobs, their.jobs, our.jobs))
    for job_id in IDS:
        sides = [side[job_id] for side in (there, here) if job_id in side]
        count = max(their.last.get(job_id, 0), our.last.get(job_id, 0))
        if has_base:
            assert found.last.get(job_id, 0) >= count
        if job_id not in made:
            # Only a record that one side dropped, and that the other side left as it was, is gone.
            assert all(side == at_start.get(job_id) for side in sides)
            continue
        record = made[job_id]
        if has_base or job_id in here:
            # A side that dropped a record and ran the job again did so on purpose; the other side has not changed it.
            for side in [one for one in sides if one != at_start.get(job_id)]:
                assert record.run >= side.run
                assert record.run_tokens >= side.run_tokens
                assert record.ran_configs >= side.ran_configs


def test_a_record_that_the_journal_renamed_is_not_lost() -> None:
    record = Record("id-1", Desired.RUNNING, run=1)
    entries: list[dict[str, Any]] = [
        {"type": "moves", "moves": {"a": "b"}},
        {"type": "result", "op": "op-1", "job": "b", "record": record_json.record_to_json(record._replace(run=2))},
        {"type": "base", "records": {"b": None, "a": record_json.record_to_json(record)}},
    ]
    remarks: list[str] = []
    found = merged(State("l", 3, TARGET, {"a": record}, {"id-1": 1}), entries, remarks).state
    assert (dict(found.jobs), found.last, remarks) == ({"a": record._replace(run=2)}, {"id-1": 2}, [])


def test_a_record_of_the_state_that_a_rename_of_the_journal_displaces_is_not_taken_for_that_of_the_journal() -> None:
    """Both sides ran one engine job: the state by the name that the journal gave to its record later."""
    ours = Record("id-1", Desired.RUNNING, {}, frozenset("s"), run=2)
    theirs = Record("id-1", Desired.RUNNING, {}, frozenset("t"), run=1)
    entries = [
        {"type": "result", "op": "op-1", "job": "d", "record": record_json.record_to_json(ours)},
        {"type": "moves", "moves": {"d": "a"}},
    ]
    found = merged(State("l", 3, TARGET, {"a": theirs}, {"id-1": 1}), entries, []).state
    assert found.jobs == {"a": ours._replace(run_tokens=frozenset("st"))}


def test_the_count_of_a_record_that_the_journal_dropped_stays() -> None:
    """The state was rolled back to the third run, and the journal dropped the record of the fifth one."""
    dropped = Record("id-1", Desired.RUNNING, run=5)
    entries: list[dict[str, Any]] = [
        {"type": "record", "job": "a", "record": None},
        {"type": "base", "records": {"a": record_json.record_to_json(dropped)}},
    ]
    older = Record("id-1", Desired.RUNNING, run=3)
    assert merged(State("l", 3, TARGET, {"a": older}, {"id-1": 3}), entries, []).state.last == {"id-1": 5}


def test_of_two_runs_in_doubt_the_one_that_is_left_out_counts_as_carried_out_and_is_named() -> None:
    before = Record("id-1", Desired.RUNNING, run=2)
    ours, theirs = doubt_of("op-1", token="s"), doubt_of("op-2", run=4, token="t")
    entries = [
        {"type": "result", "op": "op-0", "job": "a", "record": record_json.record_to_json(before._replace(doubt=ours))},
        {"type": "base", "records": {"a": record_json.record_to_json(before)}},
    ]
    state = State("l", 3, TARGET, {"a": before._replace(doubt=theirs)}, {"id-1": 2})
    remarks: list[str] = []
    found = merged(state, entries, remarks).state
    want = before._replace(doubt=theirs, run_tokens=frozenset("s"), ran_configs=frozenset({'{"of":"op-1"}'}))
    assert (found.jobs["a"], found.last) == (want, {"id-1": 3})
    assert "the run that was sent at 2026-11-21T12:00:00Z is taken as carried out" in remarks[-1]


def test_a_run_in_doubt_on_both_sides_is_the_earlier_call() -> None:
    """One side has sent the run of the other side again. The engine may have begun it with the first call."""
    first = doubt_of("op-1", at="11:00:00")
    again = first._replace(op="op-2", sent_at="2026-11-21T12:00:00Z")
    one, other = (Record("id-1", Desired.ABORTED, doubt=doubt, run=2) for doubt in (again, first))
    assert united(one, other) == (other, [])


def test_a_call_that_the_journal_has_settled_is_not_in_doubt_any_more() -> None:
    doubt = doubt_of("op-1")
    before = Record("id-1", Desired.RUNNING, run=2)
    done = before._replace(run=3)
    entries = [
        {"type": "result", "op": "op-1", "job": "a", "record": record_json.record_to_json(done)},
        {"type": "base", "records": {"a": record_json.record_to_json(before)}},
    ]
    theirs = before._replace(doubt=doubt, protect=True)
    found = merged(State("l", 3, TARGET, {"a": theirs}, {"id-1": 2}), entries, []).state
    assert (found.jobs["a"], found.last) == (done._replace(protect=True), {"id-1": 3})
