"""The commands as a user runs them: what they print, what they leave, and what they exit with."""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import jsonschema
import pytest

from project import TOKEN, Project, done, served_project
from reconciler.engines.sandbox.life import calls
from reconciler.engines.sandbox.server import SandboxServer
from reconciler.manifest.schema import schema_text
from reconciler.usecases.selection import Selection


def test_a_first_manifest_validates_plans_and_applies(project: Project) -> None:
    assert project.run("init").code == 0
    assert project.run("validate").out == "Valid: 2 jobs in 1 file.\n"
    assert project.run("plan").out.startswith("Plan: 1 to run, 1 waiting.\nTarget: local (embedded).\n")
    applied = project.run("apply", "--yes", "--wait", "60")
    assert applied.code == 0
    assert "Applied: 2 succeeded." in applied.out
    assert project.run("wait").code == 0
    assert project.run("logs", "count-words").out == "counting at level 3\n3000 words\n"
    assert project.run("plan").out == "No changes: 2 jobs are as recorded.\n"


def test_init_does_not_overwrite(project: Project) -> None:
    project.run("init")
    again = project.run("init")
    assert again.code == 1
    assert "jobs.yaml is there already" in again.err


def test_a_plan_writes_nothing(served: Project) -> None:
    served.write("a: {state: running}")
    before = served.files
    for arguments in (["plan"], ["plan", "--refresh"], ["plan", "--format", "json"], ["apply", "--dry-run"]):
        assert served.run(*arguments).code == 0
    assert served.files == before
    assert done(served) == []


def test_an_offline_plan_needs_no_credentials(served: Project) -> None:
    served.write("a: {state: running}")
    assert served.run("plan", BYTENITE_ACCESS_TOKEN="").code == 0


def test_no_credentials_names_the_variables_looked_for_and_makes_no_call(served: Project) -> None:
    served.write("a: {state: running}")
    run = served.run("apply", "--yes", BYTENITE_ACCESS_TOKEN="")
    assert run.code == 1
    assert "BYTENITE_ACCESS_TOKEN" in run.err
    assert "BYTENITE_API_KEY" in run.err
    assert calls(served.folder / "server.db") == []


def test_a_wrong_token_is_said_as_such_and_nothing_is_done(served: Project) -> None:
    served.write("a: {state: running}\nb: {state: running}")
    run = served.run("apply", "--yes", BYTENITE_ACCESS_TOKEN="wrong")
    assert run.code == 1
    assert "rejected the access token" in run.err
    assert done(served) == []
    assert not (served.folder / "jobs.state.json").exists()


def test_an_api_key_is_exchanged_for_a_token(tmp_path: Path) -> None:
    with SandboxServer(tmp_path / "server.db", access_token="x", api_key="an-api-key", create_missing=True) as server:
        project = Project(tmp_path, server)
        project.write("a: {state: running}")
        run = project.run("apply", "--yes", BYTENITE_ACCESS_TOKEN="", BYTENITE_API_KEY="an-api-key")
        assert run.code == 0, run.err
        assert done(project) == [("run", "a")]


def test_a_host_that_does_not_answer_is_said_as_such(project: Project) -> None:
    project.write("a: {state: running}")
    run = project.run("apply", "--yes", "--endpoint", "http://127.0.0.1:9/v1/customer", BYTENITE_ACCESS_TOKEN="t")
    assert run.code == 1
    assert "refused" in run.err
    assert "Traceback" not in run.err


def test_apply_aborts_then_runs_then_deletes(served: Project) -> None:
    served.write("a: {state: running}\nb: {state: running}\nc: {state: running}")
    assert served.run("apply", "--yes").code == 0
    served.write(
        "a: {state: absent}\nb: {state: aborted}\nc: {state: running, config: {jobTimeout: 9000}}\nd: {state: running}"
    )
    run = served.run("apply", "--yes", "--parallelism", "1")
    assert run.code == 0, run.out
    assert done(served)[3:] == [
        ("abort", "b"),
        ("abort", "c"),
        ("run", "c"),
        ("run", "d"),
        ("abort", "a"),
        ("delete", "a"),
    ] or done(served)[3:] == [
        ("abort", "b"),
        ("run", "d"),
        ("abort", "c"),
        ("run", "c"),
        ("abort", "a"),
        ("delete", "a"),
    ]
    assert {name: record["state"] for name, record in served.state["jobs"].items()} == {
        "a": "absent",
        "b": "aborted",
        "c": "running",
        "d": "running",
    }


def test_a_no_op_apply_leaves_every_byte(served: Project) -> None:
    served.write("a: {state: running}\nb: {state: absent}")
    served.run("apply", "--yes")
    before = served.files
    run = served.run("apply", "--yes")
    assert run.code == 0
    assert run.out == "Nothing to do: 2 jobs are as recorded.\n"
    assert served.files == before


