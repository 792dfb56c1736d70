"""A cluster behind ssh: all commands go through one connection to a real sshd."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from slurm.cluster import PATH, Cluster
from slurm.cluster_folder import SlurmProject
from slurm.conftest import NewCluster
from slurm.sshd import HOST, Sshd


@pytest.fixture
def cluster(new_cluster: NewCluster) -> Cluster:
    return new_cluster()


@pytest.fixture
def sshd(cluster: Cluster) -> Iterator[Sshd]:
    with Sshd(SLURM_CONF=str(cluster.conf), PATH=PATH) as server:
        yield server


@pytest.fixture
def project(tmp_path: Path, cluster: Cluster, sshd: Sshd) -> SlurmProject:
    """A folder on a machine that has no Slurm: the commands are there alone."""
    project = SlurmProject(tmp_path, cluster)
    project.fields = f"ssh: {{host: {HOST}, config: {sshd.config}}}"
    project.env = {name: value for name, value in project.env.items() if name != "SLURM_CONF"}
    return project


def test_jobs_run_behind_ssh_in_the_home_folder_there_through_one_connection(project: SlurmProject, sshd: Sshd) -> None:
    (sshd.home / "secrets").mkdir()
    (sshd.home / "secrets" / "token").write_text("sesame\n")
    project.fields += ", secrets: ~/secrets"
    script = '#!/bin/sh\necho "$GREETING from $PWD with $TOKEN"\nprintenv > env\n'
    env = {"GREETING": "it's me", "TOKEN": {"secret": "token"}}
    project.declare(config={"script": script, "env": env})
    before = sshd.connections
    applied = project.applied()
    assert sshd.connections == before + 1
    assert f"Target: slurm at {HOST}." in applied.out
    assert project.run("wait", "a").code == 0
    assert project.run("logs", "a").out == f"it's me from {sshd.home} with sesame\n"
    job = dict(line.split("=", 1) for line in (sshd.home / "env").read_text().splitlines() if "=" in line)
    assert job["SLURM_JOB_NAME"] == "a-1"
    assert not {"LC_ALL", "SLURM_TIME_FORMAT", "SLURM_BITSTR_LEN"} & job.keys()
    assert project.run("drift").code == 0


def test_a_log_is_followed_behind_ssh(project: SlurmProject, sshd: Sshd) -> None:
    script = "#!/bin/sh\necho one\nuntil [ -e go ]; do sleep 0.1; done\necho two\n"
    project.declare(config={"script": script})
    project.applied()
    following = project.start("logs", "a", "-f")
    try:
        assert following.stdout is not None
        assert following.stdout.readline() == "one\n"
        (sshd.home / "go").touch()
        assert following.stdout.read() == "two\n"
        assert following.wait(60) == 0
    finally:
        following.kill()
        following.communicate()


def test_without_a_connection_nothing_is_sent_and_the_next_apply_runs_it(project: SlurmProject, sshd: Sshd) -> None:
    project.declare(config={"script": "#!/bin/sh\necho $SLURM_JOB_NAME >> ran\n"})
    sshd.stop()
    refused = project.run("apply", "--yes")
    assert (refused.code, f"{HOST}: ssh: connect to host" in refused.err) == (1, True), refused
    sshd.start()
    project.applied()
    assert project.run("wait", "a").code == 0
    assert (sshd.home / "ran").read_text() == "a-1\n"


def test_a_connection_that_is_cut_while_runs_are_sent_runs_each_of_them_once(
    project: SlurmProject, sshd: Sshd, tmp_path: Path
) -> None:
    names = [f"j{number}" for number in range(12)]
    config = '{script: "#!/bin/sh\\necho $SLURM_JOB_NAME >> ran\\n"}'
    project.write("\n".join(f"{name}: {{state: running, config: {config}}}" for name in names))
    applying = project.start("apply", "--yes")
    cuts, until_s = 0, time.monotonic() + 60
    while applying.poll() is None:
        time.sleep(0.3)
        cuts += sshd.cut() if cuts < 3 else 0
        assert time.monotonic() < until_s
    applying.communicate()
    for _ in range(10):
        if project.run("apply", "--yes").code == 0:
            break
    assert cuts > 0
    assert project.run("wait").code == 0
    assert sorted((sshd.home / "ran").read_text().split()) == sorted(f"{name}-1" for name in names)
    assert project.cluster.command("squeue", "-h", "-t", "PENDING") == ""


def test_the_conf_is_named_where_the_commands_are(project: SlurmProject, sshd: Sshd, cluster: Cluster) -> None:
    sshd.stop()
    sshd.env.pop("SLURM_CONF")
    sshd.start()
    (sshd.home / "etc").mkdir()
    (sshd.home / "etc" / "slurm.conf").symlink_to(cluster.conf)
    project.fields += ", conf: etc/slurm.conf"
    project.declare(config={"command": ["true"]})
    project.applied()
    assert project.run("wait", "a").code == 0
