"""Records: the column of the table for a job and its record, and the record after a call.

A record says what was last applied to a job. `applied` makes the next record, and `settled` does so for a call that was
in doubt.
"""

from collections.abc import Mapping
from typing import Any, assert_never

from reconciler.model.jobs import ENDS, Config, Desired, Job, Observation, OnConfigChange, Record, Status, Verb
from reconciler.model.promises import Promises
from reconciler.model.times import TimeOrder, compare, seconds_since
from reconciler.rules import reruns
from reconciler.rules.matching import Subject
from reconciler.rules.retention import FOR_EVER, keep_for_of, kept_s_of
from reconciler.rules.runs import is_other_run, is_same_run, number_of
from reconciler.rules.table import Asked

_MOST_BEHIND_S = 60.0
"""The most seconds by which `Record.last_active` may be behind the last observation of an active run."""

_ONE = frozenset({TimeOrder.SAME, TimeOrder.CLOSE})


def asked(subject: Subject) -> Asked:
    """The column of the decision table for a job and its record."""
    job, record = subject.job, subject.record
    match job.state:
        case Desired.ABORTED:
            return Asked.ABORTED
        case Desired.ABSENT:
            return Asked.ABSENT
        case Desired.RUNNING:
            if record is None or record.state is None:
                return Asked.FIRST_RUN
            if record.state is not Desired.RUNNING or is_new_token(job, record):
                return Asked.NEW_TOKEN
            same = subject.same_config
            if same(job.config, record.config):
                return Asked.SAME
            is_rerun = job.on_config_change is OnConfigChange.RERUN and reruns.is_asked(job, record, same)
            return Asked.RERUN if is_rerun else Asked.NEW_CONFIG
    assert_never(job.state)


def is_protected(job: Job, record: Record | None) -> bool:
    """Whether abort, restart and delete are refused. The record counts if the manifest does not set `protect`."""
    if job.protect is not None:
        return job.protect
    return record is not None and record.protect


def protection(job: Job, record: Record | None) -> Mapping[str, Record]:
    """The record with the `protect` of the manifest, by the job's name; empty if the record has that value already.

    An apply records this for a held job too, because somebody may take a held job out of the manifest.
    """
    if record is None or job.protect is None or job.protect is record.protect:
        return {}
    return {job.name: record._replace(protect=job.protect)}


def is_ending(record: Record | None, observed: Observation) -> bool:
    """Whether the active run is certainly the aborted run. An abort takes time to show."""
    if record is None or record.state is not Desired.ABORTED or observed.status is not Status.ACTIVE:
        return False
    return observed.stands_to(record.submitted_at) in _ONE


def ran_since(record: Record | None, observed: Observation) -> bool:
    """Whether the observed run is not the recorded run; False if nothing tells the two apart."""
    return record is not None and is_other_run(record, observed)


def noted(record: Record, observed: Observation, now: str, promises: Promises) -> Record:
    """The record with what an observation tells of its run: how the run ended, that the engine has withdrawn it, or
    that it was active now.

    The record stays as it is if the observation may be of another run, or if a call is in doubt. `now` is a time of RFC
    3339. It is kept only if the engine forgets the run some time after its end, since nothing else depends on it. It is
    not kept anew for each observation, so that an apply with nothing to do leaves the state as it is: the recorded time
    may be behind by a tenth of the time for which the engine keeps the run, and by a minute at most.
    """
    if record.doubt is None and record.abort_unseen and is_same_run(record, observed):
        if observed.status is Status.ABORTED:
            return record._replace(abort_unseen=False)
        return in_spite_of_abort(record, observed) or record
    if record.state is not Desired.RUNNING or record.doubt is not None or not is_same_run(record, observed):
        return record
    if observed.status is Status.WITHDRAWN:
        # Nothing was executed, so the run counts as one that was aborted: the manifest asks for it anew.
        return record._replace(state=Desired.ABORTED)
    if observed.status in ENDS:
        return record._replace(end=observed.status)
    known_s = kept_s_of(promises, record)
    if observed.status is Status.ACTIVE and known_s < FOR_EVER:
        behind_s = seconds_since(record.last_active, now)
        if behind_s is None or not 0 <= behind_s < min(_MOST_BEHIND_S, known_s / 10):
            return record._replace(last_active=now)
    return record


def applied(
    job: Job,
    record: Record | None,
    verb: Verb,
    began: str | None = None,
    run: int = 0,
    ran: Config | None = None,
) -> Record:
    """The record of a job after a call of this verb was applied.

    `began` is when the last run of the job began (`Observation.run_began`); None if that is not known. `run` is the
    number of the run that the call is about; 0 if that is the recorded run, or a run without a number. `ran` is the
    config of that run if the call is a run, which consumes it; None if no run had the config of the job.
    """
    number = max(run, record.run if record else 0)
    kept: dict[str, Any] = {"run": number, "target": record.target if record else None}
    kept["ran_configs"] = reruns.with_ran(record, ran)
    kept |= _of_run(job, record, verb, number)
    tokens = record.run_tokens if record else frozenset[str]()
    consumed = tokens | {job.run_token} if job.run_token is not None else tokens
    protect = is_protected(job, record)
    if record is not None and compare(began, record.submitted_at) is TimeOrder.SAME:
        began = record.submitted_at  # other words for one instant are no change
    match verb:
        case Verb.RUN:
            return Record(job.id, Desired.RUNNING, dict(job.config), consumed, began, protect=protect, **kept)
        case Verb.ABORT:
            if began is None and record is not None:
                began = record.submitted_at
            if job.state is Desired.RUNNING and record is not None:
                # Of a restart. A job that was not to run before has nothing to go back to.
                kept["abort_unseen"] = record.state is Desired.RUNNING or record.abort_unseen
            config = record.config if record else {}
            return Record(job.id, Desired.ABORTED, config, tokens, began, protect=protect, **kept)
        case Verb.DELETE:
            return Record(job.id, Desired.ABSENT, {}, tokens, protect=protect, **kept)
    assert_never(verb)


