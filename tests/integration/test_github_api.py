"""The steps of the Action against GitHub's API as it is: deleted users, empty bodies, renames, limits, Apps."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from forge import Checkout, Forge, forge, git
from github_server import API_TOKEN, BODY_LIMIT, GitHub
from launcher import launcher_in
from runner import CI, github_env, script_step

ONE = "a: {state: running}"
APP = "the-app[bot]"


class Job:
    """A job of a workflow run, in which steps run one after the other."""

    def __init__(self, place: Forge, hub: GitHub, event: object = None, **env: str) -> None:
        self.checkout: Checkout = place.checkout()
        binaries = launcher_in(self.checkout.home / "bin")
        path = self.checkout.home / "event.json"
        path.write_text(json.dumps(event if event is not None else {}))
        self.env = {
            **self.checkout.env,
            **github_env(self.checkout),
            "PATH": f"{binaries}:{self.checkout.env['PATH']}",
            "GITHUB_API_URL": hub.url,
            "GITHUB_EVENT_PATH": str(path),
            "GITHUB_SHA": place.tip,
            "RECONCILER_TOKEN": API_TOKEN,
            "RECONCILER_ARGS": "",
            **env,
        }

    def step(self, command: str, **env: str) -> "subprocess.CompletedProcess[str]":
        return script_step(command, self.checkout.folder, self.env | env)

    @property
    def outputs(self) -> dict[str, str]:
        text = Path(self.env["GITHUB_OUTPUT"]).read_text()
        return dict(line.split("=", 1) for line in text.splitlines())


def for_pull_request(place: Forge, hub: GitHub) -> Job:
    return Job(place, hub, {"pull_request": {"number": 7}}, GITHUB_REF="refs/pull/7/merge", GITHUB_REF_NAME="7/merge")


# --- comments and issues -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("writer", [APP, "github-actions[bot]", "ada"])
def test_a_comment_is_known_as_its_own_whoever_the_token_belongs_to(place: Forge, hub: GitHub, writer: str) -> None:
    hub.writes_as = writer
    hub.login = writer if writer == "ada" else ""
    hub.comment(None, None)
    hub.comment("mallory", None)
    job = for_pull_request(place, hub)
    for jobs in (ONE, f"{ONE}\nb: {{state: running}}"):
        job.checkout.write(jobs)
        assert job.step("plan").returncode == 0
    assert len(hub.comments) == 3
    assert "2 to run" in hub.comments[3]["body"]


def test_who_repeats_the_marker_does_not_get_the_plan_into_their_comment(place: Forge, hub: GitHub) -> None:
    job = for_pull_request(place, hub)
    assert job.step("plan").returncode == 0
    marker = hub.comments[1]["body"].strip().splitlines()[-1]
    hub.comments[1]["user"] = {"login": "mallory", "type": "User"}
    hub.comments[1]["body"] = f"Mine\n{marker}"
    job.checkout.write(f"{ONE}\nb: {{state: running}}")
    assert job.step("plan").returncode == 0
    assert hub.comments[1]["body"] == f"Mine\n{marker}"
    assert "2 to run" in hub.comments[2]["body"]


def test_a_comment_is_found_on_a_later_page_and_a_list_without_an_end_is_not_read_for_ever(
    place: Forge, hub: GitHub
) -> None:
    for _ in range(250):
        hub.comment("ada", "a word")
    job = for_pull_request(place, hub)
    for jobs in (ONE, f"{ONE}\nb: {{state: running}}"):
        job.checkout.write(jobs)
        assert job.step("plan").returncode == 0
    assert len(hub.comments) == 251
    assert "2 to run" in hub.comments[251]["body"]
    for _ in range(5_000):
        hub.comment("ada", "a word")
    del hub.comments[251]
    done = job.step("plan")
    assert done.returncode == 0
    assert "has more than 5000 entries" in done.stdout


def test_a_renamed_repository_is_followed_with_the_same_request(place: Forge, hub: GitHub) -> None:
    hub.renamed = True
    job = for_pull_request(place, hub)
    assert job.step("plan").returncode == 0
    assert "1 to run" in hub.comments[1]["body"]
    assert hub.requests[-1] == ("POST", "/repositories/42/issues/7/comments")


def test_a_limit_of_the_rate_is_waited_for_and_a_token_that_may_not_write_is_said(place: Forge, hub: GitHub) -> None:
    hub.limited = 3
    job = for_pull_request(place, hub)
    done = job.step("plan")
    assert "1 to run" in hub.comments[1]["body"], done.stdout
    hub.refuse = 403
    job.checkout.write(f"{ONE}\nb: {{state: running}}")
    done = job.step("plan")
    assert done.returncode == 0
    assert "(HTTP 403): it is in the summary of this run" in done.stdout
    assert "Resource not accessible by integration" in done.stdout
    assert "2 to run" in Path(job.env["GITHUB_STEP_SUMMARY"]).read_text()


def test_a_body_that_is_too_long_is_cut_and_still_found_by_its_last_line() -> None:
    code = "import sys; sys.path.insert(0, sys.argv[1]); import github_api; print(github_api.fitted(sys.stdin.read()))"
    text = "x" * (BODY_LIMIT + 5) + "\n<!-- reconciler:plan:abc -->\n"
    done = subprocess.run(
        [sys.executable, "-c", code, str(CI)], input=text, capture_output=True, text=True, check=True, timeout=60
    )
    cut = done.stdout.removesuffix("\n")
    assert len(cut) <= BODY_LIMIT
    assert cut.splitlines()[-1] == "<!-- reconciler:plan:abc -->"


def test_an_issue_of_an_app_is_renewed_and_closed(place: Forge, hub: GitHub) -> None:
    hub.writes_as = APP
    hub.issues[1] = {"number": 1, "state": "open", "user": None, "body": None}
    assert place.checkout().run("apply", "--yes", "--push", "main").code == 0
    job = Job(place, hub)
    job.checkout.write("a: {state: running}\nb: {state: running}")
    for _ in range(2):
        done = job.step("drift", GITHUB_REF="")
        assert done.returncode == 0, done.stdout
    assert len(hub.issues) == (2 if job.outputs["changes"] == "true" else 1)


def test_a_second_plan_step_of_a_job_does_not_hand_out_the_first_one_s_file(place: Forge, hub: GitHub) -> None:
    job = for_pull_request(place, hub)
    assert job.step("plan").returncode == 0
    first = job.outputs["plan"]
    assert Path(first).exists()
    (job.checkout.folder / "jobs.yaml").write_text("nonsense\n")
    assert job.step("plan").returncode == 1
    assert job.outputs["plan"] == ""
    job.checkout.write(ONE)
    assert job.step("plan").returncode == 0
    assert job.outputs["plan"] not in ("", first)


# --- the plan that was reviewed ------------------------------------------------------------------------------------


def reviewed(place: Forge, hub: GitHub) -> tuple[str, Any]:
    """A pull request whose plan was kept: the artifact's name, and the plan."""
    job = for_pull_request(place, hub)
    assert job.step("plan").returncode == 0
    return job.outputs["plan-name"], json.loads(Path(job.outputs["plan"]).read_text())


