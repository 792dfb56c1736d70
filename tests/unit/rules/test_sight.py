"""What a report of the engine stands for, if it is about another run or another object than the recorded one."""

import math

import pytest

from reconciler.model.jobs import Desired, Job, Marks, Observation, Record, Status
from reconciler.model.promises import Promises
from reconciler.rules.decide import decide
from reconciler.rules.matching import Subject, Terms
from reconciler.rules.sight import as_seen

CLUSTER = Promises(creates_on_run=True, atomic_run=True, reads=True, lists=True, keeps_ended_s=math.inf, has_logs=True)
RECORD = Record("a", Desired.RUNNING, run=2, ref="uid-2")
MARKS = Marks(lineage="ours", op="op-1")


def subject_of(record: Record, desired: Desired = Desired.RUNNING, token: str | None = None) -> Subject:
    job = Job("a", "a", desired, {}, token)
    return Subject(job, record, lambda a, b: a == b, lineage="ours", terms=Terms(CLUSTER, "ours"))


def left(status: Status, run_id: str = "a-1") -> Observation:
    """What an engine reports that knows the first run of the job alone."""
    return Observation(status, run_id=run_id, ref="uid-1", submitted_at="2026-11-21T10:00:00Z", marks=MARKS)


@pytest.mark.parametrize("status", [Status.COMPLETE, Status.FAILED, Status.ABORTED])
@pytest.mark.parametrize(
    ("end", "seen"),
    [
        (None, Status.TAKEN_AWAY),
        (Status.COMPLETE, Status.FORGOTTEN_COMPLETE),
        (Status.FAILED, Status.FORGOTTEN_FAILED),
    ],
)
def test_an_earlier_run_that_is_left_does_not_stand_for_the_recorded_one(
    status: Status, end: Status | None, seen: Status
) -> None:
    subject = subject_of(RECORD._replace(end=end))
    assert as_seen(subject, left(status)) == Observation(seen)


def test_a_job_whose_last_run_is_gone_runs_again_for_a_new_token_though_an_earlier_run_is_left() -> None:
    subject = subject_of(RECORD._replace(end=Status.FAILED), token="2")
    assert decide(subject, left(Status.COMPLETE)).kind == "run"


def test_an_earlier_run_that_is_active_is_no_trace_of_the_past_and_one_that_has_ended_is_deleted_with_the_job() -> None:
    assert as_seen(subject_of(RECORD), left(Status.ACTIVE)).status is Status.ACTIVE
    assert decide(subject_of(RECORD, token="2"), left(Status.ACTIVE)).kind == "hold"
    assert decide(subject_of(RECORD, Desired.ABSENT), left(Status.COMPLETE)).kind == "delete"


@pytest.mark.parametrize("run_id", ["a-2", "a-3", "b-1", ""])
def test_a_run_that_is_not_an_earlier_one_of_the_job_is_seen_as_it_is(run_id: str) -> None:
    assert as_seen(subject_of(RECORD), left(Status.COMPLETE, run_id)).status is Status.COMPLETE


def test_an_object_that_somebody_made_in_the_place_of_an_imported_one_is_left_alone() -> None:
    imported = RECORD._replace(run=0, ref="uid-1")
    theirs = Observation(Status.COMPLETE, ref="uid-9", submitted_at="2026-11-21T10:00:00Z")
    for desired in Desired:
        decision = decide(subject_of(imported, desired), theirs)
        assert (decision.kind, decision.verbs) == ("hold", ())
        assert "another owner's" in decision.reason
    assert as_seen(subject_of(imported), theirs._replace(ref="uid-1")).status is Status.COMPLETE
