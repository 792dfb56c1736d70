"""The record that a user means by the name of a job."""

from collections.abc import Callable, Mapping

from reconciler.model.commands import command
from reconciler.model.errors import ReconcilerError, UnknownJob
from reconciler.model.jobs import State, title
from reconciler.rules.naming import NamedRecord, record_named


def find_record(
    job: str, ids: Mapping[str, str] | None, state: State | None, remark: Callable[[str], None]
) -> NamedRecord:
    """The record of a job in a state, by the name that the job has in a plan. `ids` is as in `Workspace.declared_ids`.

    `remark` is called if the state has the record under another name. Raises `ReconcilerError` if there is no such
    record.
    """
    try:
        found = record_named(job, ids, state.jobs if state else {})
    except UnknownJob as fault:
        if job not in (ids or {}):
            raise
        raise ReconcilerError(
            f"{title(job)} is declared, and nothing is recorded of it: no apply has sent a call for it yet",
            f"{command('plan')} shows what an apply would do",
        ) from fault
    if found.remark:
        remark(found.remark)
    return found


def call_in_doubt(found: NamedRecord) -> str:
    """The call in doubt of a record, as text: the verb, the engine job and the time."""
    doubt = found.record.doubt
    assert doubt is not None, f"{title(found.name)} has no call in doubt"
    return f"{doubt.verb} of the engine job {found.record.id}, sent at {doubt.sent_at}"
