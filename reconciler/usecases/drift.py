"""`reconciler drift`: the jobs at the service, compared with what is recorded."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from reconciler.model.commands import command
from reconciler.model.errors import EngineError
from reconciler.model.jobs import EMPTY
from reconciler.usecases.observing import observed_jobs
from reconciler.usecases.selection import Selection, names_of, selected

if TYPE_CHECKING:
    from reconciler.model.history import HistoryEntry
    from reconciler.rules.drift import Drift
    from reconciler.rules.review import Review
    from reconciler.usecases.workspace import Workspace


def drift(workspace: "Workspace", selection: Selection, parallelism: int = 10) -> "Drift":
    """Compare each selected job, declared or only recorded, with its record. Changes nothing.

    Raises `EngineError` if the service offers no reads.
    """
    from reconciler.rules.drift import Drift, compare, in_order
    from reconciler.rules.observations import no_reads_words

    target, state = workspace.manifest.target, workspace.read_state()
    # `prune` adds the jobs that are recorded and no longer declared. Nothing is deleted here.
    matching = selected(workspace.manifest, state, selection._replace(prune=True), workspace.world.clocks.wall_s())
    is_selected = selection.among(names_of(matching))
    subjects = [subject for subject in matching.subjects if is_selected(subject.job.name)]
    observed = observed_jobs(workspace, state, [subject.job.id for subject in subjects], parallelism)
    no_reads = no_reads_words(target, observed, "what differs from the record can't be told")
    if no_reads:
        raise EngineError(no_reads, f"look there by other means; {command('state list')} shows what is recorded")
    findings = in_order([compare(subject, observed[subject.job.id]) for subject in subjects])
    return Drift(target, state.lineage, state.serial, workspace.commit, workspace.manifest_paths, findings)


def review(
    found: "Drift", workspace: "Workspace", histories: "Mapping[str, Sequence[HistoryEntry]]" = EMPTY
) -> "Review":
    """The drift with the place where each job is declared. `histories` maps engine job ids to entries."""
    from reconciler.rules.drift import review_drift

    return review_drift(found, workspace.manifest.position, histories, state_at=workspace.state_name)
