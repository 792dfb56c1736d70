"""Workflow commands of GitHub Actions: annotations at the file and line that they are about.

They are escaped by the rules of `@actions/core` (its `command.ts`). The runner shows ten annotations of
a level for one step: of more, nine are written here, and how many there are beside.
"""

from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import NamedTuple

from reconciler.diagnostics import Diagnostic, Position
from reconciler.errors import ReconcilerError
from reconciler.jobs import title
from reconciler.plan import ActionKind, ActionOutcome, Outcome
from reconciler.review import Review, Row, Weight
from reconciler.text import field

_SHOWN = 10
_CLIP = 1000
"""How many characters of a message are shown."""


class Level(StrEnum):
    """How grave an annotation is, gravest first."""

    ERROR = "error"
    WARNING = "warning"
    NOTICE = "notice"


class Annotation(NamedTuple):
    """One thing to be seen, and what to do about it; `place` is None where it is about no line."""

    level: Level
    title: str
    message: str
    advice: str = ""
    place: Position | None = None


def diagnostics(found: Iterable[Diagnostic]) -> list[Annotation]:
    """An error for each fault of a manifest that is shown; the log of the step says how many there are."""
    return [Annotation(Level.ERROR, "Manifest", fault.message, place=fault.position) for fault in found]


def error(fault: ReconcilerError) -> Annotation:
    """An error that ended a command."""
    return Annotation(Level.ERROR, "reconciler", fault.message, fault.hint)


def review(review: Review) -> list[Annotation]:
    """An annotation for each row but the quiet ones, and the verdict."""
    made = [_of_row(row) for row in review.rows if row.weight is not Weight.QUIET]
    made = [*(Annotation(Level.WARNING, review.title, warning) for warning in review.warnings), *made]
    if review.trouble:
        made.insert(0, Annotation(Level.ERROR, f"{review.title} refused", review.trouble, review.advice))
    return [Annotation(Level.NOTICE, review.title, review.verdict, review.scope), *made]


def outcomes(found: Iterable[ActionOutcome], place_of: Callable[[str], Position | None]) -> list[Annotation]:
    """An annotation for each action of an apply that was not carried out as planned."""
    made = []
    for outcome in found:
        level = _level_of(outcome)
        if level is not None:
            action = outcome.action
            word = "held" if outcome.done is ActionKind.HOLD else f"{outcome.done} {outcome.outcome.replace('-', ' ')}"
            said = outcome.error or outcome.note or action.reason
            request = f" (request {outcome.request_id})" if outcome.request_id else ""
            made.append(Annotation(level, f"{title(action.job)}: {word}", said + request, place=place_of(action.job)))
    return made


def commands(annotations: Iterable[Annotation], file_of: Callable[[str], str] = str) -> list[str]:
    """The annotations as workflow commands, one a line, gravest first, ten of a level at most.

    `file_of` turns a file as the command names it into its path in the repository.
    """
    lines = []
    given = list(annotations)
    for level in Level:
        same = [annotation for annotation in given if annotation.level is level]
        fitting = same if len(same) <= _SHOWN else same[: _SHOWN - 1]
        lines += [_command(annotation, file_of) for annotation in fitting]
        if left := len(same) - len(fitting):
            lines.append(_command(Annotation(level, "reconciler", f"and {left} more, which are in the log"), file_of))
    return lines


def _of_row(row: Row) -> Annotation:
    level = (
        Level.ERROR
        if row.wrong
        else Level.WARNING
        if row.weight in (Weight.ENDS, Weight.HELD, Weight.DRIFTED)
        else Level.NOTICE
    )
    return Annotation(level, f"{row.job}: {row.word}", row.reason, row.way_out, row.place)


def _level_of(outcome: ActionOutcome) -> Level | None:
    if outcome.outcome in (Outcome.FAILED, Outcome.IN_DOUBT) or outcome.action.error:
        return Level.ERROR
    if outcome.done is ActionKind.NOOP or outcome.outcome in (Outcome.SUCCEEDED, Outcome.RECORDED):
        return None
    return Level.WARNING


def _command(annotation: Annotation, file_of: Callable[[str], str]) -> str:
    place = annotation.place
    properties = {"title": _property(annotation.title)}
    if place is not None:
        properties |= {"file": _property(file_of(place.file)), "line": str(place.line), "col": str(place.column)}
    listed = ",".join(f"{key}={value}" for key, value in properties.items())
    lines = [_escaped(text) for text in (annotation.message, annotation.advice) if text]
    return f"::{annotation.level} {listed}::{'%0A'.join(lines)}"


def _property(text: str) -> str:
    return _escaped(text).replace(":", "%3A").replace(",", "%2C")


def _escaped(text: str) -> str:
    return field(text[:_CLIP]).replace("%", "%25")
