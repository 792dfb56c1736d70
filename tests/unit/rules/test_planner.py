"""The decision table, every cell, and what bends it."""

import pytest

from in_process import planned
from reconciler.engines.bytenite.wire import call_for
from reconciler.model.jobs import (
    NOT_OBSERVED,
    Desired,
    Doubt,
    Evidence,
    Job,
    Observation,
    OnConfigChange,
    Record,
    State,
    Status,
    Suspension,
    Target,
    Verb,
)
from reconciler.model.plan import ActionKind, Change
from reconciler.model.plan_json import plan_from_json, plan_to_json
from reconciler.rules.actions import make_plan
from reconciler.rules.configs import agrees, config_changes, same_config
from reconciler.rules.decide import Decision, decide
from reconciler.rules.matching import Subject, match_records, prune
from reconciler.rules.records import applied, settled
from reconciler.rules.table import TABLE, Asked

CONFIG = {"taskTimeout": 600}
RUNNING = Record("a", Desired.RUNNING, CONFIG)
ABORTED = Record("a", Desired.ABORTED, CONFIG)
ABSENT = Record("a", Desired.ABSENT)


def job(state: str = "running", **more: object) -> Job:
    return Job("a", "a", Desired(state), **{"config": CONFIG, **more})  # type: ignore[arg-type]


def seen(status: Status) -> Observation:
    words = {
        Status.DRAFT: "JOB_STATE_NEW",
        Status.ACTIVE: "JOB_STATE_RUNNING",
        Status.COMPLETE: "JOB_STATE_COMPLETE",
        Status.FAILED: "JOB_STATE_FAILED",
        Status.ABORTED: "JOB_STATE_ABORTED",
    }
    return Observation(status, words.get(status, ""), detail="HTTP 500" if status is Status.UNREADABLE else "")


def decided(desired: Job, record: Record | None, observed: Observation = NOT_OBSERVED) -> Decision:
    return decide(Subject(desired, record), observed)


