"""What tests take for granted about the cluster that they use."""

import os
import signal
import time
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

from daemons import NotStarted
from kubernetes.cluster import BINARIES, Cluster, binaries
from kubernetes.kubelet import marked
from waits import until

WITHIN_S = 60.0


class Space:
    """A namespace of one test, and its pods."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.name = cluster.namespace()
        self.path = f"/api/v1/namespaces/{self.name}"

    def job(self, name: str, script: str, **spec: Any) -> None:
        """Create a Job that runs a script once."""
        template = {"spec": self.spec(script)}
        path = f"/apis/batch/v1/namespaces/{self.name}/jobs"
        body = {"metadata": {"name": name}, "spec": {"template": template, "backoffLimit": 0, **spec}}
        code, answer = self.cluster.request("POST", path, body)
        assert code == 201, answer

    def job_status(self, name: str) -> dict[str, Any]:
        code, answer = self.cluster.request("GET", f"/apis/batch/v1/namespaces/{self.name}/jobs/{name}")
        assert code == 200, answer
        return dict(answer["status"])

    def pod(self, name: str, script: str, **more: Any) -> str:
        """Create a pod that runs a script. Return its uid."""
        body = {"metadata": {"name": name}, "spec": self.spec(script, **more)}
        code, answer = self.cluster.request("POST", f"{self.path}/pods", body)
        assert code == 201, answer
        return str(answer["metadata"]["uid"])

    @staticmethod
    def spec(script: str, **more: Any) -> dict[str, Any]:
        container = {"name": "main", "image": "shell", "command": ["/bin/sh", "-c"], "args": [script]}
        container |= {name: more.pop(name) for name in ("env", "image", "resources") if name in more}
        return {"restartPolicy": "Never", "containers": [container], **more}

    def status(self, name: str) -> dict[str, Any]:
        code, answer = self.cluster.request("GET", f"{self.path}/pods/{name}")
        assert code == 200, answer
        return dict(answer["status"])

    def terminated(self, name: str) -> dict[str, Any]:
        """Wait for the end of a pod's container."""

        def state() -> Any:
            containers = self.status(name).get("containerStatuses") or [{"state": {}}]
            return containers[0]["state"].get("terminated")

        return dict(until(state))

    def waits_for(self, name: str, reason: str) -> Any:
        def state() -> Any:
            containers = self.status(name).get("containerStatuses") or [{"state": {}}]
            waiting = containers[0]["state"].get("waiting") or {}
            return waiting if waiting.get("reason") == reason else None

        return until(state)

    def is_gone(self, name: str) -> bool:
        return self.cluster.request("GET", f"{self.path}/pods/{name}")[0] == 404

    def log(self, name: str, query: str = "") -> tuple[int, Any]:
        return self.cluster.request("GET", f"{self.path}/pods/{name}/log?{query}")


@pytest.fixture
def space(cluster: Cluster) -> Space:
    """An empty namespace."""
    return Space(cluster)


def test_a_job_runs_and_completes(space: Space) -> None:
    space.job("hello", "echo hello; echo again >&2")
    status = until(lambda: (found := space.job_status("hello")).get("completionTime") and found)
    assert status["succeeded"] == 1
    # A newer server says SuccessCriteriaMet before that.
    assert "Complete" in [condition["type"] for condition in status["conditions"]]
    _, pods = space.cluster.request("GET", f"{space.path}/pods?labelSelector=job-name%3Dhello")
    (pod,) = pods["items"]
    assert pod["status"]["phase"] == "Succeeded"
    assert pod["status"]["containerStatuses"][0]["state"]["terminated"]["reason"] == "Completed"
    assert space.log(pod["metadata"]["name"]) == (200, "hello\nagain\n")


def test_a_job_is_removed_when_its_time_is_over(space: Space) -> None:
    space.job("brief", "true", ttlSecondsAfterFinished=1)
    path = f"/apis/batch/v1/namespaces/{space.name}/jobs/brief"
    until(lambda: space.cluster.request("GET", path)[0] == 404)
    until(lambda: space.cluster.request("GET", f"{space.path}/pods")[1]["items"] == [])


def test_a_job_that_takes_too_long_fails_and_its_process_ends(space: Space) -> None:
    space.job("endless", "sleep 1000", activeDeadlineSeconds=1)

    def failed() -> list[str]:
        conditions = space.job_status("endless").get("conditions", [])
        return [condition["reason"] for condition in conditions if condition["type"] == "Failed"]

    assert until(failed) == ["DeadlineExceeded"]
    until(lambda: space.cluster.request("GET", f"{space.path}/pods")[1]["items"] == [])


