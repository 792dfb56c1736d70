"""The configs of jobs: the defaults of the manifest under the config of each job, judged by the schema of the engine.

A config is judged as a whole, since a job may leave out what the defaults hold. A fault stands at the line that the
value comes from.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from reconciler.manifest.document import Document
from reconciler.manifest.engine_schemas import EngineSchemas
from reconciler.manifest.schema import Refusal
from reconciler.manifest.schema_parts import fields_of, inside, is_known, may_be, with_whole_numbers
from reconciler.model.config_paths import Path, path_of, path_text
from reconciler.model.errors import MOST_DIAGNOSTICS
from reconciler.model.jobs import Config, Desired
from reconciler.model.json_values import canonical, compact
from reconciler.model.places import Diagnostic

if TYPE_CHECKING:
    from reconciler.model.suggestions import Suggestions

_PLAIN = frozenset((str, int, bool, type(None)))


class JobConfigs:
    """The config of each job, with the defaults of the manifest under it. Jobs of equal config share one object."""

    def __init__(self, documents: Sequence[Document], schemas: EngineSchemas) -> None:
        self.schemas = schemas
        self.home = next((one for one in documents if type(one.block("defaults").get("config")) is dict), None)
        self.defaults: Mapping[str, Any] = self.home.value["defaults"]["config"] if self.home else {}
        self._configs: dict[object, Config] = {}
        self._refusals: dict[object, Sequence[Refusal]] = {}

    def of(self, own: Mapping[str, Any]) -> Config:
        """Return the config of a job that says `own`, with sorted keys.

        Mappings are merged key by key, at any depth; any other value of the job takes the place of the default.
        """
        key = _key(own)
        found = self._configs.get(key)
        if found is None:
            whole = with_whole_numbers(merged(self.defaults, own), self.schemas.config, self.schemas.whole)
            found = self._configs[key] = canonical(whole)
        return found

    @cached_property
    def suggestion(self) -> "Suggestions":
        """The search for suggestions, which all faults of configs share."""
        from reconciler.model.suggestions import Suggestions

        return Suggestions()

    def refusals(self, own: Mapping[str, Any], *, runs: bool) -> Sequence[Refusal]:
        """Return the faults of the config of a job that says `own`. The paths begin inside the config.

        A job that is not to run (`runs`) may lack what the engine needs for a run.
        """
        key = runs, _key(own)
        found = self._refusals.get(key)
        if found is None:
            config = self.of(own)
            validator = self.schemas.config_validator if runs else self.schemas.part_validator
            found = () if validator.is_valid(config) else tuple(validator.refusals(config, self.suggestion))
            self._refusals[key] = found
        return found

    def refusals_of_defaults(self) -> Sequence[Refusal]:
        """Return the faults of the defaults themselves, whatever jobs put in their place.

        A job may complete the defaults, so that what they lack is no fault.
        """
        validator = self.schemas.part_validator
        if not self.defaults or validator.is_valid(self.defaults):
            return ()
        return tuple(validator.refusals(self.defaults, self.suggestion))


def merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return `over` with what it lacks of `under`. Mappings that both have are merged in the same way."""
    made = {**under, **over}
    for key, value in over.items():
        below = under.get(key)
        if isinstance(value, Mapping) and isinstance(below, Mapping):
            made[key] = merged(below, value)
    return made


_PATHS = ("ignore", "rerunOn")
"""The fields of a job, or of the defaults, that hold paths to values of the config."""


