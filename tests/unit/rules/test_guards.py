"""What refuses a plan or a part of it, and how that is gone past on purpose: guards, a lost manifest, protection,
freeze, drift that is meant."""

import json
from datetime import UTC, datetime
from urllib.request import Request, urlopen

import jsonschema
import pytest

from model_world import ModelWorld
from project import TOKEN, Project, done
from reconciler.engines.bytenite.plugin import PLUGIN
from reconciler.engines.sandbox.life import calls
from reconciler.manifest.parse import parse
from reconciler.manifest.schema import schema_text
from reconciler.model.errors import ManifestError, Refused
from reconciler.model.jobs import NOT_OBSERVED, Desired, Freeze, Job, Observation, Record, Status, Target, Verb
from reconciler.model.plan import Action, ActionKind, Plan, verdict
from reconciler.model.plan_json import plan_from_json, plan_to_json
from reconciler.rules.actions import lapsed
from reconciler.rules.decide import decide
from reconciler.rules.decisions import Decision
from reconciler.rules.guards import KINDS, check, check_loss, loss
from reconciler.rules.matching import Subject, match_records, prune
from reconciler.rules.records import applied, is_protected, protection, settled
from reconciler.state.record_json import record_from_json, record_to_json
from reconciler.usecases.engines import plugin_named

CONFIG = {"taskTimeout": 600}
RUNNING = Record("a", Desired.RUNNING, CONFIG)
PROTECTED = RUNNING._replace(protect=True)
HEAD = "apiVersion: reconciler/v1\ntarget: {engine: sandbox}\njobs:\n"


def plan_of(allowed: dict[str, int] | None = None, **counts: int) -> Plan:
    """A plan of so many actions of each kind."""
    actions = [
        Action(f"{kind}-{n}", "x", ActionKind(kind), "why") for kind, count in counts.items() for n in range(count)
    ]
    return Plan(Target("sandbox", ""), "", 0, "", None, ("jobs.yaml",), tuple(actions), allowed=allowed or {})


def job(state: str = "running", **more: object) -> Job:
    return Job("a", "a", Desired(state), **{"config": CONFIG, **more})  # type: ignore[arg-type]


def decided(desired: Job, record: Record | None, observed: Observation = NOT_OBSERVED) -> Decision:
    return decide(Subject(desired, record, PLUGIN.same_config), observed)


def three_running(project: Project, more: str = "") -> None:
    project.write("a: {state: running}\nb: {state: running}\nc: {state: running}", more=more)
    assert project.run("apply", "--yes").code == 0


# Guards and --allow


def test_what_is_allowed_goes_past_its_guard_and_no_other() -> None:
    guards: dict[str, int | str] = {"maxDelete": 2, "maxRun": "10%"}
    check(plan_of({"delete": 5}, delete=5), guards, 10)
    with pytest.raises(Refused, match="6 to delete, and guards") as refused:
        check(plan_of({"delete": 5}, delete=6), guards, 10)
    assert refused.value.hint.endswith("or go past it this once: --allow delete=6")
    with pytest.raises(Refused, match="2 to run"):
        check(plan_of({"delete": 5}, delete=5, run=2), guards, 10)


def test_what_is_allowed_never_makes_a_guard_tighter() -> None:
    check(plan_of({"delete": 1}, delete=5), {"maxDelete": 5}, 10)


def test_what_the_same_apply_did_before_counts() -> None:
    guards: dict[str, int | str] = {"maxRun": 3}
    check(plan_of(run=1), guards, 0, {"run": 2})
    with pytest.raises(Refused, match="2 to run and 2 done before"):
        check(plan_of(run=2), guards, 0, {"run": 2})
    check(plan_of(delete=1), guards, 0, {"run": 9})


