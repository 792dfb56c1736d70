"""Plans, outcomes and states as text for people: counts first, then what is to be looked at, aligned."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

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
    Call,
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
    """A plan: its counts, its target, then every action but those without a word; at the end of a long one the counts.

    More than `MANY` jobs of one action and reason are one line. With `calls` each is listed, with its requests.
    `at` is the revision of the manifest where it is compared with that of another, and not with the state.
    """
    shown = [a for a in plan.told if a.kind is not ActionKind.NOOP or a.suspended or a.drift]
    lines = [f"{styled(Style.RED, 'Warning:')} {field(warning)}" for warning in plan.warnings]
    said = verdict(plan, lambda kind, words: styled(_SIGNS[kind][1], words), SAME_IN_BOTH if at else AS_RECORDED)
    lines += [said]
    if plan.narrowed:
        lines.append(styled(Style.YELLOW, f"{field(str(plan.narrowed))}."))
    if plan.allowed:
        lines.append(f"Allowed past the guards: {said_of_allowed(plan)}.")
    if plan.pending:
        lines.append(f"Target: {field(str(plan.target))}.")
    if shown:
        lines += ["", *listed(map(_action, shown), calls=[action.calls for action in shown] if calls else None)]
    if plan.undeclared:
        names_left = (
            several([field(title(name)) for name in plan.undeclared])
            if len(plan.undeclared) > MANY and not calls
            else ", ".join(field(title(name)) for name in plan.undeclared)
        )
        if at:
            lines += ["", f"No longer declared in {field(at)}, and left alone: {names_left}"]
        else:
            lines += [
                "",
                f"Recorded but no longer declared, and left alone: {names_left}",
                f"(--prune deletes them, {command('state forget', 'JOB')} drops the record of one)",
            ]
    if len(lines) > MANY:
        lines += ["", said]
    return "\n".join(lines)


def question(plan: Plan) -> str:
    """What a person is asked before a plan is carried out: how much of it there is, and where."""
    counts = verdict(plan).removeprefix("Plan: ").removesuffix(".")
    return f"{counts}, on {field(str(plan.target))}.\nCarry this out? Only `yes` does: "


MANY = 20
"""More lines than this that say the same are one line, with a count and the first names."""

_FIRST = 3


class Line(NamedTuple):
    """What is said of one job: a sign and a word, as wide as all others, the job's name, and why; each safe to show."""

    head: str
    name: str
    reason: str


def listed(lines: Iterable[Line], *, whole: bool = False, calls: Sequence[Sequence[Call]] | None = None) -> list[str]:
    """A line for each job, aligned; more than `MANY` that say the same are one, at the place of the first.

    All are listed where the list is to be `whole`, and with `calls`, one sequence for each line: the job's requests.
    """
    alike: dict[tuple[str, str], list[str]] = {}
    all_lines = list(lines)
    for line in all_lines:
        alike.setdefault((line.head, line.reason), []).append(line.name)
    many = {same: names for same, names in alike.items() if len(names) > MANY} if calls is None and not whole else {}
    single = [line.name for line in all_lines if (line.head, line.reason) not in many]
    names_width = max((width(name) for name in single), default=0)
    shown: list[str] = []
    for at, (head, name, reason) in enumerate(all_lines):
        if (head, reason) not in many:
            shown.append(f"  {head}  {pad(name, names_width)}  {reason}".rstrip())
        elif names := many[head, reason]:
            shown.append(f"  {head}  {several(names)}  {reason}".rstrip())
            many[head, reason] = []
        if calls is not None:
            shown += [f"               {styled(Style.DIM, field(f'{c.method} {c.path}'))}" for c in calls[at]]
    return [*shown, "  (--verbose lists them all)"] if many else shown


def several(names: Sequence[str]) -> str:
    """So many jobs, by their number and the names, safe to show, of the first."""
    return f"{len(names)} jobs ({', '.join(names[:_FIRST])}, …)"


def finished(event: Finished, number: int, total: int, names: int) -> str:
    """One action of an apply, once it has ended."""
    outcome = event.outcome
    action = outcome.action
    sign, style = _SIGNS[outcome.done]
    result = styled(_OUTCOMES[outcome.outcome], f"{outcome.outcome:<9}")
    digits = len(str(total))
    text = said_of(outcome)
    took = f"{event.duration_s:6.2f} s" if event.duration_s else " " * 8
    done, name = styled(style, f"{sign} {outcome.done:<7}"), pad(field(title(action.job)), names)
    line = f"{number:>{digits}}/{total} {done} {name} {result} {took}"
    return f"{line}  {text}".rstrip() if text else line.rstrip()


def said_of(outcome: ActionOutcome) -> str:
    """Why an action ended as it did, "" where there is no more to say."""
    # What was skipped says so itself; the column before it does already.
    text = field((outcome.error or outcome.note).removeprefix(f"{outcome.outcome}: "))
    return f"{text} (request {field(outcome.request_id)})" if outcome.request_id and outcome.error else text


def tally(ended: Mapping[Outcome, int], total: int) -> str:
    """How far an apply has come."""
    parts = [f"{ended[outcome]} {outcome.replace('-', ' ')}" for outcome in Outcome if ended.get(outcome)]
    return f"{sum(ended.values())}/{total}: {', '.join(parts)}"


def left_undone(outcomes: Iterable[ActionOutcome], *, whole: bool = False) -> str:
    """The actions that failed, are in doubt, were held or skipped, each with all that is said of it; "" for none."""
    lines = [
        Line(
            styled(_OUTCOMES[one.outcome], f"! {'held' if one.done is ActionKind.HOLD else one.outcome:<9}"),
            field(title(one.action.job)),
            said_of(one),
        )
        for one in outcomes
        if one.action.touches and is_undone(one)
    ]
    return "\n".join(["Not done:", *listed(lines, whole=whole)]) if lines else ""


def is_undone(outcome: ActionOutcome) -> bool:
    """Whether an action did not come to the end that was planned for it."""
    return outcome.outcome not in (Outcome.SUCCEEDED, Outcome.RECORDED)


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


def _action(action: Action) -> Line:
    sign, style = _SIGNS[ActionKind.HOLD if action.drift else action.kind]
    word = "drift" if action.drift else action.kind
    reason = field(f"{action.drift}: {action.reason}" if action.drift else action.reason)
    shown = styled(Style.RED, reason) if action.error else reason
    return Line(styled(style, f"{sign} {word:<7}"), field(title(action.job)), shown)


def table(rows: Sequence[tuple[str, ...]]) -> str:
    """Rows of equal length, aligned; the first is the head."""
    shown = [tuple(field(cell) for cell in row) for row in rows]
    columns = [max(width(row[at]) for row in shown) for at in range(len(shown[0]))]
    lines = ["  ".join(pad(cell, columns[at]) for at, cell in enumerate(row)).rstrip() for row in shown]
    return "\n".join([styled(Style.BOLD, lines[0]), *lines[1:]])
