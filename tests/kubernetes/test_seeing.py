"""What `status`, `logs` and `runs` show of Jobs: why one does not start, and how one ended."""

import os
import re
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from kubernetes.cluster import Cluster
from kubernetes.kubelet import MERGE
from kubernetes.test_scenes import KubernetesProject
from reconciler.engines.kubernetes.objects import job_object
from reconciler.engines.kubernetes.plugin import PLUGIN
from reconciler.engines.port import Config, Engine, Marks, Status, Step, Surroundings, Verb
from reconciler.testing.amount import amount_in
from waits import until

_LABEL = re.compile(r'([a-z_]+)="([^"]*)"')


@pytest.mark.parametrize(
    ("config", "shown"),
    [
        ("image: missing, command: ['true']", "ImagePull"),
        ("image: x, command: ['true'], nodeSelector: {pool: none}", "Unschedulable: "),
        ("image: x, command: ['true'], resources: {memory: 9000GiB}", "Unschedulable: "),
        (
            "image: x, command: ['true'], env: {A: {secret: none/a}}",
            'CreateContainerConfigError: secret "none" not found',
        ),
    ],
    ids=["image", "selector", "memory", "secret"],
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
        ("image: x, script: sleep 30, taskTimeout: 1, abort: {grace: 0}", "timed out: taskTimeout is 1 s"),
        ("image: x, script: 'echo oom > $OOM_MARK; kill -KILL $$'", "OOMKilled: exit code 137"),
    ],
    ids=["exit code", "no program", "timeout of the run", "timeout of an attempt", "out of memory"],
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


def test_whoever_follows_a_log_is_told_that_the_job_was_deleted(tmp_path: Path, cluster: Cluster) -> None:
    project = KubernetesProject(tmp_path, cluster)
    project.declare(script="echo begins; sleep 1000", config="abort: {grace: 0}")
    project.applied()
    with project.start("logs", "a", "-f") as follows:
        assert follows.stdout
        assert follows.stdout.readline() == "begins\n"
        path = f"/apis/batch/v1/namespaces/{project.namespace}/jobs/a-1"
        assert cluster.request("DELETE", path, {"propagationPolicy": "Background"})[0] == 200
        out, err = follows.communicate(timeout=120)
    assert (out, follows.returncode) == ("", 1)
    assert "the Job a-1 was deleted while its log was followed" in " ".join(err.split())


def allow_pods(cluster: Cluster, namespace: str, most: int) -> str:
    """Make a quota of pods, those that have ended included. Return its path."""
    quotas = f"/api/v1/namespaces/{namespace}/resourcequotas"
    hard = {"count/pods": str(most)}
    assert cluster.request("POST", quotas, {"metadata": {"name": "few"}, "spec": {"hard": hard}})[0] == 201
    # The cluster has no controller of quotas, so that the status has to be written here.
    status = {"status": {"hard": hard, "used": {"count/pods": "0"}}}
    code, answer = cluster.request("PATCH", f"{quotas}/few/status", status, MERGE)
    assert code == 200, answer
    return f"{quotas}/few"


def test_status_says_what_a_quota_refuses(tmp_path: Path, cluster: Cluster) -> None:
    project = KubernetesProject(tmp_path, cluster)
    allow_pods(cluster, project.namespace, 0)
    project.declare()
    project.applied()
    shown = until(lambda: (out := project.run("status").out) and "FailedCreate: " in out and out)
    assert "exceeded quota: few" in " ".join(shown.split())
    (job,) = project.run("status", "--format", "json").json["jobs"]
    assert job["observed"] == "active"
    assert project.ran == []


def test_status_says_what_a_quota_refuses_of_many_jobs(tmp_path: Path, cluster: Cluster) -> None:
    project = KubernetesProject(tmp_path, cluster)
    allow_pods(cluster, project.namespace, 0)
    project.write("\n".join(f"a{number}: {{state: running, config: {{image: x}}}}" for number in range(12)))
    project.applied()

    def are_all_shown() -> bool:
        jobs = project.run("status", "--format", "json").json["jobs"]
        return len(jobs) == 12 and all("FailedCreate: " in job["detail"] for job in jobs)

    until(are_all_shown)


# An old server takes no `retry`, since it would drop the policy that tells failures from drains.
ATTEMPTS = (
    "job: {apiVersion: batch/v1, kind: Job, spec: {backoffLimit: 2, "
    "template: {spec: {restartPolicy: Never, containers: [{name: main}]}}}}"
)


def test_each_attempt_is_counted_and_its_log_is_followed(tmp_path: Path, cluster: Cluster) -> None:
    """Between two attempts, no pod of the run executes. The log goes on nevertheless."""
    project = KubernetesProject(tmp_path, cluster)
    quota = allow_pods(cluster, project.namespace, 1)
    count = f"echo x >> {tmp_path}/tries; wc -l < {tmp_path}/tries"
    project.declare(script=f'{count}; [ "$(wc -l < {tmp_path}/tries)" = 2 ]', config=ATTEMPTS)
    project.applied()
    with project.start("logs", "a", "-f") as follows:
        assert follows.stdout
        assert follows.stdout.readline() == "1\n"
        # The log is looked at twice a second.
        with pytest.raises(subprocess.TimeoutExpired):
            follows.wait(2)
        assert cluster.request("DELETE", quota)[0] == 200
        out, err = follows.communicate(timeout=120)
    assert (out, err, follows.returncode) == ("2\n", "", 0)
    assert project.run("wait", "a").code == 0
    shown = project.run("runs", "a")
    assert "ATTEMPTS" in shown.out, shown
    (run,) = project.run("runs", "a", "--format", "json").json["runs"]
    assert (run["status"], run["execution"]["attempts"]) == ("complete", 2), run


