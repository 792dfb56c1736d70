"""A saved plan is bound to manifest, state and service, and what only its file says counts for nothing."""

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from project import TOKEN, Project, done, served_project
from reconciler.engines.sandbox.server import SandboxServer
from reconciler.model.jobs import EMPTY, NOT_OBSERVED, Observation, Status, Target
from reconciler.model.plan import Plan
from reconciler.model.plan_json import plan_digest, plan_from_json, plan_to_json

GUARD = "guards: {maxDelete: 0}"


def edited(project: Project, change: Callable[[Any], None], name: str = "plan.json") -> None:
    path = project.folder / name
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document, indent=2))


def to_delete(project: Project) -> None:
    """One of three jobs is to be deleted, one runs with a new config, and the plan of it is saved."""
    project.write("a: {state: running}\nb: {state: running}\nc: {state: running}\nold: {state: running}", more=GUARD)
    assert project.run("apply", "--yes").code == 0
    changed = "a: {state: absent}\nb: {state: running, config: {jobTimeout: 5000}}\nc: {state: running}"
    project.write(changed, more=GUARD)
    assert project.run("plan", "--out", "plan.json").code == 4


def test_what_is_allowed_in_the_file_goes_past_no_guard(tmp_path: Path) -> None:
    with served_project(tmp_path) as project:
        to_delete(project)
        edited(project, lambda plan: plan.update(allowed={"delete": 9}))
        for more in (["--yes"], ["--dry-run"], ["--yes", "--allow", "run=9"]):
            run = project.run("apply", "--plan", "plan.json", *more)
            assert (run.code, "refused by a guard: 1 to delete, and guards.maxDelete is 0" in run.err) == (4, True)
        assert ("delete", "a") not in done(project)
        run = project.run("apply", "--plan", "plan.json", "--yes", "--allow", "delete=1")
        assert run.code == 0, run.err
        assert ("delete", "a") in done(project)


def of(plan: Any, job: str) -> Any:
    return next(action for action in plan["actions"] if action["job"] == job)


def without(plan: Any, job: str) -> None:
    gone = of(plan, job)
    plan["actions"].remove(gone)
    plan["summary"][gone["action"]] -= 1


def as_noop(plan: Any) -> None:
    """What a guard counts is called something else, and keeps its calls."""
    of(plan, "a")["action"] = "noop"
    plan["summary"]["delete"] -= 1
    plan["summary"]["noop"] += 1


EDITS: dict[str, Callable[[Any], None]] = {
    "a delete that is called a noop": as_noop,
    "an action taken out": lambda plan: without(plan, "b"),
    "another reason": lambda plan: of(plan, "b").update(reason="nothing to see here"),
    "a call taken out": lambda plan: of(plan, "a")["calls"].pop(),
    "another body": lambda plan: of(plan, "b")["calls"][-1].update(body={"config": {"jobTimeout": 9000}}),
    "another request": lambda plan: of(plan, "a")["calls"][-1].update(request="DELETE /jobs/c"),
    "another id": lambda plan: of(plan, "a").update(id="c"),
    "another job": lambda plan: of(plan, "a").update(job="c"),
    "a change taken out": lambda plan: of(plan, "b")["changes"].clear(),
    "an error taken in": lambda plan: of(plan, "b").update(error="it is broken"),
    "a freeze": lambda plan: of(plan, "c").update(frozen=True),
    "the counts": lambda plan: plan["summary"].update(delete=0),
    "the undeclared": lambda plan: plan["undeclared"].clear(),
    "pruning": lambda plan: plan.update(prune=True),
    "narrowed": lambda plan: plan.update(narrowed={"jobs": 1, "of": 3, "targets": ["b"], "excludes": []}),
    "what was read": lambda plan: plan.update(observed={"b": {"status": "complete"}}),
    "the serial": lambda plan: plan.update(serial=2),
    "the lineage": lambda plan: plan.update(lineage=""),
    "the digest": lambda plan: plan.update(manifestDigest=f"sha256:{'0' * 64}"),
    "the engine": lambda plan: plan["target"].update(engine="sandbox"),
    "the service": lambda plan: plan["target"].update(endpoint="https://elsewhere.example/v1/customer"),
    "the state": lambda plan: plan.update(state="elsewhere.state.json"),
}


@pytest.mark.parametrize("edit", EDITS.values(), ids=list(EDITS))
def test_a_plan_that_was_edited_is_refused_before_anything_is_sent(tmp_path: Path, edit: Callable[[Any], None]) -> None:
    with served_project(tmp_path) as project:
        to_delete(project)
        edited(project, edit)
        before = done(project)
        for more in (["--yes"], ["--dry-run"]):
            run = project.run("apply", "--plan", "plan.json", "--allow", "delete=9", *more)
            assert (run.code, "the saved plan is stale: " in run.err) == (4, True), run.err
            assert run.out == ""
        assert done(project) == before


