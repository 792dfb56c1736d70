"""`reconciler state`: look at what is recorded, and repair it. Nothing here calls the service."""

from typing import TYPE_CHECKING

from reconciler.model.commands import command, settling
from reconciler.model.errors import ManifestError, ReconcilerError, Refused, StateError, Usage
from reconciler.model.jobs import NOT_ASKED, State, Target, title
from reconciler.model.plan import ActionKind
from reconciler.usecases.engines import plugin_for
from reconciler.usecases.named_records import call_in_doubt, find_record

if TYPE_CHECKING:
    from reconciler.manifest.model import TargetBlock
    from reconciler.rules.naming import NamedRecord
    from reconciler.usecases.workspace import Workspace


def pull(workspace: "Workspace") -> State | None:
    """The state, with its journal; None if nothing was ever applied."""
    target = workspace.head.target
    return workspace.store.read(target)


def records(workspace: "Workspace") -> State | None:
    """The state, its records under the names that they have in a plan; None if nothing was ever applied.

    Remarks on each record that the state has under another name.
    """
    from reconciler.rules.naming import records_by_name

    target, ids = workspace.head.target, workspace.declared_ids
    state = workspace.store.read(target)
    if state is None:
        return None
    found = records_by_name(ids or {}, state.jobs)
    for one in found.values():
        if one.remark:
            workspace.world.remark(one.remark)
    return state._replace(jobs={name: one.record for name, one in found.items()})


def show(workspace: "Workspace", job: str, revision: str = "") -> "NamedRecord":
    """The record of a job. With a `revision`, the record as it was then.

    Raises `ReconcilerError` if there is no such record.
    """
    target, ids = workspace.head.target, workspace.declared_ids
    state = _state_at(workspace, revision) if revision else workspace.store.read(target)
    return find_record(job, ids, state, workspace.world.remark)


def _state_at(workspace: "Workspace", revision: str) -> State:
    """The state as it was at a revision. Raises `ReconcilerError` if there was none then, or only a damaged one."""
    stored = workspace.store.at(revision)
    if stored.trouble:
        raise StateError(f"at {revision}, {stored.trouble}", "look at another revision")
    if stored.state is None:
        raise ReconcilerError(f"{workspace.state_name} was not there at {revision}", "name a later revision")
    return stored.state


def forget(workspace: "Workspace", job: str, lock_timeout_s: float) -> "tuple[NamedRecord, str]":
    """Drop the record of a job. Returns the record, and a sentence about what the next plan does.

    The sentence is "" if the job is not declared, or if the manifest has faults. Raises `ReconcilerError` if there is
    no such record, and `Refused` for a record with a call in doubt, since nothing else records that call.
    """
    target, ids = workspace.head.target, workspace.declared_ids
    with workspace.store.open(target, "state forget", lock_timeout_s) as session:
        found = find_record(job, ids, session.state, workspace.world.remark)
        if found.record.doubt is not None:
            raise Refused(
                f"{title(found.name)} has a call in doubt, which would be lost: {call_in_doubt(found)}",
                f"settle it first: {command('apply')}, or {settling(found.name)}",
            )
        session.put(found.key, None)
    return found, _next_plan(workspace, found.name)


def _next_plan(workspace: "Workspace", name: str) -> str:
    """A sentence about what a plan does with a declared job that has no record; "" if the job is not declared."""
    from reconciler.rules.decide import decide
    from reconciler.rules.matching import Subject

    try:
        manifest = workspace.manifest
    except ManifestError:
        return ""
    if name not in manifest.jobs:
        return ""
    job = manifest.jobs[name]
    kind = decide(Subject(job, None, plugin_for(manifest.target).same_config), NOT_ASKED).kind
    planned = "leaves it alone" if kind is ActionKind.NOOP else f"is to {kind} it"
    return f"{manifest.position(name)}: {title(name)} is still declared {job.state}: the next plan {planned}"


def move(workspace: "Workspace", old: str, new: str, lock_timeout_s: float) -> "tuple[NamedRecord, str]":
    """Give a record another name. Returns the record under its old name, and a sentence about the next apply.

    The sentence is "" unless the manifest declares the engine job under another name than the new one.

    Raises `ReconcilerError` if there is no such record, if no job can have the new name, or if another record has it.
    """
    from reconciler.manifest.faults import job_fault
    from reconciler.rules.naming import records_by_name

    target, ids = workspace.head.target, workspace.declared_ids
    with workspace.store.open(target, "state mv", lock_timeout_s) as session:
        records = session.state.jobs
        # A remark that the next apply renames the record would not be true any more.
        found = find_record(old, ids, session.state, lambda text: None)
        if fault := job_fault(new, {"id": found.record.id, "state": "running"}):
            raise ReconcilerError(f'no job can be called "{new}": {fault}', "give it another name")
        if new in records or new in records_by_name(ids or {}, records).keys() - {found.name}:
            raise ReconcilerError(f"{new} is recorded already", f"{command('state show', new)} tells what it is")
        session.move({found.key: new})
    return found, _next_apply(workspace, found.record.id, new)


