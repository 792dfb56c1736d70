"""What a head of Ray has executed, from what the entrypoints of jobs have noted themselves."""

import time
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path

import requests
from ray.cluster import Cluster

OVER_WITHIN_S = 180.0
_RUN = """$(printf %s "$RAY_JOB_CONFIG_JSON_ENV_VAR" | sed "s/.*job_submission_id\\": \\"\\([^\\"]*\\)\\".*/\\1/")"""
"""The submission id in the environment of an entrypoint, for a shell."""


class Record:
    """The starts of runs: each entrypoint adds its submission id to a file."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self._cluster = cluster
        self._executed = folder / "executed"
        self._executed.touch()
        self._counted: set[str] = set()

    @property
    def script(self) -> str:
        """The script of a job."""
        return f'echo "{_RUN}" >> {self._executed}'

    def executed(self, jobs: Collection[str]) -> Counter[str]:
        """Return how often each run of these jobs was executed."""
        lines = self._executed.read_text().split()
        return Counter(run for run in lines if run.rpartition("-")[0] in jobs)

    def wait_for_idle(self) -> None:
        """Wait until every job of the head is over."""
        until_s = time.monotonic() + OVER_WITHIN_S
        while True:
            try:
                left = [job["submission_id"] for job in self._cluster.jobs() if not job["end_time"]]
            except (requests.RequestException, AssertionError):
                left = ["the head does not answer"]
            if not left:
                return
            assert time.monotonic() < until_s, f"not over: {left}"
            time.sleep(0.1)

    def judge(self, runs: Sequence[str], may_be_lost: Collection[str] = ()) -> None:
        """Compare with what was asked for: each of these runs once, and no other run of their jobs.

        A run of `may_be_lost` may not have been executed at all. Raises `AssertionError`.
        """
        self.wait_for_idle()
        executed = self.executed({run.rpartition("-")[0] for run in runs})
        expected = Counter(run for run in runs if run in executed or run not in may_be_lost)
        assert executed == expected, (runs, may_be_lost, executed)
