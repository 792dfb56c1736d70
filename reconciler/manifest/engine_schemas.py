"""The schemas of a manifest for one engine: the schema of all manifests, with the engine's own target and config in it.

`manifest.schema.json` beside this module says what all engines have in common. `schemas/manifest.schema.json` is for
editors: it takes the engines that come with the tool together, and is made by `union`.
"""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from functools import cache, cached_property
from typing import Any, NamedTuple

from reconciler.manifest.document import Document
from reconciler.manifest.model import EngineLookup, EngineReader
from reconciler.manifest.schema import Validator, part_of, schema_text
from reconciler.manifest.schema_parts import Schema
from reconciler.model.errors import EngineError, UnknownEngine
from reconciler.model.jobs import EMPTY
from reconciler.model.json_values import same_json
from reconciler.model.places import Diagnostic

_DATA = frozenset(("const", "enum", "default", "examples"))
_NEEDS = frozenset(("required", "dependentRequired", "minProperties", "not", "if", "then", "else"))
_OF_LISTS = frozenset(("items", "prefixItems", "contains"))
_OF_NAMES = frozenset(("properties", "patternProperties", "$defs"))
_CONFIG = "config"


class EngineSchemas:
    """What a manifest may hold. `engine` is None if it is not known which engine the manifest is for.

    `whole` is the schema of a file. Raises `EngineError` if the engine has a schema that can't be used.
    """

    def __init__(self, engine: EngineReader | None, whole: Schema) -> None:
        self.engine = engine
        self.whole = whole
        if engine is not None:
            try:
                _ = self.validator
            except ValueError as fault:
                raise _unusable(engine, str(fault)) from fault

    @cached_property
    def validator(self) -> Validator:
        """The validator of a file, in which each config must be whole."""
        return Validator(self.whole)

    @cached_property
    def open_validator(self) -> Validator:
        """The validator of a file whose configs may be any mappings, since defaults may complete them."""
        return Validator({**self.whole, "$defs": {**self.whole["$defs"], _CONFIG: _base()["$defs"][_CONFIG]}})

    @cached_property
    def config_validator(self) -> Validator:
        """The validator of a whole config."""
        return Validator(part_of(self.whole, _CONFIG))

    @cached_property
    def part_validator(self) -> Validator:
        """The validator of a part of a config: what a mapping lacks is no fault."""
        return Validator(part_of(_with_relaxed_config(self.whole), _CONFIG))

    @property
    def config(self) -> Schema:
        """The schema of a config. Its references are relative to `whole`."""
        schema: Schema = self.whole["$defs"][_CONFIG]
        return schema


def schemas_of(engine: EngineReader) -> EngineSchemas:
    """Return the schemas of an engine. Raises `EngineError` if the engine has a schema that can't be used."""
    found = _OF_ENGINES.get(engine.name)
    if found is None or found.engine is not engine:
        found = _OF_ENGINES[engine.name] = EngineSchemas(engine, _for_engine(engine, {"type": "string"}))
    return found


@cache
def schemas_of_built_in() -> EngineSchemas:
    """Return the schemas that editors use, which take the engines that come with the tool together."""
    return EngineSchemas(None, json.loads(schema_text("manifest.schema.json")))


@cache
def open_schemas() -> EngineSchemas:
    """Return the schemas of which each engine's own are a part: any target and any config."""
    return EngineSchemas(None, _base())


class Choice(NamedTuple):
    """The engine that a manifest names: what it lets the manifest say, and the faults of its name.

    `home` is the document of the target; None if no document has one.
    """

    schemas: EngineSchemas
    home: Document | None = None
    faults: tuple[Diagnostic, ...] = ()


