"""An import of all jobs of an engine, some of which another program owns."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster_project import ClusterProject, cluster_project
from reconciler.model.jobs import Marks


@pytest.fixture
def project(tmp_path: Path) -> Iterator[ClusterProject]:
    with cluster_project(tmp_path) as made:
        for name in ("mine", "theirs"):
            made.cluster.start(name, f"{name}-1", Marks(), {"text": name})
            made.cluster.end(name)
        made.owned = {"theirs": "Scheduler week"}
        made.write("{}")
        yield made


def test_what_another_program_owns_is_listed_with_its_owner_and_left_alone(project: ClusterProject) -> None:
    run = project.run("import", "--all")
    assert run.code == 0
    assert "Imported: 1 job into jobs.yaml." in run.out
    assert "owned theirs: Scheduler week owns it" in run.err
    assert "--include-owned" in run.err
    assert set(project.state["jobs"]) == {"mine"}
    again = project.run("import", "--all")
    said = "the service lists no job beside those that are declared already or have another owner"
    assert again.out == f"Nothing to import: {said}.\n"


def test_it_is_taken_over_where_a_person_says_so_and_the_next_plan_is_empty(project: ClusterProject) -> None:
    run = project.run("import", "--all", "--include-owned")
    assert run.code == 0
    assert "owned theirs" not in run.err
    assert "warning: Scheduler week owns theirs, and may remove it or make it again" in run.err
    assert project.run("plan", "--refresh").out == "No changes: 2 jobs are as recorded.\n"
    assert [run.run_id for run in project.cluster.runs()] == ["mine-1", "theirs-1"]


def test_a_job_that_is_named_is_taken_over_whoever_owns_it(project: ClusterProject) -> None:
    run = project.run("import", "theirs=theirs")
    assert run.code == 0
    assert "warning: Scheduler week owns theirs" in run.err
    refused = project.run("import", "theirs=theirs", "--include-owned")
    assert refused.code == 64
    assert "--include-owned picks from all jobs" in refused.err


def test_a_job_of_another_state_is_left_to_that_state(project: ClusterProject) -> None:
    project.cluster.start("fleet", "fleet-1", Marks(lineage="theirs", op="op-1"), {"text": "fleet"})
    run = project.run("import", "--all")
    assert "owned fleet: the state of lineage theirs owns it" in run.err
    assert set(project.state["jobs"]) == {"mine"}
    run = project.run("import", "fleet=fleet")
    assert run.code == 0
    assert "warning: the state of lineage theirs owns fleet" in run.err
