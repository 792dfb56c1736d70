"""`reconciler import`: manifest entries and records for jobs that the service has already."""

import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from reconciler.manifest.files import DEFAULTS, is_manifest_name
from reconciler.model.errors import ListIncomplete, ReconcilerError, Usage
from reconciler.model.jobs import Desired, Job, Observation, State, Status
from reconciler.usecases.engines import Pace, plugin_for
from reconciler.usecases.manifest_edits import Rewritten, parsed_with, refuse_other_changes
from reconciler.usecases.manifest_files import ManifestFiles
from reconciler.usecases.workspace import Workspace

if TYPE_CHECKING:
    from reconciler.engines.port import Engine, EnginePlugin
    from reconciler.manifest import Manifest
    from reconciler.rules.adoption import Adopted, Candidate, LeftOut
    from reconciler.state.session import Session
    from reconciler.usecases.place import Place


class Wanted(NamedTuple):
    """The jobs to import: engine job ids by name, or all jobs of the service that match.

    `ids_like` are globs over engine job ids, and `names_like` over the names at the service. `statuses` are compared
    with the status and with the service's own word for it. A job must match one item of each list that is not empty.
    A glob that equals a name matches that name alone. Of all jobs, those that another program owns are left to that
    program, unless `with_owned` is set. A job that is named is taken whoever owns it.
    """

    ids: Mapping[str, str]
    ids_like: Sequence[str] = ()
    names_like: Sequence[str] = ()
    statuses: Sequence[str] = ()
    with_owned: bool = False

    def among(self, listed: Mapping[str, Observation]) -> list[tuple[str, Observation]]:
        """The listed jobs that match, as (engine job id, observation)."""
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
    """The end of an import: the file, the jobs that were adopted, and the jobs that were left out.

    `owned` maps the engine job ids of the jobs that were left to their owners to those owners, in words. `unlisted`
    says why the service may have jobs that it did not list; "" if it listed all. `written` names the files that an
    import writes into the checkout. A state that is not in a file is not among them.
    """

    rewritten: Rewritten
    adopted: "tuple[Adopted, ...]"
    left: "tuple[LeftOut, ...]"
    owned: Mapping[str, str]
    unlisted: str
    written: tuple[str, ...]


class _Destination(NamedTuple):
    """The workspace of an import, the file that the entries go to, and whether that file is new."""

    workspace: Workspace
    file: str
    is_new: bool


def import_jobs(
    workspace: Workspace, wanted: Wanted, lock_timeout_s: float, *, dry_run: bool, parallelism: int = 10
) -> Imported:
    """Write manifest entries and records for jobs of the service. Reads the service, and changes nothing there.

    The records are written before the entries, since an entry without a record asks for a run. With `dry_run` nothing
    is written. Raises `Usage` for a name or an id that no job can have.
    """
    from reconciler.manifest.faults import job_fault
    from reconciler.manifest.files import refuse_read_only
    from reconciler.rules.records import noted

    for name, job_id in wanted.ids.items():
        if fault := job_fault(name, {"id": job_id, "state": "running"}):
            raise Usage(f"{name}={job_id}: {fault}")
    to = _destination(workspace)
    workspace, manifest = to.workspace, to.workspace.files.parsed
    store, target = workspace.store, workspace.head.target
    if not dry_run:
        refuse_read_only(to.file)
    with ExitStack() as stack:
        session = None if dry_run else stack.enter_context(store.open(target, "import", lock_timeout_s))
        state = session.state if session else store.read(target) or State("", 0, target, {})
        with workspace.open_engine(Pace(parallelism), state.identity) as engine:
            identity, promises = engine.identity(), engine.promises
            found, owned, unlisted = _found(engine, wanted, manifest, state, parallelism)
        rewritten, adopted, left = _entries(found, to, state)
        if session is not None and adopted:
            session.identify({**session.identity, **identity})
            noted_at = workspace.world.now()
            adopted = [one._replace(record=noted(one.record, one.observed, noted_at, promises)) for one in adopted]
            _write(session, to, rewritten, adopted)
    shown = rewritten._replace(before=b"") if to.is_new else rewritten
    return Imported(shown, tuple(adopted), tuple(left), owned, unlisted, (to.file, *_state_files(workspace)))


