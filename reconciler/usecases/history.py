"""`reconciler history`: what was done, by whom and when. Writes nothing."""

import os
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from reconciler.model.commands import command
from reconciler.model.errors import ReconcilerError, StateError, UnknownJob, Usage
from reconciler.model.history import HistoryEntry, of_job
from reconciler.model.jobs import EMPTY, displaced_key, title

if TYPE_CHECKING:
    from reconciler.state.history import StoredHistory
    from reconciler.usecases.workspace import Workspace

_LATEST = 20
"""The number of entries that a page shows of each job."""

_DATE = r"\d{4}-\d{2}-\d{2}([T ].*)?"
_DATE_ALONE = "give a date or a time in UTC, such as 2026-11-28 or 2026-11-28T14:30"
"""The forms that --since takes where the place of the state has no revisions."""
_SINCE = f"{_DATE_ALONE}, or a revision, such as a commit"
"""The forms that --since takes."""


class Checked(NamedTuple):
    """The result of a check of the history: the number of its entries, its faults, and remarks that are no faults."""

    entries: int
    faults: list[str]
    remarks: list[str]


def history(workspace: "Workspace", job: str = "", since: str = "") -> list[HistoryEntry]:
    """The entries of the history, the newest first.

    With `job`, a name or an id, the entries of one job. A name in the manifest means one engine job. Another name means
    each engine job that ever had it. With `since`, the entries from a date on, or those that the history did not have
    at a commit. Raises `ReconcilerError` if the job has no entry, or if there is no such commit.
    """
    stored = workspace.store.read_history()
    entries = _entries_of(job, stored, workspace) if job else stored.entries
    if re.fullmatch(_DATE, since):
        start_s = _seconds(since)
        entries = [entry for entry in entries if _seconds(entry.at) >= start_s]
    elif since:
        before = _keys_at(workspace, since)
        entries = [entry for entry in entries if (entry.op, entry.settles) not in before]
    return entries[::-1]


def latest_entries(workspace: "Workspace") -> Mapping[str, Sequence[HistoryEntry]]:
    """The latest entries of each job by engine job id, the oldest first; none if the history can't be read."""
    try:
        entries = workspace.store.read_history().entries
    except StateError:  # a page about a plan is useful without the history
        return EMPTY
    of_id: dict[str, list[HistoryEntry]] = {}
    for entry in entries:
        of_id.setdefault(entry.id, []).append(entry)
    return {job_id: own[-_LATEST:] for job_id, own in of_id.items() if job_id}


def check(workspace: "Workspace") -> Checked:
    """Look for missing, repeated and damaged entries."""
    from reconciler.manifest.revisions import attribute
    from reconciler.state.history import ATTRIBUTE, faults

    stored = workspace.store.read_history()
    remarks = []
    if stored.unwritten:
        remarks.append("a command was killed: the next command adds to the history what the journal holds")
    is_file = bool(workspace.home.path) and os.path.exists(stored.where)
    if is_file and attribute(stored.where, "merge") not in (None, "union"):
        remarks.append(f"git does not merge it by lines: add `{ATTRIBUTE}` to .gitattributes")
    return Checked(len(stored.entries), faults(stored), remarks)


def _entries_of(job: str, stored: "StoredHistory", workspace: "Workspace") -> list[HistoryEntry]:
    """The entries of one job. Remarks on other engine jobs that had its name. Raises `UnknownJob` if there are none."""
    from reconciler.rules.naming import record_named

    entries, ids = stored.entries, workspace.declared_ids
    job_id = (ids or {}).get(job, "")
    if not job_id and stored.state is not None:
        try:
            job_id = record_named(job, ids, stored.state.jobs).record.id
        except ReconcilerError:  # the word is an id, or the name of a job that is no longer recorded
            pass
    found = of_job(entries, job) if not job_id else [entry for entry in entries if entry.id == job_id]
    others = sorted({entry.id for entry in entries if entry.job == job and entry.id} - {entry.id for entry in found})
    # The name means the engine job that has it now, also where an earlier one had the name as its id.
    named = ", ".join(
        command("history", title(displaced_key(job, other)) if other == job else other) for other in others
    )
    if not found:
        called = title(job) if job_id in ("", job) else f"{title(job)} (id {job_id})"
        hint = f"other jobs had that name before: {named}" if others else _nearest(job, entries)
        raise UnknownJob(f"{stored.where} has no entry for {called}", hint)
    if others:
        workspace.world.remark(f"{title(job)} is the engine job {job_id}; other jobs had that name before: {named}")
    return found


def _nearest(job: str, entries: Sequence[HistoryEntry]) -> str:
    """A hint with the most similar name in the history, and with the command that shows all names."""
    from reconciler.model.suggestions import Suggestions

    near = Suggestions().nearest(job, sorted({entry.job for entry in entries if entry.job}))
    shows_all = f"{command('history')} shows all of its entries"
    return f"did you mean {command('history', near)}? {shows_all}" if near else shows_all


def _keys_at(workspace: "Workspace", since: str) -> set[tuple[str, bool]]:
    """The keys of the entries that the history had at a revision of the place where the state lives."""
    from reconciler.state.history import read
    from reconciler.state.port import NoRevisions

    try:
        content = workspace.store.at(since).content
    except ReconcilerError as fault:
        words, forms = ("neither a date nor a revision", _SINCE)
        if isinstance(fault, NoRevisions):
            words, forms = "no date", _DATE_ALONE
        message = f"--since {since} is {words}: {fault.message}"
        raise fault.changed(message=message, hint=f"{forms}; {fault.hint}") from fault
    return {one.key for one in read(content)[0]}


def _seconds(text: str) -> float:
    """A date or a time, as in RFC 3339, in seconds since 1970. Without a zone it is UTC. Raises `Usage`."""
    from datetime import UTC, datetime

    try:
        found = datetime.fromisoformat(text)
    except ValueError as fault:
        raise Usage(f"{text} is no date: {fault}", _SINCE) from fault
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
