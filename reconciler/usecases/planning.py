"""From a manifest, a state and a selection to a plan, and what refuses it."""

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from reconciler.model.commands import command
from reconciler.model.errors import ManifestError, ReconcilerError, Refused, UnknownJob
from reconciler.model.jobs import EMPTY, Desired, Observation, State, Target
from reconciler.model.plan import Action, ActionKind, Narrowed, Plan
from reconciler.model.plan_json import first_difference
from reconciler.usecases.wiring import (
    Place,
    World,
    commit_of,
    is_on_branch,
    located,
    manifest_paths,
    state_address,
    target_of,
    wording_of,
)

if TYPE_CHECKING:
    from reconciler.manifest import Head, Manifest
    from reconciler.rules.matching import Matching

_GUARDED = frozenset({ActionKind.ABORT, ActionKind.RESTART, ActionKind.DELETE, ActionKind.FORGET})
"""What a manifest without guards may still do too much of."""

_ALL_NAMES = f"{command('plan', options=['--format', 'json'])} names all jobs"


class Selection(NamedTuple):
    """Which jobs, by globs over their names; without any `targets`, all. `prune` adds the undeclared."""

    targets: tuple[str, ...] = ()
    excludes: tuple[str, ...] = ()
    prune: bool = False

    def among(self, names: Collection[str]) -> Callable[[str], bool]:
        """What tells whether a job of these names is selected."""
        if not self.targets and not self.excludes:
            return lambda name: True
        from reconciler.model.globs import matcher

        wanted = matcher(self.targets, names) if self.targets else lambda name: True
        unwanted = matcher(self.excludes, names)
        return lambda name: wanted(name) and not unwanted(name)


def validate(place: Place, world: World) -> "tuple[Manifest, int]":
    """The manifest, and how many files it is made of. Raises `ManifestError`."""
    from reconciler.manifest.files import read_sources
    from reconciler.manifest.parse import parse

    sources = read_sources(manifest_paths(place))
    manifest = parse(sources)
    if manifest.state is not None:
        from reconciler.state.homes import declared_home

        declared_home(manifest.state)
    return manifest._replace(target=target_of(manifest.target, place, insecure=manifest.access.insecure)), len(sources)


def manifest_at(place: Place, world: World) -> "Manifest":
    """The manifest, with each suspension marked that is over by now. Raises `ManifestError`."""
    import time

    from reconciler.rules.actions import lapsed

    manifest, _ = validate(place, world)
    over = lapsed(manifest.jobs, time.time())
    return manifest._replace(jobs={**manifest.jobs, **over}, over=tuple(over)) if over else manifest


def opened(place: Place, world: World) -> "tuple[Place, Manifest]":
    """The manifest as of now, and the place with its state's home. Raises as `manifest_at` and `located` do."""
    manifest = manifest_at(place, world)
    return located(place, manifest.state), manifest


def head_at(place: Place, world: World) -> "tuple[Place, Head]":
    """The manifest's head, and the place with its state's home, whatever is wrong with the rest of the manifest.

    Raises `ManifestError` where a fault leaves the head open, and as `located` does.
    """
    from reconciler.manifest.files import read_sources
    from reconciler.manifest.salvage import head_of

    head = head_of(read_sources(manifest_paths(place)))
    return located(place, head.state), head._replace(
        target=target_of(head.target, place, insecure=head.access.insecure)
    )


def at_home(place: Place, world: World) -> Place:
    """The place with its state's home. The manifest is asked for `state:` alone, and not where --state says it.

    Raises `ManifestError` where a fault leaves `state:` open, and as `located` does.
    """
    if place.state_url or place.home is not None or not any(map(os.path.lexists, manifest_paths(place))):
        return located(place, None)
    from reconciler.manifest.files import read_sources
    from reconciler.manifest.salvage import declared_state_of

    return located(place, declared_state_of(read_sources(manifest_paths(place))))


class Declared(NamedTuple):
    """What a manifest says, as far as commands that are about records need it.

    `ids` are the engine job ids of its jobs by name, None where faults leave them open.
    """

    target: Target
    ids: Mapping[str, str] | None