# One line a cell of DESIGN's table, in its order. The columns: desired and record; then what each row gives.
# A cell names the action, or the action and a word that its reason must hold.
COLUMNS: dict[str, tuple[Asked, Job, Record | None]] = {
    "first run": (Asked.FIRST_RUN, job(), None),
    "same": (Asked.SAME, job(), RUNNING),
    "config changed": (Asked.NEW_CONFIG, job(config={"taskTimeout": 700}), RUNNING),
    "new token": (Asked.RERUN, job(run_token="t2"), RUNNING),
    "recorded aborted": (Asked.RERUN, job(), ABORTED),
    "recorded absent": (Asked.RERUN, job(), ABSENT),
    "abort": (Asked.ABORTED, job("aborted"), RUNNING),
    "abort, no record": (Asked.ABORTED, job("aborted"), None),
    "aborted already": (Asked.ABORTED, job("aborted"), ABORTED),
    "abort of an absent one": (Asked.ABORTED, job("aborted"), ABSENT),
    "delete": (Asked.ABSENT, job("absent"), RUNNING),
    "delete, no record": (Asked.ABSENT, job("absent"), None),
    "delete of an aborted one": (Asked.ABSENT, job("absent"), ABORTED),
    "absent already": (Asked.ABSENT, job("absent"), ABSENT),
}
CELLS: dict[Status, dict[str, str]] = {
    Status.NOT_OBSERVED: {
        "first run": "run: first run",
        "same": "noop",
        "config changed": "restart: config.taskTimeout 600 → 700",
        "new token": 'restart: new runToken "t2"',
        "recorded aborted": "run: state aborted → running",
        "recorded absent": "run: state absent → running",
        "abort": "abort",
        "abort, no record": "abort",
        "aborted already": "noop",
        "abort of an absent one": "noop",
        "delete": "delete abort+delete",
        "delete, no record": "delete delete",
        "delete of an aborted one": "delete delete",
        "absent already": "noop",
    },
    Status.DRAFT: {
        "first run": "run",
        "same": "hold: lost run",
        "config changed": "run",
        "new token": "run",
        "recorded aborted": "run",
        "recorded absent": "run",
        "abort": "adopt: an abort would delete it",
        "abort, no record": "adopt",
        "aborted already": "noop",
        "abort of an absent one": "adopt",
        "delete": "delete delete",
        "delete, no record": "delete delete",
        "delete of an aborted one": "delete delete",
        "absent already": "delete delete",
    },
    Status.ACTIVE: {
        "first run": "adopt",
        "same": "noop",
        "config changed": "restart",
        "new token": "restart",
        "recorded aborted": "run run: it is not known whether that is the run that was aborted",
        "recorded absent": "restart",
        "abort": "abort",
        "abort, no record": "abort",
        "aborted already": "abort",
        "abort of an absent one": "abort",
        "delete": "delete abort+delete",
        "delete, no record": "delete abort+delete",
        "delete of an aborted one": "delete abort+delete",
        "absent already": "delete abort+delete",
    },
    Status.COMPLETE: {
        "first run": "adopt: not run again",
        "same": "noop",
        "config changed": "adopt: counts from the next run",
        "new token": "run",
        "recorded aborted": "run",
        "recorded absent": "run",
        "abort": "adopt",
        "abort, no record": "adopt",
        "aborted already": "noop",
        "abort of an absent one": "adopt",
        "delete": "delete delete",
        "delete, no record": "delete delete",
        "delete of an aborted one": "delete delete",
        "absent already": "delete delete",
    },
    Status.FAILED: {
        "first run": "adopt: not run again",
        "same": "noop: failed",
        "config changed": "run",
        "new token": "run",
        "recorded aborted": "run",
        "recorded absent": "run",
        "abort": "adopt",
        "abort, no record": "adopt",
        "aborted already": "noop",
        "abort of an absent one": "adopt",
        "delete": "delete delete",
        "delete, no record": "delete delete",
        "delete of an aborted one": "delete delete",
        "absent already": "delete delete",
    },
    Status.ABORTED: {
        "first run": "hold: aborted by someone else",
        "same": "hold: aborted by someone else",
        "config changed": "hold: aborted by someone else",
        "new token": "run",
        "recorded aborted": "run",
        "recorded absent": "run",
        "abort": "adopt",
        "abort, no record": "adopt",
        "aborted already": "noop",
        "abort of an absent one": "adopt",
        "delete": "delete delete",
        "delete, no record": "delete delete",
        "delete of an aborted one": "delete delete",
        "absent already": "delete delete",
    },
    Status.MISSING: {
        "first run": "error: no such job",
        "same": "hold: gone",
        "config changed": "error: needs a new id",
        "new token": "error: needs a new id",
        "recorded aborted": "error: needs a new id",
        "recorded absent": "error: needs a new id",
        "abort": "adopt",
        "abort, no record": "adopt",
        "aborted already": "noop",
        "abort of an absent one": "adopt",
        "delete": "adopt",
        "delete, no record": "adopt",
        "delete of an aborted one": "adopt",
        "absent already": "noop",
    },
    Status.UNREADABLE: dict.fromkeys(COLUMNS, "error: HTTP 500"),
}


@pytest.mark.parametrize("column", COLUMNS)
@pytest.mark.parametrize("status", Status)
def test_each_cell_of_the_decision_table(status: Status, column: str) -> None:
    _, desired, record = COLUMNS[column]
    want, _, words = CELLS[status][column].partition(": ")
    kind, _, verbs = want.partition(" ")
    decision = decided(desired, record, seen(status))

    assert decision.kind == ("hold" if kind == "error" else kind)
    assert words in decision.reason
    assert bool(decision.error) == (kind == "error")
    if verbs:
        assert "+".join(decision.verbs) == verbs


def test_the_table_is_total_and_every_column_is_tried() -> None:
    assert set(TABLE) == set(Status) == set(CELLS)
    assert all(set(row.asked) == set(Asked) for row in TABLE.values())
    assert all(set(row.recorded) == set(Desired) for row in TABLE.values())
    assert {asked for asked, _, _ in COLUMNS.values()} == set(Asked)
    assert all(set(row) == set(COLUMNS) for row in CELLS.values())


def test_an_active_job_without_a_record_is_adopted_where_its_config_is_not_told() -> None:
    assert decided(job(), None, Observation(Status.ACTIVE, "X", config=None)).kind == "adopt"