def test_a_field_that_stands_there_twice_is_no_plan(tmp_path: Path) -> None:
    with served_project(tmp_path) as project:
        to_delete(project)
        path = project.folder / "plan.json"
        path.write_text(path.read_text().replace('"lineage":', '"undeclared": [], "lineage":', 1))
        run = project.run("apply", "--plan", "plan.json", "--yes", "--allow", "delete=1")
        assert (run.code, "is no saved plan: a field stands there twice" in run.err) == (1, True)


def test_a_plan_that_rests_on_reads_is_made_again_from_what_was_read(tmp_path: Path) -> None:
    with served_project(tmp_path) as project:
        project.write("a: {state: running}\nb: {state: running}")
        assert project.run("apply", "--yes", "--target", "a").code == 0
        project.write("a: {state: running, config: {jobTimeout: 7000}}\nb: {state: running}")
        assert project.run("plan", "--refresh", "--out", "plan.json").code == 0
        saved = json.loads((project.folder / "plan.json").read_text())
        assert saved["observed"]["a"]["status"] == "active"
        assert "is active" in of(saved, "a")["reason"]
        assert plan_to_json(plan_from_json(saved)) == saved
        edited(project, lambda plan: plan["observed"]["a"].update(status="failed"))
        assert project.run("apply", "--plan", "plan.json", "--yes").code == 4
        (project.folder / "plan.json").write_text(json.dumps(saved))
        run = project.run("apply", "--plan", "plan.json", "--yes")
        assert run.code == 0, run.err
        assert sorted(done(project)) == [("abort", "a"), ("run", "a"), ("run", "a"), ("run", "b")]


@pytest.mark.parametrize(
    "options", [("--prune",), ("--target", "b"), ("--exclude", "a", "--prune"), ("--refresh", "--prune")]
)
def test_a_plan_is_made_again_with_the_options_that_it_was_made_with(tmp_path: Path, options: tuple[str, ...]) -> None:
    with served_project(tmp_path) as project:
        project.write("a: {state: running}\nb: {state: running}\nold: {state: running}")
        assert project.run("apply", "--yes").code == 0
        project.write("a: {state: running}\nb: {state: aborted}")
        assert project.run("plan", *options, "--out", "plan.json").code == 0
        run = project.run("apply", "--plan", "plan.json", "--yes")
        assert run.code == 0, run.err
        assert ("abort", "b") in done(project)
        assert (("delete", "old") in done(project)) == ("--prune" in options)


def test_what_was_read_does_not_make_another_plan_of_it() -> None:
    plan = Plan(Target("sandbox", ""), "", 0, f"sha256:{'0' * 64}", None, ("jobs.yaml",), ())
    read = plan._replace(observed={"a": Observation(Status.ACTIVE, "X", {}, "2026"), "b": NOT_OBSERVED})
    assert plan_digest(plan) == plan_digest(read)
    again = plan_from_json(json.loads(json.dumps(plan_to_json(read))))
    assert again == read
    assert again.observed["b"] is NOT_OBSERVED
    assert again.observed["a"].timestamps == EMPTY


# --- where its state and its service are ---------------------------------------------------------------------------


def test_a_saved_plan_is_applied_to_the_state_that_it_was_made_from(tmp_path: Path) -> None:
    with served_project(tmp_path) as project:
        project.write("a: {state: running}")
        assert project.run("plan", "--state", "other.state.json", "--out", "plan.json").code == 0
        assert json.loads((tmp_path / "plan.json").read_text())["state"] == "other.state.json"
        run = project.run("apply", "--plan", "plan.json", "--yes")
        assert run.code == 0, run.err
        assert (tmp_path / "other.state.json").exists()
        assert not (tmp_path / "jobs.state.json").exists()
        project.write("a: {state: aborted}")
        assert project.run("plan", "--state", "other.state.json", "--out", "plan.json").code == 0
        wrong = project.run("apply", "--plan", "plan.json", "--yes", "--state", "third.state.json")
        assert wrong.code == 4
        assert "it was made from the state at other.state.json, and --state names third.state.json" in wrong.err
        assert project.run("apply", "--plan", "plan.json", "--yes", "--state", "other.state.json").code == 0
        assert done(project) == [("run", "a"), ("abort", "a")]


