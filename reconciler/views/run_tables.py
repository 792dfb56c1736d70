"""Runs and their executions as rows of tables for people."""

from collections.abc import Sequence

from reconciler.host.safe_text import Style, styled
from reconciler.model.executions import Execution
from reconciler.model.jobs import Status, title
from reconciler.views.answers import JobRunRow, RunsAnswer, WaitAnswer, WaitedRow
from reconciler.views.columns import table
from reconciler.views.phrases import NONE, commit, counted, observed

STATUS_HEAD = ("SINCE", "TOOK", "WHERE")
"""The columns of a status that are about the execution of the last run."""

_RUNS_HEAD = (
    "RUN",
    "ASKED",
    "STATUS",
    "STARTED",
    "TOOK",
    "CPU",
    "MEMORY",
    "ATTEMPTS",
    "BY",
    "COMMIT",
    "HOW IT ENDED; WHY IT WAS RUN",
)
_WAIT_HEAD = ("JOB", "RUN", "STATUS", "TOOK", "")
_OVER = (Status.COMPLETE, Status.FAILED, Status.ABORTED)


def runs(answer: RunsAnswer) -> str:
    """Return the runs of a job, the newest one first. Columns of which nothing is known are left out."""
    text = without_empty_columns([_RUNS_HEAD, *map(_run, answer.runs)])
    return f"{text}\n({counted(answer.more, 'older run')}; --last shows more)" if answer.more else text


def waited(answer: WaitAnswer) -> str:
    """Return each job that was waited for, and the counts."""
    if not answer.jobs:
        return "Nothing to wait for: no job is recorded as running."
    rows = [_WAIT_HEAD, *(_waited(row) for row in answer.jobs)]
    complete = sum(row.is_complete for row in answer.jobs)
    going_on = sum(not row.is_over for row in answer.jobs)
    parts = [styled(Style.GREEN, f"{complete} complete")] if complete else []
    if others := len(answer.jobs) - complete - going_on:
        parts.append(styled(Style.RED, f"{others} not complete"))
    if going_on:
        parts.append(styled(Style.YELLOW, f"{going_on} still under way"))
    return f"{without_empty_columns(rows)}\nWaited: {', '.join(parts)}."


def execution_cells(status: Status, execution: Execution) -> tuple[str, ...]:
    """Return the cells of `STATUS_HEAD`. A run that has ended has no place any more."""
    since = execution.ended_at if status in _OVER else execution.started_at
    place = f"{execution.node} pid {execution.pid}" if execution.pid else ""
    return _second(since), _seconds(execution.took_s), place


def without_empty_columns(rows: Sequence[tuple[str, ...]]) -> str:
    """Return a table without the columns that are empty below the head."""
    kept = [at for at in range(len(rows[0])) if any(row[at] for row in rows[1:])]
    return table([tuple(row[at] for at in kept) for row in rows])


def _run(row: JobRunRow) -> tuple[str, ...]:
    asked, execution = row.asked, row.execution
    status = "not known" if row.status is Status.NOT_OBSERVED else str(row.status)
    return (
        row.run_id or NONE,
        asked.at if asked else "",
        status,
        _second(execution.started_at),
        _seconds(execution.took_s),
        _seconds(execution.cpu_s),
        _memory(execution.max_memory_bytes),
        str(execution.attempts) if execution.attempts > 1 else "",
        asked.who if asked else "",
        commit(asked) if asked else "",
        "; ".join(filter(None, (row.detail, asked.reason if asked else ""))),
    )


def _waited(row: WaitedRow) -> tuple[str, ...]:
    seen = row.observed
    doubt = "its last call is in doubt" if row.is_in_doubt else ""
    detail = "; ".join(filter(None, (seen.detail, doubt, row.way_out)))
    return title(row.name), row.run_id, observed(seen), _seconds(seen.execution.took_s), detail


def _second(time: str) -> str:
    """Return a time of RFC 3339 without fractions of a second."""
    head, dot, _ = time.partition(".")
    return f"{head}Z" if dot and time.endswith("Z") else time


def _seconds(seconds: float | None) -> str:
    if seconds is None:
        return ""
    if seconds < 60:
        return f"{seconds:.2f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"


def _memory(size_bytes: int | None) -> str:
    return "" if not size_bytes else f"{-(-size_bytes // (1 << 20))} MiB"
