"""Jobs on a Slurm cluster of this machine: `reconciler apply` beside a loop of `sbatch`.

The cluster is that of the tests (tests/slurm): a real controller and node. Without its programs, which
`tests/slurm/install.sh` installs, this part is left out.
"""

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from timing import Case, Row, Timing, middle, time_once

if TYPE_CHECKING:
    from slurm.cluster import Cluster

JOBS = 200
SUBMITTED, ENDED = "Jobs of one second on Slurm, to the end of the command", "the same, to the end of the last job"
LOOP, APPLY = "a loop of sbatch", "reconciler apply"
GOAL = "1.5 ×"
_COMMAND = ["sleep", "1"]
_ALL_END_WITHIN_S = 600.0


def bench_slurm(root: Path, rounds: int, tool: str) -> Iterator[Row]:
    """Submit the jobs to a fresh controller for each program, which takes the other's place in the next round.

    Until the command ends, the node starts jobs on the same cores: the sooner a program has released a job, the more of
    that work falls into its own time.
    """
    for path in ("tests", "tests/support"):
        sys.path.insert(0, str(Path(__file__).parent.parent / path))
    from slurm.cluster import Cluster, missing

    if reason := missing():
        print(f"left out: jobs on Slurm: {reason}", file=sys.stderr, flush=True)
        return
    taken: dict[str, list[Timing]] = {LOOP: [], APPLY: []}
    ended: dict[str, list[Timing]] = {LOOP: [], APPLY: []}
    for number in range(rounds):
        for name in taken if number % 2 == 0 else reversed(taken):
            folder = root / f"slurm-{number}-{name.split()[0]}"
            folder.mkdir()
            with Cluster(f"bench{number}") as cluster:
                words = _loop() if name == LOOP else _apply(tool, folder)
                env = {**cluster.env, "XDG_STATE_HOME": str(folder / "state")}
                began_s = time.perf_counter()
                timing = time_once(Case(name, words, folder, env))
                _wait_for_all(cluster)
                taken[name].append(timing)
                ended[name].append(timing._replace(wall_s=time.perf_counter() - began_s))
    for group, timings in ((SUBMITTED, taken), (ENDED, ended)):
        base_s = middle(timings[LOOP]).wall_s
        for name, each in timings.items():
            timing = middle(each)
            yield Row(group, JOBS, name, timing, timing.wall_s / base_s, goal=GOAL if name == APPLY else "")


def _loop() -> list[str]:
    """Return the script that people write: it records nothing, and submits twice where an answer is lost."""
    submit = f"sbatch --parsable -J job-$n -o /dev/null --wrap '{' '.join(_COMMAND)}' >/dev/null"
    return ["bash", "-c", f"for n in $(seq {JOBS}); do {submit} || exit; done"]


def _apply(program: str, folder: Path) -> list[str]:
    config = f"{{command: {json.dumps(_COMMAND)}, native: {{output: /dev/null}}}}"
    jobs = "".join(f"  job-{number:03}:\n    state: running\n    config: {config}\n" for number in range(JOBS))
    (folder / "jobs.yaml").write_text(f"apiVersion: reconciler/v1\ntarget: {{engine: slurm}}\njobs:\n{jobs}")
    return [program, "apply", "--yes"]


def _wait_for_all(cluster: "Cluster") -> None:
    """Wait until all jobs are complete. Raises `AssertionError` if that takes too long."""
    until_s = time.monotonic() + _ALL_END_WITHIN_S
    while cluster.command("squeue", "-h", "-r", "-t", "all", "-o", "%T").split().count("COMPLETED") < JOBS:
        assert time.monotonic() < until_s, "not all jobs have ended"
        time.sleep(0.2)
