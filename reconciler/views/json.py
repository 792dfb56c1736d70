"""Documents for programs. All documents are indented ASCII, and hold nothing that a CI log reads as a command.

The schemas of the documents are in `schemas/`.
"""

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from reconciler.model.errors import ReconcilerError
from reconciler.model.executions import Execution
from reconciler.model.history import HistoryEntry
from reconciler.model.jobs import Observation, Record, State
from reconciler.model.places import Diagnostic
from reconciler.model.plan_json import change_to_json, outcomes_to_json, plan_to_json, target_to_json
from reconciler.rules.runs import run_id
from reconciler.views.answers import (
    DiffAnswer,
    DriftAnswer,
    FailureAnswer,
    HistoryAnswer,
    HistoryCheckAnswer,
    JobRunRow,
    LogAnswer,
    OutcomeAnswer,
    PlanAnswer,
    RecordAnswer,
    RecordsAnswer,
    RequestsAnswer,
    RunsAnswer,
    StatusAnswer,
    StatusRow,
    ValidationAnswer,
    WaitAnswer,
)
from reconciler.views.formats import Channel, Format, ViewContext

if TYPE_CHECKING:
    from reconciler.rules.drift import Drift, Finding

FORMAT = Format(Channel.DOCUMENT)


_REPORT_VERSION = 1
"""The format version of the JSON of a status and of a drift report."""


@FORMAT.shows(PlanAnswer)
def _(answer: PlanAnswer, context: ViewContext) -> str:
    # A plan can be saved and applied, so its reasons must not depend on the command line. Only the refusal may.
    document = plan_to_json(answer.plan)
    if answer.refusal is not None:
        document["refused"] = {"message": answer.refusal.message, "hint": context.complete(answer.refusal.hint)}
    return dumps(document)


@FORMAT.shows(RequestsAnswer)
def _(answer: RequestsAnswer, context: ViewContext) -> str:
    return dumps(plan_to_json(answer.plan))


@FORMAT.shows(DiffAnswer)
def _(answer: DiffAnswer, context: ViewContext) -> str:
    return dumps(completed(plan_to_json(answer.plan), context))


@FORMAT.shows(OutcomeAnswer)
def _(answer: OutcomeAnswer, context: ViewContext) -> str:
    return dumps(completed(outcomes_to_json(answer.plan, answer.outcomes), context))


@FORMAT.shows(DriftAnswer)
def _(answer: DriftAnswer, context: ViewContext) -> str:
    return dumps(completed(drift(answer.drift), context))


@FORMAT.shows(StatusAnswer)
def _(answer: StatusAnswer, context: ViewContext) -> str:
    return dumps(completed(status(answer.rows), context))


@FORMAT.shows(RunsAnswer)
def _(answer: RunsAnswer, context: ViewContext) -> str:
    document = {"formatVersion": 1, "job": answer.name, "more": answer.more, "runs": [_run(row) for row in answer.runs]}
    return dumps(completed(document, context))


@FORMAT.shows(WaitAnswer)
def _(answer: WaitAnswer, context: ViewContext) -> str:
    jobs = [
        {
            "job": row.name,
            "over": row.is_over,
            "complete": row.is_complete,
            "inDoubt": row.is_in_doubt,
            "runId": row.run_id,
            "wayOut": row.way_out,
            **_observed(row.observed),
        }
        for row in answer.jobs
    ]
    return dumps(completed({"formatVersion": 1, "jobs": jobs}, context))


@FORMAT.shows(LogAnswer)
def _(answer: LogAnswer, context: ViewContext) -> str:
    return dumps({"formatVersion": 1, "job": answer.name, "runId": answer.run_id, "text": answer.text})


@FORMAT.shows(HistoryAnswer)
def _(answer: HistoryAnswer, context: ViewContext) -> str:
    return dumps(completed({"formatVersion": 1, "entries": [_entry(entry) for entry in answer.entries]}, context))


@FORMAT.shows(HistoryCheckAnswer)
def _(answer: HistoryCheckAnswer, context: ViewContext) -> str:
    found = {"entries": answer.entries, "faults": list(answer.faults), "remarks": list(answer.remarks)}
    return dumps(completed({"formatVersion": 1, **found}, context))


@FORMAT.shows(RecordsAnswer)
def _(answer: RecordsAnswer, context: ViewContext) -> str:
    return dumps(completed(records(answer.state), context))


@FORMAT.shows(RecordAnswer)
def _(answer: RecordAnswer, context: ViewContext) -> str:
    from reconciler.state.record_json import record_to_json

    return dumps(completed({"job": answer.name, **record_to_json(answer.record)}, context))


@FORMAT.shows(ValidationAnswer)
def _(answer: ValidationAnswer, context: ViewContext) -> str:
    document: dict[str, Any] = {
        "valid": answer.fault is None,
        "diagnostics": diagnostics(answer.diagnostics),
        **_left_out(answer.more),
    }
    if answer.fault is None:
        document |= {"jobs": answer.jobs, "files": answer.files}
    return dumps(completed(document, context))


@FORMAT.shows(FailureAnswer)
def _(answer: FailureAnswer, context: ViewContext) -> str:
    return dumps(completed(error(answer.fault, answer.diagnostics, answer.more), context))


