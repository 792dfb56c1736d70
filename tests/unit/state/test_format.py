"""Format 2 of the state: what its schema says, what a round trip keeps, and what a diff of git shows."""

import difflib
import json
from collections.abc import Mapping
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from reconciler.manifest.schema import schema_text
from reconciler.model.errors import StateError
from reconciler.model.jobs import Desired, Doubt, Evidence, Record, State, Status, Target, Verb
from reconciler.rules.runs import MAX_RUN
from reconciler.state import codec
from reconciler.state.json_types import run_from_json
from reconciler.state.loading import refuse_unreadable_configs

TARGET = Target("bytenite", "https://api.example/v1/customer")
ELSEWHERE = Target("sandbox", "")
BEFORE = Evidence(
    Status.ACTIVE, "RUNNING", "2026-11-21T10:00:00Z", {"NEW": "2026-11-21T09:00:00Z"}, "nightly-6", "uid-6"
)
DOUBT = Doubt(
    "op-1",
    Verb.RUN,
    {"jobTimeout": 7},
    "t",
    BEFORE,
    "2026-11-21T10:00:00Z",
    "",
    run=7,
    commit="c0ffee",
    staged="42",
    first_sent_at="2026-11-21T09:59:00Z",
)
FULL = Record(
    "nightly",
    Desired.RUNNING,
    {"jobTimeout": 7},
    frozenset({"t", "s"}),
    "2026-11-21T10:00:00Z",
    DOUBT,
    "run sent at noon was applied, says ada",
    True,
    6,
    Status.FAILED,
    "2026-11-21T10:05:00Z",
    "uid-6",
    ELSEWHERE,
    frozenset({'{"jobTimeout":7}', "{}"}),
    90,
    True,
)
STATE = State(
    "lineage-1",
    3,
    TARGET,
    {"full": FULL, "plain": Record("plain", Desired.ABORTED)},
    {"nightly": 6, "gone": 4},
    {"cluster": "9d8e"},
)


def document(state: State) -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads(codec.encode(state))
    return parsed


def reread(changed: Mapping[str, Any]) -> State:
    """Read a document whose digest nobody has brought up to date."""
    return codec.decode_unchecked(json.dumps(changed).encode(), "the-file")


def test_every_field_survives_a_round_trip() -> None:
    assert codec.decode(codec.encode(STATE), "x") == STATE
    assert FULL._replace(target=None) != FULL


def test_the_schema_describes_what_is_written_and_refuses_anything_else() -> None:
    schema = Draft202012Validator(json.loads(schema_text("state.schema.json")))
    for state in (STATE, State("l", 0, TARGET, {})):
        schema.validate(document(state))
    assert not schema.is_valid(document(STATE) | {"formatVersion": 1})
    assert not schema.is_valid(document(STATE) | {"comment": "by hand"})
    jobs = document(STATE)["jobs"]
    assert not schema.is_valid(document(STATE) | {"jobs": {"full": jobs["full"] | {"end": "active"}}})
    assert not schema.is_valid(document(STATE) | {"jobs": {"full": jobs["full"] | {"run": 0}}})


def test_the_top_of_a_state_has_eight_fields() -> None:
    fields = ["digest", "formatVersion", "identity", "jobs", "last", "lineage", "serial", "target"]
    assert list(document(State("l", 0, TARGET, {}))) == fields


def test_a_run_changes_one_place_of_the_file_beside_digest_and_serial() -> None:
    before = STATE._replace(jobs={name: Record(name, Desired.RUNNING, run=1) for name in "abc"}, last={})
    before = codec.decode(codec.encode(before), "x")
    record = before.jobs["b"]._replace(run=2, config={"jobTimeout": 8})
    after = before._replace(jobs={**before.jobs, "b": record}, last={**before.last, "b": 2})
    old, new = (codec.encode(state).decode().splitlines() for state in (before, after))
    hunks = [line for line in difflib.unified_diff(old, new) if line.startswith("@@")]
    assert len(hunks) == 2  # the digest, and the record
    assert codec.decode(codec.encode(after), "x").last == {"a": 1, "b": 2, "c": 1}


