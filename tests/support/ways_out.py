"""What a plan says of a job, and what a person does then, on the pretend cluster."""

import re
import shlex
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import yaml

from cluster_project import ClusterProject
from project import Run
from reconciler.engines.port import Promises
from reconciler.engines.sandbox.cluster import ATOMIC, Cluster, Lost


class PersonsProject(ClusterProject):
    """A folder on a cluster, with what a person reads and does. `lost` is what happens to the first calls, if any."""

    lost: Lost | None = None
    times_lost = 1

    @property
    def target(self) -> str:
        block: dict[str, Any] = yaml.safe_load(super().target)
        lost = {"lost": ", ".join([self.lost.value] * self.times_lost)} if self.lost else {}
        return yaml.safe_dump({**block, **lost}, default_flow_style=True, width=1000).strip()

    def reasons(self) -> dict[str, tuple[str, str]]:
        """What a plan after reading says of each job: the action, and the reason with its way out."""
        plan = self.run("plan", "--refresh", "--format", "json")
        assert plan.code == 0, plan.err
        return {one["job"]: (one["action"], one["reason"]) for one in plan.json["actions"]}

    def reasons_offline(self) -> dict[str, tuple[str, str]]:
        """What a plan without reading says of each job, as `reasons` has it."""
        plan = self.run("plan", "--format", "json")
        return {one["job"]: (one["action"], one["reason"]) for one in plan.json["actions"]}

    def commands(self, job: str) -> list[list[str]]:
        """The commands that the way out of a job names, as their arguments."""
        _, reason = self.reasons()[job]
        return [shlex.split(text) for text in re.findall(r"`reconciler ([^`]*)`", reason)]

    def found(self, job: str) -> tuple[str, list[list[str]]]:
        """What `drift` finds of a job, and the commands that the way out names, as their arguments."""
        (finding,) = [one for one in self.run("drift", "--format", "json").json["jobs"] if one["job"] == job]
        named = re.findall(r"reconciler ([a-z][^`]*)(?:`|$)", finding["wayOut"])
        return finding["found"], [shlex.split(text) for text in named]

    def follow(self, arguments: list[str]) -> Run:
        """Do what a way out names, and expect that the command works as it is printed."""
        run = self.run(*arguments)
        assert run.code == 0, run.out + run.err
        return run

    def apply(self) -> Run:
        return self.run("apply", "--yes")

    def begin(self, jobs: str) -> None:
        """Apply a manifest for the first time."""
        self.write(jobs)
        assert self.apply().code == 0

    def is_at_rest(self, jobs: str, runs: list[str]) -> None:
        """Apply a manifest, and expect these runs and that nothing is left to do."""
        self.write(jobs)
        run = self.apply()
        assert run.code == 0, run.out + run.err
        assert self.run_ids == runs
        assert self.run("plan", "--refresh", "--detailed-exitcode").code == 0
        assert self.run("drift").code == 0

    @property
    def run_ids(self) -> list[str]:
        """The run ids of all runs that were ever started, the oldest first."""
        return [run.run_id for run in self.cluster.runs()]


@contextmanager
def persons_project(
    folder: Path, promises: Promises = ATOMIC, identity: Mapping[str, str] | None = None
) -> Iterator[PersonsProject]:
    """Yield a folder on a cluster with these promises."""
    with closing(Cluster(time.time, path=str(folder / "cluster.db"))) as cluster:
        yield PersonsProject(folder, cluster, promises, identity or {})
