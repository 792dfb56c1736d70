"""`reconciler plan`: what an apply would do."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from reconciler.model.errors import Refused
from reconciler.model.jobs import EMPTY, Observation, State, title
from reconciler.model.plan import Plan
from reconciler.usecases.planning import plan_of, refusal_of
from reconciler.usecases.selection import Selection, selected

if TYPE_CHECKING:
    from reconciler.model.history import HistoryEntry
    from reconciler.rules.matching import Matching
    from reconciler.rules.review import Review
    from reconciler.usecases.workspace import Workspace


class Planned(NamedTuple):
    """A plan, and the state, the jobs and the observations that it was made from.

    `refusal` is the error of the guard that refuses the plan, or None. `observed` maps engine job ids to observations;
    it is empty if the plan was made without reading the service.
    """

    plan: Plan
    refusal: Refused | None
    state: State
    matching: "Matching"
    observed: Mapping[str, Observation]


def plan(
    workspace: "Workspace",
    selection: Selection,
    *,
    refresh: bool,
    parallelism: int = 10,
    provenance: bool = True,
    allowed: Mapping[str, int] = EMPTY,
) -> Planned:
    """Plan the manifest. Writes nothing.

    With `refresh` the jobs are read from the service, which needs credentials. `provenance` and `allowed` are as in
    `plan_of`; a plan without provenance takes less time.
    """
    manifest = workspace.manifest
    losses: list[str] = []
    state = workspace.read_state(losses.append)
    matching = selected(manifest, state, selection, workspace.world.clocks.wall_s())
    observed: Mapping[str, Observation] = {}
    if refresh:
        from reconciler.usecases.observing import observed_jobs, warn_without_reads

        observed = observed_jobs(workspace, state, _ids_to_read(matching, selection), parallelism)
        warn_without_reads(workspace, observed)
    made = plan_of(workspace, state, matching, selection, observed, allowed=allowed, provenance=provenance)
    made = made._replace(warnings=(*losses, *made.warnings))
    return Planned(made, refusal_of(made, manifest, state, is_read=refresh), state, matching, observed)


def _ids_to_read(matching: "Matching", selection: Selection) -> list[str]:
    """The engine job ids of the selected jobs, and of all jobs that these come after, directly or indirectly."""
    from reconciler.rules.circles import all_before

    ids = {subject.job.name: subject.job.id for subject in matching.subjects}
    after = {subject.job.name: subject.job.after for subject in matching.subjects if subject.job.after}
    chosen = list(filter(selection.among(ids), ids))
    before = all_before(filter(after.__contains__, chosen), lambda name: after.get(name, ()))
    return [ids[name] for name in dict.fromkeys((*chosen, *sorted(before)))]


def review(
    planned: Planned, workspace: "Workspace", histories: "Mapping[str, Sequence[HistoryEntry]]" = EMPTY
) -> "Review":
    """The plan with everything known of its jobs. `histories` maps engine job ids to entries, the oldest first."""
    from reconciler.rules.matching import prune
    from reconciler.rules.review import review_plan

    matching = prune(planned.matching, planned.state.jobs)
    review = review_plan(
        planned.plan,
        matching.subjects,
        planned.observed,
        workspace.manifest.position,
        histories,
        state_at=workspace.state_name,
        refusal=planned.refusal,
    )
    drifted = [action for action in planned.plan.actions if action.drift]
    if not drifted:
        return review
    from reconciler.rules.drift import compare

    # A line of text has one place for both, so the reason of such an action includes what to do. A review has two.
    found = {title(one.job): compare(matching.by_name[one.job], planned.observed[one.id]) for one in drifted}
    rows = (
        row._replace(reason=found[row.job].reason, way_out=found[row.job].way_out) if row.job in found else row
        for row in review.rows
    )
    return review._replace(rows=tuple(rows))