def test_an_absent_record_is_dropped_in_silence_once_it_is_no_longer_declared(served: Project) -> None:
    served.write("a: {state: running}\nb: {state: absent}")
    served.run("apply", "--yes")
    served.write("a: {state: running}")
    assert served.run("plan").out == "No changes: 1 job is as recorded.\n"
    served.write("a: {state: aborted}")
    served.run("apply", "--yes")
    assert list(served.state["jobs"]) == ["a"]


def test_the_plan_is_the_same_bytes_each_time(served: Project) -> None:
    served.write("a: {state: running}\nb: {state: aborted}\nc: {state: absent}")
    documents = {served.run("plan", "--format", "json").out for _ in range(3)}
    assert len(documents) == 1
    jsonschema.validate(json.loads(documents.pop()), json.loads(schema_text("plan.schema.json")))


def test_the_outcome_keeps_to_its_schema(served: Project) -> None:
    served.write("a: {state: running}\nb: {state: aborted}\nc: {state: absent}")
    run = served.run("apply", "--yes", "--format", "json")
    jsonschema.validate(run.json, json.loads(schema_text("outcome.schema.json")))
    outcomes = {action["job"]: action["outcome"] for action in run.json["actions"]}
    assert outcomes == {"a": "succeeded", "b": "recorded", "c": "succeeded"}
    assert all(action["requestId"] for action in run.json["actions"] if action.get("done", action["action"]) == "run")


def test_dry_run_prints_the_exact_requests_in_order_and_sends_none(served: Project) -> None:
    served.write(
        "b: {state: running, config: {jobTimeout: 7000, isTestJob: true}}\na: {state: absent}\nc: {state: aborted}"
    )
    run = served.run("apply", "--dry-run")
    assert served.server is not None
    url = served.server.endpoint
    assert run.out.splitlines() == [
        f"POST {url}/jobs/c/abort",
        f'POST {url}/jobs/b/run {{"config":{{"isTestJob":true,"jobTimeout":7000}}}}',
        f"DELETE {url}/jobs/a",
    ]
    assert calls(served.folder / "server.db") == []


def test_without_yes_and_with_nobody_to_ask_it_is_refused(served: Project) -> None:
    served.write("a: {state: running}")
    run = served.run("apply")
    assert run.code == 4
    assert "--yes" in run.err
    assert done(served) == []
    assert not (served.folder / "jobs.state.json").exists()


