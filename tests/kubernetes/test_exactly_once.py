"""A sample of the campaign that breaks what starts Jobs, and whether its judge notices what must not be."""

from pathlib import Path

import pytest

from kubernetes.cluster import Cluster
from kubernetes_record import Record
from kubernetes_torture import KINDS, torture

ROUNDS = 3


@pytest.mark.parametrize("kind", KINDS)
def test_whatever_is_broken_no_run_is_executed_twice_and_none_is_lost(
    cluster: Cluster, tmp_path: Path, kind: str
) -> None:
    found = torture(cluster, tmp_path, kind, ROUNDS, "a sample")
    assert sum(found.values()) == ROUNDS


def test_the_judge_notices_a_run_that_was_created_twice(cluster: Cluster, tmp_path: Path) -> None:
    with Record(cluster, tmp_path) as record:
        path = f"/apis/batch/v1/namespaces/{record.namespace}/jobs"
        _create(cluster, path, "a-1", record.script("a"))
        record.judge(["a-1"])
        with pytest.raises(AssertionError):
            record.judge(["a-1", "a-2"])
        record.wait_for_idle()
        assert cluster.request("DELETE", f"{path}/a-1", {"propagationPolicy": "Background"})[0] == 200
        _create(cluster, path, "a-1", "true")
        with pytest.raises(AssertionError):
            record.judge(["a-1"])


def test_the_judge_notices_a_run_that_was_executed_twice_and_one_that_was_not(cluster: Cluster, tmp_path: Path) -> None:
    with Record(cluster, tmp_path) as record:
        path = f"/apis/batch/v1/namespaces/{record.namespace}/jobs"
        _create(cluster, path, "a-1", f"{record.script('a')}; {record.script('a')}")
        _create(cluster, path, "b-1", "true")
        for run in ("a-1", "b-1"):
            with pytest.raises(AssertionError):
                record.judge([run])


def _create(cluster: Cluster, path: str, name: str, script: str) -> None:
    container = {"name": "main", "image": "i", "command": ["/bin/sh", "-c", script]}
    template = {"spec": {"restartPolicy": "Never", "containers": [container]}}
    spec = {"backoffLimit": 0, "template": template}
    code, answer = cluster.request("POST", path, {"metadata": {"name": name}, "spec": spec})
    assert code == 201, answer
