"""The use cases that write manifest files: laying them out, asking for a run, taking over jobs. Nothing here prints."""

import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, NamedTuple

from reconciler.manifest.files import DEFAULTS, Sources, is_manifest_name
from reconciler.model.commands import command
from reconciler.model.errors import ListIncomplete, ManifestError, ReconcilerError, Refused, UnknownJob, Usage
from reconciler.model.jobs import NOT_OBSERVED, Desired, Job, Observation, Record, State, Status
from reconciler.model.places import Diagnostic, Position
from reconciler.usecases.wiring import (
    ApplyOptions,
    Place,
    World,
    located,
    manifest_paths,
    open_engine,
    open_store,
    target_of,
)

if TYPE_CHECKING:
    from reconciler.engines.port import Engine
    from reconciler.manifest import Manifest
    from reconciler.model.history import HistoryEntry
    from reconciler.rules.adoption import Found, LeftOut, Taken
    from reconciler.rules.decide import Decision


class Rewritten(NamedTuple):
    """One file of a manifest, before and after."""

    file: str
    before: bytes
    after: bytes


class LaidOut(NamedTuple):
    """The files of a manifest, laid out: those that change, and the names of those whose lines end in CRLF.

    `faults` are those of the files that are not valid, which are left as they are; None where all are valid.
    """

    changed: tuple[Rewritten, ...]
    with_crlf: tuple[str, ...]
    faults: ManifestError | None


class Rerun(NamedTuple):
    """A run that is asked for: where, by which token in place of which, and what the next plan says of it."""

    position: Position
    before: str | None
    token: str
    decision: "Decision"


class Wanted(NamedTuple):
    """Which jobs of the service's to take over: by name and id, or all that match.

    Globs are over ids and over the service's names, `statuses` over status or the service's own word;
    where several of a kind are given, one has to match. A glob that is a name itself means that name alone.
    """

    ids: Mapping[str, str]
    ids_like: Sequence[str] = ()
    names_like: Sequence[str] = ()
    statuses: Sequence[str] = ()

    def among(self, listed: Mapping[str, Observation]) -> list[tuple[str, Observation]]:
        """Those of the listed jobs that are asked for, by id."""
        from reconciler.model.globs import matcher

        is_id = matcher(self.ids_like, listed)
        is_name = matcher(self.names_like, {observed.name for observed in listed.values()})
        return [
            (job_id, observed)
            for job_id, observed in listed.items()
            if (not self.ids_like or is_id(job_id))
            and (not self.names_like or is_name(observed.name))
            and (not self.statuses or observed.status in self.statuses or observed.word in self.statuses)
        ]


class Imported(NamedTuple):
    """The end of an import: the file, the jobs that were taken over into it, and those that were left out.

    `unlisted` says why the service may have jobs that it did not list, "" where it has none.
    """

    rewritten: Rewritten
    taken: "tuple[Taken, ...]"
    left: "tuple[LeftOut, ...]"
    unlisted: str = ""


def lay_out(place: Place, *, write: bool) -> LaidOut:
    """Lay out the files of a manifest, each by itself, and write those that change where `write` says so."""
    import json

    from reconciler.manifest.files import read_sources, refuse_read_only, replace_source
    from reconciler.manifest.layout import canonical, has_crlf
    from reconciler.manifest.parse import read_file
    from reconciler.manifest.schema import schema_text

    schema = json.loads(schema_text("manifest.schema.json"))
    faults: list[Diagnostic] = []
    changed: list[Rewritten] = []
    with_crlf: list[str] = []
    for file, content in read_sources(manifest_paths(place)):
        _, faults_found = read_file(file, content)
        found = sorted(faults_found)
        faults += found
        if not found and (after := canonical(content, file, schema)) != content:
            changed.append(Rewritten(file, content, after))
        if not found and has_crlf(content):
            with_crlf.append(file)
    if write:
        for rewritten in changed:
            refuse_read_only(rewritten.file)
        for rewritten in changed:
            replace_source(rewritten.file, rewritten.after)
    return LaidOut(tuple(changed), tuple(with_crlf), ManifestError(tuple(faults)) if faults else None)


