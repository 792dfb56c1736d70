"""The quick check and jsonschema agree, and refusals are worded plainly."""

import json
import sys
from pathlib import Path
from subprocess import run
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from reconciler.cli.schema import SCHEMAS
from reconciler.manifest.schema import compile_check, explain, schema_text

FOLDER = Path(__file__).parent.parent / "schemas"
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
    return list(explain(schema, document))


odd_numbers = [0, 1, -1, -2, 1.0, 0.0, -1.0, 1.5, 600.0, float("nan"), float("inf"), 1e300, 2**63 - 1, 2**63, 10**3999]
odd_texts = ["", "a", "é", "a\n", "\n", "\x00", "😀", "ab", "abc", "1", "\x85", "\u2028", "x" * 128, "x" * 129]
odd = st.sampled_from([None, True, False, *odd_numbers, *odd_texts])
names = st.sampled_from(
    ["kind", "flag", "tree", "other", "a", "", "é", "job", "a b", " a", "a\n", "x" * 128, "x" * 129]
)
anything = st.recursive(
    odd, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3), max_leaves=6
)


def about(fields: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[Any]:
    """Mappings near to what a schema asks: any of the fields, mostly right, and now and then one too many."""
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
        "suspend": about({"reason": text, "until": until}),
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


@settings(max_examples=300, deadline=None)
@given(manifest)
def test_the_quick_check_agrees_with_jsonschema_on_manifests(document: Any) -> None:
    valid = Draft202012Validator(MANIFEST).is_valid(document)
    assert compile_check(MANIFEST)(document) is valid
    assert (refusals(MANIFEST, document) == []) is valid


@settings(max_examples=300, deadline=None)
@given(job)
def test_the_quick_check_of_a_part_agrees_with_jsonschema(document: Any) -> None:
    whole_file = {"apiVersion": "reconciler/v1", "jobs": {"a": document}}
    assert compile_check(MANIFEST["$defs"]["job"], MANIFEST)(document) is Draft202012Validator(MANIFEST).is_valid(
        whole_file
    )


@settings(max_examples=300, deadline=None)
@given(anything | st.fixed_dictionaries({"kind": odd}, optional={"flag": odd, "tree": anything}))
def test_the_quick_check_agrees_with_jsonschema_on_every_keyword(document: Any) -> None:
    assert compile_check(ALL)(document) is Draft202012Validator(ALL).is_valid(document)


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        ({"minimum": 1}, [1, 1.0, True, "0", None], [0, 0.5, -(10**100)]),
        ({"maximum": 1}, [1, 1.0, "2", float("-inf")], [2, 1.5, 10**100]),
        ({"enum": [1, "a"]}, [1, 1.0, "a"], [True, "1", None, [1], {}]),
        ({"type": "integer"}, [1, 1.0, 10**100, 1e300], [True, 1.5, float("nan"), float("inf"), "1"]),
        ({"minLength": 1, "maxLength": 1}, ["é", "😀", 5], ["", "ab"]),
    ],
)
def test_bounds_are_those_of_jsonschema(schema: dict[str, Any], good: list[Any], bad: list[Any]) -> None:
    check, judge = compile_check(schema), Draft202012Validator(schema)
    assert [(check(document), judge.is_valid(document)) for document in good] == [(True, True)] * len(good)
    assert [(check(document), judge.is_valid(document)) for document in bad] == [(False, False)] * len(bad)


def test_every_schema_of_the_package_is_a_schema_and_compiles() -> None:
    assert {f"{name}.schema.json" for name in SCHEMAS} == {path.name for path in FOLDER.iterdir()}
    for name in SCHEMAS:
        schema = json.loads(schema_text(f"{name}.schema.json"))
        Draft202012Validator.check_schema(schema)
        compile_check(schema)


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({"format": "uri"}, "the keyword 'format' is not supported"),
        ({"properties": {"a": {"anyOf": []}}}, "the keyword 'anyOf' is not supported"),
        ({"type": "text"}, "the type 'text' is not supported"),
        ({"$ref": "https://example.org/x"}, "the reference 'https://example.org/x' is not supported"),
        ({"$ref": "#/$defs/x"}, "the reference '#/$defs/x' is not supported"),
        (
            {"const": {}},
            "an enum or const of other than text, whole numbers, true, false and null is not supported",
        ),
    ],
)
def test_a_schema_that_the_quick_check_does_not_know_is_refused(schema: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match="supported") as caught:
        compile_check(schema)
    assert str(caught.value) == message


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
        ({"minItems": 1}, [], [((), False, "[] should be non-empty")]),
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


def test_nothing_is_fetched_for_a_reference_to_elsewhere() -> None:
    with pytest.raises(Exception, match=r"https://example\.org/schema"):
        refusals({"$ref": "https://example.org/schema"}, {})


def test_a_valid_document_needs_no_jsonschema() -> None:
    code = """
import json, sys
from reconciler.manifest.parse import parse
parse([("f", b"apiVersion: reconciler/v1\\ntarget: {engine: sandbox}\\njobs: {a: {state: running}}")])
print(sorted({"jsonschema", "referencing", "difflib", "urllib.parse", "ipaddress"} & set(sys.modules)))
"""
    done = run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
