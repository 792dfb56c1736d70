"""JSON Schema: a quick check that settles the valid case, and jsonschema to word a refusal.

jsonschema decides. It is imported where the quick check says no, for it takes longer to load than
a plan takes to make; a property test holds that the two agree.
"""

import os
import re
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reconciler.suggestions import Suggestions

Check = Callable[[Any], bool]
Schema = Mapping[str, Any]
Refusal = tuple[tuple[str | int, ...], bool, str]
"""A path from the top of the document, whether its last key is at fault rather than the value, and what is wrong."""

_ANNOTATIONS = frozenset(
    ("$schema", "$id", "$defs", "$comment", "title", "description", "default", "examples")  # the standard's
).union(("errorMessage", "patternErrorMessage"))  # what editors show, and `explain`
_TYPES: dict[str, Check] = {
    "object": lambda value: type(value) is dict,
    "array": lambda value: type(value) is list,
    "string": lambda value: type(value) is str,
    "integer": lambda value: type(value) is int or (type(value) is float and value.is_integer()),
    "number": lambda value: type(value) is int or type(value) is float,
    "boolean": lambda value: type(value) is bool,
    "null": lambda value: value is None,
}
_TYPE_WORDS = {
    "object": "a mapping",
    "array": "a list",
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "null": "nothing",
}


def schema_text(name: str) -> str:
    """The text of a schema that comes with this package, such as "manifest.schema.json"."""
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    path = os.path.join(package, "schemas", name)
    if not os.path.exists(path):  # a checkout has them beside the package
        path = os.path.join(os.path.dirname(package), "schemas", name)
    with open(path, encoding="utf-8") as file:
        return file.read()


def compile_check(schema: Schema, root: Schema | None = None) -> Check:
    """A function that says whether a document is valid; its values are those of JSON or YAML.

    References are resolved in `root`, by default the schema itself. Raises `ValueError` for a
    keyword, reference or type that it does not know.
    """
    return _compile(schema, schema if root is None else root, {})


def explain(schema: Schema, document: Any, suggestion: "Suggestions | None" = None) -> Iterator[Refusal]:
    """Every fault that jsonschema finds in a document, in plain words; none where it is valid.

    `suggestion` is shared by the parts of one document, so that all of them together take a bounded time.
    """
    from jsonschema import Draft202012Validator
    from referencing import Registry
    from referencing.exceptions import NoSuchResource

    def refuse(uri: str) -> Any:
        raise NoSuchResource(ref=uri)  # type: ignore[call-arg]

    validator = Draft202012Validator(schema, registry=Registry(retrieve=refuse))  # type: ignore[call-arg]
    if suggestion is None:
        from reconciler.suggestions import Suggestions

        suggestion = Suggestions()
    seen = set()
    for error in validator.iter_errors(document):
        for refusal in _refusals(error, schema, suggestion):
            if refusal not in seen:
                seen.add(refusal)
                yield refusal


def _compile(schema: Schema, root: Schema, compiled: dict[str, Check]) -> Check:
    checks = []
    for keyword, argument in schema.items():
        if keyword in _ANNOTATIONS:
            continue
        if keyword == "$ref":
            checks.append(_compile_ref(argument, root, compiled))
        elif keyword in _LEAVES:
            checks.append(_LEAVES[keyword](argument))
        elif keyword not in ("properties", "additionalProperties", "propertyNames", "items"):
            raise ValueError(f"the keyword {keyword!r} is not supported")
    if "items" in schema:
        checks.append(_items(_compile(schema["items"], root, compiled)))
    if schema.keys() & {"properties", "additionalProperties"}:
        properties = {name: _compile(sub, root, compiled) for name, sub in schema.get("properties", {}).items()}
        rest = schema.get("additionalProperties", True)
        checks.append(_fields(properties, rest if isinstance(rest, bool) else _compile(rest, root, compiled)))
    if "propertyNames" in schema:
        checks.append(_names(_compile(schema["propertyNames"], root, compiled)))
    first, *others = checks or [_anything]
    for other in others:
        first = _both(first, other)
    return first


