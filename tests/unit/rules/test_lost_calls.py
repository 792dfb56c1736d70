"""Did a lost call do its work? Each case that decides whether a run is sent again."""

import pytest

from reconciler.model.jobs import NOT_OBSERVED, Evidence, Observation, Status, Verb
from reconciler.rules.lost_calls import Trace, is_newer_run, trace_of

SUNDAY, MONDAY, TUESDAY = "2026-11-15T00:00:00Z", "2026-11-16T00:00:00Z", "2026-11-17T00:00:00Z"
DRAFT = Evidence(Status.DRAFT, "JOB_STATE_NEW")
DRAFT_AGAIN = Evidence(Status.DRAFT, "JOB_STATE_NEW", MONDAY)
"""A read of a draft, where a run that began on Monday is on record."""
ENDED_TIMES = {"JOB_STATE_COMPLETE": MONDAY}
ENDED = Evidence(Status.COMPLETE, "JOB_STATE_COMPLETE", MONDAY, ENDED_TIMES)
ENDED_BEGIN_UNKNOWN = Evidence(Status.COMPLETE, "JOB_STATE_COMPLETE", None, ENDED_TIMES)
ABORTED = Evidence(Status.ABORTED, "JOB_STATE_ABORTED", MONDAY)
ENDED_AT = Evidence(Status.COMPLETE, "JOB_STATE_COMPLETE", MONDAY)
ENDED_UNKNOWN = Evidence(Status.COMPLETE, "JOB_STATE_COMPLETE")
ACTIVE = Evidence(Status.ACTIVE, "JOB_STATE_RUNNING", MONDAY)


def now(status: Status, submitted_at: str | None = None, timestamps: dict[str, str] | None = None) -> Observation:
    return Observation(status, "A_WORD", None, submitted_at, timestamps or {})


@pytest.mark.parametrize(
    ("before", "after", "trace"),
    [
        (DRAFT, now(Status.DRAFT), Trace.NOT_DONE),
        (DRAFT, now(Status.ACTIVE), Trace.DONE),
        (DRAFT, now(Status.COMPLETE), Trace.DONE),
        (DRAFT, now(Status.FAILED), Trace.DONE),
        (DRAFT, now(Status.ABORTED), Trace.DONE),
        (DRAFT, now(Status.MISSING), Trace.UNKNOWN),
        (ENDED, now(Status.COMPLETE, TUESDAY), Trace.DONE),
        (ENDED_AT, now(Status.COMPLETE, TUESDAY), Trace.DONE),
        (ENDED_AT, now(Status.COMPLETE, MONDAY), Trace.NOT_DONE),
        (ENDED, now(Status.COMPLETE, SUNDAY), Trace.UNKNOWN),  # a stale read, of the run before
        (ENDED, now(Status.COMPLETE, "a week ago"), Trace.UNKNOWN),  # no time: nobody can tell whether it is later
        (ENDED, now(Status.COMPLETE, "2026-11-16T01:00:00.000+01:00", ENDED_TIMES), Trace.NOT_DONE),  # MONDAY as well
        (ENDED, now(Status.COMPLETE, "2026-11-16T00:00:00.25Z"), Trace.UNKNOWN),  # MONDAY was told in whole seconds
        (ENDED, now(Status.COMPLETE, MONDAY), Trace.UNKNOWN),  # `stateTimestamps` were left out this time
        (ENDED, now(Status.ACTIVE, MONDAY), Trace.UNKNOWN),  # the old run, whatever the state says
        (ENDED, now(Status.COMPLETE, None), Trace.UNKNOWN),
        (ENDED, now(Status.ACTIVE, None, {"A_WORD": TUESDAY}), Trace.UNKNOWN),
        (ENDED, now(Status.COMPLETE, MONDAY, {"JOB_STATE_COMPLETE": MONDAY}), Trace.NOT_DONE),
        (ENDED, now(Status.COMPLETE, MONDAY, {"JOB_STATE_COMPLETE": TUESDAY}), Trace.UNKNOWN),
        (ENDED, now(Status.COMPLETE, MONDAY, ENDED_TIMES | {"JOB_STATE_ARCHIVED": TUESDAY}), Trace.NOT_DONE),
        (ABORTED, now(Status.ABORTED, MONDAY, {"JOB_STATE_ABORTED": TUESDAY}), Trace.NOT_DONE),
        (ENDED, now(Status.FAILED, MONDAY), Trace.UNKNOWN),
        (ENDED_BEGIN_UNKNOWN, now(Status.COMPLETE, TUESDAY), Trace.DONE),  # it began after the old run had ended
        (ENDED_BEGIN_UNKNOWN, now(Status.COMPLETE, SUNDAY), Trace.UNKNOWN),
        (ENDED_BEGIN_UNKNOWN, now(Status.COMPLETE, None, ENDED_TIMES), Trace.NOT_DONE),
        (ENDED_BEGIN_UNKNOWN, now(Status.COMPLETE, None, ENDED_TIMES | {"MORE": TUESDAY}), Trace.UNKNOWN),
        (ENDED, now(Status.DRAFT), Trace.UNKNOWN),
        (ENDED_UNKNOWN, now(Status.COMPLETE), Trace.UNKNOWN),
        (ENDED_UNKNOWN, now(Status.ACTIVE), Trace.UNKNOWN),
        (ENDED_UNKNOWN, now(Status.COMPLETE, TUESDAY), Trace.UNKNOWN),  # the old run may be the one that is told now
        (DRAFT_AGAIN, now(Status.DRAFT), Trace.NOT_DONE),
        (DRAFT_AGAIN, now(Status.COMPLETE, MONDAY), Trace.UNKNOWN),  # the draft was an old read
        (DRAFT_AGAIN, now(Status.ACTIVE, TUESDAY), Trace.DONE),
        (None, now(Status.ACTIVE, TUESDAY), Trace.UNKNOWN),
        (ENDED, NOT_OBSERVED, Trace.UNKNOWN),
        (ENDED, now(Status.UNREADABLE), Trace.UNKNOWN),
    ],
)
def test_a_lost_run(before: Evidence | None, after: Observation, trace: Trace) -> None:
    assert trace_of(Verb.RUN, before, after) is trace


