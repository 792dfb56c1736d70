"""Configs: when two are the same, and how they differ."""

import time
from copy import deepcopy
from operator import eq
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from decisions import CONFIG, RUNNING, decided, job
from json_configs import configs
from reconciler.engines.bytenite.plugin import PLUGIN
from reconciler.model.config_paths import path_of
from reconciler.model.jobs import NOT_OBSERVED, Config, Desired, Job, Observation, Record, Status
from reconciler.model.json_values import same_json
from reconciler.model.plan import NULL, ActionKind, Change
from reconciler.rules.configs import agrees, config_changes, drifted_fields, quoted, show_changes, shown
from reconciler.rules.decide import decide
from reconciler.rules.drift import compare
from reconciler.rules.matching import Subject
from reconciler.rules.table import Kind


def test_a_boolean_left_out_is_false_so_it_is_no_change() -> None:
    assert PLUGIN.same_config({"isTestJob": False}, {})
    assert decided(job(config={**CONFIG, "isTestJob": False}), RUNNING).kind == "noop"


def test_a_field_left_out_by_the_service_is_at_its_default() -> None:
    assert agrees({"isTestJob": False}, {}, PLUGIN.same_config)
    assert not agrees({"taskTimeout": 5}, {}, PLUGIN.same_config)
    assert agrees({"taskTimeout": 5}, None, PLUGIN.same_config)


def test_config_changes_name_each_field_once_sorted() -> None:
    assert config_changes(
        {"taskTimeout": 1, "jobTimeout": 2}, {"jobTimeout": 3, "isTestJob": True}, PLUGIN.same_config
    ) == (
        Change("config.isTestJob", None, True),
        Change("config.jobTimeout", 2, 3),
        Change("config.taskTimeout", 1, None),
    )


def test_whether_a_field_that_is_left_out_means_its_default_is_for_the_engine_to_say() -> None:
    job = Job("a", "a", Desired.RUNNING, {"isTestJob": False})
    record = Record("a", Desired.RUNNING, {})
    assert decide(Subject(job, record, PLUGIN.same_config), NOT_OBSERVED).kind is ActionKind.NOOP
    assert decide(Subject(job, record, eq), NOT_OBSERVED).kind is ActionKind.RESTART
    active = Observation(Status.ACTIVE, "JOB_STATE_RUNNING", {})
    assert compare(Subject(job, record._replace(config=job.config), PLUGIN.same_config), active).kind is Kind.SAME
    assert compare(Subject(job, record._replace(config=job.config), eq), active).kind is Kind.CONFIG


NESTED: Any = {"command": ["python", "train.py"], "env": {"LEVEL": 2, "a.b": "x"}, "resources": {"cpu": 2}}


def test_changes_inside_a_field_are_told_by_path() -> None:
    after: Any = {"command": ["python", "-u", "train.py"], "env": {"LEVEL": 3, "a.b": None}, "resources": {"cpu": 2}}
    assert config_changes(NESTED, after, same_json) == (
        Change("config.command[1]", "train.py", "-u"),
        Change("config.command[2]", None, "train.py"),
        Change("config.env.LEVEL", 2, 3),
        Change('config.env["a.b"]', "x", NULL),
    )
    assert show_changes(config_changes(NESTED, after, same_json)) == (
        'config.command[1] "train.py" → "-u", config.command[2] – → "train.py", config.env.LEVEL 2 → 3, '
        'config.env["a.b"] "x" → null'
    )


def test_a_field_that_one_config_lacks_is_told_as_a_whole() -> None:
    assert config_changes({}, NESTED, same_json)[1] == Change("config.env", None, NESTED["env"])
    assert show_changes(config_changes({}, {"env": {"b": [1, True], "a": {}}}, same_json)) == (
        'config.env – → {"a":{},"b":[1,true]}'
    )
    assert config_changes({"env": {"A": 1}}, {"env": [1]}, same_json) == (Change("config.env", {"A": 1}, [1]),)


def test_one_and_true_differ_at_any_depth() -> None:
    for before, after in ((1, True), (1, 1.0), (0, False), (True, 1.0)):
        one: Any = {"env": [{"x": before}]}
        other: Any = {"env": [{"x": after}]}
        [change] = config_changes(one, other, same_json)
        assert (change.path, repr(change.before), repr(change.after)) == ("config.env[0].x", repr(before), repr(after))


def test_a_key_that_looks_private_is_a_key_and_items_of_lists_are_compared_by_their_number() -> None:
    before: Any = {"env": {"__token": 1, "_x": 1}, "flags": [1, 2, 2, "a"]}
    after: Any = {"env": {"__token": 2, "_x": 1}, "flags": [True, 2, "a"]}
    assert [(c.path, repr(c.before), repr(c.after)) for c in config_changes(before, after, same_json)] == [
        ("config.env.__token", "1", "2"),
        ("config.flags[0]", "1", "True"),
        ("config.flags[2]", "2", "'a'"),
        ("config.flags[3]", "'a'", "None"),
    ]


def test_a_long_text_is_told_as_one_value_and_not_compared_line_by_line() -> None:
    before = "\n".join(f"line {number}" for number in range(20_000))
    one: Any = {"files": {"run.sh": before, "same.sh": before}}
    other: Any = {"files": {"run.sh": before.replace("5", "6"), "same.sh": before}}
    started_s = time.process_time()
    [change] = config_changes(one, other, same_json)
    assert time.process_time() - started_s < 5
    assert (change.path, change.before) == ('config.files["run.sh"]', before)


