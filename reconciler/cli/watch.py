"""An apply as it is seen at a terminal or in a log."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from reconciler.cli.shell import Shell

if TYPE_CHECKING:
    from reconciler.events import Finished
    from reconciler.plan import ActionOutcome, Outcome, Plan

_TALLIES = 10
"""How often a long apply says how far it has come."""


class Watch:
    """Shows the actions of an apply as they end.

    Of a long apply only those are shown that did not do what was planned, and of these only some that say the same;
    the others are counted. On a terminal no line is longer than that is wide. `is_whole` is whether all that there
    is to say was shown so.
    """

    def __init__(self, shell: Shell) -> None:
        self._shell = shell
        self._to_answer = shell.form == "text"
        self._progress: Any = None
        self._tell: Callable[[Sequence[str], int, bool], None] | None = None
        self._total = self._names = self._tallied = 0
        self._made: Plan | None = None
        self._ended: Counter[Outcome] = Counter()
        self._alike: Counter[tuple[str, str]] = Counter()
        self.is_whole = True

    def _begin(self, made: "Plan") -> None:
        """Start the bar for a plan."""
        from reconciler.jobs import title
        from reconciler.text import field, width

        self.close()
        self._made = made
        touching = made.touching
        self._total, self._tallied = len(touching), 0
        self._ended.clear()
        self._names = max(width(field(title(action.job))) for action in touching)
        self._progress = self._shell.terminal.progress(self._total)
        self._tell = self._progress.__enter__()

    def __call__(self, made: "Plan", ended: "Sequence[Finished]") -> None:
        if made is not self._made:
            self._begin(made)
        lines: list[str] = []
        steps = 0
        for event in ended:
            if event.outcome.action.touches:
                steps += 1
                self._ended[event.outcome.outcome] += 1
                lines += self._lines(event)
        if steps and self._tell is not None:
            self._tell(lines, steps, self._to_answer)

    def _lines(self, event: "Finished") -> list[str]:
        from reconciler.views import text

        number = sum(self._ended.values())
        lines = []
        if self._is_shown(event.outcome):
            line = text.finished(event, number, self._total, self._names)
            fitting, is_all = self._shell.terminal.fitting(line, to_answer=self._to_answer)
            self.is_whole &= is_all or not text.is_undone(event.outcome)
            lines.append(fitting)
        if self._is_long and number * _TALLIES // self._total > self._tallied:
            self._tallied = number * _TALLIES // self._total
            lines.append(text.tally(self._ended, self._total))
        return lines

    @property
    def _is_long(self) -> bool:
        from reconciler.views.text import MANY

        return self._total > MANY and not self._shell.verbose

    def _is_shown(self, outcome: "ActionOutcome") -> bool:
        from reconciler.views import text

        if not self._is_long:
            return True
        if not text.is_undone(outcome):
            return False
        same = outcome.outcome.value, text.said_of(outcome)
        self._alike[same] += 1
        self.is_whole &= self._alike[same] <= text.MANY
        return self._alike[same] <= text.MANY

    def close(self) -> None:
        """End the bar."""
        if self._progress is not None:
            self._progress.__exit__(None, None, None)
            self._progress = None
