"""What was done before, by whom and on whose word, as values."""

from typing import NamedTuple

OBSERVED = "observed: "
"""How the reason begins where a call was settled by looking at what it should have done."""

NOTE, ACCEPT = "note", "accept"
"""Verbs that are no call: of a run, when it began; of a state, that it is taken as it stands."""

APPLIED, NOT_APPLIED = "applied", "not-applied"
"""The outcomes of what settles a call in doubt."""


class Origin(NamedTuple):
    """Whose word an entry rests on.

    `who` is a CI identity, a git user or user@host; `commit` is the one that was checked out, None
    outside git; `plan` the digest of the plan, "" where there was none; `command` is that of the tool;
    `allowed` says how far a guard may be passed, "" where none was.
    """

    who: str
    commit: str | None = None
    plan: str = ""
    command: str = ""
    allowed: str = ""


class Details(NamedTuple):
    """What there is to say of a call, or of a change of a record, once it came to its end.

    `outcome` is succeeded, failed or in-doubt for a call, applied or not-applied for what settles one.
    `status` is the HTTP status of the last answer, None where none was read; `seconds` is how long it
    took, None where nothing was sent.
    """

    outcome: str = "succeeded"
    status: int | None = None
    request_id: str = ""
    seconds: float | None = None
    reason: str = ""


class HistoryEntry(NamedTuple):
    """One entry of the history: a call, what settled one that was in doubt, or a record that changed without a call.

    `at` is RFC 3339 in UTC: when the call was sent, or the record changed. `who` is a CI identity, a git
    user or user@host. `commit` is None where there was none. `status` is the HTTP status of the last
    answer, None where nothing was sent or answered, `seconds` how long it took. `job` is the name that
    the job had then, `id` the engine's. `op` is what the call or the change is known by. `serial` is that of
    the state which holds it first, `lineage` that state's.
    """

    at: str
    who: str
    commit: str | None
    verb: str
    outcome: str
    status: int | None = None
    request_id: str = ""
    job: str = ""
    id: str = ""
    op: str = ""
    command: str = ""
    plan: str = ""
    allowed: str = ""
    reason: str = ""
    answer: str = ""
    seconds: float | None = None
    lineage: str = ""
    serial: int = 0

    @property
    def settles(self) -> bool:
        """Whether it says what became of a call that was in doubt."""
        return self.outcome in (APPLIED, NOT_APPLIED)


def of_job(entries: list[HistoryEntry], job: str) -> list[HistoryEntry]:
    """What was done to one job, given by name or engine job id, under whatever name it went then."""
    ids = {entry.id for entry in entries if entry.id and job in (entry.job, entry.id)}
    return [entry for entry in entries if entry.job == job or entry.id in ids]
