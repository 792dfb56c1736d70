"""JSON Schema without a network. jsonschema-rs decides whether a value is valid, and jsonschema explains the faults.

jsonschema takes too long to decide about many jobs. jsonschema-rs does not tell which part of the schema refuses a
value, and the messages need that part. A property test and a fuzz target check that both agree.
"""

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from reconciler.host.signals import without_interrupts
from reconciler.manifest.schema_parts import Schema, resolved

if TYPE_CHECKING:
    from reconciler.model.suggestions import Suggestions

Refusal = tuple[tuple[str | int, ...], bool, str]
"""A fault: the path from the top of the document, whether the last key of the path is at fault rather than its value,
and the message.
"""

_TYPE_WORDS = {
    "object": "a mapping",
    "array": "a list",
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "null": "nothing",
}
_BOUNDS = {
    "minimum": "expected {} or more",
    "maximum": "expected {} or less",
    "exclusiveMinimum": "expected more than {}",
    "exclusiveMaximum": "expected less than {}",
    "multipleOf": "expected a multiple of {}",
}
_SIZES = {
    "minLength": ("character", "or more"),
    "maxLength": ("character", "or less"),
    "minItems": ("item", "or more"),
    "maxItems": ("item", "or less"),
    "minProperties": ("field", "or more"),
    "maxProperties": ("field", "or less"),
}
_NAMED = frozenset(("properties", "patternProperties", "dependentSchemas", "$defs"))

_MOST_NEEDED = 3
"""The most fields that a message names of those that a mapping needs."""

_OTHER_WORDS = {"suspend": "freeze", "pause": "freeze"}
"""Words of other tools for a field, and the field. No spelling leads from one to the other."""


def schema_text(name: str) -> str:
    """Return the text of a schema that comes with this package, such as "manifest.schema.json"."""
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    path = os.path.join(package, "schemas", name)
    if not os.path.exists(path):  # in a checkout, the schemas are beside the package
        path = os.path.join(os.path.dirname(package), "schemas", name)
    with open(path, encoding="utf-8") as file:
        return file.read()


def part_of(schema: Schema, name: str) -> Schema:
    """Return the schema of this name below `$defs`, as a schema of its own."""
    return {"$ref": f"#/$defs/{name}", "$defs": schema["$defs"]}


def is_misspelt(name: str, present: Mapping[str, Any], schema: Schema, root: Schema, suggestion: "Suggestions") -> bool:
    """Return whether a mapping has an unknown field that is nearest to this missing field.

    The unknown field is a fault of its own, whose message suggests the missing field. So the missing field is no second
    fault. A schema with several forms (`anyOf`, as for the target of any engine) knows the fields of all of them.
    """
    forms = [resolved(form, root) for form in schema.get("anyOf", ())] or [schema]
    if any(form.get("additionalProperties") is not False for form in forms):
        return False
    known = {field for form in forms for field in form.get("properties", {})}
    missing = [field for field in known if field not in present]
    return any(field not in known and suggestion.nearest(field, missing) == name for field in present)


class Validator:
    """A schema of draft 2020-12, compiled to check values of JSON or YAML.

    Nothing is fetched. A schema that refers to another document raises `ValueError`.
    """

    def __init__(self, schema: Schema) -> None:
        with without_interrupts():  # its module takes a Ctrl-C while it is loaded for a fault of its own
            from jsonschema_rs import Draft202012Validator

        self._schema = schema
        self._validator = Draft202012Validator(dict(schema), offline=True)

    def is_valid(self, value: Any) -> bool:
        """Return whether the value is valid.

        A text with half of a surrogate pair is never valid, since UTF-8 can't encode it.
        """
        try:
            return self._validator.is_valid(value)
        except UnicodeEncodeError:
            return False

    def refusals(self, document: Any, suggestion: "Suggestions | None" = None) -> Iterator[Refusal]:
        """Yield every fault of a document in plain words; none if the document is valid.

        The parts of one document share `suggestion`, so that the search for suggestions takes a bounded time.
        """
        if self.is_valid(document):
            return
        is_explained = False
        for refusal in _explained(self._schema, document, suggestion):
            is_explained = True
            yield refusal
        if not is_explained:
            yield from self._unexplained(document)

    def _unexplained(self, document: Any) -> Iterator[Refusal]:
        """Yield the faults in the words of jsonschema-rs, for a document that jsonschema accepts."""
        try:
            for error in self._validator.iter_errors(document):
                yield tuple(error.instance_path), False, _shown(error.message, 200)
        except UnicodeEncodeError:
            yield (), False, "holds text that is not UTF-8"


