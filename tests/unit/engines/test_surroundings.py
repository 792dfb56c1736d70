"""What a command tells an engine on opening it, and what a plugin tells a person before a plan is applied."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster_plugin import PLUGIN
from cluster_world import ClusterWorld, cluster_world
from reconciler.engines.port import Surroundings
from reconciler.model.jobs import Desired, Job
from reconciler.usecases.drift import drift
from reconciler.usecases.selection import Selection
from reconciler.usecases.status import status

A = Job("a", "a", Desired.RUNNING, {"text": "x"})
FRAGILE = Job("b", "b", Desired.RUNNING, {"text": "drain"})


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ClusterWorld]:
    with cluster_world(tmp_path, monkeypatch) as made:
        made.cluster.create("a", "b")
        made.declare(A)
        PLUGIN.opened_with.clear()
        yield made


def opened_with() -> Surroundings:
    """Return what the only engine was opened with that a command has opened."""
    (found,) = PLUGIN.opened_with
    PLUGIN.opened_with.clear()
    return found


def test_an_apply_opens_the_engine_to_change_and_other_commands_open_it_to_read(world: ClusterWorld) -> None:
    world.apply()
    assert opened_with().may_change
    world.plan(refresh=True)
    assert not opened_with().may_change
    drift(world.workspace, Selection())
    assert not opened_with().may_change
    status(world.workspace)
    assert not opened_with().may_change


def test_an_engine_knows_whether_the_state_is_a_file_on_this_machine(world: ClusterWorld) -> None:
    world.apply()
    assert opened_with().state_is_file
    subprocess.run(["git", "init", "-q", "--bare", world.folder / "remote.git"], check=True)
    world.state_url = f"git+file://{world.folder}/remote.git#states:jobs.state.json"
    world.plan(refresh=True)
    found = opened_with()
    assert not found.state_is_file
    assert found.beside_state == str(world.folder / "jobs")


def test_a_plan_shows_what_the_engine_says_of_the_jobs_that_it_runs(world: ClusterWorld) -> None:
    world.declare(A, FRAGILE)
    plan = world.plan()
    assert plan.warnings == ("b ends with its machine",)
    assert world.apply().plan.warnings == plan.warnings
    assert world.plan().warnings == (), "nothing is run, so that there is nothing to know"
