"""Promises: what an engine guarantees. The rules about calls in doubt depend on these guarantees."""

from typing import NamedTuple


class Promises(NamedTuple):
    """What an engine guarantees.

    `creates_on_run` is set if a run creates the job; otherwise the job has to exist before its first run. `atomic_run`
    is set if the engine refuses a second run of one run id, or takes it for the first. `reads` is set if the engine
    may be able to observe jobs, and `lists` if it may be able to list them. `keeps_ended_s` is for how many seconds the
    engine still knows a run that has ended; infinity if it never forgets a run. A run whose config has a smaller
    `keepFor`, in seconds, may be forgotten that soon: an engine whose schema has `keepFor` gives it this meaning, and
    no other. `has_logs` is set if the engine can
    return the log of a run. `chains` is set if the engine can hold a run back until other runs of it have completed
    (`Step.after`); it withdraws the run if one of them ends in another way.
    """

    creates_on_run: bool
    atomic_run: bool
    reads: bool
    lists: bool
    keeps_ended_s: float
    has_logs: bool
    chains: bool = False


NO_PROMISES = Promises(False, False, reads=True, lists=True, keeps_ended_s=float("inf"), has_logs=False)
"""The promises of an engine that guarantees nothing, as far as the decisions about jobs depend on promises."""
