"""What people want of Jobs under git, on a real API server."""

import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kubernetes.cluster import Cluster, binaries
from project import Project
from reconciler.testing.amount import VARIABLE
from waits import until

WITHIN_S = 60.0


class KubernetesProject(Project):
    """A folder whose jobs are Jobs of a fresh namespace. Each run adds the name of its Job to a file."""

    def __init__(self, folder: Path, cluster: Cluster) -> None:
        super().__init__(folder)
        self.cluster = cluster
        self.namespace = cluster.namespace()
        self.env["KUBECONFIG"] = str(cluster.kubeconfig)

    @property
    def target(self) -> str:
        return f"{{engine: kubernetes, namespace: {self.namespace}, allowOldServer: true}}"

    def declare(self, image: str = "v1", script: str = "true", more: str = "", config: str = "") -> None:
        noted = f'echo "${{HOSTNAME%-*}}" >> {self.folder}/ran; {script}'
        self.write(f"a: {{state: running, {more} config: {{image: {image}, script: '{noted}', {config}}}}}")

    @property
    def ran(self) -> list[str]:
        path = self.folder / "ran"
        return path.read_text().split() if path.exists() else []

    def pods(self) -> list[str]:
        """Return the names of the pods in the namespace."""
        status, found = self.cluster.request("GET", f"/api/v1/namespaces/{self.namespace}/pods")
        assert status == 200, found
        return sorted(pod["metadata"]["name"] for pod in found["items"])

    def jobs(self) -> list[str]:
        _, document = self.cluster.request("GET", f"/apis/batch/v1/namespaces/{self.namespace}/jobs")
        return sorted(item["metadata"]["name"] for item in document["items"])

    def applied(self, *words: str) -> str:
        run = self.run("apply", "--yes", *words)
        assert run.code == 0, run
        return run.out


@pytest.fixture
def project(tmp_path: Path, cluster: Cluster) -> Iterator[KubernetesProject]:
    project = KubernetesProject(tmp_path, cluster)
    yield project
    (tmp_path / "go").touch()


def test_a_finished_job_that_its_ttl_removed_is_not_run_again(project: KubernetesProject) -> None:
    project.declare(config="keepFor: 5")
    project.applied("--wait", "60")
    assert project.run("wait", "a").code == 0
    until(lambda: not project.jobs())
    for _ in range(3):
        assert project.applied() == "Nothing to do: 1 job is as recorded.\n"
    drift = project.run("drift")
    assert (drift.code, drift.out.splitlines()[0]) == (0, "No drift: 1 job is as recorded.")
    assert project.ran == ["a-1"]


def test_a_new_image_runs_once_more_after_the_old_run_is_over(project: KubernetesProject) -> None:
    waits = f"until [ -e {project.folder}/go ]; do sleep 0.05; done"
    project.declare(script=waits, more="onConfigChange: rerun,")
    project.applied()
    until(lambda: project.ran == ["a-1"])
    project.declare("v2", waits, "onConfigChange: rerun,")
    out = project.applied()
    assert 'config.image "v1" → "v2"; waiting for the end of the run before' in " ".join(out.split())
    assert project.jobs() == ["a-1"]
    (project.folder / "go").touch()
    assert "immutable" not in project.applied("--wait", "60")
    assert project.run("wait", "a").code == 0
    assert project.ran == ["a-1", "a-2"]
    # Without `rerun`, nothing runs, and the plan says so.
    project.declare("v3", waits, "onConfigChange: next-run,")
    planned = project.run("plan", "--refresh")
    assert planned.out.startswith("Plan: 1 to adopt.\n")
    assert "the new config counts from the next run" in planned.out
    project.applied()
    assert project.ran == ["a-1", "a-2"]


def test_a_revert_runs_nothing_and_says_so(project: KubernetesProject) -> None:
    for image in ("v1", "v2"):
        project.declare(image, more="onConfigChange: rerun,")
        project.applied("--wait", "60")
        assert project.run("wait", "a").code == 0
    project.declare("v1", more="onConfigChange: rerun,")
    assert "this config has run before, and is not run again" in project.applied()
    assert project.ran == ["a-1", "a-2"]