def test_only_counts_that_no_record_has_stand_apart() -> None:
    assert document(STATE)["last"] == {"gone": 4}
    forgotten = STATE._replace(jobs={"plain": STATE.jobs["plain"]})
    assert document(forgotten)["last"] == {"gone": 4, "nightly": 6}


def test_a_record_names_its_target_only_if_it_is_not_that_of_the_state() -> None:
    jobs = document(STATE)["jobs"]
    assert jobs["full"]["target"] == {"endpoint": "", "engine": "sandbox"}
    assert jobs["plain"] == {"id": "plain", "state": "aborted"}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("run", -1),
        ("run", "7"),
        ("run", True),
        ("end", "active"),
        ("end", "missing"),
        ("lastActive", 5),
        ("ref", None),
        ("target", {"engine": "sandbox"}),
    ],
)
def test_a_record_with_a_field_of_another_shape_is_refused(field: str, value: object) -> None:
    found = document(STATE)
    found["jobs"]["plain"][field] = value
    with pytest.raises(StateError, match="the-file is no state file"):
        reread(found)


@pytest.mark.parametrize("text", ["jobTimeout: 7", "[]", '{"jobTimeout": 7}', '{"b":1,"a":2}', '{"a":NaN}', "{" * 9999])
def test_an_edited_state_with_a_config_that_no_plan_can_read_is_refused(text: str) -> None:
    found = document(STATE)
    found["jobs"]["plain"]["ranConfigs"] = ['{"jobTimeout":7}', text]
    with pytest.raises(StateError, match="in `ranConfigs` of plain, which is no config as JSON on one line"):
        refuse_unreadable_configs("plain", reread(found).jobs["plain"], "the-file")


@pytest.mark.parametrize(("field", "value"), [("last", {"a": -1}), ("last", {"a": "1"}), ("identity", {"a": 1})])
def test_counts_and_identity_of_another_shape_are_refused(field: str, value: object) -> None:
    with pytest.raises(StateError, match="the-file is no state file"):
        reread(document(STATE) | {field: value})


@pytest.mark.parametrize("field", ["last", "identity"])
def test_a_state_without_counts_or_identity_is_no_state(field: str) -> None:
    found = document(STATE)
    del found[field]
    with pytest.raises(StateError, match="the-file is no state file"):
        reread(found)


def test_a_count_that_was_edited_below_its_record_is_that_of_the_record() -> None:
    assert reread(document(STATE) | {"last": {"nightly": 2}}).last == {"nightly": 6}


def test_a_count_of_0_is_no_count() -> None:
    """`state accept` reads what a person has written."""
    made = codec.encode(State("lineage", 1, TARGET, {}, last={"gone": 1})).replace(b'"gone": 1', b'"gone": 0')
    found = codec.decode_unchecked(made, "the-file")
    assert found.last == {}
    assert codec.decode(codec.encode(found), "again") == found


def test_what_a_plan_rests_on_is_all_but_ends_and_last_seen() -> None:
    digest = codec.records_digest(STATE)

    def with_full(record: Record) -> State:
        return STATE._replace(jobs={**STATE.jobs, "full": record})

    assert codec.records_digest(with_full(FULL._replace(end=None, last_active="later"))) == digest
    assert codec.records_digest(with_full(FULL._replace(run=5))) != digest
    assert codec.records_digest(with_full(FULL._replace(ref="uid-7"))) != digest
    assert codec.records_digest(STATE._replace(last={**STATE.last, "gone": 5})) != digest
    assert codec.records_digest(STATE._replace(serial=9)) == digest
    assert codec.records_digest(STATE._replace(jobs=dict(reversed([*STATE.jobs.items()])))) == digest
    left_out = {"end", "last_active"}
    for field in set(Record._fields) - left_out:
        assert codec.records_digest(with_full(FULL._replace(**{field: getattr(Record("x", None), field)}))) != digest


def test_the_number_of_a_run_has_a_bound() -> None:
    assert run_from_json(MAX_RUN) == MAX_RUN
    with pytest.raises(ValueError, match=f"and {MAX_RUN} is the greatest"):
        run_from_json(MAX_RUN + 1)
