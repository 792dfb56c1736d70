"""Documents for machines. One form for all: indented, ASCII, nothing that a CI log reads as a command."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from reconciler.diagnostics import Diagnostic
from reconciler.errors import ReconcilerError
from reconciler.jobs import Record, State
from reconciler.plan import FORMAT_VERSION, target_to_json
from reconciler.views.text import StatusRow


def dumps(document: object) -> str:
    """The document as text that ends with a line end; equal documents give equal bytes."""
    # "##[" begins a command in some CI logs. "#" stands only in strings here, where it may be escaped.
    return json.dumps(document, indent=2).replace("##", "#\\u0023") + "\n"


def error(fault: ReconcilerError, found: Iterable[Diagnostic], more: int = 0) -> dict[str, Any]:
    """An error that ended a command before it had another document to show; `more` faults are not in it."""
    return {
        "error": {
            "exitCode": int(fault.exit_code),
            "message": fault.message,
            "hint": fault.hint,
            "diagnostics": diagnostics(found),
            **left_out(more),
        }
    }


def left_out(more: int) -> dict[str, int]:
    """How many faults a document does not hold, where there are any."""
    return {"more": more} if more else {}


def diagnostics(found: Iterable[Diagnostic]) -> list[dict[str, Any]]:
    """Faults, in file order."""
    return [
        {"file": d.position.file, "line": d.position.line, "column": d.position.column, "message": d.message}
        for d in found
    ]


def status(rows: Iterable[StatusRow]) -> dict[str, Any]:
    """Desired, recorded and observed of each job; the form is that of `schemas/status.schema.json`."""
    return {
        "formatVersion": FORMAT_VERSION,
        "jobs": [
            {
                "job": row.name,
                "desired": row.desired,
                "recorded": None if row.record is None else row.record.state,
                **_doubt(row.record),
                "observed": row.observed.status,
                "observedWord": row.observed.word,
                "detail": row.observed.detail,
            }
            for row in rows
        ],
    }


def _doubt(record: Record | None) -> dict[str, Any]:
    doubt = None if record is None else record.doubt
    if doubt is None or not doubt.holder:
        return {"inDoubt": doubt is not None}
    return {"inDoubt": False, "underWay": doubt.holder}


def records(state: State | None, record_to_json: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The recorded jobs, sorted by name."""
    if state is None:
        return {"lineage": "", "serial": 0, "target": None, "jobs": {}}
    return {
        "lineage": state.lineage,
        "serial": state.serial,
        "target": target_to_json(state.target),
        "jobs": dict(sorted(record_to_json.items())),
    }
