"""`reconciler status`: desired, recorded and observed, side by side."""

from typing import TYPE_CHECKING, NamedTuple

from reconciler.model.jobs import NOT_OBSERVED, Desired, Observation, Record
from reconciler.rules.sight import as_seen
from reconciler.usecases.observing import observed_jobs, warn_without_reads
from reconciler.usecases.selection import Selection, matching_of

if TYPE_CHECKING:
    from reconciler.usecases.workspace import Workspace


class JobStatus(NamedTuple):
    """One job: what the manifest wants, what is recorded, and what was observed, as a plan sees it.

    None if there is nothing.
    """

    name: str
    desired: Desired | None
    record: Record | None
    observed: Observation


def status(workspace: "Workspace", parallelism: int = 10) -> list[JobStatus]:
    """The status of each declared or recorded job, sorted by name. Reads the service."""
    state = workspace.read_state()
    matching = matching_of(workspace.manifest, state, Selection(prune=True), workspace.world.clocks.wall_s())
    observed = observed_jobs(workspace, state, [subject.job.id for subject in matching.subjects], parallelism)
    warn_without_reads(workspace, observed)
    rows = [
        JobStatus(s.job.name, s.job.state if s.keep else None, s.record, as_seen(s, seen))
        for s in matching.subjects
        for seen in [observed.get(s.job.id, NOT_OBSERVED)]
    ]
    return sorted(rows, key=lambda row: row.name)
