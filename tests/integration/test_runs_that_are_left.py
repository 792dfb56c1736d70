"""A job whose last run the engine has forgotten, while it still knows an earlier one."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster_project import ClusterProject, cluster_project
from reconciler.engines.sandbox.cluster import ATOMIC
from reconciler.model.jobs import Marks, Status

MIGRATE = "migrate: {state: running, onConfigChange: rerun, config: {text: TEXT}}"
AFTER = "deploy: {state: running, after: [migrate]}"


@pytest.fixture
def project(tmp_path: Path) -> Iterator[ClusterProject]:
    """The first run has completed, and the second one is active."""
    with cluster_project(tmp_path, ATOMIC) as made:
        for text in ("one", "two"):
            made.cluster.end("migrate")
            made.write(MIGRATE.replace("TEXT", text))
            assert made.run("apply", "--yes").code == 0
        yield made


def run_ids(project: ClusterProject) -> list[str]:
    return [run.run_id for run in project.cluster.runs()]


def test_a_last_run_that_failed_and_was_forgotten_is_what_counts(project: ClusterProject) -> None:
    project.cluster.end("migrate", Status.FAILED)
    assert project.run("wait", "migrate").code == 3
    project.cluster.forget("migrate", "uid-2")
    waited = project.run("wait", "migrate")
    assert (waited.code, "migrate-1" in waited.out) == (3, False)
    assert "migrate-1" not in project.run("drift").out
    project.write(f"{MIGRATE.replace('TEXT', 'two')}\n{AFTER}")
    applied = project.run("apply", "--yes")
    assert "migrate" in applied.out
    assert run_ids(project) == ["migrate-1", "migrate-2"]
    project.write(MIGRATE.replace("TEXT", "three"))
    assert project.run("apply", "--yes").code == 0
    assert run_ids(project) == ["migrate-1", "migrate-2", "migrate-3"]


def test_a_last_run_that_was_deleted_while_it_was_active_is_held_and_named(project: ClusterProject) -> None:
    project.cluster.forget("migrate", "uid-2")
    assert project.run("wait", "migrate").code == 3
    applied = project.run("apply", "--yes")
    assert (applied.code, "hold" in applied.out) == (4, True)
    assert project.run("drift").code == 2
    assert run_ids(project) == ["migrate-1", "migrate-2"]


def test_a_last_run_that_completed_and_was_forgotten_is_no_difference(project: ClusterProject) -> None:
    project.cluster.end("migrate")
    assert project.run("wait", "migrate").code == 0
    project.cluster.forget("migrate", "uid-2")
    assert [project.run(word).code for word in ("wait", "drift")] == [0, 0]
    assert project.run("plan", "--refresh").out == "No changes: 1 job is as recorded.\n"


def test_status_says_that_the_run_it_shows_is_a_later_one(project: ClusterProject) -> None:
    marks = Marks(lineage=project.state["lineage"], op="of another machine")
    project.cluster.start("migrate", "migrate-9", marks, {"text": "two"})
    assert "the observed run is migrate-9" in project.run("status").out
