"""`apply --wait` records each end that it reads while it waits, also those that it does not act on."""

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from git_crash import git
from local_project import LocalProject, local_project
from project import Project
from reconciler.engines.sandbox.cluster import ATOMIC
from reconciler.model.jobs import Status
from waits import until
from ways_out import PersonsProject, persons_project

BOTH = "a: {state: running}\nc: {state: running}\nb: {state: running, after: [a, c]}"
BRANCH, PATH = "states", "jobs.state.json"


@pytest.fixture
def local(tmp_path: Path) -> Iterator[LocalProject]:
    with local_project(tmp_path) as made:
        yield made


@pytest.fixture
def project(tmp_path: Path) -> Iterator[PersonsProject]:
    """On a cluster whose runs end when the test says so."""
    with persons_project(tmp_path) as made:
        yield made


def ends(project: Project, *arguments: str) -> list[tuple[str, int, str, str]]:
    """The job, the number of the run, the end and the words of each end in the history, oldest first."""
    entries = project.run("history", "--format", "json", *arguments).json["entries"]
    return [(e["job"], e["run"], e["end"], e["reason"]) for e in reversed(entries) if e["verb"] == "ended"]


def waiting(project: Project, *arguments: str) -> "subprocess.Popen[str]":
    """Start an apply, and return it once it waits."""
    child = project.start("apply", "--yes", *arguments)
    assert child.stderr is not None
    for line in child.stderr:
        if line.startswith("waiting up to"):
            break
    return child


def until_noted(project: Project, job: str) -> None:
    """Wait until the journal of the apply says how a run of the job ended."""
    journal = project.folder / "jobs.state.json.journal"
    until(lambda: any(b'"ended"' in line and f'"{job}"'.encode() in line for line in journal.read_bytes().splitlines()))


def test_the_end_that_an_apply_acts_on_is_on_record_once(local: LocalProject) -> None:
    local.write(
        """
        a: {state: running, config: {command: [sleep, "0.3"], keepFor: 5}}
        b: {state: running, after: [a], config: {command: [sleep, "1000"]}}
        """
    )
    assert local.run("apply", "--yes", "--wait", "60").code == 0
    assert ends(local) == [("a", 1, "complete", "run 1: complete")]
    assert local.state["jobs"]["a"]["end"] == "complete"
    assert "end" not in local.state["jobs"]["b"]
    assert local.run("wait", "a").code == 0
    assert local.run("apply", "--yes").code == 0
    assert ends(local) == [("a", 1, "complete", "run 1: complete")]


@pytest.mark.parametrize(
    ("end", "code", "recorded", "words"),
    [
        (Status.COMPLETE, 0, "complete", "run 1: complete"),
        (Status.FAILED, 4, "failed", "run 1: failed"),
        (Status.ABORTED, 4, "aborted", "run 1: aborted by someone else"),
        (Status.WITHDRAWN, 4, None, "run 1: withdrawn by the engine before it began"),
    ],
)
def test_each_kind_of_end_is_on_record(
    end: Status, code: int, recorded: str | None, words: str, project: PersonsProject
) -> None:
    project.write("a: {state: running}\nb: {state: running, after: [a]}")
    child = waiting(project, "--wait", "60")
    project.cluster.end("a", end)
    out, err = child.communicate(timeout=60)
    assert child.returncode == code, out + err
    entries = project.run("history", "--format", "json").json["entries"]
    assert [(e["job"], e["reason"]) for e in entries if e["verb"] == "ended"] == [("a", words)]
    assert project.state["jobs"]["a"].get("end") == recorded
    assert project.state["jobs"]["a"]["state"] == ("running" if recorded else "aborted")


