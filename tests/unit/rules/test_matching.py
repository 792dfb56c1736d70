"""Matching: which record belongs to which job of the manifest."""

from decisions import ABSENT, CONFIG, RUNNING, observation_of
from reconciler.engines.bytenite.plugin import PLUGIN
from reconciler.model.jobs import (
    NOT_OBSERVED,
    Desired,
    Job,
    Record,
    Status,
    Verb,
)
from reconciler.model.plan import ActionKind
from reconciler.rules.decide import decide
from reconciler.rules.matching import match_records, prune


def test_a_renamed_job_keeps_its_record_and_is_not_run_again() -> None:
    jobs = {"new": Job("new", "x", Desired.RUNNING, CONFIG)}
    matching = match_records(jobs, {"old": Record("x", Desired.RUNNING, CONFIG)}, PLUGIN.same_config)
    decision = decide(matching.subjects[0], NOT_OBSERVED)
    assert (decision.kind, decision.reason) == ("adopt", "renamed from old; recorded without a call")
    assert matching.moves == {"old": "new"}
    assert matching.undeclared == ()


def test_two_jobs_that_swap_names_keep_their_records() -> None:
    jobs = {"a": Job("a", "2", Desired.RUNNING, CONFIG), "b": Job("b", "1", Desired.RUNNING, CONFIG)}
    records = {"a": Record("1", Desired.RUNNING, CONFIG), "b": Record("2", Desired.RUNNING, CONFIG)}
    matching = match_records(jobs, records, PLUGIN.same_config)
    assert matching.moves == {"a": "b", "b": "a"}
    assert [decide(s, NOT_OBSERVED).kind for s in matching.subjects] == ["adopt", "adopt"]


def test_a_job_with_a_new_id_is_run_and_the_old_ids_record_stays_as_undeclared() -> None:
    jobs = {"a": Job("a", "new-id", Desired.RUNNING, CONFIG)}
    matching = match_records(jobs, {"a": Record("old-id", Desired.RUNNING, CONFIG)}, PLUGIN.same_config)
    assert decide(matching.subjects[0], NOT_OBSERVED).kind == "run"
    assert matching.moves == {"a": " a@old-id"}
    assert matching.undeclared == (" a@old-id",)


def test_a_job_no_longer_declared_is_only_shown() -> None:
    matching = match_records({}, {"a": RUNNING, "gone": ABSENT}, PLUGIN.same_config)
    assert matching.subjects == ()
    assert matching.undeclared == ("a",)
    assert matching.spent == ("gone",)


def test_prune_deletes_the_undeclared_and_drops_its_record() -> None:
    records = {"a": RUNNING}
    pruned = prune(match_records({}, records, PLUGIN.same_config), records)
    decision = decide(pruned.subjects[0], NOT_OBSERVED)
    assert (decision.kind, decision.verbs, decision.record) == ("delete", (Verb.ABORT, Verb.DELETE), None)
    gone = decide(pruned.subjects[0], observation_of(Status.MISSING))
    assert (gone.kind, gone.record) == (ActionKind.FORGET, None)