def test_kinds_without_a_guard_share_thirty_percent_of_ten_jobs_or_more() -> None:
    check(plan_of(abort=1, restart=1, delete=1), {}, 10, present=10)
    check(plan_of(delete=9), {}, 9, present=9)
    check(plan_of(run=10), {}, 10, present=10)
    with pytest.raises(Refused) as refused:
        check(plan_of(abort=1, restart=1, delete=2, run=5), {}, 12, present=10)
    assert refused.value.message == (
        "refused by a guard: 1 to abort, 1 to restart, 2 to delete, of 10 recorded jobs: without a guard of their own, "
        "no more than 30 % (3) may be aborted, restarted or deleted at once"
    )
    assert refused.value.allow == "--allow abort=1 --allow restart=1 --allow delete=2"


@pytest.mark.parametrize(
    ("guards", "allowed"),
    [
        ({"maxDelete": "100%"}, {}),
        ({"maxDelete": 40}, {}),
        ({}, {"delete": 40}),
        ({"maxAbort": "100%", "maxRestart": "100%", "maxDelete": "100%"}, {}),
    ],
)
def test_a_guard_of_its_own_and_what_is_allowed_take_a_kind_out_of_what_is_shared(
    guards: dict[str, int | str], allowed: dict[str, int]
) -> None:
    check(plan_of(allowed, delete=40, restart=12), guards, 40, present=40)
    with pytest.raises(Refused):
        check(plan_of(delete=40, restart=12), {}, 40, present=40)


def test_what_is_allowed_of_a_shared_kind_is_a_limit() -> None:
    with pytest.raises(Refused, match="5 to delete, of 10 recorded jobs"):
        check(plan_of({"delete": 4}, delete=5), {}, 10, present=10)


def test_what_the_same_apply_did_before_counts_among_what_is_shared() -> None:
    check(plan_of(restart=1), {}, 10, {"abort": 2}, present=10)
    with pytest.raises(Refused, match="3 to abort, 1 to restart, with what this apply did before, of 10 recorded jobs"):
        check(plan_of(restart=1), {}, 10, {"abort": 3}, present=10)
    check(plan_of(run=1), {}, 10, {"abort": 9}, present=10)


def test_one_word_changed_under_defaults_does_not_end_all(served: Project) -> None:
    jobs = "\n".join(f"j{n:02}: {{state: running}}" for n in range(40))
    served.write(jobs)
    assert served.run("apply", "--yes").code == 0
    made = len(done(served))
    for change in (jobs.replace("running", "absent"), jobs.replace("running", "aborted")):
        served.write(change)
        run = served.run("apply", "--yes")
        assert (run.code, len(done(served))) == (4, made)
        assert run.out.startswith("Plan: 40 to "), "what was refused is shown"
        assert "of 40 recorded jobs: without a guard of their own, no more than 30 % (12)" in run.err
    served.write(jobs, more="defaults: {config: {jobTimeout: 9}}")
    run = served.run("apply", "--yes")
    assert (run.code, len(done(served))) == (4, made)
    assert "or go past it this once: --allow restart=40" in run.err
    assert served.run("apply", "--yes", "--target", "j0*").code == 0
    assert served.run("apply", "--yes", "--allow", "restart=30").code == 0
    assert len(done(served)) == made + 80
    served.write(jobs.replace("running", "absent"), more="guards: {maxDelete: 100%}")
    assert served.run("apply", "--yes").code == 0


def test_allow_is_on_record_in_plan_and_outcome(served: Project) -> None:
    three_running(served, "guards: {maxDelete: 1}")
    served.write("a: {state: absent}\nb: {state: absent}\nc: {state: running}", more="guards: {maxDelete: 1}")
    refused = served.run("plan")
    assert refused.code == 4
    assert "--allow delete=2" in refused.err
    shown = served.run("plan", "--allow", "delete=2", "--allow", "delete=1")
    assert shown.code == 0
    assert "Allowed past the guards: delete up to 2." in shown.out
    assert served.run("apply", "--yes", "--allow", "delete=1").code == 4
    assert served.run("apply", "--dry-run").code == 4
    assert served.run("apply", "--dry-run", "--allow", "delete=2").code == 0
    run = served.run("apply", "--yes", "--allow", "delete=2", "--format", "json")
    assert run.code == 0
    assert run.json["allowed"] == {"delete": 2}
    jsonschema.validate(run.json, json.loads(schema_text("outcome.schema.json")))


