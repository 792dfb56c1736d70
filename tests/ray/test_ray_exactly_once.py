"""A sample of the campaign that breaks what submits jobs, and whether its judge notices what must not be."""

from pathlib import Path

import pytest

from ray.cluster import Cluster
from ray_record import Record
from ray_torture import KINDS, torture

ROUNDS = 2


@pytest.mark.parametrize("kind", KINDS)
def test_whatever_is_broken_no_run_is_executed_twice_and_none_is_lost(
    cluster: Cluster, tmp_path: Path, kind: str
) -> None:
    # A head takes no submission id a second time, so that a sample has names of its own.
    found = torture(cluster, tmp_path, kind, ROUNDS, "a sample")
    assert sum(found.values()) == ROUNDS


def test_the_judge_notices_a_run_that_was_executed_twice_and_one_that_was_not(cluster: Cluster, tmp_path: Path) -> None:
    record = Record(cluster, tmp_path)
    _submit(cluster, "judged-a-1", f"{record.script}; {record.script}")
    _submit(cluster, "judged-b-1", "true")
    _submit(cluster, "judged-c-1", record.script)
    record.judge(["judged-c-1"])
    for run in ("judged-a-1", "judged-b-1"):
        with pytest.raises(AssertionError):
            record.judge([run])
    record.judge(["judged-b-1"], may_be_lost=["judged-b-1"])
    with pytest.raises(AssertionError):
        record.judge(["judged-a-1"], may_be_lost=["judged-a-1"])


def _submit(cluster: Cluster, submission_id: str, script: str) -> None:
    status, answer = cluster.request("POST", "/api/jobs/", {"entrypoint": script, "submission_id": submission_id})
    assert status == 200, answer