def dumps(document: object) -> str:
    """Return the document as text with a newline at its end. Equal documents give equal bytes."""
    # Some CI logs read "##[" as the start of a command. In JSON, a "#" occurs only in strings, which have escapes.
    return json.dumps(document, indent=2).replace("##", "#\\u0023") + "\n"


def completed(document: object, context: ViewContext) -> object:
    """Return the document with each command in its texts completed by `context.complete`."""
    match document:
        case str():
            return context.complete(document)
        case dict():
            return {key: completed(value, context) for key, value in document.items()}
        case list() | tuple():
            return [completed(value, context) for value in document]
    return document


def error(fault: ReconcilerError, found: Iterable[Diagnostic] = (), more: int = 0) -> dict[str, Any]:
    """Return the error that ended a command. `more` is the number of the manifest's faults that `found` leaves out."""
    return {
        "error": {
            "exitCode": int(fault.exit_code),
            "message": fault.message,
            "hint": fault.hint,
            "diagnostics": diagnostics(found),
            **_left_out(more),
        }
    }


def diagnostics(found: Iterable[Diagnostic]) -> list[dict[str, Any]]:
    """Return the faults of a manifest, in the order given."""
    return [
        {"file": d.position.file, "line": d.position.line, "column": d.position.column, "message": d.message}
        for d in found
    ]


def status(rows: Iterable[StatusRow]) -> dict[str, Any]:
    """Return the desired state, the record and the observation of each job, in the order given."""
    return {
        "formatVersion": _REPORT_VERSION,
        "jobs": [
            {
                "job": row.name,
                "desired": row.desired,
                "recorded": None if row.record is None else row.record.state,
                **_doubt(row.record),
                **_last_run(row.record),
                **_observed(row.observed),
            }
            for row in rows
        ],
    }


def _observed(seen: Observation) -> dict[str, Any]:
    return {
        "observed": seen.status,
        "observedWord": seen.word,
        "detail": seen.detail,
        "execution": execution(seen.execution),
    }


def execution(found: Execution) -> dict[str, Any]:
    """Return what is known of the execution of a run. What is not known is left out."""
    parts = {
        "node": found.node,
        "pid": found.pid,
        "startedAt": found.started_at,
        "endedAt": found.ended_at,
        "exitCode": found.exit_code,
        "signal": found.signal,
        "reason": found.reason,
        "seconds": found.took_s,
        "cpuSeconds": found.cpu_s,
        "maxMemoryBytes": found.max_memory_bytes,
        "attempts": found.attempts,
        "failedTasks": found.failed_tasks,
    }
    zero_counts = {"exitCode", "seconds", "cpuSeconds"}
    return {name: value for name, value in parts.items() if value or (value is not None and name in zero_counts)}


def _run(row: JobRunRow) -> dict[str, Any]:
    return {
        "run": row.number,
        "runId": row.run_id,
        "status": row.status,
        "detail": row.detail,
        "execution": execution(row.execution),
        "asked": None if row.asked is None else _entry(row.asked),
    }


def records(state: State | None) -> dict[str, Any]:
    """Return the records of a state, sorted by name. If `state` is None, the records are those of an empty state."""
    from reconciler.state.record_json import record_to_json

    if state is None:
        return {"lineage": "", "serial": 0, "target": None, "jobs": {}}
    return {
        "lineage": state.lineage,
        "serial": state.serial,
        "target": target_to_json(state.target),
        "jobs": {name: record_to_json(record) for name, record in sorted(state.jobs.items())},
    }


def drift(drift: "Drift") -> dict[str, Any]:
    """Return the finding about each job, gravest first."""
    from reconciler.rules.drift import summary

    return {
        "formatVersion": _REPORT_VERSION,
        "target": target_to_json(drift.target),
        "lineage": drift.lineage,
        "serial": drift.serial,
        "commit": drift.commit,
        "paths": list(drift.paths),
        "summary": {kind.value: count for kind, count in summary(drift).items()},
        "jobs": [_finding(finding) for finding in drift.findings],
    }


def _finding(finding: "Finding") -> dict[str, Any]:
    from reconciler.rules.drift import DIFFERS

    return {
        "job": finding.name,
        "id": finding.id,
        "found": finding.kind.value,
        "differs": finding.kind in DIFFERS,
        "reason": finding.reason,
        "wayOut": finding.way_out,
        "declared": finding.job is not None,
        "recorded": None if finding.record is None else finding.record.state,
        "observed": finding.observed.status.value,
        "observedWord": finding.observed.word,
        "changes": [change_to_json(change) for change in finding.changes],
    }


def _doubt(record: Record | None) -> dict[str, Any]:
    doubt = None if record is None else record.doubt
    if doubt is None or not doubt.holder:
        return {"inDoubt": doubt is not None}
    return {"inDoubt": False, "underWay": doubt.holder}


def _last_run(record: Record | None) -> dict[str, Any]:
    if record is None:
        return {"runId": "", "end": ""}
    return {"runId": run_id(record.id, record.run), "end": record.end or ""}


def _left_out(more: int) -> dict[str, int]:
    """Return the number of faults that the document leaves out, or nothing if the document holds all of them."""
    return {"more": more} if more else {}


def _entry(entry: HistoryEntry) -> dict[str, Any]:
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
        "run": entry.run,
        "runId": run_id(entry.id, entry.run),
        "end": entry.end,
        "config": entry.config,
        "runToken": entry.run_token,
    }