def in_spite_of_abort(record: Record, observed: Observation) -> Record | None:
    """The record of a run that ended by itself, though its abort may have been accepted; None for any other job.

    That run is the one that was asked for before the abort.
    """
    if not record.abort_unseen or observed.status not in (Status.COMPLETE, Status.FAILED):
        return None
    if not is_same_run(record, observed):
        return None
    return record._replace(state=Desired.RUNNING, end=observed.status, abort_unseen=False)


def without_old_doubt(record: Record) -> Record:
    """The record without an abort or a delete in doubt of an earlier run than the recorded one.

    Another branch has made the later run. What became of the earlier run changes nothing about the later one.
    """
    doubt = record.doubt
    is_old = doubt is not None and doubt.verb is not Verb.RUN and 0 < doubt.run < record.run
    return record._replace(doubt=None) if is_old else record


def _of_run(job: Job, record: Record | None, verb: Verb, number: int) -> dict[str, Any]:
    """The fields of the next record that are about the run of this number, as far as the call tells them."""
    found: dict[str, Any] = {}
    if record is not None and number == record.run and verb is not Verb.DELETE:
        found = {"end": record.end, "last_active": record.last_active, "ref": record.ref}
        found["keep_for_s"] = record.keep_for_s
    if verb is Verb.RUN:
        found["keep_for_s"] = keep_for_of(job.config)
    return found


def adopted(job: Job, record: Record | None, verb: Verb, observed: Observation, ran: Config | None = None) -> Record:
    """The record of a job that is observed to be as a call of this verb would leave it. No call was sent.

    The record is about the observed run: its number, if its run id has one, and the engine's handle of it. A config
    that is only adopted does not change for how long the engine keeps the run. `ran` is as in `applied`.
    """
    after = applied(job, record, verb, observed.run_began, number_of(observed.run_id, job.id), ran)
    if verb is Verb.DELETE:
        return after
    if record is not None and is_other_run(record, observed):
        after = after._replace(end=None, last_active="", ref="")
    elif record is not None and record.state is Desired.RUNNING:
        return after._replace(ref=observed.ref or after.ref, keep_for_s=record.keep_for_s)
    ran_with = job.config if observed.config is None else observed.config
    return after._replace(ref=observed.ref or after.ref, keep_for_s=keep_for_of(ran_with))


def about(record: Record, observed: Observation) -> Record:
    """The record, from now on about the observed run, which it did not know. What was applied last stays."""
    run = max(record.run, number_of(observed.run_id, record.id))
    keep_for_s = record.keep_for_s if observed.config is None else keep_for_of(observed.config)
    other = record._replace(submitted_at=observed.run_began, run=run, end=None, last_active="", ref=observed.ref)
    return other._replace(keep_for_s=keep_for_s, abort_unseen=False)


def settled(
    record: Record, was_applied: bool, began: str | None = None, ref: str = "", *, is_unseen: bool = False
) -> Record | None:
    """The record after its doubt is settled, as if the call had got that answer; None if there is no record left.

    `began` is as in `applied`. `ref` is the engine's handle of the run that was started; "" if that is not known.
    `is_unseen` is set if nobody has seen what an abort did: a person says that it was applied, or the service does not
    know the run any more.
    """
    record = without_old_doubt(record)
    doubt = record.doubt
    if doubt is None:
        return record
    if not was_applied:
        return None if record.state is None else record._replace(doubt=None)
    if doubt.verb is Verb.ABORT and began is None and doubt.before is not None:
        began = doubt.before.submitted_at
    job = Job("", record.id, Desired.RUNNING, doubt.config, doubt.run_token)
    if doubt.verb is Verb.RUN and 0 < doubt.run < record.run:
        # A later run is on record, which another branch made. The record stays about that run.
        tokens = record.run_tokens if doubt.run_token is None else record.run_tokens | {doubt.run_token}
        return record._replace(doubt=None, run_tokens=tokens, ran_configs=reruns.with_ran(record, doubt.config))
    after = applied(job, record, doubt.verb, began, doubt.run, doubt.config if doubt.verb is Verb.RUN else None)
    if doubt.verb is Verb.RUN:
        return after._replace(ref=ref or after.ref)
    # A doubt does not say whether its abort was that of a restart, or was declared.
    is_open = record.state is Desired.RUNNING or record.abort_unseen
    return after._replace(abort_unseen=is_unseen and is_open and doubt.verb is Verb.ABORT)


def run_of(subject: Subject, verb: Verb) -> int:
    """The number of the run that a call is about: the next one for a run, and the last one for an abort or a delete.

    A run in doubt that is sent again has the number that it had.
    """
    record = subject.record
    if verb is not Verb.RUN:
        return record.run if record else 0
    doubt = record.doubt if record else None
    return doubt.run if doubt is not None and doubt.verb is Verb.RUN and doubt.run else subject.last + 1


def is_new_token(job: Job, record: Record) -> bool:
    """Whether the job has a run token that the record has not consumed yet."""
    return job.run_token is not None and job.run_token not in record.run_tokens
