"""Runs as processes of this machine: the engine `local`, beside bare forks and other tools that start commands.

The runs are sent ten at a time, as by an apply (`--parallelism`), so that their flushes go together.

Task-spooler and nq start a command as soon as they are called. Neither refuses a second run of one run, and neither
flushes anything to the disk. They take part if this machine has them (`tsp`, `nq`).
"""

import os
import shutil
import statistics
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from timing import Case, Row, Timing, middle, time_once

RUNS, OBSERVED = 100, 1_000
LOCAL = "engine local"
STARTING = "`true` run on this machine, to the last end"
OBSERVING = "observed on this machine"
GOALS = {LOCAL: "0.5 s, 4 ms a run beside fork", OBSERVING: "0.2 s"}

_ENGINE = """
import ctypes, os, sys, time
from concurrent.futures import ThreadPoolExecutor
from reconciler.engines.local.plugin import PLUGIN
from reconciler.engines.port import AnswerClass, Marks, Status, Step, Surroundings, Verb
root, count, slots, taken = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # a subreaper is the parent of the spawner once the command is through
ids = [f"job-{number:04}" for number in range(count)]
around = Surroundings(os.environ, lambda seconds: time.sleep(seconds), print, time.monotonic, time.time, 1, None, root)
with PLUGIN.open(PLUGIN.target({"root": root, "slots": slots}, "/"), around) as engine:
    began_s = time.perf_counter()
    if taken == "observe":
        found = engine.observe_many(ids)
        sys.stdout.write(f"{time.perf_counter() - began_s}")
        assert {each.status for each in found.values()} == {Status.COMPLETE}
    else:
        config = {"command": ["true"]}
        steps = [Step(Verb.RUN, job_id, f"{job_id}-1", config, marks=Marks("bench", job_id)) for job_id in ids]
        with ThreadPoolExecutor(10) as pool:
            results = list(pool.map(engine.send, steps))
        assert {result.kind for result in results} == {AnswerClass.APPLIED}, results
        for job_id in ids:
            while engine.observe(job_id).status is Status.ACTIVE:
                time.sleep(0.002)
if taken == "run":
    over_s = time.perf_counter()
    try:
        while True:
            os.wait()  # for the spawner, which has taken the ends of the supervisors, so that their CPU time counts
    except ChildProcessError:
        sys.stdout.write(f"{time.perf_counter() - over_s}")
"""
_FORKS = """
import subprocess, sys
slots, left, going_on = int(sys.argv[2]), int(sys.argv[1]), []
while left or going_on:
    while left and len(going_on) < slots:
        going_on.append(subprocess.Popen(["true"]))
        left -= 1
    going_on.pop(0).wait()
"""
_SPOOLER = 'export TS_SOCKET="$1/socket" TMPDIR="$1"; "$0" -S "$3"; i=0; while [ $i -lt "$2" ]; do "$0" -n true; '
_SPOOLER += 'i=$((i+1)); done >/dev/null; while "$0" -l | grep -q -e running -e queued; do sleep 0.01; done; "$0" -K'
_NQ = 'export NQDIR="$1"; i=0; while [ $i -lt "$2" ]; do "$0" -q true; i=$((i+1)); done; "$0" -w'


def bench_starting(root: Path, rounds: int, *, peers: bool) -> Iterator[Row]:
    """Start runs and wait for the last end, with as many at a time as there are cores.

    The CPU time is that of all processes. Nobody waits for the spawner, so its end is not part of the time.
    """
    taken: dict[str, list[Timing]] = {}
    for number in range(rounds):
        folder = root / f"local-{number}"
        folder.mkdir()
        for case in _cases(folder, peers=peers):
            taken.setdefault(case.name, []).append(_timed_run(case) if case.name == LOCAL else time_once(case))
    floor_s = statistics.median(timing.wall_s for timing in next(iter(taken.values())))
    for name, timings in taken.items():
        timing = middle(timings)
        note = f"{(timing.wall_s - floor_s) / RUNS * 1000:.1f} ms a run beside fork" if name == LOCAL else ""
        yield Row(STARTING, RUNS, name, timing, timing.wall_s / floor_s, note, GOALS.get(name, ""))


def bench_observing(root: Path, rounds: int) -> Iterator[Row]:
    """Observe jobs that have ended. The time is that of the call alone, without the start of the program."""
    folder = root / "local-observed"
    folder.mkdir()
    time_once(_engine(folder, OBSERVED, "run"))
    timings = [_timed_inside(_engine(folder, OBSERVED, "observe")) for _ in range(rounds)]
    yield Row(OBSERVING, OBSERVED, LOCAL, middle(timings), 1.0, "", GOALS[OBSERVING])


def _cases(folder: Path, *, peers: bool) -> Iterator[Case]:
    yield Case("fork and exec", [sys.executable, "-c", _FORKS, str(RUNS), str(_cores())], folder)
    yield _engine(folder, RUNS, "run")
    for name, script in (("tsp", _SPOOLER), ("nq", _NQ)) if peers else ():
        if program := shutil.which(name):
            own = folder / name
            own.mkdir()
            yield Case(name, ["sh", "-c", script, program, str(own), str(RUNS), str(_cores())], folder)


def _engine(folder: Path, count: int, what: str) -> Case:
    words: Sequence[str] = [str(folder / "runs"), str(count), str(_cores()), what]
    return Case(LOCAL, [sys.executable, "-c", _ENGINE, *words], folder)


def _timed_run(case: Case) -> Timing:
    """Return the timing of a program that prints how long it has waited after its work was done."""
    whole, waited_s = _timed_with_output(case)
    return whole._replace(wall_s=whole.wall_s - waited_s)


def _timed_inside(case: Case) -> Timing:
    """Return the timing of a program that prints how long its work took."""
    whole, inside_s = _timed_with_output(case)
    return whole._replace(wall_s=inside_s)


def _timed_with_output(case: Case) -> tuple[Timing, float]:
    """Return the timing of a whole program, and the seconds that it prints."""
    printed = case.folder / "seconds"
    command = ["sh", "-c", '"$@" > "$0"', str(printed), *case.command]
    return time_once(case._replace(command=command)), float(printed.read_text())


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
