"""The smallest Role, with which everything works, and what is said where a right is missing."""

from itertools import count
from pathlib import Path
from typing import Any

import pytest
import yaml

from checkout import ROOT
from kubernetes.cluster import Cluster
from kubernetes.test_scenes import KubernetesProject
from kubernetes.test_seeing import allow_pods
from waits import until

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


def test_each_right_of_the_role_is_needed(project: KubernetesProject) -> None:
    cluster, role = project.cluster, f"{RBAC}/namespaces/{project.namespace}/roles/reconciler"

    def without(verb: str, resource: str, *words: str) -> None:
        """Take one right away, see a command fail for it, and give it back."""
        whole = ROLES["reconciler"]
        rules = [{**rule, "verbs": [*rule["verbs"]]} for rule in whole["rules"]]
        next(rule for rule in rules if rule["resources"] == [resource])["verbs"].remove(verb)
        rules = [rule for rule in rules if rule["verbs"]]
        assert cluster.request("PUT", role, {**whole, "rules": rules})[0] == 200
        needed = f'cannot {verb} resource "{resource}"'
        until(lambda: needed in "".join(project.run(*words)[1:]))
        assert cluster.request("PUT", role, whole)[0] == 200
        until(lambda: needed not in "".join(project.run("status")[1:]))

    allow(cluster, project.namespace, "reconciler")
    project.declare(script="until [ -e go ]; do sleep 0.1; done", config="keepFor: 3600, abort: {grace: 0}")
    until(lambda: project.run("apply", "--yes").code == 0)
    without("list", "pods", "status")
    without("list", "jobs", "status")
    project.write("a: {state: aborted, config: {image: v1}}")
    without("patch", "jobs", "apply", "--yes")
    project.applied()
    project.write("a: {state: absent, config: {image: v1}}")
    without("delete", "jobs", "apply", "--yes")
    project.applied()
    assert project.jobs() == []
    project.write("b: {state: running, config: {image: v1, script: 'true'}}")
    without("get", "jobs", "plan", "--refresh")
    without("create", "jobs", "apply", "--yes")
    project.applied()


def test_the_identity_is_recorded_as_far_as_it_can_be_read(project: KubernetesProject) -> None:
    allow(project.cluster, project.namespace, "reconciler")
    until(lambda: project.run("status").code == 0)
    project.declare()
    project.applied()
    assert project.state["identity"] == {"namespaceName": project.namespace}
    # A right that is granted later changes nothing but for what the next apply that acts records.
    allow(project.cluster, project.namespace, "reconciler-identity")
    tokens = count()

    def recorded() -> Any:
        project.declare(more=f"runToken: again-{next(tokens)},")
        assert project.run("apply", "--yes").code == 0
        return project.state.get("identity", {})

    until(lambda: set(recorded()) == {"cluster", "namespace", "namespaceName"})
    known = project.state["identity"]
    # And one that is taken away later changes nothing at all.
    path = f"{RBAC}/clusterrolebindings/reconciler-identity-{project.namespace}"
    assert project.cluster.request("DELETE", path)[0] == 200
    assert recorded() == known


class ProjectOfAContext(KubernetesProject):
    """A target that names nothing: the context says which namespace is meant."""

    target = "{engine: kubernetes, allowOldServer: true}"

    def mean(self, namespace: str) -> None:
        kubeconfig: dict[str, Any] = yaml.safe_load(self.cluster.kubeconfig_of_nobody.read_text())
        for context in kubeconfig["contexts"]:
            context["context"]["namespace"] = namespace
        path = self.folder / "kubeconfig"
        path.write_text(yaml.safe_dump(kubeconfig))
        self.env["KUBECONFIG"] = str(path)


def test_a_context_that_leads_to_another_namespace_is_refused_without_the_right_to_read_it(
    tmp_path: Path, cluster: Cluster
) -> None:
    project = ProjectOfAContext(tmp_path, cluster)
    other = cluster.namespace()
    for namespace in (project.namespace, other):
        allow(cluster, namespace, "reconciler")
    project.mean(project.namespace)
    project.declare()
    until(lambda: project.run("status").code == 0)
    project.applied()
    project.mean(other)
    project.declare(more="runToken: again,")
    refused = project.run("apply", "--yes")
    assert (refused.code, project.namespace in refused.err, other in refused.err) == (1, True, True), refused
    project.mean(project.namespace)
    project.applied()
    assert project.jobs() == ["a-1", "a-2"]


