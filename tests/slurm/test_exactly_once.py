"""A sample of the campaign that breaks what starts jobs, and whether its judge notices what must not be."""

from pathlib import Path

import pytest

from reconciler.engines.port import Marks
from reconciler.engines.slurm.marks import Mark
from slurm.cluster import Accounting, Cluster
from slurm.conftest import NewCluster
from slurm_record import Record
from slurm_torture import KINDS, torture

ROUNDS = 3


@pytest.mark.parametrize("kind", KINDS)
def test_whatever_is_broken_no_run_is_executed_twice_and_none_is_lost(
    programs: None, tmp_path: Path, kind: str
) -> None:
    found = torture(tmp_path, kind, ROUNDS, "a sample")
    assert sum(found.values()) == ROUNDS


@pytest.mark.parametrize("kind", ["killed", "older", "gone"])
def test_the_same_with_accounting(accounting: Accounting, tmp_path: Path, kind: str) -> None:
    found = torture(tmp_path, kind, 1, "another sample", accounting)
    assert sum(found.values()) == 1


def test_the_judge_notices_a_run_that_was_released_twice(new_cluster: NewCluster, tmp_path: Path) -> None:
    cluster = new_cluster()
    record = Record(cluster, tmp_path)
    _run(cluster, "a-1", record.script)
    record.judge(["a-1"])
    with pytest.raises(AssertionError):
        record.judge(["a-1", "a-2"])
    _run(cluster, "a-1", "true")
    with pytest.raises(AssertionError):
        record.judge(["a-1"])


def test_the_judge_notices_a_run_that_was_executed_twice_and_one_that_was_not(
    new_cluster: NewCluster, tmp_path: Path
) -> None:
    cluster = new_cluster()
    record = Record(cluster, tmp_path)
    _run(cluster, "a-1", f"{record.script}; {record.script}")
    _run(cluster, "b-1", "true")
    for run in ("a-1", "b-1"):
        with pytest.raises(AssertionError):
            record.judge([run])


def _run(cluster: Cluster, run_id: str, script: str) -> None:
    mark = Mark(run_id.rpartition("-")[0], run_id, Marks("lineage", "op"), "2026-01-02T03:04:05Z")
    cluster.command(
        "sbatch", f"--job-name={run_id}", f"--comment={mark.comment}", "--output=/dev/null", f"--wrap={script}"
    )
