"""Jobs on this machine through whole commands: they run once, are changed, aborted and deleted, whoever is killed."""

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from local_runs import kill, run_folder
from local_service import kill_runs, supervisor_of
from project import Project
from waits import until


class LocalProject(Project):
    """A folder whose jobs run on this machine, below the folder `runs`."""

    target = "{engine: local, root: runs, slots: 3}"

    def executed(self, job: str) -> int:
        """How often the command of a job was executed. Each command notes that itself."""
        path = self.folder / f"{job}.ran"
        return len(path.read_text().splitlines()) if path.exists() else 0

    def observed(self, job: str) -> str:
        found = {row["job"]: row["observed"] for row in self.run("status", "--format", "json").json["jobs"]}
        return str(found[job])

    def over(self, job: str) -> str:
        until(lambda: self.observed(job) != "active")
        return self.observed(job)


def noted(job: str, then: str = "") -> str:
    """The config of a job whose command notes each execution in a file."""
    return f'config: {{script: "echo x >> {job}.ran; {then}"}}'


@pytest.fixture
def project(tmp_path: Path) -> Iterator[LocalProject]:
    project = LocalProject(tmp_path)
    yield project
    kill_runs((tmp_path / "runs" / "jobs").glob("*/*"))


def test_jobs_are_run_changed_aborted_and_deleted(project: LocalProject) -> None:
    project.write(
        f"""
        a: {{state: running, {noted("a", "exec sleep 1000")}}}
        b: {{state: running, {noted("b", "exit 3")}}}
        c: {{state: running, after: [d], {noted("c")}}}
        d: {{state: running, {noted("d")}}}
        """
    )
    first = project.run("apply", "--yes")
    assert (first.code, "3 succeeded, 1 waiting" in first.out) == (0, True), first
    assert (project.over("b"), project.over("d"), project.observed("a")) == ("failed", "complete", "active")
    assert project.run("apply", "--yes").code in (0, 4)
    assert project.over("c") == "complete"
    before = supervisor_of(run_folder(project.folder, "a-1"))
    project.write(f"a: {{state: running, {noted('a', 'exec sleep 2000')}}}")
    assert project.run("apply", "--yes").code == 0
    until(lambda: project.executed("a") == 2)
    assert supervisor_of(run_folder(project.folder, "a-1")) == 0
    assert supervisor_of(run_folder(project.folder, "a-2")) not in (0, before)
    project.write(f"a: {{state: aborted, {noted('a', 'exec sleep 2000')}}}")
    assert project.run("apply", "--yes").code == 0
    assert project.observed("a") == "aborted"
    project.write(f"a: {{state: absent, {noted('a', 'exec sleep 2000')}}}")
    assert project.run("apply", "--yes").code == 0
    assert project.observed("a") == "not there"
    assert [project.executed(job) for job in "abcd"] == [2, 1, 1, 1]


def test_an_apply_with_nothing_to_do_shows_a_run_that_has_failed_since(project: LocalProject) -> None:
    project.write(f"a: {{state: running, {noted('a', 'exit 3')}}}\nb: {{state: running, {noted('b')}}}")
    assert project.run("apply", "--yes").code == 0
    assert (project.over("a"), project.over("b")) == ("failed", "complete")
    again = project.run("apply", "--yes")
    assert again.code == 0
    assert "  ! drift    a  failed: recorded running, and the job is failed: exit code 3" in again.out
    assert again.out.endswith("\nNothing to do: 1 job is as recorded, 1 failed.\n")


def test_a_root_that_is_missing_is_named_and_not_made_anew(project: LocalProject) -> None:
    project.write(f"a: {{state: running, {noted('a')}}}")
    assert project.run("apply", "--yes").code == 0
    assert project.over("a") == "complete"
    root = project.folder / "runs"
    root.rename(project.folder / "moved")
    apply = "apply --yes --target a"
    for words in ("status", "drift", "plan --refresh", apply, "wait", "logs a", "runs a"):
        run = project.run(*words.split())
        if words != apply:  # which has nothing to do, and so may read nothing
            assert (run.code, f"the folder of the runs is not there: {root}" in run.err) == (1, True), run
        assert not root.exists()
    (project.folder / "moved").rename(root)
    assert project.observed("a") == "complete"
    root.rename(project.folder / "moved")
    assert project.run("state", "accept", "--identity").code == 0
    assert root.exists()
    assert project.observed("a") in ("forgotten, complete", "taken away")
    assert project.executed("a") == 1


def test_an_apply_that_waits_carries_out_a_chain(project: LocalProject) -> None:
    project.write(
        f"""
        a: {{state: running, {noted("a", "sleep 0.2")}}}
        b: {{state: running, after: [a], {noted("b", "sleep 0.2")}}}
        c: {{state: running, after: [b], {noted("c")}}}
        """
    )
    applied = project.run("apply", "--yes", "--wait", "60")
    assert (applied.code, "Applied: 3 succeeded." in applied.out) == (0, True), applied
    assert project.over("c") == "complete"
    assert [project.executed(job) for job in "abc"] == [1, 1, 1]


def test_a_supervisor_that_is_killed_by_hand_is_drift_and_no_second_run(project: LocalProject) -> None:
    project.write(f"a: {{state: running, {noted('a', 'exec sleep 1000')}}}")
    assert project.run("apply", "--yes").code == 0
    until(lambda: project.executed("a") == 1)
    kill(project.folder, supervisor_of(run_folder(project.folder, "a-1")))
    assert project.over("a") == "failed"
    drift = project.run("drift")
    assert (drift.code, "its supervisor was killed" in drift.out) == (2, True), drift
    project.run("apply", "--yes")
    assert project.executed("a") == 1


@pytest.mark.parametrize("after_s", [0.2, 0.4, 0.6, 0.9])
def test_an_apply_that_is_killed_runs_each_job_once(project: LocalProject, after_s: float) -> None:
    jobs = [f"job{number}" for number in range(8)]
    project.write("\n".join(f"{job}: {{state: running, {noted(job)}}}" for job in jobs))
    with project.start("apply", "--yes") as killed:
        time.sleep(after_s)
        killed.send_signal(signal.SIGKILL)
    again = project.run("apply", "--yes", "--settle", "0")
    assert again.code in (0, 5), again
    if again.code == 5:
        assert project.run("apply", "--yes", "--settle", "0").code == 0
    assert {project.over(job) for job in jobs} == {"complete"}
    assert [project.executed(job) for job in jobs] == [1] * 8
