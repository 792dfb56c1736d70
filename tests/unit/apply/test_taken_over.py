"""Objects that another owner has taken over in the middle of an apply: they tell nothing of our calls."""

import time
from pathlib import Path

import pytest

from in_process import TARGET, carried_out, planned, store_in
from reconciler.apply.settle import look
from reconciler.engines.port import Marks, Result, Step, always
from reconciler.model.jobs import Desired, Doubt, Evidence, Job, Observation, Record, Status, Verb
from reconciler.model.outcomes import ActionOutcome, Outcome
from scripted import LOST, ScriptedEngine

OLD, NEW = {"size": 1}, {"size": 2}
JOB = Job("a", "a", Desired.RUNNING, NEW, "again")
RAN = Record("a", Desired.RUNNING, OLD, submitted_at="2026-01-01T10:00:00Z", ref="ours")
THEIRS = Observation(
    Status.ACTIVE, "its own word", submitted_at="2026-01-02T10:00:00Z", marks=Marks("another team"), ref="theirs"
)


class TakenOver(ScriptedEngine):
    """After a call of this verb, each object is another owner's."""

    def __init__(self, status: Status, verb: Verb, *results: Result, theirs: Observation = THEIRS) -> None:
        super().__init__({"a": status}, {(verb, "a"): list(results)})
        self._verb = verb
        self._theirs = theirs
        self.is_taken = False

    def observe(self, job_id: str, run_id: str = "") -> Observation:
        ours = super().observe(job_id, run_id)
        return self._theirs if self.is_taken else ours._replace(submitted_at=RAN.submitted_at, ref=RAN.ref)

    def send(self, step: Step, may_be_sent: object = always) -> Result:
        result = super().send(step)
        self.is_taken = self.is_taken or step.verb is self._verb
        return result


def applied(folder: Path, engine: ScriptedEngine, record: Record) -> tuple[ActionOutcome, Record]:
    plan, subjects = planned({"a": JOB}, {"a": record})
    with store_in(folder).open(TARGET, "apply", 0) as session:
        session.put_all({"a": record}, "import")
        [outcome] = carried_out(plan, subjects, engine, session)
        after = session.record_of("a")
        assert after is not None
        return outcome, after


def test_a_lost_run_does_not_count_as_carried_out_because_somebody_else_runs_the_job(tmp_path: Path) -> None:
    engine = TakenOver(Status.COMPLETE, Verb.RUN, LOST)
    outcome, record = applied(tmp_path, engine, RAN)
    assert outcome.outcome is Outcome.IN_DOUBT
    assert record.doubt is not None
    assert record.ref == "ours"


def test_a_lost_abort_is_not_sent_again_to_what_is_somebody_elses(tmp_path: Path) -> None:
    engine = TakenOver(Status.ACTIVE, Verb.ABORT, LOST)
    outcome, _ = applied(tmp_path, engine, RAN)
    assert outcome.outcome is Outcome.IN_DOUBT
    assert engine.sent == [(Verb.ABORT, "a")]


@pytest.mark.parametrize("status", [Status.ABORTED, Status.COMPLETE, Status.ACTIVE])
def test_a_restart_does_not_run_what_is_somebody_elses_once_our_run_is_over(tmp_path: Path, status: Status) -> None:
    engine = TakenOver(Status.ACTIVE, Verb.ABORT, theirs=THEIRS._replace(status=status))
    outcome, _ = applied(tmp_path, engine, RAN)
    assert (outcome.outcome, engine.sent) == (Outcome.FAILED, [(Verb.ABORT, "a")])
    assert "another owner's: it bears the lineage another team" in outcome.error


def test_a_run_is_not_taken_for_the_one_of_somebody_else_that_is_seen_after_it(tmp_path: Path) -> None:
    engine = TakenOver(Status.COMPLETE, Verb.RUN)
    outcome, record = applied(tmp_path, engine, RAN)
    assert outcome.outcome is Outcome.SUCCEEDED
    assert (record.submitted_at, record.ref) != (THEIRS.submitted_at, THEIRS.ref)


@pytest.mark.parametrize("verb", Verb)
def test_a_call_in_doubt_stays_in_doubt_beside_an_object_of_somebody_else(tmp_path: Path, verb: Verb) -> None:
    engine = TakenOver(Status.ACTIVE, verb)
    engine.is_taken = True
    before = Evidence(Status.COMPLETE, "its own word", submitted_at=RAN.submitted_at, ref="ours")
    doubt = Doubt("op-1", verb, NEW, None, before, "2026-01-01T11:00:00Z", "")
    with store_in(tmp_path).open(TARGET, "apply", 0) as session:
        session.put_all({"a": RAN._replace(doubt=doubt)}, "import")
        pending = look(session, engine, time.monotonic, lambda: "2026-01-02T11:00:00Z")
        record = session.record_of("a")
    assert pending == []
    assert record == RAN._replace(doubt=doubt)