def choice_of(documents: Sequence[Document], engine_of: EngineLookup, *, is_part: bool = False) -> Choice:
    """Return the engine that the documents of a manifest choose, in whichever of them the target stands.

    A misspelled name stands for the nearest engine that comes with the tool. With `is_part`, another document may have
    the target. Raises `EngineError` if the engine has a schema that can't be used.
    """
    home = next((one for one in documents if type(one.value) is dict and "target" in one.value), None)
    name = home.block("target").get("engine") if home else None
    if home is None or type(name) is not str:
        return Choice(open_schemas() if home is None and is_part else schemas_of_built_in(), home)
    try:
        return Choice(schemas_of(engine_of(name)), home)
    except UnknownEngine as fault:
        from reconciler.model.suggestions import Suggestions

        near = Suggestions().nearest(name, engine_names())
        place = home.position(("target", "engine"))
        told = Diagnostic(place, f"engine: {fault.message}{_after(fault.message, fault.hint)}")
        return Choice(schemas_of(engine_of(near)) if near else open_schemas(), home, (told,))


def engine_names() -> Sequence[str]:
    """Return the names of the engines that come with the tool, the one for a real service first."""
    return tuple(schemas_of_built_in().whole["$defs"]["target"]["properties"]["engine"]["enum"])


def narrow(engine: EngineReader) -> Schema:
    """Return the schema of a file of a manifest for one engine, as editors use it.

    A config may lack what the engine needs, since the defaults may have it, in this file or in another one. Raises
    `EngineError` if the engine has a schema that can't be used.
    """
    schemas_of(engine)
    return _with_relaxed_config(_for_engine(engine, {"const": engine.name}))


def union(engines: Sequence[EngineReader]) -> Schema:
    """Return the schema of a file of a manifest for any of these engines, as editors use it.

    Engines with equal schemas share one form. A config may have any of the forms, since its engine may stand in another
    file, and may lack what the engine needs, as in `narrow`.
    """
    words = " ".join(f"{one.name}: {_title_of(one)}." for one in engines)
    named = {"description": words, "enum": [one.name for one in engines]}
    targets = _groups((one.name, one.target_schema) for one in engines)
    configs = _groups((one.name, _relaxed(one.config_schema)) for one in engines)
    if len(targets) == len(configs) == 1:
        return _composed(_target(targets[0][1], named, "target"), _placed(configs[0][1], _CONFIG))
    parts: dict[str, Schema] = {}
    for names, schema in targets:
        parts[f"target-{names[0]}"] = _target(schema, {"enum": names}, f"target-{names[0]}")
    for names, schema in configs:
        parts[f"{_CONFIG}-{names[0]}"] = _placed(schema, f"{_CONFIG}-{names[0]}")
    target, config = (
        {"anyOf": [{"$ref": f"#/$defs/{name}"} for name in parts if name.startswith(f"{kind}-")]}
        for kind in ("target", _CONFIG)
    )
    return _composed({**_target({}, named, "target"), **target}, config, parts)


def text_of(schema: Schema) -> str:
    """Return a schema as the text of a file."""
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


_OF_ENGINES: dict[str, EngineSchemas] = {}


@cache
def _base() -> Schema:
    # Not with `pathlib`: its import takes 7 ms, and a plan would import it for nothing else.
    with open(os.path.join(os.path.dirname(__file__), "manifest.schema.json"), encoding="utf-8") as file:
        schema: Schema = json.load(file)
    return schema


def _for_engine(engine: EngineReader, name: Schema) -> Schema:
    """Return the schema of a file for one engine. `name` is the schema of `target.engine`."""
    try:
        named = {"description": f"{engine.name}: {_title_of(engine)}.", **name}
        target = _target(engine.target_schema, named, "target")
        return _composed(target, _placed(engine.config_schema, _CONFIG))
    except (AttributeError, TypeError, ValueError) as fault:
        raise _unusable(engine, str(fault)) from fault


def _composed(target: Schema, config: Schema, parts: Schema = EMPTY) -> Schema:
    """Return the schema of all manifests with these definitions in it. The titles of the definitions stay."""
    base = _base()
    common = base["$defs"]
    made = {
        name: {**{word: common[name][word] for word in ("title", "description") if word in common[name]}, **own}
        for name, own in (("target", _untitled(target)), (_CONFIG, _untitled(config)))
    }
    return {**base, "$defs": {**common, **made, **parts}}


