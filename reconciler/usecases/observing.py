"""Reading the jobs of a workspace from the service."""

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from reconciler.model.jobs import Observation, State
from reconciler.usecases.engines import Pace, plugin_for

if TYPE_CHECKING:
    from reconciler.usecases.workspace import Workspace


def observed_jobs(
    workspace: "Workspace", state: State, ids: Collection[str], parallelism: int
) -> Mapping[str, Observation]:
    """The observations of the jobs with these engine job ids, by id. Raises as `Workspace.open_engine` does.

    The service has to be the one that the `state` is for.
    """
    with workspace.open_engine(Pace(parallelism), state.identity) as engine:
        return engine.observe_many(ids)


def warn_without_reads(workspace: "Workspace", observed: Mapping[str, Observation]) -> None:
    """Remark that no job was observed, so that nobody mistakes records for observations."""
    from reconciler.rules.observations import no_reads_words

    target = workspace.manifest.target
    consequence = "no job was observed"
    if plugin_for(target).promises(target).reads:
        consequence += ": if the service does offer them, look whether the target names the right place"
    no_reads = no_reads_words(target, observed, consequence)
    if no_reads:
        workspace.world.remark(no_reads)