def test_a_namespace_that_was_made_anew_is_another_one(project: KubernetesProject) -> None:
    project.env["KUBECONFIG"] = str(project.cluster.kubeconfig)
    project.applied("--wait", "60")
    before = project.state["identity"]
    path = f"/api/v1/namespaces/{project.namespace}"
    assert project.cluster.request("DELETE", path)[0] < 300
    until(lambda: project.cluster.request("GET", path)[0] == 404)
    assert project.cluster.request("POST", "/api/v1/namespaces", {"metadata": {"name": project.namespace}})[0] == 201
    project.declare(more="runToken: again,")
    for words in (("plan", "--refresh"), ("apply", "--yes"), ("drift",)):
        run = project.run(*words)
        assert (run.code, before["namespace"] in run.err, "state accept --identity" in run.err) == (1, True, True), run
    assert project.jobs() == []
    assert project.run("state", "accept", "--identity").code == 0
    project.applied()
    assert project.jobs() == ["a-2"]


def test_a_namespace_that_is_not_there_is_told_by_each_command(project: KubernetesProject) -> None:
    """A list of what is in such a namespace is empty, and no error."""
    project.env["KUBECONFIG"] = str(project.cluster.kubeconfig)
    project.namespace = "no-such-namespace"
    project.declare()
    for words in (("plan", "--refresh"), ("status",), ("drift",), ("import", "--all"), ("apply", "--yes")):
        run = project.run(*words)
        assert (run.code, "the namespace no-such-namespace is not there" in run.err) == (1, True), run


def test_a_namespace_that_was_deleted_is_told(project: KubernetesProject) -> None:
    project.env["KUBECONFIG"] = str(project.cluster.kubeconfig)
    project.applied("--wait", "60")
    path = f"/api/v1/namespaces/{project.namespace}"
    assert project.cluster.request("DELETE", path)[0] < 300
    until(lambda: project.cluster.request("GET", path)[0] == 404)
    for words in (("plan", "--refresh"), ("status",), ("drift",)):
        run = project.run(*words)
        assert (run.code, f"the namespace {project.namespace} is not there" in run.err) == (1, True), run


def test_a_keep_for_that_the_role_does_not_allow_is_told(project: KubernetesProject) -> None:
    cluster, role = project.cluster, f"{RBAC}/namespaces/{project.namespace}/roles/reconciler"
    allow(cluster, project.namespace, "reconciler")
    until(lambda: project.run("status").code == 0)
    rules = [
        {**rule, "verbs": [verb for verb in rule["verbs"] if verb != "patch"]} for rule in ROLES["reconciler"]["rules"]
    ]
    assert cluster.request("PUT", role, {**ROLES["reconciler"], "rules": rules})[0] == 200
    project.declare(config="keepFor: 60")
    tokens = count()

    def warning() -> str:
        project.declare(more=f"runToken: again-{next(tokens)},", config="keepFor: 60")
        run = project.run("apply", "--yes", "--wait", "60")
        assert run.code == 0, run
        return run.err

    told = " ".join(until(lambda: (err := warning()) and "warning: keepFor of a-" in err and err).split())
    assert "so that the Job stays: jobs.batch " in told
    assert 'cannot patch resource "jobs"' in told


def test_the_role_lets_status_say_what_a_quota_refuses(project: KubernetesProject) -> None:
    allow(project.cluster, project.namespace, "reconciler")
    until(lambda: project.run("status").code == 0)
    allow_pods(project.cluster, project.namespace, 0)
    project.declare()
    project.applied()
    until(lambda: "exceeded quota: few" in " ".join(project.run("status").out.split()))


def test_the_role_for_kueue_holds_what_it_says_and_nothing_more(project: KubernetesProject) -> None:
    allow(project.cluster, project.namespace, "reconciler-kueue")

    def may(verb: str) -> bool:
        place = {"namespace": project.namespace, "group": "kueue.x-k8s.io", "resource": "workloads", "verb": verb}
        asked = {"spec": {"user": "nobody", "resourceAttributes": place}}
        path = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
        return bool(project.cluster.request("POST", path, asked)[1]["status"]["allowed"])

    until(lambda: may("list"))
    verbs = ("create", "delete", "get", "list", "patch", "update", "watch")
    assert [verb for verb in verbs if may(verb)] == ["get", "list", "patch"]


def test_without_any_right_nothing_is_done_and_the_right_is_named(project: KubernetesProject) -> None:
    project.declare()
    run = project.run("apply", "--yes")
    assert run.code == 1
    assert 'cannot list resource "jobs"' in run.err
    assert project.jobs() == []
