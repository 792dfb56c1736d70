"""jsonschema-rs and jsonschema agree, and faults have messages in plain words."""

import json
import math
import sys
from subprocess import run
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from checkout import ROOT
from reconciler.cli.schema import SCHEMAS
from reconciler.manifest.faults import job_fault
from reconciler.manifest.schema import Validator, part_of, schema_text
from uncalled import serving_nothing

FOLDER = ROOT / "schemas"
MANIFEST = json.loads(schema_text("manifest.schema.json"))
ALL = {
    "$defs": {"tree": {"type": "object", "additionalProperties": {"$ref": "#/$defs/tree"}, "title": "a tree"}},
    "type": ["object", "integer", "array", "null"],
    "required": ["kind"],
    "minimum": -1,
    "maximum": 9223372036854775807,
    "minItems": 1,
    "items": {
        "type": ["number", "string", "boolean"],
        "minLength": 1,
        "maxLength": 2,
        "pattern": "^[^\\u0000é]*$(?!\\n)",
    },
    "properties": {"kind": {"enum": ["a", 1, None]}, "flag": {"const": True}, "tree": {"$ref": "#/$defs/tree"}},
    "propertyNames": {"maxLength": 4},
    "additionalProperties": False,
}


def refusals(schema: dict[str, Any], document: Any) -> list[tuple[tuple[str | int, ...], bool, str]]:
    return list(Validator(schema).refusals(document))


odd_numbers = [0, 1, -1, -2, 1.0, 0.0, -1.0, 1.5, 600.0, float("nan"), float("inf"), 1e300, 2**63 - 1, 2**63, 10**3999]
odd_texts = ["", "a", "é", "a\n", "\n", "\x00", "😀", "ab", "abc", "1", "\x85", "\u2028", "x" * 128, "x" * 129]
odd = st.sampled_from([None, True, False, *odd_numbers, *odd_texts])
of_json = st.sampled_from(
    [None, True, False, *(n for n in odd_numbers if type(n) is int or math.isfinite(n)), *odd_texts]
)
names = st.sampled_from(
    ["kind", "flag", "tree", "other", "a", "", "é", "job", "a b", " a", "a\n", "x" * 128, "x" * 129]
)
anything = st.recursive(
    of_json, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3), max_leaves=6
)


def about(fields: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[Any]:
    """Return a strategy for mappings that are close to a schema: mostly valid fields, and sometimes an unknown one."""
    right = st.fixed_dictionaries({}, optional=fields)
    return right | right | st.builds(lambda a, b: {**a, **b}, right, st.dictionaries(names, odd, max_size=1)) | odd


whole = st.sampled_from([1, 600, 600.0, 0, 2**63 - 1, 2**63, 1.5, True, "600"])
config = about({"taskTimeout": whole, "jobTimeout": whole, "isTestJob": st.booleans() | odd})
labels = st.dictionaries(names, st.text(max_size=3) | odd, max_size=2)
change = st.sampled_from(["restart", "next-run", "hold", "x"])
state = st.sampled_from(["running", "aborted", "absent", "x", None])
text = st.sampled_from(["a", "7728ba38-f0a0", "a..b", "a\n", "", "x" * 129, "é", 5])
until = st.sampled_from(
    ["2026-12-01", "2026-12-01T08:00:00Z", "2026-12-01T24:00:00Z", "2026-12-01T08:00:00", "2026-12-01\n", "x", 5]
)
job = about(
    {
        "id": text,
        "state": state,
        "config": config,
        "runToken": text,
        "onConfigChange": change,
        "protect": st.booleans(),
        "freeze": about({"reason": text, "until": until}),
        "ignore": st.lists(st.sampled_from(["config.jobTimeout", "config.x"]) | odd, max_size=2) | odd,
        "after": st.lists(names | odd, max_size=2) | odd,
        "labels": labels,
    }
)
limit = st.sampled_from([0, 5, -1, 1.0, 1.5, "10%", "100%", "101%", "010%", "10%\n", "5", True])
manifest = about(
    {
        "apiVersion": st.sampled_from(["reconciler/v1", "reconciler/v1", "v1"]),
        "target": about({"engine": st.sampled_from(["bytenite", "sandbox", "x"]), "endpoint": text}),
        "defaults": about({"config": config, "onConfigChange": change, "labels": labels}),
        "guards": about({"maxRun": limit, "maxAbort": limit, "maxRestart": limit, "maxDelete": limit}),
        "jobs": st.dictionaries(names, job, max_size=2) | odd,
    }
)


JUDGES = Validator(MANIFEST), Draft202012Validator(MANIFEST)
JUDGES_OF_ALL = Validator(ALL), Draft202012Validator(ALL)


@settings(max_examples=300, deadline=None)
@given(manifest)
def test_jsonschema_rs_agrees_with_jsonschema_on_manifests(document: Any) -> None:
    ours, theirs = JUDGES
    valid = theirs.is_valid(document)
    assert ours.is_valid(document) is valid
    assert (list(ours.refusals(document)) == []) is valid


@settings(max_examples=300, deadline=None)
@given(job)
def test_a_part_of_a_schema_is_as_it_is_within_the_whole(document: Any) -> None:
    whole_file = {"apiVersion": "reconciler/v1", "jobs": {"a": document}}
    assert Validator(part_of(MANIFEST, "job")).is_valid(document) is JUDGES[1].is_valid(whole_file)


@settings(max_examples=300, deadline=None)
@given(anything | st.fixed_dictionaries({"kind": of_json}, optional={"flag": of_json, "tree": anything}))
def test_jsonschema_rs_agrees_with_jsonschema_on_every_keyword(document: Any) -> None:
    """The values are those of JSON.

    Only jsonschema takes NaN and the infinities for a "number", and JSON has neither.
    """
    ours, theirs = JUDGES_OF_ALL
    assert ours.is_valid(document) is theirs.is_valid(document)


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        ({"minimum": 1}, [1, 1.0, True, "0", None], [0, 0.5, -(10**100)]),
        ({"maximum": 1}, [1, 1.0, "2"], [2, 1.5, 10**100]),
        ({"maximum": 2**63 - 1}, [2**63 - 1, 9223372036854774784.0], [2**63, float(2**63)]),
        ({"enum": [1, "a"]}, [1, 1.0, "a"], [True, "1", None, [1], {}]),
        ({"type": "integer"}, [1, 1.0, 10**100, 1e300], [True, 1.5, float("nan"), float("inf"), "1"]),
        ({"minLength": 1, "maxLength": 1}, ["é", "😀", 5], ["", "ab"]),
        ({"pattern": "^(?!\\s)a$(?!\\n)"}, ["a"], ["a\n", " a", "\u00a0a", "\x85a"]),
    ],
)
def test_bounds_are_those_of_jsonschema(schema: dict[str, Any], good: list[Any], bad: list[Any]) -> None:
    ours, theirs = Validator(schema), Draft202012Validator(schema)
    assert [(ours.is_valid(each), theirs.is_valid(each)) for each in good] == [(True, True)] * len(good)
    assert [(ours.is_valid(each), theirs.is_valid(each)) for each in bad] == [(False, False)] * len(bad)


