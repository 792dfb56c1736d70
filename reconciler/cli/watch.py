"""The lines that an apply prints while it is under way, on a terminal or in a log."""

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

from reconciler.cli.shell import Shell
from reconciler.host.safe_text import field, width
from reconciler.model.jobs import title
from reconciler.model.outcomes import ActionOutcome, Outcome
from reconciler.model.plan import Plan
from reconciler.views import text
from reconciler.views.columns import MANY
from reconciler.views.phrases import explanation, is_undone

if TYPE_CHECKING:
    from reconciler.model.outcomes import Finished

_TALLIES = 10
"""How many times a long apply prints the number of its actions that have ended."""


class Watch:
    """Prints the actions of an apply as they end, with a progress bar at a terminal.

    An apply of more than `MANY` actions prints only those that did not end as planned, and at most `MANY` of them that
    have the same outcome for the same reason. It counts the others. At a terminal no line is wider than the terminal.

    `is_whole` is whether each action that was not done was printed, with no line cut off.
    """

    def __init__(self, shell: Shell) -> None:
        self._shell = shell
        self._progress = ExitStack()
        self._write: Callable[[Sequence[str], int, bool], None] = lambda lines, steps, to_answer: None
        self._plan: Plan | None = None
        self._total = self._names_width = self._tallied = 0
        self._ended: Counter[Outcome] = Counter()
        self._alike: Counter[tuple[Outcome, str]] = Counter()
        self.is_whole = True

    def __call__(self, plan: Plan, ended: "Sequence[Finished]") -> None:
        """Print the actions of the plan that have ended since the last call."""
        if plan is not self._plan:
            self._begin(plan)
        lines: list[str] = []
        steps = 0
        for event in ended:
            if event.outcome.action.touches:
                steps += 1
                self._ended[event.outcome.outcome] += 1
                lines += self._lines(event)
        if steps:
            self._write(lines, steps, self._shell.is_text)
        if sum(self._ended.values()) == self._total:
            self.close()

    def close(self) -> None:
        """End the progress bar."""
        self._progress.close()

    def _begin(self, plan: Plan) -> None:
        """Start a progress bar for the plan. Each plan of an apply has its own bar."""
        self.close()
        self._plan = plan
        touching = plan.touching
        self._total, self._tallied = len(touching), 0
        self._ended.clear()
        self._names_width = max(width(field(title(action.job))) for action in touching)
        self._write = self._progress.enter_context(self._shell.terminal.progress(self._total))

    def _lines(self, event: "Finished") -> list[str]:
        """The lines about an action that has ended. Some actions are followed by a tally."""
        number = sum(self._ended.values())
        lines = []
        if self._is_shown(event.outcome):
            line = text.finished(event, number, self._total, self._names_width)
            fitting, is_all = self._shell.terminal.fitting(line, to_answer=self._shell.is_text)
            self.is_whole &= is_all or not is_undone(event.outcome)
            lines.append(fitting)
        if self._is_long and number * _TALLIES // self._total > self._tallied:
            self._tallied = number * _TALLIES // self._total
            lines.append(text.tally(self._ended, self._total))
        return lines

    @property
    def _is_long(self) -> bool:
        return self._total > MANY and not self._shell.verbose

    def _is_shown(self, outcome: ActionOutcome) -> bool:
        if not self._is_long:
            return True
        if not is_undone(outcome):
            return False
        same = outcome.outcome, explanation(outcome)
        self._alike[same] += 1
        self.is_whole &= self._alike[same] <= MANY
        return self._alike[same] <= MANY
