"""An apply on an engine that speaks no HTTP: only the class and the reason of a result decide what comes next."""

from pathlib import Path

import pytest

from in_process import TARGET, carried_out, context_of, planned, store_in
from raw_server import Pauses
from reconciler.apply.execute import carry_out
from reconciler.engines.port import Reason
from reconciler.model.jobs import Desired, Job, Json, Observation, Record, Status, Verb
from reconciler.model.outcomes import ActionOutcome, Outcome
from scripted import LOST, ScriptedEngine, rejected

OLD, NEW = {"size": 1}, {"size": 2}


def applied_to(engine: ScriptedEngine, jobs: dict[str, Job], folder: Path) -> list[ActionOutcome]:
    records = {name: Record(job.id, Desired.RUNNING, OLD) for name, job in jobs.items()}
    plan, subjects = planned(jobs, records)
    with store_in(folder).open(TARGET, "apply", 0) as session:
        session.put_all(records, "import")
        return carried_out(plan, subjects, engine, session)


@pytest.mark.parametrize("code", ["", "404", "E-17"])
def test_a_restart_goes_on_where_the_engine_says_that_nothing_runs(code: str, tmp_path: Path) -> None:
    script = {(Verb.ABORT, "a"): [rejected(Reason.NOT_RUNNING, code)]}
    engine = ScriptedEngine({}, script, reads=False)
    [outcome] = applied_to(engine, {"a": Job("a", "a", Desired.RUNNING, NEW)}, tmp_path)
    assert (outcome.outcome, outcome.done) == (Outcome.SUCCEEDED, "restart")
    assert engine.sent == [(Verb.ABORT, "a"), (Verb.RUN, "a")]


@pytest.mark.parametrize("reason", [Reason.INVALID, Reason.NO_SUCH_JOB, Reason.NOT_PERMITTED, Reason.OTHER])
def test_a_restart_ends_with_an_abort_that_is_rejected_for_another_reason(reason: Reason, tmp_path: Path) -> None:
    engine = ScriptedEngine({}, {(Verb.ABORT, "a"): [rejected(reason, "400")]}, reads=False)
    [outcome] = applied_to(engine, {"a": Job("a", "a", Desired.RUNNING, NEW)}, tmp_path)
    assert (outcome.outcome, outcome.status, outcome.error) == (Outcome.FAILED, 400, "abort was rejected: no")
    assert engine.sent == [(Verb.ABORT, "a")]


@pytest.mark.parametrize(
    ("verb", "reason", "outcome"),
    [
        (Verb.ABORT, Reason.NOT_RUNNING, Outcome.SUCCEEDED),
        (Verb.ABORT, Reason.NO_SUCH_JOB, Outcome.SUCCEEDED),
        (Verb.ABORT, Reason.INVALID, Outcome.IN_DOUBT),
        (Verb.DELETE, Reason.NO_SUCH_JOB, Outcome.SUCCEEDED),
        (Verb.DELETE, Reason.NOT_RUNNING, Outcome.IN_DOUBT),
    ],
)
def test_a_lost_call_was_carried_out_where_its_repetition_finds_nothing_left_to_do(
    verb: Verb, reason: Reason, outcome: Outcome, tmp_path: Path
) -> None:
    asked = Desired.ABORTED if verb is Verb.ABORT else Desired.ABSENT
    jobs = {"a": Status.ACTIVE if verb is Verb.ABORT else Status.COMPLETE}
    again = [LOST, *[rejected(reason)] * 9]
    engine = ScriptedEngine(jobs, {(verb, "a"): again})
    [ended] = applied_to(engine, {"a": Job("a", "a", asked, OLD)}, tmp_path)
    assert ended.outcome is outcome
    assert set(engine.sent) == {(verb, "a")}
    assert len(engine.sent) > 1


def test_nothing_starts_once_the_engine_does_not_know_who_asks(tmp_path: Path) -> None:
    jobs = {name: Job(name, name, Desired.ABORTED, OLD) for name in ("a", "b")}
    engine = ScriptedEngine(
        dict.fromkeys(jobs, Status.ACTIVE), {(Verb.ABORT, "a"): [rejected(Reason.NOT_AUTHENTICATED)]}
    )
    first, second = applied_to(engine, jobs, tmp_path)
    assert (first.outcome, second.outcome, second.note) == (Outcome.FAILED, Outcome.SKIPPED, "skipped: no")
    assert engine.sent == [(Verb.ABORT, "a")]


@pytest.mark.parametrize(("abort", "within_s"), [({}, 60), ({"grace": 120}, 180), ({"grace": 0.5}, 60.5), (None, 60)])
def test_a_restart_waits_for_the_grace_that_the_run_has_to_end(abort: Json, within_s: float, tmp_path: Path) -> None:
    """An abort that is applied, and a job that stays active nevertheless."""

    class Deaf(ScriptedEngine):
        def observe(self, job_id: str, run_id: str = "") -> Observation:
            return Observation(Status.ACTIVE)

    pauses = Pauses()
    job = Job("a", "a", Desired.RUNNING, OLD, "again")
    records = {"a": Record("a", Desired.RUNNING, {**OLD, "abort": abort})}
    plan, subjects = planned({"a": job}, records)
    with store_in(tmp_path).open(TARGET, "apply", 0) as session:
        session.put_all(records, "import")
        engine = Deaf({}, {})
        context = context_of(engine, session)._replace(pause=pauses)
        ends = carry_out(plan, subjects, context, parallelism=1, fail_fast=False)
        [outcome] = [event.outcome for ended in ends for event in ended]
    assert (outcome.outcome, engine.sent) == (Outcome.FAILED, [(Verb.ABORT, "a")])
    assert within_s <= sum(pauses) < within_s + 2