def test_a_log_is_followed_while_it_is_written(space: Space, tmp_path: Path) -> None:
    go = tmp_path / "go"
    space.pod("talks", f"echo one; until [ -e {go} ]; do sleep 0.05; done; echo two")
    until(lambda: space.status("talks")["phase"] == "Running")
    with space.cluster.stream(f"{space.path}/pods/talks/log?follow=true") as answer:
        lines = answer.iter_lines()
        assert next(lines) == b"one"
        go.touch()
        assert list(lines) == [b"two"]
    space.terminated("talks")


def test_parts_of_a_log(space: Space) -> None:
    space.pod("talks", "echo one; echo two; sleep 2.5; printf three")
    space.terminated("talks")
    assert space.log("talks") == (200, "one\ntwo\nthree")
    assert space.log("talks", "tailLines=2") == (200, "two\nthree")
    assert space.log("talks", "tailLines=0") == (200, "")
    assert space.log("talks", "limitBytes=5") == (200, "one\nt")
    assert space.log("talks", "sinceSeconds=1000") == (200, "one\ntwo\nthree")
    _, timed = space.log("talks", "timestamps=true")
    times, words = zip(*(line.split(" ") for line in timed.splitlines()), strict=True)
    assert words == ("one", "two", "three")
    assert list(times) == sorted(times)
    assert space.log("talks", f"sinceTime={times[2][:19]}Z") == (200, "three")
    for query in ("container=other", "previous=true"):
        code, status = space.log("talks", query)
        assert (code, status["reason"]) == (400, "BadRequest")


def test_a_deleted_pod_may_clean_up_and_is_gone_only_then(space: Space, tmp_path: Path) -> None:
    ready, cleaned = tmp_path / "ready", tmp_path / "cleaned"
    uid = space.pod(
        "tidy", f"trap 'sleep 1; touch {cleaned}; exit 7' TERM; touch {ready}; while true; do sleep 0.1; done"
    )
    until(ready.exists)
    with space.cluster.stream(f"{space.path}/pods?watch=1&fieldSelector=metadata.name%3Dtidy") as events:
        code, _ = space.cluster.request("DELETE", f"{space.path}/pods/tidy")
        assert code == 200
        assert not space.is_gone("tidy")
        until(lambda: cleaned.exists() or space.is_gone("tidy"))
        assert cleaned.exists()
        until(lambda: space.is_gone("tidy"))
        assert b'"exitCode":7' in next(line for line in events.iter_lines() if b'"DELETED"' in line)
    assert marked(f"{space.cluster.mark}/{uid}") == []


def test_a_deleted_pod_that_does_not_listen_is_killed(space: Space, tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    uid = space.pod(
        "deaf",
        f"trap '' TERM; touch {ready}; (while true; do sleep 0.1; done) & wait; wait",
        terminationGracePeriodSeconds=1,
    )
    until(ready.exists)
    began_s = time.monotonic()
    space.cluster.request("DELETE", f"{space.path}/pods/deaf")
    until(lambda: space.is_gone("deaf"))
    assert time.monotonic() - began_s >= 1
    assert marked(f"{space.cluster.mark}/{uid}") == []


def test_a_pod_that_is_deleted_by_force_is_gone_at_once_and_killed_then(space: Space, tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    uid = space.pod("forced", f"trap '' TERM; touch {ready}; while true; do sleep 0.1; done")
    until(ready.exists)
    space.cluster.request("DELETE", f"{space.path}/pods/forced", {"gracePeriodSeconds": 0})
    assert space.is_gone("forced")
    until(lambda: not marked(f"{space.cluster.mark}/{uid}"))


def test_a_failure_has_its_exit_code(space: Space) -> None:
    space.pod("fails", "exit 3")
    end = space.terminated("fails")
    assert (end["exitCode"], end["reason"]) == (3, "Error")
    assert end["startedAt"] <= end["finishedAt"]
    assert space.status("fails")["phase"] == "Failed"
    # The kubelet takes $$ for a dollar.
    space.pod("killed", "kill -KILL $$$$")
    end = space.terminated("killed")
    assert (end["exitCode"], end["reason"]) == (137, "Error")
    space.pod("hungry", 'echo oom > "$OOM_MARK"; kill -KILL $$$$')
    end = space.terminated("hungry")
    assert (end["exitCode"], end["reason"]) == (137, "OOMKilled")


def test_a_program_that_is_not_there(space: Space) -> None:
    body = {
        "metadata": {"name": "nothing"},
        "spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": "x", "command": ["/no/program"]}]},
    }
    assert space.cluster.request("POST", f"{space.path}/pods", body)[0] == 201
    end = space.terminated("nothing")
    assert (end["exitCode"], end["reason"]) == (128, "StartError")