@pytest.mark.parametrize(("answer", "code", "ran"), [("yes", 0, True), ("y", 4, False), ("", 4, False)])
def test_at_a_terminal_only_yes_carries_it_out(served: Project, answer: str, code: int, ran: bool) -> None:
    served.write("a: {state: running}")
    script = shutil.which("script")
    assert script is not None, "util-linux's script gives the command a terminal"
    child = subprocess.run(
        [script, "-qec", " ".join(served.command("apply")), "/dev/null"],
        cwd=served.folder,
        env=served.env,
        input=answer + "\n",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert child.returncode == code, child.stdout
    assert "Carry this out?" in child.stdout
    assert bool(done(served)) == ran


def test_detailed_exitcode_is_2_where_changes_are_pending_and_0_where_not(served: Project) -> None:
    served.write("a: {state: running}")
    assert served.run("plan", "--detailed-exitcode").code == 2
    served.run("apply", "--yes")
    assert served.run("plan", "--detailed-exitcode").code == 0


def test_target_and_exclude_pick_jobs_by_glob(served: Project) -> None:
    served.write("web-a: {state: running}\nweb-b: {state: running}\ndb: {state: running}")
    run = served.run("plan", "--target", "web-*", "--exclude", "*-b", "--format", "json")
    assert [action["job"] for action in run.json["actions"]] == ["web-a"]
    missed = served.run("plan", "--target", "wbe-*")
    assert missed.code == 1
    assert "wbe-*" in missed.err


def test_a_name_that_is_a_glob_too_means_that_job_alone(served: Project) -> None:
    served.write('"nightly[1]": {id: n-1, state: running}\nnightly1: {state: running}\n"*": {id: star, state: running}')

    def planned(*words: str) -> list[str]:
        return sorted(action["job"] for action in served.run("plan", *words, "--format", "json").json["actions"])

    assert planned("--target", "nightly[1]") == ["nightly[1]"]
    assert planned("--target", "*") == ["*"]
    assert planned("--target", "nightly?") == ["nightly1"]
    assert planned("--target", "nightly[1]", "--target", "n*1") == ["nightly1", "nightly[1]"]
    assert planned("--exclude", "nightly[1]") == ["*", "nightly1"]
    assert planned("--target", "n*", "--exclude", "*") == ["nightly1", "nightly[1]"]
    assert served.run("apply", "--yes", "--target", "nightly[1]").code == 0
    assert done(served) == [("run", "n-1")]
    drift = served.run("drift", "--target", "nightly[1]", "--format", "json").json
    assert [found["job"] for found in drift["jobs"]] == ["nightly[1]"]


def test_ten_thousand_targets_that_are_names_take_no_time_in_their_product() -> None:
    names = [f"job-{number}" for number in range(10_000)]
    took_s = -time.monotonic()
    assert sum(map(Selection(tuple(names)).among(dict.fromkeys(names)), names)) == 10_000
    assert took_s + time.monotonic() < 1


def test_a_plan_that_is_not_about_all_jobs_says_so_also_once_it_is_saved_and_carried_out(served: Project) -> None:
    served.write("web-a: {state: running}\nweb-b: {state: running}\ndb: {state: running}")
    picked = ("--target", "web-*", "--exclude", "*-b")
    words = "Only 1 of 3 jobs: `--target 'web-*' --exclude '*-b'`."
    assert served.run("plan", *picked, "--out", "plan.json").out.splitlines()[:2] == ["Plan: 1 to run.", words]
    assert "Only 1 of 3 jobs: <code>--target &#x27;web-*&#x27;" in served.run("plan", *picked, "--format", "html").out
    for all_of_them in (("--target", "*"), ("--exclude", "x"), ()):
        assert "Only" not in served.run("plan", *all_of_them).out
    narrowed = {"jobs": 1, "of": 3, "targets": ["web-*"], "excludes": ["*-b"]}
    saved = json.loads((served.folder / "plan.json").read_text())
    jsonschema.validate(saved, json.loads(schema_text("plan.schema.json")))
    run = served.run("apply", "--plan", "plan.json", "--yes", "--format", "json")
    jsonschema.validate(run.json, json.loads(schema_text("outcome.schema.json")))
    assert saved["narrowed"] == run.json["narrowed"] == narrowed
    assert done(served) == [("run", "web-a")]
    assert served.run("apply", *picked, "--yes").out == f"Nothing to do: 1 job is as recorded.\n{words}\n"
    assert served.run("apply", "--target", "db", "--yes").out.splitlines()[1] == "Only 1 of 3 jobs: `--target db`."


def test_an_undeclared_job_is_shown_and_left_alone_until_prune(served: Project) -> None:
    served.write("a: {state: running}\nb: {state: running}")
    served.run("apply", "--yes")
    served.write("a: {state: running}")
    plan = served.run("plan")
    assert "Recorded but no longer declared, and left alone: b" in plan.out
    assert served.run("apply", "--yes").code == 0
    assert ("delete", "b") not in done(served)
    assert served.run("apply", "--yes", "--prune").code == 0
    assert done(served)[-2:] == [("abort", "b"), ("delete", "b")]
    assert list(served.state["jobs"]) == ["a"]


def test_a_guard_refuses_the_whole_plan_before_the_first_call(served: Project) -> None:
    served.write("a: {state: running}\nb: {state: running}\nc: {state: running}")
    served.run("apply", "--yes")
    served.write("a: {state: absent}\nb: {state: absent}\nd: {state: running}", more='guards: {maxDelete: "34%"}')
    run = served.run("apply", "--yes")
    assert run.code == 4
    assert "2 to delete, and guards.maxDelete is 34% of 3 recorded jobs, so 1" in run.err
    assert len(done(served)) == 3


def test_a_saved_plan_is_applied_as_it_stands(served: Project) -> None:
    served.write("a: {state: running}")
    assert served.run("plan", "--out", "plan.json").code == 0
    assert served.run("apply", "--plan", "plan.json", "--yes").code == 0
    assert done(served) == [("run", "a")]
    again = served.run("apply", "--plan", "plan.json", "--yes")
    assert again.code == 4
    assert "stale" in again.err
    assert done(served) == [("run", "a")]


def test_a_saved_plan_is_refused_once_the_manifest_means_something_else(served: Project) -> None:
    served.write("a: {state: running}")
    served.run("plan", "--out", "plan.json")
    text = (served.folder / "jobs.yaml").read_text()
    (served.folder / "jobs.yaml").write_text(
        text.replace("{state: running}", "{state: running, config: {jobTimeout: 5000}}")
    )
    run = served.run("apply", "--plan", "plan.json", "--yes")
    assert run.code == 4
    assert "the manifest is not the one that the plan was made from" in run.err
    (served.folder / "jobs.yaml").write_text("# a comment means nothing\n" + text)
    assert served.run("apply", "--plan", "plan.json", "--yes").code == 0


def test_a_saved_plan_that_was_tampered_with_does_no_more_than_the_manifest_asks(served: Project) -> None:
    served.write("a: {state: running}\nb: {state: running}")
    served.run("apply", "--yes")
    served.write("a: {state: running}\nb: {state: aborted}")
    served.run("plan", "--out", "plan.json")
    document = json.loads((served.folder / "plan.json").read_text())
    for action in document["actions"]:
        action["action"] = "delete"
        action["calls"] = [{"verb": "delete", "request": f"DELETE /jobs/{action['id']}", "body": None}]
    (served.folder / "plan.json").write_text(json.dumps(document))
    run = served.run("apply", "--plan", "plan.json", "--yes")
    assert run.code == 4
    assert [verb for verb, _ in done(served)] == ["run", "run"]


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"formatVersion": 1}', '{"formatVersion": 3}', "nonsense"])
def test_a_file_that_is_no_plan_is_refused(served: Project, text: str) -> None:
    (served.folder / "plan.json").write_text(text)
    run = served.run("apply", "--plan", "plan.json", "--yes")
    assert run.code == 1
    assert "plan.json is no saved plan" in run.err


