"""The log of a run: while it is written, after Slurm has forgotten the job, and of the tasks of an array."""

from pathlib import Path

from slurm.cluster import Accounting
from slurm.cluster_folder import SlurmProject
from slurm.conftest import NewCluster
from slurm.test_bad_days import until


def test_a_log_is_followed_while_it_is_written(new_cluster: NewCluster, tmp_path: Path) -> None:
    project = SlurmProject(tmp_path, new_cluster())
    project.declare(config={"script": "#!/bin/sh\necho one\nuntil [ -e go ]; do sleep 0.1; done\necho two >&2\n"})
    project.applied()
    with project.start("logs", "-f", "a") as following:
        assert following.stdout is not None
        assert following.stdout.readline() == "one\n"
        assert following.poll() is None
        (tmp_path / "go").touch()
        assert following.stdout.read() == "two\n"
        assert following.wait(60) == 0


def test_the_log_of_a_job_that_only_accounting_knows_is_found(
    new_cluster: NewCluster, accounting: Accounting, tmp_path: Path
) -> None:
    cluster = new_cluster(accounting=accounting, min_job_age_s=2)
    project = SlurmProject(tmp_path, cluster)
    project.declare(config={"script": '#!/bin/sh\necho "task $SLURM_ARRAY_TASK_ID"\n', "array": "2,10"})
    project.applied("--wait", "60")
    assert project.run("wait", "a").code == 0
    assert project.run("logs", "a").out == "task 2\ntask 10\n"
    until(lambda: not cluster.command("squeue", "-h", "-t", "all"), "the controller has forgotten it")
    assert project.run("logs", "a").out == "task 2\ntask 10\n"
    assert "complete" in project.run("status").out
    assert project.run("drift").code == 0


def test_the_name_of_a_folder_is_no_pattern(new_cluster: NewCluster, accounting: Accounting, tmp_path: Path) -> None:
    cluster = new_cluster(accounting=accounting, min_job_age_s=2)
    folder = tmp_path / "100%x-%j"
    folder.mkdir()
    project = SlurmProject(folder, cluster)
    project.declare(config={"script": '#!/bin/sh\necho "task $SLURM_ARRAY_TASK_ID"\n', "array": "2,10"})
    project.applied()
    assert project.run("wait", "a").code == 0
    assert project.run("logs", "a").out == "task 2\ntask 10\n"
    until(lambda: not cluster.command("squeue", "-h", "-t", "all"), "the controller has forgotten it")
    assert project.run("logs", "a").out == "task 2\ntask 10\n"


def test_what_nobody_tells_any_more_is_said(new_cluster: NewCluster, accounting: Accounting, tmp_path: Path) -> None:
    cluster = new_cluster(accounting=accounting, min_job_age_s=2)
    project = SlurmProject(tmp_path, cluster)
    project.declare(config={"script": "#!/bin/sh\n#SBATCH --output=mine.txt\necho hello\n"})
    project.applied()
    assert project.run("wait", "a").code == 0
    until(lambda: not cluster.command("squeue", "-h", "-t", "all"), "the controller has forgotten it")
    refused = project.run("logs", "a")
    assert refused.code == 1
    assert "nothing tells where its output is" in refused.err
    assert (tmp_path / "mine.txt").read_text() == "hello\n"