def test_an_active_job_without_a_record_is_adopted_where_its_config_agrees() -> None:
    observed = Observation(Status.ACTIVE, "X", config={"taskTimeout": 600, "jobTimeout": 5})
    decision = decided(job(config={"taskTimeout": 600, "isTestJob": False}), None, observed)
    assert decision.kind == "adopt"
    assert decision.record == Record("a", Desired.RUNNING, {"taskTimeout": 600, "isTestJob": False})


def test_an_active_job_without_a_record_is_restarted_where_its_config_differs() -> None:
    decision = decided(job(), None, Observation(Status.ACTIVE, "X", config={"taskTimeout": 5}))
    assert decision.kind == "restart"
    assert decision.verbs == (Verb.ABORT, Verb.RUN)
    assert Change("config.taskTimeout", 5, 600) in decision.changes
    assert "config.taskTimeout 5 → 600" in decision.reason


def test_an_active_job_recorded_aborted_is_adopted_only_where_its_config_is_told_and_agrees() -> None:
    aborted = ABORTED._replace(submitted_at="")
    later = Observation(Status.ACTIVE, "X", CONFIG, "2026-11-21T10:00:00Z")
    assert decided(job(), aborted, later).kind == "adopt"
    other_config = decided(job(), aborted, later._replace(config={"taskTimeout": 5}))
    assert "run since this was recorded" in other_config.reason
    assert other_config.kind == "hold"


@pytest.mark.parametrize(
    ("recorded", "submitted_at", "why"),
    [
        ("2026-11-21T10:00:00Z", "2026-11-21T10:00:00Z", "that is the run that was aborted"),
        ("2026-11-21T10:00:00Z", "2026-11-21T11:00:00.000+01:00", "that is the run that was aborted"),
        ("2026-11-21T10:00:00Z", "2026-11-21T10:00:00.123Z", "that is the run that was aborted"),
        ("2026-11-21T10:00:00Z", None, "it is not known whether that is the run that was aborted"),
        (None, "2026-11-21T10:00:00Z", "it is not known whether that is the run that was aborted"),
    ],
)
def test_a_run_that_was_aborted_and_is_active_still_is_never_adopted(
    recorded: str | None, submitted_at: str | None, why: str
) -> None:
    decision = decided(
        job(), ABORTED._replace(submitted_at=recorded), Observation(Status.ACTIVE, "X", CONFIG, submitted_at)
    )
    assert (decision.kind, decision.verbs, decision.once_over) == ("run", (Verb.RUN,), True)
    assert why in decision.reason
    assert "the new one follows its end" in decision.reason


def test_a_read_of_a_run_before_the_one_that_was_aborted_is_held() -> None:
    aborted = ABORTED._replace(submitted_at="2026-11-21T10:00:00Z")
    decision = decided(job(), aborted, Observation(Status.ACTIVE, "X", CONFIG, "2026-11-21T09:00:00Z"))
    assert decision.kind == "hold"
    assert "the service tells of an earlier run than the recorded one" in decision.reason


def test_a_delete_of_a_job_whose_abort_has_yet_to_show_follows_its_end_without_another_abort() -> None:
    aborted = ABORTED._replace(submitted_at="2026-11-21T10:00:00Z")
    ending = Observation(Status.ACTIVE, "X", CONFIG, "2026-11-21T10:00:00.000Z")
    decision = decided(job("absent"), aborted, ending)
    assert (decision.kind, decision.verbs, decision.once_over) == ("delete", (Verb.DELETE,), True)
    run_since = decided(job("absent"), aborted, ending._replace(submitted_at="2026-11-21T11:00:00Z"))
    assert (run_since.verbs, run_since.once_over) == ((Verb.ABORT, Verb.DELETE), False)


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


def test_adopting_a_run_consumes_its_token() -> None:
    decision = decided(job(run_token="t"), None, Observation(Status.ACTIVE, "X", config=CONFIG))
    assert decision.record == Record("a", Desired.RUNNING, CONFIG, frozenset({"t"}))


def test_going_back_to_a_consumed_token_fires_nothing() -> None:
    record = Record("a", Desired.RUNNING, CONFIG, frozenset({"monday", "tuesday"}))
    assert decided(job(run_token="monday"), record).kind == "noop"


def test_a_token_with_a_lost_record_does_not_run_a_finished_job_again() -> None:
    assert decided(job(run_token="t"), None, seen(Status.COMPLETE)).kind == "adopt"


