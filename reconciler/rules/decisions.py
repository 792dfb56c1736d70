"""Decisions: what a plan does about one job, and how the decisions are made that start no run."""

from typing import NamedTuple

from reconciler.model.jobs import Desired, Job, Observation, Record, Status, Verb
from reconciler.model.plan import ActionKind, Change
from reconciler.rules import reruns
from reconciler.rules.configs import config_changes
from reconciler.rules.matching import Subject
from reconciler.rules.observations import observation_words
from reconciler.rules.records import adopted, applied, is_ending
from reconciler.rules.runs import number_of
from reconciler.rules.table import Cell
from reconciler.rules.words import reason_of, reason_with


class Decision(NamedTuple):
    """What a plan does about one job.

    `verbs` are the calls, in order. `record` is the record after all calls were applied; it is None if the record is
    dropped. `error` is the reason again if the job can't be acted on, else "". `way_out` is the end of the reason of a
    hold or a wait: it says what the user can do. The calls of a wait are sent once its turn has come.
    `awaits_end` is True if the calls are to be sent once the active run is over. `after` names the jobs whose active
    runs the engine waits for before it begins the run.
    """

    kind: ActionKind
    reason: str
    record: Record | None
    verbs: tuple[Verb, ...] = ()
    changes: tuple[Change, ...] = ()
    error: str = ""
    way_out: str = ""
    frozen: bool = False
    awaits_end: bool = False
    after: tuple[str, ...] = ()


def abort(job: Job, record: Record | None, observed: Observation) -> Decision:
    """The decision to abort a job; a noop if the job was not observed and is not recorded as running."""
    if observed.status is Status.NOT_OBSERVED and record is not None and record.state is not Desired.RUNNING:
        return noop(record, f"recorded {record.state}")
    changes = (Change("state", record.state if record else None, Desired.ABORTED),)
    again = "; it was aborted already, and has yet to end" if is_ending(record, observed) else ""
    after = applied(job, record, Verb.ABORT, observed.run_began, number_of(observed.run_id, job.id))
    return Decision(ActionKind.ABORT, reason_of(Cell.ABORT, observed) + again, after, (Verb.ABORT,), changes)


def delete(subject: Subject, observed: Observation) -> Decision:
    """The decision to delete a job. A run that may be active is aborted first."""
    job, record = subject.job, subject.record
    recorded = record.state if record else None
    is_unobserved = observed.status is Status.NOT_OBSERVED
    if is_unobserved and recorded is Desired.ABSENT:
        return noop(record, "recorded absent")
    active = observed.status is Status.ACTIVE or (is_unobserved and recorded is Desired.RUNNING)
    was_aborted = is_ending(record, observed)
    verbs = (Verb.ABORT, Verb.DELETE) if active and not was_aborted else (Verb.DELETE,)
    why = "declared absent" if subject.keep else "no longer declared, and --prune was given"
    after = applied(job, record, Verb.DELETE, run=number_of(observed.run_id, job.id)) if subject.keep else None
    changes = (Change("state", recorded, Desired.ABSENT),)
    reason = reason_with(why, observation_words(observed))
    if was_aborted:
        reason = f"{reason}; that is the run that was aborted, and the delete follows its end"
    return Decision(ActionKind.DELETE, reason, after, verbs, changes, awaits_end=was_aborted)


def adopt(subject: Subject, reason: str, observed: Observation, *, as_run: bool = True) -> Decision:
    """The decision to change the record without a call; a noop if the record would not change.

    `as_run` is True if the observed run is taken for a run that the manifest asks for, which consumes the config of
    that run. It is False if the new config is only recorded: that config has not run.
    """
    job, record = subject.job, subject.record
    if not subject.keep:
        return Decision(ActionKind.FORGET, reason, None)
    verb = {Desired.RUNNING: Verb.RUN, Desired.ABORTED: Verb.ABORT, Desired.ABSENT: Verb.DELETE}[job.state]
    is_run = verb is Verb.RUN and as_run
    ran = reruns.config_of_run(job, observed, subject.same_config) if is_run else None
    after = adopted(job, record, verb, observed, ran)
    if record is not None and after == _about_run_of(record, after):
        return noop(record, reason.replace("; recorded without a call", ""))
    before = record.state if record else None
    changes: tuple[Change, ...] = () if before is after.state else (Change("state", before, after.state),)
    if job.state is Desired.RUNNING:
        changes += config_changes(record.config if record else {}, after.config, subject.same_config)
    return Decision(ActionKind.ADOPT, reason, after, changes=changes)


def _about_run_of(record: Record, other: Record) -> Record:
    """The record with all that another record says of the last run, but for its number and its config."""
    return record._replace(submitted_at=other.submitted_at, end=other.end, last_active=other.last_active, ref=other.ref)


def noop(record: Record | None, reason: str) -> Decision:
    """The decision to do nothing."""
    return Decision(ActionKind.NOOP, reason, record)


def hold(record: Record | None, why: str, way_out: str, changes: tuple[Change, ...] = ()) -> Decision:
    """The decision to leave a job alone. The reason is `why`, then `way_out`, which says what the user can do."""
    return Decision(ActionKind.HOLD, why + way_out, record, changes=changes, way_out=way_out)


def wait(decision: Decision, why: str, way_out: str) -> Decision:
    """The decision to wait with a run or restart until its turn has come. The reason is `why`, then `way_out`."""
    return decision._replace(kind=ActionKind.WAIT, reason=why + way_out, way_out=way_out)


def error(record: Record | None, error: str, way_out: str) -> Decision:
    """The decision to leave alone a job that can't be acted on."""
    return Decision(ActionKind.HOLD, f"error: {error}{way_out}", record, error=error + way_out, way_out=way_out)