def _explained(schema: Schema, document: Any, suggestion: "Suggestions | None") -> Iterator[Refusal]:
    """Yield every fault that jsonschema finds, in plain words, each once."""
    from jsonschema import Draft202012Validator
    from referencing import Registry

    if suggestion is None:
        from reconciler.model.suggestions import Suggestions

        suggestion = Suggestions()
    seen = set()
    # Without an empty registry, jsonschema would fetch a schema from the network.
    for error in Draft202012Validator(schema, registry=Registry()).iter_errors(document):
        for refusal in _refusals(error, schema, suggestion):
            if refusal not in seen:
                seen.add(refusal)
                yield refusal


def _refusals(error: Any, root: Schema, suggestion: "Suggestions") -> Iterator[Refusal]:
    """Yield the faults that one error of jsonschema stands for, in plain words."""
    path = tuple(error.absolute_path)
    value, argument = error.instance, error.validator_value
    if _is_about_key(error):
        yield (*path, value), True, _wording(error, suggestion)
    elif error.validator == "required":
        for name in argument:
            if name not in value and not is_misspelt(name, value, error.schema, root, suggestion):
                yield path, True, f'"{name}" is missing: add {_example(name, error.schema)}'
    elif error.validator == "dependentRequired":
        for field, needed in argument.items():
            for name in needed if field in value else ():
                if name not in value:
                    yield path, True, f'"{name}" is missing: "{field}" needs it'
    elif error.validator == "additionalProperties" and argument is False:
        known, patterns = error.schema.get("properties", {}), error.schema.get("patternProperties", ())
        for name in value:
            if name not in known and not any(re.search(pattern, name) for pattern in patterns):
                told = error.schema.get("otherWords", {}).get(name)
                instead = f": {told}" if told else _instead(name, known, value, root, suggestion) or _matching(patterns)
                yield (*path, name), True, f'unknown field "{_shown(name)}"{instead}'
    elif error.validator in ("anyOf", "oneOf") and error.context:
        yield from _refusals_of_forms(error, root, suggestion)
    else:
        yield path, False, _wording(error, suggestion)


def _refusals_of_forms(error: Any, root: Schema, suggestion: "Suggestions") -> Iterator[Refusal]:
    """Yield the faults of a value that has none of several forms: those of the one form whose kind the value has.

    If there are several such forms, the faults that all of them find are told. A field that is required in any case is
    told of by the schema around the forms.
    """
    forms: dict[Any, list[Any]] = {}
    for inner in error.context:
        forms.setdefault(inner.relative_schema_path[0], []).append(inner)
    of_its_kind = [each for each in forms.values() if not any(map(_is_of_other_kind, each))]
    around = error.schema.get("required", ())
    found = [
        [
            refusal
            for inner in each
            if inner.validator != "required" or not set(inner.validator_value) <= set(around)
            for refusal in _refusals(inner, root, suggestion)
        ]
        for each in of_its_kind
    ]
    shared = [refusal for refusal in found[0] if all(refusal in each for each in found)] if found else []
    if shared or (found and not all(found)):
        yield from shared
    else:
        message = _wording(error, suggestion) if of_its_kind else _kinds_wanted(error, suggestion)
        yield tuple(error.absolute_path), False, message


def _is_of_other_kind(error: Any) -> bool:
    """Return whether an error says that the value as a whole is of another type, or another constant."""
    return not error.relative_path and error.validator in ("type", "const", "enum")


def _kinds_wanted(error: Any, suggestion: "Suggestions") -> str:
    """Return the message about a value that is of another kind in each of its forms: the types and constants of all."""
    value = error.instance
    types: list[str] = []
    constants: list[Any] = []
    for inner in filter(_is_of_other_kind, error.context):
        named = inner.validator_value
        if inner.validator == "type":
            types += [named] if isinstance(named, str) else named
        else:
            constants += [named] if inner.validator == "const" else named
    words = [*(_TYPE_WORDS[name] for name in dict.fromkeys(types)), *constants]
    advice = _quoting(types, value) or _nearest(value, constants, suggestion)
    return f"expected {_alternatives(words)}, found {_found(value)}{advice}"


def _is_about_key(error: Any) -> bool:
    """Return whether an error is about a key of a mapping. A property may have the name of a keyword."""
    words = iter(error.absolute_schema_path)
    for word in words:
        if word == "propertyNames":
            return True
        if word in _NAMED:
            next(words, None)
    return False