def rerun(place: Place, world: World, name: str, token: str | None, today: str) -> Rerun:
    """Ask for one more run of a job: a new `runToken` in the file that declares it. Calls nothing.

    `today` is the day in UTC, of which a token is made where none is given. A token that the manifest asks for
    already is left as it is. Raises `Refused` for a job that is not declared running, and for a token that
    would run nothing.
    """
    from reconciler.manifest.edit import set_field
    from reconciler.manifest.faults import job_fields
    from reconciler.manifest.files import read_sources, replace_source
    from reconciler.manifest.parse import parse
    from reconciler.rules.decide import decide
    from reconciler.rules.matching import Subject, match_records
    from reconciler.rules.naming import Meant

    sources = read_sources(manifest_paths(place))
    manifest = parse(sources)
    target = target_of(manifest.target, place, insecure=manifest.access.insecure)
    place = located(place, manifest.state)
    job = _declared(manifest, name)
    if job.state is not Desired.RUNNING:
        raise Refused(
            f"{manifest.position(name)}: {name} is declared {job.state}, and a runToken "
            "runs only a job that is declared running",
            "declare it `state: running`: that change runs it",
        )
    store = open_store(place, world)
    state = store.read(target)
    subject = match_records(manifest.jobs, state.jobs if state else {}).by_name[name]
    record = subject.record
    if record is not None and subject.renamed_from:
        world.tell(Meant(name, subject.renamed_from, record).remark)
    used, told = _tokens_of(record), _tokens_in(store.read_history().entries, job)
    if token is None:
        fresh = _fresh_token(today, used | told | ({job.run_token} if job.run_token else set()))
    else:
        fresh = _checked_token(name, token, used, told)
    asked = job._replace(run_token=fresh)
    edited = manifest
    if asked != job:
        file = manifest.documents[name].file
        after = set_field(dict(sources)[file], file, name, "runToken", fresh, job_fields())
        edited = parse([(each, after if each == file else content) for each, content in sources])
        _refuse_unmeant(edited, manifest, {name: asked})
        replace_source(file, after)
    position = edited.documents[name].position(("jobs", name, "runToken"), of_key=True)
    return Rerun(position, job.run_token, fresh, decide(Subject(asked, record), NOT_OBSERVED))


def take_over(place: Place, world: World, wanted: Wanted, options: ApplyOptions, *, dry_run: bool) -> Imported:
    """Write manifest entries and records for jobs that the service has. Reads them, and changes nothing there.

    The records are on disk before the entries are: an entry without a record asks for a run. With
    `dry_run` nothing is written. Raises `Usage` for a name or an id that no job can have.
    """
    from reconciler.manifest.faults import job_fault
    from reconciler.manifest.files import read_sources, refuse_read_only, replace_source
    from reconciler.manifest.parse import parse

    for name, job_id in wanted.ids.items():
        if fault := job_fault(name, {"id": job_id, "state": "running"}):
            raise Usage(f"{name}={job_id}: {fault}")
    place, sources, file, is_new = _home(place)
    manifest = parse(sources, may_be_empty=True)
    target = target_of(manifest.target, place, insecure=manifest.access.insecure)
    place = located(place, manifest.state)
    store = open_store(place, world)
    if not dry_run:
        refuse_read_only(file)
    with ExitStack() as stack:
        session = None if dry_run else stack.enter_context(store.open(target, "import", options.lock_timeout_s))
        state = session.state if session else store.read(target) or State("", 0, target, {})
        with open_engine(target, manifest.access, place, world, options) as engine:
            found, unlisted = _found(engine, wanted, manifest, state, options.parallelism)
        rewritten, taken, left = _entries(found, sources, file, manifest, state)
        if session is not None and taken:
            if not is_new and read_sources([file])[0][1] != rewritten.before:
                raise ReconcilerError(f"{file} was changed meanwhile: nothing is imported", "import again")
            session.move({job.recorded_as: job.name for job in taken if job.recorded_as not in ("", job.name)})
            session.put_all({job.name: job.record for job in taken}, "import")
            try:
                replace_source(file, rewritten.after)
            except ReconcilerError as error:
                error.hint = "the records are in the state: once the file can be written, import again"
                raise
    return Imported(rewritten._replace(before=b"") if is_new else rewritten, tuple(taken), tuple(left), unlisted)