def applied(change: Change, config: Any) -> Any:
    """The config after one change, by an own walk along its path."""
    *outer, last = path_of(change.path)[1:]
    around = config
    for step in outer:
        around = around[step]
    after = None if change.after is NULL else change.after
    if change.after is None:
        del around[last]
    elif isinstance(around, list) and last == len(around):
        around.append(after)
    else:
        around[last] = after
    return config


@settings(deadline=None)
@given(configs, configs, st.booleans())
def test_the_changes_lead_from_one_config_to_the_other(before: Any, after: Any, is_near: bool) -> None:
    if is_near:
        after = {**before, **after}
    changes = config_changes(before, after, same_json)
    assert (changes == ()) is same_json(before, after)
    assert len({change.path for change in changes}) == len(changes)
    made = deepcopy(before)
    # From the last item of a list on, since an item that goes away moves those behind it.
    for change in [c for c in changes if c.after is not None] + [c for c in reversed(changes) if c.after is None]:
        made = applied(change, made)
    assert same_json(made, after)


def same_with_defaults(a: Config, b: Config) -> bool:
    """An engine whose service fills in `resources.memory`, and an empty `env`."""

    def filled(config: Any) -> Any:
        resources = {"memory": "1GiB", **config.get("resources", {})}
        return {"env": {}, **config, "resources": resources}

    return same_json(filled(a), filled(b))


def test_what_is_left_out_at_any_depth_means_what_the_engine_says() -> None:
    wanted: Any = {"env": {}, "resources": {"cpu": 2}}
    observed: Any = {"resources": {"cpu": 2, "memory": "1GiB"}, "restarts": 0}
    assert agrees(wanted, observed, same_with_defaults)
    assert not agrees(wanted, observed, same_json)
    other: Any = {"resources": {"cpu": 3, "memory": "1GiB"}}
    assert drifted_fields(wanted, other, same_with_defaults) == (Change("config.resources.cpu", 2, 3),)
    assert config_changes(wanted, other, same_with_defaults) == (Change("config.resources.cpu", 2, 3),)
    [more] = drifted_fields(wanted, {"resources": {"cpu": 2, "memory": "2GiB"}}, same_with_defaults)
    assert more == Change("config.resources.memory", None, "2GiB")


def test_an_engine_that_tells_only_whole_configs_apart_has_each_difference_told() -> None:
    def only_whole(a: Config, b: Config) -> bool:
        return same_json(a, b) or len({*a, *b}) < 2

    assert config_changes({"a": 1, "b": 1}, {"a": 1, "b": 2}, only_whole) == (Change("config.b", 1, 2),)


ALL_LEFT = ["config.command[1]", "config.env.LEVEL", 'config.env["a.b"]']


@pytest.mark.parametrize(
    ("ignore", "left"),
    [
        ((), ALL_LEFT),
        (("config.env",), ["config.command[1]"]),
        (("config.env.LEVEL",), ["config.command[1]", 'config.env["a.b"]']),
        (('config.env["a.b"]', "config.command[1]"), ["config.env.LEVEL"]),
        (("config.env.LEV", "config.environment", "config.command[10]"), ALL_LEFT),
        (("config.env", "config.command"), []),
        (("config",), []),
    ],
)
def test_ignore_leaves_out_a_path_and_what_is_inside(ignore: tuple[str, ...], left: list[str]) -> None:
    observed: Any = {"command": ["python", "-u"], "env": {"LEVEL": 9}, "resources": {"cpu": 2}, "more": 1}
    assert [change.path for change in drifted_fields(NESTED, observed, same_json, ignore)] == left
    assert agrees(NESTED, observed, same_json, ignore) is (left == [])


@pytest.mark.parametrize(
    ("wanted", "observed", "path"),
    [
        ({"env": {"A": 1}}, {}, "config.env.A"),
        ({"env": {"A": 1}}, {"env": {}}, "config.env.A"),
        ({"env": {"A": {"B": 1}}}, {"env": {}}, "config.env.A.B"),
        ({"command": ["a"]}, {"command": ["a", "b"]}, "config.command[1]"),
        ({"command": ["a", "b"]}, {"command": ["a"]}, "config.command[1]"),
        ({"command": [{"x": 1, "y": 1}]}, {"command": [{"x": 2, "y": 1}]}, "config.command[0].x"),
    ],
)
def test_what_is_ignored_may_be_missing_on_either_side(wanted: Any, observed: Any, path: str) -> None:
    assert agrees(wanted, observed, same_json, (path,))
    assert not agrees(wanted, observed, same_json)


def test_a_comparison_leaves_both_configs_as_they_are() -> None:
    wanted: Any = deepcopy(NESTED)
    observed: Any = {"env": {"LEVEL": 3}, "command": ["a"]}
    drifted_fields(wanted, observed, same_json, ("config.env.LEVEL", "config.command[1]"))
    assert (wanted, observed) == (NESTED, {"env": {"LEVEL": 3}, "command": ["a"]})


VALUES: list[Any] = [None, NULL, True, 1.0, "", {}, [None]]
WORDS = ["–", "null", "true", "1.0", "", "{}", "[null]"]


def test_words_for_a_value_are_short_and_tell_null_from_not_set() -> None:
    assert list(map(shown, VALUES)) == WORDS
    assert quoted({"a": "é"}) == '{"a":"é"}'
    long = show_changes([Change("config.script", "x" * 10_000, {"a": "y" * 10_000})] * 500)
    assert len(long) < 20 * 400
    assert long.endswith(", and 480 more")
