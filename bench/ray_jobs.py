"""Jobs on a Ray head of this machine: `reconciler apply` beside a loop of `ray job submit`.

The head is that of the tests (tests/ray). Without Ray, which `tests/ray/install.sh` installs, this part is left out.
"""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

from timing import Case, Row, Timing, middle, time_once

JOBS = 10
SUBMITTED = "Jobs on Ray, to the end of the command"
LOOP, APPLY = "a loop of ray job submit", "reconciler apply"
GOAL = "1.0 ×"


def bench_ray(root: Path, rounds: int, tool: str) -> Iterator[Row]:
    """Submit the jobs with each program in turn, under other names in each round.

    The head begins to start them on the same cores, while the command is at work.
    """
    for path in ("tests", "tests/support"):
        sys.path.insert(0, str(Path(__file__).parent.parent / path))
    from ray.cluster import Cluster, missing, venv
    from ray.service import await_end

    if reason := missing():
        print(f"left out: jobs on Ray: {reason}", file=sys.stderr, flush=True)
        return
    taken: dict[str, list[Timing]] = {LOOP: [], APPLY: []}
    with Cluster() as cluster:
        env = {"RAY_ADDRESS": cluster.address, "RAY_API_SERVER_ADDRESS": cluster.address}
        for number in range(rounds):
            for name in taken if number % 2 == 0 else reversed(taken):
                folder = root / f"ray-{number}-{name.split()[0]}"
                folder.mkdir()
                prefix = f"{name.split()[0]}{number}"
                words = _loop(str(venv() / "bin" / "ray"), prefix) if name == LOOP else _apply(tool, folder, prefix)
                taken[name].append(time_once(Case(name, words, folder, {**env, "XDG_STATE_HOME": str(folder)})))
                jobs = [job["submission_id"] for job in cluster.jobs() if job["submission_id"].startswith(prefix)]
                assert len(jobs) == JOBS, jobs
                await_end(cluster, jobs)
    base_s = middle(taken[LOOP]).wall_s
    for name, each in taken.items():
        timing = middle(each)
        yield Row(SUBMITTED, JOBS, name, timing, timing.wall_s / base_s, goal=GOAL if name == APPLY else "")


def _loop(ray: str, prefix: str) -> list[str]:
    """Return the script that people write: it records nothing."""
    submit = f"{ray} job submit --no-wait --submission-id {prefix}-$n -- true >{os.devnull} 2>&1"
    return ["bash", "-c", f"for n in $(seq {JOBS}); do {submit} || exit; done"]


def _apply(program: str, folder: Path, prefix: str) -> list[str]:
    jobs = "".join(
        f"  {prefix}-{number}: {{state: running, config: {{command: ['true']}}}}\n" for number in range(JOBS)
    )
    (folder / "jobs.yaml").write_text(f"apiVersion: reconciler/v1\ntarget: {{engine: ray}}\njobs:\n{jobs}")
    return [program, "apply", "--yes"]
