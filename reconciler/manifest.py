"""Text to manifest: what is desired, every value knowing its place."""

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import cache, partial
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

from reconciler.diagnostics import Diagnostic, Position
from reconciler.document import Content, Document
from reconciler.errors import MOST_DIAGNOSTICS, ManifestError
from reconciler.jobs import EMPTY, Access, Config, Desired, Job, OnConfigChange, Suspension, Target
from reconciler.memory import FORGETFUL, Memory

if TYPE_CHECKING:
    from reconciler.schemas import Check, Schema

DEFAULT_ENDPOINTS: Mapping[str, str] = {"bytenite": "https://api.bytenite.com/v1/customer", "sandbox": ""}
"""The endpoint of each engine where the manifest names none; "" is an embedded server."""

_ONCE = ("target", "state", "defaults", "guards")
"""What stands once in the whole manifest."""

_HELD_BYTES = 1 << 20
"""A longer file is read again for a place in it: its values take six times its size, and are not held."""

_MOST_CIRCLES = 100
_MOST_STEPS = 10
"""So many circles of `after` are shown, and so many steps of each."""

_DESIRED = {state.value: state for state in Desired}


class DeclaredState(NamedTuple):
    """Where a manifest says that its state lives: the text of `state:`, and the place of that text."""

    url: str
    position: Position


class Head(NamedTuple):
    """What a manifest says of itself, apart from its jobs: the service, how it is reached, and where state lives."""

    target: Target
    access: Access
    state: DeclaredState | None


class Manifest(NamedTuple):
    """What is desired of all jobs of one target.

    `jobs` is sorted by name; jobs of one config share it. `guards` holds the limits that are set, each
    a whole number or a percentage such as "10%". `state` is None where the manifest does not say where its
    state lives.
    """

    target: Target
    jobs: Mapping[str, Job]
    guards: Mapping[str, int | str]
    documents: Mapping[str, Document]
    """The file that each job stands in."""
    over: Collection[str] = ()
    """The jobs whose suspension has ended by now."""
    access: Access = Access()
    """How the target is reached; it is not part of what the manifest means."""
    state: DeclaredState | None = None

    @property
    def digest(self) -> str:
        """ "sha256:<hex>" over what is meant; comments, order and the division into files do not change it."""
        return _digest(self)

    @property
    def head(self) -> Head:
        """The part that is not about jobs."""
        return Head(self.target, self.access, self.state)

    def position(self, job: str) -> Position:
        """Where a job is declared. Raises `KeyError` for a name that the manifest does not have."""
        return self.documents[job].position(("jobs", job), of_key=True)


def parse(
    sources: Iterable[tuple[str, bytes]],
    memory: Memory = FORGETFUL,
    *,
    may_be_empty: bool = False,
) -> Manifest:
    """The manifest that these files make, given as (name, content).

    Raises `ManifestError` with every fault of every file, in the order of files and lines. A manifest without
    jobs has one, even if that is empty, unless it `may_be_empty`.
    """
    documents = []
    faults: list[Diagnostic] = []
    long: list[tuple[Document, Callable[[], Content]]] = []
    for name, content in sources:
        document, found = _read(name, content, memory)
        documents.append(document)
        faults += found
        if len(content) > _HELD_BYTES:
            long.append((document, partial(_content, name, content)))
    faults += _faults_across(documents, may_be_empty)
    if faults:
        order = {document.file: number for number, document in enumerate(documents)}
        places = [(order.get(fault.position.file, 0), fault.position.line, fault.position.column) for fault in faults]
        in_order = sorted(zip(places, faults, strict=True), key=lambda pair: pair[0])
        raise ManifestError(tuple(fault for _, fault in in_order))
    manifest = _build(documents)
    for document, read in long:
        document.let_go(read)
    return manifest


def head_of(sources: Sequence[tuple[str, bytes]], memory: Memory = FORGETFUL) -> Head:
    """The head of the manifest that these files make, whatever is wrong with the rest of them.

    Raises `ManifestError`, as `parse` does, where a fault leaves open what the head is.
    """
    try:
        return parse(sources, memory, may_be_empty=True).head
    except ManifestError:
        blocks = _blocks_in_spite_of_faults(sources, ("target", "state"))
        if blocks is None or "target" not in blocks:
            raise
        document, target = blocks["target"]
        return Head(_target(target), _access(target, document.file), _declared_in(blocks))