def test_the_plan_that_was_reviewed_is_the_one_that_is_applied(place: Forge, hub: GitHub) -> None:
    name, plan = reviewed(place, hub)
    hub.keep(name, "1" * 40, {**plan, "serial": 9})
    hub.keep(name, "2" * 40, {**plan, "commit": "3" * 40})
    hub.merged(place.tip, "2" * 40)
    done = Job(place, hub).step("apply")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "::notice title=reconciler::this is the plan that was reviewed in #7" in done.stdout
    assert place.done == [("run", "a")]


def test_a_plan_that_no_longer_fits_is_made_anew_and_what_differs_is_said(place: Forge, hub: GitHub) -> None:
    name, plan = reviewed(place, hub)
    [action] = plan["actions"]
    hub.keep(name, "2" * 40, {**plan, "serial": 4, "actions": [{**action, "action": "restart", "reason": "because"}]})
    hub.merged(place.tip, "2" * 40)
    done = Job(place, hub).step("apply")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "planned anew: the plan that was reviewed in #7 no longer fits" in done.stdout
    assert "the state has moved on" in done.stdout
    assert "a: run (first run), reviewed was restart (because)" in done.stdout
    assert place.done == [("run", "a")]


@pytest.mark.parametrize("kept", ["nonsense", "[1]", "{}", '{"actions": [null, 3], "serial": "x"}'])
def test_what_a_pull_request_kept_in_place_of_a_plan_is_never_applied(place: Forge, hub: GitHub, kept: str) -> None:
    name, _ = reviewed(place, hub)
    hub.keep(name, "2" * 40, kept)
    hub.merged(place.tip, "2" * 40)
    done = Job(place, hub).step("apply")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "planned anew" in done.stdout
    assert place.done == [("run", "a")]