def _state_files(workspace: Workspace) -> tuple[str, ...]:
    """The state file and its history; none for a state that is kept elsewhere."""
    from reconciler.state.paths import paths_of

    path = workspace.home.path
    return (path, paths_of(path).history) if path else ()


def _write(session: "Session", to: _Destination, rewritten: Rewritten, adopted: "Sequence[Adopted]") -> None:
    """Write the records, then the entries. Raises `ReconcilerError` if the file was changed meanwhile."""
    from reconciler.manifest.files import read_sources, replace_source

    if not to.is_new and read_sources([to.file])[0][1] != rewritten.before:
        raise ReconcilerError(f"{to.file} was changed meanwhile: nothing is imported", "import again")
    session.move({job.recorded_as: job.name for job in adopted if job.recorded_as not in ("", job.name)})
    session.put_all({job.name: job.record for job in adopted}, "import")
    try:
        replace_source(to.file, rewritten.after)
    except ReconcilerError as error:
        hint = "the records are in the state: once the file can be written, import again"
        raise error.changed(hint=hint) from error


def _destination(workspace: Workspace) -> _Destination:
    """The file that new entries go to, and the workspace with that file.

    The file is the first path. For a folder it is the folder's only file, or else imported.yaml. Raises
    `ReconcilerError` for a new file if nothing names the service: the path may be misspelt.
    """
    from reconciler.manifest.files import default_paths, files_at, read_sources

    place = workspace.place
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
    place = place._replace(paths=paths)
    return _Destination(Workspace(place, workspace.world, files=ManifestFiles(place, sources)), file, is_new)


def _opening(place: "Place", *, with_target: bool) -> str:
    """The beginning of a new file of a manifest."""
    from reconciler.manifest.engine_schemas import engine_names
    from reconciler.manifest.layout import scalar

    target = ""
    if with_target:
        endpoint = f"  endpoint: {scalar(place.endpoint)}\n" if place.endpoint else ""
        target = f"\ntarget:\n  engine: {engine_names()[0]}\n{endpoint}"
    return f"apiVersion: reconciler/v1\n{target}"


def _found(
    engine: "Engine", wanted: Wanted, manifest: "Manifest", state: State, parallelism: int
) -> "tuple[list[Candidate], Mapping[str, str], str]":
    """The wanted jobs as they are now, without those that are adopted already.

    Also returns the owners of the jobs that are left to them, by the ids of these jobs, and why some jobs may be
    missing; "" if none is.
    """
    from reconciler.manifest.faults import job_fault
    from reconciler.rules.adoption import Candidate, candidates

    if wanted.ids:
        ids = {name: job_id for name, job_id in wanted.ids.items() if not _is_adopted(name, job_id, manifest, state)}
        listed = _with_other_states(engine.observe_many(ids.values()).items(), state.lineage)
        observed = dict(_with_config(engine, listed, parallelism))
        return [Candidate(name, job_id, observed[job_id]) for name, job_id in ids.items()], {}, ""
    jobs, unlisted = _listed(engine, wanted, manifest)
    jobs = _with_other_states(jobs, state.lineage)
    owned = {} if wanted.with_owned else {job_id: one.owned_by for job_id, one in jobs if one.owned_by}
    jobs = _with_config(engine, [job for job in jobs if job[0] not in owned], parallelism)
    found = candidates(jobs, manifest.jobs, state.jobs, lambda name: not job_fault(name, {"state": "running"}))
    return list(found), owned, unlisted


def _listed(engine: "Engine", wanted: Wanted, manifest: "Manifest") -> tuple[list[tuple[str, Observation]], str]:
    """The wanted jobs that the service lists and that are not declared, and why some jobs may be missing."""
    declared = {job.id for job in manifest.jobs.values()}
    listed: dict[str, Observation] = {}
    unlisted = ""
    try:
        listed.update(engine.observe_all())  # keeps the jobs that came before the list broke off
    except ListIncomplete as fault:
        unlisted = fault.message
    jobs = [
        (job_id, observed)
        for job_id, observed in wanted.among(listed)
        if job_id not in declared and observed.status is not Status.MISSING
    ]
    return jobs, unlisted


