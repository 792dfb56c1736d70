"""Matching: finds the record of each job by the engine job id, so that a renamed job keeps its record."""

from collections.abc import Mapping
from operator import attrgetter
from typing import NamedTuple

from reconciler.model.jobs import EMPTY, Desired, Job, Record, displaced_key
from reconciler.model.promises import NO_PROMISES, Promises
from reconciler.rules.configs import SameConfig


class Terms(NamedTuple):
    """What all decisions about the jobs of one state rest on.

    `promises` are those of the engine. `lineage` is that of the state, and `last` is `State.last`. `now_s` is the time
    in seconds since 1970, UTC; 0 where no decision depends on the time.
    """

    promises: Promises = NO_PROMISES
    lineage: str = ""
    last: Mapping[str, int] = EMPTY
    now_s: float = 0.0


NO_TERMS = Terms()


class Subject(NamedTuple):
    """One job to decide about, and the record of its engine job; None if there is no record.

    `renamed_from` is the key of the record if that is not the job's name, else "". `keep` is False for a job that no
    manifest declares: the record of such a job is dropped once the job is deleted. `same_config` is that of the job's
    engine. `last` is the number of the last run of the engine job, and `lineage` is that of the state. `may_ask_again`
    is True if a run in doubt may be sent again under its own run id: the engine can't start a second run of that id.
    `terms` are the same for all jobs of a state.
    """

    job: Job
    record: Record | None
    same_config: SameConfig
    renamed_from: str = ""
    keep: bool = True
    last: int = 0
    lineage: str = ""
    may_ask_again: bool = False
    terms: Terms = NO_TERMS


name_of = attrgetter("job.name")
"""Takes a subject, and returns the name of its job. Sorts use it as their key."""


class Matching(NamedTuple):
    """The jobs of the manifest, matched with the records of the state.

    `moves` maps the key of a record in the state to its new key. The record of a renamed job moves to the new name.
    If the manifest gives a name another engine job id, then the record of the old engine job moves to a key that is no
    name (`displaced_key`), and is undeclared from then on.
    `undeclared` are the keys, after the moves, of the records that no job has. `spent` are the same for records that
    are absent and have no call in doubt: these records may be dropped. No key is in both. `same_config` is that of the
    engine, and `terms` are those of each subject.
    """

    subjects: tuple[Subject, ...]
    moves: Mapping[str, str]
    undeclared: tuple[str, ...]
    spent: tuple[str, ...]
    same_config: SameConfig
    terms: Terms = NO_TERMS

    @property
    def by_name(self) -> dict[str, Subject]:
        """The subjects by their jobs' names."""
        return {subject.job.name: subject for subject in self.subjects}


def match_records(
    jobs: Mapping[str, Job], records: Mapping[str, Record], same_config: SameConfig, terms: Terms = NO_TERMS
) -> Matching:
    """Match jobs with records, both by name: the engine job id decides. The rest is for the decisions about them."""
    subjects: list[Subject] = []

    def add(job: Job, record: Record | None, old: str = "") -> None:
        subjects.append(_subject(job, record, same_config, terms)._replace(renamed_from=old))

    moves: dict[str, str] = {}
    strangers: set[str] = set()
    for name, job in jobs.items():
        record = records.get(name)
        if record is not None and record.id == job.id:
            number = terms.last.get(job.id, 0)
            subjects.append(Subject(job, record, same_config, "", True, number, terms.lineage, False, terms))
        else:
            strangers.add(name)
    if not strangers:
        undeclared = records.keys() - jobs.keys()
    else:
        key_of = {record.id: key for key, record in records.items()}
        claimed = set()
        for name in sorted(strangers):
            job = jobs[name]
            key = key_of.get(job.id)
            if key is None:
                add(job, None)
            else:
                claimed.add(key)
                moves[key] = name
                add(job, records[key], key)
        for name in strangers & records.keys() - claimed:
            moves[name] = displaced_key(name, records[name].id)
        declared = jobs.keys() - strangers | set(moves.values()) & strangers
        undeclared = {moves.get(key, key) for key in records} - declared
    origin = {new: old for old, new in moves.items()}
    spent = {key for key in undeclared if _is_spent(records[origin.get(key, key)])}
    subjects.sort(key=name_of)
    return Matching(tuple(subjects), moves, tuple(sorted(undeclared - spent)), tuple(sorted(spent)), same_config, terms)


def _subject(job: Job, record: Record | None, same_config: SameConfig, terms: Terms) -> Subject:
    last = terms.last.get(job.id, 0)
    return Subject(job, record, same_config, last=last, lineage=terms.lineage, terms=terms)


def _is_spent(record: Record) -> bool:
    """Whether an undeclared record may be dropped: its job is gone, and no call is in doubt."""
    return record.state is Desired.ABSENT and record.doubt is None


def prune(matching: Matching, records: Mapping[str, Record]) -> Matching:
    """The same matching, where each undeclared record has a job that the manifest declares absent."""
    origin = {new: old for old, new in matching.moves.items()}
    pruned = [
        _subject(job, record, matching.same_config, matching.terms)._replace(keep=False)
        for key in matching.undeclared
        for record in [records[origin.get(key, key)]]
        for job in [Job(key, record.id, Desired.ABSENT, {})]
    ]
    return matching._replace(subjects=(*matching.subjects, *pruned), undeclared=())
