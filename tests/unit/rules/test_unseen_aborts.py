"""Aborts of which nobody has seen that they ended the run. The run may end by itself: a service may take its time."""

from math import inf
from typing import Any

import pytest

from decisions import CONFIG, RUNNING, decided, job, observation_of
from reconciler.model.jobs import ENDS, Desired, Doubt, Freeze, Job, Observation, OnConfigChange, Record, Status, Verb
from reconciler.model.promises import Promises
from reconciler.rules.decide import decide
from reconciler.rules.decisions import Decision
from reconciler.rules.drift import compare
from reconciler.rules.matching import Subject, Terms
from reconciler.rules.records import applied, noted, settled, without_old_doubt
from reconciler.rules.runs import digests
from reconciler.rules.table import Kind
from reconciler.state.merging import united
from reconciler.state.record_json import record_from_json, record_to_json

BEGAN, LATER = "2026-11-16T00:00:00Z", "2026-11-17T00:00:00Z"
FIRST = RUNNING._replace(run_tokens=frozenset({"1"}), submitted_at=BEGAN, run=1)
NEW = job(run_token="2")
OLD = job(run_token="1")
BY_ITSELF = [Status.COMPLETE, Status.FAILED]
FORGETS = Promises(creates_on_run=True, atomic_run=True, reads=True, lists=True, keeps_ended_s=1.0, has_logs=False)


def same(a: object, b: object) -> bool:
    return a == b


def aborted_for(wanted: Job, record: Record = FIRST) -> Record:
    """The record after the abort of a restart was accepted."""
    return applied(wanted, record, Verb.ABORT, BEGAN)


def ended(status: Status, began: str = BEGAN) -> Observation:
    return observation_of(status)._replace(submitted_at=began)


def decided_if_gone(wanted: Job, record: Record) -> Decision:
    """The decision if the engine, whose runs create jobs, does not know the run any more."""
    subject = Subject(wanted, record, same, terms=Terms(FORGETS, "lineage", now_s=inf))
    return decide(subject, observation_of(Status.MISSING))


# --- the run ended by itself -------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", BY_ITSELF)
def test_a_restart_that_is_taken_back_runs_nothing_if_the_run_has_ended_by_itself(status: Status) -> None:
    decision = decided(OLD, aborted_for(NEW), ended(status))
    assert (decision.kind, decision.verbs) == ("adopt", ())
    assert decision.reason.startswith("the run ended by itself, in spite of its abort; recorded without a call")
    assert decision.record == FIRST._replace(end=status)


@pytest.mark.parametrize("status", BY_ITSELF)
def test_a_restart_that_is_still_asked_for_runs_once(status: Status) -> None:
    decision = decided(NEW, aborted_for(NEW), ended(status))
    assert decision.verbs == (Verb.RUN,)
    assert 'runToken "2"' in decision.reason
    assert decision.record is not None
    assert (decision.record.run_tokens, decision.record.abort_unseen) == (frozenset({"1", "2"}), False)


def test_a_new_config_goes_by_how_the_run_has_ended() -> None:
    wanted = job(run_token="1", config={"taskTimeout": 700})
    record = aborted_for(wanted)
    assert decided(wanted, record, ended(Status.COMPLETE)).kind == "adopt"
    assert decided(wanted, record, ended(Status.FAILED)).verbs == (Verb.RUN,)


@pytest.mark.parametrize("wanted", [OLD, NEW], ids=["taken back", "asked for"])
def test_a_run_that_was_aborted_is_run_anew(wanted: Job) -> None:
    assert decided(wanted, aborted_for(NEW), ended(Status.ABORTED)).verbs == (Verb.RUN,)


def test_the_run_after_the_abort_says_what_it_is_for() -> None:
    assert decided(NEW, aborted_for(NEW), ended(Status.ABORTED)).reason.startswith(
        'the run before was aborted, new runToken "2"; '
    )
    assert decided(OLD, aborted_for(NEW), ended(Status.ABORTED)).reason.startswith("the run before was aborted; ")


@pytest.mark.parametrize("status", sorted(ENDS))
def test_the_end_of_another_run_says_nothing_of_the_aborted_one(status: Status) -> None:
    assert decided(OLD, aborted_for(NEW), ended(status, LATER)).kind == "hold"