def _target(schema: Schema, name: Schema, where: str) -> Schema:
    """Return the schema of a `target:` block: the fields of an engine, and the name of the engine."""
    placed = _placed(schema, where)
    engine = {"title": _base()["$defs"]["target"]["properties"]["engine"]["title"], **name}
    return {
        "type": "object",
        "required": ["engine", *placed.get("required", ())],
        **{word: part for word, part in placed.items() if word not in ("type", "required", "properties")},
        "properties": {"engine": engine, **placed.get("properties", {})},
    }


def _placed(schema: Schema, where: str) -> Schema:
    """Return a schema of an engine as the definition `where` of another schema: its references lead to its own parts.

    Raises `ValueError` for a schema of another dialect of JSON Schema.
    """
    dialect = _base()["$schema"]
    if schema.get("$schema", dialect).rstrip("#") != dialect:
        raise ValueError(f"it is of the dialect {schema['$schema']}, and {dialect} is read")
    own = schema.get("$id", "")
    left = {word: part for word, part in schema.items() if word not in ("$schema", "$id")}
    made: Schema = _moved(left, own, f"#/$defs/{where}")
    return made


def _moved(part: Any, own: str, to: str) -> Any:
    """Return a part of a schema whose references begin at `to`."""
    if isinstance(part, list):
        return [_moved(item, own, to) for item in part]
    if not isinstance(part, Mapping):
        return part
    made: dict[str, Any] = {}
    for word, inner in part.items():
        if word == "$ref" and isinstance(inner, str):
            made[word] = _moved_ref(inner, own, to)
        elif word in _OF_NAMES and isinstance(inner, Mapping):
            made[word] = {name: _moved(each, own, to) for name, each in inner.items()}
        else:
            made[word] = inner if word in _DATA else _moved(inner, own, to)
    return made


def _moved_ref(ref: str, own: str, to: str) -> str:
    """Return a reference from its own document to itself as one to the definition that holds the document."""
    local = ref.removeprefix(own) or "#" if own else ref
    return to + local[1:] if local == "#" or local.startswith("#/") else ref


def _with_relaxed_config(whole: Schema) -> Schema:
    return {**whole, "$defs": {**whole["$defs"], _CONFIG: _relaxed(whole["$defs"][_CONFIG])}}


def _relaxed(part: Any) -> Any:
    """Return a schema of a config as that of a part of one: what a mapping lacks is no fault.

    Lists are not merged, so that nothing changes inside them. Of several alternatives, a part may fit more than one.
    """
    if isinstance(part, list):
        return [_relaxed(item) for item in part]
    if not isinstance(part, Mapping):
        return part
    made: dict[str, Any] = {}
    for word, inner in part.items():
        if word in _OF_NAMES and isinstance(inner, Mapping):
            made[word] = {name: _relaxed(each) for name, each in inner.items()}
        elif word not in _NEEDS:
            made[word] = inner if word in _DATA or word in _OF_LISTS else _relaxed(inner)
    if "oneOf" in made:
        made["allOf"] = [*made.get("allOf", ()), {"anyOf": made.pop("oneOf")}]
    return made


def _groups(schemas: Iterable[tuple[str, Schema]]) -> list[tuple[list[str], Schema]]:
    """Return the schemas that differ, each with the names of its engines. Titles at the top do not count."""
    found: list[tuple[list[str], Schema]] = []
    for name, schema in schemas:
        own = _untitled(schema)
        same = next((names for names, other in found if same_json(own, other)), None)
        if same is None:
            found.append(([name], own))
        else:
            same.append(name)
    return found


def _after(message: str, hint: str) -> str:
    """Return a hint as the end of a message."""
    return f" {hint[:1].upper()}{hint[1:]}" if message.endswith("?") else f"; {hint}"


def _untitled(schema: Schema) -> Schema:
    return {word: part for word, part in schema.items() if word not in ("title", "description")}


def _title_of(engine: EngineReader) -> str:
    return str(engine.target_schema.get("title", "an engine")).rstrip(".")


def _unusable(engine: EngineReader, why: str) -> EngineError:
    return EngineError(
        f"the engine {engine.name} has a schema that can't be used: {' '.join(why.split())[:300]}",
        "another version of the package that the engine comes with may have a better one",
    )
