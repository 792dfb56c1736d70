"""What other hands do to the jobs of a cluster: nothing runs beside a run that goes on."""

import os
import pwd
import subprocess
from pathlib import Path

import pytest

from slurm.cluster import Accounting, Cluster
from slurm.cluster_folder import SlurmProject
from slurm.conftest import NewCluster
from slurm.test_bad_days import until

RUNS = {"command": ["sleep", "600"]}


def as_nobody(cluster: Cluster, *argv: str) -> str:
    """Return what a command prints that another user executes."""
    nobody = pwd.getpwnam("nobody")
    done = subprocess.run(
        argv,
        env=cluster.env,
        cwd="/tmp",
        user=nobody.pw_uid,
        group=nobody.pw_gid,
        extra_groups=[],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done
    return done.stdout.strip()


def told(cluster: Cluster, name: str, field: str) -> str:
    return cluster.command("squeue", "--noheader", f"--name={name}", f"--format={field}").strip()


def running(cluster: Cluster) -> set[str]:
    return set(cluster.command("squeue", "--noheader", "--states=RUNNING", "--format=%j").split())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can submit as another user")
@pytest.mark.parametrize("forged", ["{comment}", "reconciler-gone:{id}"], ids=["a copy", "a deletion"])
def test_another_user_can_not_end_a_run_with_a_comment(new_cluster: NewCluster, tmp_path: Path, forged: str) -> None:
    cluster = new_cluster()
    project = SlurmProject(tmp_path, cluster)
    project.declare(config=RUNS)
    project.applied()
    until(lambda: running(cluster) == {"a-1"}, "it runs")
    comment = forged.format(comment=told(cluster, "a-1", "%k"), id=told(cluster, "a-1", "%i"))
    as_nobody(cluster, "sbatch", "-J", "whatever", "-o", "/dev/null", f"--comment={comment}", "--wrap", "true")
    until(lambda: told(cluster, "whatever", "%i") == "", "the other job has ended")
    row = next(line for line in project.run("status").out.splitlines() if line.startswith("a "))
    assert "active (running)" in row
    assert f"job {told(cluster, 'a-1', '%i')}" in row
    project.declare('runToken: "again"', config=RUNS)
    project.applied()
    until(lambda: running(cluster) == {"a-2"}, "the first run was ended before the second one began")


def test_a_run_whose_comment_was_changed_is_known_where_there_is_accounting(
    new_cluster: NewCluster, accounting: Accounting, tmp_path: Path
) -> None:
    cluster = new_cluster(accounting=accounting)
    project = SlurmProject(tmp_path, cluster)
    project.declare(config=RUNS)
    project.applied()
    until(lambda: running(cluster) == {"a-1"}, "it runs")
    until(lambda: "RUNNING" in cluster.command("sacct", "-n", "-X", "-o", "state"), "accounting has the start")
    cluster.command("scontrol", "update", f"JobId={told(cluster, 'a-1', '%i')}", "Comment=hello")
    assert "active (running)" in project.run("status").out
    project.declare('runToken: "again"', config=RUNS)
    project.applied()
    until(lambda: running(cluster) == {"a-2"}, "the first run was ended before the second one began")


def test_no_run_begins_beside_one_whose_comment_was_changed(new_cluster: NewCluster, tmp_path: Path) -> None:
    cluster = new_cluster()
    project = SlurmProject(tmp_path, cluster)
    project.declare(config=RUNS)
    project.applied()
    until(lambda: running(cluster) == {"a-1"}, "it runs")
    number = told(cluster, "a-1", "%i")
    cluster.command("scontrol", "update", f"JobId={number}", "Comment=hello")
    project.declare('runToken: "again"', config=RUNS)
    refused = project.run("apply", "--yes")
    assert refused.code == 3, refused
    assert f"job {number} goes on, and is named a-1" in refused.out + refused.err
    assert running(cluster) == {"a-1"}
    cluster.command("scancel", number)
    until(lambda: running(cluster) == set(), "it ends")
    project.applied()
    until(lambda: running(cluster) == {"a-2"}, "the run that was asked for begins")
