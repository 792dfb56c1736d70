"""What an apply tells while it goes on."""

from typing import NamedTuple

from reconciler.plan import Action, ActionOutcome


class Started(NamedTuple):
    """An action is being carried out."""

    action: Action


class Finished(NamedTuple):
    """An action came to its end; `duration_s` is in seconds, 0 where it was never started."""

    outcome: ActionOutcome
    duration_s: float


Event = Started | Finished
