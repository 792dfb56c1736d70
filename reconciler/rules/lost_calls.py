"""Lost calls: whether a call took effect whose answer was lost, by the observations before and after the call."""

from enum import StrEnum
from typing import assert_never

from reconciler.model.jobs import ENDS, Evidence, Observation, Status, Verb
from reconciler.model.times import TimeOrder, compare

TELLS_NOTHING = frozenset({Status.NOT_OBSERVED, Status.UNREADABLE, Status.OTHER_OWNER})
"""The statuses of an observation that tells nothing of the job, or of a call for it."""

_SAME = frozenset({TimeOrder.SAME})
_MAY_BE_SAME = _SAME | {TimeOrder.CLOSE}


class Trace(StrEnum):
    """What an observation proves about a call.

    DONE      the call took effect, or the job is as the call should make it
    NOT_DONE  no effect shows; the observation may be stale, so a single one proves nothing
    TOO_LATE  an abort had no effect, and can have none any more, because the run has ended by itself
    UNKNOWN   nothing can be known from this observation
    """

    DONE = "done"
    NOT_DONE = "not done"
    TOO_LATE = "too late"
    UNKNOWN = "unknown"


def trace_of(verb: Verb, before: Evidence | None, now: Observation) -> Trace:
    """Compare the observation before a call, None if there was none, with the observation now."""
    if now.status in TELLS_NOTHING:
        return Trace.UNKNOWN
    match verb:
        case Verb.RUN:
            return Trace.UNKNOWN if before is None else _trace_of_run(before, now)
        case Verb.ABORT:
            if now.status is not Status.ACTIVE:
                return _trace_of_abort(before, now)
        case Verb.DELETE:
            if now.status is Status.MISSING:
                return Trace.DONE
        case _:
            assert_never(verb)
    return Trace.NOT_DONE if before is not None and not may_be_other_run(before, now) else Trace.UNKNOWN


def _trace_of_abort(before: Evidence | None, now: Observation) -> Trace:
    """Whether an abort had an effect, for a job that is not active any more.

    A run that was aborted is ABORTED, on each engine. A run that is COMPLETE or FAILED has ended by itself, before the
    abort or instead of it: the abort of a restart must not count as carried out then, or the job would be run anew.
    """
    if before is not None and _is_of_before_the_run(before, now):
        return Trace.UNKNOWN
    return Trace.TOO_LATE if now.status in (Status.COMPLETE, Status.FAILED) else Trace.DONE


def is_newer_run(before: Evidence, now: Observation) -> bool:
    """Whether a new run has certainly begun since `before` was observed."""
    return trace_of(Verb.RUN, before, now) is Trace.DONE


def may_be_other_run(before: Evidence, now: Observation) -> bool:
    """Whether the observed run may be another one than before: an abort or delete for the old run must not hit it."""
    if any(known and found and known != found for known, found in ((before.run_id, now.run_id), (before.ref, now.ref))):
        return True
    if now.is_of_other_run(before.submitted_at) or is_newer_run(before, now):
        return True
    if (before.submitted_at is None) is not (now.submitted_at is None):
        return True
    return before.status in ENDS and not _looks_as_before(before, now, _MAY_BE_SAME)


def _is_of_before_the_run(before: Evidence, now: Observation) -> bool:
    """Whether the observation is of another run than the one that an abort was sent to, or is older than that run."""
    return now.is_of_other_run(before.submitted_at) or (
        now.status is Status.DRAFT and before.status is not Status.DRAFT
    )


def _trace_of_run(before: Evidence, now: Observation) -> Trace:
    """Whether a run began after `before` was observed.

    Only the time at which a run began tells two runs apart. A service may change at any time what it reports of the
    old run, such as the state or the times of states, and an observation may be stale. Two cases need no time: a draft
    that is no longer a draft was run, and a job that looks exactly as before was not run. All other cases are UNKNOWN.
    """
    if now.status is Status.MISSING or before.status in TELLS_NOTHING or before.status is Status.MISSING:
        return Trace.UNKNOWN
    if before.status is Status.DRAFT:
        if now.status is Status.DRAFT and now.submitted_at is None:
            return Trace.NOT_DONE
        if before.submitted_at is None:
            return Trace.DONE
    match now.stands_to(before.submitted_at or _end_of(before)):
        case TimeOrder.LATER:
            return Trace.DONE
        case TimeOrder.SAME if before.submitted_at is not None:
            return Trace.NOT_DONE if _looks_as_before(before, now, _MAY_BE_SAME) else Trace.UNKNOWN
        case TimeOrder.UNKNOWN if before.timestamps and before.submitted_at is now.submitted_at is None:
            is_same = _looks_as_before(before, now, _SAME) and now.timestamps.keys() == before.timestamps.keys()
            return Trace.NOT_DONE if is_same else Trace.UNKNOWN
        case _:
            return Trace.UNKNOWN


def _end_of(before: Evidence) -> str | None:
    """When the run that was observed before the call ended; None if the run was active, or if the time is not known."""
    return before.timestamps.get(before.word) if before.status in ENDS else None


def _looks_as_before(before: Evidence, now: Observation, same: frozenset[TimeOrder]) -> bool:
    """Whether the status and all times from before the call are the same now. Additional times do not count."""
    if now.status is not before.status:
        return False
    return all(compare(now.timestamps.get(word), time) in same for word, time in before.timestamps.items())
