"""Records after a call, and after a call in doubt is settled."""

from decisions import ABORTED, CONFIG, RUNNING, decided, job
from reconciler.model.jobs import (
    Desired,
    Doubt,
    Evidence,
    Observation,
    Record,
    Status,
    Verb,
)
from reconciler.rules.records import applied, settled


def test_an_abort_that_is_settled_keeps_the_run_that_it_was_sent_to() -> None:
    before = Evidence(Status.ACTIVE, "X", "2026-11-21T10:00:00Z")
    doubt = Doubt("op", Verb.ABORT, CONFIG, None, before, "then", "HTTP 503")
    after = settled(RUNNING._replace(doubt=doubt), True)
    assert after == ABORTED._replace(submitted_at="2026-11-21T10:00:00Z")


def test_other_words_for_one_instant_change_no_record() -> None:
    record = RUNNING._replace(submitted_at="2026-11-21T10:00:00Z")
    for verb in (Verb.ABORT, Verb.RUN):
        assert applied(job(), record, verb, "2026-11-21T10:00:00.000Z").submitted_at == record.submitted_at
    observed = Observation(Status.COMPLETE, "X", CONFIG, "2026-11-21T11:00:00+01:00")
    assert decided(job(), record, observed).kind == "noop"
    assert decided(job("aborted"), record, observed).record == record._replace(state=Desired.ABORTED)


def test_settling_a_doubt_as_applied_records_what_was_sent() -> None:
    doubt = Doubt("op", Verb.RUN, {"taskTimeout": 9}, "t", None, "when", "HTTP 503")
    assert settled(Record("a", None, doubt=doubt), True) == Record(
        "a", Desired.RUNNING, {"taskTimeout": 9}, frozenset({"t"}), ran_configs=frozenset({'{"taskTimeout":9}'})
    )


def test_settling_a_doubt_as_not_applied_leaves_what_was_recorded_before() -> None:
    doubt = Doubt("op", Verb.RUN, {}, None, None, "when", "HTTP 503")
    assert settled(Record("a", None, doubt=doubt), False) is None
    assert settled(Record("a", Desired.ABORTED, CONFIG, doubt=doubt), False) == ABORTED


def test_an_abort_keeps_the_config_of_the_last_run_on_record() -> None:
    assert applied(job("aborted"), RUNNING, Verb.ABORT) == ABORTED
