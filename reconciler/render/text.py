"""Plans, outcomes and states as text for people: counts first, then what is to be looked at, aligned."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from reconciler.commands import command
from reconciler.diagnostics import Diagnostic
from reconciler.errors import ReconcilerError
from reconciler.events import Finished
from reconciler.jobs import Desired, Observation, Record, State, Status, title
from reconciler.plan import (
    AS_RECORDED,
    SAME_IN_BOTH,
    Action,
    ActionKind,
    ActionOutcome,
    Narrowed,
    Outcome,
    Plan,
    as_recorded,
    said_of_allowed,
    verdict,
)
from reconciler.text import Style, field, pad, styled, width

_SIGNS: Mapping[ActionKind, tuple[str, Style]] = {
    ActionKind.ABORT: ("-", Style.RED),
    ActionKind.RUN: ("+", Style.GREEN),
    ActionKind.RESTART: ("±", Style.YELLOW),
    ActionKind.DELETE: ("×", Style.RED),
    ActionKind.ADOPT: ("=", Style.CYAN),
    ActionKind.FORGET: ("=", Style.CYAN),
    ActionKind.HOLD: ("!", Style.MAGENTA),
    ActionKind.NOOP: (" ", Style.DIM),
}
_OUTCOMES: Mapping[Outcome, Style] = {
    Outcome.SUCCEEDED: Style.GREEN,
    Outcome.RECORDED: Style.CYAN,
    Outcome.FAILED: Style.RED,
    Outcome.SKIPPED: Style.DIM,
    Outcome.IN_DOUBT: Style.MAGENTA,
}


class StatusRow(Protocol):
    """What `status` shows of one job."""

    @property
    def name(self) -> str: ...
    @property
    def desired(self) -> Desired | None: ...
    @property
    def record(self) -> Record | None: ...
    @property
    def observed(self) -> Observation: ...


def plan(plan: Plan, *, calls: bool = False, at: str = "") -> str:
    """A plan: its counts, then every action but those without a word; with `calls`, the requests of each too.

    `at` is the revision of the manifest where it is compared with that of another, and not with the state.
    """
    shown = [a for a in plan.told if a.kind is not ActionKind.NOOP or a.suspended or a.drift]
    lines = [f"{styled(Style.RED, 'Warning:')} {field(warning)}" for warning in plan.warnings]
    same = SAME_IN_BOTH if at else AS_RECORDED
    lines += [verdict(plan, lambda kind, words: styled(_SIGNS[kind][1], words), same)]
    if plan.narrowed:
        lines.append(styled(Style.YELLOW, f"{field(str(plan.narrowed))}."))
    if plan.allowed:
        lines.append(f"Allowed past the guards: {said_of_allowed(plan)}.")
    if shown:
        lines.append("")
        names = max(width(field(title(action.job))) for action in shown)
        for action in shown:
            lines.append(_action(action, names))
            if calls:
                lines += [f"               {styled(Style.DIM, field(f'{c.method} {c.path}'))}" for c in action.calls]
    if plan.undeclared:
        names_left = ", ".join(field(title(name)) for name in plan.undeclared)
        if at:
            lines += ["", f"No longer declared in {field(at)}, and left alone: {names_left}"]
        else:
            lines += [
                "",
                f"Recorded but no longer declared, and left alone: {names_left}",
                f"(--prune deletes them, {command('state forget', 'JOB')} drops the record of one)",
            ]
    return "\n".join(lines)


def finished(event: Finished, number: int, total: int, names: int) -> str:
    """One action of an apply, once it has ended."""
    outcome = event.outcome
    action = outcome.action
    sign, style = _SIGNS[outcome.done]
    result = styled(_OUTCOMES[outcome.outcome], f"{outcome.outcome:<9}")
    digits = len(str(total))
    # What was skipped says so itself; the column before it does already.
    text = field((outcome.error or outcome.note).removeprefix(f"{outcome.outcome}: "))
    took = f"{event.duration_s:6.2f} s" if event.duration_s else " " * 8
    done, name = styled(style, f"{sign} {outcome.done:<7}"), pad(field(title(action.job)), names)
    line = f"{number:>{digits}}/{total} {done} {name} {result} {took}"
    tail = f"  {text}" if text else ""
    request = f" (request {field(outcome.request_id)})" if outcome.request_id and outcome.error else ""
    return f"{line}{tail}{request}".rstrip()


def outcomes(outcomes: Sequence[ActionOutcome], narrowed: Narrowed | None = None) -> str:
    """The closing line of an apply, and, where there was nothing to do, whether it was about all jobs."""
    acted = [o for o in outcomes if o.action.kind is not ActionKind.NOOP]
    if not acted:
        suspended = sum(o.action.suspended for o in outcomes)
        of_some = f"\n{field(str(narrowed))}." if narrowed else ""
        return f"Nothing to do: {as_recorded(len(outcomes) - suspended, suspended)}.{of_some}"
    held = [o for o in acted if o.done is ActionKind.HOLD and o.outcome is Outcome.SKIPPED]
    counts = Counter(o.outcome for o in acted)
    counts[Outcome.SKIPPED] -= len(held)
    parts = [
        styled(style, f"{counts[outcome]} {outcome.replace('-', ' ')}")
        for outcome, style in _OUTCOMES.items()
        if counts[outcome] and outcome is not Outcome.RECORDED
    ]
    if held:
        parts.append(styled(Style.MAGENTA, f"{len(held)} held"))
    called = [", ".join(parts)] if parts else []
    if recorded := counts[Outcome.RECORDED]:
        called.append(styled(_OUTCOMES[Outcome.RECORDED], f"{recorded} recorded") + ", no call was needed")
    return f"Applied: {'; '.join(called)}."


def requests(plan: Plan, endpoint: str) -> str:
    """The exact requests of a plan, in order: method, URL and JSON body, one a line."""
    import json

    return "\n".join(
        f"{call.method} {endpoint}{call.path}"
        + ("" if call.body is None else " " + json.dumps(call.body, sort_keys=True, separators=(",", ":")))
        for action in plan.actions
        for call in action.calls
    )


def status(rows: Iterable[StatusRow]) -> str:
    """Desired, recorded and observed side by side, in the order given."""
    rows_shown = [("JOB", "DESIRED", "RECORDED", "OBSERVED", "")]
    for row in rows:
        seen = row.observed
        said = f"{seen.status} ({seen.word})" if seen.word else str(seen.status)
        recorded = "–" if row.record is None or row.record.state is None else row.record.state.value
        detail = seen.detail if seen.status in (Status.FAILED, Status.UNREADABLE) else ""
        note = (_said_of_doubt(row.record) if row.record else "") or detail
        rows_shown.append((title(row.name), "–" if row.desired is None else row.desired.value, recorded, said, note))
    return table(rows_shown)


def records(state: State | None) -> str:
    """The recorded jobs, sorted by name."""
    if state is None or not state.jobs:
        return "Nothing is recorded."
    rows = [("JOB", "STATE", "ID", "")]
    for name, record in sorted(state.jobs.items()):
        rows.append((title(name), record.state or "–", record.id, _said_of_doubt(record)))
    return table(rows)


def _said_of_doubt(record: Record) -> str:
    """What is said of a call without an answer, "" where there is none."""
    if record.doubt is None:
        return ""
    if record.doubt.holder:
        return f"{record.doubt.verb} under way, may still be answered: {record.doubt.holder}"
    return "in doubt"


def record(name: str, document: Mapping[str, Any]) -> str:
    """One record, a field a line."""
    import json

    lines = [styled(Style.BOLD, field(title(name)))]
    for key, value in document.items():
        shown = value if isinstance(value, str) else json.dumps(value, sort_keys=True, ensure_ascii=False)
        lines.append(f"  {key}: {field(shown)}")
    return "\n".join(lines)


def diagnostics(found: Iterable[Diagnostic]) -> str:
    """Faults, one a line: `file:line:column: what is wrong`."""
    return "\n".join(f"{styled(Style.BOLD, field(str(one.position)))}: {field(one.message)}" for one in found)


def error(fault: ReconcilerError) -> str:
    """An error and what to do next."""
    head = f"{styled(Style.RED, 'error:')} {field(fault.message)}"
    return f"{head}\n  {field(fault.hint)}" if fault.hint else head


def _action(action: Action, names: int) -> str:
    sign, style = _SIGNS[ActionKind.HOLD if action.drift else action.kind]
    word = "drift" if action.drift else action.kind
    reason = field(f"{action.drift}: {action.reason}" if action.drift else action.reason)
    if action.error:
        reason = styled(Style.RED, reason)
    return f"  {styled(style, f'{sign} {word:<7}')}  {pad(field(title(action.job)), names)}  {reason}"


def table(rows: Sequence[tuple[str, ...]]) -> str:
    """Rows of equal length, aligned; the first is the head."""
    shown = [tuple(field(cell) for cell in row) for row in rows]
    columns = [max(width(row[at]) for row in shown) for at in range(len(shown[0]))]
    lines = ["  ".join(pad(cell, columns[at]) for at, cell in enumerate(row)).rstrip() for row in shown]
    return "\n".join([styled(Style.BOLD, lines[0]), *lines[1:]])