def test_a_job_aborted_by_hand_is_held_and_not_run_again(served: Project) -> None:
    served.write("a: {state: running}")
    served.run("apply", "--yes")
    by_hand(served, "POST", "/jobs/a/abort")
    assert served.run("plan").out.startswith("No changes")
    refreshed = served.run("plan", "--refresh", "--detailed-exitcode")
    assert refreshed.code == 2
    assert "aborted by someone else" in refreshed.out
    served.write("a: {state: running, config: {jobTimeout: 9000}}")
    held = served.run("apply", "--yes")
    assert held.code == 4
    assert "1 held" in held.out
    served.write("a: {state: running, config: {jobTimeout: 9000}, runToken: again}")
    assert served.run("apply", "--yes").code == 0
    assert done(served) == [("run", "a"), ("abort", "a"), ("run", "a")]


def test_a_token_that_is_taken_back_before_it_led_to_a_run_may_be_given_once_more(tmp_path: Path) -> None:
    with served_project(tmp_path, "run:400:skip=1:times=1") as project:
        project.write("a: {state: running}")
        assert project.run("apply", "--yes").code == 0
        project.write("a: {state: running, runToken: monday}")
        assert project.run("apply", "--yes").code == 3
        project.write("a: {state: running}")
        assert project.run("apply", "--yes").code == 0
        for _ in range(2):
            project.write("a: {state: running, runToken: monday}")
            assert project.run("apply", "--yes").code == 0
        assert done(project) == [("run", "a"), ("abort", "a"), ("run", "a"), ("abort", "a"), ("run", "a")]


def test_a_new_run_token_runs_once_more_and_an_old_one_fires_nothing(served: Project) -> None:
    for token in ("one", "two", "one", "two"):
        served.write(f"a: {{state: running, runToken: {token}}}")
        assert served.run("apply", "--yes").code == 0
    assert done(served) == [("run", "a"), ("abort", "a"), ("run", "a")]


def test_a_lost_state_runs_nothing_again(served: Project) -> None:
    served.write("a: {state: running}\nb: {state: running, runToken: t}")
    served.run("apply", "--yes")
    (served.folder / "jobs.state.json").unlink()
    run = served.run("apply", "--yes", "--state", "jobs.state.json")
    assert run.code == 0
    assert sorted(done(served)) == [("run", "a"), ("run", "b")]
    assert run.out.startswith("Plan: 2 to adopt.\n")
    assert run.out.endswith("Applied: 2 recorded, no call was needed.\n")


def test_what_apply_finds_active_already_is_adopted_in_place_of_a_run(served: Project) -> None:
    served.write("a: {state: running}")
    by_hand(served, "POST", "/jobs/a/run", '{"config": {}}')
    run = served.run("apply", "--yes", "--format", "json")
    assert run.code == 0
    [action] = run.json["actions"]
    assert (action["action"], action["outcome"]) == ("adopt", "recorded")
    assert done(served) == [("run", "a")]


def test_a_restart_that_the_plan_did_not_show_is_held(served: Project) -> None:
    served.write("a: {state: running, config: {jobTimeout: 9000}}")
    assert served.run("plan", "--out", "plan.json").code == 0
    by_hand(served, "POST", "/jobs/a/run", '{"config": {"jobTimeout": 5000}}')
    run = served.run("apply", "--plan", "plan.json", "--yes")
    assert run.code == 4
    assert "the plan shows no restart of this job" in run.out
    assert done(served) == [("run", "a")]
    shown = served.run("plan", "--refresh", "--out", "plan.json")
    assert "config.jobTimeout 5000 → 9000" in shown.out
    assert served.run("apply", "--plan", "plan.json", "--yes").code == 0
    assert done(served) == [("run", "a"), ("abort", "a"), ("run", "a")]