@pytest.mark.parametrize(
    ("after", "trace"),
    [
        (now(Status.ACTIVE, MONDAY), Trace.NOT_DONE),
        (now(Status.ACTIVE, "2026-11-16t00:00:00.000z"), Trace.NOT_DONE),
        (now(Status.ABORTED, MONDAY), Trace.DONE),
        (now(Status.DRAFT), Trace.UNKNOWN),  # a stale read, of before the run
        (now(Status.COMPLETE, MONDAY), Trace.TOO_LATE),
        (now(Status.FAILED, MONDAY), Trace.TOO_LATE),
        (now(Status.MISSING), Trace.DONE),
        (now(Status.COMPLETE, SUNDAY), Trace.UNKNOWN),  # a stale read, of the run before
        (now(Status.ACTIVE, TUESDAY), Trace.UNKNOWN),
        (now(Status.ACTIVE, SUNDAY), Trace.UNKNOWN),
        (NOT_OBSERVED, Trace.UNKNOWN),
    ],
)
def test_a_lost_abort(after: Observation, trace: Trace) -> None:
    assert trace_of(Verb.ABORT, ACTIVE, after) is trace


@pytest.mark.parametrize(
    ("after", "trace"),
    [
        (now(Status.MISSING), Trace.DONE),
        (now(Status.COMPLETE, MONDAY, {"JOB_STATE_COMPLETE": MONDAY}), Trace.NOT_DONE),
        (now(Status.ACTIVE, TUESDAY), Trace.UNKNOWN),
        (now(Status.ACTIVE, SUNDAY), Trace.UNKNOWN),
        (now(Status.ACTIVE, MONDAY), Trace.UNKNOWN),
        (now(Status.ACTIVE), Trace.UNKNOWN),
    ],
)
def test_a_lost_delete(after: Observation, trace: Trace) -> None:
    assert trace_of(Verb.DELETE, ENDED, after) is trace


def test_a_run_by_someone_else_since_is_newer_and_must_not_be_hit() -> None:
    assert is_newer_run(ACTIVE, now(Status.ACTIVE, TUESDAY))
    assert not is_newer_run(ACTIVE, now(Status.ACTIVE, MONDAY))
