"""Aborts that take long to show: the run that was aborted is never taken for the run that is asked for."""

import signal
import time
from pathlib import Path

import pytest

from model_how import HONEST, Ended, How, SteppedFlag
from model_world import ModelWorld
from project import done, served_project
from reconciler.model.errors import ExitCode
from reconciler.model.jobs import Desired, Job, Verb
from reconciler.model.plan import ActionKind

DRAIN = How(faults=("abort:drain:seconds=100",))
"""Longer than an apply waits for an abort to show."""


def running(token: str | None = None, **config: int) -> Job:
    return Job("a", "1", Desired.RUNNING, config, token)


def aborted() -> Job:
    return Job("a", "1", Desired.ABORTED, {})


def absent() -> Job:
    return Job("a", "1", Desired.ABSENT, {})


def world_with_a_run(*, reads: bool = True) -> ModelWorld:
    world = ModelWorld(create_missing=True, reads=reads, job_seconds=5000)
    apply(world, running())
    return world


def apply(world: ModelWorld, job: Job, how: How = HONEST) -> Ended:
    world.declare({job.name: job})
    return world.apply(how)


def executions(world: ModelWorld) -> list[Verb]:
    return [one.execution.verb for one in world.database.done]


def rests(world: ModelWorld) -> bool:
    return world.apply().changing == () and world.plan(refresh=True).actions[0].kind is ActionKind.NOOP


@pytest.mark.parametrize("config", [{}, {"taskTimeout": 60}])
def test_a_restart_whose_drain_outlasts_the_wait_runs_once_the_old_run_is_over(config: dict[str, int]) -> None:
    world = world_with_a_run()
    ended = apply(world, running("again", **config), DRAIN)
    assert ended.exit_code is ExitCode.FAILED
    assert "apply again once it has ended" in ended.outcomes[0].error
    assert executions(world) == [Verb.RUN, Verb.ABORT]
    again = world.apply()
    assert again.exit_code is ExitCode.DONE
    assert executions(world) == [Verb.RUN, Verb.ABORT, Verb.RUN]
    assert rests(world)


def test_an_apply_beside_a_drain_that_does_not_end_sends_nothing_and_says_so_each_time() -> None:
    world = world_with_a_run()
    apply(world, running("again"), How(faults=("abort:drain:seconds=1000",)))
    for _ in range(3):
        ended = world.apply()
        assert (ended.exit_code, ended.changing) == (ExitCode.FAILED, ())
        assert "the job is still active (JOB_STATE_RUNNING) after the abort" in ended.outcomes[0].error
    world.forward(1000)
    assert world.apply().exit_code is ExitCode.DONE
    assert executions(world) == [Verb.RUN, Verb.ABORT, Verb.RUN]


def test_an_end_that_does_not_come_is_looked_for_in_pauses_that_grow_and_for_a_minute() -> None:
    world = world_with_a_run()
    pauses: list[float] = []

    def forward(seconds: float) -> None:
        assert seconds > 0
        pauses.append(seconds)
        world.forward(seconds)

    world.stop = SteppedFlag(forward)
    apply(world, running("again"), How(faults=("abort:drain:seconds=1000",)))
    assert pauses == sorted(pauses)
    assert pauses[0] < 1 < pauses[-1]
    assert 60 <= sum(pauses) < 65


@pytest.mark.parametrize("reads", [True, False])
def test_a_restart_that_is_killed_anywhere_within_a_drain_runs_the_job_once(reads: bool) -> None:
    """At each operation of disk and network the program is killed, and applied again within the drain and after it."""
    for crash_at in range(200):
        world = world_with_a_run(reads=reads)
        ended = apply(world, running("again"), DRAIN._replace(crash_at=crash_at))
        for _ in range(2):
            world.apply()
        world.forward(1000)
        for _ in range(3):
            last = world.apply()
        if last.exit_code is not ExitCode.IN_DOUBT:
            assert executions(world).count(Verb.RUN) == 2, f"killed at {crash_at}"
            assert last.exit_code is ExitCode.DONE
        else:
            assert not reads, f"killed at {crash_at}"
        if not ended.crashed:
            return
    raise AssertionError("it was killed each time")


def test_aborted_and_then_running_within_the_drain_is_a_new_run() -> None:
    world = world_with_a_run()
    assert apply(world, aborted(), DRAIN).exit_code is ExitCode.DONE
    ended = apply(world, running())
    assert ended.outcomes[0].done is ActionKind.RUN
    while ended.exit_code is ExitCode.FAILED:
        ended = world.apply()
    assert executions(world) == [Verb.RUN, Verb.ABORT, Verb.RUN]
    assert rests(world)


def test_a_delete_within_the_drain_waits_for_its_end() -> None:
    world = world_with_a_run()
    assert apply(world, absent(), DRAIN).exit_code is ExitCode.FAILED
    assert world.apply().exit_code is ExitCode.DONE
    assert executions(world) == [Verb.RUN, Verb.ABORT, Verb.DELETE]


