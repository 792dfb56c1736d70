"""Reading the jobs of a workspace from the service."""

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from reconciler.model.jobs import Observation, Status
from reconciler.usecases.engines import Pace

if TYPE_CHECKING:
    from reconciler.usecases.workspace import Workspace


def observed_jobs(workspace: "Workspace", ids: Collection[str], parallelism: int) -> Mapping[str, Observation]:
    """The observations of the jobs with these engine job ids, by id. Raises as `engines.open_engine` does."""
    from reconciler.apply.observe import observe_jobs

    with workspace.open_engine(Pace(parallelism)) as engine:
        return observe_jobs(engine, list(ids), parallelism)


def lacks_reads(observed: Mapping[str, Observation]) -> bool:
    """Whether the service offers no reads, so that no job was observed."""
    return any(one.status is Status.NOT_OBSERVED for one in observed.values())


def warn_without_reads(workspace: "Workspace", observed: Mapping[str, Observation]) -> None:
    """Remark that no job was observed, so that nobody mistakes records for observations."""
    if lacks_reads(observed):
        workspace.world.remark(
            f"{workspace.manifest.target} offers no reads, so no job was observed: if the service does offer them, "
            "look whether the path of the endpoint is right"
        )
