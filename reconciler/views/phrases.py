"""Phrases that several formats use, so that all of them say the same. The text is not yet safe to show."""

from reconciler.model.history import HistoryEntry
from reconciler.model.jobs import Doubt, Observation
from reconciler.model.outcomes import ActionOutcome, Outcome
from reconciler.model.plan import ActionKind

NONE = "–"
"""What stands for a value that is not there."""


def counted(count: int, singular: str, plural: str = "") -> str:
    """A number with its noun: "1 job", "2 jobs", "2 entries". The plural is the singular with an "s" by default."""
    return f"{count} {singular if count == 1 else plural or f'{singular}s'}"


def not_shown(more: int) -> str:
    """The sentence about faults that are left out."""
    return f"{more} more faults are not shown"


def observed(seen: Observation) -> str:
    """The status of a job, with the service's own word for it where there is one."""
    return f"{seen.status} ({seen.word})" if seen.word else str(seen.status)


def doubt_state(doubt: Doubt) -> str:
    """The state of a call that has no answer: "under way" while its command is at work, else "in doubt"."""
    return "under way" if doubt.holder else "in doubt"


def spoken(outcome: str) -> str:
    """An outcome as it is read: "in doubt" for "in-doubt"."""
    return outcome.replace("-", " ")


def is_undone(outcome: ActionOutcome) -> bool:
    """Whether the action did not end as planned."""
    return outcome.outcome not in (Outcome.SUCCEEDED, Outcome.RECORDED)


def is_held(outcome: ActionOutcome) -> bool:
    """Whether a hold took the place of the action."""
    return outcome.done is ActionKind.HOLD


def explanation(outcome: ActionOutcome) -> str:
    """The reason for the outcome of an action, with the request id of an error; "" where there is none."""
    # The reason of a skipped action begins with "skipped: ", which stands beside it already.
    text = (outcome.error or outcome.note).removeprefix(f"{outcome.outcome}: ")
    return f"{text} ({request(outcome.request_id)})" if outcome.request_id and outcome.error else text


def request(request_id: str) -> str:
    """A request id with its noun, or "" where there is no id."""
    return f"request {request_id}" if request_id else ""


def commit(entry: HistoryEntry) -> str:
    """The first 12 digits of an entry's commit, or "" where there was none."""
    return (entry.commit or "")[:12]