def test_what_a_saved_plan_was_allowed_is_shown_and_counts_for_nothing(served: Project) -> None:
    three_running(served, "guards: {maxDelete: 0}")
    served.write("a: {state: absent}\nb: {state: running}\nc: {state: running}", more="guards: {maxDelete: 0}")
    document = served.run("plan", "--out", "refused.json", "--format", "json").json
    assert "1 to delete, and guards.maxDelete" in document["refused"]["message"]
    assert document["refused"]["hint"].endswith("--allow delete=1")
    jsonschema.validate(document, json.loads(schema_text("plan.schema.json")))
    assert "refused" not in json.loads((served.folder / "refused.json").read_text())
    assert served.run("apply", "--plan", "refused.json", "--yes").code == 4
    comment = served.run("plan", "--out", "plan.json", "--allow", "delete=1", "--format", "markdown").out
    assert "allowed `delete up to 1`" in comment or "allowed delete up to 1" in comment
    jsonschema.validate(
        json.loads((served.folder / "plan.json").read_text()), json.loads(schema_text("plan.schema.json"))
    )
    assert served.run("apply", "--plan", "plan.json", "--yes").code == 4
    assert served.run("apply", "--plan", "plan.json", "--dry-run").code == 4
    assert ("delete", "a") not in done(served)
    run = served.run("apply", "--plan", "plan.json", "--yes", "--allow", "delete=1", "--format", "json")
    assert (run.code, run.json["allowed"]) == (0, {"delete": 1})
    assert ("delete", "a") in done(served)


@pytest.mark.parametrize(
    "text", ["delete", "delete=", "delete=-1", "delete=x", "hold=1", "delete=1.5", "=1", "delete=٣"]
)
def test_a_malformed_allowance_is_wrong_usage(served: Project, text: str) -> None:
    served.write("a: {state: running}")
    assert served.run("plan", "--allow", text).code == 64


def test_a_guard_holds_over_both_rounds_of_one_apply() -> None:
    world = ModelWorld(create_missing=True)
    world.declare({"a": Job("a", "a1", Desired.RUNNING, {})})
    from model_how import How

    world.apply(How(faults=("run:503:times=1",)))
    world.declare({name: Job(name, f"{name}1", Desired.RUNNING, {}) for name in "ab"})
    world.manifest = world.manifest._replace(guards={"maxRun": 1})
    ended = world.apply()
    outcomes = {outcome.action.job: outcome for outcome in ended.outcomes}
    assert outcomes["b"].done == "run"
    assert outcomes["a"].done == "hold"
    assert "1 to run and 1 done before, and guards.maxRun is 1" in outcomes["a"].note
    assert ended.exit_code == 4


# A manifest that lost most of its jobs


@pytest.mark.parametrize(
    ("undeclared", "recorded", "is_loss"), [(5, 5, False), (6, 12, False), (6, 11, True), (7, 100, False), (6, 6, True)]
)
def test_more_than_a_few_and_more_than_half_is_a_loss(undeclared: int, recorded: int, is_loss: bool) -> None:
    assert bool(loss(undeclared, recorded)) == is_loss


def test_a_loss_refuses_what_prunes_until_all_of_it_is_allowed() -> None:
    with pytest.raises(Refused, match="8 of the 9 recorded jobs are no longer declared") as refused:
        check_loss(plan_of({"delete": 7}, delete=8), 8, 8, 9)
    assert refused.value.hint.endswith("--prune --allow delete=8")
    check_loss(plan_of({"delete": 8}, delete=8), 8, 8, 9)
    check_loss(plan_of(delete=8), 8, 8, 90)
    check_loss(plan_of(), 0, 8, 9)


def test_a_single_action_needs_to_be_allowed_too() -> None:
    """The number that is allowed by default is 0."""
    with pytest.raises(Refused, match="8 of the 9 recorded jobs are no longer declared"):
        check_loss(plan_of(delete=1), 1, 8, 9)
    for name, kind in KINDS.items():
        with pytest.raises(Refused, match=f"1 to {kind}, and guards"):
            check(plan_of({}, **{kind: 1}), {name: 0}, 10)