def completed(project: Project, jobs: int, **more: str) -> None:
    """So many jobs that were run by an apply, and have completed since."""
    project.write("\n".join(f"j{n:02}: {{state: running, config: {{jobTimeout: 1}}}}" for n in range(jobs)), **more)
    assert project.run("apply", "--yes").code == 0
    while project.run("status").out.count("complete") < jobs:
        pass


@pytest.mark.parametrize("is_saved", [False, True], ids=["apply", "saved"])
def test_a_new_config_of_completed_jobs_is_shown_and_counted_as_what_it_is(tmp_path: Path, is_saved: bool) -> None:
    with served_project(tmp_path, job_seconds=0.2) as project:
        completed(project, 25)
        made = len(done(project))
        path = tmp_path / "jobs.yaml"
        path.write_text(path.read_text().replace("jobTimeout: 1", "jobTimeout: 2"))
        refused = project.run("plan", "--out", "plan.json")
        assert (refused.code, refused.out.splitlines()[0]) == (4, "Plan: 25 to restart.")
        assert "read the jobs first (plan --refresh)" in refused.err
        run = project.run("apply", "--yes", *(["--plan", "plan.json"] if is_saved else []))
        assert run.code == 0, run.err
        assert run.out.splitlines()[0] == "Plan: 25 to adopt."
        assert "to restart" not in run.out
        assert run.out.splitlines()[-1] == "Applied: 25 recorded, no call was needed."
        assert len(done(project)) == made
        assert {record["config"]["jobTimeout"] for record in project.state["jobs"].values()} == {2}


def test_what_an_apply_did_and_what_it_recorded_are_counted_apart(tmp_path: Path) -> None:
    with served_project(tmp_path) as project:
        project.write("a: {state: running}\nb: {state: aborted}")
        assert project.run("apply", "--yes").out.endswith("Applied: 1 succeeded; 1 recorded, no call was needed.\n")


def test_a_service_without_reads_is_applied_to_as_before(tmp_path: Path) -> None:
    with served_project(tmp_path, "read:404", "list:404") as project:
        project.write("a: {state: running}")
        assert project.run("apply", "--yes").code == 0
        project.write("a: {state: running, config: {jobTimeout: 9000}}")
        run = project.run("apply", "--yes")
        assert (run.code, run.out.splitlines()[0]) == (0, "Plan: 1 to restart.")
        assert done(project) == [("run", "a"), ("abort", "a"), ("run", "a")]


def test_a_service_that_can_t_be_reached_ends_an_apply_before_its_question(served: Project) -> None:
    served.write("a: {state: running}")
    run = served.run("apply", "--endpoint", "http://127.0.0.1:9/v1", BYTENITE_ACCESS_TOKEN="token")
    assert (run.code, run.out) == (1, "")
    assert "127.0.0.1:9" in run.err


def test_a_foreign_state_is_refused_before_any_call(served: Project) -> None:
    served.write("a: {state: running}")
    served.run("apply", "--yes")
    made = len(calls(served.folder / "server.db"))
    run = served.run("apply", "--yes", "--endpoint", "http://127.0.0.1:9/v1")
    assert run.code == 1
    assert "jobs.state.json is for bytenite at" in run.err
    assert len(calls(served.folder / "server.db")) == made


def test_a_job_with_a_call_in_doubt_is_not_forgotten(tmp_path: Path) -> None:
    with served_project(tmp_path, "run:503:times=1") as project:
        project.write("a: {state: running}")
        assert project.run("apply", "--yes").code == 5
        run = project.run("state", "forget", "a")
        assert (run.code, "reconciler resolve a --applied" in run.err) == (4, True)
        assert "inDoubt" in project.state["jobs"]["a"]


@pytest.mark.parametrize("option", ["--settle", "--wait", "--lock-timeout", "--max-rps"])
@pytest.mark.parametrize("number", ["nan", "inf"])
def test_seconds_and_rates_are_numbers(project: Project, option: str, number: str) -> None:
    project.write("a: {state: running}")
    run = project.run("apply", "--yes", option, number)
    assert (run.code, f"'{option}': {number} is not a finite number" in run.err) == (64, True)
    assert project.run("state", "list").out == "Nothing is recorded.\n"


