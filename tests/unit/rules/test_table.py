"""The table: its drawing, and what its two parts say of the same job."""

import re

import pytest

from reconciler.model.jobs import Desired, Status
from reconciler.rules import table
from reconciler.rules.drift import DIFFERS
from reconciler.rules.table import ERRORS, TABLE, Asked, Cell, DriftCell, Kind

DRAWN = {
    "adopt/restart": "adopt if its config agrees, else restart",
    "restart or run": "restart if recorded running, else run",
    "lost run": "hold: lost run",
    "hold": "hold: aborted by someone else",
    "gone": "hold: gone",
    "taken": "hold: gone",
    "no end": "hold: no end",
    "owner": "hold: another owner's",
    "no such job": "error: no such job",
    "needs new id": "error: needs a new id",
    "error": "error: unreadable",
}
"""The words that the drawing shortens, and the words of the entries."""


def drawings() -> list[dict[str, list[str]]]:
    """The two drawings of the table: the entries without their notes, by observed status."""
    found = []
    for block in (table.__doc__ or "").split("    observed  ")[1:]:
        lines = block.split("\n\n")[0].splitlines()[2:]
        rows = [re.split(r"  +", line.strip()) for line in lines]
        found.append({row[0]: [re.sub(r"( \d)+$", "", entry) for entry in row[1:]] for row in rows})
    return found


def test_the_drawing_for_a_plan_is_the_table() -> None:
    drawn, _ = drawings()
    assert list(drawn) == [status.value for status in TABLE]
    for status, row in TABLE.items():
        words = [DRAWN.get(word, word) for word in drawn[status]]
        assert [column for column, word in zip(Asked, words, strict=True) if word != "–"] == list(row.asked)
        if status is Status.ACTIVE:  # Note 4 gives the whole entry.
            words[list(Asked).index(Asked.NEW_TOKEN)] = Cell.RESTART_OR_ADOPT.word
        assert [word for word in words if word != "–"] == [row.asked[column].word for column in row.asked]


def test_the_drawing_for_drift_is_the_table() -> None:
    _, drawn = drawings()
    assert drawn == {
        status.value: [row.recorded[state].kind if state in row.recorded else "–" for state in Desired]
        for status, row in TABLE.items()
    }


@pytest.mark.parametrize("status", [status for status in TABLE if status not in (Status.NOT_OBSERVED, Status.NOTHING)])
def test_a_plan_and_drift_agree_on_a_job_that_should_be_as_recorded(status: Status) -> None:
    planned, found = TABLE[status].asked[Asked.SAME], TABLE[status].recorded[Desired.RUNNING]
    if planned.word == "noop":
        assert found in (DriftCell.SAME, DriftCell.FAILED)
    elif planned is Cell.RUN:
        assert found is DriftCell.WITHDRAWN
    else:
        assert planned.word.partition(": ")[2] == found.kind


@pytest.mark.parametrize("cell", [cell for cell in Cell if cell in ERRORS or cell.word.startswith("hold")])
def test_each_entry_that_holds_a_job_says_why_and_what_to_do(cell: Cell) -> None:
    assert cell.reason
    assert cell.way_out


@pytest.mark.parametrize("cell", DriftCell)
def test_drift_says_what_to_do_exactly_where_somebody_has_to_do_something(cell: DriftCell) -> None:
    to_do = DIFFERS | {Kind.UNREADABLE, Kind.IN_DOUBT, Kind.UNDER_WAY}
    assert bool(cell.way_out) == (cell.kind in to_do)
