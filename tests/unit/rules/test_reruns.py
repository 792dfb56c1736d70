"""`onConfigChange: rerun`: a new config asks for one more run, and a config that has run is consumed like a token.

Only a run consumes its config, under any policy. A later change of `rerunOn` or of the policy changes nothing of that.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from decisions import CONFIG, decided, job, observation_of
from decisions import RUNNING as WITHOUT_CONFIGS
from project import Project, done, served_project
from reconciler.engines.bytenite.plugin import PLUGIN
from reconciler.model.jobs import NOT_ASKED, NOT_OBSERVED, Config, Doubt, Json, OnConfigChange, Record, Status, Verb
from reconciler.model.promises import NO_PROMISES
from reconciler.rules.decide import decide
from reconciler.rules.decisions import Decision
from reconciler.rules.matching import Subject, Terms
from reconciler.rules.records import applied, settled
from reconciler.rules.reruns import LONGEST_TEXT, text_of
from reconciler.rules.runs import MAX_RUN

COMPLETE = observation_of(Status.COMPLETE)
NEWER: Config = {"taskTimeout": 700}
RERUN = OnConfigChange.RERUN
NEXT_RUN = OnConfigChange.NEXT_RUN
RUNNING = WITHOUT_CONFIGS._replace(ran_configs=frozenset({text_of(CONFIG)}))
"""The record of a job that has run with `CONFIG`."""


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


@pytest.mark.parametrize("policy", OnConfigChange)
def test_a_run_consumes_its_config_under_every_policy(policy: OnConfigChange) -> None:
    first = after(decided(job(on_config_change=policy), None))
    assert first.ran_configs == {text_of(CONFIG)}
    again = after(decided(job(on_config_change=policy, config=NEWER, run_token="again"), first, COMPLETE))
    assert again.ran_configs == {text_of(CONFIG), text_of(NEWER)}
    assert rerun(CONFIG, again).kind == "adopt"


def test_a_config_that_was_only_recorded_has_not_run_and_runs_when_it_comes_back() -> None:
    recorded = after(decided(job(on_config_change=NEXT_RUN, config=NEWER), RUNNING, COMPLETE))
    assert (recorded.config, recorded.ran_configs) == (NEWER, RUNNING.ran_configs)
    third = after(rerun({"taskTimeout": 800}, recorded))
    assert rerun(NEWER, third).kind == "run"
    assert rerun(CONFIG, third).kind == "adopt"


def test_a_config_that_ran_under_another_policy_does_not_run_again_after_a_recorded_one() -> None:
    recorded = after(decided(job(on_config_change=NEXT_RUN, config=NEWER), RUNNING, COMPLETE))
    back = rerun(CONFIG, recorded)
    assert (back.kind, "this config has run before" in back.reason) == ("adopt", True)


@pytest.mark.parametrize("policy", OnConfigChange)
def test_a_change_of_the_policy_alone_runs_nothing(policy: OnConfigChange) -> None:
    recorded = after(decided(job(on_config_change=NEXT_RUN, config=NEWER), RUNNING, COMPLETE))
    assert decided(job(on_config_change=policy, config=NEWER), recorded, COMPLETE).kind == "noop"


def test_only_calls_that_run_the_job_consume_a_config() -> None:
    for verb in (Verb.ABORT, Verb.DELETE):
        assert applied(job(config=NEWER), RUNNING, verb).ran_configs == RUNNING.ran_configs


def test_a_run_that_is_taken_over_consumes_the_config_that_it_had() -> None:
    complete = COMPLETE._replace(config=CONFIG)
    assert after(decided(job(), None, complete)).ran_configs == {text_of(CONFIG)}
    other = after(decided(job(config=NEWER), None, complete))
    assert (other.config, other.ran_configs) == (NEWER, frozenset({text_of(CONFIG)}))
    assert after(decided(job(), None, COMPLETE)).ran_configs == {text_of(CONFIG)}
    active = observation_of(Status.ACTIVE)._replace(config=CONFIG)
    recorded = after(decided(job(config=NEWER, on_config_change=NEXT_RUN), None, active))
    assert (recorded.config, recorded.ran_configs) == (NEWER, frozenset({text_of(CONFIG)}))


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
    assert (unrecorded.kind, unrecorded.record and unrecorded.record.config) == ("adopt", CONFIG)
    ended = decided(job(config=NEWER, on_config_change=RERUN), unrecorded.record, observation_of(Status.COMPLETE))
    assert (ended.kind, ended.verbs) == ("run", ("run",))


def test_a_run_without_a_reading_says_what_it_comes_after_unless_its_end_is_recorded() -> None:
    wanted = job(config=NEWER, on_config_change=RERUN)
    assert decided(wanted, RUNNING).reason.endswith("; once the run before has ended")
    assert decided(wanted, RUNNING._replace(end=Status.COMPLETE)).reason == "config.taskTimeout 600 → 700"


@pytest.mark.parametrize("is_promised", [False, True])
def test_a_run_at_an_engine_without_reads_is_held_until_its_end_is_recorded(is_promised: bool) -> None:
    terms = Terms(NO_PROMISES._replace(reads=is_promised))
    wanted = job(config=NEWER, on_config_change=RERUN)
    # An engine that promises no reads need not be asked.
    seen = NOT_OBSERVED if is_promised else NOT_ASKED

    def kind(end: Status | None) -> str:
        return decide(Subject(wanted, RUNNING._replace(end=end), PLUGIN.same_config, terms=terms), seen).kind

    ends = (None, Status.COMPLETE, Status.FAILED, Status.ABORTED)
    assert [kind(end) for end in ends] == ["hold", "run", "run", "hold"]


def test_a_run_that_was_in_doubt_consumes_its_config_once_it_is_settled() -> None:
    doubt = Doubt("op", Verb.RUN, NEWER, None, None, "then", "HTTP 503")
    record = settled(RUNNING._replace(doubt=doubt), was_applied=True)
    assert record is not None
    assert record.ran_configs == {text_of(CONFIG), text_of(NEWER)}
    assert rerun(CONFIG, record).kind == "adopt"
    rejected = settled(RUNNING._replace(doubt=doubt), was_applied=False)
    assert rejected is not None
    assert rejected.ran_configs == RUNNING.ran_configs
    aborting = settled(RUNNING._replace(doubt=doubt._replace(verb=Verb.ABORT)), was_applied=True)
    assert aborting is not None
    assert aborting.ran_configs == RUNNING.ran_configs


def test_a_record_forgets_no_config_that_has_run() -> None:
    record = RUNNING
    for number in range(300):
        record = after(rerun({"taskTimeout": number}, record))
    assert len(record.ran_configs) == 301
    assert rerun(CONFIG, record).kind == "adopt"
    assert rerun({"taskTimeout": 0}, record).kind == "adopt"


def test_a_config_that_has_run_runs_under_no_other_rerun_on() -> None:
    record = after(rerun(NEWER, RUNNING))
    for paths in ((), ("config.taskTimeout",), ("config.jobTimeout", "config.taskTimeout")):
        back = rerun(CONFIG, record, *paths)
        assert (back.kind, "this config has run before" in back.reason) == ("adopt", True), paths


def test_values_that_ran_before_rerun_on_named_them_are_consumed_too() -> None:
    record = after(rerun(NEWER, RUNNING))
    back = rerun({**CONFIG, "jobTimeout": 9}, record, "config.taskTimeout")
    assert (back.kind, "the values that `rerunOn` names have run before" in back.reason) == ("adopt", True)
    assert rerun({**CONFIG, "jobTimeout": 9}, record).kind == "run"
    assert rerun({**CONFIG, "jobTimeout": 9}, record, "config.taskTimeout", "config.jobTimeout").kind == "run"
    assert rerun({"taskTimeout": 1, "jobTimeout": 9}, record, "config.taskTimeout").kind == "run"


def test_a_config_that_only_some_paths_took_for_the_same_runs_once_all_fields_count() -> None:
    part = after(rerun({**CONFIG, "jobTimeout": 9}, RUNNING, "config.taskTimeout"))
    third = after(rerun(NEWER, part))
    assert rerun({**CONFIG, "jobTimeout": 9}, third).kind == "run"
    assert rerun({**CONFIG, "jobTimeout": 9}, third, "config.taskTimeout").kind == "adopt"


def test_a_change_of_rerun_on_alone_runs_nothing() -> None:
    part = after(rerun({**CONFIG, "jobTimeout": 9}, RUNNING, "config.taskTimeout"))
    for paths in ((), ("config.jobTimeout",), ("config.taskTimeout",)):
        assert rerun({**CONFIG, "jobTimeout": 9}, part, *paths).kind == "noop"


def test_a_combination_of_values_that_have_run_one_by_one_is_new() -> None:
    record = RUNNING._replace(config={"env": {"A": "2", "B": "2"}}, ran_configs=frozenset())
    ran: tuple[Config, ...] = ({"env": {"A": "1", "B": "1"}}, {"env": {"A": "2", "B": "2"}})
    record = record._replace(ran_configs=frozenset(map(text_of, ran)))
    both = ("config.env.A", "config.env.B")
    assert rerun({"env": {"A": "1", "B": "2"}}, record, *both).kind == "run"
    assert rerun({"env": {"A": "1", "B": "1", "C": "3"}}, record, *both).kind == "adopt"
    assert rerun({"env": {"A": "1", "B": "2"}}, record, "config.env.A").kind == "adopt"


def test_a_long_text_is_kept_as_its_digest_and_is_told_from_others() -> None:
    script = "x" * (LONGEST_TEXT + 1)
    kept = text_of({"script": script, "env": {"LIST": [script, "short"]}})
    assert (script in kept, len(kept) < 150, "short" in kept) == (False, True, True)
    assert kept != text_of({"script": f"{script}y", "env": {"LIST": [script, "short"]}})
    digest = text_of({"script": script}).split('"')[3]
    assert text_of({"script": digest}) != text_of({"script": script})


def test_values_of_other_types_are_other_configs() -> None:
    values: tuple[Json, ...] = (1, True, 1.0, "1", None, [], {}, {"y": None})
    assert len({text_of({"x": value}) for value in values}) == 8


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
        (", rerunOn: []", "jobs.yaml:5:81: rerunOn: expected 1 item or more, found 0 items"),
        (
            ", rerunOn: [jobTimeout]",
            'jobs.yaml:5:82: expected the path of a value of the config, such as "config.env.LEVEL"',
        ),
        (
            ", rerunOn: [config.jobTimeot]",
            'jobs.yaml:5:82: the engine knows no config.jobTimeot; did you mean "config.jobTimeout"?',
        ),
        (
            ", rerunOn: [config.jobTimeout.x]",
            'jobs.yaml:5:82: config.jobTimeout is a single value, without parts; did you mean "config.jobTimeout"?',
        ),
    ],
)
def test_a_path_that_is_none_is_a_fault_at_its_place(quick: Project, fields: str, fault: str) -> None:
    quick.write(of(60, fields))
    run = quick.run("validate")
    assert (run.code, fault in run.out + run.err) == (1, True), run.out + run.err


@pytest.mark.parametrize("policy", ["restart", "next-run", "hold", ""])
def test_rerun_on_of_a_job_without_rerun_is_a_fault_at_its_place(quick: Project, policy: str) -> None:
    own = f"onConfigChange: {policy}, " if policy else ""
    quick.write(f"a: {{state: running, {own}rerunOn: [config.jobTimeout]}}")
    run = quick.run("validate")
    words = f"rerunOn does not count with onConfigChange: {policy or 'restart'}; let the job have onConfigChange: rerun"
    assert (run.code, f"jobs.yaml:5:{23 + len(own)}: {words}" in run.out + run.err) == (1, True), run.out + run.err
    more = "defaults: {onConfigChange: rerun, rerunOn: [config.jobTimeout]}"
    quick.write(f"a: {{state: running, {own}config: {{}}}}", more=more)
    assert quick.run("validate").code == 0
    quick.write("a: {state: running, rerunOn: [config.taskTimeout]}", more=more)
    assert quick.run("validate").code == 0


def test_defaults_may_say_which_fields_count(quick: Project) -> None:
    more = "defaults: {onConfigChange: rerun, rerunOn: [config.jobTimeout]}"
    quick.write("a: {state: running, config: {jobTimeout: 60}}", more=more)
    quick.run("apply", "--yes", "--wait", "60")
    quick.write("a: {state: running, config: {jobTimeout: 60, taskTimeout: 5}}", more=more)
    assert "no field of `rerunOn` has changed" in quick.run("apply", "--yes").out
    assert done(quick) == [("run", "a")]


def apply(project: Project, timeout: int, policy: str, more: str = "") -> str:
    """The output of an apply of this config and policy, after the end of the run before."""
    project.write(f"a: {{state: running, onConfigChange: {policy}, config: {{jobTimeout: {timeout}}}{more}}}")
    run = project.run("apply", "--yes", "--wait", "60")
    assert run.code == 0, run.out + run.err
    return run.out


def test_a_config_that_was_only_recorded_is_run_when_the_manifest_comes_back_to_it(quick: Project) -> None:
    apply(quick, 60, "restart")
    assert "counts from the next run" in apply(quick, 90, "next-run")
    apply(quick, 120, "rerun")
    assert "Applied: 1 succeeded." in apply(quick, 90, "rerun")
    assert done(quick) == [("run", "a")] * 3


def test_a_config_that_ran_under_restart_is_not_run_again_under_rerun(quick: Project) -> None:
    apply(quick, 60, "restart")
    apply(quick, 90, "next-run")
    assert "this config has run before" in apply(quick, 60, "rerun")
    assert done(quick) == [("run", "a")]


def test_a_change_of_rerun_on_makes_no_config_run_again(quick: Project) -> None:
    apply(quick, 60, "rerun")
    apply(quick, 90, "rerun")
    assert "this config has run before" in apply(quick, 60, "rerun", ", rerunOn: [config.jobTimeout]")
    assert "this config has run before" in apply(quick, 90, "rerun")
    assert done(quick) == [("run", "a")] * 2
    assert quick.state["jobs"]["a"]["ranConfigs"] == ['{"jobTimeout":60}', '{"jobTimeout":90}']


def test_no_run_is_decided_under_a_number_that_could_not_be_read_again() -> None:
    subject = Subject(job(run_token="again"), RUNNING, PLUGIN.same_config)
    kinds = [decide(subject._replace(last=last), COMPLETE).kind for last in (MAX_RUN - 1, MAX_RUN)]
    assert kinds == ["run", "hold"]
