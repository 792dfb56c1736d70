"""Plans: their order, and the jobs that are as recorded."""

from decisions import CONFIG
from in_process import planned, wording
from reconciler.engines.bytenite.plugin import PLUGIN
from reconciler.model.jobs import (
    Desired,
    Freeze,
    Job,
    Record,
    State,
    Target,
)
from reconciler.model.plan import ActionKind
from reconciler.model.plan_json import plan_from_json, plan_to_json
from reconciler.rules.actions import make_plan
from reconciler.rules.matching import match_records


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
        match_records(jobs, records, PLUGIN.same_config),
        {},
        wording,
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
    frozen = Freeze("moved")
    jobs = {
        name: Job(name, name, Desired.RUNNING, CONFIG, freeze=frozen if name == "j5" else None)
        for name in (f"j{number}" for number in range(10))
    }
    jobs["j7"] = jobs["j7"]._replace(state=Desired.ABORTED)
    records = {name: Record(name, Desired.RUNNING, CONFIG) for name in jobs}
    plan, _ = planned(jobs, records)
    listed = ["j7", "j0", "j1", "j2", "j3", "j4", "j5", "j6", "j8", "j9"]
    assert [action.job for action in plan.actions] == listed
    assert [action["job"] for action in plan_to_json(plan)["actions"]] == listed
    assert (len(plan.actions), plan.actions[-1].job, plan.actions[1].reason) == (10, "j9", "as recorded")
    assert (plan.count_of(ActionKind.NOOP), plan.count_of(ActionKind.ABORT), len(plan.frozen)) == (9, 1, 1)
    assert type(plan.actions) is tuple
    assert plan_from_json(plan_to_json(plan)) == plan