def declared_at(place: Place, world: World) -> tuple[Place, Declared]:
    """What the manifest declares, in spite of faults, and the place with its state's home.

    It is told where faults leave the names of jobs open. Raises as `head_at` does.
    """
    from reconciler.manifest.files import read_sources
    from reconciler.manifest.salvage import ids_in_spite_of_faults

    try:
        place, manifest = opened(place, world)
    except ManifestError as fault:
        place, head = head_at(place, world)
        ids = ids_in_spite_of_faults(read_sources(manifest_paths(place)))
        if ids is None:
            world.tell(f"{fault.message}, so names are those of the state: {command('validate')} shows what is wrong")
        return place, Declared(head.target, ids)
    return place, Declared(manifest.target, {name: job.id for name, job in manifest.jobs.items()})


def declared_names(place: Place, world: World) -> Sequence[str]:
    """The names of the jobs that the manifest declares, as far as it can be read; none where it can't."""
    from reconciler.manifest.files import read_sources
    from reconciler.manifest.parse import parse
    from reconciler.manifest.salvage import ids_in_spite_of_faults

    try:
        sources = read_sources(manifest_paths(place))
    except ReconcilerError:
        return ()
    try:
        return tuple(parse(sources).jobs)
    except ManifestError:
        return tuple(ids_in_spite_of_faults(sources) or ())


def endpoint_of_state(place: Place, world: World) -> str:
    """The endpoint that a state in a file is for, if it has one and is of the manifest's engine; else ""."""
    from reconciler.host.disk import OsDisk
    from reconciler.state.loading import load

    place, manifest = opened(place, world)
    if is_on_branch(place):
        return ""
    loaded = load(OsDisk(), state_address(place), None)
    recorded = loaded.state.target if loaded else manifest.target
    return recorded.endpoint if recorded.engine == manifest.target.engine else ""


def ids_to_read(matching: "Matching", selection: Selection) -> list[str]:
    """The engine job ids of what is selected and, wherever it stands, of what that comes after."""
    from reconciler.rules.circles import all_before

    ids = {subject.job.name: subject.job.id for subject in matching.subjects}
    after = {subject.job.name: subject.job.after for subject in matching.subjects if subject.job.after}
    chosen = list(filter(selection.among(ids), ids))
    before = all_before(filter(after.__contains__, chosen), lambda name: after.get(name, ()))
    return [ids[name] for name in dict.fromkeys((*chosen, *sorted(before)))]


def empty(target: Target) -> State:
    """What is recorded where nothing was ever applied."""
    return State("", 0, target, {})


def matching_of(manifest: "Manifest", state: State, selection: Selection) -> "Matching":
    """The manifest's jobs with the state's records, those that are no longer declared among them with `prune`."""
    from reconciler.rules.matching import match_records, prune

    matching = match_records(manifest.jobs, state.jobs)
    return prune(matching, state.jobs) if selection.prune else matching


def picked(manifest: "Manifest", state: State, selection: Selection) -> "Matching":
    """The same as `matching_of`. Raises `ReconcilerError` where a --target matches no job, or --exclude leaves none."""
    matching = matching_of(manifest, state, selection)
    names = names_of(matching)
    for glob in selection.targets:
        if glob not in names and not any(map(Selection((glob,)).among(names), names)):
            from reconciler.model.suggestions import Suggestions

            near = Suggestions().nearest(glob, tuple(names))
            raise UnknownJob(f"--target {glob} matches no job", f"did you mean {near}?" if near else _ALL_NAMES)
    if selection.excludes and not any(map(selection.among(names), names)):
        globs = " ".join(f"--exclude {glob}" for glob in selection.excludes)
        raise ReconcilerError(f"{globs} leaves no job", _ALL_NAMES)
    return matching


def names_of(matching: "Matching") -> Collection[str]:
    """The names of the jobs that a plan may be about, in order."""
    return {subject.job.name: None for subject in matching.subjects}.keys()


