"""A job that was aborted to be run anew, and whose run may end by itself nevertheless: a service may take its time."""

import pytest

from decisions import CONFIG, RUNNING, decided, job, observation_of
from reconciler.model.jobs import ENDS, Desired, Doubt, Job, Observation, Record, Status, Verb
from reconciler.rules.drift import compare
from reconciler.rules.matching import Subject
from reconciler.rules.records import applied, settled
from reconciler.rules.table import Kind
from reconciler.state.record_json import record_from_json, record_to_json

BEGAN, LATER = "2026-11-16T00:00:00Z", "2026-11-17T00:00:00Z"
FIRST = RUNNING._replace(run_tokens=frozenset({"1"}), submitted_at=BEGAN, run=1)
NEW = job(run_token="2")
OLD = job(run_token="1")
BY_ITSELF = [Status.COMPLETE, Status.FAILED]


def same(a: object, b: object) -> bool:
    return a == b


def aborted_for(wanted: Job) -> Record:
    """The record after the abort of a restart was accepted."""
    return applied(wanted, FIRST, Verb.ABORT, BEGAN)


def ended(status: Status, began: str = BEGAN) -> Observation:
    return observation_of(status)._replace(submitted_at=began)


@pytest.mark.parametrize("status", BY_ITSELF)
def test_a_restart_that_is_taken_back_runs_nothing_if_the_run_has_ended_by_itself(status: Status) -> None:
    decision = decided(OLD, aborted_for(NEW), ended(status))
    assert (decision.kind, decision.verbs) == ("adopt", ())
    assert decision.reason.startswith("the run ended by itself, in spite of its abort; recorded without a call")
    assert decision.record == FIRST._replace(end=status)
    # A token that led to no run may be given once more.
    assert decided(NEW, decision.record, ended(status)).verbs == (Verb.RUN,)


@pytest.mark.parametrize("status", BY_ITSELF)
def test_a_restart_that_is_still_asked_for_runs_once(status: Status) -> None:
    decision = decided(NEW, aborted_for(NEW), ended(status))
    assert decision.verbs == (Verb.RUN,)
    assert 'runToken "2"' in decision.reason
    assert decision.record is not None
    assert (decision.record.run_tokens, decision.record.restart) == (frozenset({"1", "2"}), None)


def test_a_new_config_goes_by_how_the_run_has_ended() -> None:
    wanted = job(run_token="1", config={"taskTimeout": 700})
    record = aborted_for(wanted)
    assert record.restart == frozenset()
    assert decided(wanted, record, ended(Status.COMPLETE)).kind == "adopt"
    assert decided(wanted, record, ended(Status.FAILED)).verbs == (Verb.RUN,)


@pytest.mark.parametrize("wanted", [OLD, NEW], ids=["taken back", "asked for"])
def test_a_run_that_was_aborted_is_run_anew(wanted: Job) -> None:
    assert decided(wanted, aborted_for(NEW), ended(Status.ABORTED)).verbs == (Verb.RUN,)


def test_the_run_after_the_abort_says_what_it_is_for() -> None:
    assert decided(NEW, aborted_for(NEW), ended(Status.ABORTED)).reason.startswith(
        'aborted for a restart, new runToken "2"; '
    )
    assert decided(OLD, aborted_for(NEW), ended(Status.ABORTED)).reason.startswith("aborted for a restart; ")


@pytest.mark.parametrize("status", sorted(ENDS))
def test_the_end_of_another_run_says_nothing_of_the_aborted_one(status: Status) -> None:
    assert decided(OLD, aborted_for(NEW), ended(status, LATER)).kind == "hold"


@pytest.mark.parametrize("status", BY_ITSELF)
def test_a_job_that_was_declared_aborted_is_run_once_it_is_declared_running(status: Status) -> None:
    declared = applied(job("aborted"), FIRST, Verb.ABORT, BEGAN)
    assert declared.restart is None
    assert decided(OLD, declared, ended(status)).verbs == (Verb.RUN,)
    # A second abort is no restart either.
    assert applied(OLD, declared, Verb.ABORT, BEGAN).restart is None


def test_the_tokens_of_several_restarts_are_kept_until_the_next_run() -> None:
    third = applied(job(run_token="3"), aborted_for(NEW), Verb.ABORT, BEGAN)
    assert third.restart == frozenset({"2", "3"})
    assert decided(OLD, third, ended(Status.COMPLETE)).record == FIRST._replace(end=Status.COMPLETE)
    assert applied(OLD, third, Verb.RUN, LATER).restart is None


def test_a_doubt_does_not_say_whether_its_abort_was_that_of_a_restart() -> None:

    doubt = Doubt("op", Verb.ABORT, CONFIG, "2", None, LATER, "")
    after = settled(FIRST._replace(doubt=doubt), was_applied=True)
    assert after is not None
    assert (after.state, after.restart) == (Desired.ABORTED, None)


def test_drift_knows_the_run_that_ended_by_itself() -> None:
    finding = compare(Subject(OLD, aborted_for(NEW), same), ended(Status.COMPLETE))
    assert finding.kind is Kind.SAME


@pytest.mark.parametrize("record", [aborted_for(NEW), aborted_for(OLD), FIRST])
def test_a_record_is_written_and_read_again(record: Record) -> None:
    assert record_from_json(record_to_json(record)) == record
