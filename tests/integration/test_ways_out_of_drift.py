"""What `drift` finds, and the holds of single rules: each way out does what it says, with the commands as printed.

Each test builds the case with the real program on a pretend cluster, as `test_ways_out.py` does for the rows of plans.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.engines.sandbox.cluster import ATOMIC
from reconciler.model.jobs import EMPTY, Marks, Status
from ways_out import PersonsProject, persons_project

CREATED = ATOMIC._replace(creates_on_run=False)
RUN = "a: {state: running}"
AGAIN = "a: {state: running, runToken: again}"
ABORTED = "a: {state: aborted}"
ABSENT = "a: {state: absent}"


@pytest.fixture
def project(tmp_path: Path) -> Iterator[PersonsProject]:
    """On a cluster whose run creates the job, and that forgets nothing by itself."""
    with persons_project(tmp_path) as made:
        yield made


def statuses(project: PersonsProject) -> list[tuple[str, Status]]:
    """The run id and the status of each run that the cluster knows, the oldest first."""
    return [(run.run_id, run.status) for run in project.cluster.runs() if not run.forgotten]


# --- somebody else runs a job that is not to run


def run_by_hand(project: PersonsProject, jobs: str) -> list[list[str]]:
    """Let somebody run `a`, which has run and is not to run. Returns the commands that `drift` names."""
    project.begin(RUN)
    project.write(jobs)
    assert project.apply().code == 0
    project.cluster.start("a", "by-hand", Marks(), EMPTY)
    return project.found("a")[1]


def test_a_run_by_someone_else_of_an_aborted_job_is_aborted_by_a_saved_plan(project: PersonsProject) -> None:
    (record_it,) = run_by_hand(project, ABORTED)
    assert project.found("a")[0] == "run by someone else"
    project.follow(record_it)
    kind, (first, second) = project.found("a")
    assert kind == "not ended yet"  # the run is recorded now, and is to be aborted
    project.follow(first)
    project.follow([*second, "--yes"])
    assert statuses(project) == [("a-1", Status.ABORTED), ("by-hand", Status.ABORTED)]
    project.is_at_rest(ABORTED, ["a-1", "by-hand"])


def test_a_run_by_someone_else_of_an_aborted_job_is_taken_over_as_running(project: PersonsProject) -> None:
    run_by_hand(project, ABORTED)
    project.is_at_rest(RUN, ["a-1", "by-hand"])
    assert statuses(project)[-1] == ("by-hand", Status.ACTIVE)


def test_a_job_that_is_there_again_is_deleted_by_a_saved_plan(project: PersonsProject) -> None:
    first, second = run_by_hand(project, ABSENT)
    assert project.found("a")[0] == "there again"
    project.follow(first)
    project.follow([*second, "--yes"])
    assert not statuses(project)
    assert project.run("drift").code == 0


@pytest.mark.parametrize(("word", "runs"), [("--applied", 2), ("--not-applied", 3)])
def test_a_run_since_the_record_counts_as_asked_or_not_on_a_persons_word(
    word: str, runs: int, project: PersonsProject
) -> None:
    project.begin(RUN)
    project.cluster.end("a")
    project.cluster.start("a", "by-hand", Marks(), EMPTY)
    project.cluster.end("a")
    assert project.found("a") == ("run by someone else", [["resolve", "a", "--not-applied"]])
    project.write(AGAIN)
    kind, reason = project.reasons()["a"]
    assert (kind, "run since this was recorded" in reason) == ("hold", True)
    (command,) = project.commands("a")
    assert command == ["resolve", "a", "--applied"]
    project.follow([*command[:-1], word])
    project.is_at_rest(AGAIN, ["a-1", "by-hand", "a-2"][:runs])


@pytest.mark.parametrize("is_lost", [False, True])
def test_a_run_of_a_newer_copy_of_the_state_is_known_once_that_copy_is_here_or_on_a_persons_word(
    is_lost: bool, project: PersonsProject
) -> None:
    files = [project.folder / name for name in ("jobs.state.json", "jobs.history.jsonl")]
    project.begin(RUN)
    older = [file.read_bytes() for file in files]
    project.write(AGAIN)
    assert project.apply().code == 0
    newer = [file.read_bytes() for file in files]
    for file, content in zip(files, older, strict=True):
        file.write_bytes(content)
    project.env["XDG_STATE_HOME"] = str(project.folder / "another-machine")
    project.write(RUN)
    assert project.found("a") == ("run by someone else", [["resolve", "a", "--not-applied"]])
    (finding,) = project.run("drift", "--format", "json").json["jobs"]
    assert "a newer copy of this state has started that run" in finding["reason"]
    assert finding["wayOut"].startswith("bring the newer state here (with git: `git pull`); if it is lost")
    if is_lost:
        project.follow(["resolve", "a", "--not-applied"])
    else:
        for file, content in zip(files, newer, strict=True):
            file.write_bytes(content)
    assert project.run("drift").code == 0
    assert project.run_ids == ["a-1", "a-2"]


@pytest.mark.parametrize("reads", [True, False])
def test_a_state_that_was_rolled_back_is_held_until_the_record_is_dropped_or_the_job_has_another_id(
    reads: bool, tmp_path: Path
) -> None:
    with persons_project(tmp_path, ATOMIC._replace(reads=reads, lists=reads)) as project:
        project.begin(RUN)
        older = {name: (tmp_path / name).read_bytes() for name in ("jobs.state.json", "jobs.history.jsonl")}
        project.write(AGAIN)
        assert project.apply().code == 0
        for name, content in older.items():
            (tmp_path / name).write_bytes(content)
        project.env["XDG_STATE_HOME"] = str(tmp_path / "another-machine")
        third = "a: {state: running, runToken: third}"
        project.write(third)
        held = project.apply()
        assert held.code == 4
        if reads:
            assert "run since this was recorded" in held.out
            assert "bring the newer state here (with git: `git pull`); if it is lost" in held.out
            project.follow(["state", "forget", "a"])
            project.is_at_rest(third, ["a-1", "a-2"])
        else:
            assert "the state is older than what the engine has" in held.out
            project.write("a: {id: other, state: running, runToken: third}")
            assert project.apply().code == 0
            assert project.run_ids == ["a-1", "a-2", "other-1"]


# --- a job is gone


def gone(project: PersonsProject) -> list[list[str]]:
    """Take away a job that somebody has to create. Returns the commands that `drift` names."""
    project.cluster.create("a")
    project.begin(RUN)
    project.cluster.forget("a")
    kind, commands = project.found("a")
    assert kind == "gone"
    return commands


def test_the_record_of_a_job_that_is_gone_is_dropped(tmp_path: Path) -> None:
    with persons_project(tmp_path, CREATED) as project:
        (command,) = gone(project)
        assert command[:3] == ["state", "forget", "a"]
        project.follow(command)
        assert "a" not in project.state["jobs"]
        assert project.reasons()["a"][1].startswith("error: no such job")


def test_a_job_that_is_gone_is_declared_absent(tmp_path: Path) -> None:
    with persons_project(tmp_path, CREATED) as project:
        gone(project)
        project.is_at_rest(ABSENT, ["a-1"])


# --- a failed run, and an active one that differs


@pytest.mark.parametrize(("jobs", "runs"), [(AGAIN, 2), ("a: {state: running, config: {text: new}}", 2), (ABORTED, 1)])
def test_a_failed_run_is_drift_until_it_runs_again_or_is_accepted(
    jobs: str, runs: int, project: PersonsProject
) -> None:
    project.begin(RUN)
    project.cluster.end("a", Status.FAILED)
    assert project.found("a")[0] == "failed"
    project.is_at_rest(jobs, ["a-1", "a-2"][:runs])


# --- the rules beside the table


@pytest.mark.parametrize("taken_out", [True, False])
def test_what_comes_after_a_failed_job_goes_on_once_that_completes_or_is_taken_out(
    taken_out: bool, project: PersonsProject
) -> None:
    project.begin(RUN)
    project.cluster.end("a", Status.FAILED)
    project.write(f"{RUN}\nb: {{state: running, after: [a]}}")
    kind, reason = project.reasons()["b"]
    assert (kind, reason.endswith("this goes on once a has completed, or is taken out of `after`")) == ("hold", True)
    if taken_out:
        project.write(f"{RUN}\nb: {{state: running}}")
    else:
        project.write(f"{AGAIN}\nb: {{state: running, after: [a]}}")
        assert project.apply().code == 0
        project.cluster.end("a")
    assert project.apply().code == 0
    assert project.run_ids[-1] == "b-1"


@pytest.mark.parametrize(
    ("change", "runs"),
    [
        ("onConfigChange: hold, runToken: t", ["a-1", "a-2"]),
        ("onConfigChange: restart", ["a-1", "a-2"]),
        ("onConfigChange: next-run", ["a-1"]),
    ],
)
def test_a_new_config_that_is_held_goes_on_in_each_way_that_the_hold_names(
    change: str, runs: list[str], project: PersonsProject
) -> None:
    project.begin("a: {state: running, onConfigChange: hold, config: {text: old}}")
    project.write("a: {state: running, onConfigChange: hold, config: {text: new}}")
    assert project.reasons()["a"][0] == "hold"
    project.is_at_rest(f"a: {{state: running, {change}, config: {{text: new}}}}", runs)


@pytest.mark.parametrize(
    ("policy", "runs"), [("restart", ["by-hand", "a-1"]), ("next-run", ["by-hand"]), ("rerun", ["by-hand", "a-1"])]
)
def test_an_active_run_with_another_config_is_held_until_the_manifest_says_what_it_means(
    policy: str, runs: list[str], project: PersonsProject
) -> None:
    project.cluster.start("a", "by-hand", Marks(), {"text": "old"})
    project.write("a: {state: running, onConfigChange: hold, config: {text: new}}")
    kind, reason = project.reasons()["a"]
    assert (kind, "with another config, and onConfigChange is hold" in reason) == ("hold", True)
    asked = f"a: {{state: running, onConfigChange: {policy}, config: {{text: new}}}}"
    if policy == "rerun":
        project.write(asked)
        assert project.reasons()["a"][0] == "adopt"
        assert project.apply().code == 0
        assert project.reasons()["a"][0] == "wait"
        project.cluster.end("a")
    project.is_at_rest(asked, runs)


def test_a_protected_job_that_is_no_longer_declared_is_left_until_a_person_says_so(project: PersonsProject) -> None:
    project.begin("a: {state: running, protect: true}\nb: {state: running}")
    project.write("b: {state: running}")
    kind, reason = next(
        (one["action"], one["reason"])
        for one in project.run("plan", "--refresh", "--prune", "--format", "json").json["actions"]
        if one["job"] == "a"
    )
    assert (kind, "declare it again with `protect: false`" in reason) == ("hold", True)
    assert "`reconciler state forget a`" in reason
    project.follow(["state", "forget", "a"])
    assert project.run("plan", "--refresh", "--prune", "--detailed-exitcode").code == 0
    assert project.run_ids == ["a-1", "b-1"]


def test_a_freeze_ends_once_its_time_is_over_or_it_is_taken_out(project: PersonsProject) -> None:
    frozen = "a: {state: running, freeze: {reason: incident, until: '2099-01-01'}}"
    project.write(frozen)
    kind, reason = project.reasons()["a"]
    assert (kind, reason.startswith("frozen until 2099-01-01: incident")) == ("noop", True)
    project.is_at_rest(frozen, [])
    project.is_at_rest(frozen.replace("2099", "2001"), ["a-1"])
