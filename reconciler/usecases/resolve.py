"""`reconciler resolve`: settle a call in doubt on the word of a user."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from reconciler.model.commands import command, settling
from reconciler.model.errors import ReconcilerError
from reconciler.model.history import APPLIED, ENDED, NOT_APPLIED, Details
from reconciler.model.jobs import Config, Desired, Job, Observation, Record, Status, Verb, title
from reconciler.usecases.engines import Pace, plugin_for
from reconciler.usecases.named_records import call_in_doubt, find_record

if TYPE_CHECKING:
    from reconciler.rules.naming import NamedRecord
    from reconciler.state.session import Session
    from reconciler.usecases.workspace import Workspace


def resolve(workspace: "Workspace", job: str, was_applied: bool, why: str, lock_timeout_s: float) -> str:
    """Settle the call in doubt of a job. Returns a sentence about what is then recorded.

    `job` is the name of the job in a plan. A remark names the call before anything is written. The record keeps who
    settled the call, and `why`, until the next call. A first run that was not applied leaves no record.

    If the job has no call in doubt, its last run is settled: a run that the record does not know. The job is observed
    for that, which needs credentials. Raises `ReconcilerError` if there is neither.
    """
    from reconciler.rules.naming import refuse_guess

    target, ids = workspace.head.target, workspace.declared_ids
    by = f"says {workspace.origins.who}" + (f": {why}" if why else "")
    with workspace.store.open(target, "resolve", lock_timeout_s) as session:
        found = find_record(job, ids, session.state, workspace.world.remark)
        if ids is None:
            refuse_guess(job, found, session.state.jobs)
        settle = _settle_run if found.record.doubt is None else _settle_call
        return f"{title(found.name)}: {settle(workspace, session, found, was_applied, why, by)}"


def resolve_end(workspace: "Workspace", job: str, end: Status, why: str, lock_timeout_s: float) -> str:
    """Record how the last run of a job ended, if the engine can't tell: it has forgotten the run, or offers no reads.

    `end` is COMPLETE or FAILED. Returns a sentence about what is then recorded. Reads the job. Raises `ReconcilerError`
    if nobody has to say how the run ended.
    """
    from reconciler.rules.naming import refuse_guess

    manifest, ids = workspace.manifest, workspace.declared_ids
    with workspace.store.open(manifest.target, "resolve", lock_timeout_s) as session:
        found = find_record(job, ids, session.state, workspace.world.remark)
        if ids is None:
            refuse_guess(job, found, session.state.jobs)
        with workspace.open_engine(Pace(), session.identity) as engine:
            observed = engine.observe(found.record.id)
        _check_no_end_is_known(workspace, found, observed, session.lineage, end)
        sentence = f"its run {_run_words(found.record)} ended: {end}, says {workspace.origins.who}"
        record = found.record._replace(end=end, resolved=f"{sentence}: {why}" if why else sentence)
        if record.abort_unseen:
            record = record._replace(state=Desired.RUNNING, abort_unseen=False)
        session.put(found.key, record, ENDED, Details(reason=record.resolved, end=end.value))
        return f"{title(found.name)}: {record.resolved}"


def _check_no_end_is_known(
    workspace: "Workspace", found: "NamedRecord", observed: Observation, lineage: str, end: Status
) -> None:
    """Raise `ReconcilerError` unless a run is recorded without this end, and the engine can't tell the end.

    At an engine without reads, an end on record is what a person stated. That word can be taken back by another one.
    """
    from reconciler.rules.matching import Subject, Terms
    from reconciler.rules.observations import observation_words
    from reconciler.rules.sight import as_seen

    name, record, target = title(found.name), found.record, workspace.manifest.target
    if record.doubt is not None:
        raise ReconcilerError(f"{name} has a call in doubt", f"settle it first: {settling(found.name)}")
    engine = plugin_for(target)
    terms = Terms(engine.promises(target), lineage, now_s=workspace.world.clocks.wall_s())
    job = Job(found.name, record.id, Desired.RUNNING, record.config)
    if record.abort_unseen:
        record = record._replace(state=Desired.RUNNING)
    seen = as_seen(Subject(job, record, engine.same_config, lineage=lineage, terms=terms), observed)
    is_unseen = seen.status is Status.NOT_OBSERVED and record.state is Desired.RUNNING
    is_unseen = is_unseen and record.end not in (end, Status.ABORTED)
    if seen.status not in (Status.FORGOTTEN, Status.TAKEN_AWAY) and not is_unseen:
        words = observation_words(seen) or _recorded_words(record)
        raise ReconcilerError(
            f"nobody has to say how the run of {name} ended: the job is {words}",
            f"{command('plan', options=['--refresh'])} says what an apply does about it",
        )


def _recorded_words(record: Record) -> str:
    """What is on record about the run of a job that can't be read."""
    return f"recorded {record.state}" if record.end is None else f"recorded as {record.end}"


