"""Jobs that wait in a queue of Kueue, and what only newer servers do.

The server has the kind Workload as a custom resource, and the test does what Kueue does: it makes the Workload of a
Job, starts the Job, and suspends it. A server before 1.22 can't suspend a Job, and the one that Debian's source gives
crashes on any custom resource. So most of this needs a newer server, which `KUBERNETES_BINARIES` names. The answers of
Kubernetes 1.36.2 are recorded in `unit/engines/kubernetes-1.36.2.json`.
"""

from pathlib import Path
from typing import Any

import pytest

from kubernetes.cluster import Cluster, binaries, version_of
from kubernetes.test_scenes import KubernetesProject
from waits import until

GROUP, MERGE = "kueue.x-k8s.io", "application/merge-patch+json"
CRD = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": f"workloads.{GROUP}"},
    "spec": {
        "group": GROUP,
        "scope": "Namespaced",
        "names": {"kind": "Workload", "plural": "workloads", "singular": "workload"},
        "versions": [
            {
                "name": "v1beta1",
                "served": True,
                "storage": True,
                "schema": {
                    "openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                },
            }
        ],
    },
}
QUEUED = "{state: running, runToken: '%s', config: {image: v1, script: 'sleep 1000', queue: batch}}"


class QueuedProject(KubernetesProject):
    """A project whose Jobs wait in a queue. Its methods are what Kueue does."""

    def job(self, name: str = "a-1") -> Any:
        _, found = self.cluster.request("GET", f"{self.jobs_path}/{name}")
        return found

    @property
    def jobs_path(self) -> str:
        return f"/apis/batch/v1/namespaces/{self.namespace}/jobs"

    @property
    def workloads_path(self) -> str:
        return f"/apis/{GROUP}/v1beta1/namespaces/{self.namespace}/workloads"

    def take_in(self, name: str = "a-1") -> None:
        """Make the Workload of a Job, which has to wait."""
        uid = self.job(name)["metadata"]["uid"]
        workload = {
            "apiVersion": f"{GROUP}/v1beta1",
            "kind": "Workload",
            "metadata": {
                "name": f"job-{name}",
                "labels": {f"{GROUP}/job-uid": uid},
                "ownerReferences": [
                    {"apiVersion": "batch/v1", "kind": "Job", "name": name, "uid": uid, "controller": True}
                ],
            },
            "spec": {"active": True},
            "status": {
                "conditions": [{"type": "QuotaReserved", "status": "False", "message": "insufficient quota for cpu"}]
            },
        }
        status, document = self.cluster.request("POST", self.workloads_path, workload)
        assert status == 201, document

    def suspend(self, is_suspended: bool, name: str = "a-1") -> None:
        patch = {"spec": {"suspend": is_suspended}}
        assert self.cluster.request("PATCH", f"{self.jobs_path}/{name}", patch, MERGE)[0] == 200

    def workload(self, name: str = "a-1") -> Any:
        _, found = self.cluster.request("GET", f"{self.workloads_path}/job-{name}")
        return found

    def shown(self) -> Any:
        (job,) = self.run("status", "--format", "json").json["jobs"]
        return job


@pytest.fixture
def project(tmp_path: Path, cluster: Cluster) -> QueuedProject:
    return QueuedProject(tmp_path, cluster)


@pytest.fixture
def newer(programs: None) -> None:
    """A server that knows all that the configs of these tests ask for."""
    if version_of(binaries()) < (1, 29):
        pytest.skip("the server is older than 1.29; Debian has no newer one")


@pytest.fixture
def kueue(project: QueuedProject, newer: None) -> None:
    """The kind Workload. Another test may have made it already."""
    status, document = project.cluster.request("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", CRD)
    assert status in (201, 409), document
    until(lambda: project.cluster.request("GET", project.workloads_path)[0] == 200)


