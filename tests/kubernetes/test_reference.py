"""What docs/kubernetes.md says, and no other test shows: ends that are not recorded, the guard by namespace, a TTL."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from kubernetes.cluster import Cluster
from kubernetes.kubelet import MERGE
from kubernetes.test_scenes import KubernetesProject
from waits import until


@pytest.fixture
def project(tmp_path: Path, cluster: Cluster) -> Iterator[KubernetesProject]:
    project = KubernetesProject(tmp_path, cluster)
    yield project
    (tmp_path / "go").touch()


@pytest.mark.parametrize(("asked", "then"), [("", "hold"), ("onConfigChange: rerun,", "run")], ids=["restart", "rerun"])
def test_a_ttl_that_passes_before_the_end_is_recorded_runs_nothing_and_a_new_config_may_have_to_wait_for_a_word(
    project: KubernetesProject, asked: str, then: str
) -> None:
    project.declare(more=asked, config="keepFor: 1")
    project.applied()
    until(lambda: project.ran == ["a-1"] and not project.jobs())
    assert project.run("drift").code == 0
    assert project.applied() == "Nothing to do: 1 job is as recorded.\n"
    assert project.run("wait", "a").code == 3
    project.declare("v2", more=asked, config="keepFor: 1")
    planned = project.run("plan", "--refresh", "--format", "json").json
    assert [action["action"] for action in planned["actions"]] == [then]
    assert project.run("resolve", "a", "--ended", "complete").code == 0
    planned = project.run("plan", "--refresh", "--format", "json").json
    assert [action["action"] for action in planned["actions"]] == [then if asked else "adopt"]
    assert project.ran == ["a-1"]


def test_a_config_for_another_namespace_is_refused_and_nothing_runs(project: KubernetesProject) -> None:
    project.declare(config="namespace: elsewhere")
    warned = project.run("plan")
    assert f"a is for the namespace elsewhere, and the target is {project.namespace}" in " ".join(warned.out.split())
    refused = project.run("apply", "--yes")
    assert (refused.code, project.jobs()) == (3, [])
    assert f"a is for the namespace elsewhere, and the target is {project.namespace}" in " ".join(refused.out.split())


def test_the_ttl_is_set_by_the_apply_that_has_recorded_the_call_and_a_new_one_counts_from_the_next_run(
    project: KubernetesProject,
) -> None:
    def ttl(name: str) -> object:
        path = f"/apis/batch/v1/namespaces/{project.namespace}/jobs/{name}"
        _, job = project.cluster.request("GET", path)
        return job["spec"].get("ttlSecondsAfterFinished")

    waits = f"until [ -e {project.folder}/go ]; do sleep 0.05; done"
    project.declare(script=waits, config="keepFor: 3600")
    project.applied()
    assert ttl("a-1") == 3600
    project.declare(script=waits, config="keepFor: 7200")
    project.applied()
    assert (ttl("a-1"), project.jobs()) == (3600, ["a-1"])
    (project.folder / "go").touch()
    assert project.run("wait", "a").code == 0
    project.declare(script=waits, config="keepFor: 7200", more="runToken: again,")
    project.applied()
    assert ttl("a-2") == 7200


def test_jobs_of_somebody_else_are_not_taken_for_runs(project: KubernetesProject) -> None:
    path = f"/apis/batch/v1/namespaces/{project.namespace}/jobs"
    for name in ("b", "a-1"):
        container = {"name": "main", "image": "v1", "command": ["true"]}
        template = {"spec": {"restartPolicy": "Never", "containers": [container]}}
        body = {"metadata": {"name": name}, "spec": {"template": template}}
        assert project.cluster.request("POST", path, body)[0] == 201
    project.declare()
    refused = project.run("apply", "--yes")
    assert (refused.code, "the Job a-1 was there already" in refused.out) == (3, True), refused
    project.write("b: {state: running, config: {image: v1, command: ['true']}}")
    held = project.run("apply", "--yes")
    assert (held.code, "1 held" in held.out) == (4, True), held
    project.write("{}")
    imported = project.run("import", "b=b")
    assert imported.code == 0, imported
    assert project.run("plan").out == "No changes: 1 job is as recorded.\n"
    assert (project.jobs(), project.ran) == (["a-1", "b"], [])


def test_what_the_manifest_sets_and_somebody_changes_is_drift(project: KubernetesProject) -> None:
    waits = f"until [ -e {project.folder}/go ]; do sleep 0.05; done"
    config = "jobTimeout: 900, native: {spec: {parallelism: 1}}"
    project.declare(script=waits, config=config)
    project.applied()
    until(lambda: project.ran == ["a-1"])
    path = f"/apis/batch/v1/namespaces/{project.namespace}/jobs/a-1"
    patch = {"metadata": {"labels": {"mesh": "on"}}, "spec": {"activeDeadlineSeconds": 1200, "parallelism": 2}}
    assert project.cluster.request("PATCH", path, patch, MERGE)[0] == 200
    drift = project.run("drift", "--format", "json")
    (job,) = drift.json["jobs"]
    changes = {change["path"]: (change["before"], change["after"]) for change in job["changes"]}
    assert (drift.code, job["found"]) == (2, "config differs")
    assert changes == {"config.jobTimeout": (900, 1200), "config.native.spec.parallelism": (1, 2)}
    project.declare(script=waits, config=config, more="ignore: [config.jobTimeout, config.native.spec.parallelism],")
    assert project.run("drift").code == 0


def test_the_log_of_an_aborted_run_goes_with_its_pod(project: KubernetesProject) -> None:
    waits = f"echo begun; until [ -e {project.folder}/go ]; do sleep 0.05; done"
    project.declare(script=waits, config="abort: {grace: 0}")
    project.applied()
    until(lambda: project.run("logs", "a").out == "begun\n")
    project.write("a: {state: aborted}")
    project.applied()
    until(lambda: "aborted" in project.run("status").out)
    until(lambda: project.run("logs", "a").out == "")
    assert project.jobs() == ["a-1"]


def test_a_pod_that_was_deleted_is_a_failure_on_newer_servers_and_an_old_one_makes_another(
    project: KubernetesProject, cluster: Cluster
) -> None:
    project.declare(script=f"until [ -e {project.folder}/go ]; do sleep 0.05; done", config="abort: {grace: 0}")
    project.applied()
    until(lambda: project.ran == ["a-1"])
    pods = f"/api/v1/namespaces/{project.namespace}/pods"
    (pod,) = cluster.request("GET", pods)[1]["items"]
    assert cluster.request("DELETE", f"{pods}/{pod['metadata']['name']}")[0] == 200
    if cluster.version < (1, 26):
        until(lambda: project.ran == ["a-1", "a-1"])
    else:
        assert project.run("wait", "a").code == 3
        assert project.ran == ["a-1"]
