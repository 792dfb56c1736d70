"""All faults of the files of a manifest: of each file alone, and of all files together."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from itertools import chain
from typing import Any

from reconciler.manifest.build import SINGLE_BLOCKS, freeze_of
from reconciler.manifest.document import Document
from reconciler.manifest.engine_schemas import Choice, EngineSchemas, engine_names, open_schemas, schemas_of
from reconciler.manifest.kinds import FileKind, kind_of
from reconciler.manifest.model import EngineReader
from reconciler.manifest.schema import Validator, is_misspelt, part_of
from reconciler.manifest.schema_parts import Schema
from reconciler.model.config_paths import Path, path_at_start, path_text, value_at
from reconciler.model.errors import MOST_DIAGNOSTICS
from reconciler.model.jobs import Job, OnConfigChange
from reconciler.model.places import Diagnostic, Position

_MOST_CIRCLES = 100
"""The most `after` circles that are reported. One more message says that there are others."""

_MOST_STEPS = 10
"""The most steps that are shown of one circle."""


def fault_of_kind(file: str, content: bytes) -> Diagnostic | None:
    """Return the fault of a file of this tool that is not a manifest, such as a state, or None for other files."""
    kind = kind_of(content)
    if kind is None or kind is FileKind.MANIFEST:
        return None
    return Diagnostic(Position(file, 1, 1), f"this is {kind}, not a manifest; {kind.place}")


def is_of_another_tool(document: Document) -> bool:
    """Return whether a file is YAML of another tool: the file names no version of ours, and has unknown fields."""
    block = document.value
    if type(block) is not dict:
        return False
    version = block.get("apiVersion")
    if (type(version) is str and version.startswith("reconciler/")) or block.keys() & {"target", "defaults", "guards"}:
        return False
    from reconciler.model.suggestions import Suggestions

    known = tuple(_schema()["properties"])
    nearest = Suggestions().nearest
    return any(type(key) is str and key not in known and not nearest(key, known) for key in block)


def advice_for(documents: Sequence[Document]) -> str:
    """Return the advice for faults that come from several whole manifests, or "" for other faults."""
    wholes = [document.file for document in documents if type(document.value) is dict and "target" in document.value]
    if len(wholes) < 2:
        return ""
    return f"{len(wholes)} of these files each have a target, as a whole manifest has: name one, such as {wholes[0]}"


def is_sound(document: Document, choice: Choice) -> bool:
    """Return whether the schema finds no fault in a file, even if no default completes the configs of its jobs."""
    return document.whole and choice.schemas.validator.is_valid(document.value)


def faults_beside_yaml(document: Document, choice: Choice, *, sound: bool) -> Iterator[Diagnostic]:
    """Yield the faults of one file, except those that the strict reader found, and those of configs.

    A block that another file may hold is not missed here. `sound` is what `is_sound` returned.
    """
    if not document.whole:
        return
    if document.value is None:
        message = "is empty: remove the file, or start it with apiVersion: reconciler/v1"
        yield Diagnostic(document.position(()), message)
        return
    if not sound:
        yield from _schema_faults(document, choice)
    yield from _until_faults(document)
    yield from _id_faults(document)
    if document is choice.home:
        yield from _target_faults(document, choice.schemas)


def engine_faults(document: Document, jobs: Mapping[str, Job], engine: EngineReader) -> Iterator[Diagnostic]:
    """Yield a fault for each job of a document that the engine can't have. `jobs` holds all jobs by name."""
    for name in document.jobs:
        if fault := engine.job_fault(jobs[name]):
            yield Diagnostic(_field_position(document, name, path_at_start(fault)), fault)


def job_fault(name: str, fields: Mapping[str, Any], engine: EngineReader | None = None) -> str:
    """Return the first reason why a job with this name and these fields can't be declared, or "".

    The config is judged by the engine, if one is given.
    """
    schemas = schemas_of(engine) if engine else open_schemas()
    for path, _, message in schemas.validator.refusals(_with_job(name, fields)):
        return path_text(path[2:]) + (": " if path[2:] else "") + message
    return ""


