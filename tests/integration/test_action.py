"""The steps of the GitHub Action and the script that commits the state back, against a bare remote and the sandbox."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from checkout import ROOT
from github_server import API_TOKEN, GitHub
from launcher import launcher_in
from project import TOKEN, sandbox_in
from reconciler.engines.sandbox.life import ledger
from reconciler.engines.sandbox.server import SandboxServer
from runner import script_step

CI = ROOT / "ci"


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[SandboxServer]:
    with sandbox_in(tmp_path) as server:
        yield server


class Runner:
    """A runner's checkout of the branch main, and the variables that it sets."""

    def __init__(self, tmp_path: Path, name: str, hub: GitHub, sandbox: SandboxServer) -> None:
        self.folder = tmp_path / name
        self.home = tmp_path / f"{name}-home"
        self._sandbox = sandbox
        remote = tmp_path / "remote.git"
        if not remote.exists():
            git(tmp_path, "init", "-q", "--bare", "-b", "main", str(remote))
            first = tmp_path / "first"
            git(tmp_path, "clone", "-q", str(remote), str(first))
            self.write("a: {state: running}", first)
            git(first, "checkout", "-q", "-b", "main")
            commit(first, "The first jobs")
        git(tmp_path, "clone", "-q", "--depth=1", f"file://{remote}", str(self.folder))
        binaries = launcher_in(self.home / "bin")
        self.env = {
            **os.environ,
            "PATH": f"{binaries}:{os.environ['PATH']}",
            "HOME": str(self.home),
            "XDG_STATE_HOME": str(self.home / "state"),
            "XDG_CACHE_HOME": str(self.home / "cache"),
            "GITHUB_API_URL": hub.url,
            "GITHUB_REPOSITORY": "team/jobs",
            "GITHUB_REF_NAME": "main",
            "GITHUB_ACTOR": "ada",
            "GITHUB_WORKSPACE": str(self.folder),
            "GITHUB_OUTPUT": str(self.home / "output"),
            "GITHUB_STEP_SUMMARY": str(self.home / "summary"),
            "GITHUB_EVENT_PATH": str(self.home / "event.json"),
            "RUNNER_TEMP": str(self.home),
            "RECONCILER_TOKEN": API_TOKEN,
            "BYTENITE_ACCESS_TOKEN": TOKEN,
        }
        self.event({})

    def event(self, event: object) -> None:
        (self.home / "event.json").write_text(json.dumps(event))

    def write(self, jobs: str, folder: Path | None = None) -> None:
        target = f"target: {{engine: bytenite, endpoint: {self._sandbox.endpoint}}}"
        text = f"apiVersion: reconciler/v1\n{target}\njobs:\n  {jobs}\n"
        ((folder or self.folder) / "jobs.yaml").write_text(text)

    def step(self, command: str, **env: str) -> "subprocess.CompletedProcess[str]":
        return script_step(command, self.folder, self.env | env)

    def outputs(self) -> dict[str, str]:
        return dict(line.split("=", 1) for line in (self.home / "output").read_text().splitlines())


def git(folder: Path, *words: str) -> str:
    done = subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def commit(folder: Path, message: str) -> None:
    git(folder, "add", "--all")
    git(folder, "-c", "user.name=ada", "-c", "user.email=ada@example.com", "commit", "-q", "-m", message)
    git(folder, "push", "-q", "origin", "HEAD:main")


def runs(tmp_path: Path) -> list[str]:
    return [execution.job_id for execution in ledger(tmp_path / "server.db")]


def test_a_plan_is_one_comment_that_is_renewed(tmp_path: Path, hub: GitHub, sandbox: SandboxServer) -> None:
    runner = Runner(tmp_path, "runner", hub, sandbox)
    runner.event({"pull_request": {"number": 7}})
    stranger = hub.comment("mallory", "hello")
    assert runner.step("plan").returncode == 0
    [own] = [number for number in hub.comments if number != stranger]
    first = hub.comments[own]["body"]
    assert "1 to run" in first
    assert (runner.home / "summary").read_text() == first
    assert runner.outputs()["changes"] == "true"
    assert Path(runner.outputs()["plan"]).exists()
    # Whoever repeats the marker does not get the next plan into a comment of theirs.
    hub.comments[stranger]["body"] = first
    runner.write("a: {state: running}\n  b: {state: running}")
    assert runner.step("plan").returncode == 0
    assert len(hub.comments) == 2
    assert "2 to run" in hub.comments[own]["body"]
    assert hub.comments[stranger]["body"] == first