def _wording(error: Any, suggestion: "Suggestions") -> str:
    """Return the message of an error: the value that the schema expects, and the value that the document holds."""
    value, argument, schema = error.instance, error.validator_value, error.schema
    match error.validator:
        case "type":
            names = [argument] if isinstance(argument, str) else argument
            expected = schema.get("errorMessage") or f"expected {_types(names, schema)}"
            advice = _indenting(error) or _quoting(names, value) or _brackets(names, value)
            return f"{expected}, found {_found(value)}{advice}"
        case "const":
            return f"expected {_plain(argument)}, found {_found(value)}{_nearest(value, [argument], suggestion)}"
        case "enum":
            return f"expected {_alternatives(argument)}, found {_found(value)}{_nearest(value, argument, suggestion)}"
        case bound if bound in _BOUNDS:
            return f"{_BOUNDS[bound].format(argument)}, found {_found(value)}"
        case size if size in _SIZES:
            noun, bound = _SIZES[size]
            return f"expected {_counted(argument, noun)} {bound}, found {_counted(len(value), noun)}"
        case "uniqueItems":
            return "expected items that all differ, found one of them twice"
        case None:  # the schema is `false`
            return f"{_found(value)} is not allowed here"
        case "pattern":
            expected = schema.get("patternErrorMessage") or f"expected text that matches {argument}"
            return f"{expected}, found {_found(value)}"
        case _:
            return _shown(" ".join(error.message.split()), 200)


def _found(value: Any) -> str:
    """Return a value in words, cut to the length of a message."""
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
    """Return the advice for a value that has quotes and should not, or should and has none, or ""."""
    if "string" in expected and not {"integer", "number", "boolean"}.intersection(expected):
        return ": put it in quotes" if type(value) in (int, float, bool) else ""
    if type(value) is str and "integer" in expected and re.fullmatch(r"-?[0-9]{1,19}", value):
        return ": remove the quotes"
    if type(value) is str and expected == ["object"] and re.fullmatch(r"[A-Za-z]+ *[:=].*", value):
        return ': write a field as "name: value"'
    if value in ("true", "false") and "boolean" in expected:
        return ": remove the quotes"
    return ""


def _indenting(error: Any) -> str:
    """Return the advice for a field that stands beside the mapping that it belongs to, or "".

    Such a field is taken for another mapping of that kind, and has the name of a field of such a mapping.
    """
    name = error.absolute_path[-1] if error.absolute_path else None
    is_field = error.validator_value == "object" and name in error.schema.get("properties", {})
    return ": if it is a field of the entry above, indent it further" if is_field else ""


def _brackets(expected: list[str], value: Any) -> str:
    """Return the advice for a text that stands where a list is expected, or "". Only one word is surely one item."""
    is_word = isinstance(value, str) and len(value.split()) == 1
    return ": put it in brackets" if is_word and expected == ["array"] else ""


def _types(names: list[str], schema: Schema) -> str:
    """Return the types in words. A mapping is named with the fields that it needs."""
    needed = schema.get("required", ()) if names == ["object"] else ()
    words = " or ".join(_TYPE_WORDS[name] for name in names)
    return f"{words} with {' and '.join(needed)}" if 0 < len(needed) <= _MOST_NEEDED else words


def _matching(patterns: Iterable[str]) -> str:
    """Return the advice for an unknown field where names have to match a pattern, or "" without patterns."""
    listed = " or ".join(patterns)
    return f": expected a name that matches {listed}" if listed else ""


def _alternatives(values: list[Any]) -> str:
    *most, last = [value if isinstance(value, str) else _plain(value) for value in values]
    return f"{', '.join(most)} or {last}" if most else last


def _nearest(value: Any, allowed: list[Any], suggestion: "Suggestions") -> str:
    texts = [each for each in allowed if isinstance(each, str)]
    return suggestion(value, texts) if isinstance(value, str) else ""


def _instead(name: str, known: Schema, present: Mapping[str, Any], root: Schema, suggestion: "Suggestions") -> str:
    """Return the advice for an unknown field: the block that it belongs to, or the nearest field that is missing."""
    for field, schema in known.items():
        if name in resolved(schema, root).get("properties", {}):
            return f': it belongs under "{field}"'
    missing = [field for field in known if field not in present]
    if _OTHER_WORDS.get(name) in missing:
        return f'; did you mean "{_OTHER_WORDS[name]}"?'
    near = suggestion(name, missing)
    return near or (f": expected {_alternatives(list(known))}" if known else "")


def _example(name: str, schema: Schema) -> str:
    """Return an example of a missing field."""
    field = schema.get("properties", {}).get(name, {})
    if not isinstance(field, Mapping):
        return "it"
    if "const" in field:
        return f"{name}: {field['const']}"
    return f"{name}: {_alternatives(field['enum'])}" if "enum" in field else "it"


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _shown(text: str, limit: int = 60) -> str:
    return text if len(text) <= limit else f"{text[:limit]}…"
