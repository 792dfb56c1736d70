"""Clocks that count the time during which this machine was suspended.

`time.monotonic` does not count that time. A lease of one minute, such as a command's right to send calls, would then
seem to last for hours. Two clocks are read instead:

    boot    counts suspension and never goes back: CLOCK_BOOTTIME on Linux, CLOCK_MONOTONIC on macOS (whose
            `time.monotonic` reads mach_absolute_time, which does not count suspension)
    wall    the time of day. The boot clock of a virtual machine stands still while the machine is paused. The wall
            clock jumps once the host or a time server has set it again.
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

    Use the boot clock to wait, since it never runs ahead of real time. Use `longest_since` for the age of a lease.
    """

    boot_s: Callable[[], float] = boot_s
    wall_s: Callable[[], float] = time.time

    def now(self) -> Instant:
        """This moment."""
        return Instant(self.boot_s(), self.wall_s())

    def longest_since(self, then: Instant) -> float:
        """The longest time, in seconds, that may have passed since `then`: the difference on the clock that moved
        further.
        """
        return max(self.boot_s() - then.boot_s, self.wall_s() - then.wall_s)
