"""An apply of many jobs shares its commands, and each of its jobs bears the note that it was released."""

import shutil
from collections import Counter
from pathlib import Path

import pytest

from slurm.cluster import PATH, Cluster
from slurm.cluster_folder import SlurmProject
from slurm.conftest import NewCluster

JOBS = 40


@pytest.fixture
def cluster(new_cluster: NewCluster) -> Cluster:
    """A cluster whose node takes no jobs, so that all of them wait."""
    made = new_cluster()
    made.command("scontrol", "update", "NodeName=ALL", "State=DRAIN", "Reason=test")
    return made


def counted(folder: Path) -> str:
    """Write programs that note each use of a command of Slurm, and return the PATH that finds them first."""
    folder.mkdir()
    for name in ("sbatch", "squeue", "scontrol"):
        real = shutil.which(name, path=PATH)
        (folder / name).write_text(f'#!/bin/sh\necho {name} >> {folder}/used\nexec {real} "$@"\n')
        (folder / name).chmod(0o755)
    return f"{folder}:{PATH}"


def declared(cluster: Cluster, folder: Path) -> SlurmProject:
    """Write a manifest of many jobs."""
    project = SlurmProject(folder, cluster)
    jobs = "".join(f"  j{number}: {{state: running, config: {{command: ['true']}}}}\n" for number in range(JOBS))
    (folder / "jobs.yaml").write_text(f"apiVersion: reconciler/v1\ntarget: {project.target}\njobs:\n{jobs}")
    return project


def test_jobs_that_are_submitted_together_are_looked_for_released_and_noted_together(
    cluster: Cluster, tmp_path: Path
) -> None:
    project = declared(cluster, tmp_path)
    project.env["PATH"] = counted(tmp_path / "bin")
    project.applied()
    used = Counter((tmp_path / "bin/used").read_text().split())
    assert used["sbatch"] == JOBS
    # With ten calls at a time, there are four groups at least. Each looks twice, and releases once.
    assert used["squeue"] < JOBS
    assert used["scontrol"] < JOBS
    comments = cluster.command("squeue", "--noheader", "--format=%T %r %k").splitlines()
    assert len(comments) == JOBS
    assert all(line.endswith(",sent") and "Held" not in line for line in comments)


def test_whoever_was_told_of_a_release_can_be_killed_at_once(cluster: Cluster, tmp_path: Path) -> None:
    """Without the note, a job that a person holds later would look as if it had never been released."""
    project = declared(cluster, tmp_path)
    with project.start("apply", "--yes") as applying:
        assert applying.stdout is not None
        last = next(line for line in applying.stdout if line.startswith(f"{JOBS}/{JOBS}"))
        applying.kill()
    assert "succeeded" in last
    comments = cluster.command("squeue", "--noheader", "--format=%k").splitlines()
    assert len(comments) == JOBS
    assert [comment for comment in comments if not comment.endswith(",sent")] == []


def test_a_job_that_a_person_holds_after_its_release_goes_on(cluster: Cluster, tmp_path: Path) -> None:
    project = SlurmProject(tmp_path, cluster)
    project.declare(config={"command": ["true"]})
    project.applied()
    number = cluster.command("squeue", "--noheader", "--format=%i").strip()
    cluster.command("scontrol", "hold", number)
    assert "No changes" in project.run("plan", "--refresh").out
    assert "Nothing to do" in project.applied().out
    assert cluster.command("squeue", "--noheader", "--format=%i %r").startswith(f"{number} JobHeld")