def test_state_show_list_and_forget(served: Project) -> None:
    served.write("a: {state: running, config: {jobTimeout: 5000}}")
    assert served.run("state", "list").out == "Nothing is recorded.\n"
    served.run("apply", "--yes")
    assert served.run("state", "list").out.splitlines()[1].split() == ["a", "running", "a", "a-1"]
    shown = served.run("state", "show", "a", "--format", "json").json
    assert shown.pop("submittedAt").startswith("20")
    config = {"jobTimeout": 5000}
    assert shown == {
        "job": "a",
        "id": "a",
        "state": "running",
        "config": config,
        "run": 1,
        "ranConfigs": ['{"jobTimeout":5000}'],
    }
    assert served.run("state", "show", "nobody").code == 1
    assert served.run("state", "forget", "a").code == 0
    assert served.state["jobs"] == {}
    assert done(served) == [("run", "a")]


def test_state_mv_gives_a_record_another_name_and_calls_nothing(served: Project) -> None:
    served.write("a: {id: one, state: running}\nb: {id: two, state: running}")
    served.run("apply", "--yes")
    executions = done(served)
    assert served.run("state", "mv", "a", "b").code == 1
    assert served.run("state", "mv", "nobody", "c").code == 1
    assert served.run("state", "mv", "a", "c").code == 0
    assert sorted(served.state["jobs"]) == ["b", "c"]
    served.write("c: {id: one, state: running}\nb: {id: two, state: running}")
    assert served.run("plan").out.startswith("No changes")
    assert done(served) == executions


def test_state_mv_of_a_record_that_the_manifest_names_otherwise_says_only_what_is_still_true(served: Project) -> None:
    served.write("a: {id: one, state: running}")
    assert served.run("apply", "--yes").code == 0
    served.write("b: {id: one, state: running}")
    moved = served.run("state", "mv", "b", "c")
    assert (moved.code, "until the next apply" in moved.err) == (0, False)
    assert moved.err.endswith("with `id: one`, or the next apply renames the record to b\n")
    assert sorted(served.state["jobs"]) == ["c"]


def test_a_job_that_is_renamed_without_its_id_is_named_and_state_mv_says_what_is_missing(served: Project) -> None:
    served.write("a: {state: running, config: {jobTimeout: 5000}}")
    assert served.run("apply", "--yes").code == 0
    served.write("b: {state: running, config: {jobTimeout: 5000}}")
    plan = served.run("plan")
    hint = "b has the config of a, which is no longer declared: if that job was renamed, `id: a` keeps its runs"
    assert (plan.code, hint in plan.out) == (0, True), plan
    moved = served.run("state", "mv", "a", "b")
    assert "b is the engine job b there: add `id: a`, or it is a job of its own" in moved.err, moved
    served.write("b: {state: running, id: a, config: {jobTimeout: 5000}}")
    assert served.run("plan").out.startswith("No changes")
    served.write("b: {state: running, config: {jobTimeout: 6000}}")
    assert "has the config of" not in served.run("plan").out


def test_state_mv_says_that_the_manifest_still_has_the_old_name(served: Project) -> None:
    served.write("a: {state: running}\nb: {state: running}")
    served.run("apply", "--yes")
    moved = served.run("state", "mv", "a", "c")
    assert moved.code == 0
    assert moved.err == (
        "jobs.yaml:5:3: the manifest still declares this job as a: rename it there to c, with `id: a`, "
        "or the next apply renames the record to a\n"
    )
    assert served.run("apply", "--yes").code == 0
    assert sorted(served.state["jobs"]) == ["a", "b"]
    served.write("c: {id: a, state: running}\nb: {state: running}")
    assert "still declares" not in served.run("state", "mv", "a", "c").err
    assert served.run("plan").out.startswith("No changes")
    served.write("b: {state: running}")
    assert served.run("state", "mv", "c", "d").err == ""


def test_resolve_of_a_job_without_a_doubt_says_whether_any_job_has_one(tmp_path: Path) -> None:
    with served_project(tmp_path, "run:503:after:job=b", "read:404", "list:404") as project:
        project.write("a: {state: running}")
        assert project.run("apply", "--yes").code == 0
        run = project.run("resolve", "a", "--applied")
        assert (run.code, run.err.splitlines()[-1]) == (1, "  no job has one, so there is nothing to settle")
        first = "a (engine job a) has no call in doubt: looking for a run that its record does not know"
        assert run.err.splitlines()[0] == first
        without = project.run("resolve", "a", "--applied", BYTENITE_ACCESS_TOKEN="")
        assert (without.code, without.err.splitlines()[0]) == (1, first)
        project.write("a: {state: running}\nb: {state: running}")
        assert project.run("apply", "--yes").code == 5
        run = project.run("resolve", "a", "--applied")
        assert (run.code, run.err.splitlines()[-1]) == (1, "  `reconciler state list` shows which jobs have one")