def job_fields() -> Sequence[str]:
    """Return the names of a job's fields, in the order of the schema."""
    return tuple(_schema()["$defs"]["job"]["properties"])


def faults_across(documents: Sequence[Document], *, may_be_empty: bool) -> Iterator[Diagnostic]:
    """Yield the faults of all files together.

    A manifest without a `jobs` block has a fault, unless `may_be_empty` is set.
    """
    yield from _repeated_blocks(documents)
    if _may_repeat_jobs(documents):
        yield from _repeated_jobs(documents)
    # An unreadable file may hold the part that seems to be missing.
    if not all(type(document.value) is dict for document in documents):
        return
    yield from _order_faults(documents)
    yield from _rerun_faults(documents)
    start = Position(documents[0].file if documents else "manifest", 1, 1)
    if _is_missing("target", documents):
        *others, last = engine_names()
        advice = f'add "target: {{engine: NAME}}" to one of its files; NAME is {", ".join(others)} or {last}'
        yield Diagnostic(start, f"the manifest has no target: {advice}")
    if not may_be_empty and _is_missing("jobs", documents):
        advice = 'add one under "jobs" in one of its files, or write "jobs: {}" where there are none'
        yield Diagnostic(start, f"the manifest has no jobs: {advice}")


def _is_missing(block: str, documents: Sequence[Document]) -> bool:
    """Return whether no file has a block, nor an unknown field that is probably a misspelling of the block."""
    if any(block in document.value for document in documents):
        return False
    from reconciler.model.suggestions import Suggestions

    suggestion = Suggestions()
    return not any(is_misspelt(block, document.value, _schema(), _schema(), suggestion) for document in documents)


def _until_faults(document: Document) -> Iterator[Diagnostic]:
    """Yield a fault for each `until` that has the form of a time and is none, such as the 30th of February."""
    for name, job in document.jobs.items():
        if type(job) is dict and "freeze" in job and _validator("freeze").is_valid(job["freeze"]):
            try:
                freeze_of(job["freeze"])
            except ValueError as fault:
                place = document.position(("jobs", name, "freeze", "until"))
                yield Diagnostic(place, f"until: there is no such time: {fault}")


def _id_faults(document: Document) -> Iterator[Diagnostic]:
    """Yield a fault for each job name that would be the id of its job, and is not a valid id."""
    names = [name for name, job in document.jobs.items() if type(job) is dict and "id" not in job]
    is_name, is_id = _validator("jobName").is_valid, _validator("jobId").is_valid
    for name in names:
        if not is_id(name) and is_name(name):
            yield Diagnostic(
                document.position(("jobs", name), of_key=True),
                f'"{name}" is no valid job id: add an id to the job, or name it with letters, digits, ".", "_" and '
                '"-", a letter or digit first',
            )


def _target_faults(document: Document, schemas: EngineSchemas) -> Iterator[Diagnostic]:
    """Yield the faults of the target that its engine finds, and that no schema finds."""
    target = document.block("target")
    if schemas.engine is None or not schemas.validator.is_valid({"apiVersion": "reconciler/v1", "target": target}):
        return
    for field, fault in schemas.engine.target_faults(target):
        place = ("target", field) if field in target else ("target",)
        yield Diagnostic(document.position(place), f"the {field} {fault}")