@pytest.mark.parametrize("status", BY_ITSELF)
def test_an_end_that_is_read_is_recorded_whatever_the_job_is_held_for(status: Status) -> None:
    """The service may have forgotten the run by the time that the hold is lifted."""
    record = aborted_for(NEW)
    assert noted(record, ended(status), LATER, FORGETS) == FIRST._replace(end=status)
    assert noted(record, ended(status, LATER), LATER, FORGETS) == record
    seen = noted(record, ended(Status.ABORTED), LATER, FORGETS)
    assert (seen.state, seen.abort_unseen) == (Desired.ABORTED, False)
    assert decided_if_gone(OLD, seen).verbs == (Verb.RUN,)


# --- tokens ------------------------------------------------------------------------------------------------------


def test_an_abort_consumes_no_token() -> None:
    third = aborted_for(job(run_token="3"), aborted_for(NEW))
    assert (third.run_tokens, third.abort_unseen) == (frozenset({"1"}), True)
    again = applied(OLD, third, Verb.RUN, LATER)
    assert (again.run_tokens, again.abort_unseen) == (frozenset({"1"}), False)
    # A token that led to no run may be given once more.
    assert decided(NEW, again, observation_of(Status.ACTIVE)).verbs == (Verb.ABORT, Verb.RUN)


@pytest.mark.parametrize("state", [Desired.ABORTED, Desired.ABSENT])
def test_an_abort_in_doubt_consumes_no_token(state: Desired) -> None:
    doubt = Doubt("op", Verb.ABORT, CONFIG, "2", None, LATER, "", run=1)
    after = settled(FIRST._replace(doubt=doubt), was_applied=True)
    assert after is not None
    assert (after.state, after.run_tokens, after.abort_unseen) == (Desired.ABORTED, frozenset({"1"}), False)


# --- declared aborted --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", BY_ITSELF)
def test_a_job_that_was_declared_aborted_is_run_once_it_is_declared_running(status: Status) -> None:
    declared = applied(job("aborted"), FIRST, Verb.ABORT, BEGAN)
    assert not declared.abort_unseen
    assert decided(OLD, declared, ended(status)).verbs == (Verb.RUN,)
    # A second abort is no restart either.
    assert not applied(OLD, declared, Verb.ABORT, BEGAN).abort_unseen


@pytest.mark.parametrize("observed", [observation_of(Status.NOT_OBSERVED), ended(Status.ABORTED)])
def test_a_job_that_is_declared_aborted_after_the_abort_of_a_restart_does_not_go_back(observed: Observation) -> None:
    decision = decided(job("aborted"), aborted_for(NEW), observed)
    assert (decision.kind, decision.verbs) == ("adopt", ())
    assert decision.record is not None
    assert decided(OLD, decision.record, ended(Status.COMPLETE)).verbs == (Verb.RUN,)


@pytest.mark.parametrize("protect", [None, True])
def test_a_frozen_job_goes_back_once_it_is_frozen_no_more(protect: bool | None) -> None:
    frozen = job("aborted")._replace(freeze=Freeze("for now"), protect=protect)
    record = aborted_for(NEW)
    for subject in (Subject(frozen, record, same), Subject(frozen, record, same, renamed_from="b")):
        after = decide(subject, observation_of(Status.NOT_OBSERVED)).record
        assert after is not None
        assert after.abort_unseen
    gone = Subject(OLD._replace(freeze=Freeze("for now")), record, same, terms=Terms(FORGETS, "lineage", now_s=inf))
    assert decide(gone, observation_of(Status.MISSING)).kind == "noop"


# --- the service does not know the run any more ------------------------------------------------------------------


def in_doubt(record: Record = FIRST, run: int = 1) -> Record:
    before = ended(Status.ACTIVE).evidence
    return record._replace(doubt=Doubt("op", Verb.ABORT, CONFIG, "2", before, LATER, "lost", run=run))


@pytest.mark.parametrize("record", [aborted_for(NEW), settled(in_doubt(), was_applied=True, is_unseen=True)])
def test_a_job_is_held_if_nobody_knows_how_the_run_that_is_asked_for_ended(record: Record) -> None:
    decision = decided_if_gone(OLD, record)
    assert (decision.kind, decision.verbs) == ("hold", ())
    assert "may have ended by itself" in decision.reason
    assert "--ended complete" in decision.way_out
    changed = OLD._replace(config={"taskTimeout": 700}, on_config_change=OnConfigChange.HOLD)
    assert decided_if_gone(changed, record).kind == "hold"


