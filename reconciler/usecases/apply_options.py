"""The options of an apply, and the functions by which it talks with the user."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from reconciler.model.jobs import EMPTY
from reconciler.model.plan import Plan
from reconciler.usecases.engines import Pace

if TYPE_CHECKING:
    from reconciler.model.outcomes import Finished


class ApplyOptions(NamedTuple):
    """The options of an apply. Times are in seconds.

    `pace` limits the calls. `settle_s` is the time between the two looks at a call in doubt. With `fail_fast` nothing
    new starts after a failure. `lock_timeout_s` is how long to wait for the lock of the state, and `wait_s` for jobs
    that others come after. `allowed` is as in `Plan`. `push` is `[REMOTE:]BRANCH` if the files of the state are to be
    pushed, else "".
    """

    pace: Pace = Pace()
    settle_s: float = 60.0
    fail_fast: bool = False
    lock_timeout_s: float = 0.0
    wait_s: float = 0.0
    allowed: Mapping[str, int] = EMPTY
    push: str = ""


class Interaction(NamedTuple):
    """The functions by which an apply talks with the user.

    `confirm` is called with each plan that calls anything, and raises `Refused` if the user does not agree. `watch` is
    called with a plan and with those of its actions that have ended since the last call. `show_refused` is called with
    the plan that a guard refuses, before the refusal is raised. `began` is called once with a function that returns the
    names of the jobs with a call under way; that function takes no lock.
    """

    confirm: Callable[[Plan], None]
    watch: "Callable[[Plan, Sequence[Finished]], None]"
    show_refused: Callable[[Plan], None] = lambda _: None
    began: Callable[[Callable[[], Collection[str]]], None] = lambda _: None