def test_a_running_job_that_was_deleted_by_hand_is_held_and_not_made_again(project: KubernetesProject) -> None:
    project.declare(script=f"until [ -e {project.folder}/go ]; do sleep 0.05; done")
    project.applied()
    until(lambda: project.ran == ["a-1"])
    path = f"/apis/batch/v1/namespaces/{project.namespace}/jobs/a-1"
    assert project.cluster.request("DELETE", path, {"propagationPolicy": "Background"})[0] == 200
    # The run goes on as long as its pod does.
    until(lambda: not project.jobs() and not project.pods())
    # An apply that has nothing to do asks nobody, so the one that looks is a plan.
    planned = project.run("plan", "--refresh")
    assert "gone: the job is recorded as running, and is not there" in " ".join(planned.out.split())
    assert project.run("apply", "--yes").code in (0, 3, 4)
    assert project.jobs() == []
    assert project.ran == ["a-1"]


def test_finished_jobs_that_were_deleted_by_hand_are_no_trouble(project: KubernetesProject) -> None:
    project.declare()
    project.applied("--wait", "60")
    assert project.run("wait", "a").code == 0
    path = f"/apis/batch/v1/namespaces/{project.namespace}/jobs"
    assert project.cluster.request("DELETE", path, {"propagationPolicy": "Background"})[0] == 200
    until(lambda: not project.jobs())
    assert project.run("drift").code == 0
    assert project.applied() == "Nothing to do: 1 job is as recorded.\n"
    assert project.ran == ["a-1"]


def test_a_restarted_trainer_never_overlaps_the_old_one(project: KubernetesProject) -> None:
    """The old pod takes long to stop, as one that writes a checkpoint does, and applies do not wait to be asked."""
    stops_s = 40 if os.environ.get(VARIABLE) == "whole" else 4
    notes = f'note() {{ echo "$1 ${{HOSTNAME%-*}}" >> {project.folder}/notes; }}'
    stops = f'trap "sleep {stops_s}; note ends; exit 1" TERM'
    trains = f"until [ -e {project.folder}/go ]; do sleep 0.1; done; note ends"
    script = f"{notes}; {stops}; note begins; {trains}"
    project.declare("v1", script, config="abort: {grace: 120}")
    project.applied()

    def noted() -> list[str]:
        path = project.folder / "notes"
        return path.read_text().splitlines() if path.exists() else []

    until(lambda: noted() == ["begins a-1"])
    project.declare("v2", script, config="abort: {grace: 120}")
    began_s = time.monotonic()
    while "begins a-2" not in noted():
        run = project.run("apply", "--yes")
        assert run.code in (0, 3), run
        assert time.monotonic() - began_s < stops_s + WITHIN_S, run
        time.sleep(0.5)
    assert noted() == ["begins a-1", "ends a-1", "begins a-2"]
    assert time.monotonic() - began_s >= stops_s
    (project.folder / "go").touch()
    assert project.run("wait", "a").code == 0
    assert noted() == ["begins a-1", "ends a-1", "begins a-2", "ends a-2"]
    assert project.jobs() == ["a-1", "a-2"]


# --- beside kubectl --------------------------------------------------------------------------------------------------


def kubectl(project: KubernetesProject, image: str, ttl_s: int) -> str:
    """Apply a Job of this image with a TTL. Return what kubectl prints."""
    script = 'echo "${HOSTNAME%-*}" >> "$RAN"'
    ran = {"name": "RAN", "value": str(project.folder / "ran")}
    container = {"name": "main", "image": image, "command": ["/bin/sh", "-c", script], "env": [ran]}
    template = {"spec": {"restartPolicy": "Never", "containers": [container]}}
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "a", "namespace": project.namespace},
        "spec": {"ttlSecondsAfterFinished": ttl_s, "template": template},
    }
    own = binaries() / "kubectl"
    done = subprocess.run(
        [str(own) if own.exists() else "kubectl", "apply", "-f", "-"],
        input=json.dumps(job),
        env={**project.env, "HOME": str(project.folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=WITHIN_S,
        check=False,
    )
    return done.stdout


def test_kubectl_runs_a_job_again_that_its_ttl_has_removed(project: KubernetesProject) -> None:
    for _ in range(2):
        assert kubectl(project, "v1", 1) == "job.batch/a created\n"
        until(lambda: not project.jobs())
    assert project.ran == ["a", "a"]


def test_kubectl_takes_no_new_image(project: KubernetesProject) -> None:
    assert kubectl(project, "v1", 600) == "job.batch/a created\n"
    said = kubectl(project, "v2", 600)
    assert said.startswith('The Job "a" is invalid: spec.template: Invalid value: ')
    assert said.endswith(": field is immutable\n")
