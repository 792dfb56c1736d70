"""An apply goes in rounds, as jobs are settled or their turn comes: the later ones know what became of the first."""

from pathlib import Path

import pytest

from project import Project, done, served_project
from reconciler.model.outcomes import Outcome


def test_a_job_that_took_the_name_of_one_in_doubt_is_run_once(tmp_path: Path) -> None:
    faults = (
        "run:503:times=1:job=id1",
        "run:slow:seconds=2:job=slow",
        "run:503:after:times=1:job=id2",
        "read:stale:times=4:job=id2",
    )
    with served_project(tmp_path, *faults, job_seconds=0.3) as project:
        project.write("a: {id: id1, state: running}")
        assert project.run("apply", "--yes").code == 5
        # The slow one comes first, so that the second look falls soon after the call of id2.
        project.write("A-slow: {id: slow, state: running}\na: {id: id2, state: running}")
        run = project.run("apply", "--yes", "--settle", "1.5", "--parallelism", "1")
        assert run.code == 5
        assert done(project) == [("run", "slow"), ("run", "id2")]
        assert project.state["jobs"]["a"]["inDoubt"]["verb"] == "run"
        assert " a@id1" not in project.state["jobs"]


def test_a_call_in_doubt_stays_on_record_though_the_job_was_absent_and_its_line_went_missing(tmp_path: Path) -> None:
    faults = ("read:404", "list:404", "delete:200:job=a", "run:503:after:skip=1:times=1:job=a")
    with served_project(tmp_path, *faults, job_seconds=0.1) as project:
        for state, code in (("running", 0), ("absent", 0), ("running", 5)):
            project.write(f"a: {{state: {state}}}\nb: {{state: running}}")
            assert project.run("apply", "--yes").code == code
        assert project.state["jobs"]["a"]["state"] == "absent"
        project.write('b: {state: running, runToken: "2"}')
        run = project.run("apply", "--yes")
        assert (run.code, "a, which this apply was not about, has a call in doubt" in run.err) == (5, True)
        project.write('a: {state: running}\nb: {state: running, runToken: "2"}')
        assert project.run("apply", "--yes").code == 5
        assert [execution for execution in done(project) if execution == ("run", "a")] == [("run", "a")] * 2


@pytest.mark.parametrize("options", [(), ("--fail-fast",)])
def test_after_a_failure_the_second_round_deletes_nothing(tmp_path: Path, options: tuple[str, ...]) -> None:
    with served_project(tmp_path, "delete:503:times=3:job=d", "run:403:job=b") as project:
        project.write("d: {state: aborted}\nz: {state: running}")
        assert project.run("apply", "--yes").code == 0
        project.write("d: {state: absent}\nz: {state: running}")
        assert project.run("apply", "--yes").code == 5
        project.write("b: {state: running}\nd: {state: absent}\nz: {state: running}")
        run = project.run("apply", "--yes", "--settle", "0", "--format", "json", *options)
        outcomes = {one["job"]: one["outcome"] for one in run.json["actions"]}
        assert (outcomes["b"], outcomes["d"]) == (Outcome.FAILED, Outcome.SKIPPED)
        assert ("delete", "d") not in done(project)


def test_fail_fast_ends_the_waves_of_a_wait_too(tmp_path: Path) -> None:
    jobs = """
        a: {state: running}
        b: {state: running, after: [a]}
        w: {state: running, after: [b]}
        x: {state: running, after: [a]}
    """
    with served_project(tmp_path, "run:403:job=x", job_seconds=0.5) as project:
        project.write(jobs)
        run = project.run("apply", "--yes", "--wait", "20", "--fail-fast", "--parallelism", "1")
        assert run.code == 3
        assert ("run", "w") not in done(project)


def test_a_token_that_ends_between_the_two_looks_ends_no_record_of_what_was_done(tmp_path: Path) -> None:
    with served_project(tmp_path, "run:503:times=1:job=a", "read:401:skip=6") as project:
        project.write("a: {state: running}")
        assert project.run("apply", "--yes").code == 5
        project.write("a: {state: running}\nb: {state: running}")
        run = project.run("apply", "--yes", "--settle", "0", "--format", "json")
        assert (run.code, "stopped checking: the service rejected the access token" in run.err) == (5, True)
        outcomes = {one["job"]: one["outcome"] for one in run.json["actions"]}
        assert outcomes["b"] == Outcome.SUCCEEDED


def test_the_second_round_misses_no_job_that_the_first_took_out(tmp_path: Path) -> None:
    with served_project(tmp_path, "run:503:times=1:job=a", job_seconds=0.1) as project:
        project.write("a: {state: running}\nold: {state: running}")
        assert project.run("apply", "--yes").code == 5
        project.write("a: {state: running}")
        run = project.run("apply", "--yes", "--prune", "--target", "old", "--settle", "0")
        assert (run.code, "matches no job" in run.err) == (0, False)
        assert done(project)[-1] == ("delete", "old")


def test_an_apply_whose_selection_leaves_no_job_says_so(tmp_path: Path) -> None:
    project = Project(tmp_path)
    project.write("a: {state: running}")
    run = project.run("apply", "--yes", "--exclude", "*")
    assert (run.code, "--exclude * leaves no job" in run.err) == (1, True)
