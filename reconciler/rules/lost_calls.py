"""Did a call whose answer is lost do its work? Told from what was observed before it and after."""

from enum import StrEnum
from typing import assert_never

from reconciler.model.jobs import Evidence, Observation, Status, Verb
from reconciler.model.times import TimeOrder, compare

_UNTOLD = frozenset({Status.NOT_OBSERVED, Status.UNREADABLE})
_ENDED = frozenset({Status.COMPLETE, Status.FAILED, Status.ABORTED})
_SAME = frozenset({TimeOrder.SAME})
_MAY_BE_SAME = _SAME | {TimeOrder.CLOSE}


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
                return Trace.UNTOLD if before is not None and _is_of_before_the_run(before, now) else Trace.DONE
        case Verb.DELETE:
            if now.status is Status.MISSING:
                return Trace.DONE
        case _:
            assert_never(verb)
    return Trace.NOT_DONE if before is not None and not may_be_other_run(before, now) else Trace.UNTOLD


def is_newer_run(before: Evidence, now: Observation) -> bool:
    """Whether the job was certainly run again since."""
    return _trace_of_run(before, now) is Trace.DONE


def may_be_other_run(before: Evidence, now: Observation) -> bool:
    """Whether anything speaks for another run: an abort or delete that is meant for the old one must not hit it."""
    if now.is_of_other_run(before.submitted_at) or is_newer_run(before, now):
        return True
    if (before.submitted_at is None) is not (now.submitted_at is None):
        return True
    return before.status in _ENDED and not _looks_as_before(before, now, _MAY_BE_SAME)


def _is_of_before_the_run(before: Evidence, now: Observation) -> bool:
    """Whether this is no read of the active run that an abort was sent to, but of another one, or of none yet."""
    return now.is_of_other_run(before.submitted_at) or (
        now.status is Status.DRAFT and before.status is not Status.DRAFT
    )


def _trace_of_run(before: Evidence, now: Observation) -> Trace:
    """Whether a run began after `before` was read.

    A run is told from the run before it by when it began, and by nothing else. A service may change what it
    tells of the old run at any time, such as its state or the times of its states, and a read may be old. Two
    cases need no time: a draft that is a draft no more was run, and a job that looks exactly as before was not.
    In all other cases nobody can tell.
    """
    if now.status is Status.MISSING or before.status in _UNTOLD or before.status is Status.MISSING:
        return Trace.UNTOLD
    if before.status is Status.DRAFT:
        if now.status is Status.DRAFT and now.submitted_at is None:
            return Trace.NOT_DONE
        if before.submitted_at is None:
            return Trace.DONE
    match now.stands_to(before.submitted_at or _end_of(before)):
        case TimeOrder.LATER:
            return Trace.DONE
        case TimeOrder.SAME if before.submitted_at is not None:
            return Trace.NOT_DONE if _looks_as_before(before, now, _MAY_BE_SAME) else Trace.UNTOLD
        case TimeOrder.UNTOLD if before.timestamps and before.submitted_at is now.submitted_at is None:
            is_same = _looks_as_before(before, now, _SAME) and now.timestamps.keys() == before.timestamps.keys()
            return Trace.NOT_DONE if is_same else Trace.UNTOLD
        case _:
            return Trace.UNTOLD


def _end_of(before: Evidence) -> str | None:
    """When the run that was seen before the call had ended; None where it had not, or its time is not told."""
    return before.timestamps.get(before.word) if before.status in _ENDED else None


def _looks_as_before(before: Evidence, now: Observation, same: frozenset[TimeOrder]) -> bool:
    """Whether state and times are as before the call; a time that is new beside them says nothing."""
    if now.status is not before.status:
        return False
    return all(compare(now.timestamps.get(word), time) in same for word, time in before.timestamps.items())
