"""What people do to Jobs and pods by hand, beside a manifest. Nothing of a run that executes is lost from sight."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kubernetes.cluster import Cluster
from kubernetes.kubelet import MERGE
from kubernetes.test_scenes import KubernetesProject
from kubernetes.test_seeing import allow_pods
from waits import until

WAITS = 'trap "sleep {stops_s}; exit 1" TERM; until [ -e {folder}/go ]; do sleep 0.05; done'


class Hands(KubernetesProject):
    """A project whose job `a` executes until a file is there, and what a person does with kubectl."""

    def begin(self, *, stops_s: int = 0, grace_s: int = 60) -> None:
        """Run the job, and wait until its pod executes. It takes so long to stop."""
        self._waits = WAITS.format(stops_s=stops_s, folder=self.folder)
        self._config = f"abort: {{grace: {grace_s}}}"
        self.ask("1")
        self.applied()
        until(lambda: self.ran == ["a-1"])

    def ask(self, token: str) -> None:
        self.declare(script=self._waits, more=f'runToken: "{token}",', config=self._config)

    def delete(self, name: str, policy: str = "Background") -> None:
        assert self.cluster.request("DELETE", f"{self.path}/{name}", {"propagationPolicy": policy})[0] == 200

    def job(self, name: str) -> Any:
        return self.cluster.request("GET", f"{self.path}/{name}")[1]

    def copy(self, name: str, to: str) -> None:
        """Do what `kubectl get -o yaml` and `kubectl create` do with another name."""
        there = self.job(name)
        spec, metadata = there["spec"], there["metadata"]
        del spec["selector"]
        for label in ("controller-uid", "job-name"):
            for full in (label, f"batch.kubernetes.io/{label}"):
                spec["template"]["metadata"]["labels"].pop(full, None)
        made = {"name": to, "labels": metadata["labels"], "annotations": metadata["annotations"]}
        for label in [each for each in made["labels"] if each.endswith(("controller-uid", "job-name"))]:
            del made["labels"][label]
        code, answer = self.cluster.request("POST", self.path, {"metadata": made, "spec": spec})
        assert code == 201, answer

    def live(self) -> list[str]:
        """Return the names of the Jobs whose pods execute."""
        _, document = self.cluster.request("GET", f"/api/v1/namespaces/{self.namespace}/pods")
        pods = [pod for pod in document["items"] if pod["status"].get("phase") not in ("Succeeded", "Failed")]
        return sorted(pod["metadata"]["labels"]["job-name"] for pod in pods)

    @property
    def path(self) -> str:
        return f"/apis/batch/v1/namespaces/{self.namespace}/jobs"

    @property
    def shown(self) -> Any:
        (job,) = self.run("status", "--format", "json").json["jobs"]
        return job


@pytest.fixture
def hands(tmp_path: Path, cluster: Cluster) -> Iterator[Hands]:
    made = Hands(tmp_path, cluster)
    yield made
    (tmp_path / "go").touch()


def test_no_run_starts_beside_a_pod_that_stops_though_its_job_was_deleted(hands: Hands) -> None:
    hands.begin(stops_s=12)
    hands.delete("a-1")
    until(lambda: not hands.jobs())
    shown = hands.shown
    assert (shown["observed"], shown["runId"]) == ("active", "a-1")
    assert "the Job a-1 is gone, and the pod a-1-" in shown["detail"]
    hands.ask("2")
    assert "a-1" in hands.live()
    while "a-2" not in hands.jobs():
        assert hands.run("apply", "--yes", "--settle", "0").code in (0, 3)
    assert "a-1" not in hands.live()
    until(lambda: hands.ran == ["a-1", "a-2"])


def test_pods_that_were_left_without_their_job_are_the_run_and_an_abort_ends_them(hands: Hands) -> None:
    hands.begin()
    hands.delete("a-1", "Orphan")
    until(lambda: not hands.jobs())
    assert (hands.shown["observed"], hands.live()) == ("active", ["a-1"])
    assert hands.run("drift").code in (0, 2)
    hands.write("a: {state: aborted, config: {image: v1}}")
    assert "1/1 - abort   a succeeded" in hands.applied()
    until(lambda: not hands.live())
    assert hands.applied().startswith("Nothing to do")
    assert hands.ran == ["a-1"]


def test_a_job_that_lost_its_label_is_still_the_run_of_its_job(hands: Hands) -> None:
    hands.begin()
    labels = {"metadata": {"labels": {"reconciler/job": None}}}
    assert hands.cluster.request("PATCH", f"{hands.path}/a-1", labels, MERGE)[0] == 200
    assert (hands.shown["observed"], hands.shown["runId"], hands.shown["detail"]) == ("active", "a-1", "")
    hands.write("a: {state: aborted, config: {image: v1}}")
    hands.applied()
    until(lambda: not hands.live())
    assert "reconciler/abort-op" in hands.job("a-1")["metadata"]["annotations"]


def test_a_job_without_pods_that_was_aborted_never_executes(hands: Hands) -> None:
    """A server of 1.20 notes no start of such a Job, and no deadline ends it."""
    quota = allow_pods(hands.cluster, hands.namespace, 0)
    hands.declare()
    hands.applied()
    until(lambda: "FailedCreate: " in hands.shown["detail"])
    hands.write("a: {state: aborted, config: {image: v1}}")
    for _ in range(2):  # it may be sent again
        hands.applied()
    until(lambda: hands.shown["observed"] == "aborted")
    assert hands.cluster.request("DELETE", quota)[0] == 200
    hands.declare(more='runToken: "2",')
    hands.applied("--wait", "60")
    assert hands.run("wait", "a").code == 0
    assert hands.ran == ["a-2"]


def test_of_a_job_and_its_copy_each_is_seen_and_ended(hands: Hands) -> None:
    hands.begin()
    hands.copy("a-1", "a-7")
    until(lambda: hands.ran == ["a-1", "a-7"])
    assert "something of a-1 executes too" in hands.shown["detail"]
    hands.write("a: {state: aborted, config: {image: v1}}")
    hands.applied()
    until(lambda: hands.live() == ["a-1"])
    # An apply that has nothing to do asks nobody, so the one that looks is a plan.
    planned = hands.run("plan", "--refresh", "--out", "plan.json")
    assert "abort    a  declared aborted; the job is active" in planned.out, planned
    hands.applied("--plan", "plan.json")
    until(lambda: not hands.live())
    for name in ("a-1", "a-7"):
        assert "reconciler/abort-op" in hands.job(name)["metadata"]["annotations"], name
    hands.write("a: {state: absent, config: {image: v1}}")
    hands.applied()
    assert hands.jobs() == []


def test_a_copy_of_a_name_that_no_run_has_is_told(hands: Hands) -> None:
    hands.begin()
    hands.copy("a-1", "a-retry")
    until(lambda: hands.ran == ["a-1", "a-retry"])
    assert "something of a-retry executes too" in hands.shown["detail"]


def test_a_parallelism_of_zero_says_why_the_run_never_ends(hands: Hands) -> None:
    hands.begin()
    patch = {"spec": {"parallelism": 0}}
    assert hands.cluster.request("PATCH", f"{hands.path}/a-1", patch, MERGE)[0] == 200
    until(lambda: not hands.live())
    assert (hands.shown["observed"], hands.shown["detail"]) == ("active", "parallelism is 0, so no pod is started")