def test_the_plan_of_a_first_apply_that_is_applied_twice_says_that_an_apply_came_since(tmp_path: Path) -> None:
    with served_project(tmp_path) as project:
        project.write("a: {state: running}")
        assert project.run("plan", "--out", "plan.json").code == 0
        assert project.run("apply", "--plan", "plan.json", "--yes").code == 0
        again = project.run("apply", "--plan", "plan.json", "--yes")
        assert again.code == 4
        assert "there was no state when it was made, and there is one now" in again.err
        assert done(project) == [("run", "a")]


def test_several_paths_with_a_named_state_need_not_be_named_again(tmp_path: Path) -> None:
    with served_project(tmp_path) as project:
        project.write("a: {state: running}", name="one.yaml")
        (tmp_path / "two.yaml").write_text("apiVersion: reconciler/v1\njobs: {b: {state: running}}\n")
        assert project.run("plan", "one.yaml", "two.yaml", "--state", "both.state.json", "--out", "plan.json").code == 0
        run = project.run("apply", "--plan", "plan.json", "--yes")
        assert run.code == 0, run.err
        assert (tmp_path / "both.state.json").exists()


def test_the_command_that_applies_what_was_saved_works_as_it_is_printed(tmp_path: Path) -> None:
    with served_project(tmp_path) as project:
        with SandboxServer(tmp_path / "other.db", access_token=TOKEN, create_missing=True) as other:
            project.write("a: {state: running}\nb: {state: running}", more="guards: {maxRun: 1}", name="fleet one.yaml")
            where = ["--state", "re hearsal.state.json", "--endpoint", other.endpoint]
            run = project.run("plan", "fleet one.yaml", *where, "--out", "my plan.json", "--allow", "run=2")
            assert run.code == 0, run.err
            printed = run.err.rpartition(": reconciler ")[2]
            words = shlex.split(printed)
            assert words == ["apply", "--plan", "my plan.json", "--allow", "run=2", *where]
            applied = project.run(*words, "--yes")
            assert applied.code == 0, applied.err
        assert done(project) == []
        assert (tmp_path / "re hearsal.state.json").exists()


def test_a_plan_for_another_service_on_this_machine_needs_no_word_and_for_one_beyond_it_does(tmp_path: Path) -> None:
    with served_project(tmp_path) as project:
        with SandboxServer(tmp_path / "other.db", access_token=TOKEN, create_missing=True) as other:
            project.write("a: {state: running}")
            assert project.run("plan", "--endpoint", other.endpoint, "--out", "plan.json").code == 0
            run = project.run("apply", "--plan", "plan.json", "--yes")
            assert run.code == 0, run.err
        assert done(project) == []
        beyond = "https://jobs.invalid/v1/customer"
        assert project.run("plan", "--endpoint", beyond, "--state", "b.state.json", "--out", "plan.json").code == 0
        run = project.run("apply", "--plan", "plan.json", "--yes")
        assert run.code == 4
        assert f"name it: --endpoint {beyond}" in run.err


@pytest.mark.parametrize(
    ("out", "kind"),
    [
        ("jobs.yaml", "a manifest is there"),
        ("jobs.state.json", "a state is there"),
        ("jobs.state.json.journal", "a file of another kind"),
        ("jobs.state.json.lock", "a file of another kind"),
        ("jobs.history.jsonl", "a history is there"),
    ],
)
def test_a_plan_is_not_saved_over_a_file_that_holds_something_else(tmp_path: Path, out: str, kind: str) -> None:
    """Once the intent of a killed apply was written over so, and its job ran twice."""
    with served_project(tmp_path) as project:
        project.write("a: {state: running}")
        assert project.run("apply", "--yes").code == 0
        before = {path.name: path.read_bytes() for path in project.folder.iterdir() if path.is_file()}
        (project.folder / "link").symlink_to(out)
        for name in (out, "link", f"./{out}"):
            run = project.run("plan", "--out", name)
            assert (run.code, kind in run.err) == (4, True), run
        (project.folder / "link").unlink()
        assert {path.name: path.read_bytes() for path in project.folder.iterdir() if path.is_file()} == before


def test_a_saved_plan_is_saved_anew_and_other_files_stay(tmp_path: Path) -> None:
    with served_project(tmp_path) as project:
        project.write("a: {state: running}")
        (project.folder / "empty").touch()
        (project.folder / "notes").write_text("mine")
        for out in ("plan.json", "plan.json", "empty", "/dev/null"):
            assert project.run("plan", "--out", out).code == 0
        assert project.run("plan", "--out", "notes").code == 4
        assert (project.folder / "notes").read_text() == "mine"
