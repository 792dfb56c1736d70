"""A cluster of Slurm as a service for the contract of an engine: jobs that count what they do."""

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from reconciler.engines.port import Config
from reconciler.engines.slurm.marks import mark_in
from reconciler.testing.proxy import Fault
from reconciler.testing.services import Service
from slurm.cluster import KILL_WAIT_S, PATH, Cluster
from slurm.wrappers import wrapped

_SCRIPT = """\
#!/bin/sh
run=$SLURM_JOB_NAME job=${SLURM_JOB_NAME%-*}
echo "$run" >> "$COUNTS/$job.ran"
number=$(wc -l < "$COUNTS/$job.ran")
echo "runs $job"
echo "until $job.$number.end is there" >&2
looks=24000
until [ -e "$COUNTS/$job.$number.end" ]; do
  # A test that was killed ends nothing. What it has started ends with its folder, or within the hour.
  [ -d "$COUNTS" ] && [ "$((looks -= 1))" -gt 0 ] || exit 9
  sleep 0.1
done
exit "$CODE"
"""
_SLOWLY = """trap 'trap "" TERM; sleep 1.5; touch "$COUNTS/$SLURM_JOB_NAME.over"; exit 1' TERM\n"""
_WITHIN_S = 60.0
_HELD, _FULL = ("JobHeldUser", "JobHeldAdmin"), ("Resources", "Priority")
_CHAINED = ("Dependency", "DependencyNeverSatisfied")


class SlurmService(Service):
    """A fresh cluster. Each job notes its start in a file, and goes on until another file is there."""

    def __init__(self, cluster: Cluster, folder: Path, other: Callable[[], Cluster]) -> None:
        self._cluster = cluster
        self._folder = folder
        self._new_cluster = other
        self._other: Cluster | None = None
        self._counts = folder / "counts"
        self._counts.mkdir()
        self._before = ""
        self._path = PATH
        self._unstarted: dict[str, set[str]] = {}
        """The runs of a job that were released and cancelled before they noted their start."""
        self._chained: dict[str, set[str]] = {}
        """The runs of a job that were seen to wait for other jobs."""

    @property
    def block(self) -> Mapping[str, Any]:
        return {"engine": "slurm", "conf": str(self._cluster.conf)}

    @property
    def other_block(self) -> Mapping[str, Any]:
        self._other = self._other or self._new_cluster()
        return {"engine": "slurm", "conf": str(self._other.conf)}

    @property
    def environment(self) -> Mapping[str, str]:
        return {**self._cluster.env, "PATH": self._path}

    def config(self, *, fails: bool = False) -> Config:
        head, _, body = _SCRIPT.partition("\n")
        env = {"COUNTS": str(self._counts), "CODE": "3" if fails else "0"}
        return {"script": f"{head}\n{self._before}{body}", "env": env, "workdir": str(self._folder)}

    def config_with(self, text: str) -> Config | None:
        return {**self.config(), "env": {"COUNTS": str(self._counts), "CODE": "0", "TEXT": text}}

    def runs(self, job_id: str) -> int:
        """Return how many jobs of Slurm were released, whose starts the jobs themselves note."""
        until_s = time.monotonic() + _WITHIN_S
        while True:
            ran = self._ran(job_id)
            jobs = self._jobs(job_id)
            starting = [
                run for run, state, reason in jobs if state == "PENDING" and reason not in (*_HELD, *_FULL, *_CHAINED)
            ]
            # What waits for a place is a run as well, though nothing of it has noted its start.
            waiting = [run for run, state, reason in jobs if state == "PENDING" and reason in _FULL]
            chained = self._chained.setdefault(job_id, set())
            chained |= {run for run, state, reason in jobs if state == "PENDING" and reason in _CHAINED}
            unstarted = self._unstarted.setdefault(job_id, set())
            unstarted |= {
                run
                for run, state, reason in jobs
                if state == "CANCELLED" and reason not in (*_HELD, *_CHAINED) and run not in ran
            } - chained
            started = {run for run, state, _ in jobs if state not in ("PENDING", "CANCELLED")}
            if not starting and started <= set(ran):
                return len(ran) + len(unstarted - set(ran)) + len(waiting)
            assert time.monotonic() < until_s, f"a job of {job_id} does not start: {self._jobs(job_id)}"
            time.sleep(0.05)

    def end(self, job_id: str) -> None:
        (self._counts / f"{job_id}.{self.runs(job_id)}.end").touch()

    def lose(self, job_id: str) -> None:
        """Start the controller anew without its jobs, which Slurm then ends: no command takes a job away."""
        self.runs(job_id)  # so that its start is counted
        self._cluster.kill("slurmctld")
        self._cluster.start_controller(cold=True)

    def forget(self, job_id: str) -> None:
        until_s = time.monotonic() + _WITHIN_S
        while self._jobs(job_id):
            assert time.monotonic() < until_s, f"{job_id} is not forgotten"
            time.sleep(0.2)

    def logged(self, job_id: str) -> bytes:
        return f"runs {job_id}\nuntil {job_id}.{self.runs(job_id)}.end is there\n".encode()

    @contextmanager
    def disturbed(self, fault: Fault) -> Iterator[Mapping[str, Any] | None]:
        """Yield the block, while the commands that change something lose their requests or their answers."""
        word = {Fault.UNSENT: "unsent", Fault.LOST: "lost", Fault.SLOW: "slow"}[fault]
        self._path = wrapped(self._folder / word, word)
        yield self.block
        self._path = PATH

    @contextmanager
    def refusing(self) -> Iterator[Mapping[str, Any] | None]:
        """Yield the block, while the commands that change something are those of another user."""
        if os.geteuid() != 0:
            yield None
            return
        self._path = wrapped(self._folder / "denied", "denied")
        yield self.block
        self._path = PATH

    @contextmanager
    def stopping_slowly(self) -> Iterator[Mapping[str, Any] | None]:
        assert KILL_WAIT_S > 1.5
        self._before = _SLOWLY
        yield self.block
        self._before = ""

    def executes(self, job_id: str) -> bool:
        started = self.runs(job_id)
        return len(list(self._counts.glob(f"{job_id}-*.over"))) < started

    def close(self) -> None:
        """Let all jobs end."""
        for path in self._counts.glob("*.ran"):
            for number in range(1, len(path.read_text().splitlines()) + 1):
                (self._counts / f"{path.stem}.{number}.end").touch()

    def _ran(self, job_id: str) -> list[str]:
        path = self._counts / f"{job_id}.ran"
        return path.read_text().splitlines() if path.exists() else []

    def _jobs(self, job_id: str) -> list[tuple[str, str, str]]:
        """Return the runs of a job that the controller has: (run id, state, reason of the state)."""
        found = []
        for line in self._cluster.command("squeue", "-h", "-t", "all", "-o", "%j|%T|%r|%k").splitlines():
            name, state, reason, comment = line.split("|", 3)
            mark = mark_in(comment)
            if mark and mark.job_id == job_id:
                found.append((name, state, reason))
        return found
