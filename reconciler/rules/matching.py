"""Jobs matched with records, by the engine job id."""

from collections.abc import Mapping
from operator import attrgetter
from typing import NamedTuple

from reconciler.model.jobs import Desired, Job, Record, displaced_key


class Subject(NamedTuple):
    """One job to decide about: what is asked of it, and the record that is about its engine job.

    A record is matched by engine job id, so that a job whose name changed keeps it: `renamed_from`
    is the old name, or "". `keep` is False for a job that no manifest declares: its record is
    dropped rather than kept as absent.
    """

    job: Job
    record: Record | None
    renamed_from: str = ""
    keep: bool = True


_name_of = attrgetter("job.name")


class Matching(NamedTuple):
    """The manifest's jobs matched with the state's records.

    `moves` maps a record's key in the state to its new key: a renamed job's, and, where a name was
    given a new id, the old engine job's record, which stays on record as undeclared, under a key that
    is no name (`displaced_key`).
    `undeclared` are the keys (after the moves) of records that no job claims; `spent` those of them
    that are recorded absent with no call in doubt, which have nothing more to say and may be dropped.
    """

    subjects: tuple[Subject, ...]
    moves: Mapping[str, str]
    undeclared: tuple[str, ...]
    spent: tuple[str, ...]

    @property
    def by_name(self) -> dict[str, Subject]:
        """The subjects by their jobs' names."""
        return {subject.job.name: subject for subject in self.subjects}


def match_records(jobs: Mapping[str, Job], records: Mapping[str, Record]) -> Matching:
    """Match jobs (by name) with records (by name): same id first, whatever the names say."""
    subjects: list[Subject] = []
    moves: dict[str, str] = {}
    strangers: set[str] = set()
    for name, job in jobs.items():
        record = records.get(name)
        if record is not None and record.id == job.id:
            subjects.append(Subject(job, record))
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
                subjects.append(Subject(job, None))
            else:
                claimed.add(key)
                moves[key] = name
                subjects.append(Subject(job, records[key], renamed_from=key))
        for name in strangers & records.keys() - claimed:
            moves[name] = displaced_key(name, records[name].id)
        declared = jobs.keys() - strangers | set(moves.values()) & strangers
        undeclared = {moves.get(key, key) for key in records} - declared
    origin = {new: old for old, new in moves.items()}
    spent = {key for key in undeclared if _is_spent(records[origin.get(key, key)])}
    subjects.sort(key=_name_of)
    return Matching(tuple(subjects), moves, tuple(sorted(undeclared - spent)), tuple(sorted(spent)))


def _is_spent(record: Record) -> bool:
    return record.state is Desired.ABSENT and record.doubt is None


def prune(matching: Matching, records: Mapping[str, Record]) -> Matching:
    """The same matching, with every undeclared record treated as declared absent."""
    origin = {new: old for old, new in matching.moves.items()}
    pruned = [
        Subject(Job(key, record.id, Desired.ABSENT, {}), record, keep=False)
        for key in matching.undeclared
        for record in [records[origin.get(key, key)]]
    ]
    return Matching((*matching.subjects, *pruned), matching.moves, (), matching.spent)