def test_every_schema_of_the_package_is_a_schema() -> None:
    assert {f"{name}.schema.json" for name in SCHEMAS} == {path.name for path in FOLDER.iterdir()}
    for name in SCHEMAS:
        schema = json.loads(schema_text(f"{name}.schema.json"))
        Draft202012Validator.check_schema(schema)
        Validator(schema)


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "text"},
        {"pattern": "("},
        {"$ref": "#/$defs/x"},
        {"$ref": "https://example.org/x"},
        {"$ref": "file:///etc/hostname"},
        {"$ref": "other.json"},
    ],
)
def test_a_schema_that_is_none_or_refers_to_elsewhere_is_refused_when_it_is_made(schema: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        Validator(schema)


def test_no_schema_is_fetched() -> None:
    with serving_nothing() as (port, asked):
        with pytest.raises(ValueError, match="disabled"):
            Validator({"$ref": f"http://127.0.0.1:{port}/schema.json"})
        assert asked() == 0


def test_a_refusal_that_jsonschema_has_no_words_for_is_not_passed_over() -> None:
    r"""In jsonschema \d matches any digit, and in ECMA 262 only the ten digits of ASCII."""
    schema = {"properties": {"n": {"pattern": "^\\d$"}}}
    [(path, of_key, message)] = refusals(schema, {"n": "\u0663"})
    assert (path, of_key) == (("n",), False)
    assert "does not match" in message


def test_half_of_a_surrogate_pair_is_no_text() -> None:
    assert refusals({"type": "string"}, "\ud83d") == [((), False, "holds text that is not UTF-8")]
    assert job_fault("\udcff", {"state": "running"}) == "holds text that is not UTF-8"


@pytest.mark.parametrize(
    ("schema", "document", "expected"),
    [
        ({"type": "integer"}, "600", [((), False, 'expected a whole number, found the text "600": remove the quotes')]),
        ({"type": "integer"}, 1.5, [((), False, "expected a whole number, found 1.5")]),
        (
            {"type": "boolean"},
            "true",
            [((), False, 'expected true or false, found the text "true": remove the quotes')],
        ),
        ({"type": "string"}, False, [((), False, "expected text, found false: put it in quotes")]),
        ({"type": "string"}, None, [((), False, "expected text, found nothing")]),
        ({"type": ["array", "object"]}, "x", [((), False, 'expected a list or a mapping, found the text "x"')]),
        ({"items": {"type": "number"}}, [1, []], [((1,), False, "expected a number, found a list")]),
        (
            {"enum": ["one", "two", 3]},
            "tow",
            [((), False, 'expected one, two or 3, found the text "tow"; did you mean "two"?')],
        ),
        ({"const": 1}, True, [((), False, "expected 1, found true")]),
        ({"minimum": 1}, 0, [((), False, "expected 1 or more, found 0")]),
        ({"maximum": 1}, 10**50, [((), False, "expected 1 or less, found 1" + "0" * 50)]),
        ({"minLength": 1}, "", [((), False, "expected 1 character or more, found 0 characters")]),
        ({"maxLength": 2}, "abc", [((), False, "expected 2 characters or less, found 3 characters")]),
        ({"pattern": "^a"}, "b\n", [((), False, 'expected text that matches ^a, found the text "b\\n"')]),
        ({"minItems": 1}, [], [((), False, "expected 1 item or more, found 0 items")]),
        ({"maxItems": 1}, [1, 2], [((), False, "expected 1 item or less, found 2 items")]),
        ({"uniqueItems": True}, [1, 1], [((), False, "expected items that all differ, found one of them twice")]),
        ({"minProperties": 2}, {"a": 1}, [((), False, "expected 2 fields or more, found 1 field")]),
        ({"maxProperties": 0}, {"a": 1}, [((), False, "expected 0 fields or less, found 1 field")]),
        ({"exclusiveMinimum": 0}, 0, [((), False, "expected more than 0, found 0")]),
        ({"exclusiveMaximum": 1}, 1.5, [((), False, "expected less than 1, found 1.5")]),
        ({"multipleOf": 60}, 90, [((), False, "expected a multiple of 60, found 90")]),
        ({"dependentRequired": {"a": ["b"]}}, {"a": 1}, [((), True, '"b" is missing: "a" needs it')]),
        ({"properties": {"a": False}}, {"a": 1}, [((), False, "1 is not allowed here")]),
        ({"type": "array"}, "a", [((), False, 'expected a list, found the text "a": put it in brackets')]),
        (
            {"type": "object"},
            "state:running",
            [((), False, 'expected a mapping, found the text "state:running": write a field as "name: value"')],
        ),
        (
            {"additionalProperties": {"type": "object", "required": ["k"], "properties": {"k": {}}}},
            {"a": {"k": 1}, "k": 2},
            [
                (
                    ("k",),
                    False,
                    "expected a mapping with k, found 2: if it is a field of the entry above, indent it further",
                )
            ],
        ),
        ({"type": "array"}, "a b", [((), False, 'expected a list, found the text "a b"')]),
        ({"type": "object", "required": ["k"]}, "a", [((), False, 'expected a mapping with k, found the text "a"')]),
        (
            {"anyOf": [{"type": "string"}, {"type": "object"}]},
            3,
            [((), False, "expected text or a mapping, found 3: put it in quotes")],
        ),
        (
            {"anyOf": [{"type": "string"}, {"type": "integer"}]},
            1.5,
            [((), False, "expected text or a whole number, found 1.5")],
        ),
        (
            {"patternProperties": {"^x-": {}}, "additionalProperties": False},
            {"a": 1},
            [(("a",), True, 'unknown field "a": expected a name that matches ^x-')],
        ),
        ({"required": ["a", "b"]}, {}, [((), True, '"a" is missing: add it'), ((), True, '"b" is missing: add it')]),
        ({"additionalProperties": False}, {"x": 1}, [(("x",), True, 'unknown field "x"')]),
        (
            {"propertyNames": {"maxLength": 1}},
            {"xy": 1},
            [(("xy",), True, "expected 1 character or less, found 2 characters")],
        ),
        (
            {"properties": {"a": {"required": ["k"], "properties": {"k": {"const": "v"}}}}},
            {"a": {}},
            [(("a",), True, '"k" is missing: add k: v')],
        ),
        (
            {"properties": {"config": {"properties": {"n": {}}}, "name": {}}, "additionalProperties": False},
            {"n": 1, "nam": 2},
            [
                (("n",), True, 'unknown field "n": it belongs under "config"'),
                (("nam",), True, 'unknown field "nam"; did you mean "name"?'),
            ],
        ),
    ],
)
def test_a_refusal_says_what_was_expected_and_what_was_found(
    schema: dict[str, Any], document: Any, expected: list[tuple[tuple[str | int, ...], bool, str]]
) -> None:
    assert refusals(schema, document) == expected


def test_a_long_text_is_cut_in_a_message() -> None:
    ((_, _, message),) = refusals({"enum": ["a"]}, "x" * 100_000)
    assert message == f'expected a, found the text "{"x" * 60}…"'


def test_a_valid_document_needs_no_jsonschema() -> None:
    code = """
import json, sys
from reconciler.manifest.parse import parse
from reconciler.usecases.engines import plugin_named
parse([("f", b"apiVersion: reconciler/v1\\ntarget: {engine: sandbox}\\njobs: {a: {state: running}}")], plugin_named)
print(sorted({"jsonschema", "referencing", "difflib", "reconciler.model.suggestions"} & set(sys.modules)))
"""
    done = run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