def test_a_manifest_that_lost_most_of_its_jobs_is_noticed(served: Project) -> None:
    names = [f"j{n}" for n in range(9)]
    served.write("\n".join(f"{name}: {{state: running}}" for name in names))
    assert served.run("apply", "--yes").code == 0
    served.write("j0: {state: running}\nnew: {state: running}")
    warning = "8 of the 9 recorded jobs are no longer declared: is the manifest whole?"
    plan = served.run("plan")
    assert plan.code == 0
    assert plan.out.startswith(f"Warning: {warning}\n")
    assert served.run("plan", "--format", "json").json["warnings"] == [warning]
    assert f"**Warning:** {warning}" in served.run("plan", "--format", "markdown").out
    assert warning in served.run("plan", "--format", "html").out
    assert f"::warning title=Plan::{warning}" in served.run("plan", "--format", "github").out
    assert served.run("apply", "--yes", "--target", "new").code == 0
    before = len(done(served))
    pruning = served.run("apply", "--yes", "--prune")
    assert pruning.code == 4
    assert "8 of the 10 recorded jobs are no longer declared" in pruning.err
    assert served.run("plan", "--prune").code == 4
    assert served.run("apply", "--yes", "--prune", "--allow", "delete=7").code == 4
    assert len(done(served)) == before
    assert served.run("apply", "--yes", "--prune", "--allow", "delete=8").code == 0
    assert sorted(served.state["jobs"]) == ["j0", "new"]


def test_a_saved_plan_that_prunes_a_lost_manifest_is_refused_too(served: Project) -> None:
    served.write("\n".join(f"j{n}: {{state: running}}" for n in range(7)))
    served.run("apply", "--yes")
    served.write("j0: {state: running}")
    assert served.run("plan", "--prune", "--out", "plan.json").code == 4
    assert served.run("apply", "--plan", "plan.json", "--yes").code == 4
    assert ("delete", "j1") not in done(served)
    assert served.run("apply", "--plan", "plan.json", "--yes", "--allow", "delete=6").code == 0


# Protection


@pytest.mark.parametrize(
    ("says", "recorded", "holds"),
    [(None, True, True), (True, False, True), (False, True, False), (None, False, False), (False, False, False)],
)
def test_protection_holds_until_the_manifest_says_false(says: bool | None, recorded: bool, holds: bool) -> None:
    record = RUNNING._replace(protect=recorded)
    for state in ("aborted", "absent"):
        assert (decided(job(state, protect=says), record).kind == "hold") == holds
    assert is_protected(job(protect=says), record) == holds


def test_each_way_to_a_record_keeps_what_was_said_of_protection() -> None:
    for verb in Verb:
        assert applied(job(), PROTECTED, verb).protect
        assert applied(job(protect=True), RUNNING, verb).protect
        assert not applied(job(protect=False), PROTECTED, verb).protect
    from reconciler.model.jobs import Doubt

    doubtful = PROTECTED._replace(doubt=Doubt("op", Verb.RUN, {}, None, None, "then", ""))
    for was_applied in (True, False):
        after = settled(doubtful, was_applied)
        assert after is not None
        assert after.protect


@pytest.mark.parametrize("protect", [True, False])
def test_a_change_of_protect_alone_is_recorded_without_a_call_once(protect: bool) -> None:
    decision = decided(job(protect=protect), RUNNING._replace(protect=not protect))
    assert decision.kind == "adopt"
    assert (
        decision.reason == ("protected from now on" if protect else "protected no more") + "; recorded without a call"
    )
    assert [(change.path, change.before, change.after) for change in decision.changes] == [
        ("protect", not protect, protect)
    ]
    assert decision.record is not None
    assert decided(job(protect=protect), decision.record).kind == "noop"


def test_a_held_job_takes_its_protection_with_it() -> None:
    subject = Subject(job(protect=True), RUNNING, PLUGIN.same_config)
    assert decide(subject, Observation(Status.ABORTED)).kind == "hold"
    assert protection(subject.job, subject.record) == {"a": PROTECTED}
    assert protection(job(protect=True), PROTECTED) == {}
    assert protection(job(), PROTECTED) == {}