def test_where_there_is_no_plan_to_be_had_it_is_said_and_planned_anew(place: Forge, hub: GitHub) -> None:
    job = Job(place, hub)
    done = job.step("apply")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "came with no pull request" in done.stdout
    assert place.done == [("run", "a")]


def test_a_plan_that_has_expired_is_made_anew(place: Forge, hub: GitHub) -> None:
    name, plan = reviewed(place, hub)
    hub.keep(name, "2" * 40, plan, expired=True)
    hub.merged(place.tip, "2" * 40)
    done = Job(place, hub).step("apply")
    assert "planned anew: the plan of #7 has expired" in done.stdout
    assert place.done == [("run", "a")]


def test_a_selection_in_args_is_part_of_the_plan_that_was_reviewed(place: Forge, hub: GitHub) -> None:
    checkout = place.checkout()
    checkout.write(f"{ONE}\nb: {{state: running}}")
    checkout.commit("Two")
    job = for_pull_request(place, hub)
    assert job.step("plan", RECONCILER_ARGS="--target b").returncode == 0
    hub.keep(job.outputs["plan-name"], "2" * 40, Path(job.outputs["plan"]).read_text())
    hub.merged(place.tip, "2" * 40)
    done = Job(place, hub).step("apply", RECONCILER_ARGS="--target b --parallelism 3")
    assert "this is the plan that was reviewed in #7" in done.stdout, done.stdout + done.stderr
    assert place.done == [("run", "b")]


def test_the_plan_that_was_reviewed_is_found_where_the_input_names_paths(place: Forge, hub: GitHub) -> None:
    job = for_pull_request(place, hub)
    assert job.step("plan", RECONCILER_PATHS="jobs.yaml").returncode == 0
    hub.keep(job.outputs["plan-name"], "2" * 40, Path(job.outputs["plan"]).read_text())
    hub.merged(place.tip, "2" * 40)
    done = Job(place, hub).step("apply", RECONCILER_PATHS="jobs.yaml")
    assert "this is the plan that was reviewed in #7" in done.stdout, done.stdout + done.stderr
    assert place.done == [("run", "a")]


def test_a_reviewed_first_plan_is_not_applied_again_once_its_state_is_gone(tmp_path: Path, hub: GitHub) -> None:
    """A variable that names the state is no word that a state which is gone is to begin anew."""
    named = {"RECONCILER_STATE": "jobs.state.json"}
    with forge(tmp_path, "read:404", "list:404", jobs=ONE) as place:
        job = for_pull_request(place, hub)
        assert job.step("plan", **named).returncode == 0
        hub.keep(job.outputs["plan-name"], "2" * 40, Path(job.outputs["plan"]).read_text())
        hub.merged(place.tip, "2" * 40)
        assert Job(place, hub).step("apply", **named).returncode == 0
        assert place.done == [("run", "a")]
        lost = Job(place, hub)
        git(lost.checkout.folder, "rm", "-q", "jobs.state.json")
        lost.checkout.commit("The state is lost")
        git(lost.checkout.folder, "push", "-q", "origin", "HEAD:main")
        hub.merged(place.tip, "2" * 40)
        again = Job(place, hub).step("apply", **named)
        assert again.returncode == 4, again.stdout + again.stderr
        assert "the state is gone" in again.stdout + again.stderr
        assert place.done == [("run", "a")]


