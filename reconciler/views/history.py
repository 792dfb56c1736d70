"""A history as a table for people, and as a document for machines."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from reconciler.history import HistoryEntry
from reconciler.jobs import title
from reconciler.text import Style, field, styled
from reconciler.views.text import table

_HEAD = ("WHEN", "JOB", "ACTION", "OUTCOME", "HTTP", "TOOK", "BY", "COMMIT", "REASON, AND THE ANSWER")


def text(entries: Sequence[HistoryEntry]) -> str:
    """The entries in the order given, one a line."""
    return table([_HEAD, *map(_row, entries)]) if entries else "The history is empty."


def document(entries: Iterable[HistoryEntry]) -> dict[str, Any]:
    """The entries in the order given, all that is known of each; the form is that of `schemas/history.schema.json`."""
    return {"formatVersion": 1, "entries": [_entry(entry) for entry in entries]}


def checked(count: int, faults: Sequence[str]) -> str:
    """What a look through a history found."""
    if faults:
        return "\n".join(f"{styled(Style.RED, 'fault:')} {field(fault)}" for fault in faults)
    return f"The history is whole: {'1 entry' if count == 1 else f'{count} entries'}."


def checked_document(count: int, faults: Sequence[str], remarks: Sequence[str]) -> dict[str, Any]:
    """The same with `remarks`, in the form of `schemas/history-check.schema.json`."""
    return {"formatVersion": 1, "entries": count, "faults": list(faults), "remarks": list(remarks)}


def _row(entry: HistoryEntry) -> tuple[str, ...]:
    request = f"request {entry.request_id}" if entry.request_id else ""
    return (
        entry.at,
        title(entry.job) or "–",
        entry.verb,
        entry.outcome.replace("-", " "),
        "" if entry.status is None else str(entry.status),
        "" if entry.seconds is None else f"{entry.seconds:.2f} s",
        entry.who,
        (entry.commit or "–")[:12],
        "; ".join(filter(None, (entry.reason, entry.answer, request))),
    )


def _entry(entry: HistoryEntry) -> Mapping[str, Any]:
    return {
        "at": entry.at,
        "job": entry.job,
        "id": entry.id,
        "verb": entry.verb,
        "outcome": entry.outcome,
        "status": entry.status,
        "requestId": entry.request_id,
        "seconds": entry.seconds,
        "reason": entry.reason,
        "answer": entry.answer,
        "who": entry.who,
        "command": entry.command,
        "commit": entry.commit,
        "plan": entry.plan,
        "allowed": entry.allowed,
        "op": entry.op,
        "lineage": entry.lineage,
        "serial": entry.serial,
    }
