"""How a command goes wrong, and how it ends."""

from collections.abc import Callable
from threading import Event as Flag
from typing import NamedTuple

from reconciler.model.errors import ExitCode, ReconcilerError
from reconciler.model.jobs import Verb
from reconciler.model.outcomes import ActionOutcome


class SteppedFlag(Flag):
    """A stop flag whose wait takes no time. The flag can be set at the n-th request."""

    def __init__(self, forward: Callable[[float], None]) -> None:
        super().__init__()
        self._forward = forward

    def wait(self, timeout: float | None = None) -> bool:
        if not self.is_set():
            self._forward(timeout or 0.0)
        return self.is_set()


class OddAnswer(NamedTuple):
    """A 200 that does not say that the call was done: the call, and whether it was done nevertheless.

    `verb` is the verb of the call; the first `skip` calls of this verb get honest answers.
    """

    verb: Verb
    body: bytes
    after: bool
    skip: int = 0


class How(NamedTuple):
    """What goes wrong during a command: a crash, an interruption, a fault of the service, an odd answer.

    `meanwhile` is called before the operation (of the disk or the network) with the number `meanwhile_at`.
    """

    crash_at: int | None = None
    stop_at: int | None = None
    faults: tuple[str, ...] = ()
    odd: OddAnswer | None = None
    meanwhile: Callable[[], object] | None = None
    meanwhile_at: int = 0

    @property
    def is_honest(self) -> bool:
        return self == How()


HONEST = How()


class Ended(NamedTuple):
    """The end of an apply; `outcomes` is empty if the apply crashed or was refused."""

    outcomes: tuple[ActionOutcome, ...] = ()
    exit_code: ExitCode | None = None
    refusal: ReconcilerError | None = None
    crashed: bool = False
    changing: tuple[tuple[str, str], ...] = ()
