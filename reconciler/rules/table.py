"""The decision table. Left: observed. Top: desired, then recorded (`Asked`).

    observed      FIRST_RUN        SAME       NEW_CONFIG    RERUN             ABORTED   ABSENT
    ------------  ---------------  ---------  ------------  ----------------  --------  --------
    not observed  run              noop       restart       restart or run 1  abort 2   delete 2
    draft         run              lost run   run           run               adopt     delete
    active        adopt/restart 3  noop       restart       restart 4         abort     delete 5
    complete      adopt            noop       adopt         run               adopt     delete
    failed        adopt            noop       run           run               adopt     delete
    aborted       hold             hold       hold          run               adopt     delete
    missing       no such job      gone       needs new id  needs new id      adopt     adopt
    unreadable    error            error      error         error             error     error

    1  restart where it is recorded running, else run
    2  noop where the record says so already (an abort: also where it is recorded absent)
    3  adopt where its config agrees or is not told; else as `onConfigChange` says of a new config
    4  recorded aborted: run once the active run is over, which is the one that was aborted, or nobody can tell;
       where it began after that one: adopt where its config agrees
    5  abort, wait, delete; where nothing is observed, so too if it is recorded running. No abort where the
       active run is the one that was aborted

"lost run", "gone" and "hold" hold; "no such job", "needs new id" and "error" hold with an error for
that job alone. `onConfigChange` bends NEW_CONFIG: `next-run` makes all but the errors adopt, `hold`
makes them hold. `protect`, in the manifest or, where that says nothing, in the record, turns abort,
restart and delete into a hold; a noop that has a new `protect` to record is an adopt. A suspended job is
a noop whatever is asked. A call in doubt comes before all of it: the job is held, unless the call is an abort or a
delete that is still asked for, which is sent again. An adopt that would change no record is
a noop. `ignore` takes fields out of "its config agrees"; a change in the manifest still counts.

A run or restart comes after the jobs in `after` (`Order`). Each is judged by its own decision, then by
what is observed of it:

    to be run first, itself waiting, or active    hold: waiting for it
    complete, and not of an earlier run           go on
    in doubt, held, failed, aborted, missing, ..  hold: it does not complete by itself
    not looked at, as in a plan without reads     go on, and say after which

A job that was run since its record was written is not run again: nobody knows whether that run was
the one asked for. It holds, or is adopted where its config is told and is the new one that is asked for.
"""

from collections.abc import Mapping
from enum import StrEnum

from reconciler.model.jobs import Status


class Asked(StrEnum):
    """The columns of the decision table: what the manifest asks, given what is recorded."""

    FIRST_RUN = "running, no record"
    SAME = "running, recorded running, same"
    NEW_CONFIG = "running, config changed"
    RERUN = "running, new runToken, or recorded aborted or absent"
    ABORTED = "aborted"
    ABSENT = "absent"


class Cell(StrEnum):
    """The entries of the decision table."""

    RUN = "run"
    RESTART = "restart"
    RESTART_OR_RUN = "restart if recorded running, else run"
    ADOPT = "adopt"
    ADOPT_OR_RESTART = "adopt if its config agrees, else restart"
    RESTART_OR_ADOPT = "restart; if recorded aborted, run once that is over, or adopt a later run whose config agrees"
    ABORT = "abort"
    DELETE = "delete"
    NOOP = "noop"
    LOST_RUN = "hold: lost run"
    ABORTED_ELSEWHERE = "hold: aborted by someone else"
    GONE = "hold: gone"
    NO_SUCH_JOB = "error: no such job"
    NEEDS_NEW_ID = "error: needs a new id"
    UNREADABLE = "error: unreadable"


def _row(*cells: Cell) -> dict[Asked, Cell]:
    return dict(zip(Asked, cells, strict=True))


TABLE: Mapping[Status, Mapping[Asked, Cell]] = {
    Status.NOT_OBSERVED: _row(Cell.RUN, Cell.NOOP, Cell.RESTART, Cell.RESTART_OR_RUN, Cell.ABORT, Cell.DELETE),
    Status.DRAFT: _row(Cell.RUN, Cell.LOST_RUN, Cell.RUN, Cell.RUN, Cell.ADOPT, Cell.DELETE),
    Status.ACTIVE: _row(Cell.ADOPT_OR_RESTART, Cell.NOOP, Cell.RESTART, Cell.RESTART_OR_ADOPT, Cell.ABORT, Cell.DELETE),
    Status.COMPLETE: _row(Cell.ADOPT, Cell.NOOP, Cell.ADOPT, Cell.RUN, Cell.ADOPT, Cell.DELETE),
    Status.FAILED: _row(Cell.ADOPT, Cell.NOOP, Cell.RUN, Cell.RUN, Cell.ADOPT, Cell.DELETE),
    Status.ABORTED: _row(
        Cell.ABORTED_ELSEWHERE, Cell.ABORTED_ELSEWHERE, Cell.ABORTED_ELSEWHERE, Cell.RUN, Cell.ADOPT, Cell.DELETE
    ),
    Status.MISSING: _row(Cell.NO_SUCH_JOB, Cell.GONE, Cell.NEEDS_NEW_ID, Cell.NEEDS_NEW_ID, Cell.ADOPT, Cell.ADOPT),
    Status.UNREADABLE: _row(*[Cell.UNREADABLE] * len(Asked)),
}


_ERRORS = frozenset({Cell.NO_SUCH_JOB, Cell.NEEDS_NEW_ID, Cell.UNREADABLE})
