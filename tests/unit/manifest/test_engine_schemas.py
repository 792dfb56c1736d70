"""The schema of the engine judges targets and configs, wherever in the manifest they stand."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from referencing import Registry

from checkout import ROOT
from json_configs import values
from nested_engine import BATCH, CONFIG_SCHEMA, HEAD, NestedEngine, faults, parsed
from reconciler.engines.registry import built_in
from reconciler.manifest.engine_schemas import narrow, schemas_of, text_of, union
from reconciler.manifest.parse import parse
from reconciler.manifest.schema import Validator, part_of
from reconciler.model.errors import EngineError
from uncalled import serving_nothing

ONLY_JOBS = "apiVersion: reconciler/v1\n"
MANIFEST = """\
jobs:
  train:
    state: running
    config:
      command: [python, train.py]
      env: {LEVEL: "3", TOKEN: {secret: train/token}}
      resources: {memory: 4GiB, cpu: 2.0}
      ratio: 1.0
      note: null
      native: {spec: {b: [1, true, 1.0, null], a: "x"}}
"""


def test_a_config_is_any_mapping_that_the_engine_takes() -> None:
    config = parsed(HEAD + MANIFEST).jobs["train"].config
    assert repr(config) == repr(
        {
            "command": ["python", "train.py"],
            "env": {"LEVEL": "3", "TOKEN": {"secret": "train/token"}},
            "native": {"spec": {"a": "x", "b": [1, True, 1.0, None]}},
            "note": None,
            "ratio": 1.0,
            "resources": {"cpu": 2, "memory": "4GiB"},
        }
    )


@pytest.mark.parametrize("order", [("target", "jobs"), ("jobs", "target")])
def test_the_engine_may_stand_in_another_file(order: tuple[str, str]) -> None:
    files = {"target": HEAD, "jobs": ONLY_JOBS + MANIFEST.replace("cpu: 2.0", "cpus: 2")}
    number = order.index("jobs") + 1
    assert faults(*(files[name] for name in order)) == [
        f'{number}.yaml:8:33: unknown field "cpus"; did you mean "cpu"?'
    ]


@pytest.mark.parametrize(
    ("config", "place", "message"),
    [
        ("command: python", "python", 'command: expected a list, found the text "python": put it in brackets'),
        ("command: []", "[]", "command: expected 1 item or more, found 0 items"),
        ("command: [python, 3]", "3", "expected text, found 3: put it in quotes"),
        ("comand: [x]", "comand", 'unknown field "comand"; did you mean "command"?'),
        ("command: [x], env: {LEVEL: 3}", "3", "LEVEL: expected text or a mapping, found 3: put it in quotes"),
        ("command: [x], env: {LEVEL: {secrt: a}}", "secrt", 'unknown field "secrt"; did you mean "secret"?'),
        (
            'command: [x], env: {LEVEL: {secret: ""}}',
            '""',
            "secret: expected 1 character or more, found 0 characters",
        ),
        ("command: [x], env: {level: x}", "level", 'expected capital letters, found the text "level"'),
        ("command: [x], resources: {cpu: 0}", "0", "cpu: expected 1 or more, found 0"),
        ("command: [x], resources: {cpu: 1.5}", "1.5", "cpu: expected a whole number, found 1.5"),
        ("command: [x], resources: {cpu: 1, memory: 4}", "4", "memory: expected text, found 4: put it in quotes"),
        ("command: [x], retry: -1", "-1", "retry: expected 0 or more, found -1"),
        (
            "command: [x], retry: nver",
            "nver",
            'retry: expected a whole number, never or always, found the text "nver"; did you mean "never"?',
        ),
        ("command: [x], annotations: {x-a: b, z: c}", "z", 'unknown field "z": expected a name that matches ^x-'),
        ("command: [x], volumes: [{paht: /}]", "{paht", '"path" is missing: add it'),
        ("resources: {cpu: 1}", "config", '"command" is missing: add it'),
        ("command: [x], note: 2026-11-21", "2026", "YAML 1.1 reads 2026-11-21 as a date, YAML 1.2 as text: quote it"),
        ("command: [x], native: {1: a}", "1", 'a key must be text: write "1" in quotes'),
        ("command: [x], native: {null: a}", "null", 'a key must be text: write "null" in quotes'),
        *(
            (
                f"command: [x], native: {{a: [{number}]}}",
                number,
                f"YAML reads {number} as a number that JSON does not have: write another one, or quote it",
            )
            for number in (".inf", "-.Inf", ".nan")
        ),
        (
            f"command: [x], native: {{a: {'9' * 5000}}}",
            "9" * 5000,
            "a number of more than 4000 digits is not read: quote it if it is text",
        ),
        ("command: [x], native: {a: 1.0e+400}", "1.0e", "1.0e+400 is larger than any number that is read"),
    ],
)
def test_a_fault_at_any_depth_has_its_place_and_says_what_would_be_right(config: str, place: str, message: str) -> None:
    line = f"    config: {{{config}}}"
    found = faults(f"{HEAD}jobs:\n  a:\n    state: running\n{line}\n")
    if "missing" in message and place == "config":
        assert found == [f"1.yaml:6:5: {message}"]
    else:
        [fault] = found
        assert fault.startswith(f"1.yaml:6:{len(line.rpartition(place)[0]) + 1}: {message}")


def test_what_no_file_says_is_missing_at_the_name_of_the_job() -> None:
    assert faults(HEAD + "jobs:\n  a: {state: running}\n") == ['1.yaml:4:3: config: "command" is missing: add it']


@pytest.mark.parametrize("state", ["aborted", "absent"])
def test_a_job_that_is_not_to_run_may_lack_what_a_run_needs_but_not_say_what_is_wrong(state: str) -> None:
    text = f"jobs:\n  a: {{state: {state}}}\n  b: {{state: {state}, config: {{resources: {{}}}}}}\n"
    assert faults(HEAD + text) == []
    assert faults(HEAD + text.replace("resources: {}", "resources: {cpu: 0}")) == [
        f"1.yaml:5:{42 + len(state)}: cpu: expected 1 or more, found 0"
    ]


def test_a_field_of_the_config_beside_it_is_said_to_belong_there() -> None:
    assert faults(HEAD + "jobs:\n  a: {state: running, command: [x], config: {command: [x]}}\n") == [
        '1.yaml:4:23: unknown field "command": it belongs under "config"'
    ]


# --- defaults ---------------------------------------------------------------------------------------------------------


def test_defaults_are_merged_key_by_key_at_any_depth_and_lists_are_replaced() -> None:
    defaults = (
        'defaults: {config: {command: [a, b], env: {A: "1", B: "2"}, resources: {cpu: 1, memory: 1GiB}, note: x}}\n'
    )
    made = parsed(
        HEAD + defaults,
        ONLY_JOBS + "jobs:\n  a: {state: running}\n"
        '  b: {state: running, config: {command: [c], env: {B: "3"}, resources: {cpu: 2}, note: null}}\n',
    )
    assert made.jobs["a"].config == {
        "command": ["a", "b"],
        "env": {"A": "1", "B": "2"},
        "note": "x",
        "resources": {"cpu": 1, "memory": "1GiB"},
    }
    assert made.jobs["b"].config == {
        "command": ["c"],
        "env": {"A": "1", "B": "3"},
        "note": None,
        "resources": {"cpu": 2, "memory": "1GiB"},
    }


def test_what_a_config_lacks_may_be_a_default_and_what_the_defaults_lack_may_be_the_jobs() -> None:
    both = "jobs: {a: {state: running, config: {resources: {cpu: 1}}}}\n"
    assert faults(HEAD + "defaults: {config: {command: [x], resources: {memory: 1GiB}}}\n" + both) == []
    assert faults(HEAD + "defaults: {config: {resources: {memory: 1GiB}}}\n" + both) == [
        '1.yaml:4:28: "command" is missing: add it'
    ]
    assert faults(HEAD + "defaults: {config: {resources: {memory: 1GiB}}}\njobs: {}\n") == []


def test_a_default_that_the_engine_does_not_take_is_refused_at_its_own_line() -> None:
    defaults = HEAD + "defaults:\n  config:\n    image: x\n    env: {LEVEL: 3}\n    resources: {cpu: 0}\n"
    fields = list(CONFIG_SCHEMA["properties"])
    expected = [
        f'1.yaml:5:5: unknown field "image": expected {", ".join(fields[:-1])} or {fields[-1]}',
        "1.yaml:6:18: LEVEL: expected text or a mapping, found 3: put it in quotes",
        "1.yaml:7:22: cpu: expected 1 or more, found 0",
    ]
    jobs = "".join(f"  j{number}: {{state: running, config: {{command: [x]}}}}\n" for number in range(3))
    assert faults(defaults, f"{ONLY_JOBS}jobs:\n{jobs}") == expected
    assert faults(ONLY_JOBS + "jobs: {}\n", defaults) == [line.replace("1.yaml", "2.yaml", 1) for line in expected]
    overridden = '{state: running, config: {command: [x], env: {LEVEL: "1"}, resources: {cpu: 1}}}'
    assert faults(f"{defaults}jobs: {{a: {overridden}}}\n") == expected


def test_a_fault_of_a_job_stands_in_the_job_and_one_of_a_default_in_the_defaults() -> None:
    text = (
        HEAD + "defaults: {config: {command: [x], env: {A: 1}}}\njobs:\n  a: {state: running, config: {env: {B: 2}}}\n"
    )
    assert faults(text) == [
        "1.yaml:3:44: A: expected text or a mapping, found 1: put it in quotes",
        "1.yaml:5:41: B: expected text or a mapping, found 2: put it in quotes",
    ]


# --- the target -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("{engine: batch}", ['1.yaml:2:1: "cluster" is missing: add it']),
        ("{engine: batch, cluster: a, namespace: far-too-long}", ["namespace: expected 8 characters or less"]),
        ("{engine: batch, cluster: a, endpoint: x}", ['unknown field "endpoint": expected engine, cluster or']),
        ("{engine: batch, cluster: down}", ["the cluster is down"]),
        ("{engine: sandbox, cluster: a}", ['unknown field "cluster": expected engine, endpoint, ca,']),
    ],
)
def test_the_fields_of_a_target_are_those_of_its_engine(target: str, expected: list[str]) -> None:
    found = faults(f"apiVersion: reconciler/v1\ntarget: {target}\njobs: {{}}\n")
    assert len(found) == len(expected)
    assert all(words in line for words, line in zip(expected, found, strict=True)), found


def test_two_engines_in_one_manifest_are_one_fault() -> None:
    assert faults(HEAD, "apiVersion: reconciler/v1\ntarget: {engine: sandbox, ca: x}\n" + MANIFEST) == [
        '2.yaml:2:1: "target" stands once in the whole manifest: it is already at 1.yaml:2:1'
    ]


def test_an_engine_that_nobody_has_is_refused_at_its_place_and_its_configs_are_not_judged() -> None:
    [fault] = faults("apiVersion: reconciler/v1\ntarget: {engine: nomad, context: a}\n" + MANIFEST)
    words = "no engine is installed by the name nomad; there are bytenite, kubernetes, local, ray, sandbox and slurm"
    assert fault.startswith(f"1.yaml:2:18: engine: {words}")
    assert "pip install" in fault
    [near] = faults("apiVersion: reconciler/v1\ntarget: {engine: sandbx}\njobs: {a: {state: running}}\n")
    assert near.startswith('1.yaml:2:18: engine: no engine is installed by the name sandbx; did you mean "sandbox"? ')


def test_a_job_that_the_engine_cannot_have_is_refused_at_its_id_or_name() -> None:
    config = "config: {command: [x]}"
    text = f"jobs:\n  a-name-that-is-too-long: {{state: running, {config}}}\n"
    text += f"  b: {{state: running, id: another-that-is, {config}}}\n  c: {{state: running, {config}}}\n"
    words = "the id has more than 12 characters: shorten it"
    assert faults(HEAD + text) == [f"1.yaml:4:3: {words}", f"1.yaml:5:27: {words}"]


# --- ignore -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("config", ""),
        ("config.env", ""),
        ("config.env.LEVEL", ""),
        ("config.command[3]", ""),
        ("config.native.spec.any", ""),
        ('config.native["a.b"][0].c', ""),
        ("config.annotations.x-a", ""),
        ("config.resources.memory", ""),
        ("config.comand", 'the engine knows no config.comand; did you mean "config.command"?'),
        ("config.resources.mem", 'the engine knows no config.resources.mem; did you mean "config.resources.memory"?'),
        ("config.annotations.y", "the engine knows no config.annotations.y"),
        ("config.volumes[0].path", ""),
        ("config.env.LEVEL.secret", ""),
        (
            "config.resources.memory.x",
            'config.resources.memory is a single value, without parts; did you mean "config.resources.memory"?',
        ),
        (
            "config.env.LEVEL[0]",
            'config.env.LEVEL has fields with names, and no items with numbers: "config.env.LEVEL.NAME" names a field',
        ),
        (
            "config.command.x",
            'config.command has items with numbers, and no fields with names: "config.command[0]" is its first item',
        ),
        ("state", 'expected the path of a value of the config, such as "config.env.LEVEL", found the text "state"'),
        ("config.", 'expected the path of a value of the config, such as "config.env.LEVEL", found the text "config."'),
    ],
)
def test_ignore_takes_the_path_of_any_value_that_the_engine_knows(path: str, message: str) -> None:
    text = f"{HEAD}jobs:\n  a: {{state: running, config: {{command: [x]}}, ignore: [{json.dumps(path)}]}}\n"
    assert faults(text) == ([f"1.yaml:4:56: {message}"] if message else [])


# --- the schemas themselves -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "https://example.org/config.json"},
        {"properties": {"a": {"$ref": "other.json"}}},
        {"properties": {"a": {"$ref": "#/$defs/none"}}},
        {"type": "text"},
        {"$schema": "http://json-schema.org/draft-07/schema#", "type": "object"},
        [],
    ],
)
def test_an_engine_whose_schema_cannot_be_used_is_an_error_that_names_it(schema: Any) -> None:
    broken = NestedEngine(schema)
    with pytest.raises(EngineError, match="the engine batch has a schema that can't be used: "):
        parse([("f", (HEAD + "jobs: {}").encode())], lambda name: broken)


def test_no_schema_of_an_engine_is_fetched() -> None:
    with serving_nothing() as (port, asked):
        elsewhere = {"$ref": f"http://127.0.0.1:{port}/a.json"}
        for engine in (NestedEngine(elsewhere), NestedEngine(target_schema={"properties": {"cluster": elsewhere}})):
            with pytest.raises(EngineError, match="has a schema that can't be used"):
                narrow(engine)
        assert asked() == 0


def test_an_engine_is_compiled_once() -> None:
    assert schemas_of(BATCH) is schemas_of(BATCH)
    assert schemas_of(BATCH) is not schemas_of(NestedEngine())


def test_the_editors_schema_is_the_union_of_the_engines_that_come_with_the_tool() -> None:
    written = (ROOT / "schemas/manifest.schema.json").read_text(encoding="utf-8")
    assert written == text_of(union(built_in())), "make editors writes it anew"


def whole_file(config: Any, engine: str = "batch", **target: str) -> dict[str, Any]:
    return {
        "apiVersion": "reconciler/v1",
        "target": {"engine": engine, **target},
        "jobs": {"a": {"state": "running", "config": config}},
    }


def test_a_union_of_engines_that_differ_takes_what_one_of_them_takes() -> None:
    schema = union([*built_in(), BATCH])
    Draft202012Validator.check_schema(schema)
    judges = Validator(schema), Draft202012Validator(schema)
    for document, valid in (
        (whole_file({"command": ["x"]}, cluster="a"), True),
        (whole_file({"taskTimeout": 5}, "sandbox"), True),
        (whole_file({"env": {"A": {"secret": "x"}}}, "sandbox"), True),
        (whole_file({"isTestJob": True, "command": ["x"]}, "sandbox"), False),
        (whole_file({"command": ["x"]}, "sandbox", cluster="a"), False),
        (whole_file({"command": ["x"]}, "nomad"), False),
        (whole_file({"env": {"A": {"secret": ""}}}, cluster="a"), False),
    ):
        assert [judge.is_valid(document) for judge in judges] == [valid, valid], document


def test_the_schema_of_one_engine_takes_that_engine_alone() -> None:
    schema = narrow(BATCH)
    Draft202012Validator.check_schema(schema)
    judge = Validator(schema)
    assert judge.is_valid(whole_file({"command": ["x"], "resources": {"cpu": 1}}, cluster="a"))
    assert judge.is_valid(whole_file({"resources": {"memory": "1GiB"}}, cluster="a")), "the defaults may have the rest"
    assert not judge.is_valid(whole_file({"resources": {"cpus": 1}}, cluster="a"))
    assert not judge.is_valid(whole_file({"command": ["x"], "volumes": [{}]}, cluster="a"))
    assert not judge.is_valid(whole_file({"command": ["x"]}))
    assert not judge.is_valid(whole_file({"command": ["x"]}, "sandbox"))


config_values = st.fixed_dictionaries(
    {},
    optional={
        "command": st.lists(st.sampled_from(["x", "", 3, None]), max_size=2) | values,
        "env": st.dictionaries(
            st.sampled_from(["A", "B_", "a", ""]),
            st.sampled_from(["x", 3, {"secret": "s"}, {"secret": ""}, {}, {"secret": "s", "x": 1}, None]) | values,
            max_size=2,
        )
        | values,
        "resources": st.fixed_dictionaries(
            {},
            optional={
                "cpu": st.sampled_from([1, 1.0, 0, 1.5, True, "1"]),
                "memory": st.sampled_from(["4GiB", "4", "4GiB\n", 4]),
                "gpu": st.just(1),
            },
        )
        | values,
        "retry": st.sampled_from([0, -1, 2.0, "never", "nver", None, []]),
        "note": st.sampled_from(["x", None, 3]),
        "ratio": st.sampled_from([1, 1.0, 0.5, "1", True, 10**30, 1e300]),
        "annotations": st.dictionaries(
            st.sampled_from(["x-a", "x-", "y", "ax-"]), st.sampled_from(["b", 1]), max_size=2
        ),
        "volumes": st.lists(st.sampled_from([{"path": "/"}, {"path": 1}, {}, "x"]), max_size=2),
        "native": st.dictionaries(st.text(max_size=2), values, max_size=2) | values,
        "other": values,
    },
)
STRICT = schemas_of(BATCH)
JUDGES = STRICT.config_validator, Draft202012Validator(part_of(STRICT.whole, "config"), registry=Registry())
THEIR_OWN = Draft202012Validator(CONFIG_SCHEMA, registry=Registry())
EDITORS = Validator(narrow(BATCH))


@settings(max_examples=300, deadline=None)
@given(config_values)
def test_jsonschema_rs_agrees_with_jsonschema_on_configs_that_nest(config: Any) -> None:
    ours, theirs = JUDGES
    valid = THEIR_OWN.is_valid(config)
    assert (ours.is_valid(config), theirs.is_valid(config)) == (valid, valid)
    refusals = list(ours.refusals(config))
    assert (refusals == []) is valid
    for path, of_key, message in refusals:
        value = config
        for step in path[:-1] if of_key else path:
            value = value[step]
        assert message
    if valid:
        assert EDITORS.is_valid(whole_file(config, cluster="a"))


@settings(max_examples=300, deadline=None)
@given(config_values, config_values)
def test_a_job_with_defaults_is_valid_exactly_if_both_together_are(defaults: Any, own: Any) -> None:
    text = json.dumps(
        {
            "apiVersion": "reconciler/v1",
            "target": {"engine": "batch", "cluster": "a"},
            "defaults": {"config": defaults},
            "jobs": {"a": {"state": "running", "config": own}},
        }
    )
    if faults(text):
        return
    assert THEIR_OWN.is_valid(parsed(text).jobs["a"].config)
    assert EDITORS.is_valid(json.loads(text))
