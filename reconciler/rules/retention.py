"""Retention: for how long an engine certainly knows a run that has ended.

An engine promises a time for all runs (`Promises.keeps_ended_s`). A run may have a shorter time of its own: `keepFor`
in its config, in seconds. `keepFor` belongs to the vocabulary that all engines share, so that the rules read it in the
config of any engine whose schema has it. The shorter of both times counts.
"""

from reconciler.model.jobs import Config, Record
from reconciler.model.promises import Promises
from reconciler.model.times import seconds_since

FOR_EVER = float("inf")


def keep_for_of(config: Config) -> float | None:
    """The seconds that a config gives as `keepFor`; None if it gives no number."""
    value = config.get("keepFor")
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def kept_s(promises: Promises, keep_for_s: float | None) -> float:
    """For how many seconds the engine knows a run that has ended, if the config of the run gave `keep_for_s`."""
    return promises.keeps_ended_s if keep_for_s is None else min(promises.keeps_ended_s, keep_for_s)


def kept_s_of(promises: Promises, record: Record) -> float:
    """For how many seconds the engine knows the recorded run once that run has ended."""
    return kept_s(promises, record.keep_for_s)


def still_knows(promises: Promises, config: Config, sent_at: str, now: str) -> bool:
    """Whether the engine can't have forgotten a run of this config that was sent at `sent_at`.

    Both times are of RFC 3339. The engine counts from the end of the run, which comes after the run was sent. A clock
    that was set back tells nothing.
    """
    known_s = kept_s(promises, keep_for_of(config))
    age_s = seconds_since(sent_at, now)
    return known_s == FOR_EVER or (age_s is not None and 0 <= age_s < known_s)
