"""The example of a fleet on this machine runs as it stands, and each job ends as its comment says."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from checkout import ROOT
from local_service import kill_runs
from project import Project

ENDS = {
    "backfill-2024": "not there",
    "caption-trailer": "failed",
    "fetch-frames": "complete",
    "live-preview": "active",
    "nightly-loudness": "complete",
    "nightly-report": "complete",
    "old-report": "not there",
    "package": "complete",
    "reindex-archive": "not there",
    "render-credits": "failed",
    "transcode-high": "complete",
    "transcode-low": "complete",
}


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    shutil.copy(ROOT / "examples" / "jobs.yaml", tmp_path / "jobs.yaml")
    yield Project(tmp_path)
    kill_runs((tmp_path / "jobs.local" / "jobs").glob("*/*"))


def test_the_fleet_of_the_example_runs_as_it_stands(project: Project) -> None:
    applied = project.run("apply", "--yes", "--wait", "120")
    assert (applied.code, "9 succeeded" in applied.out) == (0, True), applied
    ending = [name for name, end in ENDS.items() if end in ("complete", "failed")]
    assert project.run("wait", *ending, "--timeout", "120").code == 3
    rows = project.run("status", "--format", "json").json["jobs"]
    assert {row["job"]: row["observed"] for row in rows} == ENDS
    assert "ends before it begins" in project.run("logs", "caption-trailer").out
    loudness = next(row for row in rows if row["job"] == "nightly-loudness")
    assert loudness["execution"]["attempts"] == 2
