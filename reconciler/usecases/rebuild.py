"""`reconciler state rebuild`: the records of a state that was lost, from what the engine's objects bear.

An object bears the lineage of its state, its run id, and digests of its config and of its run token. So a record can be
made of it, and the state goes on under its lineage: the jobs are no other owner's any more. No call is sent.

A rebuilt record never leads to a run that nobody asked for. What nothing tells counts as done: a run token of the
manifest of which no object and no history says whether it ran, and, under `onConfigChange: rerun`, a config. A run that
was aborted is recorded as aborted by someone else, so that a job that is declared `running` is held.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from reconciler.model.commands import command
from reconciler.model.errors import ListIncomplete, Refused
from reconciler.model.jobs import (
    EMPTY,
    Desired,
    Job,
    Observation,
    OnConfigChange,
    Record,
    State,
    Status,
    Verb,
    displaced_key,
    title,
)
from reconciler.usecases.engines import Pace, plugin_for
from reconciler.usecases.workspace import Workspace

if TYPE_CHECKING:
    from reconciler.engines.port import Engine
    from reconciler.manifest import Manifest
    from reconciler.model.history import HistoryEntry
    from reconciler.state.homes import CheckedStore

VERB = "rebuild"
"""The verb of the lines of the history that say which records were rebuilt."""

_MOST_EARLIER = 20
"""The most earlier runs of a job that are looked at."""


class Found(NamedTuple):
    """What a rebuild records, and what people should know before.

    `state` is the whole state from then on. `observed` maps the keys of the records that are rebuilt to the objects
    that they are made from. `remarks` are sentences about what nothing tells, and about jobs that may be missing.
    `unread` maps the names of declared jobs that can't be read to the reason. `is_there` is whether a state of this
    lineage is there already, which lacks these records.
    """

    state: State
    observed: Mapping[str, Observation]
    remarks: Sequence[str]
    unread: Mapping[str, str]
    is_there: bool


class _Seen(NamedTuple):
    """One object that bears the lineage: its job id, the job that the manifest declares, and its runs, newest first."""

    job_id: str
    job: Job | None
    runs: Sequence[Observation]


def find(workspace: Workspace, parallelism: int = 10) -> Found:
    """Look for the objects of a state that was lost. Writes nothing.

    Raises `Refused` if a state is there that records these jobs or is of another lineage, if the objects of the
    declared jobs name two lineages or none, and if the engine offers no reads.
    """
    from reconciler.rules.records import noted

    manifest = workspace.manifest
    recorded = _recorded(workspace)
    with workspace.open_engine(Pace(parallelism), recorded.identity if recorded else EMPTY) as engine:
        if not engine.promises.reads:
            raise Refused(
                f"{manifest.target} offers no reads, so nothing tells what its jobs are",
                f"bring the state back from a copy: {command('state push', 'FILE')}",
            )
        identity, promises = engine.identity(), engine.promises
        listed, unlisted = _listed(engine, {job.id for job in manifest.jobs.values()})
        lineage = _lineage_of({name: listed.get(job.id) for name, job in manifest.jobs.items()})
        _refuse_recorded(recorded, lineage, listed, workspace.state_name)
        known = {record.id for record in recorded.jobs.values()} if recorded else set()
        ids = [job_id for job_id, one in listed.items() if one.marks.lineage == lineage and job_id not in known]
        declared = {job.id: job for job in manifest.jobs.values()}
        objects = _with_earlier(engine, [_Seen(each, declared.get(each), [listed[each]]) for each in ids], parallelism)
    state = recorded or State(lineage, 0, manifest.target, {})
    names = _names(objects, state.jobs)
    now = workspace.world.now()
    records = {names[seen.job_id]: noted(_record(seen), seen.runs[0], now, promises) for seen in objects}
    state = state._replace(jobs={**state.jobs, **records}, identity={**state.identity, **identity})
    state, told = _brought_up(state, records, workspace)
    state, unknown = _with_unknown_as_done(state, {names[seen.job_id]: seen.job for seen in objects})
    unknown += (told for seen in objects for told in _untold_tokens(seen, names[seen.job_id], state.jobs))
    observed = {names[seen.job_id]: seen.runs[0] for seen in objects}
    if recorded is not None:
        told = []  # A state that is there has settled what it knows of these jobs.
    return Found(
        state, observed, [*filter(None, [unlisted]), *told, *unknown], _unread(manifest, listed), recorded is not None
    )


def record(workspace: Workspace, found: Found, lock_timeout_s: float) -> State:
    """Record what was found. Returns the state as it is then. Raises as `Store.put` and `Store.open` do."""
    store, target = _store(workspace, []), workspace.head.target
    if not found.is_there:
        store.put(found.state, target, lock_timeout_s)
    with store.open(target, "state rebuild", lock_timeout_s) as session:
        if session.lineage != found.state.lineage:
            raise Refused(
                f"{store.where} is of lineage {session.lineage} by now: nothing was rebuilt",
                f"{command('plan', options=['--refresh'])} shows what the service says of these jobs",
            )
        session.identify({**session.identity, **found.state.identity})
        rebuilt = {key: found.state.jobs[key] for key in found.observed}
        # Another command may have been at work since the state was put in place.
        rebuilt = {key: one for key, one in rebuilt.items() if session.record_of(key) in (None, one)}
        session.put_all(rebuilt, VERB, "the state was lost, and this is what the object of the run bears")
    return store.read(target) or found.state


def _store(workspace: Workspace, losses: list[str]) -> "CheckedStore":
    """The store of the state, which may be empty. What shows that a state was lost is added to `losses`."""
    home = workspace.home._replace(named_by="--state")
    named = Workspace(workspace.place, workspace.world, files=workspace.files, home=home)
    return named.stores.open(losses.append)


def _recorded(workspace: Workspace) -> State | None:
    """The state that is there. Without one, raises `Refused` if another state nearby may have these jobs."""
    target = workspace.manifest.target
    losses: list[str] = []
    state = _store(workspace, losses).read(target)
    return state if state is not None or losses else workspace.store.read(target)


def _listed(engine: "Engine", declared: Collection[str]) -> tuple[Mapping[str, Observation], str]:
    """The jobs of the service, at least those with these engine job ids, and a sentence if others may be missing."""
    listed: dict[str, Observation] = {}
    unlisted = ""
    if engine.promises.lists:
        try:
            listed.update(engine.observe_all())  # keeps the jobs that came before the list broke off
        except ListIncomplete as fault:
            unlisted = f"{fault.message}: a job that is no longer declared may be left without a record"
    listed.update(engine.observe_many([job_id for job_id in sorted(declared) if job_id not in listed]))
    return listed, unlisted


def _unread(manifest: "Manifest", listed: Mapping[str, Observation]) -> Mapping[str, str]:
    """The names of the declared jobs that can't be read, with the reason."""
    found = {name: listed[job.id] for name, job in manifest.jobs.items() if job.id in listed}
    return {name: one.detail for name, one in found.items() if one.status is Status.UNREADABLE}


