"""What a config says is what Slurm does: read back from a real controller, and from the jobs themselves."""

import re
from pathlib import Path
from typing import Any

import pytest

from slurm.cluster import Cluster
from slurm.cluster_folder import SlurmProject
from slurm.conftest import NewCluster


@pytest.fixture
def cluster(new_cluster: NewCluster) -> Cluster:
    return new_cluster()


@pytest.fixture
def project(tmp_path: Path, cluster: Cluster) -> SlurmProject:
    return SlurmProject(tmp_path, cluster)


def shown(project: SlurmProject, config: dict[str, Any], job: str = "a") -> dict[str, str]:
    """Run a job, and return what the controller shows of it."""
    project.declare(job=job, config=config)
    project.applied()
    text = project.cluster.command("scontrol", "show", "job", "--oneliner")
    line = next(line for line in text.splitlines() if f" JobName={job}-1 " in line)
    return dict(re.findall(r"(\S+?)=(\S*)", line))


def test_each_word_reaches_the_controller(project: SlurmProject) -> None:
    config = {
        "command": ["sleep", "600"],
        "partition": "other",
        "nodes": 1,
        "ntasks": 2,
        "cpus": 3,
        "memory": "512MiB",
        "jobTimeout": 100,
        "onDisruption": "continue",
        "native": {"nice": 7, "begin": "now+1hour"},
    }
    found = shown(project, config)
    wanted = {
        "Partition": "other",
        "NumNodes": "1-1",
        "NumTasks": "2",
        "CPUs/Task": "3",
        "MinMemoryNode": "512M",
        "TimeLimit": "00:02:00",
        "Requeue": "1",
        "Nice": "7",
        "JobState": "PENDING",
        "WorkDir": str(project.folder),
    }
    assert {name: found[name] for name in wanted} == wanted
    assert project.run("drift").code == 0
    project.declare(config=config | {"memory": "512MiB"})
    assert "Nothing to do" in project.applied().out


def test_a_batch_script_keeps_its_lines_and_words_take_their_places(project: SlurmProject) -> None:
    script = (
        "#!/usr/bin/env python3\n#SBATCH -c 2 --mem=100M\n#SBATCH -t 9 -J mine --requeue\n\nprint(open('x').read())\n"
    )
    (project.folder / "train.sbatch").write_text(script)
    (project.folder / "x").write_text("read by Python")
    found = shown(project, {"batch": "train.sbatch", "memory": "200MiB", "env": {"A": "b"}})
    wanted = {"CPUs/Task": "2", "MinMemoryNode": "200M", "TimeLimit": "00:09:00", "Requeue": "0", "JobName": "a-1"}
    assert {name: found[name] for name in wanted} == wanted
    assert project.run("wait", "a").code == 0
    assert project.run("logs", "a").out == "read by Python\n"


def test_a_job_gets_its_variables_and_none_of_the_program(project: SlurmProject) -> None:
    project.env |= {"CI_TOKEN": "sesame", "SBATCH_PARTITION": "other", "SBATCH_TIMELIMIT": "1", "LC_TIME": "C"}
    found = shown(project, {"command": ["sh", "-c", "printenv > env"], "env": {"MINE": 'it\'s "mine"\n!'}})
    # Once it runs, no limit is a year.
    assert (found["Partition"], found["TimeLimit"] in ("UNLIMITED", "365-00:00:00")) == ("main", True)
    assert project.run("wait", "a").code == 0
    text = (project.folder / "env").read_text()
    assert 'MINE=it\'s "mine"\n!\n' in text
    assert "LC_TIME=C\n" in text
    names = {line.partition("=")[0] for line in text.splitlines() if not line.startswith("SLURM")}
    assert not names & {"CI_TOKEN", "SBATCH_PARTITION", "LC_ALL", "PYTHONSAFEPATH"}
    stored = project.cluster.command("scontrol", "write", "batch_script", "1", "-")
    assert "sesame" not in stored


def test_a_secret_is_read_by_the_job_and_slurm_does_not_have_it(project: SlurmProject, tmp_path: Path) -> None:
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "token").write_text("sesame\n")
    project.fields = f"secrets: {tmp_path}/secrets"
    config = {"command": ["sh", "-c", 'echo "${#TOKEN}"'], "env": {"TOKEN": {"secret": "token"}}}
    shown(project, config)
    assert project.run("wait", "a").code == 0
    assert project.run("logs", "a").out == "6\n"
    assert "sesame" not in project.cluster.command("scontrol", "write", "batch_script", "1", "-")
    assert not [path for path in project.cluster.folder.rglob("*") if path.is_file() and b"sesame" in path.read_bytes()]
    shown(project, {**config, "env": {"TOKEN": {"secret": "none"}}}, job="b")
    assert project.run("wait", "b").code == 3
    assert "reconciler: the secret none can't be read, so the job does not start\n" in project.run("logs", "b").out
    assert "exit code 78" in project.run("status").out


def test_a_folder_that_the_node_lacks_is_named_and_not_a_signal(project: SlurmProject) -> None:
    shown(project, {"command": ["true"], "native": {"output": "/nonexistent/%j.out"}})
    assert project.run("wait", "a").code == 3
    found = project.run("status").out
    assert "its working directory, or the folder of its output, is not on the node" in found


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"partition": "none"}, "Invalid partition name specified"),
        ({"gpu": 1}, "Invalid generic resource (gres) specification"),
        ({"native": {"no-such": 1}}, "unrecognized option '--no-such=1'"),
    ],
)
def test_what_slurm_refuses_leaves_nothing_behind(
    project: SlurmProject, config: dict[str, object], message: str
) -> None:
    project.declare(config={"command": ["true"], **config})
    refused = project.run("apply", "--yes")
    assert (refused.code, message in refused.out) == (3, True), refused
    assert project.cluster.command("squeue", "--noheader", "--states=all") == ""
