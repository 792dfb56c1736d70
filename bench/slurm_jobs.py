"""Jobs on a Slurm cluster of this machine: `reconciler apply` beside a loop of `sbatch`.

The cluster is that of the tests (tests/slurm): a real controller and node. Without its programs, which
`tests/slurm/install.sh` installs, this part is left out.
"""

import json
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from timing import Case, Row, Timing, middle, time_once

if TYPE_CHECKING:
    from slurm.cluster import Cluster

JOBS = 200
WAITING = "Jobs that wait on Slurm, to the end of the command"
STARTED, ENDED = "Jobs of one second on Slurm, to the end of the command", "the same, to the end of the last job"
LOOP, APPLY, MORE = "a loop of sbatch", "reconciler apply", "reconciler apply --parallelism 32"
GOAL = "1.5 ×"
_COMMAND = ["sleep", "1"]
_ALL_END_WITHIN_S = 600.0


def bench_slurm(root: Path, rounds: int, tool: str) -> Iterator[Row]:
    """Submit the jobs to a fresh controller for each program, which takes the other's place in the next round.

    First no node takes jobs, so that all of them wait: what is measured is the submission, as on a cluster whose jobs
    execute elsewhere. Then the node of this machine starts them on the same cores. The sooner a program has released a
    job, the more of that work falls into its own time.
    """
    for path in ("tests", "tests/support"):
        sys.path.insert(0, str(Path(__file__).parent.parent / path))
    from slurm.cluster import missing

    if reason := missing():
        print(f"left out: jobs on Slurm: {reason}", file=sys.stderr, flush=True)
        return
    names = (LOOP, APPLY, MORE)
    taken: dict[str, dict[str, list[Timing]]] = {
        group: {name: [] for name in names} for group in (WAITING, STARTED, ENDED)
    }
    for number in range(rounds):
        for name in names if number % 2 == 0 else names[::-1]:
            folder = root / f"slurm-{number}-{names.index(name)}"
            for group, timing in _submitted(folder, name, tool).items():
                taken[group][name].append(timing)
    for group, timings in taken.items():
        base_s = middle(timings[LOOP]).wall_s
        for name, each in timings.items():
            timing = middle(each)
            goal = GOAL if group == WAITING and name != LOOP else ""
            yield Row(group, JOBS, name, timing, timing.wall_s / base_s, goal=goal)


def _submitted(folder: Path, name: str, tool: str) -> Mapping[str, Timing]:
    """Submit the jobs with one program, to a cluster that takes no jobs and to one that does."""
    from slurm.cluster import Cluster

    taken: dict[str, Timing] = {}
    for group in (WAITING, STARTED):
        place = folder / group.split()[2]
        place.mkdir(parents=True)
        with Cluster(f"bench-{place.name}") as cluster:
            if group == WAITING:
                cluster.command("scontrol", "update", "NodeName=ALL", "State=DRAIN", "Reason=bench")
            words = _loop() if name == LOOP else [tool, *name.split()[1:], "--yes"]
            _write_manifest(place)
            env = {**cluster.env, "XDG_STATE_HOME": str(place / "state")}
            began_s = time.perf_counter()
            taken[group] = time_once(Case(name, words, place, env))
            if group == STARTED:
                _wait_for_all(cluster)
                taken[ENDED] = taken[STARTED]._replace(wall_s=time.perf_counter() - began_s)
    return taken


def _loop() -> list[str]:
    """Return the script that people write: it records nothing, and submits twice where an answer is lost."""
    submit = f"sbatch --parsable -J job-$n -o /dev/null --wrap '{' '.join(_COMMAND)}' >/dev/null"
    return ["bash", "-c", f"for n in $(seq {JOBS}); do {submit} || exit; done"]


def _write_manifest(folder: Path) -> None:
    config = f"{{command: {json.dumps(_COMMAND)}, native: {{output: /dev/null}}}}"
    jobs = "".join(f"  job-{number:03}:\n    state: running\n    config: {config}\n" for number in range(JOBS))
    (folder / "jobs.yaml").write_text(f"apiVersion: reconciler/v1\ntarget: {{engine: slurm}}\njobs:\n{jobs}")


def _wait_for_all(cluster: "Cluster") -> None:
    """Wait until all jobs are complete. Raises `AssertionError` if that takes too long."""
    until_s = time.monotonic() + _ALL_END_WITHIN_S
    while cluster.command("squeue", "-h", "-r", "-t", "all", "-o", "%T").split().count("COMPLETED") < JOBS:
        assert time.monotonic() < until_s, "not all jobs have ended"
        time.sleep(0.2)
