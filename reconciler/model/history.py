"""The history as values: what was done to jobs, when, by whom, and on which grounds."""

from typing import NamedTuple

from reconciler.model.jobs import Config, Target

OBSERVED = "observed: "
"""The start of the reason of an entry that settles a call in doubt by an observation."""

NOTE, ACCEPT, ADOPT, ENDED, FORGET = "note", "accept", "adopt", "ended", "forget"
"""The verbs of entries without a call.

A note says when a run began or was seen active, or which service the state is for. The others say that a state was
accepted as it is, that the record of a job was made to fit an observation, that a run ended, and that the record of a
job was removed.
"""

APPLIED, NOT_APPLIED = "applied", "not-applied"
"""The outcomes of an entry that settles a call in doubt."""


class Origin(NamedTuple):
    """The person and the sources behind an entry.

    `who` is a CI identity, a git user or user@host. `commit` is the commit that was checked out; None outside git.
    `plan` is the digest of the plan, or "" without a plan. `command` is the command of this tool. `allowed` says what
    the plan could do past the guards (`allowed_words`), or is "".
    """

    who: str
    commit: str | None = None
    plan: str = ""
    command: str = ""
    allowed: str = ""


class Details(NamedTuple):
    """The end of a call, or of a change of a record.

    `outcome` is succeeded, failed or in-doubt for a call, and applied or not-applied for an entry that settles a call.
    `status` is the code of the last answer; None without an answer, and for a code that is no number. `seconds` is the
    duration of the call; None if nothing was sent. `end` says how a run ended, for the verb `ENDED`; else it is "".
    """

    outcome: str = "succeeded"
    status: int | None = None
    request_id: str = ""
    seconds: float | None = None
    reason: str = ""
    end: str = ""


class HistoryEntry(NamedTuple):
    """One entry of the history: a call, the settlement of a call in doubt, or a change of a record without a call.

    `at` is the time at which the call was sent or the record changed, as RFC 3339 in UTC. `who`, `commit`, `plan`,
    `command` and `allowed` are as in `Origin`. `outcome`, `status`, `request_id`, `seconds` and `reason` are as in
    `Details`. `job` is the name of the job at that time, and `id` is its engine job id. `op` identifies the call or the
    change. `serial` and `lineage` are those of the first state that holds the change. `run` is the number of the run
    that the entry is about; 0 if that run has no number. `end` says how the run ended: complete, failed or aborted; it
    is "" for every verb but `ENDED`. `config`, `run_token` and `target` are those of a run that was sent. All three are
    None for any other entry, and `run_token` is None for a run without one.
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
    run: int = 0
    end: str = ""
    config: Config | None = None
    run_token: str | None = None
    target: Target | None = None

    @property
    def settles(self) -> bool:
        """Whether the entry settles a call in doubt."""
        return self.outcome in (APPLIED, NOT_APPLIED)


def of_job(entries: list[HistoryEntry], job: str) -> list[HistoryEntry]:
    """The entries of one job, in their order. `job` is a name or an engine job id.

    The entries from before a rename of the job are included.
    """
    ids = {entry.id for entry in entries if entry.id and job in (entry.job, entry.id)}
    return [entry for entry in entries if entry.job == job or entry.id in ids]