def ids_in_spite_of_faults(sources: Sequence[tuple[str, bytes]]) -> Mapping[str, str] | None:
    """The engine job id of each job by its name, whatever else is wrong with it; None where faults leave them open."""
    from reconciler.strict_yaml import read

    ids: dict[str, str] = {}
    for file, content in sources:
        document = read(content, file)
        if not document.whole or type(document.value) is not dict:
            return None
        for name, block in _jobs(document).items():
            job_id = block.get("id", name) if type(block) is dict else name
            if type(name) is not str or type(job_id) is not str or name in ids:
                return None
            ids[name] = job_id
    return ids if len(set(ids.values())) == len(ids) else None


def declared_state_of(sources: Sequence[tuple[str, bytes]], memory: Memory = FORGETFUL) -> DeclaredState | None:
    """Where the manifest that these files make says that its state lives, whatever else is wrong with them.

    Raises `ManifestError`, as `parse` does, where a fault leaves that open.
    """
    try:
        return parse(sources, memory, may_be_empty=True).state
    except ManifestError:
        if (blocks := _blocks_in_spite_of_faults(sources, ("state",))) is None:
            raise
        return _declared_in(blocks)


def _declared_in(blocks: "_Blocks") -> DeclaredState | None:
    if "state" not in blocks:
        return None
    document, url = blocks["state"]
    return DeclaredState(url, document.position(("state",)))


_Blocks = dict[str, tuple[Document, Any]]
"""Blocks at the top of a manifest: the file that each stands in, and its value."""


def _blocks_in_spite_of_faults(sources: Sequence[tuple[str, bytes]], names: Collection[str]) -> _Blocks | None:
    """Those of these blocks that there are, each once; None where a fault leaves it open what they say."""
    from reconciler.strict_yaml import read

    found: _Blocks = {}
    for file, content in sources:
        document = read(content, file)
        blocks = _sound_blocks(document, names) if document.whole else _blocks_of_broken(file, content, names)
        if blocks is None or found.keys() & blocks.keys():
            return None
        found |= blocks
    return found


def _sound_blocks(document: Document, names: Collection[str]) -> _Blocks | None:
    """Those of these blocks that a file holds; None where a fault stands in one of them."""
    if document.value is None:
        return {}
    if type(document.value) is not dict:
        return None
    blocks = {name: document.value[name] for name in names if name in document.value}
    starts = sorted(document.position((name,), of_key=True) for name in document.value)
    for name in blocks:
        start = document.position((name,), of_key=True)
        end = next((other for other in starts if other > start), None)
        if any(start <= fault.position and (end is None or fault.position < end) for fault in document.faults):
            return None
    alone = Document(document.file, {"apiVersion": "reconciler/v1", **blocks}, {}, lambda: document.content)
    return None if any(_faults_within(alone)) else {name: (document, value) for name, value in blocks.items()}


def _blocks_of_broken(file: str, content: bytes, names: Collection[str]) -> _Blocks | None:
    """The same for a file that is no YAML, such as one with the marks of a merge conflict.

    Its top-level blocks are told apart by their lines alone: None where a line at the margin begins anything else,
    and where one of these blocks stands between the marks of a conflict.
    """
    import re

    from reconciler.strict_yaml import read

    lines = content.decode("utf-8-sig", "replace").splitlines(keepends=True)
    keys = [(at, line) for at, line in enumerate(lines) if line[:1] not in ("", " ", "\t", "#", "\r", "\n")]
    if not keys or any(line[:1] in (" ", "\t") and line.strip() for line in lines[: keys[0][0]]):
        return None
    blocks: _Blocks = {}
    in_conflict = False
    for (at, line), end in zip(keys, [*(at for at, _ in keys[1:]), len(lines)], strict=True):
        if mark := re.match(r"<{7}|={7}|>{7}|\|{7}", line):
            in_conflict = mark[0][0] != ">"
            continue
        key = re.match(r"(apiVersion|target|state|defaults|guards|jobs)[ \t]*:(?=\s)|---\s*$", line)
        if key is None:
            return None
        name = key[1]
        if name in names:
            # Empty lines before it keep its place in the file.
            chunk = read(("\n" * at + "".join(lines[at:end])).encode(), file)
            inner = _sound_blocks(chunk, names) if chunk.whole else None
            if in_conflict or name in blocks or not inner:
                return None
            blocks |= inner
    return blocks


def _read(name: str, content: bytes, memory: Memory) -> tuple[Document, list[Diagnostic]]:
    """One file, and what is wrong with it by itself."""
    value = memory.recall("manifest", content)
    if value is not None:
        return Document(name, value, {}, partial(_content, name, content)), []
    from reconciler.strict_yaml import read

    document = read(content, name)
    faults = list(faults_in(document))
    if not faults:
        memory.remember("manifest", content, document.value)
    return document, faults


