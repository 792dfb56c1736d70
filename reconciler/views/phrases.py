"""Phrases that several formats share, so that all formats use the same words. The phrases are not yet safe to show."""

from reconciler.model.history import ENDED, HistoryEntry
from reconciler.model.jobs import Doubt, Observation, Record, Status
from reconciler.model.outcomes import ActionOutcome, Outcome
from reconciler.model.plan import ActionKind
from reconciler.rules.runs import run_id

NONE = "–"
"""The sign for a missing value."""


def counted(count: int, singular: str, plural: str = "") -> str:
    """Return a number with its noun: "1 job", "2 jobs", "2 entries". The default plural is the singular with an "s"."""
    return f"{count} {singular if count == 1 else plural or f'{singular}s'}"


def not_shown(more: int) -> str:
    """Return the sentence about faults that are left out."""
    return f"{more} more faults are not shown"


def observed(seen: Observation) -> str:
    """Return the status of a job, with the service's own word for the status if there is one."""
    return f"{seen.status} ({seen.word})" if seen.word else str(seen.status)


def last_run(record: Record | None) -> str:
    """Return the run id of the last run, and how that run ended if the record says so; "" without either."""
    if record is None:
        return ""
    name = run_id(record.id, record.run) or (NONE if record.end else "")
    return f"{name}, {record.end}" if record.end else name


def run_of(entry: HistoryEntry) -> str:
    """Return the run id of the run that an entry is about, or "" if that run has no number."""
    return run_id(entry.id, entry.run)


def outcome_of(entry: HistoryEntry) -> str:
    """Return the outcome of an entry in words. For the end of a run, that is how the run ended."""
    return end_of(entry) or spoken(entry.outcome)


def end_of(entry: HistoryEntry) -> str:
    """Return how the run of an entry ended; "" if the entry is not about the end of a run.

    A run that the engine withdrew never began, so that it has no end.
    """
    return (entry.end or str(Status.WITHDRAWN)) if entry.verb == ENDED else ""


def doubt_state(doubt: Doubt) -> str:
    """Return the state of a call without an answer: "under way" while its command is running, else "in doubt"."""
    return "under way" if doubt.holder else "in doubt"


def spoken(outcome: str) -> str:
    """Return an outcome in words: "in doubt" for "in-doubt"."""
    return outcome.replace("-", " ")


def is_undone(outcome: ActionOutcome) -> bool:
    """Return whether the action did not end as planned."""
    return outcome.outcome not in (Outcome.SUCCEEDED, Outcome.RECORDED)


def is_held(outcome: ActionOutcome) -> bool:
    """Return whether a hold took the place of the action."""
    return outcome.done is ActionKind.HOLD


def left_word(outcome: ActionOutcome) -> str:
    """Return the word for an action whose job was left alone: "held" or "waiting"; "" for any other."""
    if is_held(outcome):
        return "held"
    return spoken(outcome.outcome) if outcome.outcome is Outcome.WAITING else ""


def explanation(outcome: ActionOutcome) -> str:
    """Return the reason for an outcome, with the request id of an error, or ""."""
    # The reason of a skipped action begins with "skipped: ", and the line shows the outcome already.
    text = (outcome.error or outcome.note).removeprefix(f"{outcome.outcome}: ")
    return f"{text} ({request(outcome.request_id)})" if outcome.request_id and outcome.error else text


def request(request_id: str) -> str:
    """Return a request id with its noun, or "" without an id."""
    return f"request {request_id}" if request_id else ""


def commit(entry: HistoryEntry) -> str:
    """Return the first 12 digits of an entry's commit, or "" without a commit."""
    return (entry.commit or "")[:12]