def test_a_job_of_several_pods_says_how_far_it_is(tmp_path: Path, cluster: Cluster) -> None:
    project = KubernetesProject(tmp_path, cluster)
    first = f'echo "in $HOSTNAME"; [ "$(ls {tmp_path}/gone | wc -l)" -lt 2 ]'
    waits = f"{first} || until [ -e {tmp_path}/go ]; do sleep 0.1; done"
    (tmp_path / "gone").mkdir()
    project.declare(
        script=f"{waits}; touch {tmp_path}/gone/$HOSTNAME",
        config="native: {spec: {completions: 5, parallelism: 1}}",
    )
    project.applied()
    until(lambda: "2 of 5 pods complete" in project.run("status").out)
    (tmp_path / "go").touch()
    assert project.run("wait", "a").code == 0
    assert project.run("logs", "a").out.count("in a-1-") == 5


def test_many_jobs_are_observed_with_three_lists(tmp_path: Path, cluster: Cluster) -> None:
    """The Jobs, the pods, and the events about Jobs that have no pods. The server itself counts what it is asked."""
    count = amount_in().jobs
    namespace = cluster.namespace()
    jobs = [f"job-{number}" for number in range(count)]

    def create(job_id: str) -> None:
        step = Step(Verb.RUN, job_id, f"{job_id}-1", {"image": "i", "native": {"spec": {"parallelism": 0}}})
        code, answer = cluster.request(
            "POST", f"/apis/batch/v1/namespaces/{namespace}/jobs", job_object(step, namespace)
        )
        assert code == 201, answer

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(create, jobs))
    with engine_of(cluster, namespace, tmp_path) as engine:
        before = reads_of(cluster)
        found = engine.observe_many(jobs)
        reads = reads_of(cluster) - before
    assert {each.status for each in found.values()} == {Status.ACTIVE}
    assert len(found) == count
    assert reads == {"LIST jobs": 1, "LIST pods": 1, "LIST events": 1}


def test_a_few_jobs_are_read_together_and_those_of_somebody_else_are_found(tmp_path: Path, cluster: Cluster) -> None:
    namespace = cluster.namespace()
    path = f"/apis/batch/v1/namespaces/{namespace}/jobs"
    config: Config = {"image": "i", "native": {"spec": {"parallelism": 0}}}
    step = Step(Verb.RUN, "ours", "ours-1", config, marks=Marks("lineage-1"))
    assert cluster.request("POST", path, job_object(step, namespace))[0] == 201
    other = {**job_object(step, namespace), "metadata": {"name": "theirs"}}
    del other["spec"]["template"]["metadata"]
    assert cluster.request("POST", path, other)[0] == 201
    with engine_of(cluster, namespace, tmp_path) as engine:
        before = reads_of(cluster)
        found = engine.observe_many(["ours", "none", "nothing", "nobody", "theirs"])
        reads = reads_of(cluster) - before
        again = engine.observe("none")
    assert {job_id: (each.status, each.run_id, each.name) for job_id, each in found.items()} == {
        "ours": (Status.ACTIVE, "ours-1", "ours-1"),
        "theirs": (Status.ACTIVE, "", "theirs"),
        **dict.fromkeys(("none", "nothing", "nobody"), (Status.MISSING, "", "")),
    }
    assert again.status is Status.MISSING
    # Ours, and the names of the others; then the Job of somebody else by itself.
    assert (reads["LIST jobs"], reads["LIST pods"], reads["GET jobs"]) == (2, 1, 1)


@contextmanager
def engine_of(cluster: Cluster, namespace: str, folder: Path) -> Iterator[Engine]:
    block = {"kubeconfig": str(cluster.kubeconfig), "namespace": namespace, "allowOldServer": True}
    around = Surroundings(
        os.environ, lambda _: False, lambda _: None, time.monotonic, time.time, 1, None, str(folder / "beside")
    )
    with PLUGIN.open(PLUGIN.target(block, str(folder)), around) as engine:
        yield engine


def reads_of(cluster: Cluster) -> Counter[str]:
    """Return how often the server was asked for objects of a namespace, by verb and kind."""
    code, metrics = cluster.request("GET", "/metrics")
    assert code == 200
    found: Counter[str] = Counter()
    for line in metrics.splitlines():
        if not line.startswith("apiserver_request_total{"):
            continue
        labels = dict(_LABEL.findall(line))
        is_read = labels["verb"] in ("GET", "LIST") and labels["scope"] != "cluster"
        if is_read and labels["resource"] in ("jobs", "pods", "events"):
            found[f"{labels['verb']} {labels['resource']}"] += int(float(line.split()[-1]))
    return found


def test_the_log_of_a_pod_that_has_no_node_yet_is_empty(tmp_path: Path, cluster: Cluster) -> None:
    project = KubernetesProject(tmp_path, cluster)
    project.declare(config="nodeSelector: {disk: none}")
    project.applied()
    until(project.pods)
    read = project.run("logs", "a")
    assert "can't be read" not in read.err, read
    assert read.out == "", read