def test_a_service_without_reads_does_not_tell_either() -> None:
    blind = Subject(OLD, aborted_for(NEW), same, terms=Terms(FORGETS._replace(reads=False), "lineage"))
    decision = decide(blind, observation_of(Status.NOT_OBSERVED))
    assert (decision.kind, "may have ended by itself; say how" in decision.reason) == ("hold", True)
    assert decide(blind._replace(job=NEW), observation_of(Status.NOT_OBSERVED)).verbs == (Verb.RUN,)


def test_a_config_that_asks_for_one_more_run_is_run_whatever_the_end_was() -> None:
    rerun = OLD._replace(config={"taskTimeout": 700}, on_config_change=OnConfigChange.RERUN)
    assert decided_if_gone(rerun, aborted_for(NEW)).verbs == (Verb.RUN,)


def test_a_second_abort_of_a_job_that_was_declared_aborted_leaves_nothing_to_go_back_to() -> None:
    declared = applied(job("aborted"), FIRST, Verb.ABORT, BEGAN)
    after = settled(in_doubt(declared), was_applied=True, is_unseen=True)
    assert after is not None
    assert not after.abort_unseen


@pytest.mark.parametrize("record", [aborted_for(NEW), settled(in_doubt(), was_applied=True, is_unseen=True)])
def test_a_run_that_is_asked_for_is_made_though_nobody_knows_how_the_run_before_ended(record: Record) -> None:
    assert decided_if_gone(NEW, record).verbs == (Verb.RUN,)
    assert decided_if_gone(job("absent"), record).verbs == ()


# --- other copies of the state -----------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", [Verb.ABORT, Verb.DELETE])
def test_a_doubt_about_an_earlier_run_changes_nothing_about_a_later_one(verb: Verb) -> None:
    doubt = Doubt("op", verb, CONFIG, "2", ended(Status.ACTIVE).evidence, LATER, "lost", run=1)
    later = FIRST._replace(run=2, run_tokens=frozenset({"1", "3"}))
    assert without_old_doubt(later._replace(doubt=doubt)) == later
    assert settled(later._replace(doubt=doubt), was_applied=True) == later
    assert united(later, FIRST._replace(doubt=doubt))[0] == later
    relevant = doubt._replace(op="op-2", run=2)
    assert united(FIRST._replace(doubt=doubt), later._replace(doubt=relevant)) == (later._replace(doubt=relevant), [])
    assert without_old_doubt(FIRST._replace(doubt=doubt)).doubt == doubt


def test_of_one_run_the_record_counts_that_has_followed_it_further() -> None:
    aborted, complete = aborted_for(NEW), FIRST._replace(end=Status.COMPLETE)
    elsewhere = FIRST._replace(end=Status.ABORTED)
    seen, declared = aborted._replace(abort_unseen=False), applied(job("aborted"), complete, Verb.ABORT, BEGAN)
    for first, then in (
        (FIRST, aborted),
        (elsewhere, aborted),
        (aborted, complete),
        (FIRST, complete),
        (aborted, seen),
        (complete, declared),
    ):
        for pair in ((first, then), (then, first)):
            made, _ = united(*pair)
            assert made.state is then.state
            # What another copy of the state saw of the end has been seen.
            assert made.abort_unseen == (then.abort_unseen and first.end is None)


def test_the_abort_of_one_of_two_runs_of_a_number_says_nothing_of_the_other() -> None:
    other = FIRST._replace(ref="uid-2")
    assert united(other, aborted_for(NEW)._replace(ref="uid-1"))[0].state is Desired.RUNNING


@pytest.mark.parametrize(("token", "kind"), [("2", "adopt"), ("3", "hold")])
def test_a_later_run_is_adopted_only_if_it_is_the_one_that_is_asked_for(token: str, kind: str) -> None:
    """Another copy of the state may have run the job, with another run token."""
    marks = digests(CONFIG, token)._replace(lineage="lineage", op="other")
    active = ended(Status.ACTIVE, LATER)._replace(config=CONFIG, marks=marks)
    subject = Subject(NEW, aborted_for(NEW), same, lineage="lineage")
    assert decide(subject, active).kind == kind


# --- the record --------------------------------------------------------------------------------------------------


def test_drift_knows_the_run_that_ended_by_itself() -> None:
    finding = compare(Subject(OLD, aborted_for(NEW), same), ended(Status.COMPLETE))
    assert finding.kind is Kind.SAME


@pytest.mark.parametrize("record", [aborted_for(NEW), FIRST])
def test_a_record_is_written_and_read_again(record: Record) -> None:
    written: dict[str, Any] = record_to_json(record)
    assert record_from_json(written) == record
    assert ("abortUnseen" in written) == record.abort_unseen