def test_prune_holds_a_protected_record_and_says_what_lifts_it() -> None:
    records = {"a": PROTECTED}
    [subject] = prune(match_records({}, records, PLUGIN.same_config), records).subjects
    decision = decide(subject, NOT_OBSERVED)
    assert decision.kind == "hold"
    assert decision.way_out == (
        "declare it again with `protect: false`, or leave it be and drop its record (`reconciler state forget a`)"
    )


def test_a_protected_record_comes_back_from_the_state_as_it_was() -> None:
    assert record_to_json(PROTECTED)["protect"] is True
    assert "protect" not in record_to_json(RUNNING)
    assert record_from_json(record_to_json(PROTECTED)) == PROTECTED
    with pytest.raises(TypeError):
        record_from_json({"id": "a", "protect": "yes"})


def test_protection_outlives_its_line_its_block_and_a_prune(served: Project) -> None:
    served.write("a: {state: running, protect: true}\nb: {state: running}")
    served.run("apply", "--yes")
    assert served.state["jobs"]["a"]["protect"] is True
    served.write("a: {state: absent}\nb: {state: running}")
    assert served.run("apply", "--yes").code == 4
    served.write("b: {state: running}")
    pruning = served.run("apply", "--yes", "--prune")
    assert pruning.code == 4
    assert "protected, so no delete" in pruning.out
    assert sorted(done(served)) == [("run", "a"), ("run", "b")]
    served.write("a: {state: absent, protect: false}\nb: {state: running}")
    assert served.run("apply", "--yes").code == 0
    assert done(served)[2:] == [("abort", "a"), ("delete", "a")]


def test_protecting_a_job_that_runs_already_calls_nothing_and_then_leaves_every_byte(served: Project) -> None:
    served.write("a: {state: running}")
    served.run("apply", "--yes")
    served.write("a: {state: running, protect: true}")
    assert "= adopt    a  protected from now on; recorded without a call" in served.run("plan").out
    assert served.run("apply", "--yes").code == 0
    before = served.files
    assert served.run("apply", "--yes").out == "Nothing to do: 1 job is as recorded.\n"
    assert served.files == before
    assert done(served) == [("run", "a")]
    served.write("a: {state: running}")
    assert served.run("plan").out == "No changes: 1 job is as recorded.\n"


def test_a_job_that_is_held_is_protected_from_then_on(served: Project) -> None:
    served.write("a: {state: running}")
    served.run("apply", "--yes")
    served.write("a: {state: aborted, protect: true}")
    assert served.run("apply", "--yes").code == 4
    assert served.state["jobs"]["a"]["protect"] is True


def test_a_job_that_turns_out_to_be_held_is_protected_all_the_same(served: Project) -> None:
    served.write("a: {state: running}")
    served.run("apply", "--yes")
    assert served.server is not None
    request = Request(
        f"{served.server.endpoint}/jobs/a/abort", method="POST", headers={"Authorization": TOKEN}, data=b""
    )
    with urlopen(request, timeout=10):
        pass
    served.write("a: {state: running, protect: true}")
    assert served.run("apply", "--yes").code == 4
    assert served.state["jobs"]["a"]["protect"] is True


# Freeze


def test_a_frozen_job_is_a_noop_that_says_why_and_until_when() -> None:
    frozen = job(config={"taskTimeout": 1}, run_token="new", freeze=Freeze("a freeze", "2026-12-01"))
    for observed in (NOT_OBSERVED, *(Observation(status) for status in Status)):
        decision = decided(frozen, RUNNING, observed)
        assert (decision.kind, decision.frozen, decision.record) == ("noop", True, RUNNING)
        assert decision.reason.startswith("frozen until 2026-12-01: a freeze")
    assert decided(frozen, None).kind == "noop"
    assert decided(job("absent", freeze=Freeze("for good")), RUNNING).reason == "frozen: for good"