def test_status_shows_desired_recorded_and_observed_side_by_side(served: Project) -> None:
    served.write("a: {state: running}\nb: {state: aborted}")
    served.run("apply", "--yes", "--target", "a")
    lines = [line.split() for line in served.run("status").out.splitlines()]
    assert lines[1] == ["a", "running", "running", "active", "(JOB_STATE_RUNNING)", "a-1"]
    assert lines[2] == ["b", "aborted", "–", "draft", "(JOB_STATE_NEW)", "–"]
    document = served.run("status", "--format", "json").json
    jsonschema.validate(document, json.loads(schema_text("status.schema.json")))
    assert [(job["job"], job["recorded"], job["observed"]) for job in document["jobs"]] == [
        ("a", "running", "active"),
        ("b", None, "draft"),
    ]


def test_with_json_stdout_holds_one_document_even_on_failure(served: Project) -> None:
    (served.folder / "jobs.yaml").write_text("apiVersion: 3\n")
    for command in (["validate"], ["plan"], ["apply", "--yes"], ["status"], ["state", "list"]):
        run = served.run(*command, "--format", "json")
        assert run.code == 1
        found = run.json if command == ["validate"] else run.json["error"]
        assert found["diagnostics"][0]["line"] == 1
    assert served.run("plan", "--format", "json", "--nonsense").code == 64
    assert "nonsense" in served.run("plan", "--format", "json", "--nonsense").json["error"]["message"]


@pytest.mark.parametrize(
    "arguments",
    [["nonsense"], ["plan", "--nonsense"], ["apply", "--parallelism", "0"], ["apply", "--plan", "p", "jobs.yaml"],
     ["resolve", "a"], ["plan", "--state", "s3://bucket/x"], ["sandbox", "--fault", "nonsense"]],
)  # fmt: skip
def test_wrong_usage_is_64(project: Project, arguments: list[str]) -> None:
    project.write("a: {state: running}")
    assert project.run(*arguments).code == 64


def test_a_port_that_is_taken_is_said_in_a_line(served: Project) -> None:
    assert served.server is not None
    port = served.server.endpoint.split(":")[2].split("/")[0]
    run = served.run("sandbox", "--port", port)
    assert run.code == 1
    assert run.err.startswith(f"error: can't listen on 127.0.0.1:{port}: ")


def test_schema_prints_what_ships(project: Project) -> None:
    assert json.loads(project.run("schema").out)["$id"] == "urn:reconciler:schema:manifest:v1"
    for name in ("plan", "history", "status"):
        assert json.loads(project.run("schema", name).out)["$id"] == f"urn:reconciler:schema:{name}:v1"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_name_the_program(project: Project, shell: str) -> None:
    assert "_RECONCILER_COMPLETE" in project.run("completion", shell).out


def test_a_run_in_doubt_is_not_sent_twice_and_exits_5(tmp_path: Path) -> None:
    with served_project(tmp_path, "run:503:after:times=1", "read:404", "list:404") as project:
        project.write("a: {state: running}\nb: {state: running}")
        run = project.run("apply", "--yes", "--parallelism", "1")
        assert run.code == 5
        assert "`reconciler resolve a --applied`, or the same with `--not-applied`" in run.out
        assert done(project) == [("run", "a"), ("run", "b")]
        assert project.state["jobs"]["a"]["inDoubt"]["verb"] == "run"
        again = project.run("apply", "--yes")
        assert again.code == 5
        assert done(project) == [("run", "a"), ("run", "b")]
        assert project.run("resolve", "a", "--applied", "--reason", "seen in the console").code == 0
        assert "was applied, says ada@" in project.state["jobs"]["a"]["resolved"]
        assert project.state["jobs"]["a"]["resolved"].endswith(": seen in the console")
        assert project.run("plan").out == "No changes: 2 jobs are as recorded.\n"
        assert project.run("resolve", "a", "--applied").code == 1


def test_a_run_whose_answer_is_lost_but_which_shows_is_on_record_as_done(tmp_path: Path) -> None:
    with served_project(tmp_path, "run:reset:after:times=1") as project:
        project.write("a: {state: running}")
        run = project.run("apply", "--yes")
        assert run.code == 0
        assert done(project) == [("run", "a")]


def test_a_run_that_left_no_trace_in_two_looks_is_sent_once_more(tmp_path: Path) -> None:
    with served_project(tmp_path, "run:503:times=1") as project:
        project.write("a: {state: running}")
        assert project.run("apply", "--yes").code == 5
        assert done(project) == []
        healed = project.run("apply", "--yes", "--settle", "0.2")
        assert healed.code == 0, healed.out
        assert done(project) == [("run", "a")]


def test_a_first_look_that_is_stale_does_not_run_a_job_again(tmp_path: Path) -> None:
    with served_project(tmp_path, "run:503:after:times=1", "read:stale:skip=1:times=2") as project:
        project.write("a: {state: running}")
        assert project.run("apply", "--yes").code == 5
        settled = project.run("apply", "--yes", "--settle", "0.2")
        assert settled.code == 0, settled.out + settled.err
        assert done(project) == [("run", "a")]
        assert project.run("plan").out == "No changes: 1 job is as recorded.\n"


