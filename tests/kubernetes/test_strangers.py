"""Jobs and pods of somebody else that bear our label, on a real API server: they are left alone."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kubernetes.cluster import Cluster
from kubernetes.kubelet import MERGE
from kubernetes.test_by_hand import Hands
from waits import until


class Strangers(Hands):
    """A project, and somebody who makes Jobs and pods with our label."""

    def make(self, name: str, annotations: dict[str, str] | None = None, **labels: str) -> str:
        """Create a Job that executes until the end of the test, and return its uid."""
        given = {f"reconciler/{label}": value for label, value in labels.items()}
        pod = {"restartPolicy": "Never", "containers": [self._container]}
        template = {"metadata": {"labels": given}, "spec": pod}
        metadata = {"name": name, "labels": given, "annotations": annotations or {}}
        body = {"metadata": metadata, "spec": {"template": template}}
        code, made = self.cluster.request("POST", self.path, body)
        assert code == 201, made
        return str(made["metadata"]["uid"])

    def make_pod(self, name: str, labels: dict[str, str]) -> None:
        """Create a pod that no Job has made."""
        body = {"metadata": {"name": name, "labels": labels}, "spec": {"containers": [self._container]}}
        code, made = self.cluster.request("POST", self.pods_path, body)
        assert code == 201, made

    def pods(self) -> list[str]:
        return [pod["metadata"]["name"] for pod in self.cluster.request("GET", self.pods_path)[1]["items"]]

    @property
    def pods_path(self) -> str:
        return f"/api/v1/namespaces/{self.namespace}/pods"

    @property
    def _container(self) -> dict[str, Any]:
        waits = f"until [ -e {self.folder}/go ]; do sleep 0.05; done"
        return {"name": "main", "image": "busybox:1", "command": ["/bin/sh", "-c", waits]}


@pytest.fixture
def strangers(tmp_path: Path, cluster: Cluster) -> Iterator[Strangers]:
    made = Strangers(tmp_path, cluster)
    yield made
    (tmp_path / "go").touch()


@pytest.mark.parametrize("state", ["running", "aborted", "absent"])
def test_a_job_with_our_label_and_no_lineage_is_held_whatever_is_asked_for(strangers: Strangers, state: str) -> None:
    uid = strangers.make("a-9", job="a")
    strangers.write(f"a: {{state: {state}, config: {{image: v1}}}}")
    run = strangers.run("apply", "--yes")
    assert (run.code, "another owner's: it bears no marks of a state" in " ".join(run.out.split())) == (4, True), run
    there = strangers.job("a-9")
    assert (there["metadata"]["uid"], strangers.jobs()) == (uid, ["a-9"])
    assert "annotations" not in there["metadata"]
    assert strangers.run("state", "rebuild", "--yes").code != 0


def test_a_job_without_a_lineage_beside_our_runs_is_neither_aborted_nor_deleted(strangers: Strangers) -> None:
    strangers.declare()
    strangers.applied()
    assert strangers.run("wait", "a", "--timeout", "60").code == 0
    strangers.make("a-9", job="a")
    shown = strangers.shown
    assert (shown["observed"], shown["runId"]) == ("complete", "a-1")
    strangers.write("a: {state: absent, config: {image: v1}}")
    out = strangers.applied()
    assert "what bears no lineage stays: a-9" in " ".join(out.split()), out
    assert strangers.jobs() == ["a-9"]
    assert "annotations" not in strangers.job("a-9")["metadata"]
    # The record of the job names no Job any more, and the one that is left is not taken for it.
    plan = strangers.run("plan", "--refresh", "--out", "plan.json")
    assert "bears no marks of a state" in plan.out, plan
    held = strangers.run("apply", "--plan", "plan.json")
    assert (held.code, strangers.jobs()) == (4, ["a-9"]), held


def test_an_imported_job_without_a_lineage_is_still_aborted_and_deleted(strangers: Strangers) -> None:
    strangers.make("a-9", job="a")
    strangers.make("plain")
    strangers.write("{}")
    taken = strangers.run("import", "a=a", "plain=plain")
    assert taken.code == 0, taken
    for state in ("aborted", "absent"):
        each = f"{{state: {state}, config: {{image: v1}}}}"
        strangers.write(f"a: {each}\n  plain: {each}")
        strangers.applied()
    assert strangers.jobs() == []


def test_an_abort_ends_no_pods_but_those_of_the_run_that_is_meant(strangers: Strangers) -> None:
    strangers.begin()
    lineage = strangers.job("a-1")["metadata"]["labels"]["reconciler/lineage"]
    strangers.delete("a-1", "Orphan")
    until(lambda: not strangers.jobs())
    others = {
        "other-lineage": {"reconciler/job": "a", "reconciler/lineage": "somebody-else"},
        "no-lineage": {"reconciler/job": "a", "job-name": "a-1", "controller-uid": "1234"},
        "no-job": {"reconciler/job": "a", "reconciler/lineage": lineage},
    }
    for name, labels in others.items():
        strangers.make_pod(name, labels)
    assert (strangers.shown["observed"], strangers.shown["runId"]) == ("active", "a-1")
    strangers.write("a: {state: aborted, config: {image: v1}}")
    strangers.applied()
    until(lambda: set(strangers.pods()) == set(others))
    assert strangers.shown["observed"] != "active"


def test_annotations_that_nobody_of_ours_wrote_break_no_command(strangers: Strangers) -> None:
    """Whoever may make a Job in the namespace writes them."""
    deep = '{"native":' * 20_000 + "{}" + "}" * 20_000
    texts = ['{"env":3}', '{"volumes":{"/a":null}}', '{"keepFor":1e400}', '{"native":{"spec":3}}', deep]
    strangers.declare()
    strangers.applied("--wait", "60")
    for number, text in enumerate(texts):
        annotations = {"reconciler/config": text}
        strangers.make(f"b-{number}", job="b", lineage="theirs", annotations=annotations)
        patch = {"metadata": {"annotations": annotations}}
        assert strangers.cluster.request("PATCH", f"{strangers.path}/a-1", patch, MERGE)[0] == 200
        for words in (("status",), ("plan", "--refresh"), ("drift",), ("runs", "a"), ("import", "--all")):
            run = strangers.run(*words)
            assert "please report it" not in run.err, (words, text[:40], run)
    strangers.write("a: {state: absent, config: {image: v1}}")
    strangers.applied()
    assert "a-1" not in strangers.jobs()