def test_what_ends_while_another_job_goes_on_is_on_record_once_the_time_is_up(project: PersonsProject) -> None:
    project.write(BOTH)
    child = waiting(project, "--wait", "2")
    project.cluster.end("a")
    child.communicate(timeout=60)
    assert child.returncode == 0
    assert ends(project) == [("a", 1, "complete", "run 1: complete")]
    assert project.state["jobs"]["a"]["end"] == "complete"
    assert "end" not in project.state["jobs"]["c"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_end_stays_on_record_though_the_wait_is_interrupted(
    number: signal.Signals, code: int, project: PersonsProject
) -> None:
    project.write(BOTH)
    child = waiting(project, "--wait", "600")
    project.cluster.end("a")
    until_noted(project, "a")
    child.send_signal(number)
    child.communicate(timeout=60)
    assert child.returncode == code
    assert ends(project) == [("a", 1, "complete", "run 1: complete")]
    assert project.state["jobs"]["a"]["end"] == "complete"


def test_an_end_stays_on_record_though_the_next_look_finds_nothing(local: LocalProject) -> None:
    local.write(
        """
        a: {state: running, config: {command: [sleep, "0.2"]}}
        c: {state: running, config: {command: [sleep, "1000"]}}
        b: {state: running, after: [a, c], config: {command: ["true"]}}
        """
    )
    child = waiting(local, "--wait", "600")
    until_noted(local, "a")
    (local.folder / "runs").rename(local.folder / "elsewhere")
    out, err = child.communicate(timeout=60)
    (local.folder / "elsewhere").rename(local.folder / "runs")
    assert (child.returncode, "comes after c, which is not there" in out) == (4, True), out + err
    assert ends(local) == [("a", 1, "complete", "run 1: complete")]


def test_a_run_that_a_new_one_replaces_in_its_turn_leaves_its_end_in_the_history(project: PersonsProject) -> None:
    project.begin("b: {state: running}")
    project.write("a: {state: running}\nb: {state: running, runToken: again, after: [a]}")
    child = waiting(project, "--wait", "60")
    project.cluster.end("b", Status.FAILED)
    project.cluster.end("a")
    child.communicate(timeout=60)
    assert child.returncode == 0
    assert project.run_ids == ["b-1", "a-1", "b-2"]
    assert ("b", 1, "failed", "run 1: failed") in ends(project)


def test_an_end_that_only_holds_a_job_is_on_record(project: PersonsProject) -> None:
    jobs = "a: {state: running}\nb: {state: running, after: [a]}"
    project.begin(jobs)
    project.cluster.end("a", Status.FAILED)
    held = project.run("apply", "--yes", "--target", "b")
    assert (held.code, "comes after a, which is failed" in held.out) == (4, True), held
    assert ends(project) == [("a", 1, "failed", "run 1: failed")]


def test_looks_that_read_nothing_new_record_nothing(tmp_path: Path) -> None:
    with persons_project(tmp_path, ATOMIC._replace(keeps_ended_s=0.1)) as project:
        project.write("a: {state: running}\nb: {state: running, after: [a]}")
        assert project.run("apply", "--yes", "--wait", "0").code == 0
        before = len((project.folder / "jobs.history.jsonl").read_bytes().splitlines())
        assert project.run("apply", "--yes", "--wait", "2").code == 0
        after = len((project.folder / "jobs.history.jsonl").read_bytes().splitlines())
        assert after - before <= 1, "the look of the plan may record that the run is active"


def test_ends_are_pushed_together_and_no_look_is_a_push(project: PersonsProject) -> None:
    remote = project.folder / "remote.git"
    subprocess.run(["git", "init", "-q", "--bare", str(remote)], check=True, timeout=60)
    state = ("--state", f"git+file://{remote}#{BRANCH}:{PATH}")
    project.write(BOTH)
    child = waiting(project, "--wait", "4", *state)
    project.cluster.end("a")
    child.communicate(timeout=60)
    assert child.returncode == 0
    assert ends(project, *state) == [("a", 1, "complete", "run 1: complete")]
    assert json.loads(git(remote, "show", f"{BRANCH}:{PATH}"))["jobs"]["a"]["end"] == "complete"
    # The intents, the results, and the end of the apply.
    assert len(git(remote, "log", "--format=%h", BRANCH).splitlines()) <= 3
