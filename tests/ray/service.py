"""A head of Ray as a service for the contract of an engine: jobs that count what they do."""

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ray.between import Between, Loss
from ray.cluster import Cluster
from reconciler.engines.port import Config
from reconciler.engines.ray.marks import mark_in
from reconciler.testing.proxy import Fault
from reconciler.testing.services import Service

_SCRIPT = """\
run=$(printf %s "$RAY_JOB_CONFIG_JSON_ENV_VAR" | sed 's/.*"job_submission_id": "\\([^"]*\\)".*/\\1/') job=${run%-*}
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
_SLOWLY = """trap 'trap "" TERM; sleep 1.5; touch "$COUNTS/slowly.over"; exit 1' TERM\n"""
_WITHIN_S = 120.0
_ACTIVE = ("PENDING", "RUNNING")
_FREE_AGAIN_S = 4.0
"""How long after its end a job is deleted, so that its submission id is free again."""


class RayService(Service):
    """An empty head. Each job notes its start in a file, and goes on until another file is there."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self._cluster = cluster
        self._folder = folder
        self._counts = folder / "counts"
        self._counts.mkdir()
        self._before = ""
        self._unstarted: dict[str, set[str]] = {}
        """The runs of a job that were stopped before they noted their start."""
        self.server = cluster.place

    @property
    def block(self) -> Mapping[str, Any]:
        return {"engine": "ray", "address": self._cluster.address}

    @property
    def other_block(self) -> Mapping[str, Any]:
        """The same address, behind which is another cluster by now."""
        self._cluster.restart()
        return self.block

    @property
    def environment(self) -> Mapping[str, str]:
        return {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}

    def config(self, *, fails: bool = False) -> Config:
        return {"script": self._before + _SCRIPT, "env": {"COUNTS": str(self._counts), "CODE": "3" if fails else "0"}}

    def config_with(self, text: str) -> Config | None:
        return {**self.config(), "env": {"COUNTS": str(self._counts), "CODE": "0", "TEXT": text}}

    def runs(self, job_id: str) -> int:
        """Return how many runs of a job have noted their start, and how many were stopped before that."""
        until_s = time.monotonic() + _WITHIN_S
        while True:
            ran = self._ran(job_id)
            states = self._states(job_id)
            unstarted = self._unstarted.setdefault(job_id, set())
            unstarted |= {run for run, state in states.items() if state == "STOPPED"}
            left = {run for run, state in states.items() if state != "STOPPED"} - set(ran)
            if not left:
                return len(ran) + len(unstarted - set(ran))
            assert time.monotonic() < until_s, f"a job of {job_id} does not start: {states}"
            time.sleep(0.1)

    def end(self, job_id: str) -> None:
        (self._counts / f"{job_id}.{self.runs(job_id)}.end").touch()

    def lose(self, job_id: str) -> None:
        self.runs(job_id)  # so that its start is counted
        remove(self._cluster, list(self._states(job_id)))

    def logged(self, job_id: str) -> bytes:
        (run,) = self._states(job_id)
        self._await_end([run])
        # The output of the entrypoint, behind what Ray writes into the file.
        whole = self._cluster.log_file(run).read_bytes()
        assert f"runs {job_id}\nuntil {job_id}.1.end is there\n".encode() in whole
        return whole

    def block_through(self, host: str, port: int) -> Mapping[str, Any]:
        return {"engine": "ray", "address": f"http://{host}:{port}"}

    @contextmanager
    def disturbed(self, fault: Fault) -> Iterator[Mapping[str, Any] | None]:
        loss = {Fault.UNSENT: Loss.UNSENT, Fault.LOST: Loss.LOST, Fault.SLOW: Loss.SLOW}[fault]
        with Between(*self._cluster.place, loss) as between:
            yield self.block_through("127.0.0.1", between.port)
            assert between.lost, "no call left"

    @contextmanager
    def stopping_slowly(self) -> Iterator[Mapping[str, Any] | None]:
        self._before = _SLOWLY
        yield self.block
        self._before = ""

    def executes(self, job_id: str) -> bool:
        return self.runs(job_id) > 0 and not (self._counts / "slowly.over").exists()

    @contextmanager
    def refusing(self) -> Iterator[Mapping[str, Any] | None]:
        """Yield the block of a proxy that lets nobody change anything."""
        with Between(*self._cluster.place, Loss.DENIED) as between:
            yield self.block_through("127.0.0.1", between.port)

    def close(self) -> None:
        """Let all jobs end, and remove them."""
        for path in self._counts.glob("*.ran"):
            for number in range(1, len(path.read_text().splitlines()) + 1):
                (self._counts / f"{path.stem}.{number}.end").touch()
        remove(self._cluster, [job["submission_id"] for job in self._cluster.jobs()])

    def _ran(self, job_id: str) -> list[str]:
        path = self._counts / f"{job_id}.ran"
        return path.read_text().splitlines() if path.exists() else []

    def _states(self, job_id: str) -> dict[str, str]:
        """Return the states of the runs that the head has of a job, by their run ids."""
        marks = ((job, mark_in(job["metadata"])) for job in self._cluster.jobs())
        return {job["submission_id"]: job["status"] for job, mark in marks if mark and mark.job_id == job_id}

    def _await_end(self, submission_ids: list[str]) -> None:
        await_end(self._cluster, submission_ids)


def await_end(cluster: Cluster, submission_ids: list[str]) -> None:
    """Wait until jobs have ended, for each one a while: a head starts one after the other on a busy machine."""
    for each in submission_ids:
        until_s = time.monotonic() + _WITHIN_S
        while (job := cluster.job(each)) is not None and job["status"] in _ACTIVE:
            assert time.monotonic() < until_s, f"{each} does not end: {job}"
            time.sleep(0.1)


def remove(cluster: Cluster, submission_ids: list[str]) -> None:
    """Stop jobs, and delete them once Ray has seen their ends, so that other jobs may have their ids."""
    for each in submission_ids:
        cluster.request("POST", f"/api/jobs/{each}/stop")
    await_end(cluster, submission_ids)
    # The clock of the head is that of this machine.
    ended_s = max(((job["end_time"] or 0) / 1000 for each in submission_ids if (job := cluster.job(each))), default=0.0)
    time.sleep(max(0.0, ended_s + _FREE_AGAIN_S - time.time()))
    for each in submission_ids:
        cluster.request("DELETE", f"/api/jobs/{each}")
        assert cluster.job(each) is None