def _anything(_: Any) -> bool:
    return True


def _both(first: Check, second: Check) -> Check:
    return lambda value: first(value) and second(value)


def _compile_ref(ref: str, root: Schema, compiled: dict[str, Check]) -> Check:
    if ref not in compiled:

        def itself(value: Any) -> bool:
            return compiled[ref](value)

        compiled[ref] = itself  # a schema may refer to itself
        compiled[ref] = _compile(_resolve(ref, root), root, compiled)
    return compiled[ref]


def _resolve(ref: str, root: Schema) -> Schema:
    prefix, name = ref[:8], ref[8:]
    if prefix != "#/$defs/" or name not in root.get("$defs", {}):
        raise ValueError(f"the reference {ref!r} is not supported")
    schema: Schema = root["$defs"][name]
    return schema


def _type(names: str | list[str]) -> Check:
    try:
        first, *others = [_TYPES[name] for name in ([names] if isinstance(names, str) else names)]
    except KeyError as error:
        raise ValueError(f"the type {error} is not supported") from None
    return (lambda value: first(value) or any(other(value) for other in others)) if others else first


def _enum(allowed: list[Any]) -> Check:
    if not all(type(each) in (str, int, bool) or each is None for each in allowed):
        raise ValueError("an enum or const of other than text, whole numbers, true, false and null is not supported")
    # 1 equals 1.0 and does not equal true.
    keys = {(type(each) is bool, each) for each in allowed}
    return lambda value: not isinstance(value, dict | list) and (type(value) is bool, value) in keys


def _required(names: list[str]) -> Check:
    wanted = frozenset(names)
    return lambda value: type(value) is not dict or wanted <= value.keys()


def _minimum(limit: float) -> Check:
    return lambda value: type(value) not in (int, float) or not value < limit


def _maximum(limit: float) -> Check:
    return lambda value: type(value) not in (int, float) or not value > limit


def _min_length(limit: int) -> Check:
    return lambda value: type(value) is not str or len(value) >= limit


def _max_length(limit: int) -> Check:
    return lambda value: type(value) is not str or len(value) <= limit


def _min_items(limit: int) -> Check:
    return lambda value: type(value) is not list or len(value) >= limit


def _pattern(pattern: str) -> Check:
    search = re.compile(pattern).search
    return lambda value: type(value) is not str or search(value) is not None


def _items(item: Check) -> Check:
    return lambda value: type(value) is not list or all(map(item, value))


def _names(name: Check) -> Check:
    return lambda value: type(value) is not dict or all(map(name, value))


def _fields(properties: dict[str, Check], rest: bool | Check) -> Check:
    def check(value: Any) -> bool:
        if type(value) is not dict:
            return True
        for name, field in value.items():
            known = properties.get(name)
            if known is not None:
                if not known(field):
                    return False
            elif rest is not True and (rest is False or not rest(field)):
                return False
        return True

    return check


_LEAVES: dict[str, Callable[[Any], Check]] = {
    "type": _type,
    "enum": _enum,
    "const": lambda value: _enum([value]),
    "required": _required,
    "minimum": _minimum,
    "maximum": _maximum,
    "minLength": _min_length,
    "maxLength": _max_length,
    "minItems": _min_items,
    "pattern": _pattern,
}


def _refusals(error: Any, root: Schema, suggestion: "Suggestions") -> Iterator[Refusal]:
    """What one error of jsonschema says, in plain words."""
    path = tuple(error.absolute_path)
    value, argument = error.instance, error.validator_value
    if "propertyNames" in error.absolute_schema_path:
        yield (*path, value), True, _wording(error, suggestion)
    elif error.validator == "required":
        for name in argument:
            if name not in value:
                yield path, True, f'"{name}" is missing: add {_example(name, error.schema)}'
    elif error.validator == "additionalProperties" and argument is False:
        known = error.schema.get("properties", {})
        for name in value:
            if name not in known:
                instead = _instead(name, known, value, root, suggestion)
                yield (*path, name), True, f'unknown field "{_shown(name)}"{instead}'
    else:
        yield path, False, _wording(error, suggestion)