@pytest.mark.parametrize("status", [s for s in Status if s not in (Status.MISSING, Status.UNREADABLE)])
@pytest.mark.parametrize(("mode", "kind"), [(OnConfigChange.NEXT_RUN, "adopt"), (OnConfigChange.HOLD, "hold")])
def test_on_config_change_bends_the_config_column(status: Status, mode: OnConfigChange, kind: str) -> None:
    desired = job(config={"taskTimeout": 700}, on_config_change=mode)
    assert decided(desired, RUNNING, seen(status)).kind == kind


@pytest.mark.parametrize("mode", OnConfigChange)
def test_on_config_change_does_not_bend_the_errors(mode: OnConfigChange) -> None:
    desired = job(config={"taskTimeout": 700}, on_config_change=mode)
    assert decided(desired, RUNNING, seen(Status.MISSING)).error
    assert decided(desired, RUNNING, seen(Status.UNREADABLE)).error


@pytest.mark.parametrize(
    ("desired", "kind"),
    [
        (job("aborted", protect=True), "hold"),
        (job("absent", protect=True), "hold"),
        (job(protect=True, config={"taskTimeout": 700}), "hold"),
        (job(protect=True), "adopt"),
    ],
)
def test_protect_refuses_abort_restart_and_delete(desired: Job, kind: str) -> None:
    assert decided(desired, RUNNING).kind == kind


def test_protect_lets_a_first_run_through() -> None:
    assert decided(job(protect=True), None).kind == "run"


def test_a_job_in_doubt_is_held_whatever_is_asked() -> None:
    doubt = Doubt("op", Verb.RUN, CONFIG, None, None, "2026-11-21T10:00:00Z", "HTTP 503")
    for status in Status:
        decision = decided(job(config={"taskTimeout": 1}), Record("a", None, doubt=doubt), seen(status))
        assert decision.kind == "hold"
        assert "`reconciler resolve a --applied`, or the same with `--not-applied`" in decision.reason
        assert "2026-11-21T10:00:00Z" in decision.reason


def test_a_boolean_left_out_is_false_so_it_is_no_change() -> None:
    assert same_config({"isTestJob": False}, {})
    assert decided(job(config={**CONFIG, "isTestJob": False}), RUNNING).kind == "noop"


def test_a_field_left_out_by_the_service_is_at_its_default() -> None:
    assert agrees({"isTestJob": False}, {})
    assert not agrees({"taskTimeout": 5}, {})
    assert agrees({"taskTimeout": 5}, None)


def test_config_changes_name_each_field_once_sorted() -> None:
    assert config_changes({"taskTimeout": 1, "jobTimeout": 2}, {"jobTimeout": 3, "isTestJob": True}) == (
        Change("config.isTestJob", None, True),
        Change("config.jobTimeout", 2, 3),
        Change("config.taskTimeout", 1, None),
    )


def test_a_renamed_job_keeps_its_record_and_is_not_run_again() -> None:
    jobs = {"new": Job("new", "x", Desired.RUNNING, CONFIG)}
    matching = match_records(jobs, {"old": Record("x", Desired.RUNNING, CONFIG)})
    decision = decide(matching.subjects[0], NOT_OBSERVED)
    assert (decision.kind, decision.reason) == ("adopt", "renamed from old; recorded without a call")
    assert matching.moves == {"old": "new"}
    assert matching.undeclared == ()


def test_two_jobs_that_swap_names_keep_their_records() -> None:
    jobs = {"a": Job("a", "2", Desired.RUNNING, CONFIG), "b": Job("b", "1", Desired.RUNNING, CONFIG)}
    records = {"a": Record("1", Desired.RUNNING, CONFIG), "b": Record("2", Desired.RUNNING, CONFIG)}
    matching = match_records(jobs, records)
    assert matching.moves == {"a": "b", "b": "a"}
    assert [decide(s, NOT_OBSERVED).kind for s in matching.subjects] == ["adopt", "adopt"]


def test_a_job_with_a_new_id_is_run_and_the_old_ids_record_stays_as_undeclared() -> None:
    jobs = {"a": Job("a", "new-id", Desired.RUNNING, CONFIG)}
    matching = match_records(jobs, {"a": Record("old-id", Desired.RUNNING, CONFIG)})
    assert decide(matching.subjects[0], NOT_OBSERVED).kind == "run"
    assert matching.moves == {"a": " a@old-id"}
    assert matching.undeclared == (" a@old-id",)


