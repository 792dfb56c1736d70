"""Each example under examples/ci, played as its CI service would, from the pull request to the look for drift."""

import os
import re
import subprocess
import sys
from typing import Any

import yaml

from checkout import ROOT
from forge import WHO, Checkout, Forge, git
from github_server import GitHub
from runner import CI
from workflow import Event, Played, play

EXAMPLES = ROOT / "examples" / "ci"
SECRETS = {"BYTENITE_API_KEY": ""}
ONE = "a: {state: running}"


class Team:
    """What people do at the forge, and what the workflow makes of it."""

    def __init__(self, example: str, place: Forge, hub: GitHub) -> None:
        self._file = EXAMPLES / example
        self._place = place
        self._hub = hub
        self._author: Checkout = place.checkout()

    def begin(self, files: dict[str, str]) -> None:
        """A first commit of these manifests in place of the one that is there."""
        (self._author.folder / "jobs.yaml").unlink()
        for name, jobs in files.items():
            (self._author.folder / name).parent.mkdir(parents=True, exist_ok=True)
            self._author.write(jobs, name=name)
        self._author.commit("Begin")

    def propose(self, files: dict[str, str]) -> list[Played]:
        """Open a pull request."""
        folder = self._author.folder
        git(folder, "fetch", "-q", "origin")
        git(folder, "checkout", "-q", "-B", "topic", "origin/main")
        for name, jobs in files.items():
            self._author.write(jobs, name=name)
        git(folder, "add", "--all")
        git(folder, *WHO, "commit", "-q", "-m", "Topic")
        head = git(folder, "rev-parse", "HEAD")
        git(folder, "checkout", "-q", "--detach", "origin/main")
        git(folder, *WHO, "merge", "-q", "--no-ff", "-m", "Merge", "topic")
        self._head, self._merge = head, git(folder, "rev-parse", "HEAD")
        git(folder, "push", "-q", "-f", "origin", "HEAD:refs/pull/7/merge")
        payload = {"pull_request": {"number": 7, "head": {"sha": head}}}
        return self.event("pull_request", "refs/pull/7/merge", self._merge, payload)

    def queue(self) -> list[Played]:
        """Put the pull request into the merge queue."""
        ref = f"refs/heads/gh-readonly-queue/main/pr-7-{self._head}"
        git(self._author.folder, "push", "-q", "origin", f"{self._merge}:{ref}")
        return self.event("merge_group", ref, self._merge)

    def merge(self, *, push: bool = True) -> list[Played]:
        """Merge the pull request."""
        if push:
            git(self._author.folder, "push", "-q", "origin", f"{self._merge}:main")
        self._hub.merged(self._merge, self._head)
        return self.event("push", "refs/heads/main", self._merge)

    def event(self, name: str, ref: str, sha: str, payload: dict[str, Any] | None = None) -> list[Played]:
        return play(self._file, Event(name, ref, sha, payload or {}), self._place, self._hub, SECRETS)


def well(played: list[Played], *jobs: str) -> str:
    """See that just these jobs ran, and that all went well; what they printed."""
    output = "".join(each.output for each in played)
    assert [each.job for each in played] == list(jobs), output
    assert all(each.succeeded for each in played), output
    assert "Traceback" not in output
    return output


def test_the_workflow_plans_applies_what_was_reviewed_and_looks_for_drift(place: Forge, hub: GitHub) -> None:
    team = Team("github.yml", place, hub)
    well(team.propose({"jobs.yaml": f"{ONE}\nb: {{state: running}}"}), "plan")
    assert "2 to run" in hub.comments[1]["body"]
    assert place.calls == 0
    output = well(team.merge(), "apply")
    assert "this is the plan that was reviewed in #7" in output
    assert sorted(place.done) == [("run", "a"), ("run", "b")]
    assert place.subjects[0] == "State after an apply [skip ci]"
    # The run is started again later: it takes the newest commit, and finds nothing to do.
    well(team.event("push", "refs/heads/main", git(place.remote, "rev-parse", "main~2")), "apply")
    assert len(place.done) == 2
    well(team.event("schedule", "refs/heads/main", place.tip), "drift")
    assert hub.issues == {}


def test_the_workflow_for_a_protected_branch_keeps_its_state_on_another(place: Forge, hub: GitHub) -> None:
    team = Team("github-protected.yml", place, hub)
    well(team.propose({"jobs.yaml": f"{ONE}\nb: {{state: running}}"}), "plan")
    git(place.folder / "first", "fetch", "-q", "origin", "refs/pull/7/merge")
    git(place.folder / "first", "push", "-q", "origin", "FETCH_HEAD:main")
    place.hook(
        "update", 'test "$1" != refs/heads/main || { echo "GH006: Protected branch update failed" >&2; exit 1; }'
    )
    output = well(team.merge(push=False), "apply")
    assert "this is the plan that was reviewed in #7" in output
    assert sorted(place.done) == [("run", "a"), ("run", "b")]
    assert "reconciler-state" in place.branches
    well(team.event("schedule", "refs/heads/main", place.tip), "drift")


def test_the_workflow_for_two_fleets_gives_each_a_plan_a_comment_and_a_state(place: Forge, hub: GitHub) -> None:
    team = Team("github-fleets.yml", place, hub)
    team.begin({"fleets/media/jobs.yaml": ONE, "fleets/audio/jobs.yaml": "z: {state: running}"})
    well(team.propose({"fleets/media/jobs.yaml": f"{ONE}\nb: {{state: running}}"}), "plan", "plan")
    assert len(hub.comments) == 2
    output = well(team.merge(), "apply", "apply")
    assert output.count("this is the plan that was reviewed in #7") == 2
    assert sorted(place.done) == [("run", "a"), ("run", "b"), ("run", "z")]
    assert {"fleets/media.state.json", "fleets/audio.state.json"} <= set(place.files)
    well(team.event("schedule", "refs/heads/main", place.tip), "drift", "drift")