def _next_apply(workspace: "Workspace", job_id: str, recorded_as: str) -> str:
    """A sentence about an apply that takes the record for another job than a person may mean; "" if none does.

    The manifest may give the engine job another name, or give the new name of the record to another engine job.
    """
    try:
        manifest = workspace.manifest
    except ManifestError:
        return ""
    for name, job in manifest.jobs.items():
        if job.id == job_id and name != recorded_as:
            declared = f"{manifest.position(name)}: the manifest still declares this job as {title(name)}"
            to_keep = f"rename it there to {title(recorded_as)}, with `id: {job_id}`"
            return f"{declared}: {to_keep}, or the next apply renames the record to {title(name)}"
    if recorded_as in manifest.jobs and (declared_id := manifest.jobs[recorded_as].id) != job_id:
        where, name = manifest.position(recorded_as), title(recorded_as)
        return f"{where}: {name} is the engine job {declared_id} there: add `id: {job_id}`, or it is a job of its own"
    return ""


def push(workspace: "Workspace", content: bytes, where: str, lock_timeout_s: float) -> tuple[State, bool]:
    """Record the state that a file holds in place of an older state.

    `where` is the name of the file. Returns the state, and whether that changed anything.
    """
    from reconciler.state.codec import decode

    target = workspace.head.target
    try:
        state = decode(content, where)
    except StateError as fault:
        # What a state at its own place needs is of no use here: it would act on that state, and not on this file.
        raise fault.changed(hint="give a copy of that file that is whole; the state is left as it was") from fault
    store = workspace.store
    return state, store.put(state, target, lock_timeout_s)


def accept(workspace: "Workspace", lock_timeout_s: float, moved_to: str | None = None) -> tuple[State, list[str]]:
    """Accept the state as it is. Returns the state, and remarks on what was accepted.

    `moved_to` is the address of the service that the state is for from now on; for an embedded sandbox it is
    `sandbox`. The user gives it if the service has moved there. Raises `StateError` if the state is for another target
    and `moved_to` is None, and `Refused` if `moved_to` is not the target of the manifest. Without a state there is
    nothing to accept: raises `Refused` if a history shows that there was a state, else `Usage`.
    """
    head = workspace.head
    target = head.target
    store = workspace.store
    if moved_to is not None and not _is_named_by(moved_to, target, head.block):
        raise Refused(
            f"--moved-to names {moved_to}, and the manifest is for {target}",
            "name the service in the manifest first, or with --endpoint",
        )
    try:
        is_empty = store.read(target) is None
    except StateError:  # the fault of the state may be what is accepted
        is_empty = False
    if is_empty:
        raise Usage(f"{store.where} is not there, so there is nothing to accept", f"{command('apply')} makes a state")
    return store.accept(target, lock_timeout_s, has_moved=moved_to is not None)


def accept_identity(workspace: "Workspace", lock_timeout_s: float) -> tuple[str, str]:
    """Take the service that the target leads to now for the one that the state is for. Reads its identity.

    Returns the recorded identity and the new one in words: the parts that differ, or all parts if one side alone has
    more. Both are the same if there was nothing to take. Raises `Usage` if nothing was ever applied, or if the service
    has no identity that can be read.
    """
    from reconciler.rules.identities import parts_text
    from reconciler.usecases.engines import Pace

    target = workspace.head.target
    if workspace.store.read(target) is None:
        raise Usage("nothing was ever applied, so the state is for no service yet", f"{command('apply')} makes a state")
    with (
        workspace.store.open(target, "state accept", lock_timeout_s) as session,
        workspace.open_engine(Pace(), session.identity, may_change=True, is_replaced=True) as engine,
    ):
        before, found = dict(session.identity), dict(engine.identity())
        if not found:
            raise Usage(f"{target} has no identity that can be read", "there is nothing to accept")
        session.identify(found, f"the service is {parts_text(found)} from now on, and was {parts_text(before)}")
    # A part that only one side has reads as a riddle beside one that differs: "restarts yes" beside a session.
    other = {name for name in before.keys() & found.keys() if before[name] != found[name]}
    was, now = (parts_text({name: one[name] for name in other or one}) for one in (before, found))
    return was, now


def _is_named_by(address: str, target: Target, block: "TargetBlock") -> bool:
    """Whether an address that a person wrote is that of the target. An embedded service goes by its engine's name."""
    if address == (target.address or target.engine):
        return True
    engine, fields = plugin_for(target), {**block.fields, "endpoint": address}
    if "endpoint" not in engine.target_schema.get("properties", {}):
        return False
    return not any(engine.target_faults(fields)) and engine.target(fields, block.folder) == target