def test_a_job_no_longer_declared_is_only_shown() -> None:
    matching = match_records({}, {"a": RUNNING, "gone": ABSENT})
    assert matching.subjects == ()
    assert matching.undeclared == ("a",)
    assert matching.spent == ("gone",)


def test_prune_deletes_the_undeclared_and_drops_its_record() -> None:
    records = {"a": RUNNING}
    pruned = prune(match_records({}, records), records)
    decision = decide(pruned.subjects[0], NOT_OBSERVED)
    assert (decision.kind, decision.verbs, decision.record) == ("delete", (Verb.ABORT, Verb.DELETE), None)
    gone = decide(pruned.subjects[0], seen(Status.MISSING))
    assert (gone.kind, gone.record) == (ActionKind.FORGET, None)


def test_a_plan_is_sorted_by_step_then_name_and_comes_back_from_json_equal() -> None:
    jobs = {
        "z-run": Job("z-run", "1", Desired.RUNNING, CONFIG),
        "a-run": Job("a-run", "2", Desired.RUNNING, CONFIG, run_token="t"),
        "delete": Job("delete", "3", Desired.ABSENT, {}),
        "abort": Job("abort", "4", Desired.ABORTED, {}),
        "noop": Job("noop", "5", Desired.RUNNING, CONFIG),
    }
    records = {"noop": Record("5", Desired.RUNNING, CONFIG), "left": Record("6", Desired.RUNNING)}
    state = State("lineage", 3, Target("bytenite", "https://api.example/v1"), records)
    plan = make_plan(
        match_records(jobs, records),
        {},
        call_for,
        lambda name: True,
        state=state,
        manifest_digest="sha256:" + "0" * 64,
        commit=None,
        paths=["jobs.yaml"],
    )
    assert [a.job for a in plan.actions] == ["abort", "a-run", "z-run", "delete", "noop"]
    assert plan.undeclared == ("left",)
    assert plan_from_json(plan_to_json(plan)) == plan


def test_a_plan_lists_the_jobs_that_are_as_recorded_with_the_other_noops_by_name() -> None:
    suspended = Suspension("moved")
    jobs = {
        name: Job(name, name, Desired.RUNNING, CONFIG, suspend=suspended if name == "j5" else None)
        for name in (f"j{number}" for number in range(10))
    }
    jobs["j7"] = jobs["j7"]._replace(state=Desired.ABORTED)
    records = {name: Record(name, Desired.RUNNING, CONFIG) for name in jobs}
    plan, _ = planned(jobs, records)
    listed = ["j7", "j0", "j1", "j2", "j3", "j4", "j5", "j6", "j8", "j9"]
    assert [action.job for action in plan.actions] == listed
    assert [action["job"] for action in plan_to_json(plan)["actions"]] == listed
    assert (len(plan.actions), plan.actions[-1].job, plan.actions[1].reason) == (10, "j9", "as recorded")
    assert (plan.count_of(ActionKind.NOOP), plan.count_of(ActionKind.ABORT), len(plan.suspended)) == (9, 1, 1)
    assert type(plan.actions) is tuple
    assert plan_from_json(plan_to_json(plan)) == plan


def test_settling_a_doubt_as_applied_records_what_was_sent() -> None:
    doubt = Doubt("op", Verb.RUN, {"taskTimeout": 9}, "t", None, "when", "HTTP 503")
    assert settled(Record("a", None, doubt=doubt), True) == Record(
        "a", Desired.RUNNING, {"taskTimeout": 9}, frozenset({"t"})
    )


def test_settling_a_doubt_as_not_applied_leaves_what_was_recorded_before() -> None:
    doubt = Doubt("op", Verb.RUN, {}, None, None, "when", "HTTP 503")
    assert settled(Record("a", None, doubt=doubt), False) is None
    assert settled(Record("a", Desired.ABORTED, CONFIG, doubt=doubt), False) == ABORTED


def test_an_abort_keeps_the_config_of_the_last_run_on_record() -> None:
    assert applied(job("aborted"), RUNNING, Verb.ABORT) == ABORTED