def test_a_plan_from_a_fork_needs_no_credentials_and_may_not_comment(
    tmp_path: Path, hub: GitHub, sandbox: SandboxServer
) -> None:
    runner = Runner(tmp_path, "runner", hub, sandbox)
    runner.event({"pull_request": {"number": 7}})
    del runner.env["BYTENITE_ACCESS_TOKEN"]
    hub.refuse = 403
    done = runner.step("plan")
    assert done.returncode == 0
    assert "::warning title=reconciler::the plan could not be put on the pull request (HTTP 403)" in done.stdout
    assert "1 to run" in (runner.home / "summary").read_text()
    assert runs(tmp_path) == []


def test_a_fault_of_the_manifest_is_an_annotation_and_fails_the_step(
    tmp_path: Path, hub: GitHub, sandbox: SandboxServer
) -> None:
    runner = Runner(tmp_path, "runner", hub, sandbox)
    runner.write("a: {state: runing}")
    done = runner.step("validate")
    assert done.returncode == 1
    assert re.search(r"^::error title=Manifest,file=jobs\.yaml,line=4,col=\d+::", done.stdout, re.MULTILINE)


def test_an_apply_commits_the_state_back_and_a_second_one_has_nothing_to_do(
    tmp_path: Path, hub: GitHub, sandbox: SandboxServer
) -> None:
    runner = Runner(tmp_path, "runner", hub, sandbox)
    assert runner.step("apply").returncode == 0
    later = Runner(tmp_path, "later", hub, sandbox)
    assert "[skip ci]" in git(later.folder, "log", "-1", "--format=%s")
    assert '"running"' in (later.folder / "jobs.state.json").read_text()
    head = git(later.folder, "rev-parse", "HEAD")
    assert later.step("apply").returncode == 0
    assert git(tmp_path / "remote.git", "rev-parse", "main") == head
    assert runs(tmp_path) == ["a"]


def test_a_push_that_lost_the_race_is_merged_and_not_forced(
    tmp_path: Path, hub: GitHub, sandbox: SandboxServer
) -> None:
    runner = Runner(tmp_path, "runner", hub, sandbox)
    other = tmp_path / "first"
    (other / "notes.md").write_text("meanwhile\n")
    commit(other, "Notes")
    assert runner.step("apply").returncode == 0
    remote = tmp_path / "remote.git"
    assert git(remote, "show", "main:notes.md") == "meanwhile"
    assert '"running"' in git(remote, "show", "main:jobs.state.json")


def test_a_state_that_was_changed_elsewhere_meanwhile_is_left_to_a_person(
    tmp_path: Path, hub: GitHub, sandbox: SandboxServer
) -> None:
    runner, other = (Runner(tmp_path, name, hub, sandbox) for name in ("runner", "other"))
    assert other.step("apply").returncode == 0
    head = git(tmp_path / "remote.git", "rev-parse", "main")
    done = runner.step("apply")
    assert done.returncode == 1
    assert "::error title=reconciler::the state was changed elsewhere meanwhile" in done.stdout
    assert git(tmp_path / "remote.git", "rev-parse", "main") == head
    assert runs(tmp_path) == ["a"]


def test_the_state_is_committed_back_also_where_the_apply_failed(
    tmp_path: Path, hub: GitHub, sandbox: SandboxServer
) -> None:
    runner = Runner(tmp_path, "runner", hub, sandbox)
    runner.write("a: {state: running}\n  b: {state: running, after: []}")
    assert runner.step("apply").returncode == 1  # not in this form: nothing was done, so there is nothing to commit
    runner.write("a: {state: running}\n  b: {id: no..id, state: running}")
    assert runner.step("apply").returncode == 1
    assert runs(tmp_path) == []


