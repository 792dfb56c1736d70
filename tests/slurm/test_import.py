"""Jobs that somebody submitted by hand are imported, and those of other users are not touched."""

import os
from pathlib import Path

import pytest

from slurm.cluster import Accounting
from slurm.cluster_folder import SlurmProject
from slurm.conftest import NewCluster
from slurm.test_bad_days import until
from slurm.test_other_hands import as_nobody

_SCRIPT = """\
#!/bin/bash
#SBATCH --job-name=train
#SBATCH --time=01:30:00
#SBATCH --array=1-6%2
sleep 600
"""


@pytest.fixture
def project(new_cluster: NewCluster, tmp_path: Path) -> SlurmProject:
    return SlurmProject(tmp_path, new_cluster())


def test_all_jobs_of_the_user_are_imported_and_the_next_plan_is_empty(project: SlurmProject) -> None:
    cluster = project.cluster
    (project.folder / "train.sbatch").write_text(_SCRIPT)
    cluster.command("sbatch", "--partition=other", str(project.folder / "train.sbatch"))
    cluster.command("sbatch", "-J", "a job of no fit name", "-o", "/dev/null", "--wrap", "sleep 600")
    until(lambda: cluster.command("squeue", "-h", "-t", "R", "-o", "%j").count("\n") == 3, "both run")
    (project.folder / "jobs.yaml").write_text(f"apiVersion: reconciler/v1\ntarget: {project.target}\njobs: {{}}\n")
    done = project.run("import", "--all")
    assert done.code == 0, done
    written = (project.folder / "jobs.yaml").read_text()
    assert "train:" in written
    assert "#SBATCH --array=1-6%2" in written
    assert "partition: other" in written
    assert written.count("jobTimeout") == 1
    assert "jobTimeout: 5400" in written
    assert project.run("plan", "--refresh", "--detailed-exitcode").code == 0
    before = cluster.command("squeue", "-h", "-r", "-t", "all", "-o", "%i %j")
    assert project.run("apply", "--yes").out.startswith("Nothing to do")
    assert cluster.command("squeue", "-h", "-r", "-t", "all", "-o", "%i %j") == before


def test_an_imported_job_has_its_arguments_and_jobs_of_one_name_are_told_apart(project: SlurmProject) -> None:
    cluster = project.cluster
    (project.folder / "s.sh").write_text('#!/bin/sh\necho "$#: $1 $2" > told-$SLURM_JOB_ID\nsleep 600\n')
    (project.folder / "s.py").write_text("#!/usr/bin/env python3\nimport time\ntime.sleep(600)\n")
    cluster.command("sbatch", "-J", "twin", "-o", "/dev/null", "--nice=7", str(project.folder / "s.sh"), "real", "2")
    second = cluster.command("sbatch", "--parsable", "-J", "twin", "-o", "/dev/null", "--wrap", "sleep 600").strip()
    cluster.command("sbatch", "-J", "python", "-o", "/dev/null", str(project.folder / "s.py"), "real")
    (project.folder / "jobs.yaml").write_text(f"apiVersion: reconciler/v1\ntarget: {project.target}\njobs: {{}}\n")
    done = project.run("import", "--all")
    first = str(int(second) - 1)
    written = (project.folder / "jobs.yaml").read_text()
    assert f'"{first}"' in written or f"{first}:" in written, (done, written)
    assert "twin:" in written
    assert "set -- real 2" in written
    assert "nice: 7" in written
    assert "python:" not in written, "its arguments can't be said in a config"
    assert "python" in done.out + done.err


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can submit as another user")
def test_the_jobs_of_an_account_are_those_of_all_its_users(
    project: SlurmProject, accounting: Accounting, new_cluster: NewCluster
) -> None:
    cluster = project.cluster = new_cluster(accounting=accounting)
    project.env["SLURM_CONF"] = str(cluster.conf)
    cluster.command("sacctmgr", "-i", "add", "user", "nobody", "account=lab", f"cluster={cluster.name}")
    as_nobody(cluster, "sbatch", "-A", "lab", "-J", "theirs", "-o", "/dev/null", "--wrap", "sleep 600")
    cluster.command("sbatch", "-J", "ours", "-o", "/dev/null", "--wrap", "sleep 600")
    until(lambda: "R" in cluster.command("squeue", "-h", "-n", "theirs", "-o", "%t"), "it runs")
    target = "{engine: slurm}"
    (project.folder / "jobs.yaml").write_text(f"apiVersion: reconciler/v1\ntarget: {target}\njobs: {{}}\n")
    listed = project.run("import", "--all", "--dry-run").out
    assert ("ours" in listed, "theirs" in listed) == (True, False), listed
    target = "{engine: slurm, account: lab}"
    (project.folder / "jobs.yaml").write_text(f"apiVersion: reconciler/v1\ntarget: {target}\njobs: {{}}\n")
    assert "theirs" in project.run("import", "--all", "--dry-run").out


def test_a_job_of_the_name_of_one_in_the_manifest_is_somebody_elses(project: SlurmProject) -> None:
    project.cluster.command("sbatch", "-J", "a", "-o", "/dev/null", "--wrap", "sleep 600")
    project.declare(config={"command": ["true"]})
    done = project.run("apply", "--yes")
    assert done.code == 4, done
    assert "another owner's" in done.out
