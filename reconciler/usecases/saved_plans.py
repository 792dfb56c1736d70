"""Saved plans: reading one, finding its workspace, and checking that it still fits the manifest and the state."""

from typing import TYPE_CHECKING, Any

from reconciler.model.commands import command
from reconciler.model.errors import ReconcilerError, Refused
from reconciler.model.jobs import State
from reconciler.model.plan import Plan
from reconciler.model.plan_json import first_difference
from reconciler.usecases.planning import plan_of
from reconciler.usecases.selection import Selection, selected

if TYPE_CHECKING:
    from reconciler.manifest import Manifest
    from reconciler.usecases.workspace import Workspace

_MAKE_A_PLAN = f"make one: {command('plan', options=['--out', 'FILE'])}"


def read_plan(text: str, where: str) -> Plan:
    """The saved plan in a text from the file `where`. Raises `ReconcilerError` if the text is no saved plan."""
    import json

    from reconciler.manifest.schema import Validator, schema_text
    from reconciler.model.plan_json import plan_from_json, plan_to_json

    try:
        document = json.loads(text, object_pairs_hook=_each_key_once)
    except (ValueError, RecursionError) as fault:
        raise ReconcilerError(f"{where} is no saved plan: {fault}", _MAKE_A_PLAN) from fault
    for path, _, message in Validator(json.loads(schema_text("plan.schema.json"))).refusals(document):
        raise ReconcilerError(
            f"{where} is no saved plan: {'.'.join(map(str, path)) or 'the document'}: {message}",
            _MAKE_A_PLAN,
        )
    plan = plan_from_json(document)
    document.pop("refused", None)
    if json.dumps(plan_to_json(plan), sort_keys=True) != json.dumps(document, sort_keys=True):
        raise _stale(f"{where} was edited: its parts contradict each other")
    return plan


def workspace_of(saved: Plan, workspace: "Workspace") -> "Workspace":
    """The workspace that a saved plan is about: its manifest, its state and its service.

    What the command line names wins. Otherwise the plan decides, with one exception: the plan can't name a service
    beyond this machine that the manifest does not name, since credentials would be sent there. Raises `Refused` if the
    command line and the plan contradict each other.
    """
    from reconciler.model.endpoints import is_loopback

    workspace = workspace.at(workspace.place._replace(paths=saved.paths))
    place, target = workspace.place, workspace.manifest.target
    endpoint = saved.target.endpoint
    if not place.endpoint and saved.target != target and endpoint and is_loopback(endpoint):
        place = place._replace(endpoint=endpoint)
    try:
        home = workspace.home
    except Refused:  # nothing names the home of a state for several paths
        home = None
    if not saved.state or (home is not None and home.url == saved.state and home.named_by):
        return workspace.at(place)
    if place.state_url:
        raise _stale(f"it was made from the state at {saved.state}, and {place.state_from} names {place.state_url}")
    return workspace.at(place._replace(state_url=saved.state, state_from="the saved plan"))


def selection_of(saved: Plan) -> Selection:
    """The selection that a plan was made with."""
    narrowed = saved.narrowed
    return Selection(narrowed.targets, narrowed.excludes, saved.prune) if narrowed else Selection(prune=saved.prune)


def made_again(saved: Plan, workspace: "Workspace", state: State) -> Plan:
    """The same plan, made again from the manifest, the state, and the observations in the saved plan.

    An apply carries out this plan, so that the file alone can change nothing. Allowances of the saved plan don't count.
    Raises `Refused` if the two plans differ.
    """
    if not state.serial:  # the apply that is under way has made a lineage, and there was none before
        state = state._replace(lineage="")
    _refuse_stale(saved, workspace.manifest, state)
    selection = selection_of(saved)
    try:
        matching = selected(workspace.manifest, state, selection)
    except Refused:
        raise
    except ReconcilerError as fault:
        raise _stale(f"it was edited: {fault.message}") from fault
    made = plan_of(workspace, state, matching, selection, saved.observed)
    if differs := first_difference(saved, made):
        raise _stale(f"{differs} is not what manifest and state come to now, or it was edited")
    return made


def _refuse_stale(saved: Plan, manifest: "Manifest", state: State) -> None:
    """Raise `Refused` if a saved plan was made from another manifest or another state."""
    if saved.target != manifest.target:
        raise _stale(
            f"it is for {saved.target}, and the manifest for {manifest.target}",
            f"make a new one; or, where that service is meant, name it: --endpoint {saved.target.endpoint}"
            if saved.target.endpoint
            else "",
        )
    if saved.manifest_digest != manifest.digest:
        raise _stale("the manifest is not the one that the plan was made from")
    if saved.lineage != state.lineage:
        raise _stale("the plan was made from another state (the lineage differs)")
    if saved.serial != state.serial:
        raise _stale(f"the plan was made from serial {saved.serial} of the state, which is at {state.serial} now")


def _stale(why: str, hint: str = "") -> Refused:
    """The refusal of a saved plan."""
    return Refused(f"the saved plan is stale: {why}", hint or "make a new one, review it, and apply that")


def _each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON. Raises `ValueError` for a repeated key, since readers differ in which value they take."""
    document = dict(pairs)
    if len(document) < len(pairs):
        raise ValueError("a field stands there twice")
    return document