def test_paths_in_args_are_planned_anew_whatever_was_reviewed_and_it_is_said(place: Forge, hub: GitHub) -> None:
    name, plan = reviewed(place, hub)
    hub.keep(name, "2" * 40, plan)
    hub.merged(place.tip, "2" * 40)
    done = Job(place, hub).step("apply", RECONCILER_ARGS="jobs.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "planned anew: args names paths. Give them as the input paths" in done.stdout
    assert place.done == [("run", "a")]


def test_a_plan_in_args_is_applied_and_its_state_pushed(place: Forge, hub: GitHub) -> None:
    job = Job(place, hub)
    assert job.checkout.run("plan", "--out", "plan.json").code == 0
    done = job.step("apply", RECONCILER_ARGS="--plan plan.json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert place.done == [("run", "a")]
    assert "jobs.state.json" in place.files


def test_a_state_in_args_is_pushed(place: Forge, hub: GitHub) -> None:
    done = Job(place, hub).step("apply", RECONCILER_ARGS="--state prod.state.json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "prod.state.json" in place.files


# --- where it runs -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ref", "name"), [("refs/tags/v1", "v1"), ("refs/pull/7/merge", "7/merge"), ("", "v1"), ("", "7/merge"),
                      ("refs/heads/gh-readonly-queue/main/pr-7-abc", "gh-readonly-queue/main/pr-7-abc")]
)  # fmt: skip
def test_what_is_no_branch_is_refused_before_the_first_call(place: Forge, hub: GitHub, ref: str, name: str) -> None:
    done = Job(place, hub, GITHUB_REF=ref, GITHUB_REF_NAME=name).step("apply")
    assert done.returncode == 1, done.stdout
    assert "::error title=reconciler::" in done.stdout
    assert place.calls == 0
    assert place.branches == ["main"]


def test_an_older_workflow_that_is_run_again_does_not_bring_back_what_it_had(place: Forge, hub: GitHub) -> None:
    old = Job(place, hub)
    later = place.checkout()
    later.write("a: {state: absent}")
    later.commit("No more")
    assert place.checkout().run("apply", "--yes", "--push", "main").code == 0
    calls = place.calls
    done = old.step("apply")
    assert done.returncode == 1
    assert "::error title=reconciler::the state was changed elsewhere meanwhile" in done.stdout
    assert place.calls == calls


@pytest.mark.parametrize("state", ["", "git+origin"])
def test_while_an_apply_is_at_work_a_scheduled_look_for_drift_opens_no_issue(
    tmp_path: Path, hub: GitHub, state: str
) -> None:
    with forge(tmp_path, "run:slow:seconds=30:times=1", jobs=f"{ONE}\nb: {{state: running}}") as place:
        at_work = place.checkout()
        words = ["--state", state] if state else ["--push", "main"]
        child = at_work.start("apply", "--yes", *words)
        try:
            while not place.calls:
                assert child.poll() is None
            job = Job(place, hub)
            done = job.step("drift", RECONCILER_STATE=state)
            assert done.returncode == 0, done.stdout + done.stderr
            # On a branch of its own the state says by itself which calls are under way.
            assert state or "drift is not judged now" in done.stdout
            assert hub.issues == {}
            assert job.outputs["changes"] == "false"
        finally:
            child.kill()
            child.communicate()


def test_two_fleets_in_one_repository_push_at_once(place: Forge, hub: GitHub) -> None:
    first = place.checkout()
    first.write("a: {state: running}", name="media.yaml")
    first.write("z: {state: running}", name="audio.yaml")
    (first.folder / "jobs.yaml").unlink()
    first.commit("Two fleets")
    jobs = [
        Job(place, hub, RECONCILER_PATHS=f"{fleet}.yaml", RECONCILER_STATE=f"{fleet}.state.json")
        for fleet in ("media", "audio")
    ]
    children = [
        subprocess.Popen(
            [sys.executable, str(CI / "github.py"), "apply"],
            cwd=job.checkout.folder, env=job.env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for job in jobs
    ]  # fmt: skip
    for child in children:
        out, _ = child.communicate(timeout=60)
        assert child.returncode == 0, out
    assert sorted(place.done) == [("run", "a"), ("run", "z")]
    assert {"media.state.json", "audio.state.json"} <= set(place.files)
    names = set()
    for job in jobs:
        assert job.step("plan").returncode == 0
        names.add(job.outputs["plan-name"])
    assert len(names) == 2