def test_a_freeze_does_not_hide_a_call_in_doubt_a_new_name_or_protection() -> None:
    from reconciler.model.jobs import Doubt

    still = job(protect=True, freeze=Freeze("a freeze"))
    doubtful = RUNNING._replace(doubt=Doubt("op", Verb.RUN, {}, None, None, "then", ""))
    assert decided(still, doubtful).kind == "hold"
    recorded = decided(still, RUNNING)
    assert (recorded.kind, recorded.frozen) == ("adopt", False)
    assert recorded.reason == "protected from now on; recorded without a call; frozen: a freeze"
    renamed = decide(Subject(still, PROTECTED, PLUGIN.same_config, renamed_from="old"), NOT_OBSERVED)
    assert (renamed.kind, renamed.reason) == (
        "adopt",
        "renamed from old; recorded without a call; frozen: a freeze",
    )


def test_a_freeze_ends_with_the_second_that_it_names() -> None:
    [(name, declared)] = parse(
        [("j", (HEAD + '  a: {state: running, freeze: {reason: x, until: "2026-12-01"}}\n').encode())], plugin_named
    ).jobs.items()
    ends_s = datetime(2026, 12, 1, tzinfo=UTC).timestamp()
    jobs = {name: declared}
    assert lapsed(jobs, ends_s - 1) == {}
    over = lapsed(jobs, ends_s)["a"]
    assert over.freeze is not None
    assert over.freeze.over
    assert decided(over, RUNNING._replace(config={})).kind == "noop"
    assert decided(over, None).kind == "run"


@pytest.mark.parametrize(
    ("until", "same"),
    [
        ("2026-12-01", "2026-12-01T00:00:00Z"),
        ("2026-12-01T08:30:00+02:00", "2026-12-01T06:30:00Z"),
        ("2026-12-01T06:30:00.500Z", "2026-12-01T06:30:00.5Z"),
    ],
)
def test_a_date_is_its_first_second_in_utc_and_an_offset_counts(until: str, same: str) -> None:
    def ends_s(text: str) -> float:
        made = parse(
            [("j", (HEAD + f'  a: {{state: running, freeze: {{reason: x, until: "{text}"}}}}\n').encode())],
            plugin_named,
        )
        freeze = made.jobs["a"].freeze
        assert freeze is not None
        return freeze.ends_at_s

    assert ends_s(until) == ends_s(same)


@pytest.mark.parametrize(
    ("block", "fault"),
    [
        ('{reason: x, until: "2026-02-30"}', "jobs.yaml:4:50: until: there is no such time: "),
        (
            '{reason: x, until: "tomorrow"}',
            'jobs.yaml:4:50: until: expected a date such as "2026-12-01" or a time such as ',
        ),
        ('{reason: x, until: "2026-12-01T08:00:00"}', "jobs.yaml:4:50: until: expected a date"),
        ("{reason: x, until: 2026-12-01}", "jobs.yaml:4:50: "),
        ("{}", 'jobs.yaml:4:23: "reason" is missing'),
        ("x", "jobs.yaml:4:31: freeze: expected a mapping"),
    ],
)
def test_a_freeze_that_says_nothing_clear_is_an_error_at_its_place(block: str, fault: str) -> None:
    with pytest.raises(ManifestError) as caught:
        parse([("jobs.yaml", (HEAD + f"  a: {{state: running, freeze: {block}}}\n").encode())], plugin_named)
    assert str(caught.value.diagnostics[0]).startswith(fault)
    assert len(caught.value.diagnostics) == 1


@pytest.mark.parametrize("word", ["suspend", "pause", "frieze"])
def test_a_word_for_a_freeze_that_the_manifest_does_not_know_leads_to_freeze(word: str) -> None:
    with pytest.raises(ManifestError) as caught:
        parse([("jobs.yaml", (HEAD + f"  a: {{state: running, {word}: {{reason: x}}}}\n").encode())], plugin_named)
    assert [str(fault) for fault in caught.value.diagnostics] == [
        f'jobs.yaml:4:23: unknown field "{word}"; did you mean "freeze"?'
    ]