def test_a_state_on_a_branch_of_its_own_is_found_by_the_next_runner_and_nothing_is_committed_back(
    tmp_path: Path, hub: GitHub, sandbox: SandboxServer
) -> None:
    runner, later = (Runner(tmp_path, name, hub, sandbox) for name in ("runner", "later"))
    remote = tmp_path / "remote.git"
    head = git(remote, "rev-parse", "main")
    for each in (runner, later):
        each.env |= {"RECONCILER_STATE": "git+origin#states", "GITHUB_ACTIONS": "true", "GITHUB_RUN_ID": "7"}
        each.event({"pull_request": {"number": 7}})
        assert each.step("apply").returncode == 0
        assert git(each.folder, "status", "--porcelain") == ""
        assert git(each.folder, "rev-parse", "HEAD") == git(remote, "rev-parse", "main") == head
    assert runs(tmp_path) == ["a"]
    assert '"running"' in git(remote, "show", "states:jobs.state.json")
    subjects = git(remote, "log", "--format=%s", "states").splitlines()
    assert len(subjects) == 2, "an apply with nothing to do pushes nothing"
    assert all(subject.endswith("[skip ci]") for subject in subjects)
    assert git(remote, "log", "-1", "--format=%an", "states") == "ada, GitHub Actions run 7"
    assert later.step("plan").returncode == 0
    assert "1 job is as recorded" in hub.comments[1]["body"]
    assert later.step("drift").returncode == 0


def test_where_the_states_branch_takes_no_push_the_step_fails_and_nothing_is_sent(
    tmp_path: Path, hub: GitHub, sandbox: SandboxServer
) -> None:
    runner = Runner(tmp_path, "runner", hub, sandbox)
    hook = tmp_path / "remote.git" / "hooks" / "pre-receive"
    hook.write_text("#!/bin/sh\necho 'protected branch' >&2\nexit 1\n")
    hook.chmod(0o755)
    done = runner.step("apply", RECONCILER_STATE="git+origin")
    assert done.returncode == 1
    [error] = [line for line in done.stdout.splitlines() if line.startswith("::error")]
    assert "nothing was sent" in error
    assert "protected branch" in error
    assert runs(tmp_path) == []


def test_drift_opens_one_issue_and_closes_it(tmp_path: Path, hub: GitHub, sandbox: SandboxServer) -> None:
    import requests

    runner = Runner(tmp_path, "runner", hub, sandbox)
    assert runner.step("apply").returncode == 0
    assert runner.step("drift").returncode == 0
    assert hub.issues == {}
    headers = {"Authorization": TOKEN}
    assert requests.post(f"{sandbox.endpoint}/jobs/a/abort", headers=headers, timeout=10).ok
    for _ in range(2):
        assert runner.step("drift").returncode == 0
    [issue] = hub.issues.values()
    assert issue["state"] == "open"
    assert "aborted" in issue["body"]
    assert runner.outputs()["changes"] == "true"
    config: dict[str, dict[str, int]] = {"config": {}}
    assert requests.post(f"{sandbox.endpoint}/jobs/a/run", json=config, headers=headers, timeout=10).ok
    runner.step("drift")
    assert issue["state"] == "open"  # run by someone else is drift too


def test_where_the_api_is_out_of_reach_drift_fails_without_a_token_in_its_words(
    tmp_path: Path, hub: GitHub, sandbox: SandboxServer
) -> None:
    runner = Runner(tmp_path, "runner", hub, sandbox)
    assert runner.step("apply").returncode == 0
    hub.refuse = 500
    (runner.folder / "jobs.state.json").unlink()
    done = runner.step("nonsense")
    assert done.returncode == 64
    assert "command must be one of validate, plan, apply, drift" in done.stdout


def test_the_report_for_gitlab_counts_by_kind(tmp_path: Path) -> None:
    summary = {"abort": 1, "run": 2, "restart": 3, "delete": 4, "adopt": 5, "forget": 0, "hold": 6, "noop": 7}
    done = subprocess.run(
        [sys.executable, str(CI / "gitlab_report.py")],
        input=json.dumps({"summary": summary}),
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout) == {"create": 2, "update": 9, "delete": 4}