def _content(name: str, content: bytes) -> Content:
    from reconciler.strict_yaml import read_content

    return read_content(content, name)


def _build(documents: list[Document]) -> Manifest:
    """The manifest of documents without a fault."""
    once: dict[str, Any] = {}
    files: dict[str, str] = {}
    for document in documents:
        once |= {block: document.value[block] for block in _ONCE if block in document.value}
        files |= {block: document.file for block in _ONCE if block in document.value}
    target = _target(once["target"])
    access = _access(once["target"], files["target"])
    guards = {name: _whole(limit) for name, limit in sorted(once.get("guards", {}).items())}
    builder = _JobBuilder(once.get("defaults", {}))
    jobs: dict[str, Job] = {}
    homes: dict[str, Document] = {}
    for document in documents:
        declared = _jobs(document)
        homes.update(dict.fromkeys(declared, document))
        for name, block in declared.items():
            jobs[name] = builder.job(name, block)
    names = list(jobs)
    in_order = sorted(names)
    jobs = jobs if in_order == names else {name: jobs[name] for name in in_order}
    return Manifest(target, jobs, guards, homes, access=access, state=_declared_state(documents))


def _declared_state(documents: list[Document]) -> DeclaredState | None:
    """Where documents without a fault say that state lives."""
    for document in documents:
        if "state" in document.value:
            return DeclaredState(document.value["state"], document.position(("state",)))
    return None


def _target(block: Mapping[str, str]) -> Target:
    endpoint = block.get("endpoint", DEFAULT_ENDPOINTS[block["engine"]])
    if not endpoint:
        return Target(block["engine"], "")
    from reconciler.endpoints import normalize_endpoint

    return Target(block["engine"], normalize_endpoint(endpoint))


def _access(block: Mapping[str, Any], file: str) -> Access:
    """How the target is reached; paths that are relative are relative to the file that names them."""
    if not block.keys() & {"ca", "clientCertificate", "insecure"}:
        return Access()
    folder = os.path.dirname(file)
    shown = block.get("clientCertificate", "")
    pair = (shown, "") if type(shown) is str else (shown["certificate"], shown["key"])
    ca, certificate, key = [
        path if path[:1] in ("", "~") else os.path.join(folder, path) for path in (block.get("ca", ""), *pair)
    ]
    return Access(ca, certificate, key, block.get("insecure", False))


class _JobBuilder:
    """Makes jobs of their blocks, with the manifest's defaults; equal configs and labels become one object."""

    def __init__(self, defaults: Mapping[str, Any]) -> None:
        self._config = defaults.get("config", {})
        self._labels = defaults.get("labels", {})
        self._change = OnConfigChange(defaults.get("onConfigChange", OnConfigChange.RESTART))
        self._configs: dict[tuple[tuple[str, Any], ...], Config] = {}
        self._labelings: dict[tuple[tuple[str, str], ...], Mapping[str, str]] = {}

    def job(self, name: str, block: Mapping[str, Any]) -> Job:
        told = block.get
        change = told("onConfigChange")
        job = Job(
            name,
            told("id", name),
            _DESIRED[block["state"]],
            self._merged(told("config", EMPTY)),
            told("runToken"),
            OnConfigChange(change) if change else self._change,
            told("protect"),
            self._labelled(told("labels", EMPTY)),
        )
        if "after" in block or "suspend" in block or "ignore" in block:
            suspend = _suspension(block["suspend"]) if "suspend" in block else None
            return job._replace(suspend=suspend, ignore=tuple(told("ignore", ())), after=tuple(told("after", ())))
        return job

    def _merged(self, own: Config) -> Config:
        key = tuple(own.items())
        found = self._configs.get(key)
        if found is None:
            found = {field: _whole(value) for field, value in sorted({**self._config, **own}.items())}
            self._configs[key] = found
        return found

    def _labelled(self, own: Mapping[str, str]) -> Mapping[str, str]:
        key = tuple(own.items())
        found = self._labelings.get(key)
        if found is None:
            found = self._labelings[key] = dict(sorted({**self._labels, **own}.items()))
        return found


def _suspension(block: Mapping[str, str]) -> Suspension:
    until = block.get("until", "")
    return Suspension(block["reason"], until, _seconds(until)) if until else Suspension(block["reason"])


def _seconds(until: str) -> float:
    """A date or an RFC 3339 time in seconds since 1970; a date is its first second in UTC. Raises `ValueError`."""
    from datetime import UTC, datetime

    when = datetime.fromisoformat(until)
    return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()


