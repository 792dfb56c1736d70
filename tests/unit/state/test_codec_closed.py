"""What `encode` writes, `decode` reads: a state with a value that could not be read again is never written."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reconciler.model.errors import StateError
from reconciler.model.jobs import Desired, Doubt, Evidence, Record, State, Status, Target, Verb
from reconciler.state.codec import decode, encode
from reconciler.state.record_json import doubt_from_json, doubt_to_json, record_from_json, record_to_json

SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 3), st.floats(), st.text(max_size=4), st.binary(max_size=2)
)
ODD = st.one_of(SCALARS, st.lists(SCALARS, max_size=2), st.dictionaries(SCALARS, SCALARS, max_size=2))
"""Any value, where the type of a field asks for another one."""


def or_odd(sound: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(sound, sound, sound, ODD)


TEXTS = or_odd(st.text(max_size=4))
CONFIGS = or_odd(st.dictionaries(st.text(max_size=3), st.one_of(SCALARS, st.lists(SCALARS, max_size=2)), max_size=2))
MAPPINGS = or_odd(st.dictionaries(st.text(max_size=3), TEXTS, max_size=2))
SETS = or_odd(st.frozensets(st.text(max_size=3), max_size=2))
STATUSES = or_odd(st.sampled_from(Status))
EVIDENCE = st.builds(Evidence, STATUSES, TEXTS, TEXTS, MAPPINGS, TEXTS, TEXTS)
DOUBTS = st.builds(
    Doubt,
    op=TEXTS,
    verb=or_odd(st.sampled_from(Verb)),
    config=CONFIGS,
    run_token=TEXTS,
    before=st.one_of(st.none(), EVIDENCE),
    sent_at=TEXTS,
    answer=TEXTS,
    run=or_odd(st.integers(0, 5)),
    commit=TEXTS,
    staged=TEXTS,
)
TARGETS = st.builds(Target, TEXTS, TEXTS)
RECORDS = st.builds(
    Record,
    id=TEXTS,
    state=or_odd(st.sampled_from(Desired)),
    config=CONFIGS,
    run_tokens=SETS,
    submitted_at=TEXTS,
    doubt=st.one_of(st.none(), DOUBTS),
    resolved=TEXTS,
    protect=or_odd(st.booleans()),
    run=or_odd(st.integers(0, 5)),
    end=st.one_of(st.none(), STATUSES),
    last_active=TEXTS,
    ref=TEXTS,
    target=st.one_of(st.none(), TARGETS),
    ran_configs=SETS,
)
STATES = st.builds(
    State,
    lineage=TEXTS,
    serial=or_odd(st.integers(0, 9)),
    target=TARGETS,
    jobs=st.dictionaries(TEXTS.filter(lambda key: isinstance(key, str | int | None)), RECORDS, max_size=2),
    last=or_odd(st.dictionaries(st.text(max_size=3), or_odd(st.integers(0, 9)), max_size=2)),
    identity=MAPPINGS,
)
REFUSED = (TypeError, ValueError, StateError, AttributeError)


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(STATES)
def test_each_state_that_is_encoded_can_be_decoded(state: State) -> None:
    try:
        content = encode(state)
    except REFUSED:
        return
    again = decode(content, "the state")
    assert encode(again) == content


@settings(deadline=None)
@given(RECORDS)
def test_each_record_that_is_encoded_can_be_decoded(record: Record) -> None:
    try:
        document = record_to_json(record)
    except REFUSED:
        return
    assert record_to_json(record_from_json(document)) == document


@settings(deadline=None)
@given(DOUBTS)
def test_each_doubt_that_is_encoded_can_be_decoded(doubt: Doubt) -> None:
    try:
        document = doubt_to_json(doubt)
    except REFUSED:
        return
    assert doubt_to_json(doubt_from_json(document)) == document


SOUND = State("lineage", 1, Target("sandbox", ""), {"a": Record("a", Desired.RUNNING)})
ODD_NUMBER: Any = 12345


@pytest.mark.parametrize(
    "state",
    [
        SOUND._replace(jobs={"a": Record("a", Desired.RUNNING, ref=ODD_NUMBER)}),
        SOUND._replace(jobs={"a": Record("a", Desired.RUNNING, submitted_at=ODD_NUMBER)}),
        SOUND._replace(jobs={"a": Record("a", Desired.RUNNING, end=Status.ACTIVE)}),
        SOUND._replace(jobs={"a": Record("a", Desired.RUNNING, run=-1)}),
        SOUND._replace(jobs={"a": Record("a", Desired.RUNNING, config={"x": float("nan")})}),
        SOUND._replace(jobs={"a": Record("x", None), "b": Record("x", None)}),
        SOUND._replace(jobs={" a@y": Record("x", None)}),
        SOUND._replace(identity={"cluster": ODD_NUMBER}),
        SOUND._replace(identity={ODD_NUMBER: "x"}),
        SOUND._replace(last={"a": -1}),
    ],
)
def test_a_state_that_could_not_be_read_again_is_not_written(state: State) -> None:
    with pytest.raises((TypeError, ValueError, StateError)):
        encode(state)