def test_one_failure_lets_the_others_go_on_and_skips_the_deletes(tmp_path: Path) -> None:
    with served_project(tmp_path, "run:403:job=bad") as project:
        project.write("bad: {state: running}\ngood: {state: running}\nold: {state: absent}")
        run = project.run("apply", "--yes", "--format", "json")
        assert run.code == 3
        outcomes = {action["job"]: action["outcome"] for action in run.json["actions"]}
        assert outcomes == {"bad": "failed", "good": "succeeded", "old": "skipped"}
        assert done(project) == [("run", "good")]
        assert list(project.state["jobs"]) == ["good"]


def test_a_job_that_cannot_be_read_is_left_alone_and_the_others_go_on(tmp_path: Path) -> None:
    with served_project(tmp_path, "read:403:job=bad") as project:
        project.write("bad: {state: running}\ngood: {state: running}")
        run = project.run("apply", "--yes")
        assert run.code == 3
        assert "unreadable" in run.out
        assert done(project) == [("run", "good")]


def test_fail_fast_starts_nothing_new(tmp_path: Path) -> None:
    with served_project(tmp_path, "run:403:job=a") as project:
        project.write("a: {state: running}\nb: {state: running}")
        run = project.run("apply", "--yes", "--fail-fast", "--parallelism", "1")
        assert run.code == 3
        assert done(project) == []
        assert "--fail-fast was given" in run.out


def test_fail_fast_leaves_none_standing_ready_either(tmp_path: Path) -> None:
    """Of eight calls at a time, the first is refused at once and the others take three seconds.

    On a busy machine the refusal may arrive before all of the other seven have been sent.
    """
    with served_project(tmp_path, "run:403:job=a", "run:slow:seconds=3") as project:
        project.write("\n".join(f"{name}: {{state: running}}" for name in "abcdefghijkl"))
        run = project.run("apply", "--yes", "--fail-fast", "--parallelism", "8")
        assert run.code == 3
        sent = done(project)
        assert {*sent} <= {("run", name) for name in "bcdefgh"}
        assert run.out.count("--fail-fast was given") == 11 - len(sent)


def test_fail_fast_brings_a_restart_to_its_end(tmp_path: Path) -> None:
    with served_project(tmp_path, "run:403:job=b", "abort:slow:seconds=1") as project:
        project.write("a: {state: running}")
        assert project.run("apply", "--yes").code == 0
        project.write('a: {state: running, runToken: "2"}\nb: {state: running}')
        run = project.run("apply", "--yes", "--fail-fast", "--parallelism", "2")
        assert run.code == 3
        assert done(project) == [("run", "a"), ("abort", "a"), ("run", "a")]


def test_a_failure_in_a_200_shows_code_text_and_request(tmp_path: Path) -> None:
    with served_project(tmp_path, "run:not-ok") as project:
        project.write("a: {state: running}")
        run = project.run("apply", "--yes")
        assert run.code == 3
        assert "request " in run.out
        assert done(project) == []


def test_the_token_is_nowhere_but_in_the_request(served: Project) -> None:
    served.write("a: {state: running}\nb: {state: aborted}")
    printed = ""
    for arguments in (
        ["apply", "--yes", "--verbose"],
        ["plan", "--refresh", "--out", "p.json"],
        ["status", "--verbose"],
    ):
        run = served.run(*arguments)
        printed += run.out + run.err
    assert TOKEN not in printed
    assert not any(TOKEN.encode() in content for content in served.files.values())


def by_hand(project: Project, method: str, path: str, body: str | None = None) -> None:
    """Act on the server behind the reconciler's back."""
    from urllib.request import Request, urlopen

    assert project.server is not None
    headers = {"Authorization": TOKEN, "Content-Type": "application/json"}
    request = Request(
        project.server.endpoint + path, method=method, headers=headers, data=(body or "").encode() or None
    )
    with urlopen(request, timeout=10) as answer:
        assert answer.status == 200


def test_the_program_runs_as_a_module_and_says_its_version() -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "reconciler", "--version"], capture_output=True, text=True, check=True
    )
    assert shown.stdout == "reconciler, version 0.1.0\n"


def test_the_embedded_server_runs_by_itself_says_that_it_simulates_and_ends_when_told(project: Project) -> None:
    for _ in range(10):
        with project.start("sandbox", "--port", "0", "--create-missing") as server:
            assert server.stdout is not None
            banner = server.stdout.readline() + server.stdout.readline()
            server.terminate()
            assert server.wait(timeout=20) == 0
        assert "http://127.0.0.1:" in banner
        assert "It simulates" in banner
