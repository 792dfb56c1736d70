"""Sight: what a report of the engine stands for, given the record and what the engine promises.

An engine whose run creates the job says "missing" in five cases, and each has a row of its own in the table:

    record                                                    status
    --------------------------------------------------------  ----------------------------
    none, or the job is not recorded as running               not there
    recorded as running, with how the run ended               forgotten, and how it ended
    recorded as running, and last seen active longer ago      forgotten
    than the engine keeps a run that has ended
    recorded as running, otherwise                            taken away

An engine forgets a run some time after the end of the run. A run that was seen active within that time can't have been
forgotten, so that somebody must have taken it away.

An engine whose run creates the job reports the newest run that it knows. If that run has ended and is an earlier one
than the recorded run, the engine does not know the recorded run any more: the TTL of the recorded run was shorter, or
somebody has deleted that run.

A job whose object bears the lineage of another state belongs to that state, whatever its status. There is one
exception: the record names this very object, because a person imported the object.

An engine with an atomic guard marks each run that it starts. A run without marks under the name of a job was started by
somebody else, and is another owner's too, unless a person has imported that very object.
"""

from collections.abc import Mapping

from reconciler.model.jobs import ENDS, Desired, Observation, Record, Status
from reconciler.model.times import unix_s
from reconciler.rules.matching import Subject, Terms
from reconciler.rules.retention import kept_s_of
from reconciler.rules.runs import number_of

_FORGOTTEN: Mapping[Status, Status] = {
    Status.COMPLETE: Status.FORGOTTEN_COMPLETE,
    Status.FAILED: Status.FORGOTTEN_FAILED,
    Status.ABORTED: Status.FORGOTTEN_ABORTED,
}


_ENDED = ENDS | {Status.WITHDRAWN}
_RUNS = _ENDED | {Status.ACTIVE}


def as_seen(subject: Subject, observed: Observation) -> Observation:
    """The observation with the status that its row in the table has."""
    record, terms = subject.record, subject.terms
    observed = as_owned(record, observed, subject.lineage)
    if observed.status is Status.OTHER_OWNER:
        return observed
    if terms.promises.atomic_run and _is_unmarked_run(observed) and not _is_of_record(record, observed):
        return observed._replace(status=Status.OTHER_OWNER)
    if not terms.promises.creates_on_run:
        return observed
    if observed.status is Status.MISSING:
        return observed._replace(status=_of_missing(record, terms))
    # What is left of earlier runs is to be deleted with the job.
    if subject.job.state is not Desired.ABSENT and _is_of_earlier_run(record, observed):
        return Observation(_of_missing(record, terms))
    return observed


def as_owned(record: Record | None, observed: Observation, lineage: str) -> Observation:
    """The observation of a recorded job, with the status OTHER_OWNER if its object belongs to another state.

    `lineage` is that of the state. Whatever became of a call of ours, the object of another owner tells nothing of it.
    """
    if observed.marks.lineage in ("", lineage):
        return observed
    return observed if _is_of_record(record, observed) else observed._replace(status=Status.OTHER_OWNER)


def is_of_newer_copy(subject: Subject, observed: Observation) -> bool:
    """Whether a newer copy of the state has started the observed run: it is ours, and comes after the recorded run."""
    is_ours = observed.marks.lineage != "" and observed.marks.lineage == subject.lineage
    recorded = subject.record.run if subject.record else 0
    return is_ours and number_of(observed.run_id, subject.job.id) > recorded


def may_be_forgotten(subject: Subject) -> bool:
    """Whether the record lacks the end of a run that will leave no trace once it is gone.

    An apply reads such a job even if nothing is to be done about it, since the end may be forgotten by the next time.
    """
    record = subject.record
    if record is None or record.doubt is not None:
        return False
    is_open = record.abort_unseen or (record.state is Desired.RUNNING and record.end is None)
    return is_open and subject.terms.promises.creates_on_run


def _is_of_record(record: Record | None, observed: Observation) -> bool:
    """Whether the record names this very object. A record without a handle, as after a deletion, names none."""
    return record is not None and record.ref != "" and record.ref == observed.ref


def _is_of_earlier_run(record: Record | None, observed: Observation) -> bool:
    """Whether the observed run has ended and comes before the recorded one."""
    if record is None or observed.status not in _ENDED:
        return False
    return 0 < number_of(observed.run_id, record.id) < record.run


def _is_unmarked_run(observed: Observation) -> bool:
    """Whether the observation is of a run that bears neither a run id of ours nor the lineage of any state."""
    return observed.status in _RUNS and not observed.run_id and not observed.marks.lineage


def _of_missing(record: Record | None, terms: Terms) -> Status:
    """What it means that the engine knows no run, if a run creates the job."""
    if record is None or record.state is not Desired.RUNNING:
        return Status.NOTHING
    if record.end is not None:
        return _FORGOTTEN[record.end]
    return Status.FORGOTTEN if _is_forgotten_by_now(record, terms) else Status.TAKEN_AWAY


def _is_forgotten_by_now(record: Record, terms: Terms) -> bool:
    """Whether the run was last seen active longer ago than the engine keeps a run that has ended.

    Without any time at which the run was active, nobody can tell; the run then counts as taken away, because a person
    is asked about that.
    """
    kept_s = kept_s_of(terms.promises, record)
    active_s = unix_s(record.last_active or record.submitted_at or "")
    return active_s is not None and terms.now_s - active_s > kept_s
