"""What a cluster has done with the runs of one campaign: the jobs that were released, and what was executed."""

import os
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from slurm.cluster import Cluster

from reconciler.engines.slurm.marks import mark_in

OVER_WITHIN_S = 120.0
_COMMANDS = (b"sbatch", b"scontrol", b"scancel", b"python")


class Record:
    """The jobs of a cluster, by what the controller has and by what the jobs themselves note."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self._cluster = cluster
        self._executed = folder / f"{cluster.name}.executed"
        self._executed.touch()

    @property
    def script(self) -> str:
        """The script of a job: it notes the run id, which is the name of the job."""
        return f'echo "$SLURM_JOB_NAME" >> {self._executed}'

    def released(self) -> Counter[str]:
        """Return how many jobs were released for each run id."""
        return Counter(name for name, state, held in self._jobs() if not held)

    def left(self) -> list[str]:
        """Return the run ids of the jobs that are held."""
        return [name for name, state, held in self._jobs() if held and state == "PENDING"]

    def wait_for_commands(self) -> None:
        """Wait until no command is under way that changes something on this cluster."""
        until_s = time.monotonic() + OVER_WITHIN_S
        while _is_asked(str(self._cluster.conf)):
            assert time.monotonic() < until_s, "a command of Slurm does not end"
            time.sleep(0.02)

    def wait_for_idle(self) -> None:
        """Wait until every job that was released is over."""
        until_s = time.monotonic() + OVER_WITHIN_S
        while any(state in ("PENDING", "RUNNING", "COMPLETING") and not held for _, state, held in self._jobs()):
            assert time.monotonic() < until_s, "a job does not end"
            time.sleep(0.05)

    def judge(self, runs: Sequence[str]) -> None:
        """Compare with what was asked for: each of these runs once, and no other run of their jobs.

        Raises `AssertionError`.
        """
        self.wait_for_idle()
        jobs = {run.rpartition("-")[0] for run in runs}
        released = {run: count for run, count in self.released().items() if run.rpartition("-")[0] in jobs}
        assert released == dict.fromkeys(runs, 1), (runs, released)
        executed = Counter(run for run in self._executed.read_text().split() if run.rpartition("-")[0] in jobs)
        assert executed == dict.fromkeys(runs, 1), (runs, executed)

    def _jobs(self) -> list[tuple[str, str, bool]]:
        """Return the run id of each job, its state, and whether it is held or was held until it was cancelled."""
        found = []
        for line in self._cluster.command("squeue", "-h", "-t", "all", "-o", "%T|%r|%k").splitlines():
            state, reason, comment = line.split("|", 2)
            if mark := mark_in(comment):
                is_held = state in ("PENDING", "CANCELLED") and reason.startswith("JobHeld")
                found.append((mark.run_id, state, is_held))
        return found


def _is_asked(conf: str) -> bool:
    """Whether a command of Slurm, or a stand-in for one, has this configuration in its environment."""
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid():
            with suppress(OSError):
                process = Path("/proc", name)
                words = (process / "cmdline").read_bytes().split(b"\0")
                is_command = any(command in words[0] for command in _COMMANDS)
                if is_command and conf.encode() in (process / "environ").read_bytes():
                    return True
    return False