def test_the_workflow_for_a_merge_queue_reports_on_each_group_and_applies_once_it_merged(
    place: Forge, hub: GitHub
) -> None:
    team = Team("github-merge-queue.yml", place, hub)
    team.begin({"batch/jobs/one.yaml": ONE, "notes.yaml": "n: {state: running}"})
    well(team.propose({"notes.yaml": "n: {state: absent}"}), "plan")
    assert hub.comments == {}, "nothing under batch/ changed"
    well(team.propose({"batch/jobs/one.yaml": f"{ONE}\nb: {{state: running}}"}), "plan")
    assert "2 to run" in hub.comments[1]["body"]
    well(team.queue(), "plan")
    assert place.calls == 0
    output = well(team.merge(), "apply")
    assert "this is the plan that was reviewed in #7" in output
    assert sorted(place.done) == [("run", "a"), ("run", "b")]


def test_a_pull_request_of_a_fork_gets_its_plan_without_credentials_or_a_comment(place: Forge, hub: GitHub) -> None:
    hub.refuse = 403
    output = well(Team("github.yml", place, hub).propose({"jobs.yaml": f"{ONE}\nb: {{state: running}}"}), "plan")
    assert "the plan could not be put on the pull request (HTTP 403)" in output
    assert hub.comments == {}


def test_no_workflow_gives_a_pull_request_a_secret_or_cancels_an_apply_and_all_pin_what_they_use() -> None:
    files = [*EXAMPLES.glob("github*.yml"), EXAMPLES / "forgejo.yml"]
    assert len(files) >= 6
    for file in files:
        text = file.read_text()
        workflow = yaml.safe_load(text)
        assert "pull_request_target" not in str(workflow[True])
        for name, job in workflow["jobs"].items():
            if name == "apply" and file.name != "forgejo.yml":
                assert job["concurrency"]["cancel-in-progress"] is False
                assert "event_name" in job["if"]
            if name == "plan":
                assert "secrets." not in str(job)
        for line in [*text.splitlines(), *(CI.parent / "action.yml").read_text().splitlines()]:
            if "uses: actions/" in line:
                assert re.search(r"uses: actions/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$", line), line


def test_the_script_for_cron_goes_on_from_where_it_was_killed(place: Forge) -> None:
    machine = place.checkout()
    tools = machine.home / "bin"
    tools.mkdir()
    (tools / "reconciler").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m reconciler "$@" --settle 0.1\n')
    (tools / "reconciler").chmod(0o755)
    clones = machine.home / "clones"
    clones.mkdir()
    settings = machine.home / ".config" / "jobs.env"
    settings.parent.mkdir()
    given = {
        "JOBS_REMOTE": f"file://{place.remote}",
        "BYTENITE_ACCESS_TOKEN": machine.env["BYTENITE_ACCESS_TOKEN"],
        "TMPDIR": str(clones),
    }
    settings.write_text("".join(f"export {name}={value}\n" for name, value in given.items()))
    # All that cron gives to a job, with the line PATH of its table.
    env = {"HOME": str(machine.home), "LOGNAME": "ada", "SHELL": "/bin/sh", "PATH": f"{tools}:{os.environ['PATH']}"}
    hook = place.hook("post-receive", f"kill -KILL -$(cat {place.folder}/pid)")
    command = ["sh", "-c", f"echo $$ > {place.folder}/pid; exec sh {EXAMPLES / 'cron.sh'}"]
    child = subprocess.Popen(command, env=env, start_new_session=True, stderr=subprocess.DEVNULL)
    assert child.wait(60) == -9
    hook.unlink()
    assert len(list(clones.iterdir())) == 1
    mails = []
    for _ in range(2):
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        mails.append(done.stdout + done.stderr)
    assert place.done == [("run", "a")]
    assert "jobs.state.json.journal" not in place.files
    assert len(list(clones.iterdir())) == 1
    assert "Applied: 1 succeeded." in mails[0]
    assert mails[1] == "", "cron would mail it each time"


def test_what_fails_under_cron_is_mailed_and_keeps_its_clone(place: Forge) -> None:
    machine = place.checkout()
    (machine.home / ".config").mkdir()
    (machine.home / ".config" / "jobs.env").write_text(
        f"export JOBS_REMOTE=file://{place.remote} TMPDIR={machine.home}\n"
    )
    (machine.home / "reconciler").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m reconciler "$@"\n')
    (machine.home / "reconciler").chmod(0o755)
    env = {
        "HOME": str(machine.home),
        "LOGNAME": "ada",
        "SHELL": "/bin/sh",
        "PATH": f"{machine.home}:{os.environ['PATH']}",
    }
    command = ["sh", str(EXAMPLES / "cron.sh")]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "BYTENITE_API_KEY" in done.stdout
    [clone] = machine.home.glob("tmp.*")
    assert (clone / "jobs.yaml").exists()


def test_the_lines_for_jenkins_and_forgejo_start_what_is_there() -> None:
    for name in ("Jenkinsfile", "forgejo.yml"):
        text = (EXAMPLES / name).read_text()
        [script] = set(re.findall(r"/opt/reconciler/(ci/\w+\.py)", text))
        assert (CI.parent / script).exists()
        assert "exec python" in text
        assert len([line for line in text.splitlines() if not line.startswith("#")]) <= 12
