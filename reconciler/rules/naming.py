"""Which record a person means by the name of a job: the one that a plan of the same manifest calls so."""

import re
import shlex
from collections.abc import Mapping
from typing import NamedTuple

from reconciler.model.commands import command
from reconciler.model.errors import ReconcilerError, Refused, UnknownJob
from reconciler.model.jobs import Desired, Job, Record, displaced_key, title
from reconciler.model.suggestions import Suggestions
from reconciler.rules.matching import match_records

_WITH_ID = re.compile(r"(?: (?P<key>.+)@(?P<key_id>[^@]+)|(?P<name>.+) \(id (?P<id>[^()]+)\))", re.DOTALL)
"""A record that is named together with its engine job id: as a key of a displaced record, or as people read it."""


class Meant(NamedTuple):
    """The record that is meant.

    `name` is what a plan calls it, `key` where the state has it; they differ until the next apply moves the record.
    """

    name: str
    key: str
    record: Record

    @property
    def remark(self) -> str:
        """What to say where the state knows the record by another name; "" where it does not."""
        if self.name == self.key:
            return ""
        known_as = f"recorded as {title(self.key)} until the next apply"
        return f"{title(self.name)} is the engine job {self.record.id}, {known_as}"


def named(ids: Mapping[str, str], records: Mapping[str, Record]) -> dict[str, Meant]:
    """All records by the names that a plan gives them, sorted by name; `ids` are the declared jobs' by name."""
    jobs = {name: Job(name, job_id, Desired.RUNNING, {}) for name, job_id in ids.items()}
    moves = match_records(jobs, records).moves
    found = {moves.get(key, key): key for key in records}
    return {name: Meant(name, found[name], records[found[name]]) for name in sorted(found)}


def meant_by(word: str, ids: Mapping[str, str] | None, records: Mapping[str, Record]) -> Meant:
    """The record of a job, named as a plan names it; or with its id: `NAME (id ID)`, or as the key of the record.

    The name that the state has does too, where the manifest declares no job of that name. `ids` are those of the
    declared jobs by name, None where nobody knows them: then names are the state's. An exact name wins. Raises
    `ReconcilerError` where no record is meant.
    """
    known = named(ids or {}, records)
    if word in known:
        return known[word]
    if word in records and word not in (ids or {}):
        return next(meant for meant in known.values() if meant.key == word)
    with_id = _named_with_id(word, known)
    if with_id is None:
        raise _unknown(word, (ids or {}).get(word, ""), records.get(word), known)
    return with_id


def _named_with_id(word: str, known: Mapping[str, Meant]) -> Meant | None:
    parts = _WITH_ID.fullmatch(word)
    if parts is None:
        return None
    name, job_id = parts["key"] or parts["name"], parts["key_id"] or parts["id"]
    for meant in known.values():
        names = (meant.name, meant.key)
        if meant.record.id == job_id and (name in names or displaced_key(name, job_id) in names):
            return meant
    return None


def _unknown(word: str, job_id: str, record: Record | None, known: Mapping[str, Meant]) -> ReconcilerError:
    """The error for a name by which a plan means no record; the state may have that of another engine job there."""
    said = f"nothing is recorded of {title(word)}" + (f" (id {job_id})" if job_id not in ("", word) else "")
    if record is None:
        near = "" if job_id else Suggestions().nearest(word, tuple(known))
        listed = f"{command('state list')} shows the names"
        return UnknownJob(said, f"did you mean {shlex.quote(near)}? {listed}" if near else listed)
    return ReconcilerError(
        f"{said}: what the state has under that name is the engine job {record.id}",
        f"look whether that is the one: {command('state show', displaced_key(word, record.id))}",
    )


def refuse_guess(word: str, meant: Meant, records: Mapping[str, Record]) -> None:
    """Raise `Refused` where a name that only the state knows could mean another of several calls in doubt."""
    doubtful = [key for key, record in records.items() if record.doubt is not None]
    if word == meant.key and len(doubtful) > 1:
        raise Refused(
            f"{len(doubtful)} jobs have calls in doubt, and the manifest can't be read: it is not known which of "
            f"them it means by {word}; the state has the engine job {meant.record.id} under that name",
            f"mend the manifest ({command('validate')} shows what is wrong), or name the job with its id: "
            f"{command('resolve', displaced_key(meant.key, meant.record.id), options=['--applied'])}, "
            "or the same with `--not-applied`",
        )
