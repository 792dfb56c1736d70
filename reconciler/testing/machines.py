"""Machines for the tests of a home of state: folders, clocks and a name of their own, on one real machine."""

import os
import time
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from reconciler.host.clocks import Clocks, boot_s
from reconciler.state.port import Surroundings

SPEED = 10.0
"""How many times as fast as real time the clocks of the machines go, so that a lease of a minute takes 6 s."""


class Machine(NamedTuple):
    """One machine. It shares nothing with the others but the home of state.

    `folder` holds its marks and its cache. `speed` is how fast its clocks go. Its wall clock is `ahead_s` seconds ahead
    of the real time. On a machine that `leaps`, the boot clock leaps over each wait, so that a wait takes no time. Such
    a machine may follow a machine that is dead, but not one that may still act.
    """

    name: str
    folder: str
    speed: float = SPEED
    ahead_s: float = 0.0
    leaps: bool = False

    def surroundings(self, env: Mapping[str, str]) -> Surroundings:
        """Return what a store takes from this machine. The folders are made."""
        marks, cache = os.path.join(self.folder, "marks"), os.path.join(self.folder, "cache")
        for folder in (marks, cache):
            os.makedirs(folder, mode=0o700, exist_ok=True)
        clock = _Clock(self)
        return Surroundings(
            env=env,
            folder=self.folder,
            checkout=self.folder,
            marks_folder=marks,
            cache_folder=cache,
            user=f"{self.name}@{self.name} (process {os.getpid()})",
            person=lambda: self.name,
            now=clock.text,
            new_id=lambda: str(uuid.uuid4()),
            wait=clock.wait,
            tell=lambda text: None,
            clocks=Clocks(clock.boot_s, clock.wall_s),
        )


class _Clock:
    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._leapt_s = 0.0

    def boot_s(self) -> float:
        return boot_s() * self._machine.speed + self._leapt_s

    def wall_s(self) -> float:
        return time.time() * self._machine.speed + self._machine.ahead_s + self._leapt_s

    def text(self) -> str:
        moment = datetime.now(UTC) + timedelta(seconds=self._machine.ahead_s)
        return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")

    def wait(self, seconds: float) -> bool:
        real_s = seconds / self._machine.speed
        if self._machine.leaps:
            self._leapt_s += seconds
            real_s = min(real_s, 0.01)
        time.sleep(real_s)
        return False