def plan_of(
    place: Place,
    world: World,
    manifest: "Manifest",
    state: State,
    matching: "Matching",
    selection: Selection,
    observed: Mapping[str, Observation],
    allowed: Mapping[str, int] = EMPTY,
    *,
    provenance: bool = True,
    holds_for_others: bool = True,
) -> Plan:
    """The plan of what is selected, with what is to be said of it as a whole; arguments as in `app.plan`.

    `holds_for_others` is as in `make_plan`.
    """
    from reconciler.rules.actions import make_plan

    made = make_plan(
        matching,
        observed,
        wording_of(manifest.target),
        selection.among(names_of(matching)),
        state=state,
        manifest_digest=manifest.digest if provenance else "",
        commit=commit_of(place, world) if provenance else None,
        paths=manifest_paths(place),
        holds_for_others=holds_for_others,
    )
    if observed:
        made = made._replace(actions=_with_drift(made, matching, observed))
    narrowed = _narrowed(selection, len(made.actions), len(matching.subjects))
    made = made._replace(warnings=_warnings(made, manifest, state), narrowed=narrowed)
    if provenance:
        # What a job is called there decides nothing.
        seen = {job_id: one._replace(name="") for job_id, one in observed.items()}
        made = made._replace(prune=selection.prune, state=state_address(place), observed=seen)
    return allowing(made, allowed)


def selection_of(saved: Plan) -> Selection:
    """The selection that a plan was made with."""
    narrowed = saved.narrowed
    return Selection(narrowed.targets, narrowed.excludes, saved.prune) if narrowed else Selection(prune=saved.prune)


def made_again(place: Place, world: World, manifest: "Manifest", state: State, saved: Plan) -> Plan:
    """The plan that a saved one is, made anew from manifest and state, and from what the saved one tells was read.

    That one is carried out, and nothing that only a file says: it allows nothing past the guards. Raises `Refused`
    where the two differ.
    """
    if not state.serial:  # a lineage is made with the first apply, which is under way
        state = state._replace(lineage="")
    refuse_stale(saved, manifest, state)
    selection = selection_of(saved)
    try:
        matching = picked(manifest, state, selection)
    except Refused:
        raise
    except ReconcilerError as fault:
        raise stale(f"it was edited: {fault.message}") from fault
    made = plan_of(place, world, manifest, state, matching, selection, saved.observed)
    if differs := first_difference(saved, made):
        raise stale(f"{differs} is not what manifest and state come to now, or it was edited")
    return made


def place_of(saved: Plan, place: Place, world: World) -> Place:
    """The place that a saved plan is about: its manifest, its state, and its service.

    What the command line says counts; where that says nothing the plan is taken at its word. It is not for a service
    beyond this machine that the manifest does not name: credentials would go there. Raises `Refused` where they differ.
    """
    from reconciler.model.endpoints import is_loopback

    place = place._replace(paths=saved.paths)
    manifest, _ = validate(place, world)
    endpoint = saved.target.endpoint
    if not place.endpoint and saved.target != manifest.target and endpoint and is_loopback(endpoint):
        place = place._replace(endpoint=endpoint)
    try:
        home = located(place, manifest.state).home
    except Refused:  # of several paths none says where their state lives
        home = None
    if not saved.state or (home is not None and home.url == saved.state and home.named_by):
        return place
    if place.state_url:
        raise stale(f"it was made from the state at {saved.state}, and {place.state_from} names {place.state_url}")
    return place._replace(state_url=saved.state, state_from="the saved plan")


def _with_drift(plan: Plan, matching: "Matching", observed: Mapping[str, Observation]) -> tuple[Action, ...]:
    """The actions, with what `drift` finds of each job that was read and for which there is nothing to do."""
    from reconciler.rules.drift import DIFFERS, compare

    of_name = matching.by_name

    def judged(action: Action) -> Action:
        if action.kind is not ActionKind.NOOP or action.suspended or action.id not in observed:
            return action
        found = compare(of_name[action.job], observed[action.id])
        reason = f"{found.reason}: {found.way_out}" if found.way_out else found.reason
        return action._replace(reason=reason, drift=found.kind.value) if found.kind in DIFFERS else action

    return tuple(map(judged, plan.actions))