def _whole(value: Any) -> Any:
    """A whole number as an int: JSON Schema counts 600.0 as one too."""
    return int(value) if type(value) is float else value


def _digest(manifest: Manifest) -> str:
    """A digest over every field, defaults applied; `state:` counts as it is written, whatever --state says."""
    import json

    from reconciler.digests import sha256

    target = manifest.target
    content: list[object] = [
        [target.engine, target.endpoint],
        manifest.guards,
        [_meaning(job) for job in manifest.jobs.values()],
    ]
    if manifest.state is not None:
        content.append(manifest.state.url)
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return f"sha256:{sha256(text.encode())}"


def faults_in(document: Document) -> Iterator[Diagnostic]:
    """What is wrong with one file by itself; others may be missing."""
    refused = {fault.position for fault in document.faults}
    yield from document.faults
    # What YAML refuses there says it all: what stands in its place is not judged.
    yield from (fault for fault in _faults_within(document) if fault.position not in refused)


def job_fault(name: str, fields: Mapping[str, Any]) -> str:
    """Why a job of this name and these fields can't be declared, "" where it can."""
    schema, _, name_check, job_check, _ = _checks()
    if name_check(name) and job_check(fields):
        return ""
    from reconciler.schemas import explain

    path, _, message = next(explain(schema, {"apiVersion": "reconciler/v1", "jobs": {name: fields}}))
    return ".".join(map(str, path[2:])) + (": " if path[2:] else "") + message


def job_fields() -> Sequence[str]:
    """The fields of a job, in the schema's order."""
    return tuple(_checks()[0]["$defs"]["job"]["properties"])


def _meaning(job: Job) -> list[object]:
    config, labels = dict(job.config), dict(job.labels)
    meaning: list[object] = [
        job.name,
        job.id,
        job.state,
        config,
        job.run_token,
        job.on_config_change,
        job.protect,
        labels,
    ]
    if job.suspend or job.ignore or job.after:
        suspend = [job.suspend.reason, job.suspend.until] if job.suspend else []
        meaning += [suspend, sorted(set(job.ignore)), sorted(set(job.after))]
    return meaning


def _faults_within(document: Document) -> Iterator[Diagnostic]:
    """What is wrong with one file by itself, beside its YAML."""
    if not document.whole:
        return
    if document.value is None:
        message = "is empty: remove the file, or start it with apiVersion: reconciler/v1"
        yield Diagnostic(document.position(()), message)
        return
    from reconciler.endpoints import endpoint_fault

    _, file_check, name_check, _, id_check = _checks()
    if not file_check(document.value):
        yield from _schema_faults(document)
    for name, job in _jobs(document).items():
        if type(job) is not dict:
            continue
        if "suspend" in job and (fault := _until_fault(job["suspend"])):
            yield Diagnostic(document.position(("jobs", name, "suspend", "until")), fault)
        if "id" not in job and name_check(name) and not id_check(name):
            yield Diagnostic(
                document.position(("jobs", name), of_key=True),
                f'"{name}" is no valid job id: add an id to the job, or name it with letters, digits, ".", "_" and "-"',
            )
    target = _block(document, "target")
    if type(endpoint := target.get("endpoint")) is str and (
        fault := endpoint_fault(endpoint, insecure=target.get("insecure", False) is not False)
    ):
        yield Diagnostic(document.position(("target", "endpoint")), f"the endpoint {fault}")


def _until_fault(suspend: Any) -> str:
    """Why an `until` that has the form of a time is none, such as the 30th of February; else ""."""
    try:
        if _suspend_check()(suspend):
            _suspension(suspend)
    except ValueError as fault:
        return f"until: there is no such time: {fault}"
    return ""


def _schema_faults(document: Document) -> Iterator[Diagnostic]:
    """What the schema refuses in one file.

    Only the jobs that are at fault are explained: one fault among many jobs costs little. Of a great many such jobs
    the later ones count as one fault each, as no more than the first are shown.
    """
    from reconciler.schemas import explain
    from reconciler.suggestions import Suggestions

    schema, _, name_check, job_check, _ = _checks()
    jobs, suggestion, told = _jobs(document), Suggestions(), 0
    parts = [{**document.value, "jobs": {}} if jobs else document.value]
    wrong = [name for name, job in jobs.items() if not (name_check(name) and job_check(job))]
    # Job by job: jsonschema goes through them in no order, and the same names are to be suggested each time.
    for part in chain(parts, ({"apiVersion": "reconciler/v1", "jobs": {name: jobs[name]}} for name in wrong)):
        if told >= MOST_DIAGNOSTICS:
            [name] = part["jobs"]
            yield Diagnostic(document.position(("jobs", name), of_key=True), "the job is at fault")
            continue
        for path, of_key, message in explain(schema, part, suggestion):
            told += 1
            label = "" if of_key or not path or type(path[-1]) is int else f"{path[-1]}: "
            yield Diagnostic(document.position(path, of_key), label + message)


