"""`onConfigChange: rerun`: a new config asks for one more run, and a config that has run is consumed like a token."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from decisions import CONFIG, RUNNING, decided, job, observation_of
from project import Project, done, served_project
from reconciler.engines.bytenite.plugin import PLUGIN
from reconciler.model.jobs import MAX_RAN_CONFIGS, Config, Desired, OnConfigChange, Record, Status
from reconciler.rules.decide import Decision
from reconciler.rules.records import applied, settled
from reconciler.rules.reruns import consumed, consumed_by_run, digest_of

COMPLETE = observation_of(Status.COMPLETE)
NEWER: Config = {"taskTimeout": 700}
RERUN = OnConfigChange.RERUN


def rerun(config: Config, record: Record, *rerun_on: str, status: Status = Status.COMPLETE) -> Decision:
    """The decision about the job with this config, under `rerun`."""
    wanted = job(config=config, on_config_change=RERUN, rerun_on=rerun_on)
    return decided(wanted, record, observation_of(status))


def after(decision: Decision) -> Record:
    """The record after the calls of a decision were applied."""
    assert decision.record is not None
    return decision.record


def test_a_new_config_runs_a_completed_job_once_and_its_revert_runs_nothing() -> None:
    once = rerun(NEWER, RUNNING)
    assert (once.kind, once.reason.partition(";")[0]) == ("run", "config.taskTimeout 600 → 700")
    assert rerun(NEWER, after(once)).kind == "noop"
    back = rerun(CONFIG, after(once))
    assert (back.kind, "this config has run before, and is not run again" in back.reason) == ("adopt", True)
    assert rerun(NEWER, after(back)).kind == "adopt"
    assert rerun({"taskTimeout": 800}, after(back)).kind == "run"


def test_a_config_that_ran_before_the_manifest_had_rerun_is_consumed_too() -> None:
    assert RUNNING.ran_configs == ()
    assert len(after(rerun(NEWER, RUNNING)).ran_configs) == 2
    never_run = RUNNING._replace(state=Desired.ABORTED, submitted_at="")
    assert len(consumed_by_run(job(on_config_change=RERUN, config=NEWER), never_run, PLUGIN.same_config)) == 1


def test_another_mode_consumes_nothing_and_keeps_what_was_consumed() -> None:
    record = after(rerun(NEWER, RUNNING))
    restarted = applied(job(config={"taskTimeout": 1}), record, decided(job(), None).verbs[0])
    assert restarted.ran_configs == record.ran_configs
    assert after(decided(job(config=NEWER), RUNNING, COMPLETE)).ran_configs == ()


def test_a_value_that_is_the_same_for_the_engine_is_the_same_value() -> None:
    record = after(rerun(NEWER, RUNNING))
    assert rerun({**CONFIG, "isTestJob": False}, record).kind == "adopt"


def test_only_a_field_of_rerun_on_asks_for_a_run() -> None:
    other = rerun({**CONFIG, "jobTimeout": 9}, RUNNING, "config.taskTimeout")
    assert (other.kind, "no field of `rerunOn` has changed" in other.reason) == ("adopt", True)
    assert rerun({"taskTimeout": 700, "jobTimeout": 9}, RUNNING, "config.taskTimeout").kind == "run"
    assert rerun({}, RUNNING, "config.taskTimeout").kind == "run"


def test_a_path_may_lead_into_a_field() -> None:
    before = RUNNING._replace(config={"env": {"LEVEL": "1", "MODE": "a"}, "image": "x"})
    assert rerun({"env": {"LEVEL": "2", "MODE": "a"}, "image": "x"}, before, "config.env.LEVEL").kind == "run"
    assert rerun({"env": {"LEVEL": "1", "MODE": "b"}, "image": "y"}, before, "config.env.LEVEL").kind == "adopt"
    both = ("config.image", "config.env.MODE")
    assert rerun({"env": {"LEVEL": "1", "MODE": "b"}, "image": "x"}, before, *both).kind == "run"


def test_an_active_run_is_waited_for_and_is_not_aborted() -> None:
    waits = rerun(NEWER, RUNNING, status=Status.ACTIVE)
    assert (waits.kind, waits.verbs) == ("wait", ("run",))
    assert waits.reason.startswith(
        "config.taskTimeout 600 → 700; waiting for the end of the run before, which is active (JOB_STATE_RUNNING): "
    )
    unrecorded = decided(
        job(config=NEWER, on_config_change=RERUN), None, observation_of(Status.ACTIVE)._replace(config=CONFIG)
    )
    assert (unrecorded.kind, unrecorded.verbs) == ("wait", ("run",))


def test_a_run_without_a_reading_says_what_it_comes_after_unless_its_end_is_recorded() -> None:
    wanted = job(config=NEWER, on_config_change=RERUN)
    assert decided(wanted, RUNNING).reason.endswith("; once the run before has ended")
    assert decided(wanted, RUNNING._replace(end=Status.COMPLETE)).reason == "config.taskTimeout 600 → 700"


def test_a_run_that_was_in_doubt_consumes_its_config_once_it_is_settled() -> None:
    wanted = job(config=NEWER, on_config_change=RERUN)
    digests = consumed_by_run(wanted, RUNNING, PLUGIN.same_config)
    from reconciler.model.jobs import Doubt, Verb

    doubt = Doubt("op", Verb.RUN, NEWER, None, None, "then", "HTTP 503", ran_configs=digests)
    record = settled(RUNNING._replace(doubt=doubt), was_applied=True)
    assert record is not None
    assert record.ran_configs == digests
    assert rerun(CONFIG, record).kind == "adopt"
    rejected = settled(RUNNING._replace(doubt=doubt), was_applied=False)
    assert rejected is not None
    assert rejected.ran_configs == ()


def test_a_record_keeps_a_bounded_number_of_values_and_drops_the_oldest() -> None:
    record = RUNNING
    for number in range(MAX_RAN_CONFIGS + 5):
        record = record._replace(ran_configs=consumed(record, (f"{number:016x}",)))
    assert len(record.ran_configs) == MAX_RAN_CONFIGS
    assert record.ran_configs[0] == f"{5:016x}"
    again = consumed(record, (f"{5:016x}",))
    assert (len(again), again[-1], again[0]) == (MAX_RAN_CONFIGS, f"{5:016x}", f"{6:016x}")


def test_the_fields_that_count_are_part_of_a_digest() -> None:
    whole, part = (digest_of(CONFIG, paths, PLUGIN.same_config) for paths in ((), ("config.taskTimeout",)))
    assert whole != part
    assert len(whole) == 16


# Whole commands


@pytest.fixture
def quick(tmp_path: Path) -> Iterator[Project]:
    """On a server whose jobs are done within two seconds."""
    with served_project(tmp_path, job_seconds=2.0) as project:
        yield project


def of(timeout: int, more: str = "") -> str:
    return f"a: {{state: running, onConfigChange: rerun, config: {{jobTimeout: {timeout}}}{more}}}"


def test_a_rerun_waits_for_the_active_run_and_follows_it(quick: Project) -> None:
    quick.write(of(60))
    quick.run("apply", "--yes")
    quick.write(of(90))
    waits = quick.run("apply", "--yes")
    assert (waits.code, waits.out.splitlines()[-1]) == (0, "Applied: 1 waiting.")
    follows = quick.run("apply", "--yes", "--wait", "60")
    assert (follows.code, follows.out.splitlines()[-1]) == (0, "Applied: 1 succeeded.")
    assert done(quick) == [("run", "a"), ("run", "a")]
    quick.write(of(60))
    back = quick.run("apply", "--yes")
    assert (back.code, back.out.splitlines()[-1]) == (0, "Applied: 1 recorded, no call was needed.")
    assert done(quick) == [("run", "a"), ("run", "a")]
    assert len(quick.state["jobs"]["a"]["ranConfigs"]) == 2


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        (", rerunOn: []", "jobs.yaml:5:81: rerunOn: [] should be non-empty"),
        (
            ", rerunOn: [jobTimeout]",
            'jobs.yaml:5:82: expected the path of a value of the config, such as "config.env.LEVEL"',
        ),
        (
            ", rerunOn: [config.jobTimeot]",
            'jobs.yaml:5:82: the engine knows no config.jobTimeot; did you mean "config.jobTimeout"?',
        ),
    ],
)
def test_a_path_that_is_none_is_a_fault_at_its_place(quick: Project, fields: str, fault: str) -> None:
    quick.write(of(60, fields))
    run = quick.run("validate")
    assert (run.code, fault in run.out + run.err) == (1, True), run.out + run.err


def test_defaults_may_say_which_fields_count(quick: Project) -> None:
    more = "defaults: {onConfigChange: rerun, rerunOn: [config.jobTimeout]}"
    quick.write("a: {state: running, config: {jobTimeout: 60}}", more=more)
    quick.run("apply", "--yes", "--wait", "60")
    quick.write("a: {state: running, config: {jobTimeout: 60, taskTimeout: 5}}", more=more)
    assert "no field of `rerunOn` has changed" in quick.run("apply", "--yes").out
    assert done(quick) == [("run", "a")]
