"""Saved plans: the workspace of one, and the check that it still fits the manifest and the state."""

import os
from typing import TYPE_CHECKING

from reconciler.model.commands import command
from reconciler.model.errors import ReconcilerError, Refused
from reconciler.model.jobs import State
from reconciler.model.plan import Plan
from reconciler.model.plan_json import first_difference
from reconciler.usecases.engines import plugin_for
from reconciler.usecases.plan_files import stale_plan
from reconciler.usecases.planning import plan_of
from reconciler.usecases.selection import Selection, selected

if TYPE_CHECKING:
    from reconciler.manifest import Manifest
    from reconciler.usecases.workspace import Workspace


def workspace_of(saved: Plan, workspace: "Workspace") -> "Workspace":
    """The workspace that a saved plan is about: its manifest, its state and its service.

    What the command line names wins. Otherwise the plan decides, with one exception: the plan can't name a service
    beyond this machine that the manifest does not name, since credentials would be sent there. Raises `Refused` if the
    command line and the plan contradict each other.
    """
    workspace = workspace.at(workspace.place._replace(paths=saved.paths))
    place, target = workspace.place, _manifest_of(saved, workspace).target
    is_named_elsewhere = not place.endpoint and saved.target != target and saved.target.address
    if is_named_elsewhere and plugin_for(target).is_on_this_machine(saved.target):
        place = place._replace(endpoint=saved.target.address)
    try:
        home = workspace.home
    except Refused:  # nothing names the home of a state for several paths
        home = None
    if not saved.state or (home is not None and home.url == saved.state and home.named_by):
        return workspace.at(place)
    if place.state_url:
        raise stale_plan(f"it was made from the state at {saved.state}, and {place.state_from} names {place.state_url}")
    return workspace.at(place._replace(state_url=saved.state, state_from="the saved plan"))


def _manifest_of(saved: Plan, workspace: "Workspace") -> "Manifest":
    """The manifest that a saved plan names. If it is not there, the error says from where the plan names it."""
    try:
        return workspace.manifest
    except ReconcilerError as fault:
        lost = [path for path in saved.paths if not os.path.exists(path)]
        if not lost:
            raise
        raise ReconcilerError(
            f"{lost[0]}: no such file or folder; the saved plan was made from it, and names it as seen from the folder "
            "where `plan` was run",
            "go to that folder and apply the plan there",
        ) from fault


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
    _refuse_stale_plan(saved, workspace.manifest, state)
    selection = selection_of(saved)
    try:
        matching = selected(workspace.manifest, state, selection, workspace.world.clocks.wall_s())
    except Refused:
        raise
    except ReconcilerError as fault:
        raise stale_plan(f"it was edited: {fault.message}") from fault
    made = plan_of(workspace, state, matching, selection, saved.observed)
    if differs := first_difference(saved, made):
        raise stale_plan(f"{differs} is not what manifest and state come to now, or it was edited")
    return made


def _refuse_stale_plan(saved: Plan, manifest: "Manifest", state: State) -> None:
    """Raise `Refused` if a saved plan was made from another manifest, from another state, or from other records."""
    from reconciler.state.codec import records_digest

    if saved.target != manifest.target:
        raise stale_plan(
            f"it is for {saved.target}, and the manifest for {manifest.target}",
            f"make a new one; or, where that service is meant, name it: --endpoint {saved.target.address}"
            if saved.target.address
            else "",
        )
    if saved.manifest_digest != manifest.digest:
        raise stale_plan("the manifest is not the one that the plan was made from")
    if not saved.lineage and state.lineage:
        raise stale_plan(
            "there was no state when it was made, and there is one now: an apply was made since, perhaps of this plan",
            f"{command('history')} shows what was done; {command('plan')} shows what is left to do",
        )
    if saved.lineage != state.lineage:
        raise stale_plan("the plan was made from another state (the lineage differs)")
    if saved.records_digest != records_digest(state) or saved.serial > state.serial:
        raise stale_plan(f"the plan was made from serial {saved.serial} of the state, which is at {state.serial} now")
