"""A submission that arrives after its run was released stays held, and is cancelled later."""

import time
from pathlib import Path

import pytest

from reconciler.engines.port import Marks
from reconciler.engines.slurm.marks import Mark
from reconciler.engines.slurm.sending import RIVAL_S
from slurm.cluster import Cluster
from slurm.cluster_folder import SlurmProject
from slurm.conftest import NewCluster


@pytest.fixture
def cluster(new_cluster: NewCluster) -> Cluster:
    return new_cluster()


@pytest.fixture
def project(tmp_path: Path, cluster: Cluster) -> SlurmProject:
    project = SlurmProject(tmp_path, cluster)
    project.declare(config={"script": "#!/bin/sh\necho $SLURM_JOB_NAME >> ran\n"})
    project.applied()
    assert project.run("wait", "a").code == 0
    return project


def late(cluster: Cluster, run_id: str, lineage: str) -> str:
    """Submit a job of a run as it is submitted before its release, and return its id."""
    mark = Mark("a", run_id, Marks(lineage, "op"), "2026-01-02T03:04:05Z")
    argv = ["sbatch", "--parsable", "--hold", f"--job-name={run_id}", f"--comment={mark.comment}"]
    return cluster.command(*argv, "--output=/dev/null", "--wrap=true").strip()


def states(cluster: Cluster) -> dict[str, str]:
    lines = cluster.command("squeue", "--noheader", "--states=all", "--format=%i %T").splitlines()
    return dict(line.split() for line in lines)


def test_the_next_run_cancels_what_came_late_and_nothing_of_another_state(
    project: SlurmProject, cluster: Cluster
) -> None:
    lineage = project.state["lineage"]
    ours, theirs, held = late(cluster, "a-1", lineage), late(cluster, "a-1", "another"), late(cluster, "a-9", lineage)
    until_s = time.monotonic() + RIVAL_S + 2  # until then, its sender may be about to release it
    while time.monotonic() < until_s:
        time.sleep(0.5)
    assert "Nothing to do" in project.applied().out
    assert states(cluster)[ours] == "PENDING"
    project.run("rerun", "a", "--token", "again")
    project.applied()
    assert project.run("wait", "a").code == 0
    found = states(cluster)
    assert (found[ours], found[theirs], found[held]) == ("CANCELLED", "PENDING", "PENDING")
    assert project.lines("ran") == ["a-1", "a-2"]


def test_a_delete_cancels_what_came_late_and_nothing_of_another_state(project: SlurmProject, cluster: Cluster) -> None:
    ours, theirs = late(cluster, "a-1", project.state["lineage"]), late(cluster, "a-1", "another")
    project.write("a: {state: absent}")
    project.applied()
    found = states(cluster)
    assert (found[ours], found[theirs]) == ("CANCELLED", "PENDING")
    assert project.lines("ran") == ["a-1"]
