"""The use cases that look back: what was done, what was recorded, what a change of the manifest meant.

They write nothing.
"""

import os
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from reconciler.manifest.files import DEFAULTS, repository_of
from reconciler.model.commands import command
from reconciler.model.errors import ReconcilerError, Refused, StateError, UnknownJob, Usage
from reconciler.model.history import HistoryEntry, of_job
from reconciler.model.jobs import EMPTY, Desired, Job, Record, State, Verb, title
from reconciler.model.plan import Plan
from reconciler.usecases.planning import at_home, declared_at
from reconciler.usecases.wiring import (
    Place,
    World,
    is_on_branch,
    open_branch,
    open_store,
    state_name,
    state_path,
    target_of,
    wording_of,
)

if TYPE_CHECKING:
    from reconciler.manifest import Manifest
    from reconciler.manifest.revisions import Revision
    from reconciler.rules.matching import Matching
    from reconciler.rules.naming import Meant
    from reconciler.rules.review import Review
    from reconciler.state.history import StoredHistory

_LATEST = 20
"""So many entries of each job a page shows."""

_DATE = r"\d{4}-\d{2}-\d{2}([T ].*)?"
_SINCE = "give a date or a time in UTC, such as 2026-11-28 or 2026-11-28T14:30, or a commit"
"""The forms that --since takes."""

_VERBS: Mapping[Desired, Verb] = {
    Desired.RUNNING: Verb.RUN,
    Desired.ABORTED: Verb.ABORT,
    Desired.ABSENT: Verb.DELETE,
}


class Checked(NamedTuple):
    """What a look through the history found: how many entries it has, its faults, and what else to know."""

    entries: int
    faults: list[str]
    remarks: list[str]


class Compared(NamedTuple):
    """What an apply of the manifest at `after` would have meant where that at `before` was applied.

    `records` are those that the latter would have left; none where there was no manifest.
    """

    plan: Plan
    refusal: ReconcilerError | None
    before: "Revision"
    after: "Revision"
    manifest: "Manifest"
    matching: "Matching"
    records: Mapping[str, Record]


def history(place: Place, world: World, job: str = "", since: str = "") -> list[HistoryEntry]:
    """What was done, newest first: to one job, by name or id, and since a date or a commit, where these are given.

    A name means the engine job that a plan means by it; one that a plan does not have means all that ever had it.
    Since a commit, of the repository or branch that keeps the history, is what the file did not tell then.
    Raises `ReconcilerError` where nothing is told of the job, or there is no such commit.
    """
    place = at_home(place, world)
    stored = open_store(place, world).read_history()
    entries = stored.entries
    if job:
        entries = _entries_of(job, entries, stored, place, world)
    if re.fullmatch(_DATE, since):
        start_s = _seconds(since)
        entries = [entry for entry in entries if _seconds(entry.at) >= start_s]
    elif since:
        from reconciler.state.history import read

        try:
            content = _history_at(place, world, since)
        except ReconcilerError as fault:
            fault.message = f"--since {since} is neither a date nor a commit: {fault.message}"
            has_commits = is_on_branch(place) or repository_of(os.path.dirname(os.path.abspath(state_path(place))))
            fault.hint = f"{_SINCE}; {fault.hint}" if has_commits else _SINCE
            raise
        before = {one.key for one in read(content)[0]}
        entries = [entry for entry in entries if (entry.op, entry.settles) not in before]
    return entries[::-1]


def _entries_of(
    job: str, entries: list[HistoryEntry], stored: "StoredHistory", place: Place, world: World
) -> list[HistoryEntry]:
    """What was done to one job. Others that had its name are told of. Raises `ReconcilerError` where nothing was."""
    from reconciler.rules.naming import meant_by

    place, declared = declared_at(place, world)
    job_id = (declared.ids or {}).get(job, "")
    if not job_id and stored.state is not None:
        try:
            job_id = meant_by(job, declared.ids, stored.state.jobs).record.id
        except ReconcilerError:  # it was recorded before, or its id was given
            pass
    found = of_job(entries, job) if not job_id else [entry for entry in entries if entry.id == job_id]
    others = sorted({entry.id for entry in entries if entry.job == job and entry.id} - {entry.id for entry in found})
    named = ", ".join(command("history", other) for other in others)
    if not found:
        said = title(job) if job_id in ("", job) else f"{title(job)} (id {job_id})"
        from reconciler.model.suggestions import Suggestions

        near = Suggestions().nearest(job, sorted({entry.job for entry in entries if entry.job}))
        shows_all = f"{command('history')} shows all of its entries"
        hint = f"did you mean {command('history', near)}? {shows_all}" if near else shows_all
        raise UnknownJob(
            f"{stored.where} has no entry for {said}",
            f"other jobs had that name before: {named}" if others else hint,
        )
    if others:
        world.tell(f"{title(job)} is the engine job {job_id}; other jobs had that name before: {named}")
    return found