def _faults_across(documents: list[Document], may_be_empty: bool) -> Iterator[Diagnostic]:
    """What is wrong with the files taken together."""
    blocks: dict[str, Document] = {}
    for document in documents:
        for block in _ONCE:
            if type(document.value) is dict and block in document.value:
                if block in blocks:
                    first = blocks[block].position((block,), of_key=True)
                    yield Diagnostic(
                        document.position((block,), of_key=True),
                        f'"{block}" stands once in the whole manifest: it is already at {first}',
                    )
                blocks.setdefault(block, document)
    if _any_twice(documents):
        yield from _jobs_twice(documents)
    # Where a file could not be read, nobody knows what it holds.
    if all(type(document.value) is dict for document in documents):
        yield from _order_faults(documents)
        start = Position(documents[0].file if documents else "manifest", 1, 1)
        if "target" not in blocks:
            yield Diagnostic(start, 'the manifest has no target: add "target: {engine: bytenite}" to one of its files')
        if not may_be_empty and not any("jobs" in document.value for document in documents):
            advice = 'add one under "jobs" in one of its files, or write "jobs: {}" where there are none'
            yield Diagnostic(start, f"the manifest has no jobs: {advice}")


def _order_faults(documents: list[Document]) -> Iterator[Diagnostic]:
    """Each job that another is to come after and that is not declared, and each circle."""
    ordered = {
        name: (document, job["after"])
        for document in documents
        for name, job in _jobs(document).items()
        if type(job) is dict and "after" in job and type(job["after"]) is list
    }
    if not ordered:
        return
    from itertools import islice

    from reconciler.order import circles_in
    from reconciler.suggestions import Suggestions

    declared = {name: None for document in documents for name in _jobs(document)}
    in_order, suggestion = sorted(declared), Suggestions()
    for name, (document, others) in ordered.items():
        for at, other in enumerate(others):
            if type(other) is str and other not in declared:
                place = document.position(("jobs", name, "after", at))
                yield Diagnostic(place, f'no job "{other}" is declared{suggestion(other, in_order)}')
    after = {name: [each for each in others if type(each) is str] for name, (_, others) in ordered.items()}
    for number, circle in enumerate(islice(circles_in(after), _MOST_CIRCLES + 1)):
        first, last = circle[0], circle[-1]
        document, others = ordered[last]
        what = f"what comes after itself is never run: {_steps_of(circle)}; take one of them out"
        more = "there are more circles than are shown: take those out first"
        place = document.position(("jobs", last, "after", others.index(first)))
        yield Diagnostic(place, what if number < _MOST_CIRCLES else more)


def _steps_of(circle: Sequence[str]) -> str:
    """A circle in words; of a long one its two ends."""
    steps = [f'"{name}" after "{other}"' for name, other in zip(circle, (*circle[1:], circle[0]), strict=True)]
    if len(steps) > _MOST_STEPS:
        half = _MOST_STEPS // 2
        steps[half:-half] = [f"… {len(steps) - 2 * half} more …"]
    return ", ".join(steps)


def _any_twice(documents: list[Document]) -> bool:
    """Whether a job's name or id may be declared twice; quick where, as mostly, none is."""
    names: set[str] = set()
    ids: set[str] = set()
    count = 0
    for document in documents:
        jobs = _jobs(document)
        count += len(jobs)
        names.update(jobs)
        try:
            ids.update([job.get("id", name) for name, job in jobs.items()])
        except (AttributeError, TypeError):  # a block that is no mapping, an id that is no text
            return True
    return not len(names) == len(ids) == count


def _jobs_twice(documents: list[Document]) -> Iterator[Diagnostic]:
    """Each job whose name or id is already another's."""
    names: dict[str, Document] = {}
    ids: dict[str, tuple[Document, str]] = {}
    for document in documents:
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
def _checks() -> "tuple[Schema, Check, Check, Check, Check]":
    """The schema, and the quick checks of a file, a job's name, a job, and a job's id."""
    import json

    from reconciler.schemas import compile_check, schema_text

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


@cache
def _suspend_check() -> "Check":
    from reconciler.schemas import compile_check

    schema = _checks()[0]
    return compile_check(schema["$defs"]["suspend"], schema)
