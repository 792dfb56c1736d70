"""Naming: finds the record that a user means by a name. A name means the same record here as in a plan."""

import re
import shlex
from collections.abc import Mapping
from operator import eq
from typing import NamedTuple

from reconciler.model.commands import command
from reconciler.model.errors import ReconcilerError, Refused, UnknownJob
from reconciler.model.jobs import Desired, Job, Record, displaced_key, title
from reconciler.model.suggestions import Suggestions
from reconciler.rules.matching import match_records

_WITH_ID = re.compile(r"(?: (?P<key>.+)@(?P<key_id>[^@]+)|(?P<name>.+) \(id (?P<id>[^()]+)\))", re.DOTALL)
"""A name with an engine job id: the key of a displaced record, or the form `NAME (id ID)` that users read."""


class NamedRecord(NamedTuple):
    """A record with its two names: `name` is its name in a plan, and `key` is its key in the state.

    The next apply moves the record to `name` if the two differ.
    """

    name: str
    key: str
    record: Record

    @property
    def remark(self) -> str:
        """A remark for the user if the state has the record under another key than its name; else ""."""
        if self.name == self.key:
            return ""
        known_as = f"recorded as {title(self.key)} until the next apply"
        return f"{title(self.name)} is the engine job {self.record.id}, {known_as}"


def records_by_name(ids: Mapping[str, str], records: Mapping[str, Record]) -> dict[str, NamedRecord]:
    """All records by their names in a plan, sorted by name. `ids` maps each declared name to its engine job id."""
    jobs = {name: Job(name, job_id, Desired.RUNNING, {}) for name, job_id in ids.items()}
    moves = match_records(jobs, records, eq).moves
    found = {moves.get(key, key): key for key in records}
    return {name: NamedRecord(name, found[name], records[found[name]]) for name in sorted(found)}


def record_named(word: str, ids: Mapping[str, str] | None, records: Mapping[str, Record]) -> NamedRecord:
    """The record that `word` means. The first rule that matches counts:

    1. `word` is the name of the record in a plan.
    2. `word` is the key of the record in the state, and the manifest declares no job of that name.
    3. `word` holds the engine job id too, as `NAME (id ID)` or as the key of a displaced record.

    `ids` maps each declared name to its engine job id. It is None if the manifest can't be read; the keys in the state
    are the names then. Raises `UnknownJob` or another `ReconcilerError` if `word` means no record.
    """
    known = records_by_name(ids or {}, records)
    if word in known:
        return known[word]
    if word in records and word not in (ids or {}):
        return next(named for named in known.values() if named.key == word)
    with_id = _named_with_id(word, known)
    if with_id is None:
        raise _unknown(word, ids or {}, records.get(word), known)
    return with_id


def _named_with_id(word: str, known: Mapping[str, NamedRecord]) -> NamedRecord | None:
    """The record of a name with an engine job id; None if `word` has no id, or if no record has both."""
    parts = _WITH_ID.fullmatch(word)
    if parts is None:
        return None
    name, job_id = parts["key"] or parts["name"], parts["key_id"] or parts["id"]
    for named in known.values():
        names = (named.name, named.key)
        if named.record.id == job_id and (name in names or displaced_key(name, job_id) in names):
            return named
    return None


def _unknown(
    word: str, ids: Mapping[str, str], record: Record | None, known: Mapping[str, NamedRecord]
) -> ReconcilerError:
    """The error for a name that means no record. The state may have a record of another engine job under that key."""
    job_id = ids.get(word, "")
    message = f"nothing is recorded of {title(word)}" + (f" (id {job_id})" if job_id not in ("", word) else "")
    if record is None:
        near = "" if job_id else Suggestions().nearest(word, sorted({*known, *ids}))
        listed = f"{command('state list')} shows the names"
        return UnknownJob(message, f"did you mean {shlex.quote(near)}? {listed}" if near else listed)
    return ReconcilerError(
        f"{message}: what the state has under that name is the engine job {record.id}",
        f"look whether that is the one: {command('state show', displaced_key(word, record.id))}",
    )


def refuse_guess(word: str, named: NamedRecord, records: Mapping[str, Record]) -> None:
    """Raise `Refused` if several calls are in doubt and `word`, a key of the state, may name another one of them."""
    doubtful = [key for key, record in records.items() if record.doubt is not None]
    if word == named.key and len(doubtful) > 1:
        raise Refused(
            f"{len(doubtful)} jobs have calls in doubt, and the manifest can't be read: it is not known which of "
            f"them it means by {word}; the state has the engine job {named.record.id} under that name",
            f"mend the manifest ({command('validate')} shows what is wrong), or name the job with its id: "
            f"{command('resolve', displaced_key(named.key, named.record.id), options=['--applied'])}, "
            "or the same with `--not-applied`",
        )
