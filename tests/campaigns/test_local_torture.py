"""A sample of the campaign that kills senders, spawners and supervisors of runs on this machine."""

import subprocess
from pathlib import Path

import pytest

from local_runs import engine_at
from local_service import kill_ours
from local_torture import KINDS, torture


def test_whoever_is_killed_no_run_is_executed_twice_and_none_is_lost(tmp_path: Path) -> None:
    found = torture(tmp_path, 5 * len(KINDS), "a sample")
    assert {kind for kind, *_ in found} == set(KINDS)


def test_the_campaign_kills_no_process_of_anybody_else(tmp_path: Path) -> None:
    with engine_at(tmp_path) as engine:
        engine.identity()
    for number in (-1, 0, 1):
        with pytest.raises(ValueError, match="is no process of a test"):
            kill_ours(number, tmp_path / "runs")
    with subprocess.Popen(["sleep", "1000"]) as other:
        assert not kill_ours(other.pid, tmp_path / "runs")
        assert other.poll() is None
        other.terminate()
