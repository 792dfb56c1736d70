"""From a manifest, a state and a selection to a plan, and the guards that refuse it."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from reconciler.model.commands import command
from reconciler.model.errors import Refused
from reconciler.model.jobs import EMPTY, Desired, Observation, State, title
from reconciler.model.plan import Action, ActionKind, Narrowed, Plan
from reconciler.usecases.engines import plugin_for, wording_of
from reconciler.usecases.selection import Selection, matching_of, names_of

if TYPE_CHECKING:
    from reconciler.manifest import Manifest
    from reconciler.rules.matching import Matching
    from reconciler.usecases.workspace import Workspace

_GUARDED = frozenset({ActionKind.ABORT, ActionKind.RESTART, ActionKind.DELETE, ActionKind.FORGET})
"""The kinds of action that are limited even if the manifest sets no guards."""


def plan_of(
    workspace: "Workspace",
    state: State,
    matching: "Matching",
    selection: Selection,
    observed: Mapping[str, Observation],
    *,
    allowed: Mapping[str, int] = EMPTY,
    provenance: bool = True,
    before: Mapping[str, Observation] = EMPTY,
) -> Plan:
    """The plan of the selected jobs, with warnings about the plan as a whole.

    `observed` and `before` are as in `make_plan`, and `allowed` is as in `Plan`. With `provenance` the plan names the
    manifest, the commit and the state that it was made from.
    """
    from reconciler.rules.actions import make_plan

    manifest = workspace.manifest
    made = make_plan(
        matching,
        observed,
        wording_of(manifest.target),
        selection.among(names_of(matching)),
        state=state,
        manifest_digest=manifest.digest if provenance else "",
        commit=workspace.commit if provenance else None,
        paths=workspace.manifest_paths,
        before=before,
    )
    if observed:
        made = made._replace(actions=_with_drift(made, matching, observed))
    lost = _lost_state(state, [observed[job.id] for job in manifest.jobs.values() if job.id in observed])
    made = made._replace(
        warnings=(*_warnings(made, manifest, state), *lost), narrowed=_narrowed(selection, made, matching)
    )
    if provenance:
        made = _with_sources(made, workspace, state, observed)._replace(prune=selection.prune)
    return allowing(made, allowed)


def _with_sources(plan: Plan, workspace: "Workspace", state: State, observed: Mapping[str, Observation]) -> Plan:
    """The plan with the state and the observations that it was made from."""
    from reconciler.state.codec import records_digest

    # The name of a job at the service and its owner there decide nothing.
    nameless = {job_id: one._replace(name="", owned_by="") for job_id, one in observed.items()}
    return plan._replace(state=workspace.home.url, observed=nameless, records_digest=records_digest(state))


def allowing(plan: Plan, allowed: Mapping[str, int]) -> Plan:
    """The plan with the larger of two allowances for each kind of action: its own, and the one in `allowed`."""
    if not allowed:
        return plan
    return plan._replace(allowed={**plan.allowed, **{k: max(n, plan.allowed.get(k, 0)) for k, n in allowed.items()}})


def refusal_of(
    plan: Plan, manifest: "Manifest", state: State, done: Mapping[str, int] = EMPTY, *, is_read: bool = True
) -> Refused | None:
    """The error of the guard that refuses the plan; None if no guard does.

    `done` counts the actions, by kind, that the same apply has carried out before. `is_read` is whether the jobs were
    read before the plan was made.
    """
    if not manifest.guards and not any(action.kind in _GUARDED for action in plan.actions):
        return None
    from reconciler.rules.guards import check, check_loss

    try:
        declared = {job.id for job in manifest.jobs.values()}
        ends = (ActionKind.DELETE, ActionKind.FORGET)
        pruned = sum(action.kind in ends and action.id not in declared for action in plan.actions)
        if pruned:
            undeclared = len(matching_of(manifest, state, Selection()).undeclared)
            check_loss(plan, pruned, undeclared, _recorded(state))
        check(plan, manifest.guards, len(state.jobs), done, present=_recorded(state), is_read=is_read)
    except Refused as refusal:
        if too_few := _too_few(plan, refusal):
            refusal.message = f"{refusal.message}; {too_few}"
        return refusal
    return None


_RUNS = frozenset({ActionKind.RUN, ActionKind.RESTART, ActionKind.WAIT})
"""The kinds of actions that run a job, now or once another job has ended."""


def _with_drift(plan: Plan, matching: "Matching", observed: Mapping[str, Observation]) -> tuple[Action, ...]:
    """The actions. Where a job was read and there is nothing to do, the action says what `drift` finds."""
    from reconciler.rules.drift import DIFFERS, compare

    of_name = matching.by_name

    def judged(action: Action) -> Action:
        if action.kind is not ActionKind.NOOP or action.frozen or action.id not in observed:
            return action
        found = compare(of_name[action.job], observed[action.id])
        reason = f"{found.reason}: {found.way_out}" if found.way_out else found.reason
        return action._replace(reason=reason, drift=found.kind.value) if found.kind in DIFFERS else action

    return tuple(map(judged, plan.actions))


def _narrowed(selection: Selection, plan: Plan, matching: "Matching") -> Narrowed | None:
    jobs, of = len(plan.actions), len(matching.subjects)
    return Narrowed(jobs, of, selection.targets, selection.excludes) if jobs < of else None


def _warnings(plan: Plan, manifest: "Manifest", state: State) -> tuple[str, ...]:
    """The warnings about a whole plan: those of the engine, freezes that have ended, renamed jobs, lost jobs."""
    from reconciler.rules.guards import loss

    runs = [
        manifest.jobs[action.job] for action in plan.actions if action.kind in _RUNS and action.job in manifest.jobs
    ]
    of_engine = plugin_for(manifest.target).warnings(manifest.target, runs)
    over = f"no longer frozen, since `until` has passed: {', '.join(manifest.over)}" if manifest.over else ""
    lost = loss(len(plan.undeclared), _recorded(state)) if plan.undeclared else ""
    return (*of_engine, *filter(None, (over, lost)), *_renamed(plan, manifest, state))


def _lost_state(state: State, observed: Sequence[Observation]) -> Iterator[str]:
    """Yield a warning if nothing is recorded, and the declared jobs belong to one other state, which may be lost."""
    bearers = [one.marks.lineage for one in observed if one.marks.lineage]
    if state.jobs or len(set(bearers)) != 1 or bearers[0] == state.lineage:
        return
    belong = "1 declared job belongs" if len(bearers) == 1 else f"{len(bearers)} declared jobs belong"
    yield (
        f"nothing is recorded here, and {belong} to a state of lineage {bearers[0]}: if that state was lost, "
        f"{command('state rebuild')} makes its records anew, without a call"
    )


def _renamed(plan: Plan, manifest: "Manifest", state: State) -> Iterator[str]:
    """Yield a warning for each new job that has the config of a job which lost its declaration."""
    left = {name: state.jobs[name] for name in plan.undeclared if name in state.jobs and state.jobs[name].config}
    known = {record.id for record in state.jobs.values()}
    same = plugin_for(manifest.target).same_config
    for action in plan.actions if left else ():
        if action.kind is ActionKind.RUN and action.id not in known and action.job in manifest.jobs:
            job = manifest.jobs[action.job]
            if like := next((name for name, record in left.items() if same(job.config, record.config)), ""):
                yield (
                    f"{title(action.job)} has the config of {title(like)}, which is no longer declared: if that job "
                    f"was renamed, `id: {left[like].id}` keeps its runs, and nothing is run again"
                )


def _recorded(state: State) -> int:
    """The number of recorded jobs that are not absent."""
    return sum(record.state is not Desired.ABSENT for record in state.jobs.values())


def _too_few(plan: Plan, refusal: Refused) -> str:
    """A sentence about each allowance that is smaller than what the refused plan needs; "" if there is none."""
    pairs = [word.partition("=") for word in refusal.allow.split() if "=" in word]
    needed = {kind: int(number) for kind, _, number in pairs}
    return ", ".join(
        f"--allow {kind}={allowed} is too little: {needed[kind]} are needed"
        for kind, allowed in sorted(plan.allowed.items())
        if kind in needed and allowed < needed[kind]
    )