def _schema_faults(document: Document, choice: Choice) -> Iterator[Diagnostic]:
    """Yield the faults that the schema finds in one file, except those inside configs, which defaults may complete.

    Only jobs with a fault are explained, so that one fault among many jobs takes little time. After `MOST_DIAGNOSTICS`
    faults, each further job counts as one fault, since no message shows more of them.
    """
    from reconciler.model.suggestions import Suggestions

    schemas = choice.schemas
    jobs, suggestion, count = document.jobs, Suggestions(), 0
    rest = {**document.value, "jobs": {}} if jobs else document.value
    if type(rest) is dict and document is not choice.home:
        rest = {block: value for block, value in rest.items() if block != "target"}  # refused as the second one
    # Each job alone: jsonschema visits jobs in no fixed order, and suggestions must not change between runs.
    alone = (_with_job(name, job) for name, job in jobs.items())
    is_valid = schemas.open_validator.is_valid
    for part in (one for one in chain([rest], alone) if not is_valid(one)):
        if count >= MOST_DIAGNOSTICS:
            [name] = part["jobs"]
            yield Diagnostic(document.position(("jobs", name), of_key=True), "the job is at fault")
            continue
        for path, of_key, message in schemas.validator.refusals(part, suggestion):
            if _is_in_config(path, document.value):
                continue
            count += 1
            label = "" if of_key or not path or type(path[-1]) is int else f"{path[-1]}: "
            yield Diagnostic(document.position(path, of_key), label + message)


def _is_in_config(path: tuple[str | int, ...], value: Any) -> bool:
    """Return whether a fault is about a config that is a mapping, or about something inside it."""
    config = path[:3] if path[:1] == ("jobs",) and path[2:3] == ("config",) else path[:2]
    if config[-1:] != ("config",) or config[0] not in ("jobs", "defaults"):
        return False
    for step in config:
        value = value[step]
    return type(value) is dict


def _with_job(name: str, fields: Any) -> dict[str, Any]:
    """Return a whole file that holds one job and nothing else."""
    return {"apiVersion": "reconciler/v1", "jobs": {name: fields}}


def _repeated_blocks(documents: Sequence[Document]) -> Iterator[Diagnostic]:
    """Yield a fault for each block in a second file if the block may stand in one file only."""
    first: dict[str, Document] = {}
    for document in documents:
        for block in SINGLE_BLOCKS:
            if type(document.value) is not dict or block not in document.value:
                continue
            if block in first:
                already = first[block].position((block,), of_key=True)
                yield Diagnostic(
                    document.position((block,), of_key=True),
                    f'"{block}" stands once in the whole manifest: it is already at {already}',
                )
            first.setdefault(block, document)


def _order_faults(documents: Sequence[Document]) -> Iterator[Diagnostic]:
    """Yield a fault for each unknown job below `after`, and for each circle of jobs that wait for each other."""
    ordered = {
        name: (document, job["after"])
        for document in documents
        for name, job in document.jobs.items()
        if type(job) is dict and "after" in job and type(job["after"]) is list
    }
    if not ordered:
        return
    from reconciler.model.suggestions import Suggestions

    declared = {name for document in documents for name in document.jobs}
    in_order, suggestion = sorted(declared), Suggestions()
    for name, (document, others) in ordered.items():
        for at, other in enumerate(others):
            if type(other) is str and other not in declared:
                place = document.position(("jobs", name, "after", at))
                yield Diagnostic(place, f'no job "{other}" is declared{suggestion(other, in_order)}')
    yield from _circles(ordered)


def _rerun_faults(documents: Sequence[Document]) -> Iterator[Diagnostic]:
    """Yield a fault for each job with a `rerunOn` of its own that does not count, because the job has no `rerun`."""
    defaults = next((document.block("defaults") for document in documents if "defaults" in document.value), {})
    for document in documents:
        for name, job in document.jobs.items():
            if type(job) is not dict or "rerunOn" not in job:
                continue
            policy = job.get("onConfigChange", defaults.get("onConfigChange", OnConfigChange.RESTART))
            if policy in set(OnConfigChange) - {OnConfigChange.RERUN}:
                place = document.position(("jobs", name, "rerunOn"), of_key=True)
                advice = "let the job have onConfigChange: rerun, or take rerunOn out"
                yield Diagnostic(place, f"rerunOn does not count with onConfigChange: {policy}; {advice}")


