"""Answers as text for people: the counts first, then the jobs that need attention, aligned.

Commands also call the functions without an underscore to format texts for stderr. They do so whatever the format of
stdout is.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from reconciler.host.safe_text import LAST_COLUMN, Style, field, pad, styled, width
from reconciler.model.commands import command
from reconciler.model.errors import ReconcilerError
from reconciler.model.history import HistoryEntry
from reconciler.model.jobs import Record, State, Status, title
from reconciler.model.outcomes import ActionOutcome, Finished, Outcome
from reconciler.model.places import Diagnostic
from reconciler.model.plan import (
    AS_RECORDED,
    SAME_IN_BOTH,
    Action,
    ActionKind,
    Narrowed,
    Plan,
    Request,
    allowed_words,
    unchanged_words,
    verdict,
)
from reconciler.rules.runs import run_id
from reconciler.views.answers import (
    DiffAnswer,
    DriftAnswer,
    HistoryAnswer,
    HistoryCheckAnswer,
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
from reconciler.views.columns import MANY, Line, listed, several, table
from reconciler.views.formats import Channel, Format, ViewContext
from reconciler.views.phrases import (
    NONE,
    commit,
    counted,
    doubt_state,
    explanation,
    is_held,
    is_undone,
    last_run,
    left_word,
    observed,
    outcome_of,
    request,
    run_of,
    spoken,
)

if TYPE_CHECKING:
    from reconciler.rules.drift import Drift, Finding

FORMAT = Format(Channel.TEXT)

_SIGNS: Mapping[ActionKind, tuple[str, Style]] = {
    ActionKind.ABORT: ("-", Style.RED),
    ActionKind.RUN: ("+", Style.GREEN),
    ActionKind.RESTART: ("±", Style.YELLOW),
    ActionKind.DELETE: ("×", Style.RED),
    ActionKind.ADOPT: ("=", Style.CYAN),
    ActionKind.FORGET: ("=", Style.CYAN),
    ActionKind.WAIT: ("…", Style.YELLOW),
    ActionKind.HOLD: ("!", Style.MAGENTA),
    ActionKind.NOOP: (" ", Style.DIM),
}
_OUTCOMES: Mapping[Outcome, Style] = {
    Outcome.SUCCEEDED: Style.GREEN,
    Outcome.RECORDED: Style.CYAN,
    Outcome.FAILED: Style.RED,
    Outcome.SKIPPED: Style.DIM,
    Outcome.WAITING: Style.YELLOW,
    Outcome.IN_DOUBT: Style.MAGENTA,
}
_STATUS_HEAD = ("JOB", "DESIRED", "RECORDED", "OBSERVED", "LAST RUN")
_HISTORY_HEAD = ("WHEN", "JOB", "RUN", "ACTION", "OUTCOME", "CODE", "TOOK", "BY", "COMMIT", "REASON, AND THE ANSWER")


# One view for each kind of answer


@FORMAT.shows(PlanAnswer)
def _(answer: PlanAnswer, context: ViewContext) -> str:
    return plan(answer.plan, calls=context.verbose)


@FORMAT.shows(DiffAnswer)
def _(answer: DiffAnswer, context: ViewContext) -> str:
    return plan(answer.plan, calls=context.verbose, at=answer.revision)


@FORMAT.shows(OutcomeAnswer)
def _(answer: OutcomeAnswer, context: ViewContext) -> str:
    parts = [] if answer.was_shown else [left_undone(answer.outcomes, whole=context.verbose)]
    held = [one.action for one in answer.outcomes if one.action.kind is ActionKind.HOLD]
    if (held or answer.plan.waits or answer.plan.drifted) and not any(one.action.touches for one in answer.outcomes):
        parts.append(f"{plan(answer.plan, calls=context.verbose)}\n")
    elif in_doubt := tuple(action for action in held if action.job in answer.in_doubt):
        # These calls were in doubt before this apply began, so the plan that it printed has no hold for them.
        parts.append(f"{plan(answer.plan._replace(actions=in_doubt))}\n")
    return "\n".join([*filter(None, parts), outcomes(answer.outcomes, answer.plan.narrowed)])


@FORMAT.shows(RequestsAnswer, Channel.LINES)
def _(answer: RequestsAnswer, context: ViewContext) -> str:
    return requests(answer.requests)


@FORMAT.shows(DriftAnswer)
def _(answer: DriftAnswer, context: ViewContext) -> str:
    return drift(answer.drift, whole=context.verbose)


@FORMAT.shows(StatusAnswer)
def _(answer: StatusAnswer, context: ViewContext) -> str:
    from reconciler.views.run_tables import STATUS_HEAD, without_empty_columns

    if not answer.rows:
        return table([_STATUS_HEAD])
    return without_empty_columns([(*_STATUS_HEAD, *STATUS_HEAD, ""), *map(_status_row, answer.rows)])


@FORMAT.shows(RunsAnswer)
def _(answer: RunsAnswer, context: ViewContext) -> str:
    from reconciler.views.run_tables import runs

    return runs(answer)


@FORMAT.shows(LogAnswer, Channel.LINES)
def _(answer: LogAnswer, context: ViewContext) -> str:
    return answer.text.removesuffix("\n")


@FORMAT.shows(WaitAnswer)
def _(answer: WaitAnswer, context: ViewContext) -> str:
    from reconciler.views.run_tables import waited

    return waited(answer)


@FORMAT.shows(HistoryAnswer, Channel.PAGES)
def _(answer: HistoryAnswer, context: ViewContext) -> str:
    if not answer.entries:
        return "The history is empty."
    rows = [_HISTORY_HEAD, *map(_entry, answer.entries)]
    narrow = table([row[:-1] for row in rows]).splitlines()
    if context.columns is None or max(map(width, narrow)) + LAST_COLUMN <= context.columns:
        return table(rows)
    return "\n".join(map(_entry_in_lines, answer.entries))


@FORMAT.shows(HistoryCheckAnswer)
def _(answer: HistoryCheckAnswer, context: ViewContext) -> str:
    if answer.faults:
        return "\n".join(f"{styled(Style.RED, 'fault:')} {field(fault)}" for fault in answer.faults)
    return f"The history is whole: {counted(answer.entries, 'entry', 'entries')}."


@FORMAT.shows(RecordsAnswer)
def _(answer: RecordsAnswer, context: ViewContext) -> str:
    return records(answer.state)


@FORMAT.shows(RecordAnswer)
def _(answer: RecordAnswer, context: ViewContext) -> str:
    from reconciler.state.record_json import record_to_json

    return record(answer.name, record_to_json(answer.record))


@FORMAT.shows(ValidationAnswer)
def _(answer: ValidationAnswer, context: ViewContext) -> str:
    if answer.fault is not None:
        return diagnostics(answer.diagnostics)
    return f"Valid: {counted(answer.jobs, 'job')} in {counted(answer.files, 'file')}."


# Plans


def plan(plan: Plan, *, calls: bool = False, at: str = "") -> str:
    """Return a plan: the counts, the target, and each action that is not about a job as recorded.

    A long plan ends with the counts again. With `calls`, each job has a line of its own, with its requests below the
    line. If the plan compares the manifests of two revisions, `at` is the later revision.
    """
    shown = [a for a in plan.actions if a.kind is not ActionKind.NOOP or a.frozen or a.drift]
    counts = verdict(plan, lambda kind, words: styled(_SIGNS[kind][1], words), SAME_IN_BOTH if at else AS_RECORDED)
    lines = [f"{styled(Style.RED, 'Warning:')} {field(warning)}" for warning in plan.warnings]
    lines += [counts]
    if plan.narrowed:
        lines.append(styled(Style.YELLOW, f"{field(str(plan.narrowed))}."))
    if plan.allowed:
        lines.append(f"Allowed past the guards: {allowed_words(plan)}.")
    if plan.pending:
        lines.append(f"Target: {field(str(plan.target))}.")
    if shown:
        lines += ["", *listed(map(_action, shown), calls=[action.calls for action in shown] if calls else None)]
    if plan.undeclared:
        lines += _undeclared(plan, whole=calls, at=at)
    if len(lines) > MANY:
        lines += ["", counts]
    return "\n".join(lines)


def question(plan: Plan) -> str:
    """Return the question before an apply: the number of actions, and the target."""
    counts = verdict(plan).removeprefix("Plan: ").removesuffix(".")
    return f"{counts}, on {field(str(plan.target))}.\nCarry this out? Only `yes` does: "


def requests(exact: Sequence[Request]) -> str:
    """Return the requests of a plan, in order, one on each line, each with its body."""
    return "\n".join(map(str, exact))


def _undeclared(plan: Plan, *, whole: bool, at: str) -> list[str]:
    """Return the jobs that have a record and are no longer declared in a manifest."""
    names = [field(title(name)) for name in plan.undeclared]
    named = several(names) if len(names) > MANY and not whole else ", ".join(names)
    if at:
        return ["", f"No longer declared in {field(at)}, and left alone: {named}"]
    return [
        "",
        f"Recorded but no longer declared, and left alone: {named}",
        f"(--prune deletes them, {command('state forget', 'JOB')} drops the record of one)",
    ]


def _action(action: Action) -> Line:
    sign, style = _SIGNS[ActionKind.HOLD if action.drift else action.kind]
    word = "drift" if action.drift else action.kind
    reason = field(f"{action.drift}: {action.reason}" if action.drift else action.reason)
    shown = styled(Style.RED, reason) if action.error else reason
    return Line(styled(style, f"{sign} {word:<7}"), field(title(action.job)), shown)


# Applies


def finished(event: Finished, number: int, total: int, names: int) -> str:
    """Return the line about an action that ended, as number `number` of `total`.

    `names` is the width of the longest job name, in columns of the terminal.
    """
    outcome = event.outcome
    sign, style = _SIGNS[outcome.done]
    result = styled(_OUTCOMES[outcome.outcome], f"{outcome.outcome:<9}")
    digits = len(str(total))
    took = f"{event.duration_s:6.2f} s" if event.duration_s else " " * 8
    done, name = styled(style, f"{sign} {outcome.done:<7}"), pad(field(title(outcome.action.job)), names)
    line = f"{number:>{digits}}/{total} {done} {name} {result} {took}"
    return f"{line}  {field(explanation(outcome))}".rstrip()


def tally(ended: Mapping[Outcome, int], total: int) -> str:
    """Return how many of the actions of an apply have ended, by outcome."""
    parts = [f"{ended[outcome]} {spoken(outcome)}" for outcome in Outcome if ended.get(outcome)]
    return f"{sum(ended.values())}/{total}: {', '.join(parts)}"


def left_undone(outcomes: Iterable[ActionOutcome], *, whole: bool = False) -> str:
    """Return the actions that did not end as planned, each with its outcome and the reason, or "" if all did."""
    lines = [
        Line(
            styled(_OUTCOMES[one.outcome], f"! {left_word(one) or one.outcome:<9}"),
            field(title(one.action.job)),
            field(explanation(one)),
        )
        for one in outcomes
        if one.action.touches and is_undone(one)
    ]
    return "\n".join(["Not done:", *listed(lines, whole=whole)]) if lines else ""


def outcomes(outcomes: Sequence[ActionOutcome], narrowed: Narrowed | None = None) -> str:
    """Return the closing line of an apply.

    If there was nothing to do, the line also states whether the apply covered all jobs.
    """
    acted = [o for o in outcomes if o.action.kind is not ActionKind.NOOP]
    if not acted:
        frozen = sum(o.action.frozen for o in outcomes)
        drifted = Counter(o.action.drift for o in outcomes if o.action.drift)
        same = len(outcomes) - frozen - drifted.total()
        words = [unchanged_words(same, frozen)] if same or frozen or not drifted else []
        words += [styled(Style.MAGENTA, f"{count} {word}") for word, count in sorted(drifted.items())]
        of_some = f"\n{field(str(narrowed))}." if narrowed else ""
        return f"Nothing to do: {', '.join(words)}.{of_some}"
    held = sum(map(is_held, acted))
    counts = Counter(one.outcome for one in acted if not is_held(one))
    parts = [
        styled(style, f"{counts[outcome]} {spoken(outcome)}")
        for outcome, style in _OUTCOMES.items()
        if counts[outcome] and outcome is not Outcome.RECORDED
    ]
    if held:
        parts.append(styled(Style.MAGENTA, f"{held} held"))
    called = [", ".join(parts)] if parts else []
    if recorded := counts[Outcome.RECORDED]:
        called.append(styled(_OUTCOMES[Outcome.RECORDED], f"{recorded} recorded") + ", no call was needed")
    return f"Applied: {'; '.join(called)}."


# Drift, status, history and records


def drift(drift: "Drift", *, whole: bool = False) -> str:
    """Return the counts, then each job that needs attention. With `whole`, each job has a line of its own."""
    from reconciler.rules.drift import QUIET
    from reconciler.rules.drift import verdict as verdict_on

    shown = [finding for finding in drift.findings if finding.kind not in QUIET]
    lines = [verdict_on(drift, lambda words: styled(Style.MAGENTA, words))]
    if shown:
        columns = max(len(finding.kind) for finding in shown)
        lines += ["", *listed([_finding(finding, columns) for finding in shown], whole=whole)]
    return "\n".join(lines)


def _finding(finding: "Finding", columns: int) -> Line:
    from reconciler.rules.table import Kind

    style = Style.DIM if finding.kind in (Kind.UNDER_WAY, Kind.FROZEN) else Style.MAGENTA
    way_out = f": {field(finding.way_out)}" if finding.way_out else ""
    head = styled(style, f"! {finding.kind:<{columns}}")
    return Line(head, field(title(finding.name)), f"{field(finding.reason)}{way_out}")


def _status_row(row: StatusRow) -> tuple[str, ...]:
    from reconciler.views.run_tables import execution_cells

    seen = row.observed
    # What executes has its place in a column of its own. Why a run does not start yet has none.
    is_waiting = seen.status is Status.ACTIVE and not seen.execution.pid
    detail = seen.detail if is_waiting or seen.status in (Status.FAILED, Status.WITHDRAWN, Status.UNREADABLE) else ""
    recorded_run = run_id(row.record.id, row.record.run) if row.record else ""
    if seen.run_id and recorded_run and seen.run_id != recorded_run:
        detail = "; ".join(filter(None, (f"the observed run is {seen.run_id}", detail)))
    return (
        title(row.name),
        NONE if row.desired is None else row.desired.value,
        NONE if row.record is None or row.record.state is None else row.record.state.value,
        observed(seen),
        last_run(row.record) or NONE,
        *execution_cells(seen.status, seen.execution),
        (_doubt(row.record) if row.record else "") or detail,
    )


def _entry(entry: HistoryEntry) -> tuple[str, ...]:
    return (
        entry.at,
        title(entry.job) or NONE,
        run_of(entry) or NONE,
        entry.verb,
        outcome_of(entry),
        "" if entry.status is None else str(entry.status),
        "" if entry.seconds is None else f"{entry.seconds:.2f} s",
        entry.who,
        commit(entry) or NONE,
        "; ".join(filter(None, (entry.reason, entry.answer, request(entry.request_id)))),
    )


def _entry_in_lines(entry: HistoryEntry) -> str:
    """Return an entry of the history over several lines, for a terminal that is too narrow for the table."""
    at, job, run, verb, outcome, status, took, who, commit_of_entry, why = map(field, _entry(entry))
    head = styled(Style.BOLD, f"{at}  {job}  {verb} {outcome}")
    of_run = f"run id {run}" if run_of(entry) else ""
    by = ", ".join(filter(None, (f"by {who}", f"commit {commit_of_entry}" if entry.commit else "", of_run)))
    answered = ", ".join(filter(None, (f"code {status}" if status else "", took)))
    return "\n".join([head, *(f"    {line}" for line in (by, answered, why) if line)])


def records(state: State | None) -> str:
    """Return the recorded jobs, sorted by name."""
    if state is None or not state.jobs:
        return "Nothing is recorded."
    rows = [("JOB", "STATE", "ID", "LAST RUN", "")]
    for name, record in sorted(state.jobs.items()):
        rows.append((title(name), record.state or NONE, record.id, last_run(record) or NONE, _doubt(record)))
    return table(rows)


def record(name: str, document: Mapping[str, Any]) -> str:
    """Return one record with one field on each line. `document` is the record as JSON."""
    import json

    lines = [styled(Style.BOLD, field(title(name)))]
    run = run_id(document["id"], document.get("run", 0))
    for key, value in {**document, **({"run": run} if run else {})}.items():
        shown = value if isinstance(value, str) else json.dumps(value, sort_keys=True, ensure_ascii=False)
        lines.append(f"  {key}: {field(shown)}")
    return "\n".join(lines)


def _doubt(record: Record) -> str:
    """Return the state of a call without an answer, or ""."""
    if record.doubt is None:
        return ""
    if record.doubt.holder:
        return f"{record.doubt.verb} {doubt_state(record.doubt)}, may still be answered: {record.doubt.holder}"
    return doubt_state(record.doubt)


# Errors


def diagnostics(found: Iterable[Diagnostic]) -> str:
    """Return the faults of a manifest, one on each line: `file:line:column: fault`."""
    return "\n".join(f"{styled(Style.BOLD, field(str(one.position)))}: {field(one.message)}" for one in found)


def error(fault: ReconcilerError) -> str:
    """Return an error, and on a second line the advice."""
    head = f"{styled(Style.RED, 'error:')} {field(fault.message)}"
    return f"{head}\n  {field(fault.hint)}" if fault.hint else head