def _home(place: Place) -> tuple[Place, Sources, str, bool]:
    """The manifest's files, the one that new entries go to, and whether that is new.

    It is the first path; in a folder its one file, else imported.yaml. Raises `ReconcilerError` for a new one
    where neither other files nor --endpoint say which service it is for: the path may be a mistyped one.
    """
    from reconciler.manifest.files import default_paths, files_at, read_sources

    paths = place.paths or (tuple(default_paths(".")) if any(map(os.path.exists, DEFAULTS)) else DEFAULTS[:1])
    first, *others = paths
    if os.path.isdir(first):
        own = files_at(first)
        file = own[0] if len(own) == 1 else os.path.join(first, "imported.yaml")
        is_new = file not in own
        sources = read_sources(paths if own else others)
    else:
        file = first
        is_new = is_manifest_name(first) and not os.path.lexists(first)
        sources = read_sources(others if is_new else paths)
    if is_new and not sources and not place.endpoint:
        raise ReconcilerError(
            f"{file} is not there, and nothing says which service a new manifest would be for",
            "check the path; for a new manifest name the service: --endpoint URL",
        )
    if is_new:
        sources.append((file, _opening(place, with_target=not sources).encode()))
    return place._replace(paths=paths), sources, file, is_new


def _opening(place: Place, *, with_target: bool) -> str:
    """How a new file of a manifest begins."""
    from reconciler.manifest.layout import scalar

    target = ""
    if with_target:
        endpoint = f"  endpoint: {scalar(place.endpoint)}\n" if place.endpoint else ""
        target = f"\ntarget:\n  engine: bytenite\n{endpoint}"
    return f"apiVersion: reconciler/v1\n{target}"


def _found(
    engine: "Engine", wanted: Wanted, manifest: "Manifest", state: State, parallelism: int
) -> "tuple[list[Found], str]":
    """The jobs that are asked for, as they are now, and why some may be missing among them, "" where none is.

    Those that are taken over already are left out.
    """
    from reconciler.apply.observe import observe_jobs
    from reconciler.host.threads import map_in_order
    from reconciler.manifest.faults import job_fault
    from reconciler.rules.adoption import Found, named

    ids = {name: job_id for name, job_id in wanted.ids.items() if not _is_taken(name, job_id, manifest, state)}
    unlisted = ""
    if wanted.ids:
        jobs = list(observe_jobs(engine, list(ids.values()), parallelism).items())
    else:
        declared = {job.id for job in manifest.jobs.values()}
        listed: dict[str, Observation] = {}
        try:
            listed.update(engine.observe_all())  # what came before the list broke off stays
        except ListIncomplete as fault:
            unlisted = fault.message
        jobs = [
            (job_id, observed)
            for job_id, observed in wanted.among(listed)
            if job_id not in declared and observed.status is not Status.MISSING
        ]
    # A list may tell less of a job than the job itself does.
    whole = map_in_order(lambda job: engine.observe(job[0]) if job[1].config is None else job[1], jobs, parallelism)
    jobs = [(job_id, observed) for (job_id, _), observed in zip(jobs, whole, strict=True)]
    if wanted.ids:
        observed_as = dict(jobs)
        return [Found(name, job_id, observed_as[job_id]) for name, job_id in ids.items()], ""
    found = named(jobs, manifest.jobs, state.jobs, lambda name: not job_fault(name, {"state": "running"}))
    return list(found), unlisted


def _is_taken(name: str, job_id: str, manifest: "Manifest", state: State) -> bool:
    """Whether a job is declared and recorded by this name."""
    job, record = manifest.jobs.get(name), state.jobs.get(name)
    return job is not None and record is not None and job.id == record.id == job_id


