"""Did a call whose answer is lost do its work? Told from what was observed before it and after."""

from enum import StrEnum
from typing import assert_never

from reconciler.jobs import Evidence, Observation, Status, Verb

_UNTOLD = frozenset({Status.NOT_OBSERVED, Status.UNREADABLE})
_ENDED = frozenset({Status.COMPLETE, Status.FAILED, Status.ABORTED})


class Trace(StrEnum):
    """What an observation says of a call.

    DONE      its work shows, or its purpose is reached
    NOT_DONE  its work does not show; a read may be stale, so one such observation proves nothing
    UNTOLD    this engine, or this job as it is now, can't tell
    """

    DONE = "done"
    NOT_DONE = "not done"
    UNTOLD = "untold"


def trace_of(verb: Verb, before: Evidence | None, now: Observation) -> Trace:
    """Compare what was observed before a call (None: nothing could be) with what is observed now."""
    if now.status in _UNTOLD:
        return Trace.UNTOLD
    match verb:
        case Verb.RUN:
            return Trace.UNTOLD if before is None else _trace_of_run(before, now)
        case Verb.ABORT:
            if now.status is not Status.ACTIVE:
                # A stale read tells of an older run.
                return Trace.UNTOLD if before and now.is_of_other_run(before.submitted_at) else Trace.DONE
            return Trace.NOT_DONE if before is not None and not may_be_other_run(before, now) else Trace.UNTOLD
        case Verb.DELETE:
            if now.status is Status.MISSING:
                return Trace.DONE
            return Trace.NOT_DONE if before is not None and not may_be_other_run(before, now) else Trace.UNTOLD
    assert_never(verb)


def is_newer_run(before: Evidence, now: Observation) -> bool:
    """Whether the job was run again since."""
    return _trace_of_run(before, now) is Trace.DONE


def may_be_other_run(before: Evidence, now: Observation) -> bool:
    """Whether this may be another run: an abort or delete meant for the old one must not hit it."""
    return now.is_of_other_run(before.submitted_at) or is_newer_run(before, now)


def _trace_of_run(before: Evidence, now: Observation) -> Trace:
    if now.status is Status.MISSING or before.status in _UNTOLD or before.status is Status.MISSING:
        return Trace.UNTOLD
    if now.submitted_at is not None and now.submitted_at != before.submitted_at:
        # A stale read may tell of a run before the one that was seen already.
        return Trace.UNTOLD if now.is_of_older_run(before.submitted_at) else Trace.DONE
    if before.status is Status.DRAFT:
        return Trace.NOT_DONE if now.status is Status.DRAFT else Trace.DONE
    if before.status in _ENDED and (now.status is not before.status or now.timestamps != before.timestamps):
        # An ended job changes only by being run again. A draft never was run, and what tells nothing that
        # was not told before the call may be a read of before it.
        stale = (now.timestamps or now.status is before.status) and now.timestamps.items() <= before.timestamps.items()
        return Trace.UNTOLD if stale or now.status is Status.DRAFT else Trace.DONE
    told = now.submitted_at is not None or bool(now.timestamps)
    return Trace.NOT_DONE if told else Trace.UNTOLD