def _wording(error: Any, suggestion: "Suggestions") -> str:
    """What is expected, and what is found."""
    value, argument, schema = error.instance, error.validator_value, error.schema
    match error.validator:
        case "type":
            names = [argument] if isinstance(argument, str) else argument
            expected = schema.get("errorMessage") or "expected " + " or ".join(_TYPE_WORDS[name] for name in names)
            return f"{expected}, found {_found(value)}{_quoting(names, value)}"
        case "const":
            return f"expected {_plain(argument)}, found {_found(value)}{_nearest(value, [argument], suggestion)}"
        case "enum":
            return f"expected {_alternatives(argument)}, found {_found(value)}{_nearest(value, argument, suggestion)}"
        case "minimum":
            return f"expected {argument} or more, found {_found(value)}"
        case "maximum":
            return f"expected {argument} or less, found {_found(value)}"
        case "minLength":
            return f"expected {_characters(argument)} or more, found {_characters(len(value))}"
        case "maxLength":
            return f"expected {_characters(argument)} or less, found {_characters(len(value))}"
        case "pattern":
            expected = schema.get("patternErrorMessage") or f"expected text that matches {argument}"
            return f"{expected}, found {_found(value)}"
        case _:
            return _shown(" ".join(error.message.split()), 200)


def _found(value: Any) -> str:
    """A value in words, short enough for a message."""
    match value:
        case None:
            return "nothing"
        case bool():
            return str(value).lower()
        case str():
            return f"the text {_plain(value)}"
        case dict():
            return "a mapping"
        case list():
            return "a list"
        case _:
            return _shown(str(value))


def _plain(value: Any) -> str:
    import json

    return json.dumps(_shown(value) if isinstance(value, str) else value, ensure_ascii=False)


def _quoting(expected: list[str], value: Any) -> str:
    """What to do where quotes alone are wrong."""
    if expected == ["string"]:
        return ": put it in quotes" if type(value) in (int, float, bool) else ""
    if type(value) is str and "integer" in expected and re.fullmatch(r"-?[0-9]{1,19}", value):
        return ": remove the quotes"
    if value in ("true", "false") and "boolean" in expected:
        return ": remove the quotes"
    return ""


def _alternatives(values: list[Any]) -> str:
    *most, last = [value if isinstance(value, str) else _plain(value) for value in values]
    return f"{', '.join(most)} or {last}" if most else last


def _nearest(value: Any, allowed: list[Any], suggestion: "Suggestions") -> str:
    texts = [each for each in allowed if isinstance(each, str)]
    return suggestion(value, texts) if isinstance(value, str) else ""


def _instead(name: str, known: Schema, present: Mapping[str, Any], root: Schema, suggestion: "Suggestions") -> str:
    """What to write for an unknown field: the nearest one that is not there yet, or where it belongs."""
    for field, schema in known.items():
        inner = _resolve(schema["$ref"], root) if "$ref" in schema else schema
        if name in inner.get("properties", {}):
            return f': it belongs under "{field}"'
    near = suggestion(name, [field for field in known if field not in present])
    return near or (f": expected {_alternatives(list(known))}" if known else "")


def _example(name: str, schema: Schema) -> str:
    """How a missing field is written."""
    field = schema.get("properties", {}).get(name, {})
    if "const" in field:
        return f"{name}: {field['const']}"
    return f"{name}: {_alternatives(field['enum'])}" if "enum" in field else "it"


def _characters(count: int) -> str:
    return f"{count} character{'' if count == 1 else 's'}"


def _shown(text: str, limit: int = 60) -> str:
    return text if len(text) <= limit else f"{text[:limit]}…"
