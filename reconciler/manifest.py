"""Text to manifest: what is desired, every value knowing its place."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import Any, NamedTuple

from reconciler.diagnostics import Diagnostic, Position
from reconciler.endpoints import endpoint_fault, normalize_endpoint
from reconciler.errors import ManifestError
from reconciler.jobs import Config, Desired, Job, OnConfigChange, Target
from reconciler.schemas import Check, Schema, compile_check, explain, schema_text
from reconciler.strict_yaml import Document, read

DEFAULT_ENDPOINTS: Mapping[str, str] = {"bytenite": "https://api.bytenite.com/v1/customer", "sandbox": ""}
"""The endpoint of each engine where the manifest names none; "" is an embedded server."""

_ONCE = ("target", "defaults", "guards")
"""What stands once in the whole manifest."""


class Manifest(NamedTuple):
    """What is desired of all jobs of one target.

    `jobs` is sorted by name. `guards` holds the limits that are set, each a whole number or a
    percentage such as "10%". `digest` is "sha256:<hex>" over what the manifest means: comments,
    order and the division into files do not change it.
    """

    target: Target
    jobs: Mapping[str, Job]
    guards: Mapping[str, int | str]
    digest: str
    documents: Mapping[str, Document]
    """The file that each job stands in."""

    def position(self, job: str) -> Position:
        """Where a job is declared. Raises `KeyError` for a name that the manifest does not have."""
        return self.documents[job].position(("jobs", job), of_key=True)


def parse(sources: Iterable[tuple[str, bytes]]) -> Manifest:
    """The manifest that these files make, given as (name, content).

    Raises `ManifestError` with every fault of every file, in the order of files and lines.
    """
    documents = [read(content, name) for name, content in sources]
    faults = [*_faults_across(documents)]
    for document in documents:
        refused = {fault.position for fault in document.faults}
        faults += document.faults
        # What YAML refuses there says it all: what stands in its place is not judged.
        faults += (fault for fault in _faults_within(document) if fault.position not in refused)
    if faults:
        order = {document.file: number for number, document in enumerate(documents)}
        places = [(order.get(fault.position.file, 0), fault.position.line, fault.position.column) for fault in faults]
        in_order = sorted(zip(places, faults, strict=True), key=lambda pair: pair[0])
        raise ManifestError(tuple(fault for _, fault in in_order))
    return _build(documents)


def _build(documents: list[Document]) -> Manifest:
    """The manifest of documents without a fault."""
    once: dict[str, Any] = {}
    for document in documents:
        once |= {block: document.value[block] for block in _ONCE if block in document.value}
    target = _target(once["target"])
    defaults = once.get("defaults", {})
    guards = {name: _whole(limit) for name, limit in sorted(once.get("guards", {}).items())}
    declared = {name: (job, document) for document in documents for name, job in _jobs(document).items()}
    jobs = {name: _job(name, declared[name][0], defaults) for name in sorted(declared)}
    homes = {name: declared[name][1] for name in jobs}
    return Manifest(target, jobs, guards, _digest(target, guards, jobs), homes)


def _target(block: Mapping[str, str]) -> Target:
    endpoint = block.get("endpoint", DEFAULT_ENDPOINTS[block["engine"]])
    return Target(block["engine"], normalize_endpoint(endpoint) if endpoint else "")


def _job(name: str, block: Mapping[str, Any], defaults: Mapping[str, Any]) -> Job:
    change = block.get("onConfigChange") or defaults.get("onConfigChange")
    return Job(
        name=name,
        id=block.get("id", name),
        state=Desired(block["state"]),
        config=_config(defaults.get("config", {}), block.get("config", {})),
        run_token=block.get("runToken"),
        on_config_change=OnConfigChange(change) if change else OnConfigChange.RESTART,
        protect=block.get("protect", False),
        labels=dict(sorted({**defaults.get("labels", {}), **block.get("labels", {})}.items())),
    )


def _config(default: Config, own: Config) -> Config:
    return {field: _whole(value) for field, value in sorted({**default, **own}.items())}


def _whole(value: Any) -> Any:
    """A whole number as an int: JSON Schema counts 600.0 as one too."""
    return int(value) if type(value) is float else value


def _digest(target: Target, guards: Mapping[str, int | str], jobs: Mapping[str, Job]) -> str:
    """A digest over every field, defaults applied."""
    content = [
        [target.engine, target.endpoint],
        guards,
        [
            [job.name, job.id, job.state, job.config, job.run_token, job.on_config_change, job.protect, job.labels]
            for job in jobs.values()
        ],
    ]
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def _faults_within(document: Document) -> Iterator[Diagnostic]:
    """What is wrong with one file by itself, beside its YAML."""
    if not document.whole:
        return
    if document.value is None:
        message = "is empty: remove the file, or start it with apiVersion: reconciler/v1"
        yield Diagnostic(document.position(()), message)
        return
    schema, file_check, name_check, job_check, id_check = _checks()
    if not file_check(document.value):
        for path, of_key, message in explain(schema, _without_valid_jobs(document, name_check, job_check)):
            label = "" if of_key or not path or type(path[-1]) is int else f"{path[-1]}: "
            yield Diagnostic(document.position(path, of_key), label + message)
    for name, job in _jobs(document).items():
        if type(job) is dict and "id" not in job and name_check(name) and not id_check(name):
            yield Diagnostic(
                document.position(("jobs", name), of_key=True),
                f'"{name}" is no valid job id: add an id to the job, or name it with letters, digits, ".", "_" and "-"',
            )
    target = _block(document, "target")
    if type(endpoint := target.get("endpoint")) is str and (fault := endpoint_fault(endpoint)):
        yield Diagnostic(document.position(("target", "endpoint")), f"the endpoint {fault}")


def _without_valid_jobs(document: Document, name_check: Check, job_check: Check) -> Any:
    """The document with those jobs alone that are to be explained: one fault among many jobs costs little."""
    jobs = _jobs(document)
    if not jobs:
        return document.value
    return {
        **document.value,
        "jobs": {name: job for name, job in jobs.items() if not (name_check(name) and job_check(job))},
    }


def _faults_across(documents: list[Document]) -> Iterator[Diagnostic]:
    """What is wrong with the files taken together."""
    blocks: dict[str, Position] = {}
    names: dict[str, Document] = {}
    ids: dict[str, tuple[Document, str]] = {}
    for document in documents:
        for block in _ONCE:
            if type(document.value) is dict and block in document.value:
                place = document.position((block,), of_key=True)
                if block in blocks:
                    yield Diagnostic(
                        place, f'"{block}" stands once in the whole manifest: it is already at {blocks[block]}'
                    )
                blocks.setdefault(block, place)
        for name, job in _jobs(document).items():
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
    # Where a file could not be read, nobody knows what it holds.
    if all(type(document.value) is dict for document in documents):
        start = Position(documents[0].file if documents else "manifest", 1, 1)
        if "target" not in blocks:
            yield Diagnostic(start, 'the manifest has no target: add "target: {engine: bytenite}" to one of its files')
        if all(document.value.get("jobs", {}) == {} for document in documents):
            yield Diagnostic(start, 'the manifest has no jobs: add one under "jobs" in one of its files')


def _same_id(document: Document, name: str, job_id: str, other_document: Document, other: str) -> Diagnostic:
    """Two jobs of one id: the second is at fault, at its id or, where it has none, at its name."""
    return Diagnostic(
        _id_position(document, name),
        f'the id "{job_id}" is already that of "{other}" at {_id_position(other_document, other)}: '
        "one engine job is declared once",
    )


def _id_position(document: Document, name: str) -> Position:
    if "id" in document.value["jobs"][name]:
        return document.position(("jobs", name, "id"))
    return document.position(("jobs", name), of_key=True)


def _jobs(document: Document) -> Mapping[str, Any]:
    """The jobs of a file that may be at fault."""
    return _block(document, "jobs")


def _block(document: Document, name: str) -> Mapping[str, Any]:
    """A mapping at the top of a file that may be at fault; empty where it is none."""
    block = document.value.get(name) if type(document.value) is dict else None
    return block if type(block) is dict else {}


@cache
def _checks() -> tuple[Schema, Check, Check, Check, Check]:
    """The schema, and the quick checks of a file, a job's name, a job, and a job's id."""
    schema: Schema = json.loads(schema_text("manifest.schema.json"))
    parts = schema["$defs"]
    name, job, job_id = parts["jobName"], parts["job"], parts["job"]["properties"]["id"]
    return (
        schema,
        compile_check(schema),
        compile_check(name, schema),
        compile_check(job, schema),
        compile_check(job_id, schema),
    )
