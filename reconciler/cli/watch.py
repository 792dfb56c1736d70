"""An apply as it is seen at a terminal or in a log."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from reconciler.cli.shell import Shell

if TYPE_CHECKING:
    from reconciler.events import Finished
    from reconciler.plan import Plan


class Watch:
    """Shows the actions of an apply as they end."""

    def __init__(self, shell: Shell) -> None:
        self._shell = shell
        self._progress: Any = None
        self._tell: Callable[[Sequence[str], bool], None] | None = None
        self._number = self._total = self._names = 0
        self._made: Plan | None = None

    def _begin(self, made: "Plan") -> None:
        """Start the bar for a plan."""
        from reconciler.jobs import title
        from reconciler.text import field, width

        self.close()
        self._made = made
        touching = made.touching
        self._number, self._total = 0, len(touching)
        self._names = max(width(field(title(action.job))) for action in touching)
        self._progress = self._shell.terminal.progress(self._total)
        self._tell = self._progress.__enter__()

    def __call__(self, made: "Plan", ended: "Sequence[Finished]") -> None:
        from reconciler.render import text

        if made is not self._made:
            self._begin(made)
        lines: list[str] = []
        for event in ended:
            if event.outcome.action.touches:
                self._number += 1
                lines.append(text.finished(event, self._number, self._total, self._names))
        if lines and self._tell is not None:
            self._tell(lines, self._shell.form == "text")

    def close(self) -> None:
        """End the bar."""
        if self._progress is not None:
            self._progress.__exit__(None, None, None)
            self._progress = None
