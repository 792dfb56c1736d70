"""Limits of a run: what a control group of the kernel holds, what a process is held to, and what nothing holds."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from local_runs import end_all, engine_at, is_alive, over, step_of
from reconciler.engines.local.limits import ControlGroup, Limits, group_for, parent_of, unheld
from reconciler.engines.local.plugin import PLUGIN
from reconciler.engines.port import AnswerClass, Status, Verb
from reconciler.model.jobs import Desired, Job
from waits import until

BOTH = Limits(memory_bytes=512 << 20, cores=1.5)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    end_all(tmp_path)


def tree(folder: Path, enabled: str) -> Path:
    """A folder with the files of a group that this user may write to."""
    folder.mkdir()
    (folder / "cgroup.procs").touch()
    (folder / "cgroup.subtree_control").write_text(enabled)
    return folder


def writable_group() -> str:
    """The folder of a group of this machine in which groups without limits can be made; "" if there is none."""
    return parent_of(frozenset())


def test_a_group_has_the_limits_of_its_run(tmp_path: Path) -> None:
    home = tree(tmp_path / "home", "cpu memory pids\n")
    group = group_for(BOTH, "reconciler-a-1", iter([str(home)]))
    assert group is not None
    made = home / "reconciler-a-1"
    written = {path.name: path.read_text() for path in made.iterdir()}
    assert written == {
        "cpu.max": "150000 100000",
        "memory.max": "536870912",
        "memory.oom.group": "1",
        "memory.swap.max": "0",
    }


def test_the_nearest_group_is_taken_that_has_what_the_limits_need(tmp_path: Path) -> None:
    inner, outer = tree(tmp_path / "inner", "pids\n"), tree(tmp_path / "outer", "cpu memory\n")
    homes = [str(inner), str(outer)]
    assert parent_of(BOTH.controllers, iter(homes)) == str(outer)
    assert parent_of(frozenset({"pids"}), iter(homes)) == str(inner)
    assert parent_of(frozenset({"io"}), iter(homes)) == ""
    assert group_for(Limits(), "reconciler-a-1", iter(homes)) is None


def test_what_nothing_holds_is_named(tmp_path: Path) -> None:
    home = tree(tmp_path / "home", "cpu memory\n")
    assert unheld(BOTH, iter([str(home)])) == []
    assert unheld(BOTH, iter([])) == (["cpu"] if sys.platform.startswith("linux") else ["cpu", "memory"])
    assert unheld(Limits(), iter([])) == []


def test_what_a_group_tells_of_its_run(tmp_path: Path) -> None:
    (tmp_path / "memory.events").write_text("low 0\nhigh 0\nmax 12\noom 2\noom_kill 1\noom_group_kill 1\n")
    (tmp_path / "memory.peak").write_text("536870912\n")
    (tmp_path / "cpu.stat").write_text("usage_usec 2500000\nuser_usec 2000000\nsystem_usec 500000\n")
    group = ControlGroup(str(tmp_path))
    assert (group.memory_kills, group.max_memory_bytes, group.cpu_s) == (1, 536870912, 2.5)
    without = ControlGroup(str(tmp_path / "none"))
    assert (without.memory_kills, without.max_memory_bytes, without.cpu_s) == (0, None, None)


@pytest.mark.skipif(not writable_group(), reason="no control group of version 2 can be made here")
def test_a_group_of_the_kernel_is_entered_counted_killed_and_removed() -> None:
    path = f"{writable_group()}/reconciler-test-{os.getpid()}"
    os.mkdir(path)
    group = ControlGroup(path)
    script = "setsid sleep 1000 & i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; echo $!; sleep 1000"
    try:
        with subprocess.Popen(["sh", "-c", script], preexec_fn=group.enter, stdout=subprocess.PIPE) as program:  # noqa: PLW1509
            assert program.stdout is not None
            left = int(program.stdout.readline())
            assert str(left) in Path(path, "cgroup.procs").read_text().split()
            group.kill()
            if not Path(path, "cgroup.kill").exists():  # before Linux 5.14
                program.kill()
                os.kill(left, 9)
        until(lambda: not is_alive(left))
        assert group.cpu_s is not None
        assert group.cpu_s > 0
    finally:
        group.remove()
    assert not os.path.exists(path)


def test_a_plan_says_which_limits_nothing_holds() -> None:
    def told(*resources: Mapping[str, Any]) -> list[str]:
        jobs = [
            Job(f"job{number}", f"job{number}", Desired.RUNNING, {"command": ["true"], "resources": dict(each)})
            for number, each in enumerate(resources)
        ]
        return list(PLUGIN.warnings(PLUGIN.target({}, "/"), jobs))

    assert told({"gpu": 1}, {"gpu": 0}, {}) == ["resources.gpu is not held on this machine: job0"]
    assert told(*[{"gpu": 1}] * 7)[0].endswith(": job0, job1, job2, job3, job4 and 2 more")
    if not parent_of(frozenset({"cpu"})):
        assert told({"cpu": 1}) == ["resources.cpu is not held on this machine: job0"]


def test_it_is_known_how_a_run_was_executed(folder: Path) -> None:
    busy = "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done; sleep 0.2; exit 3"
    with engine_at(folder) as engine:
        for run_id, config in (
            ("a-1", {"script": busy, "retry": {"times": 1}}),
            ("b-1", {"script": "kill -SEGV $$"}),
            ("c-1", {"command": ["sleep", "1000"], "jobTimeout": 1}),
            ("d-1", {"command": ["sleep", "1000"]}),
        ):
            engine.send(step_of(run_id, config))
        until(lambda: engine.observe("d", "d-1").word == "running")
        running = engine.observe("d", "d-1").execution
        assert running.node == os.uname().nodename
        assert is_alive(running.pid)
        assert running.started_at
        assert running.ended_at == ""
        engine.send(step_of("d-1", verb=Verb.ABORT))
        a, b, c, d = (over(engine, f"{name}-1").execution for name in "abcd")
    assert (a.exit_code, a.signal, a.reason, a.attempts, a.pid) == (3, "", "", 2, 0)
    assert a.took_s is not None
    assert a.took_s >= 0.4
    # The run has begun with its first attempt.
    assert datetime.fromisoformat(a.ended_at) - datetime.fromisoformat(a.started_at) >= timedelta(seconds=0.4)
    assert a.cpu_s is not None
    assert 0 < a.cpu_s < 60
    assert a.max_memory_bytes is not None
    assert a.max_memory_bytes > 100_000
    assert a.started_at < a.ended_at
    assert (b.exit_code, b.signal, b.reason) == (None, "SIGSEGV", "")
    assert (c.signal, c.reason) == ("SIGTERM", "jobTimeout")
    assert (d.signal, d.reason) == ("SIGTERM", "aborted")


def test_a_run_that_fits_its_limits_completes(folder: Path) -> None:
    began_s = time.monotonic()
    with engine_at(folder) as engine:
        config = {"command": ["true"], "resources": {"cpu": 1, "memory": "256MiB"}}
        assert engine.send(step_of("a-1", config)).kind is AnswerClass.APPLIED
        assert over(engine, "a-1").status is Status.COMPLETE
    assert time.monotonic() - began_s < 30
