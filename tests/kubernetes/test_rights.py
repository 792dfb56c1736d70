"""The smallest Role, with which everything works, and what is said where a right is missing."""

from itertools import count
from pathlib import Path
from typing import Any

import pytest
import yaml

from checkout import ROOT
from kubernetes.cluster import Cluster
from kubernetes.test_scenes import KubernetesProject, until

ROLES = {
    role["metadata"]["name"]: role for role in yaml.safe_load_all((ROOT / "examples/kubernetes/role.yaml").read_text())
}
RBAC = "/apis/rbac.authorization.k8s.io/v1"


def allow(cluster: Cluster, namespace: str, name: str) -> None:
    """Give the user without rights a role of the example file, in a namespace."""
    role: dict[str, Any] = yaml.safe_load(yaml.safe_dump(ROLES[name]).replace("batch]", f"{namespace}]"))
    whole = role["kind"] == "ClusterRole"
    path = RBAC if whole else f"{RBAC}/namespaces/{namespace}"
    bound = f"{name}-{namespace}" if whole else name
    if whole:
        for rule in role["rules"]:
            rule["resourceNames"] = ["kube-system", namespace]
    role["metadata"]["name"] = bound
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": f"{role['kind']}Binding",
        "metadata": {"name": bound},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": role["kind"], "name": bound},
        "subjects": [{"kind": "User", "name": "nobody", "apiGroup": "rbac.authorization.k8s.io"}],
    }
    kind = "clusterrole" if whole else "role"
    for plural, body in ((f"{kind}s", role), (f"{kind}bindings", binding)):
        status, answer = cluster.request("POST", f"{path}/{plural}", body)
        assert status == 201, answer


@pytest.fixture
def project(tmp_path: Path, cluster: Cluster) -> KubernetesProject:
    project = KubernetesProject(tmp_path, cluster)
    project.env["KUBECONFIG"] = str(cluster.kubeconfig_of_nobody)
    project.declare()
    return project


def test_the_role_of_the_example_is_enough(project: KubernetesProject) -> None:
    allow(project.cluster, project.namespace, "reconciler")
    until(lambda: project.run("status").code == 0)  # an API server takes a moment to know a new role
    project.declare(script="until [ -e go ]; do sleep 0.1; done", config="keepFor: 3600, abort: {grace: 0}")
    project.applied()
    assert "active" in project.run("status").out
    project.write("a: {state: aborted, config: {image: v1}}")
    project.applied()
    until(lambda: "aborted" in project.run("status").out)
    project.write("a: {state: absent, config: {image: v1}}")
    project.applied()
    assert project.jobs() == []
    logs = project.run("logs", "a")
    assert logs.code != 0


def test_logs_need_one_right_more(project: KubernetesProject) -> None:
    allow(project.cluster, project.namespace, "reconciler")
    until(lambda: project.run("status").code == 0)
    project.declare(script="echo done")
    project.applied("--wait", "60")
    assert project.run("wait", "a").code == 0
    refused = project.run("logs", "a")
    assert (refused.code, "pods/log" in refused.err) == (1, True), refused
    allow(project.cluster, project.namespace, "reconciler-logs")
    until(lambda: project.run("logs", "a").out == "done\n")


@pytest.mark.skip(reason="the identity is not recorded once a right is granted later: to be looked at")
def test_the_identity_is_recorded_as_far_as_it_can_be_read(project: KubernetesProject) -> None:
    allow(project.cluster, project.namespace, "reconciler")
    until(lambda: project.run("status").code == 0)
    project.declare()
    project.applied()
    assert not project.state.get("identity")
    allow(project.cluster, project.namespace, "reconciler-identity")

    tokens = count()

    def identity() -> Any:
        project.declare(more=f"runToken: again-{next(tokens)},")
        project.run("apply", "--yes")
        return project.state.get("identity")

    assert set(until(identity)) == {"cluster", "namespace"}


def test_without_any_right_nothing_is_done_and_the_right_is_named(project: KubernetesProject) -> None:
    project.declare()
    run = project.run("apply", "--yes")
    assert run.code == 1
    assert 'cannot list resource "jobs"' in run.err
    assert project.jobs() == []
