"""Measure whole programs, in alternation."""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple


class Case(NamedTuple):
    """One program to measure; its folder is its working directory. Any exit code but 0 ends the benchmark."""

    name: str
    command: Sequence[str]
    folder: Path
    environment: Mapping[str, str] = {}


class Timing(NamedTuple):
    """The time and memory of a program: the medians of the rounds, and the largest `peak_bytes`."""

    wall_s: float
    cpu_s: float
    peak_bytes: int


class Row(NamedTuple):
    """One line of the table.

    `ratio` is the time divided by that of the first row of the group, or by the time of the latency alone. `note` is a
    remark, and `goal` is the figure to reach.
    """

    group: str
    jobs: int
    name: str
    timing: Timing
    ratio: float
    note: str = ""
    goal: str = ""


def time_once(case: Case) -> Timing:
    """Run the program once, to its end."""
    started_s = time.perf_counter()
    program = subprocess.Popen(
        case.command,
        cwd=case.folder,
        env=os.environ | case.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    assert program.stderr is not None
    report = program.stderr.read()
    _, status, usage = os.wait4(program.pid, 0)
    wall_s = time.perf_counter() - started_s
    program.returncode = os.waitstatus_to_exitcode(status)
    program.stderr.close()
    if program.returncode != 0:
        sys.exit(f"{case.name}: exit {program.returncode}\n{report.decode(errors='replace')[-2000:]}")
    return Timing(wall_s, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024))


def measure(cases: Sequence[Case], rounds: int) -> dict[str, Timing]:
    """Return the timing of each case by its name.

    Each round runs every case once, so that a slow moment of the machine affects all cases. The order is reversed from
    round to round.
    """
    taken: dict[str, list[Timing]] = {case.name: [] for case in cases}
    for number in range(rounds):
        for case in cases if number % 2 == 0 else reversed(cases):
            taken[case.name].append(time_once(case))
    return {name: middle(timings) for name, timings in taken.items()}


def middle(timings: Sequence[Timing]) -> Timing:
    """Combine the rounds of one case into one timing."""
    return Timing(
        statistics.median(timing.wall_s for timing in timings),
        statistics.median(timing.cpu_s for timing in timings),
        max(timing.peak_bytes for timing in timings),
    )