def _entries(
    found: "list[Found]", sources: Sources, file: str, manifest: "Manifest", state: State
) -> "tuple[Rewritten, list[Taken], list[LeftOut]]":
    """The file with entries for the jobs that can be taken over, and the others.

    An entry means what the manifest's defaults make of it, so it is read back before it is judged.
    """
    from reconciler.manifest.edit import add_jobs
    from reconciler.manifest.faults import job_fault
    from reconciler.manifest.parse import parse
    from reconciler.rules.adoption import LeftOut, Taken, settled, take

    before = dict(sources)[file]
    taken, left = take(found, manifest.jobs, state.jobs, job_fault)
    while taken:
        after = add_jobs(before, file, {job.name: job.fields for job in taken})
        edited = parse([(each, after if each == file else content) for each, content in sources])
        judged = [settled(job, edited.jobs[job.name]) for job in taken]
        kept = [job for job in judged if isinstance(job, Taken)]
        if kept == taken:
            _refuse_unmeant(edited, manifest, {job.name: edited.jobs[job.name] for job in taken})
            return Rewritten(file, before, after), taken, left
        left += [job for job in judged if isinstance(job, LeftOut)]
        taken = kept
    return Rewritten(file, before, before), [], left


def _refuse_unmeant(edited: "Manifest", before: "Manifest", jobs: Mapping[str, Job]) -> None:
    """Raise `ReconcilerError` unless a manifest differs from the one before in these jobs alone."""
    same = (edited.target, edited.guards, _url(edited)) == (before.target, before.guards, _url(before))
    if not same or dict(edited.jobs) != {**before.jobs, **jobs}:
        raise ReconcilerError("the edit would change more than these jobs: nothing is written")


def _url(manifest: "Manifest") -> str:
    return manifest.state.url if manifest.state else ""


def _declared(manifest: "Manifest", name: str) -> Job:
    """The job of a name. Raises `ReconcilerError` where there is none."""
    if name in manifest.jobs:
        return manifest.jobs[name]
    from reconciler.model.suggestions import Suggestions

    near = Suggestions().nearest(name, manifest.jobs)
    raise UnknownJob(
        f"no job {name} is declared",
        f"did you mean {near}?" if near else f"{command('plan', options=['--format', 'json'])} names all jobs",
    )


def _tokens_of(record: Record | None) -> set[str]:
    """The tokens that the record says were consumed, and that of a call in doubt."""
    if record is None:
        return set()
    in_doubt = record.doubt.run_token if record.doubt else None
    return {*record.run_tokens, *([] if in_doubt is None else [in_doubt])}


def _tokens_in(entries: "Iterable[HistoryEntry]", job: Job) -> set[str]:
    """The tokens by which a job was run, as far as a history tells them: the state forgets a record that is dropped."""
    import re

    found = (re.search(r'\brunToken [^"]*"([^"]+)"', entry.reason) for entry in entries if entry.id == job.id)
    return {match[1] for match in found if match}


def _fresh_token(today: str, used: set[str]) -> str:
    """The token of a day: the date, or `DATE.N`, where N is higher than that of each token of the day so far."""
    numbers = []
    for token in used:
        date, dot, number = token.partition(".")
        if date == today and (not dot or (number.isascii() and number.isdecimal())):
            numbers.append(int(number) if dot else 1)
    return f"{today}.{max(numbers) + 1}" if numbers else today


def _checked_token(name: str, token: str, used: set[str], told: set[str]) -> str:
    from reconciler.manifest.faults import job_fault

    if fault := job_fault(name, {"state": "running", "runToken": token}):
        raise Usage(f"--token: {fault}")
    if token in used:
        raise Refused(
            f"{name} has used the runToken {token} already: it would run nothing", "give another one, or none"
        )
    if token in told:
        raise Refused(f"the history tells of a run of {name} by the runToken {token}", "give another one, or none")
    return token
