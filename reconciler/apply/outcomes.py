"""The outcome of an action: without a call, and from the answer to its last call."""

from collections.abc import Mapping
from typing import NamedTuple, assert_never

from reconciler.model.commands import command, settling
from reconciler.model.jobs import Verb
from reconciler.model.outcomes import ActionOutcome, Outcome
from reconciler.model.plan import Action, ActionKind
from reconciler.model.results import AnswerClass, Reason, Result

OUTCOME_OF: Mapping[AnswerClass, Outcome] = {
    AnswerClass.NOT_SENT: Outcome.FAILED,
    AnswerClass.REJECTED: Outcome.FAILED,
    AnswerClass.APPLIED: Outcome.SUCCEEDED,
    AnswerClass.IN_DOUBT: Outcome.IN_DOUBT,
}
"""The outcome of a call, by the class that counts in the end."""


_UNTOUCHED: Mapping[ActionKind, Outcome] = {ActionKind.WAIT: Outcome.WAITING, ActionKind.HOLD: Outcome.SKIPPED}
"""The outcome of an action that an apply does not start, by its kind. A noop has succeeded."""


class Attempt(NamedTuple):
    """The end of one call.

    `kind` is the class that counts in the end. It differs from `result.kind` if an observation, or a call that was sent
    again, settled a lost answer. `note` says how that was settled, or repeats what the service answered to a success.
    `held_back` is the reason why the call was not sent when its turn came; "" if the call was sent.
    """

    kind: AnswerClass
    result: Result
    note: str = ""
    held_back: str = ""


def untouched(action: Action) -> ActionOutcome:
    """The outcome of a wait, a hold or a noop, which an apply does not start."""
    if action.error:
        return failed(action, action.error)
    outcome = _UNTOUCHED.get(action.kind, Outcome.SUCCEEDED)
    return ActionOutcome(action, outcome, action.kind)


def waiting(action: Action, note: str) -> ActionOutcome:
    """The outcome of an action whose turn has yet to come."""
    return ActionOutcome(action, Outcome.WAITING, ActionKind.WAIT, note)


def skipped(action: Action, note: str, done: ActionKind | None = None) -> ActionOutcome:
    """The outcome of an action that was not started. `done` is the kind that took its place, if there is one."""
    return ActionOutcome(action, Outcome.SKIPPED, done or action.kind, note)


def failed(action: Action, error: str) -> ActionOutcome:
    """The outcome of an action that could not be carried out."""
    return ActionOutcome(action, Outcome.FAILED, action.kind, error=error)


def outcome_of(action: Action, done: ActionKind, verb: Verb, attempt: Attempt) -> ActionOutcome:
    """The outcome of an action whose last call was `verb`. `done` is the kind of action that was carried out."""
    result = attempt.result
    match attempt.kind:
        case AnswerClass.APPLIED:
            error = ""
        case AnswerClass.REJECTED if result.reason is Reason.OTHER_OP:
            return skipped(action, _older_words(action, result), done=ActionKind.HOLD)
        case AnswerClass.REJECTED:
            error = f"{verb} was rejected: {result.words}"
            if result.reason is Reason.OTHER_OWNER:
                error = f"{error}; the object is another owner's: apply the job there, or give it another `id:` here"
        case AnswerClass.NOT_SENT:
            error = f"{verb} was not sent: {result.words}"
        case AnswerClass.IN_DOUBT:
            error = (
                f"{verb} was sent, and it is not known whether it was carried out: {result.words}; "
                f"the next apply checks again, or settle it: {settling(action.job)}"
            )
        case _:
            assert_never(attempt.kind)
    outcome = OUTCOME_OF[attempt.kind]
    return ActionOutcome(action, outcome, done, attempt.note, error, code_number(result), result.trace_id)


def _older_words(action: Action, result: Result) -> str:
    """Why an action is held whose run the engine knows already, from a call that this state does not know."""
    return (
        f"held: {result.words}; the state is older than what the engine has: bring the newer state back; if lost, "
        f"drop the record ({command('state forget', action.job)}) and apply again, which adopts the run if the engine "
        "can be read; if it can't, give the job another `id:`"
    )


def code_number(result: Result) -> int | None:
    """The engine's code of a result as a number; None if there is no code, or if the code is no number."""
    return int(result.code) if result.code.isdecimal() else None