def _with_other_states(jobs: Iterable[tuple[str, Observation]], lineage: str) -> list[tuple[str, Observation]]:
    """The jobs, of which those that bear the lineage of another state are owned by that state."""

    def with_owner(observed: Observation) -> Observation:
        theirs = observed.marks.lineage
        if observed.owned_by or theirs in ("", lineage):
            return observed
        return observed._replace(owned_by=f"the state of lineage {theirs}")

    return [(job_id, with_owner(observed)) for job_id, observed in jobs]


def _with_config(
    engine: "Engine", jobs: list[tuple[str, Observation]], parallelism: int
) -> list[tuple[str, Observation]]:
    """The jobs, each with its config: a list may omit the config, and then the job itself is observed."""
    from reconciler.host.threads import map_in_order

    def whole(job: tuple[str, Observation]) -> Observation:
        job_id, observed = job
        return engine.observe(job_id)._replace(owned_by=observed.owned_by) if observed.config is None else observed

    return [(job_id, one) for (job_id, _), one in zip(jobs, map_in_order(whole, jobs, parallelism), strict=True)]


def _is_adopted(name: str, job_id: str, manifest: "Manifest", state: State) -> bool:
    """Whether a job is declared and recorded under this name."""
    job, record = manifest.jobs.get(name), state.jobs.get(name)
    return job is not None and record is not None and job.id == record.id == job_id


def _entries(
    found: "list[Candidate]", to: _Destination, state: State
) -> "tuple[Rewritten, list[Adopted], list[LeftOut]]":
    """The file with an entry for each job that can be adopted, those jobs, and the others.

    The defaults of the manifest change what an entry means, so each entry is parsed before it is judged.
    """
    from reconciler.manifest.edit import add_jobs
    from reconciler.rules.adoption import Adopted, LeftOut, adopt, with_empty_plan

    manifest, sources = to.workspace.files.parsed, to.workspace.files.sources
    engine = plugin_for(manifest.target)
    same_config = engine.same_config
    before = dict(sources)[to.file]
    adopted, left = adopt(found, manifest.jobs, state.jobs, partial(_fault_of, engine), same_config)
    adopted = list(map(_with_keep_for, adopted))
    while adopted:
        after = add_jobs(before, to.file, {job.name: job.fields for job in adopted})
        edited = parsed_with(sources, to.file, after)
        judged = [with_empty_plan(job, edited.jobs[job.name], same_config) for job in adopted]
        kept = [job for job in judged if isinstance(job, Adopted)]
        if kept == adopted:
            refuse_other_changes(edited, manifest, {job.name: edited.jobs[job.name] for job in adopted})
            return Rewritten(to.file, before, after), adopted, left
        left += [job for job in judged if isinstance(job, LeftOut)]
        adopted = kept
    return Rewritten(to.file, before, before), [], left


def _fault_of(engine: "EnginePlugin", name: str, fields: Mapping[str, Any]) -> str:
    """Why the manifest can't declare a job of this name with these fields; "" if it can."""
    from reconciler.manifest.faults import job_fault

    fault = job_fault(name, fields, engine=engine)
    return fault or engine.job_fault(Job(name, fields["id"], Desired(fields["state"]), fields.get("config", {})))


def _with_keep_for(adopted: "Adopted") -> "Adopted":
    """The adopted job with `keepFor` in its config.

    It says nothing of a run, so that a config without it counts as the same, but it says what becomes of later runs.
    """
    keep_for = (adopted.observed.config or {}).get("keepFor")
    if keep_for is None:
        return adopted
    config = {**adopted.record.config, "keepFor": keep_for}
    return adopted._replace(fields={**adopted.fields, "config": config}, record=adopted.record._replace(config=config))
