"""The runs of the pretend cluster, as its database holds them."""

import json
from typing import NamedTuple

from reconciler.model.jobs import Config, Marks, Status


class Run(NamedTuple):
    """One run of a job, as the cluster knows it.

    `number` counts all runs of the cluster from 1, and never comes twice. `run_id` is "" for a run that nobody named.
    `began_at` and `ended_at` are in seconds since 1970. A `forgotten` run is one that no observation shows any more.
    `stops_at` is when a run ends that was aborted and is still active; None for any other run. `after` are the handles
    of the runs that have to complete before it executes anything, and `executes_from` is when it began to do so; None
    if it has not.
    """

    number: int
    job_id: str
    run_id: str
    marks: Marks
    config: Config
    began_at: float
    status: Status
    ended_at: float | None
    forgotten: bool
    stops_at: float | None = None
    after: tuple[str, ...] = ()
    executes_from: float | None = None

    @property
    def ref(self) -> str:
        """The handle of the run, as the engine tells it."""
        return f"uid-{self.number}"


Row = tuple[int, str, str, str, str, float, str, float | None, int, float | None, str, float | None]
"""A row of the table `runs`."""


def run_from(row: Row) -> Run:
    """The run of a row of the database. The columns are in the order of the schema."""
    number, job_id, run_id, marks, config, began_at, status, ended_at, forgotten, stops_at, after, executes_from = row
    return Run(
        number,
        job_id,
        run_id,
        Marks(*json.loads(marks)),
        json.loads(config),
        began_at,
        Status(status),
        ended_at,
        bool(forgotten),
        stops_at,
        tuple(json.loads(after)),
        executes_from,
    )