def _lineage_of(declared: Mapping[str, Observation | None]) -> str:
    """The one lineage that the objects of the declared jobs bear. `declared` is by the names of the jobs."""
    bearers: dict[str, str] = {}
    for name, observed in declared.items():
        if observed is not None and observed.marks.lineage:
            bearers.setdefault(observed.marks.lineage, name)
    if not bearers:
        raise Refused(
            "no object of a declared job bears the lineage of a state, so there is nothing to rebuild",
            f"{command('import', 'NAME=ID')} takes over jobs that the service has",
        )
    if len(bearers) > 1:
        (one, first), (other, second), *_ = bearers.items()
        raise Refused(
            f"the objects of the declared jobs bear two lineages: {one} ({first}) and {other} ({second})",
            "the jobs of one of them belong to another state: take them out of the manifest, or give them another "
            f"`id:`, and again; or take jobs over one by one: {command('import', 'NAME=ID')}",
        )
    return next(iter(bearers))


def _refuse_recorded(recorded: State | None, lineage: str, listed: Mapping[str, Observation], where: str) -> None:
    """Raise `Refused` if the state that is there is of another lineage, or records all these jobs."""
    if recorded is None:
        return
    if recorded.lineage != lineage:
        raise Refused(
            f"{where} is a state of lineage {recorded.lineage}, and the objects bear {lineage}",
            "take the jobs out of the manifest and over into this state, without a call: "
            f"{command('import', 'NAME=ID')}; or rebuild the lost state at its own place: "
            f"{command('state rebuild', options=['--state', 'PATH'])}",
        )
    known = {record.id for record in recorded.jobs.values()}
    if not any(one.marks.lineage == lineage and job_id not in known for job_id, one in listed.items()):
        raise Refused(
            f"{where} records these jobs, so there is nothing to rebuild",
            f"{command('plan', options=['--refresh'])} shows what the service says of them",
        )


def _with_earlier(engine: "Engine", objects: Sequence[_Seen], parallelism: int) -> list[_Seen]:
    """The objects of declared jobs with their earlier runs, which tell what has run: run tokens and configs."""
    from reconciler.host.threads import map_in_order
    from reconciler.rules.runs import number_of, run_id

    def earlier(seen: _Seen) -> _Seen:
        (newest,) = seen.runs
        if seen.job is None:
            return seen
        number = number_of(newest.run_id, seen.job_id)
        numbers = range(number - 1, max(0, number - 1 - _MOST_EARLIER), -1)
        runs = [engine.observe(seen.job_id, run_id(seen.job_id, each)) for each in numbers]
        return seen._replace(runs=[newest, *(one for one in runs if one.marks.lineage == newest.marks.lineage)])

    return list(map_in_order(earlier, objects, parallelism))


def _names(objects: Sequence[_Seen], recorded: Collection[str]) -> Mapping[str, str]:
    """The key of each record, by engine job id: the declared name, else the id, or the key of a displaced record."""
    names = {seen.job_id: seen.job.name for seen in objects if seen.job is not None}
    used = {*names.values(), *recorded}
    for seen in objects:
        if seen.job is None:
            job_id = seen.job_id
            names[job_id] = displaced_key(job_id, job_id) if job_id in used else job_id
    return names