@pytest.mark.parametrize("state", ["", "git+origin"])
def test_the_jobs_for_gitlab_plan_apply_and_look_for_drift_in_turn(
    state: str, tmp_path: Path, hub: GitHub, sandbox: SandboxServer
) -> None:
    """Each in a clone of its own, as its runner runs it."""
    remote = tmp_path / "remote.git"
    template = gitlab_template()
    config = tmp_path / "gitconfig"
    pushed_to = "https://reconciler:a-made-up-token@gitlab.example/team/jobs.git"
    config.write_text(f'[url "file://{remote}"]\n\tinsteadOf = {pushed_to}\n')
    for number, name in enumerate(("plan", "apply", "apply", "drift")):
        runner = Runner(tmp_path, f"runner-{number}", hub, sandbox)
        script = "\n".join(template[f"reconciler:{name}"]["script"]).replace("/opt/reconciler/ci", str(CI))
        done = subprocess.run(
            ["bash", "-e", "-c", script.replace("python ", f'"{sys.executable}" ')],
            cwd=runner.folder,
            env=runner.env
            | {
                "GIT_CONFIG_GLOBAL": str(config),
                "RECONCILER_STATE": state,
                "RECONCILER_PUSH_TOKEN": "a-made-up-token",
                "CI_SERVER_HOST": "gitlab.example",
                "CI_PROJECT_PATH": "team/jobs",
                "CI_COMMIT_BRANCH": "main",
            },
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
    assert "1 job is as recorded" in done.stdout
    assert runs(tmp_path) == ["a"]
    assert '"running"' in git(remote, "show", f"{'reconciler-state' if state else 'main'}:jobs.state.json")
    subject = git(remote, "log", "-1", "--format=%s", "main")
    assert subject == ("The first jobs" if state else "State after an apply [skip ci]")


def documents(path: Path) -> list[Any]:
    return list(yaml.safe_load_all(path.read_text()))


def gitlab_template(**inputs: str) -> Any:
    """The jobs of the GitLab template, with these inputs and the defaults of all others."""
    text = (CI / "gitlab.yml").read_text()
    spec, _ = text.split("\n---\n")
    for name, declared in yaml.safe_load(spec)["spec"]["inputs"].items():
        text = text.replace(f"$[[ inputs.{name} ]]", inputs.get(name, json.dumps(declared["default"]).strip('"')))
    *_, template = yaml.safe_load_all(text)
    return template


def test_the_action_gives_its_inputs_to_the_script_as_variables_alone() -> None:
    [action] = documents(ROOT / "action.yml")
    for step in action["runs"]["steps"]:
        assert "${{" not in step.get("run", "")
    [command] = [step for step in action["runs"]["steps"] if step.get("id") == "run"]
    inputs = {name.removeprefix("RECONCILER_").lower().replace("_", "-") for name in command["env"]}
    assert inputs | {"working-directory"} == set(action["inputs"])


def test_the_example_workflow_gives_a_pull_request_no_secret_and_cancels_no_apply() -> None:
    [workflow] = documents(ROOT / "examples" / "ci" / "github.yml")
    assert "pull_request_target" not in workflow[True]  # YAML 1.1 reads the key `on` so
    assert workflow["permissions"] == {}
    jobs = workflow["jobs"]
    assert "secrets." not in json.dumps(jobs["plan"])
    assert jobs["apply"]["concurrency"] == {"group": "jobs-apply", "cancel-in-progress": False}
    for job in jobs.values():
        for step in job["steps"]:
            if "reconciler@" in step["uses"]:
                assert step["with"]["command"] in ("validate", "plan", "apply", "drift")


def test_the_templates_name_what_is_there() -> None:
    scripts = json.dumps(gitlab_template())
    for file in re.findall(r"/opt/reconciler/(ci/\w+\.py)", scripts):
        assert (ROOT / file).exists()
    container = (ROOT / "Containerfile").read_text()
    assert "ci/install.sh" in container
    [hooks] = documents(ROOT / ".pre-commit-hooks.yaml")
    [config] = documents(ROOT / "examples" / "ci" / "pre-commit-config.yaml")
    assert {hook["id"] for hook in config["repos"][0]["hooks"]} == {hook["id"] for hook in hooks}
    copied = {line.removeprefix("!") for line in (ROOT / ".dockerignore").read_text().split() if line != "*"}
    assert all((ROOT / name).exists() for name in copied)
