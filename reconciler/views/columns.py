"""Lines and tables whose columns are aligned."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from reconciler.host.safe_text import Style, field, pad, styled, width
from reconciler.model.plan import Request

MANY = 20
"""If more jobs than this number have the same line, they share one line."""

_NAMES_SHOWN = 3


class Line(NamedTuple):
    """One line about one job. All three texts must be safe to show, and all heads must have the same width."""

    head: str
    name: str
    reason: str


def listed(
    lines: Iterable[Line], *, whole: bool = False, calls: Sequence[Sequence[Request]] | None = None
) -> list[str]:
    """Return the lines, aligned.

    More than `MANY` lines that differ only in the name become one line, at the place of the first. With `whole` or
    `calls`, each job has a line of its own. `calls` holds the requests of each line, which are shown below the line.
    """
    alike: dict[tuple[str, str], list[str]] = {}
    all_lines = list(lines)
    for line in all_lines:
        alike.setdefault((line.head, line.reason), []).append(line.name)
    many = {same: names for same, names in alike.items() if len(names) > MANY} if calls is None and not whole else {}
    single = [line.name for line in all_lines if (line.head, line.reason) not in many]
    names_width = max((width(name) for name in single), default=0)
    shown: list[str] = []
    for at, (head, name, reason) in enumerate(all_lines):
        if (head, reason) not in many:
            shown.append(f"  {head}  {pad(name, names_width)}  {reason}".rstrip())
        elif names := many[head, reason]:
            shown.append(f"  {head}  {several(names)}  {reason}".rstrip())
            many[head, reason] = []
        if calls is not None:
            shown += [f"               {styled(Style.DIM, field(c.text))}" for c in calls[at]]
    return [*shown, "  (--verbose lists them all)"] if many else shown


def several(names: Sequence[str]) -> str:
    """Return the number of jobs and the first names. The names must be safe to show."""
    return f"{len(names)} jobs ({', '.join(names[:_NAMES_SHOWN])}, …)"


def table(rows: Sequence[tuple[str, ...]]) -> str:
    """Return the rows with aligned columns. The first row is the head. All rows must have the same length.

    Each cell is made safe to show.
    """
    shown = [tuple(field(cell) for cell in row) for row in rows]
    columns = [max(width(row[at]) for row in shown) for at in range(len(shown[0]))]
    lines = ["  ".join(pad(cell, columns[at]) for at, cell in enumerate(row)).rstrip() for row in shown]
    return "\n".join([styled(Style.BOLD, lines[0]), *lines[1:]])
