"""The decision about one job: each cell of the table, and the rules around the table."""

import math

import pytest

from decisions import ABORTED, COLUMNS, CONFIG, RUNNING, decided, job, observation_of, subject_of
from reconciler.model.jobs import (
    Config,
    Desired,
    Doubt,
    Job,
    Observation,
    OnConfigChange,
    Record,
    Status,
    Verb,
)
from reconciler.model.plan import Change
from reconciler.model.promises import Promises
from reconciler.rules.decide import decide
from reconciler.rules.matching import Subject, Terms
from reconciler.rules.reruns import text_of
from reconciler.rules.sight import as_seen
from reconciler.rules.table import FIXED, TABLE, Asked

# CELLS has the expected decision for each row and column of the table: the action, then its calls if they matter, then
# words of its reason.
CELLS: dict[Status, dict[str, str]] = {
    Status.NOT_OBSERVED: {
        "first run": "run: first run",
        "same": "noop",
        "config changed": "restart: config.taskTimeout 600 → 700",
        "rerun": "hold: the service offers no reads, so it is not known whether the run before has ended",
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
        "rerun": "run",
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
        "rerun": "wait run: waiting for the end of the run before",
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
        "rerun": "run",
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
        "rerun": "run",
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
        "rerun": "hold: aborted by someone else",
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
    Status.WITHDRAWN: {
        "first run": "run: first run; the job is withdrawn",
        "same": "run: declared running; the job is withdrawn",
        "config changed": "run",
        "rerun": "run",
        "new token": "run",
        "recorded aborted": "run: state aborted → running",
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
        "rerun": "error: needs a new id",
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
    # The rows of an engine whose run creates the job. A row lists the columns whose record leads to it.
    Status.NOTHING: {
        "first run": "run: first run; the job is not there",
        "recorded aborted": "run: state aborted → running",
        "recorded absent": "run: state absent → running",
        "abort, no record": "adopt",
        "aborted already": "noop",
        "abort of an absent one": "adopt",
        "delete, no record": "adopt",
        "delete of an aborted one": "adopt",
        "absent already": "noop",
    },
    Status.TAKEN_AWAY: {
        "same": "hold: gone: the job is recorded as running, and is not there, although no end of its run is recorded",
        "config changed": "run: config.taskTimeout 600 → 700",
        "rerun": "run: config.taskTimeout 600 → 700",
        "new token": 'run: new runToken "t2"',
        "abort": "adopt",
        "delete": "adopt",
    },
    Status.FORGOTTEN_COMPLETE: {
        "same": "noop: forgotten by the engine (it had completed)",
        "config changed": "adopt: counts from the next run",
        "rerun": "run: config.taskTimeout 600 → 700",
        "new token": "run",
        "abort": "adopt",
        "delete": "adopt",
    },
    Status.FORGOTTEN_FAILED: {
        "same": "noop: forgotten by the engine (it had failed)",
        "config changed": "run",
        "rerun": "run",
        "new token": "run",
        "abort": "adopt",
        "delete": "adopt",
    },
    Status.FORGOTTEN_ABORTED: {
        "same": "hold: aborted by someone else",
        "config changed": "hold: aborted by someone else",
        "rerun": "hold: aborted by someone else",
        "new token": "run",
        "abort": "adopt",
        "delete": "adopt",
    },
    Status.FORGOTTEN: {
        "same": "noop: no end of its run is recorded",
        "config changed": "hold: it is not known whether the new config is to run now",
        "rerun": "run",
        "new token": "run",
        "abort": "adopt",
        "delete": "adopt",
    },
    Status.OTHER_OWNER: dict.fromkeys(COLUMNS, "hold: another owner's: it bears the lineage theirs"),
}


@pytest.mark.parametrize(("status", "column"), [(status, column) for status in CELLS for column in CELLS[status]])
def test_each_cell_of_the_decision_table(status: Status, column: str) -> None:
    _, desired, record = COLUMNS[column]
    want, _, words = CELLS[status][column].partition(": ")
    kind, _, verbs = want.partition(" ")
    subject, observed = subject_of(status, desired, record)
    assert as_seen(subject, observed).status is status
    decision = decide(subject, observed)

    assert decision.kind == ("hold" if kind == "error" else kind)
    assert words in decision.reason
    assert bool(decision.error) == (kind == "error")
    if verbs:
        assert "+".join(decision.verbs) == verbs
    assert decision.reason.endswith(decision.way_out)
    assert (decision.kind in ("hold", "wait")) == bool(decision.way_out)


def test_the_table_is_total_and_every_column_is_tried() -> None:
    assert set(TABLE) == set(Status) == set(CELLS)
    for status, row in TABLE.items():
        assert set(row.asked) == {COLUMNS[column][0] for column in CELLS[status]}
        records = [COLUMNS[column][2] for column in CELLS[status]]
        assert set(row.recorded) == {record.state for record in records if record is not None}
    assert {asked for asked, _, _ in COLUMNS.values()} == set(Asked)


def test_an_active_job_without_a_record_is_adopted_where_its_config_is_not_told() -> None:
    assert decided(job(), None, Observation(Status.ACTIVE, "X", config=None)).kind == "adopt"


def test_an_active_job_without_a_record_is_adopted_where_its_config_agrees() -> None:
    observed = Observation(Status.ACTIVE, "X", config={"taskTimeout": 600, "jobTimeout": 5})
    decision = decided(job(config={"taskTimeout": 600, "isTestJob": False}), None, observed)
    assert decision.kind == "adopt"
    config: Config = {"taskTimeout": 600, "isTestJob": False}
    assert decision.record == Record("a", Desired.RUNNING, config, ran_configs=frozenset({text_of(config)}))


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
    assert (decision.kind, decision.verbs, decision.awaits_end) == ("run", (Verb.RUN,), True)
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
    assert (decision.kind, decision.verbs, decision.awaits_end) == ("delete", (Verb.DELETE,), True)
    run_since = decided(job("absent"), aborted, ending._replace(submitted_at="2026-11-21T11:00:00Z"))
    assert (run_since.verbs, run_since.awaits_end) == ((Verb.ABORT, Verb.DELETE), False)


def test_adopting_a_run_consumes_its_token() -> None:
    decision = decided(job(run_token="t"), None, Observation(Status.ACTIVE, "X", config=CONFIG))
    ran = frozenset({text_of(CONFIG)})
    assert decision.record == Record("a", Desired.RUNNING, CONFIG, frozenset({"t"}), ran_configs=ran)


def test_going_back_to_a_consumed_token_fires_nothing() -> None:
    record = Record("a", Desired.RUNNING, CONFIG, frozenset({"monday", "tuesday"}))
    assert decided(job(run_token="monday"), record).kind == "noop"


def test_a_token_with_a_lost_record_does_not_run_a_finished_job_again() -> None:
    assert decided(job(run_token="t"), None, observation_of(Status.COMPLETE)).kind == "adopt"


@pytest.mark.parametrize(
    "status",
    [
        status
        for status, row in TABLE.items()
        if Asked.NEW_CONFIG in row.asked and row.asked[Asked.NEW_CONFIG] not in FIXED
    ],
)
@pytest.mark.parametrize(("mode", "kind"), [(OnConfigChange.NEXT_RUN, "adopt"), (OnConfigChange.HOLD, "hold")])
def test_on_config_change_bends_the_config_column(status: Status, mode: OnConfigChange, kind: str) -> None:
    desired = job(config={"taskTimeout": 700}, on_config_change=mode)
    assert decide(*subject_of(status, desired, RUNNING)).kind == kind


@pytest.mark.parametrize("mode", OnConfigChange)
def test_on_config_change_does_not_bend_the_errors(mode: OnConfigChange) -> None:
    desired = job(config={"taskTimeout": 700}, on_config_change=mode)
    assert decided(desired, RUNNING, observation_of(Status.MISSING)).error
    assert decided(desired, RUNNING, observation_of(Status.UNREADABLE)).error


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
        subject, observed = subject_of(status, job(config={"taskTimeout": 1}), Record("a", None, doubt=doubt))
        decision = decide(subject, observed)
        assert decision.kind == "hold"
        assert "`reconciler resolve a --applied`, or the same with `--not-applied`" in decision.reason
        assert "2026-11-21T10:00:00Z" in decision.reason


@pytest.mark.parametrize("status", [Status.ACTIVE, Status.COMPLETE, Status.FAILED, Status.ABORTED])
def test_a_run_that_somebody_else_started_under_the_name_of_a_job_is_left_alone(status: Status) -> None:
    """Each run of ours bears marks where the engine has an atomic guard."""
    theirs = observation_of(status)._replace(config={"image": "theirs"}, ref="uid-1")
    guarded = Promises(
        creates_on_run=True, atomic_run=True, reads=True, lists=True, keeps_ended_s=math.inf, has_logs=False
    )
    subject = Subject(job(), None, lambda a, b: a == b, terms=Terms(guarded, "ours"))
    decision = decide(subject, theirs)
    assert (decision.kind, decision.verbs) == ("hold", ())
    assert "another owner's: it bears no marks of a state" in decision.reason
    # An imported job names the very object, and an engine without marks can't tell.
    imported = subject._replace(record=RUNNING._replace(ref="uid-1"))
    assert as_seen(imported, theirs).status is status
    plain = subject._replace(terms=Terms(guarded._replace(atomic_run=False), "ours"))
    assert as_seen(plain, theirs).status is status
    # A record without a handle, as after a deletion, names no object.
    for state in (Desired.ABSENT, Desired.RUNNING):
        deleted = job(state=Desired.ABSENT)
        after = subject._replace(job=deleted, record=RUNNING._replace(state=state, ref=""))
        assert (decide(after, theirs).kind, decide(after, theirs).verbs) == ("hold", ())