def test_a_frozen_job_is_left_alone_shown_and_no_reason_to_exit_2_or_4(served: Project) -> None:
    served.write("a: {state: running}\nb: {state: running}")
    served.run("apply", "--yes")
    served.write('a: {state: absent, freeze: {reason: an audit, until: "2999-01-01"}}\nb: {state: running}')
    plan = served.run("plan", "--detailed-exitcode")
    assert plan.code == 0
    assert plan.out == (
        "No changes: 1 job is as recorded, 1 is frozen.\n\n    noop     a  frozen until 2999-01-01: an audit\n"
    )
    document = served.run("plan", "--format", "json").json
    assert [action.get("frozen", False) for action in document["actions"]] == [True, False]
    jsonschema.validate(document, json.loads(schema_text("plan.schema.json")))
    assert "- **frozen** `a`: frozen until 2999-01-01: an audit" in served.run("plan", "--format", "markdown").out
    before = served.files
    run = served.run("apply", "--yes")
    assert (run.code, run.out) == (0, "Nothing to do: 1 job is as recorded, 1 is frozen.\n")
    assert served.files == before
    served.write('a: {state: absent, freeze: {reason: an audit, until: "2001-01-01"}}\nb: {state: running}')
    over = served.run("plan")
    assert over.out.startswith("Warning: no longer frozen, since `until` has passed: a\n")
    assert "× delete   a  declared absent" in over.out


def test_plans_with_all_of_it_come_back_from_json_equal() -> None:
    plan = plan_of({"delete": 3}, delete=1)._replace(warnings=("look",))
    plan = plan._replace(actions=(*plan.actions, Action("s", "s", ActionKind.NOOP, "frozen: x", frozen=True)))
    assert plan_from_json(json.loads(json.dumps(plan_to_json(plan)))) == plan
    assert verdict(plan) == "Plan: 1 to delete; 1 frozen."


# Drift that is meant


def test_an_ignored_field_that_differs_lets_an_active_job_be_adopted() -> None:
    observed = Observation(Status.ACTIVE, "X", config={"taskTimeout": 5})
    ignoring = job(ignore=("config.taskTimeout",))
    assert decided(job(), None, observed).kind == "restart"
    assert decided(ignoring, None, observed).kind == "adopt"
    aborted = Record("a", Desired.ABORTED, CONFIG, submitted_at="2026-11-21T10:00:00Z")
    assert decided(ignoring, aborted, observed._replace(submitted_at="2026-11-21T11:00:00Z")).kind == "adopt"
    ran = Record("a", Desired.RUNNING, {"taskTimeout": 1}, submitted_at="10:00")
    assert decided(ignoring, ran, observed._replace(submitted_at="11:00")).kind == "adopt"


def test_an_ignored_field_that_the_manifest_changes_still_counts() -> None:
    changed = job(config={"taskTimeout": 700}, ignore=("config.taskTimeout",))
    assert decided(changed, RUNNING).kind == "restart"
    assert decided(changed, RUNNING, Observation(Status.ACTIVE, "X", config=CONFIG)).kind == "restart"


def test_an_unknown_field_to_ignore_is_an_error_with_the_nearest_one() -> None:
    with pytest.raises(ManifestError) as caught:
        parse([("jobs.yaml", (HEAD + "  a: {state: running, ignore: [config.jobTimout]}\n").encode())], plugin_named)
    assert 'did you mean "config.jobTimeout"?' in str(caught.value.diagnostics[0])
    assert str(caught.value.diagnostics[0]).startswith("jobs.yaml:4:32: ")


def test_drift_that_is_meant_is_adopted_and_reported_no_more(served: Project) -> None:
    served.write("a: {state: running, config: {jobTimeout: 6000}, ignore: [config.jobTimeout]}")
    assert served.server is not None
    url, headers = f"{served.server.endpoint}/jobs/a/run", {"Authorization": TOKEN, "Content-Type": "application/json"}
    with urlopen(Request(url, method="POST", headers=headers, data=b'{"config": {"jobTimeout": 5000}}'), timeout=10):
        pass
    assert served.run("apply", "--yes").code == 0
    assert done(served) == [("run", "a")]
    assert served.run("drift").code == 0
    served.write("a: {state: running, config: {jobTimeout: 6000}}")
    assert "config.jobTimeout not as recorded" in served.run("drift").out
    assert calls(served.folder / "server.db")