def test_a_pod_has_its_own_deadline(space: Space) -> None:
    space.pod("slow", "echo begun; sleep 1000", activeDeadlineSeconds=1)
    end = space.terminated("slow")
    assert end["exitCode"] == 143
    status = space.status("slow")
    assert (status["phase"], status["reason"]) == ("Failed", "DeadlineExceeded")
    assert space.log("slow") == (200, "begun\n")


def test_variables_come_from_values_and_secrets(space: Space) -> None:
    env = [
        {"name": "PLAIN", "value": "a value"},
        {"name": "HIDDEN", "valueFrom": {"secretKeyRef": {"name": "box", "key": "word"}}},
        {"name": "NONE", "valueFrom": {"secretKeyRef": {"name": "box", "key": "other", "optional": True}}},
        {"name": "BOTH", "value": "$(PLAIN) and $(NONE)"},
    ]
    space.pod("reads", 'echo "$PLAIN, $HIDDEN, ${NONE-none}, $BOTH"; env | grep -c RECONCILER', env=env)
    space.waits_for("reads", "CreateContainerConfigError")
    secret = {"metadata": {"name": "box"}, "data": {"word": b64encode(b"a secret").decode()}}
    assert space.cluster.request("POST", f"{space.path}/secrets", secret)[0] == 201
    space.terminated("reads")
    assert space.log("reads") == (200, "a value, a secret, none, a value and $(NONE)\n0\n")


def test_an_image_that_is_missing(space: Space) -> None:
    space.pod("imageless", "echo never", image="missing")
    space.waits_for("imageless", "ErrImagePull")
    space.waits_for("imageless", "ImagePullBackOff")
    assert space.status("imageless")["phase"] == "Pending"
    code, status = space.log("imageless")
    assert code == 400
    assert "trying and failing to pull image" in status["message"]
    space.cluster.request("DELETE", f"{space.path}/pods/imageless")
    until(lambda: space.is_gone("imageless"))


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"nodeSelector": {"color": "blue"}}, "node affinity"),
        ({"resources": {"requests": {"memory": "65Gi"}}}, "Insufficient memory"),
        ({"resources": {"limits": {"example.com/gpu": "1"}}}, "Insufficient example.com/gpu"),
    ],
)
def test_a_pod_that_fits_nowhere_says_so(space: Space, more: dict[str, Any], why: str) -> None:
    space.pod("misfit", "echo never", **more)
    conditions = until(lambda: space.status("misfit").get("conditions"))
    (condition,) = (each for each in conditions if each["type"] == "PodScheduled")
    assert (condition["status"], condition["reason"]) == ("False", "Unschedulable")
    assert why in condition["message"]
    assert space.status("misfit")["phase"] == "Pending"


def test_a_stranger_may_do_nothing(space: Space) -> None:
    user = yaml.safe_load(space.cluster.kubeconfig_of_nobody.read_text())["users"][0]["user"]
    headers = {"Authorization": f"Bearer {user['token']}"}
    with requests.Session() as session:
        session.trust_env = False
        url = f"{space.cluster.server}{space.path}/pods"
        answer = session.get(url, headers=headers, verify=str(space.cluster.ca_file), timeout=30)
    assert (answer.status_code, answer.json()["reason"]) == (403, "Forbidden")


def test_no_process_of_a_pod_outlives_a_killed_kubelet(programs: None, tmp_path: Path) -> None:
    with Cluster() as cluster:
        space = Space(cluster)
        paths = [tmp_path / "one", tmp_path / "two"]
        for path in paths:
            space.pod(path.name, f"(trap '' TERM HUP; touch {path}; setsid sleep 1000) & wait")
        until(lambda: all(path.exists() for path in paths))
        assert len(marked(cluster.mark)) >= 4
        os.kill(cluster.pid("kubelet"), signal.SIGKILL)
        until(lambda: not marked(cluster.mark))
    assert not cluster.folder.exists()


def test_a_part_that_does_not_start_is_named_and_nothing_is_left(
    programs: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("kube-apiserver", "etcd"):
        if (own := binaries() / name).exists():
            (tmp_path / name).symlink_to(own)
    manager = tmp_path / "kube-controller-manager"
    manager.write_text("#!/bin/sh\necho no thanks\nexit 4\n")
    manager.chmod(0o755)
    monkeypatch.setenv(BINARIES, str(tmp_path))
    cluster = Cluster()
    with pytest.raises(NotStarted, match="kube-controller-manager has ended with 4:\nno thanks"), cluster:
        raise AssertionError("it has started")
    assert not cluster.folder.exists()