def _narrowed(selection: Selection, jobs: int, of: int) -> Narrowed | None:
    return Narrowed(jobs, of, selection.targets, selection.excludes) if jobs < of else None


def _warnings(plan: Plan, manifest: "Manifest", state: State) -> tuple[str, ...]:
    """What is said of a plan as a whole: a token sent in clear, suspensions that are over, a loss of most jobs."""
    from reconciler.model.endpoints import is_in_clear
    from reconciler.rules.guards import loss

    endpoint = manifest.target.endpoint
    clear = f"{endpoint} is http: the access token goes over the network in clear" if is_in_clear(endpoint) else ""
    over = f"no longer suspended, for its time is over: {', '.join(manifest.over)}" if manifest.over else ""
    lost = loss(len(plan.undeclared), _recorded(state)) if plan.undeclared else ""
    return tuple(filter(None, (clear, over, lost)))


def _recorded(state: State) -> int:
    """How many jobs are recorded and not gone for good."""
    return sum(record.state is not Desired.ABSENT for record in state.jobs.values())


def allowing(plan: Plan, allowed: Mapping[str, int]) -> Plan:
    """The plan with more of a kind allowed."""
    if not allowed:
        return plan
    return plan._replace(allowed={**plan.allowed, **{k: max(n, plan.allowed.get(k, 0)) for k, n in allowed.items()}})


def refusal_of(
    plan: Plan, manifest: "Manifest", state: State, done: Mapping[str, int] = EMPTY, *, is_read: bool = True
) -> Refused | None:
    """Why a guard refuses the plan, None where none does.

    `done` is what this apply did before; `is_read` is whether the jobs were read before the plan was made.
    """
    if not manifest.guards and not any(action.kind in _GUARDED for action in plan.actions):
        return None
    from reconciler.rules.guards import check, check_loss
    from reconciler.rules.matching import match_records

    try:
        declared = {job.id for job in manifest.jobs.values()}
        ends = (ActionKind.DELETE, ActionKind.FORGET)
        pruned = sum(action.kind in ends and action.id not in declared for action in plan.actions)
        if pruned:
            undeclared = len(match_records(manifest.jobs, state.jobs).undeclared)
            check_loss(plan, pruned, undeclared, _recorded(state))
        check(plan, manifest.guards, len(state.jobs), done, present=_recorded(state), is_read=is_read)
    except Refused as refusal:
        if too_few := _too_few(plan, refusal):
            refusal.message = f"{refusal.message}; {too_few}"
        return refusal
    return None


def _too_few(plan: Plan, refusal: Refused) -> str:
    """That what was allowed past the guards is less than what the refused plan needs, in words; else ""."""
    pairs = [word.partition("=") for word in refusal.allow.split() if "=" in word]
    needed = {kind: int(number) for kind, _, number in pairs}
    return ", ".join(
        f"--allow {kind}={allowed} is too little: {needed[kind]} are needed"
        for kind, allowed in sorted(plan.allowed.items())
        if kind in needed and allowed < needed[kind]
    )


def refuse_stale(saved: Plan, manifest: "Manifest", state: State) -> None:
    """Raise `Refused` where a saved plan was made from another manifest or another state."""
    if saved.target != manifest.target:
        raise stale(
            f"it is for {saved.target}, and the manifest for {manifest.target}",
            f"make a new one; or, where that service is meant, name it: --endpoint {saved.target.endpoint}"
            if saved.target.endpoint
            else "",
        )
    if saved.manifest_digest != manifest.digest:
        raise stale("the manifest is not the one that the plan was made from")
    if saved.lineage != state.lineage:
        raise stale("the plan was made from another state (the lineage differs)")
    if saved.serial != state.serial:
        raise stale(f"the plan was made from serial {saved.serial} of the state, which is at {state.serial} now")


def stale(why: str, hint: str = "") -> Refused:
    """The refusal of a saved plan."""
    return Refused(f"the saved plan is stale: {why}", hint or "make a new one, review it, and apply that")
