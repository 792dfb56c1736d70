"""What `status`, `logs` and `runs` show of Jobs: why one does not start, and how one ended."""

from pathlib import Path

import pytest

from kubernetes.cluster import Cluster
from kubernetes.test_scenes import KubernetesProject, until


@pytest.mark.parametrize(
    ("config", "shown"),
    [
        ("image: missing, command: ['true']", "ImagePull"),
        ("image: x, command: ['true'], nodeSelector: {pool: none}", "Unschedulable: "),
        ("image: x, command: ['true'], resources: {memory: 9000GiB}", "Unschedulable: "),
    ],
    ids=["image", "selector", "memory"],
)
def test_status_says_why_a_job_does_not_start(tmp_path: Path, cluster: Cluster, config: str, shown: str) -> None:
    project = KubernetesProject(tmp_path, cluster)
    project.write(f"a: {{state: running, config: {{{config}}}}}")
    project.applied()
    found = until(
        lambda: next((j for j in project.run("status", "--format", "json").json["jobs"] if shown in str(j)), None)
    )
    assert found["observed"] == "active"
    assert shown in project.run("status").out


@pytest.mark.parametrize(
    ("config", "shown"),
    [
        ("image: x, script: exit 3", "exit code 3"),
        ("image: x, command: ['no-such-program']", "StartError"),
        ("image: x, script: sleep 30, jobTimeout: 1, abort: {grace: 0}", "timed out: jobTimeout is 1 s"),
    ],
    ids=["exit code", "no program", "timeout"],
)
def test_status_says_how_a_job_failed(tmp_path: Path, cluster: Cluster, config: str, shown: str) -> None:
    project = KubernetesProject(tmp_path, cluster)
    project.write(f"a: {{state: running, config: {{{config}}}}}")
    project.applied()
    assert project.run("wait", "a").code == 3
    status = project.run("status").out
    assert "failed" in status
    assert shown in status, status
    assert shown in project.run("runs", "a").out


def test_the_log_of_a_job_is_followed_to_its_end(tmp_path: Path, cluster: Cluster) -> None:
    project = KubernetesProject(tmp_path, cluster)
    project.write("a: {state: running, config: {image: x, script: 'for i in 1 2 3; do echo $i; sleep 0.4; done'}}")
    project.applied()
    assert project.run("logs", "a", "-f").out == "1\n2\n3\n"
    assert project.run("logs", "a", "--tail", "2").out == "2\n3\n"
