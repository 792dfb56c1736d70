"""What an apply tells while it goes on."""

from typing import NamedTuple

from reconciler.model.plan import ActionOutcome


class Finished(NamedTuple):
    """An action came to its end; `duration_s` is in seconds, 0 where it was never started."""

    outcome: ActionOutcome
    duration_s: float