def _run_words(record: Record) -> str:
    from reconciler.rules.runs import run_id

    return run_id(record.id, record.run) or "of unknown number"


def _settle_call(
    workspace: "Workspace", session: "Session", found: "NamedRecord", was_applied: bool, why: str, by: str
) -> str:
    """Settle the call in doubt of a record. Returns the sentence that is recorded."""
    from reconciler.rules.records import settled

    doubt = found.record.doubt
    assert doubt is not None
    sentence = f"{doubt.verb} sent at {doubt.sent_at} was {_word(was_applied)}, {by}"
    workspace.world.remark(f"settling the call in doubt of {title(found.name)}: {call_in_doubt(found)}")
    after = settled(found.record, was_applied, is_unseen=True)
    record = after._replace(resolved=sentence) if after else None
    session.conclude(doubt.op, found.key, record, sentence, _details(was_applied, why))
    return sentence


def _settle_run(
    workspace: "Workspace", session: "Session", found: "NamedRecord", was_applied: bool, why: str, by: str
) -> str:
    """Settle the last run of a job, which its record does not know. Returns the sentence that is recorded."""
    from reconciler.rules.reruns import config_of_run

    manifest = workspace.manifest
    if found.record.target is not None:
        raise ReconcilerError(f"{title(found.name)} is recorded for {found.record.target}, which is not read here")
    unasked = _no_doubt(found, session.state.jobs)
    if not plugin_for(manifest.target).promises(manifest.target).reads:
        raise unasked
    workspace.world.remark(f"{unasked.message}: looking for a run that its record does not know")
    with workspace.open_engine(Pace(), session.identity) as engine:
        observed = engine.observe(found.record.id)
    job = manifest.jobs.get(found.name)
    ran = None if job is None else config_of_run(job, observed, plugin_for(manifest.target).same_config)
    known, run = _settled_run(found, job, observed, session.state.jobs, was_applied, ran)
    sentence = f"{run} was {_word(was_applied)}, {by}"
    workspace.world.remark(f"settling {run} of {title(found.name)} (engine job {found.record.id})")
    details = _details(was_applied, f"{run}: {why}" if why else run)
    session.put(found.key, known._replace(resolved=sentence), "resolve", details)
    return sentence


def _settled_run(
    found: "NamedRecord",
    job: Job | None,
    observed: Observation,
    records: Mapping[str, Record],
    was_applied: bool,
    ran: Config | None,
) -> tuple[Record, str]:
    """The record with the last run of the job, and that run as text. `records` are the records of all jobs.

    `ran` is as in `applied`.
    """
    from reconciler.rules.records import about, adopted, ran_since

    record = found.record
    if not ran_since(record, observed):
        raise _no_doubt(found, records)
    run = f"the run that began at {observed.submitted_at}"
    if not was_applied:
        return about(record, observed), run
    if job is None or job.id != record.id or job.state is not Desired.RUNNING:
        raise ReconcilerError(
            f"no run of {title(found.name)} is asked for in the manifest, so none can have been applied",
            "--not-applied records the run without counting it",
        )
    return adopted(job, record, Verb.RUN, observed, ran), run


def _no_doubt(found: "NamedRecord", records: Mapping[str, Record]) -> ReconcilerError:
    """The error about a job without anything to settle."""
    return ReconcilerError(
        f"{title(found.name)} (engine job {found.record.id}) has no call in doubt", _jobs_in_doubt(records)
    )


def _jobs_in_doubt(records: Mapping[str, Record]) -> str:
    """A sentence about the jobs that have a call in doubt."""
    if any(record.doubt is not None for record in records.values()):
        return f"{command('state list')} shows which jobs have one"
    return "no job has one, so there is nothing to settle"


def _word(was_applied: bool) -> str:
    return "applied" if was_applied else "not applied"


def _details(was_applied: bool, reason: str) -> Details:
    return Details(APPLIED if was_applied else NOT_APPLIED, reason=reason)
