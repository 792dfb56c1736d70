"""What a JSON Schema says of the parts of a value: its fields in order, the schema of each, and its whole numbers.

A schema of an engine may nest and refer to its own parts. The answers follow references within the schema, and take all
alternatives together, so that they fit any value that the schema may allow. `{}` is the schema of a value of which
nothing is said.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Schema = Mapping[str, Any]

_BRANCHES = ("allOf", "anyOf", "oneOf")
_OF_MAPPINGS = frozenset(("properties", "additionalProperties", "patternProperties"))
_NAMES: Mapping[type, str] = {dict: "object", list: "array"}
_MOST_REFS = 100
"""The most references that lead from one to the next. More of them lead in a circle."""


def resolved(schema: Any, root: Schema) -> Schema:
    """Return the schema that a reference leads to, or the schema itself; {} if the reference leads out of `root`."""
    passed = 0
    while isinstance(schema, Mapping) and isinstance(ref := schema.get("$ref"), str):
        passed += 1
        schema = _at(ref, root) if passed < _MOST_REFS else {}
    return schema if isinstance(schema, Mapping) else {}


def forms(schema: Any, root: Schema) -> Sequence[Schema]:
    """Return the schemas that speak of one and the same value: the schema, what it refers to, and its alternatives."""
    found: list[Schema] = []
    waiting = [schema]
    while waiting:
        one = waiting.pop(0)
        if not isinstance(one, Mapping) or any(one is other for other in found):
            continue
        found.append(one)
        waiting[:0] = [
            *([_at(one["$ref"], root)] if isinstance(one.get("$ref"), str) else ()),
            *(branch for word in _BRANCHES for branch in one.get(word, ())),
            *(one[word] for word in ("then", "else") if word in one),
        ]
    return found


def fields_of(schema: Any, root: Schema) -> Sequence[str]:
    """Return the fields that a schema names, in the order of the schema. `root` is the whole schema, for references."""
    return tuple({name: None for form in forms(schema, root) for name in form.get("properties", ())})


def inside(schema: Any, step: str | int, root: Schema) -> Schema:
    """Return the schema of the value of a key, or of an item of a list."""
    found = [inner for form in forms(schema, root) for inner in _inner(form, step) if isinstance(inner, Mapping)]
    return found[0] if len(found) == 1 else {"anyOf": found} if found else {}


def is_known(schema: Any, step: str | int, root: Schema) -> bool:
    """Return whether a value may have a key or an item; True if the schema does not tell."""
    if isinstance(step, int):
        return True
    speaking = [form for form in forms(schema, root) if form.keys() & _OF_MAPPINGS or form.get("type") == "object"]
    return not speaking or any(
        step in form.get("properties", ())
        or form.get("additionalProperties", True) is not False
        or any(re.search(pattern, step) for pattern in form.get("patternProperties", ()))
        for form in speaking
    )


def with_whole_numbers(value: Any, schema: Any, root: Schema) -> Any:
    """Return the value with each float such as 600.0 as a whole number where the schema allows only whole numbers.

    JSON Schema takes 600.0 for a whole number. A float whose place may have a fraction stays a float.
    """
    match value:
        case float() if value.is_integer() and is_whole(schema, root):
            return whole(value)
        case dict() if _has_float(value):
            return {key: with_whole_numbers(inner, inside(schema, key, root), root) for key, inner in value.items()}
        case list() if _has_float(value):
            return [with_whole_numbers(item, inside(schema, at, root), root) for at, item in enumerate(value)]
        case _:
            return value


def is_whole(schema: Any, root: Schema) -> bool:
    """Return whether a schema allows whole numbers, and no other numbers."""
    types: set[str] = set()
    for form in forms(schema, root):
        named = form.get("type", ())
        types.update([named] if isinstance(named, str) else named)
    return "integer" in types and "number" not in types


def may_be(schema: Any, kind: type, root: Schema, passed: int = 0) -> bool:
    """Return whether a schema allows a mapping (`kind` is dict), or a list (`kind` is list), of some content.

    `passed` counts the schemas on the way to this one. It is for the recursion alone.
    """
    if not isinstance(schema, Mapping) or passed > _MOST_REFS:
        return schema is not False
    named = schema.get("type", [])
    if named and _NAMES[kind] not in ([named] if isinstance(named, str) else named):
        return False
    if "enum" in schema or "const" in schema:
        return any(isinstance(value, kind) for value in schema.get("enum", [schema.get("const")]))

    def allows(inner: Any) -> bool:
        return may_be(inner, kind, root, passed + 1)

    ref = schema.get("$ref")
    every = [*([_at(ref, root)] if isinstance(ref, str) else ()), *schema.get("allOf", ())]
    choices = [schema[word] for word in ("anyOf", "oneOf") if word in schema]
    return all(map(allows, every)) and all(any(map(allows, branches)) for branches in choices)


def whole(value: float) -> int:
    """Return a float without a fraction as the whole number that its digits show."""
    from decimal import Decimal

    return int(Decimal(repr(value)))


def _has_float(value: Any) -> bool:
    match value:
        case dict():
            return any(map(_has_float, value.values()))
        case list():
            return any(map(_has_float, value))
        case _:
            return type(value) is float


def _inner(form: Schema, step: str | int) -> Iterator[Any]:
    """Yield what one schema says of the value of a key, or of an item."""
    if isinstance(step, int):
        first = form.get("prefixItems", ())
        yield first[step] if step < len(first) else form.get("items")
        return
    named = [inner for name, inner in form.get("properties", {}).items() if name == step]
    named += [inner for pattern, inner in form.get("patternProperties", {}).items() if re.search(pattern, step)]
    yield from named or [form.get("additionalProperties")]


def _at(ref: str, root: Schema) -> Any:
    """Return the schema at a reference such as `#/$defs/job`; {} if there is none."""
    found: Any = root
    if not ref.startswith("#"):
        return {}
    for step in ref[1:].split("/")[1:]:
        key = _unescaped(step)
        if isinstance(found, Mapping) and key in found:
            found = found[key]
        elif isinstance(found, list) and key.isdigit() and int(key) < len(found):
            found = found[int(key)]
        else:
            return {}
    return found


def _unescaped(step: str) -> str:
    """Return a step of a JSON pointer in a URL as the key that it stands for."""
    if "%" in step:
        from urllib.parse import unquote

        step = unquote(step)
    return step.replace("~1", "/").replace("~0", "~")
