"""The condition under which an engine may send a call, told apart from the faults of the engine itself."""

from collections.abc import Callable


class Condition:
    """Wraps the `may_be_sent` of `Engine.send`, and remembers in `raised` what that function raised.

    What the condition raises passes through the engine. The caller can then tell it from a fault of the engine.
    """

    def __init__(self, may_be_sent: Callable[[], bool]) -> None:
        self._may_be_sent = may_be_sent
        self.raised: BaseException | None = None

    def __call__(self) -> bool:
        """Ask the condition. Raises what it raises."""
        try:
            return self._may_be_sent()
        except BaseException as fault:
            self.raised = fault
            raise
