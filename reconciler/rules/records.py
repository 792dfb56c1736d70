"""Records: the column of the table for a job and its record, and the record after a call.

A record says what was last applied to a job. `applied` makes the next record, and `settled` does so for a call that was
in doubt.
"""

from collections.abc import Mapping
from typing import assert_never

from reconciler.model.jobs import Desired, Job, Observation, Record, Status, Verb
from reconciler.model.times import TimeOrder, compare
from reconciler.rules.matching import Subject
from reconciler.rules.table import Asked

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
                return Asked.RERUN
            return Asked.SAME if subject.same_config(job.config, record.config) else Asked.NEW_CONFIG
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
    """Whether the observed run is not the recorded run; False if either has no time at which its run began."""
    return record is not None and observed.is_of_other_run(record.submitted_at)


def applied(job: Job, record: Record | None, verb: Verb, began: str | None = None) -> Record:
    """The record of a job after a call of this verb was applied.

    `began` is when the last run of the job began (`Observation.run_began`); None if that is not known.
    """
    tokens = record.run_tokens if record else frozenset[str]()
    consumed = tokens | {job.run_token} if job.run_token is not None else tokens
    protect = is_protected(job, record)
    if record is not None and compare(began, record.submitted_at) is TimeOrder.SAME:
        began = record.submitted_at  # other words for one instant are no change
    match verb:
        case Verb.RUN:
            return Record(job.id, Desired.RUNNING, dict(job.config), consumed, began, protect=protect)
        case Verb.ABORT:
            if began is None and record is not None:
                began = record.submitted_at
            if job.state is Desired.RUNNING:
                # Of a restart: what runs it from here on is that it is aborted. Were its token kept for a run to come,
                # a manifest that takes it back now and gives it again later would run the job once too often.
                tokens = consumed
            return Record(job.id, Desired.ABORTED, record.config if record else {}, tokens, began, protect=protect)
        case Verb.DELETE:
            return Record(job.id, Desired.ABSENT, {}, tokens, protect=protect)
    assert_never(verb)


def settled(record: Record, was_applied: bool, began: str | None = None) -> Record | None:
    """The record after its doubt is settled, as if the call had got that answer; None if there is no record left.

    `began` is as in `applied`.
    """
    doubt = record.doubt
    if doubt is None:
        return record
    if not was_applied:
        return None if record.state is None else record._replace(doubt=None)
    if doubt.verb is Verb.ABORT and began is None and doubt.before is not None:
        began = doubt.before.submitted_at
    job = Job("", record.id, Desired.RUNNING, doubt.config, doubt.run_token)
    return applied(job, record, doubt.verb, began)


def is_new_token(job: Job, record: Record) -> bool:
    """Whether the job has a run token that the record has not consumed yet."""
    return job.run_token is not None and job.run_token not in record.run_tokens