@pytest.mark.usefixtures("kueue")
def test_a_job_that_waits_in_its_queue_is_active_and_says_why(project: QueuedProject) -> None:
    project.write("a: " + QUEUED % 1)
    project.applied()
    assert project.job()["spec"]["suspend"] is True
    assert (project.shown()["observed"], project.shown()["detail"]) == ("active", "")
    project.take_in()
    assert project.shown()["detail"] == "waits in its queue: insufficient quota for cpu"
    assert project.run("drift").code == 0
    project.suspend(False)
    until(lambda: project.job()["status"].get("active"))
    assert project.run("drift").code == 0
    project.suspend(True)  # a preemption: the run goes on later
    until(lambda: not project.job()["status"].get("active"))
    assert project.shown()["observed"] == "active"
    assert project.applied().startswith("Nothing to do")


@pytest.mark.usefixtures("kueue")
@pytest.mark.parametrize("executes", [False, True])
def test_an_abort_goes_through_the_workload(project: QueuedProject, executes: bool) -> None:
    project.write("a: " + QUEUED % 1)
    project.applied()
    project.take_in()
    if executes:
        project.suspend(False)
        until(lambda: project.job()["status"].get("active"))
    project.write("a: {state: aborted}")
    project.applied()
    assert project.workload()["spec"]["active"] is False
    assert "activeDeadlineSeconds" not in project.job()["spec"]
    assert project.job()["metadata"]["annotations"]["reconciler/abort-op"]
    if executes:
        assert project.shown()["observed"] == "active"  # until Kueue has suspended it
        project.suspend(True)
    until(lambda: project.shown()["observed"] == "aborted")
    assert project.run("drift").code == 0


@pytest.mark.usefixtures("kueue")
def test_a_job_of_a_queue_that_nobody_takes_in_is_deleted_by_an_abort_and_its_restart_runs(
    project: QueuedProject,
) -> None:
    project.write("a: " + QUEUED % 1)
    project.applied()
    project.write("a: " + QUEUED % 2)
    project.applied()
    assert project.jobs() == ["a-2"]
    assert project.applied().startswith("Nothing to do")


@pytest.mark.usefixtures("kueue")
def test_an_abort_of_an_older_job_with_a_queue_goes_through_the_workload(project: QueuedProject) -> None:
    """A person has put a Job that executes into a queue."""
    project.declare(script="sleep 1000")
    project.applied()
    patch = {"metadata": {"labels": {f"{GROUP}/queue-name": "batch"}}}
    assert project.cluster.request("PATCH", f"{project.jobs_path}/a-1", patch, MERGE)[0] == 200
    project.take_in()
    project.write("a: {state: aborted}")
    project.run("apply", "--yes")
    assert project.workload()["spec"]["active"] is False
    assert "activeDeadlineSeconds" not in project.job()["spec"]


def test_an_old_server_takes_no_queue(project: QueuedProject) -> None:
    if version_of(binaries()) >= (1, 22):
        pytest.skip("the server can suspend a Job")
    project.write("a: " + QUEUED % 1)
    run = project.run("apply", "--yes")
    assert (run.code, "spec.suspend without a word: `queue` needs 1.22" in " ".join(run.out.split())) == (3, True)
    assert project.jobs() == []


@pytest.mark.usefixtures("newer")
def test_a_field_that_no_server_knows_is_refused_before_anything_runs(project: QueuedProject) -> None:
    project.declare(config="native: {spec: {paralelism: 2}}")
    run = project.run("apply", "--yes")
    assert (run.code, 'unknown field "spec.paralelism"' in run.out) == (3, True), run
    assert project.jobs() == []


@pytest.mark.usefixtures("newer")
@pytest.mark.parametrize(("code", "attempts"), [(3, 2), (4, 1)])
def test_attempts_follow_the_exit_codes_that_are_named(project: QueuedProject, code: int, attempts: int) -> None:
    project.declare(script=f"exit {code}", config="retry: {times: 1, exitCodes: [3]}")
    project.applied()
    assert project.run("wait", "a").code == 3
    assert len(project.ran) == attempts


@pytest.mark.usefixtures("newer")
def test_an_attempt_after_a_drain_begins_once_the_pod_before_has_ended(project: QueuedProject) -> None:
    project.declare(config="onDisruption: continue, retry: {times: 1}")
    project.applied("--wait", "60")
    assert project.job()["spec"]["podReplacementPolicy"] == "Failed"
    assert project.run("drift").code == 0