def check(place: Place, world: World) -> Checked:
    """Look for what is missing in the history, told twice or damaged."""
    from reconciler.manifest.revisions import attribute
    from reconciler.state.history import ATTRIBUTE, faults

    place = at_home(place, world)
    stored = open_store(place, world).read_history()
    remarks = []
    if stored.unwritten:
        remarks.append("a command was killed: the next command adds to the history what the journal holds")
    is_file = not is_on_branch(place) and os.path.exists(stored.where)
    if is_file and attribute(stored.where, "merge") not in (None, "union"):
        remarks.append(f"git does not merge it by lines: add `{ATTRIBUTE}` to .gitattributes")
    return Checked(len(stored.entries), faults(stored), remarks)


def histories(place: Place, world: World) -> Mapping[str, Sequence[HistoryEntry]]:
    """The latest entries of each job by engine job id, oldest first; none where the history can't be read."""
    try:
        entries = open_store(at_home(place, world), world).read_history().entries
    except StateError:  # a page is about what is planned
        return EMPTY
    of_id: dict[str, list[HistoryEntry]] = {}
    for entry in entries:
        of_id.setdefault(entry.id, []).append(entry)
    return {job_id: own[-_LATEST:] for job_id, own in of_id.items() if job_id}


def recorded_at(place: Place, world: World, revision: str) -> State:
    """The state as it was committed, on a branch of its own with what its journal held.

    Raises `ReconcilerError` where there was none, or none that is sound.
    """
    place = at_home(place, world)
    if is_on_branch(place):
        stored = open_branch(place, world).read_history_at(revision)
        if stored.trouble:
            raise StateError(f"at {revision}, {stored.trouble}", "look at another revision")
        if stored.state is None:
            raise ReconcilerError(f"{state_name(place)} was not there at {revision}", "name a later revision")
        return stored.state
    from reconciler.manifest.revisions import file_at
    from reconciler.state.codec import decode

    at, path = _revision_of_state(place, revision)
    content = file_at(at, os.path.basename(path))
    if content is None:
        raise ReconcilerError(f"{path} was not there at {revision}", f"git log -- {path} shows when it was")
    try:
        return decode(content, f"{revision}:{path}")
    except StateError as fault:
        raise StateError(fault.message, "look at another revision") from fault


def record_of(place: Place, world: World, job: str, revision: str = "") -> "Meant":
    """The record of a job, as a plan of the manifest means it; with a `revision`, as it was committed to git then.

    Raises `ReconcilerError` where it has none.
    """
    from reconciler.rules.naming import meant_by

    place, declared = declared_at(place, world)
    state = recorded_at(place, world, revision) if revision else open_store(place, world).read(declared.target)
    meant = meant_by(job, declared.ids, state.jobs if state else {})
    if meant.remark:
        world.tell(meant.remark)
    return meant


