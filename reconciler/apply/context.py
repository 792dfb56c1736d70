"""The context of an apply: what an apply takes from outside, and whether anything new may start."""

from collections.abc import Callable, Mapping
from threading import Lock
from typing import NamedTuple

from reconciler.engines.port import Engine
from reconciler.host.stop import Flag
from reconciler.model.jobs import Doubt, Evidence, Observation
from reconciler.rules import retention
from reconciler.rules.actions import Wording
from reconciler.rules.lost_calls import is_newer_run
from reconciler.state.session import Session

INTERRUPTED = "skipped: interrupted before it began"

TOO_LATE = "not sent again: the engine may have forgotten the first call by now"


class ApplyContext(NamedTuple):
    """What an apply takes from outside.

    `wording` takes a step, and returns its requests in the words of the engine. `stop` is set once nothing new may
    start. `pause` waits for a number of seconds, and returns True if a stop was requested meanwhile. `monotonic`
    returns seconds. `now` returns a time in RFC 3339, for people to read. `new_op` returns a new id for a call. `runs`
    maps the name of each job that this command has run to its engine job id and the observation just before that run.
    `commit` is the commit of the manifest; "" outside of git.
    """

    engine: Engine
    session: Session
    wording: Wording
    stop: Flag
    pause: Callable[[float], bool]
    monotonic: Callable[[], float]
    now: Callable[[], str]
    new_op: Callable[[], str]
    runs: dict[str, tuple[str, Evidence]]
    commit: str = ""


def still_knows(engine: Engine, doubt: Doubt, now: str) -> bool:
    """Whether the engine can't have forgotten the run of a call in doubt. `now` is a time of RFC 3339.

    If the call repeats an earlier one, the time counts from the first call: the run may have begun with that one.
    """
    return retention.still_knows(engine.promises, doubt.config, doubt.began_at, now)


def is_stale(runs: Mapping[str, tuple[str, Evidence]], name: str, observed: Observation) -> bool:
    """Whether an observation is older than the last run that this command started. `runs` is as in `ApplyContext`."""
    return name in runs and not is_newer_run(runs[name][1], observed)


class Halt:
    """Keeps the reason why an apply starts nothing new. The threads of an apply share one object."""

    def __init__(self, stop: Flag) -> None:
        self._stop = stop
        self._lock = Lock()
        self._reason = ""

    def halt(self, reason: str) -> None:
        """Let nothing new start. The first reason is kept."""
        with self._lock:
            self._reason = self._reason or reason

    def why_nothing_starts(self) -> str:
        """The reason why nothing new may start; "" if actions may start."""
        return INTERRUPTED if self._stop.is_set() else self._reason
