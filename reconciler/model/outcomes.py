"""Outcomes: what became of the actions of a plan."""

from enum import StrEnum
from typing import NamedTuple

from reconciler.model.plan import Action, ActionKind


class Outcome(StrEnum):
    """What became of an action.

    SUCCEEDED  the service confirmed the last call of the action
    RECORDED   the action needed no call, and its record was written
    FAILED     the action could not be carried out
    SKIPPED    the action was not started, or its job called for a hold
    WAITING    the action comes after another job, or after an active run of its own job, that has yet to complete
    IN_DOUBT   a call was sent, and nobody knows whether the service carried it out
    """

    SUCCEEDED = "succeeded"
    RECORDED = "recorded"
    FAILED = "failed"
    SKIPPED = "skipped"
    WAITING = "waiting"
    IN_DOUBT = "in-doubt"


class ActionOutcome(NamedTuple):
    """What became of one action of a plan.

    `done` is the kind of action that was carried out. It differs from `action.kind` if the job, observed just before
    its first call, called for less. `note` gives a reason, or repeats what the service answered to a success. `error`
    says what failed. `status` is the code of the last answer, None if there was no answer or if the code is no number.
    """

    action: Action
    outcome: Outcome
    done: ActionKind
    note: str = ""
    error: str = ""
    status: int | None = None
    request_id: str = ""


class Finished(NamedTuple):
    """The end of one action during an apply. `duration_s` is in seconds, and 0 if the action was not started."""

    outcome: ActionOutcome
    duration_s: float
