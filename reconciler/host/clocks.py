"""Clocks that also tell the time for which this machine stood still.

`time.monotonic` does not count the time for which a machine is suspended. A right that lasts for a minute, such as
that of a command to send calls, would then seem to last for hours. Two clocks tell:

    boot    counts suspension, and never goes back: CLOCK_BOOTTIME on Linux, CLOCK_MONOTONIC on macOS (whose
            `time.monotonic` reads mach_absolute_time, which does not count it)
    wall    the time of day. Where a virtual machine is paused, its boot clock stands still. The wall clock jumps
            once the host or a time server has set it again.
"""

import time
from collections.abc import Callable
from typing import NamedTuple

_COUNTS_SUSPENSION = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def boot_s() -> float:
    """Seconds since some moment in the past, suspension included."""
    return time.clock_gettime(_COUNTS_SUSPENSION)


class Instant(NamedTuple):
    """One moment on both clocks, in seconds."""

    boot_s: float
    wall_s: float


class Clocks(NamedTuple):
    """The two clocks of a machine.

    Wait by the boot clock: it never runs ahead of real time. Judge by `longest_since` how old a right may be.
    """

    boot_s: Callable[[], float] = boot_s
    wall_s: Callable[[], float] = time.time

    def now(self) -> Instant:
        """This moment."""
        return Instant(self.boot_s(), self.wall_s())

    def longest_since(self, then: Instant) -> float:
        """How many seconds may have passed: what the clock that moved further says."""
        return max(self.boot_s() - then.boot_s, self.wall_s() - then.wall_s)