def diff(place: Place, before: str, after: str) -> Compared:
    """Plan the manifest of one commit as if that of another had been applied. Reads git alone.

    Raises `ReconcilerError` where there was no manifest at `after`, or the two are for different targets.
    """
    import time

    from reconciler.manifest.parse import parse
    from reconciler.manifest.revisions import revision, sources_at
    from reconciler.rules.actions import lapsed, make_plan
    from reconciler.rules.guards import loss
    from reconciler.rules.matching import match_records

    at, then = revision(".", after), revision(".", before)
    sources = sources_at(at, place.paths)
    if not sources:
        looked_for = " or ".join(place.paths or DEFAULTS)
        raise ReconcilerError(f"there was no manifest at {after}: no {looked_for}", "name the path that it had then")
    manifest = parse(sources)
    jobs = {**manifest.jobs, **lapsed(manifest.jobs, time.time())}
    manifest = manifest._replace(target=target_of(manifest.target, place), jobs=jobs)
    records: dict[str, Record] = {}
    if sources_before := sources_at(then, place.paths):
        old = parse(sources_before)
        if target_of(old.target, place) != manifest.target:
            raise ReconcilerError(
                f"the manifest is for {old.target} at {before}, and for {manifest.target} at {after}",
                "an apply refuses the state of another target; --endpoint takes both for one",
            )
        records = {name: _as_applied(job) for name, job in old.jobs.items()}
    matching = match_records(manifest.jobs, records)
    made = make_plan(
        matching,
        {},
        wording_of(manifest.target),
        lambda name: True,
        state=State("", 0, manifest.target, records),
        manifest_digest=manifest.digest,
        commit=at.commit,
        paths=place.paths or tuple({name.removeprefix(f"{after}:").split("/")[0]: None for name, _ in sources}),
    )
    kept = sum(record.state is not Desired.ABSENT for record in records.values())
    lost = loss(len(made.undeclared), kept)
    made = made._replace(warnings=(lost,) if lost else ())
    return Compared(made, _refusal(made, manifest, len(records), kept), then, at, manifest, matching, records)


def review_diff(compared: Compared, place: Place) -> "Review":
    """The plan of a `diff` with all that is known of its jobs."""
    from reconciler.model.plan import SAME_IN_BOTH, verdict
    from reconciler.model.plan_json import plan_digest
    from reconciler.rules.matching import prune
    from reconciler.rules.review import review_plan

    made, before, after = compared.plan, compared.before, compared.after
    review = review_plan(
        made,
        prune(compared.matching, compared.records).subjects,
        {},
        compared.manifest.position,
        {},
        state_at=f"{before.name}..{after.name} {' '.join(made.paths)}",
        refusal=compared.refusal,
    )
    facts = (
        ("Manifest", ", ".join(made.paths)),
        ("Target", str(made.target)),
        ("Observed", f"not read: {after.name} as if {before.name} had been applied"),
        ("Commit", made.commit or ""),
        ("Over commit", before.commit),
        ("Manifest digest", made.manifest_digest),
        ("Plan digest", plan_digest(made)),
    )
    said = verdict(made, same=SAME_IN_BOTH)
    undeclared = set(map(title, made.undeclared))
    rows = tuple(
        row._replace(reason=f"no longer declared in {after.name}", way_out="") if row.job in undeclared else row
        for row in review.rows
    )
    return review._replace(
        title="Diff", verdict=f"Refused. {said}" if compared.refusal else said, facts=facts, rows=rows
    )


def _as_applied(job: Job) -> Record:
    """The record of a job once what is asked of it was done."""
    from reconciler.rules.matching import Subject
    from reconciler.rules.records import applied, protection

    record = applied(job, None, _VERBS[job.state])
    return protection(Subject(job, record)).get(job.name, record)


def _refusal(plan: Plan, manifest: "Manifest", recorded: int, present: int) -> Refused | None:
    from reconciler.rules.guards import check as check_guards

    try:
        check_guards(plan, manifest.guards, recorded, present=present)
    except Refused as refusal:
        return refusal
    return None


def _history_at(place: Place, world: World, revision: str) -> bytes:
    """The history as it was committed, b"" for none."""
    if is_on_branch(place):
        return open_branch(place, world).read_history_at(revision).content
    from reconciler.manifest.revisions import file_at
    from reconciler.state.history import history_path

    at, path = _revision_of_state(place, revision)
    return file_at(at, os.path.basename(history_path(path))) or b""


def _revision_of_state(place: Place, name: str) -> "tuple[Revision, str]":
    """A commit of the repository that the state file lies in, and that file's path."""
    from reconciler.manifest.revisions import revision

    path = state_path(place)
    return revision(os.path.dirname(path), name), path


def _seconds(text: str) -> float:
    """A date, or a time in RFC 3339, in seconds since 1970; without a zone it is UTC. Raises `Usage`."""
    from datetime import UTC, datetime

    try:
        found = datetime.fromisoformat(text)
    except ValueError as fault:
        raise Usage(f"{text} is no date: {fault}", _SINCE) from fault
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