def test_a_stop_while_waiting_for_the_drain_sends_nothing() -> None:
    world = world_with_a_run()
    apply(world, running("again"), DRAIN)
    stopped = world.apply(How(stop_at=3))
    assert stopped.changing == ()
    assert "interrupted" in stopped.outcomes[0].note
    world.apply()
    assert executions(world) == [Verb.RUN, Verb.ABORT, Verb.RUN]


def test_a_run_that_someone_else_began_after_the_abort_is_adopted_as_ever() -> None:
    world = world_with_a_run()
    assert apply(world, aborted()).exit_code is ExitCode.DONE
    assert world.act(Verb.RUN, "1") == 200
    ended = apply(world, running())
    assert (ended.outcomes[0].done, ended.changing) == (ActionKind.ADOPT, ())
    assert executions(world) == [Verb.RUN, Verb.ABORT, Verb.RUN]


def test_a_second_entry_for_the_old_run_is_not_taken_for_a_new_one() -> None:
    """The run after the abort is not done (503), and the service then tells one more time of the old run."""
    world = world_with_a_run()
    ended = apply(world, running("again"), How(faults=("run:503",)))
    assert ended.exit_code is ExitCode.IN_DOUBT
    ended = world.apply(How(faults=("read:extra-time",)))
    assert ended.exit_code is ExitCode.DONE
    assert executions(world) == [Verb.RUN, Verb.ABORT, Verb.RUN]


@pytest.mark.parametrize("time_format", ["seconds", "millis", "nanos", "offset", "lower"])
def test_a_rerun_is_not_held_because_a_time_is_written_in_another_way(time_format: str) -> None:
    world = world_with_a_run()
    assert world.record_of("1") is not None
    other = How(faults=(f"read:time-format:format={time_format}", f"list:time-format:format={time_format}"))
    before = world.disk.changes
    assert world.apply(other).changing == ()
    assert world.disk.changes == before
    ended = apply(world, running("again"), other)
    assert ended.exit_code is ExitCode.DONE
    assert executions(world) == [Verb.RUN, Verb.ABORT, Verb.RUN]


def test_a_restart_stopped_between_its_abort_and_its_run_runs_at_the_next_apply(tmp_path: Path) -> None:
    """Before, the next apply adopted the run that was ending: the token was spent, and nothing was run for it."""
    with served_project(tmp_path, "abort:drain:seconds=3") as project:
        project.write("a: {state: running}")
        assert project.run("apply", "--yes").code == 0
        project.write('a: {state: running, runToken: "2"}')
        apply = project.start("apply", "--yes")
        until_s = time.monotonic() + 30
        while ("abort", "a") not in done(project) and time.monotonic() < until_s:
            time.sleep(0.01)
        apply.send_signal(signal.SIGTERM)
        apply.communicate(timeout=30)
        assert apply.returncode in (3, 143)
        assert done(project) == [("run", "a"), ("abort", "a")]
        again = project.run("apply", "--yes")
        assert again.code == 0, again.out + again.err
        assert done(project) == [("run", "a"), ("abort", "a"), ("run", "a")]
        assert project.run("plan", "--detailed-exitcode").code == 0


def world_with_an_abort_in_doubt(wanted: Job) -> ModelWorld:
    """One in which an apply was killed once the service had taken its abort, which takes very long to show."""
    for crash_at in range(60):
        world = world_with_a_run()
        ended = apply(world, wanted, How(crash_at=crash_at, faults=("abort:drain:seconds=10000",)))
        doubt = world.state.jobs["a"].doubt
        if ended.crashed and doubt is not None and executions(world) == [Verb.RUN, Verb.ABORT]:
            return world
    pytest.fail("no crash leaves the abort in doubt")


@pytest.mark.parametrize("asked", [running("again"), running(taskTimeout=60), aborted(), absent()], ids=str)
def test_an_abort_in_doubt_that_is_not_asked_for_any_more_stays_in_doubt_while_the_run_goes_on(asked: Job) -> None:
    world = world_with_an_abort_in_doubt(asked)
    before = world.state.jobs["a"]
    ended = apply(world, running())
    assert ended.exit_code is ExitCode.IN_DOUBT
    assert not ended.changing
    assert world.state.jobs["a"] == before
    assert "reconciler resolve a" in ended.outcomes[-1].action.reason
    world.forward(10000)
    assert world.apply().exit_code is ExitCode.DONE
    assert executions(world).count(Verb.RUN) == 2
    assert rests(world)


@pytest.mark.parametrize("asked", [running("again"), running(taskTimeout=60)], ids=str)
def test_an_abort_in_doubt_that_is_still_asked_for_is_sent_again(asked: Job) -> None:
    world = world_with_an_abort_in_doubt(asked)
    ended = world.apply()
    assert "got no answer, and is sent again" in ended.outcomes[-1].action.reason
    assert world.state.jobs["a"].doubt is None
    world.forward(10000)
    assert world.apply().exit_code is ExitCode.DONE
    assert executions(world).count(Verb.RUN) == 2
    assert rests(world)
