"""An apply is killed at each point around the calls of an engine with an atomic guard. Each asked run runs once.

The apply runs in a child process, which ends at once at its n-th step: before or after the harmless work, before or
after a call. Later applies are honest, or lose answers.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

import cluster_plugin
from cluster_world import CREATED, ClusterWorld, cluster_world
from reconciler.engines.port import Engine, Promises, Result, Step, always
from reconciler.engines.sandbox.cluster import ATOMIC, ClusterEngine, Lost
from reconciler.model.errors import ExitCode
from reconciler.model.jobs import Desired, Job, Status

A = Job("a", "a", Desired.RUNNING, {"text": "x"})
_MOST_STEPS = 20
_KILLED, _ENDED = 9, 0


class Scenario(NamedTuple):
    """`prepare` brings the world to its start, `asked` is the manifest then, and `runs` are the runs in the end."""

    prepare: Callable[[ClusterWorld], None]
    asked: Job
    runs: Mapping[str, Status]
    promises: Promises = CREATED
    lost: str = ""


def _nothing(world: ClusterWorld) -> None:
    world.declare(A)


def _running(world: ClusterWorld) -> None:
    world.declare(A)
    world.apply()


def _complete(world: ClusterWorld) -> None:
    _running(world)
    world.cluster.end("a")


def _in_doubt(world: ClusterWorld) -> None:
    """The first run was sent and carried out, and the program died before its answer."""
    world.declare(A)
    assert killed_at(world, "after send", 1)


FIRST = {"a-1": Status.ACTIVE}
SCENARIOS: Mapping[str, Scenario] = {
    "first run": Scenario(_nothing, A, FIRST),
    "first run whose answer is lost": Scenario(_nothing, A, FIRST, lost=Lost.AFTER.value),
    "first run whose request is lost": Scenario(_nothing, A, FIRST, lost=Lost.BEFORE.value),
    "first run without reads": Scenario(_nothing, A, FIRST, CREATED._replace(reads=False)),
    "first run of an engine that forgets": Scenario(_nothing, A, FIRST, CREATED._replace(keeps_ended_s=3600.0)),
    "first run that creates the job": Scenario(_nothing, A, FIRST, ATOMIC),
    "first run that creates the job, with a lost answer": Scenario(_nothing, A, FIRST, ATOMIC, Lost.AFTER.value),
    "restart of a job that its run creates": Scenario(
        _running, A._replace(config={"text": "new"}), {"a-1": Status.ABORTED, "a-2": Status.ACTIVE}, ATOMIC
    ),
    "restart": Scenario(_running, A._replace(config={"text": "new"}), {"a-1": Status.ABORTED, "a-2": Status.ACTIVE}),
    "new token": Scenario(_complete, A._replace(run_token="t"), {"a-1": Status.COMPLETE, "a-2": Status.ACTIVE}),
    "recovery": Scenario(_in_doubt, A, FIRST),
}


@pytest.fixture
def world_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Scenario, int], ClusterWorld]]:
    """Return a function that makes a world for a scenario; each number makes another one."""
    opened = []

    def made(scenario: Scenario, number: int) -> ClusterWorld:
        folder = tmp_path / str(number)
        folder.mkdir()
        opening = cluster_world(folder, monkeypatch, scenario.promises, stages=True)
        opened.append(opening)
        world = opening.__enter__()
        if not scenario.promises.creates_on_run:
            world.cluster.create("a")
        scenario.prepare(world)
        world.declare(scenario.asked)
        return world

    yield made
    for opening in opened:
        opening.__exit__(None, None, None)


def killed_at(world: ClusterWorld, point: str, number: int) -> bool:
    """Apply in a child that ends at once at the n-th time that it comes to a point. Returns whether it came there."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            cluster_plugin.ClusterPlugin.engine_class = _killing(point, number)
            world.apply()
            code = _ENDED
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    assert code in (_KILLED, _ENDED), f"the apply that was to be killed ended with {code}"
    return code == _KILLED


def _killing(point: str, number: int) -> type[ClusterEngine]:
    left = number

    def come_to(here: str) -> None:
        nonlocal left
        left -= here == point
        if here == point and not left:
            os._exit(_KILLED)

    class Killing(ClusterEngine):
        """Ends the process at one point."""

        def stage(self, step: Step) -> str:
            come_to("before stage")
            handle = super().stage(step)
            come_to("after stage")
            return handle

        def send(self, step: Step, may_be_sent: Callable[[], bool] = always) -> Result:
            come_to("before send")
            result = super().send(step, may_be_sent)
            come_to("after send")
            return result

    assert issubclass(Killing, ClusterEngine)
    _: type[Engine] = Killing
    return Killing


@pytest.mark.parametrize("point", ["before stage", "after stage", "before send", "after send"])
@pytest.mark.parametrize("name", SCENARIOS)
def test_each_asked_run_runs_once_wherever_an_apply_is_killed(
    name: str, point: str, world_of: Callable[[Scenario, int], ClusterWorld]
) -> None:
    scenario = SCENARIOS[name]
    for number in range(1, _MOST_STEPS):
        world = world_of(scenario, number)
        if scenario.lost:
            world.block["lost"] = scenario.lost
        was_killed = killed_at(world, point, number)
        world.block.pop("lost", None)
        ends = [world.apply(settle_s=0.0).exit_code for _ in range(3)]
        assert ends[-1] is ExitCode.DONE, (number, ends, world.state)
        found = {run.run_id: run.status for run in world.cluster.runs()}
        assert found == scenario.runs, (number, world.state)
        assert len(world.cluster.runs()) == len(found), f"a run id ran twice: {world.cluster.runs()}"
        assert world.state.last == {"a": len(found)}
        assert world.state.jobs["a"].doubt is None
        if not was_killed:
            return
    pytest.fail(f"{name} has more than {_MOST_STEPS} steps")
