"""Machines that stand still: suspended, or a virtual machine that is paused. The right to send runs out meanwhile."""

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

import directory_home
from git_crash import git
from in_process import TARGET
from reconciler.host import clocks
from reconciler.host.clocks import Clocks, Instant
from reconciler.model.jobs import Desired, Doubt, Record, Verb
from reconciler.state import lease
from reconciler.state.journal import Overtaken
from reconciler.state.port import StatePlugin, Surroundings
from reconciler.state.registry import plugin_of
from reconciler.state.session import Session


class Machine:
    """One machine with clocks that a test sets. They stand still, but for what it waits.

    With each wait the wall clock goes ahead by `ahead_s`.
    """

    def __init__(self, folder: Path, remote: "Place") -> None:
        self.boot_s = 1000.0
        self.wall_s = 1_800_000_000.0
        self.ahead_s = self.waited_s = 0.0
        folder.mkdir()
        around = Surroundings(
            env={"PATH": os.environ["PATH"], "HOME": str(folder)},
            folder=str(folder),
            checkout=str(folder),
            marks_folder=str(folder / "marks"),
            cache_folder=str(folder / "cache"),
            user=folder.name,
            person=lambda: "ada <a@b.c>",
            now=lambda: "now",
            new_id=lambda: f"lineage-{folder.name}",
            wait=self.wait,
            tell=lambda _: None,
            clocks=Clocks(lambda: self.boot_s, lambda: self.wall_s),
        )
        self.store = remote.plugin.open(remote.url, around)

    def wait(self, seconds: float) -> bool:
        self.boot_s += seconds
        self.wall_s += seconds + self.ahead_s
        self.waited_s += seconds
        return False

    @contextmanager
    def opened(self) -> Iterator[Session]:
        with self.store.open(TARGET, "apply", 0) as session:
            yield session


class Place(NamedTuple):
    """A place that machines share, and a function that counts what was published there."""

    plugin: StatePlugin
    url: str
    publishes: Callable[[], int]


@pytest.fixture(params=["git", "directory"])
def remote(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    folder = tmp_path / "remote.git"
    if request.param == "directory":
        return Place(directory_home.PLUGIN, f"dir://{folder}", lambda: len(list(folder.glob("*.json"))))
    subprocess.run(["git", "init", "-q", "--bare", str(folder)], check=True, timeout=60)

    def publishes() -> int:
        return int(git(folder, "rev-list", "--count", "state").decode() or 0)

    return Place(plugin_of("git+"), f"git+file://{folder}#state", publishes)


def doubt(op: str) -> Doubt:
    return Doubt(op, Verb.RUN, {}, None, None, "now", "")


def run(session: Session, name: str) -> None:
    session.begin(1)
    session.intend(name, name, doubt(name))
    assert session.assure()
    session.conclude(name, name, Record(name, Desired.RUNNING), "ok")
    session.end()


STANDSTILLS = ["suspended", "paused"]


def stand_still(machine: Machine, how: str, seconds: float) -> None:
    """The boot clock of a suspended machine goes on, that of a paused one does not; its wall clock is set anew."""
    machine.wall_s += seconds
    if how == "suspended":
        machine.boot_s += seconds


@pytest.mark.parametrize("how", STANDSTILLS)
def test_a_machine_that_stood_still_asks_the_remote_before_it_sends(tmp_path: Path, remote: Place, how: str) -> None:
    machine = Machine(tmp_path / "one", remote)
    with machine.opened() as session:
        session.begin(1)
        session.intend("a", "a", doubt("a"))
        before = remote.publishes()
        assert session.assure()
        assert remote.publishes() == before, "a fresh publish is asked for again"
        stand_still(machine, how, lease.SEND_WITHIN_S + 1)
        assert session.assure()
        assert remote.publishes() == before + 1
        session.conclude("a", "a", Record("a", Desired.RUNNING), "ok")
        session.end()


@pytest.mark.parametrize("how", STANDSTILLS)
def test_a_machine_that_stood_still_sends_nothing_once_another_took_over(
    tmp_path: Path, remote: Place, how: str
) -> None:
    still, other = Machine(tmp_path / "still", remote), Machine(tmp_path / "other", remote)
    with pytest.raises(Overtaken), still.opened() as session:
        session.begin(1)
        session.intend("a", "a", doubt("a"))
        assert session.assure()
        # It waits for an answer now, and stands still; its intent is on the branch, and its lock is not renewed.
        with other.opened() as taken:
            assert taken.state.jobs["a"].doubt is not None
            taken.conclude("a", "a", None, "it left no trace")
            run(taken, "a")
        stand_still(still, how, 10 * lease.TAKE_OVER_AFTER_S)
        session.assure()


def test_a_wall_clock_that_is_set_ahead_takes_nothing_over(tmp_path: Path, remote: Place) -> None:
    """Who waits for another command goes by the clock that never runs ahead of real time."""
    busy, other = Machine(tmp_path / "busy", remote), Machine(tmp_path / "other", remote)
    other.ahead_s = 3600.0
    with pytest.raises(Overtaken), busy.opened() as session:
        session.begin(1)
        session.intend("a", "a", doubt("a"))
        with other.opened() as taken:
            assert other.waited_s >= lease.TAKE_OVER_AFTER_S - 1
            run(taken, "b")


@pytest.mark.skipif(not hasattr(time, "CLOCK_BOOTTIME"), reason="Linux has this clock")
def test_the_boot_clock_counts_suspension() -> None:
    assert abs(clocks.boot_s() - time.clock_gettime(time.CLOCK_BOOTTIME)) < 5


@pytest.mark.parametrize(
    ("boot_s", "wall_s", "longest_s"), [(0.0, 0.0, 0.0), (31.0, 0.0, 31.0), (1.0, 600.0, 600.0), (5.0, -3600.0, 5.0)]
)
def test_the_clock_that_moved_further_counts(boot_s: float, wall_s: float, longest_s: float) -> None:
    assert Clocks(lambda: 100.0 + boot_s, lambda: 1e9 + wall_s).longest_since(Instant(100.0, 1e9)) == longest_s
