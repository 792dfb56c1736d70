"""Any config of JSON goes into the state and its journal, and comes back as it was."""

import json
from random import Random
from typing import Any

import pytest
from hypothesis import given

from json_configs import configs, reordered, text_of
from lossy_disk import SCRIBE, LossyDisk
from reconciler.model.errors import StateError
from reconciler.model.jobs import Config, Desired, Doubt, Record, State, Target, Verb
from reconciler.state.codec import decode, decode_unchecked, encode
from reconciler.state.loading import load
from reconciler.state.session import Session
from reconciler.state.state_files import Opened
from reconciler.state.writer import Writer

TARGET = Target("bytenite", "https://api.example/v1/customer")


def state_of(config: Config) -> State:
    doubt = Doubt("op-1", Verb.RUN, config, None, None, "2026-11-21T10:00:00Z", "")
    jobs = {"a": Record("id-a", Desired.RUNNING, config), "b": Record("id-b", None, doubt=doubt)}
    return State("lineage-1", 3, TARGET, jobs)


def configs_in(state: State) -> list[str]:
    doubt = state.jobs["b"].doubt
    assert doubt is not None
    return [text_of(state.jobs["a"].config), text_of(doubt.config)]


@given(configs)
def test_a_state_gives_each_config_back(config: Config) -> None:
    content = encode(state_of(config))
    found = decode(content, "jobs.state.json")
    assert configs_in(found) == [text_of(config)] * 2
    assert encode(found) == encode(state_of(reordered(config))) == content


@given(configs)
def test_a_journal_gives_each_config_back(config: Config) -> None:
    disk, path = LossyDisk(Random(1)), "/f/jobs.state.json"
    fresh = State("lineage-1", 0, TARGET, {})
    session = Session(
        Writer(Opened(disk, path, load(disk, path, TARGET), lambda: fresh, lambda state, digest: None)), SCRIBE
    )
    session.intend("a", "id-a", Doubt("op-1", Verb.RUN, config, None, None, "2026-11-21T10:00:00Z", ""))
    session.conclude("op-1", "a", Record("id-a", Desired.RUNNING, config), "")
    session.intend("b", "id-b", Doubt("op-2", Verb.RUN, reordered(config), None, None, "2026-11-21T10:00:00Z", ""))
    loaded = load(disk, path, TARGET)  # what is on disk while the session is open: the journal holds it all
    assert loaded is not None
    assert configs_in(loaded.state) == [text_of(config)] * 2


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
def test_a_number_that_json_does_not_have_makes_no_state(number: str) -> None:
    content = encode(state_of({"n": [1.5]})).replace(b"1.5", number.encode())
    with pytest.raises(StateError, match="is no number of JSON"):
        decode_unchecked(content, "jobs.state.json")


@pytest.mark.parametrize("config", [[], "a", 5, None])
def test_a_config_that_is_no_mapping_makes_no_state(config: Any) -> None:
    document = json.loads(encode(state_of({"n": 1})))
    document["jobs"]["a"]["config"] = config
    with pytest.raises(StateError, match="stands where a config is to be"):
        decode_unchecked(json.dumps(document).encode(), "jobs.state.json")


@pytest.mark.parametrize(("before", "after"), [(1, True), (1, 1.0), (0, False)])
def test_a_config_that_only_python_takes_for_equal_is_recorded(before: Any, after: Any) -> None:
    old, new = (Record("id-a", Desired.RUNNING, {"env": {"n": value}}) for value in (before, after))
    assert old != new
    assert old == Record("id-a", Desired.RUNNING, {"env": {"n": before}})
    doubts = [Doubt("op-1", Verb.RUN, {"n": value}, None, None, "", "") for value in (before, after)]
    assert doubts[0] != doubts[1]
    disk, path = LossyDisk(Random(1)), "/f/jobs.state.json"
    fresh = State("lineage-1", 0, TARGET, {})
    for record in (old, new):
        loaded = load(disk, path, TARGET)
        session = Session(Writer(Opened(disk, path, loaded, lambda: fresh, lambda state, digest: None)), SCRIBE)
        session.put("a", record)
        session.close()
    loaded = load(disk, path, TARGET)
    assert loaded is not None
    assert text_of(loaded.state.jobs["a"].config) == text_of(new.config)
