"""Workflow commands of GitHub Actions: annotations at the file and the line that they are about.

The escapes follow `@actions/core` (command.ts). The runner shows ten annotations of each level for each step. If there
are more, nine are written, and the tenth states the number of the others.
"""

from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import NamedTuple

from reconciler.host.safe_text import field
from reconciler.model.errors import ReconcilerError
from reconciler.model.jobs import title
from reconciler.model.outcomes import ActionOutcome, Outcome
from reconciler.model.places import Diagnostic, Position
from reconciler.model.plan import ActionKind
from reconciler.rules.review import Review, Row, Weight
from reconciler.views import text
from reconciler.views.answers import (
    DriftAnswer,
    FailureAnswer,
    OutcomeAnswer,
    PlanAnswer,
    RequestsAnswer,
    ValidationAnswer,
)
from reconciler.views.formats import Channel, Format, ViewContext
from reconciler.views.phrases import explanation, is_undone, left_word, spoken

FORMAT = Format(Channel.COMMANDS)

_SHOWN = 10
_CLIP = 1000
"""The most characters of a message that are shown."""


class Level(StrEnum):
    """The level of an annotation, gravest first."""

    ERROR = "error"
    WARNING = "warning"
    NOTICE = "notice"


class Annotation(NamedTuple):
    """A message and the advice for it. `place` is None if the message is not about a line of a file."""

    level: Level
    title: str
    message: str
    advice: str = ""
    place: Position | None = None


def _review(answer: PlanAnswer | DriftAnswer, context: ViewContext) -> str:
    return _lines(review(answer.review()), context)


FORMAT.shows(PlanAnswer)(_review)
FORMAT.shows(DriftAnswer)(_review)


@FORMAT.shows(OutcomeAnswer)
def _(answer: OutcomeAnswer, context: ViewContext) -> str:
    return _lines(outcomes(answer.outcomes, answer.position_of), context)


@FORMAT.shows(RequestsAnswer)
def _(answer: RequestsAnswer, context: ViewContext) -> str:
    return text.requests(answer.requests)


@FORMAT.shows(ValidationAnswer)
def _(answer: ValidationAnswer, context: ViewContext) -> str:
    return _lines(diagnostics(answer.diagnostics), context)


@FORMAT.shows(FailureAnswer)
def _(answer: FailureAnswer, context: ViewContext) -> str:
    return _lines(diagnostics(answer.diagnostics) or [error(answer.fault)], context)


def diagnostics(found: Iterable[Diagnostic]) -> list[Annotation]:
    """Return an error for each fault of a manifest."""
    return [Annotation(Level.ERROR, "Manifest", fault.message, place=fault.position) for fault in found]


def error(fault: ReconcilerError) -> Annotation:
    """Return the error that ended a command."""
    return Annotation(Level.ERROR, "reconciler", fault.message, fault.hint)


def review(review: Review) -> list[Annotation]:
    """Return the verdict, and an annotation for each row that is not quiet."""
    made = [_of_row(row) for row in review.rows if row.weight is not Weight.QUIET]
    made = [*(Annotation(Level.WARNING, review.title, warning) for warning in review.warnings), *made]
    if review.trouble:
        made.insert(0, Annotation(Level.ERROR, f"{review.title} refused", review.trouble, review.advice))
    return [Annotation(Level.NOTICE, review.title, review.verdict, review.scope), *made]


def outcomes(found: Iterable[ActionOutcome], place_of: Callable[[str], Position | None]) -> list[Annotation]:
    """Return an annotation for each action of an apply that was not carried out as planned.

    `place_of` returns the position at which a job is declared, or None.
    """
    made = []
    for outcome in found:
        level = _level_of(outcome)
        if level is not None:
            action = outcome.action
            word = left_word(outcome) or f"{outcome.done} {spoken(outcome.outcome)}"
            message = explanation(outcome) or action.reason
            made.append(Annotation(level, f"{title(action.job)}: {word}", message, place=place_of(action.job)))
    return made


def commands(annotations: Iterable[Annotation], file_of: Callable[[str], str] = str) -> list[str]:
    """Return the annotations as workflow commands, one on each line: gravest first, and at most ten of each level.

    `file_of` turns a file name of the command line into a path in the repository.
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


def _lines(annotations: Iterable[Annotation], context: ViewContext) -> str:
    completed = [
        one._replace(message=context.complete(one.message), advice=context.complete(one.advice)) for one in annotations
    ]
    return "\n".join(commands(completed, context.repository_path))


def _of_row(row: Row) -> Annotation:
    if row.wrong:
        level = Level.ERROR
    elif row.weight in (Weight.ENDS, Weight.HELD, Weight.DRIFTED):
        level = Level.WARNING
    else:
        level = Level.NOTICE
    return Annotation(level, f"{row.job}: {row.word}", row.reason, row.way_out, row.place)


def _level_of(outcome: ActionOutcome) -> Level | None:
    if outcome.outcome in (Outcome.FAILED, Outcome.IN_DOUBT) or outcome.action.error:
        return Level.ERROR
    if outcome.done is ActionKind.NOOP or not is_undone(outcome):
        return None
    return Level.NOTICE if outcome.outcome is Outcome.WAITING else Level.WARNING


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