def config_faults(documents: Sequence[Document], configs: JobConfigs, sound: Collection[str]) -> Iterator[Diagnostic]:
    """Yield the faults of the configs of all jobs and of the defaults, and of the paths to values, each once.

    `sound` names the files in whose configs the schema finds no fault as long as no defaults change them.
    """
    told: set[Diagnostic] = set()
    needs_nothing = not configs.defaults and configs.schemas.config_validator.is_valid({})
    for document in documents:
        jobs = {name: job for name, job in document.jobs.items() if type(job) is dict}
        blocks: dict[tuple[str, ...], Any] = {("jobs", name): job for name, job in jobs.items()}
        blocks[("defaults",)] = document.value.get("defaults") if type(document.value) is dict else None
        for place, block in blocks.items():
            for field in (field for field in _PATHS if type(block) is dict and field in block):
                yield from _path_faults(document, (*place, field), block[field], configs)
        if document.file in sound and needs_nothing:
            continue
        for name, job in jobs.items():
            own = job.get("config", {})
            runs = job.get("state") == Desired.RUNNING
            found = configs.refusals(own, runs=runs) if type(own) is dict else ()
            if found and len(told) >= MOST_DIAGNOSTICS:
                yield Diagnostic(document.position(("jobs", name), of_key=True), "the job is at fault")
                continue
            new = {_at_its_place(refusal, document, name, configs.home): None for refusal in found}.keys() - told
            told |= new
            yield from new
    for path, of_key, message in configs.refusals_of_defaults():
        assert configs.home is not None
        fault = _diagnostic(configs.home, ("defaults", "config", *path), of_key, message)
        if fault not in told:
            yield fault


def _at_its_place(refusal: Refusal, document: Document, name: str, home: Document | None) -> Diagnostic:
    """Return a fault of a job's config at the place that the value at fault comes from: the job, or the defaults."""
    path, of_key, message = refusal
    own = ("jobs", name, "config", *path)
    if _has(document.value, own):
        return _diagnostic(document, own, of_key, message)
    if path and home is not None and _has(home.value, ("defaults", "config", *path)):
        return _diagnostic(home, ("defaults", "config", *path), of_key, message)
    return Diagnostic(document.position(("jobs", name), of_key=True), f"config: {message}")


def _diagnostic(document: Document, path: tuple[str | int, ...], of_key: bool, message: str) -> Diagnostic:
    label = "" if of_key or type(path[-1]) is int else f"{path[-1]}: "
    return Diagnostic(document.position(path, of_key), label + message)


def _has(value: Any, path: Sequence[str | int]) -> bool:
    """Return whether a document has a value at a path."""
    for step in path:
        is_there = step in value if type(value) is dict else type(value) is list and type(step) is int
        if not is_there or (type(value) is list and type(step) is int and step >= len(value)):
            return False
        value = value[step]
    return True


def _path_faults(
    document: Document, place: tuple[str, ...], paths: object, configs: JobConfigs
) -> Iterator[Diagnostic]:
    """Yield a fault for each path of the list at a place that leads to nothing that the engine knows."""
    schemas = configs.schemas
    for at, text in enumerate(paths if type(paths) is list else ()):
        try:
            path = path_of(text) if type(text) is str else ()
        except ValueError:
            continue
        schema: Any = schemas.config
        for number, step in enumerate(path[1:] if path[:1] == ("config",) else (), 1):
            if not may_be(schema, list if isinstance(step, int) else dict, schemas.whole):
                yield Diagnostic(document.position((*place, at)), _leads_nowhere(path, number, schema, schemas))
                break
            if not is_known(schema, step, schemas.whole):
                near = configs.suggestion.nearest(str(step), fields_of(schema, schemas.whole))
                meant = path_text((*path[:number], near, *path[number + 1 :]))
                better = f'; did you mean "{meant}"?' if near else ""
                message = f"the engine knows no {path_text(path[: number + 1])}{better}"
                yield Diagnostic(document.position((*place, at)), message)
                break
            schema = inside(schema, step, schemas.whole)


def _leads_nowhere(path: Path, number: int, schema: Any, schemas: EngineSchemas) -> str:
    """Return the words of a fault: the value at the first `number` steps of a path has no part such as the next one."""
    outer = path_text(path[:number])
    if may_be(schema, dict, schemas.whole):
        return f'{outer} has fields with names, and no items with numbers: "{outer}.NAME" names a field'
    if may_be(schema, list, schemas.whole):
        return f'{outer} has items with numbers, and no fields with names: "{outer}[0]" is its first item'
    return f'{outer} is a single value, without parts; did you mean "{outer}"?'


def _key(own: Mapping[str, Any]) -> object:
    """Return a key for a cache of configs. Python takes 1, True and 1.0 for one key, and JSON does not."""
    values = tuple(own.values())
    types = tuple(map(type, values))
    return (tuple(own), values, types) if _PLAIN.issuperset(types) else compact(own)