def _record(seen: _Seen) -> Record:
    """The record of the newest run of an object, as if this tool had just run it."""
    from reconciler.rules.records import adopted
    from reconciler.rules.runs import digests

    job, observed = seen.job, seen.runs[0]
    config = observed.config
    token = None
    if job is not None and digests(job.config, None).config_digest == observed.marks.config_digest:
        config = job.config
    if job is not None and job.run_token is not None and any(_bears(run, job.run_token) for run in seen.runs):
        token = job.run_token
    if config is None:
        config = job.config if job is not None else {}
    protect = job.protect if job is not None else None
    made = Job(seen.job_id, seen.job_id, Desired.RUNNING, config, token, protect=protect)
    after = adopted(made, None, Verb.RUN, observed, config)
    return after._replace(ran_configs=after.ran_configs | set(_ran_before(seen)))


def _ran_before(seen: _Seen) -> Iterator[str]:
    from reconciler.rules.reruns import text_of

    return (text_of(run.config) for run in seen.runs[1:] if run.config is not None)


def _bears(observed: Observation, token: str) -> bool:
    from reconciler.rules.runs import digests

    return observed.marks.token_digest == digests({}, token).token_digest


def _brought_up(state: State, rebuilt: Collection[str], workspace: Workspace) -> tuple[State, list[str]]:
    """The state with what the history knows, at a serial that no state of its lineage had, and remarks.

    `rebuilt` are the keys of the records that were made from objects. The run tokens and configs of all runs that the
    history tells of are consumed, and so are the numbers of these runs. A job without an object gets a record, too.
    """
    from reconciler.host.disk import OsDisk
    from reconciler.state.history import run_counts
    from reconciler.state.marks import HighWaterMarks
    from reconciler.state.rollback import brought_up, unknown_to_new

    entries: Sequence[HistoryEntry] = _store(workspace, []).read_history().entries
    serials = [entry.serial for entry in entries if entry.lineage == state.lineage]
    marks = HighWaterMarks(OsDisk(), workspace.world.state_folder)
    serial = max([state.serial, marks.serial_of(state.lineage), *serials]) + 1
    # Without its counts, the state lacks each run that the history tells of.
    uncounted = state._replace(last={})
    after, _ = brought_up(uncounted, unknown_to_new(uncounted, entries))
    jobs = dict(after.jobs)
    for key in rebuilt:
        if jobs[key].run == state.jobs[key].run:
            # The object shows that this run was carried out, whatever the line of the history says.
            jobs[key] = jobs[key]._replace(doubt=None)
    last: dict[str, int] = {}
    runs = {one.id: one.run for one in jobs.values() if one.run}
    for counts in (state.last, after.last, run_counts(entries), runs):
        last.update({job_id: max(run, last.get(job_id, 0)) for job_id, run in counts.items()})
    told = [
        f"{title(key)}: the service has no object of it, and the history tells of its run {jobs[key].run}, which is "
        "recorded without an end"
        for key in jobs.keys() - state.jobs.keys()
    ]
    return after._replace(jobs=jobs, serial=serial, last=last), sorted(told)


def _with_unknown_as_done(state: State, declared: Mapping[str, Job | None]) -> tuple[State, list[str]]:
    """The state, in which what the manifest asks for counts as done where nothing tells, and a sentence on each.

    `declared` maps the keys of the rebuilt records to the jobs of the manifest.
    """
    from reconciler.rules.reruns import has_run_whole, text_of

    same, again = plugin_for(state.target).same_config, "a new runToken runs the job again"
    jobs, remarks = dict(state.jobs), list[str]()
    for key, job in declared.items():
        if job is None:
            continue
        record, name = jobs[key], title(key)
        if job.run_token is not None and job.run_token not in record.run_tokens:
            jobs[key] = record = record._replace(run_tokens=record.run_tokens | {job.run_token})
            token = f'its runToken "{job.run_token}"'
            remarks.append(f"{name}: nothing tells whether {token} has run, so it counts as used: {again}")
        is_rerun = job.on_config_change is OnConfigChange.RERUN
        if is_rerun and not same(job.config, record.config) and not has_run_whole(job, record, same):
            jobs[key] = record._replace(ran_configs=record.ran_configs | {text_of(job.config)})
            remarks.append(f"{name}: nothing tells whether its config has run, so it counts as run: {again}")
    return state._replace(jobs=jobs), remarks


def _untold_tokens(seen: _Seen, key: str, jobs: Mapping[str, Record]) -> Iterator[str]:
    """Yield a sentence on each run whose run token the record lacks, since the object bears only its digest."""
    from reconciler.rules.runs import digests

    known = {"", *(digests(EMPTY, token).token_digest for token in jobs[key].run_tokens)}
    for run in seen.runs:
        if run.marks.token_digest not in known:
            back = "a manifest that goes back to it runs the job once more"
            yield f"{title(key)}: the run token of {run.run_id} is not known any more: {back}"