def _circles(ordered: Mapping[str, tuple[Document, list[Any]]]) -> Iterator[Diagnostic]:
    """Yield a fault for each circle of jobs that wait for each other.

    `ordered` holds each job's file and its `after`.
    """
    from itertools import islice

    from reconciler.rules.circles import circles_in

    after = {name: [each for each in others if type(each) is str] for name, (_, others) in ordered.items()}
    for number, circle in enumerate(islice(circles_in(after), _MOST_CIRCLES + 1)):
        first, last = circle[0], circle[-1]
        document, others = ordered[last]
        what = f"what comes after itself is never run: {_steps_of(circle)}; take one of them out"
        more = "there are more circles than are shown: take those out first"
        place = document.position(("jobs", last, "after", others.index(first)))
        yield Diagnostic(place, what if number < _MOST_CIRCLES else more)


def _steps_of(circle: Sequence[str]) -> str:
    """Return a circle in words, without the middle of a long circle."""
    steps = [f'"{name}" after "{other}"' for name, other in zip(circle, (*circle[1:], circle[0]), strict=True)]
    if len(steps) > _MOST_STEPS:
        half = _MOST_STEPS // 2
        steps[half:-half] = [f"… {len(steps) - 2 * half} more …"]
    return ", ".join(steps)


def _may_repeat_jobs(documents: Sequence[Document]) -> bool:
    """Return whether two jobs may have the same name or id. False is certain, and quickly found."""
    names: set[str] = set()
    ids: set[str] = set()
    count = 0
    for document in documents:
        count += len(document.jobs)
        names.update(document.jobs)
        try:
            ids.update([job.get("id", name) for name, job in document.jobs.items()])
        except (AttributeError, TypeError):  # the block of a job is not a mapping, or an id is not text
            return True
    return not len(names) == len(ids) == count


def _repeated_jobs(documents: Sequence[Document]) -> Iterator[Diagnostic]:
    """Yield a fault for each job whose name or id another job has already."""
    names: dict[str, Document] = {}
    ids: dict[str, tuple[Document, str]] = {}
    for document in documents:
        for name, job in document.jobs.items():
            if name in names:
                first = names[name].position(("jobs", name), of_key=True)
                yield Diagnostic(
                    document.position(("jobs", name), of_key=True),
                    f'the job "{name}" is already declared at {first}: rename or remove one of the two',
                )
                continue
            names[name] = document
            job_id = job.get("id", name) if type(job) is dict else name
            if type(job_id) is not str:
                continue
            if job_id in ids:
                yield _same_id(document, name, job_id, *ids[job_id])
            ids.setdefault(job_id, (document, name))


def _same_id(document: Document, name: str, job_id: str, other_document: Document, other: str) -> Diagnostic:
    """Return the fault of the second of two jobs with one id.

    The fault stands at its id, or at its name without an id.
    """
    return Diagnostic(
        _id_position(document, name),
        f'the id "{job_id}" is already that of "{other}" at {_id_position(other_document, other)}: '
        "one engine job is declared once",
    )


def _field_position(document: Document, name: str, path: Path) -> Position:
    """Return the position of a field of a config, or of what is left of its path where another place holds the field.

    A default or a file of `batch` may hold it. A path that leads elsewhere has the position of the job's id.
    """
    field: Path = ("jobs", name)
    for step in path if path[:1] == ("config",) else ():
        if not value_at((*field, step), document.value):
            break
        field = (*field, step)
    return document.position(field, of_key=True) if len(field) > 2 else _id_position(document, name)


def _id_position(document: Document, name: str) -> Position:
    if "id" in document.value["jobs"][name]:
        return document.position(("jobs", name, "id"))
    return document.position(("jobs", name), of_key=True)


def _schema() -> Schema:
    return open_schemas().whole


@cache
def _validator(part: str = "") -> Validator:
    """Return the validator of a whole file, or of the part of the schema that has this name below `$defs`."""
    return Validator(part_of(_schema(), part) if part else _schema())
