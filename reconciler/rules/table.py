"""The table of rules: what an observed job means for a plan, and what it means for the drift report.

There is one row for each status. The left part of a row belongs to a plan: its columns (`Asked`) say what the manifest
asks for, given the record. The right part belongs to `drift`: its columns say what is recorded. Each entry (`Cell`,
`DriftCell`) carries the word that names it, the reason that a user reads, and the way out: what the user can do about
it.

A run is withdrawn if the engine has dropped it before it began, because a run that it comes after did not complete.

The rows below `unreadable` are about engines whose run creates the job, and about owners. `sight` says when a report of
the engine stands for one of these rows.

The part for a plan:

    observed             FIRST_RUN        SAME       NEW_CONFIG    RERUN            NEW_TOKEN         ABORTED   ABSENT
    -------------------  ---------------  ---------  ------------  ---------------  ----------------  --------  --------
    not observed         run              noop       restart       run once ended   restart or run 1  abort 2   delete 2
    draft                run              lost run   run           run              run               adopt     delete
    active               adopt/restart 3  noop       restart       wait             restart 4         abort     delete 5
    complete             adopt            noop       adopt         run              run               adopt     delete
    failed               adopt            noop       run           run              run               adopt     delete
    aborted              hold             hold       hold          hold             run               adopt     delete
    withdrawn            run              run        run           run              run               adopt     delete
    missing              no such job      gone       needs new id  needs new id     needs new id      adopt     adopt
    unreadable           error            error      error         error            error             error     error
    not there            run              –          –             –                run               adopt     adopt
    taken away           –                taken      run           run              run               adopt     adopt
    forgotten, complete  –                noop       adopt         run              run               adopt     adopt
    forgotten, failed    –                noop       run           run              run               adopt     adopt
    forgotten, aborted   –                hold       hold          hold             run               adopt     adopt
    forgotten            –                noop       no end        run              run               adopt     adopt
    another owner's      owner            owner      owner         owner            owner             owner     owner

    1  restart if the job is recorded as running, else run
    2  noop if the job is already recorded as asked; an abort is also a noop if the job is recorded as absent
    3  adopt if the observed config agrees or is not known; else `onConfigChange` decides, as for a new config: with
       `rerun`, the run is adopted under its own config, and the new config then asks for a run
    4  The record may say `aborted`. Then an active run that may be the aborted run has to end first, and the job is
       run after that. A run that began later is adopted if its config agrees, and is restarted if not.
    5  abort, wait for the end of the run, then delete. An unobserved job is treated alike if it is recorded as running.
       The abort is left out if the active run is the one that was aborted before.

"run once ended" is about the run before. A plan that did not ask the engine shows the run, and the apply asks. If the
engine offers no reads, the record alone tells the end: the job is run after an end that a person stated, and is held
without one.

A service of another identity has no row: one message ends the command before any call (`identities`).

"lost run", "gone", "taken", "no end", "owner" and "hold" hold the job. "no such job", "needs new id" and "error" hold
the job with an error. An error concerns that job alone. "–" can't happen: these rows need a record, or have none.

The part for `drift`, by the recorded state:

    observed             running                    aborted                absent
    -------------------  -------------------------  ---------------------  ---------------
    not observed         unreadable                 unreadable             unreadable
    draft                lost run                   as recorded 6          there again
    active               as recorded 6 7            run by someone else 8  there again
    complete             as recorded 6              as recorded 6          there again
    failed               failed 6                   as recorded 6          there again
    aborted              aborted by someone else    as recorded 6          there again
    withdrawn            withdrawn                  as recorded 6          there again
    missing              gone                       gone                   as recorded
    unreadable           unreadable                 unreadable             unreadable
    not there            –                          as recorded            as recorded
    taken away           gone                       –                      –
    forgotten, complete  as recorded                –                      –
    forgotten, failed    failed                     –                      –
    forgotten, aborted   aborted by someone else    –                      –
    forgotten            as recorded                –                      –
    another owner's      another owner's            another owner's        another owner's

    6  run by someone else if the observed run began at another time than the recorded run; a run that bears the
       lineage of this state was started from a newer copy of the state
    7  config differs if the active run has another config than the record
    8  not ended yet if the active run is the one that was aborted

`decide` and `drift` say which rules come before the table, and which rules change an entry afterwards.
"""

from collections.abc import Mapping
from enum import Enum, StrEnum
from typing import NamedTuple

from reconciler.model.commands import command
from reconciler.model.jobs import Desired, Status
from reconciler.model.plan import AS_RECORDED


class Asked(StrEnum):
    """The columns for a plan: what the manifest asks for, given the record."""

    FIRST_RUN = "running, no record"
    SAME = "running, recorded running, same"
    NEW_CONFIG = "running, config changed"
    RERUN = "running, config changed, and onConfigChange: rerun asks for one more run"
    NEW_TOKEN = "running, new runToken, or recorded aborted or absent"
    ABORTED = "aborted"
    ABSENT = "absent"


class Kind(StrEnum):
    """The words of the drift report, gravest first."""

    OTHER_OWNER = "another owner's"
    GONE = "gone"
    LOST = "lost run"
    WITHDRAWN = "withdrawn"
    ABORTED = "aborted by someone else"
    RUN = "run by someone else"
    ENDING = "not ended yet"
    THERE = "there again"
    FAILED = "failed"
    CONFIG = "config differs"
    UNREADABLE = "unreadable"
    IN_DOUBT = "in doubt"
    UNDER_WAY = "under way"
    FROZEN = "frozen"
    NOT_RECORDED = "not recorded"
    SAME = "as recorded"


_RECORDED_AND_OBSERVED = "recorded {state}, and the job is {observed}{since}{differs}{undeclared}"
_NEW_TOKEN = "a new runToken runs it"
_RUN_AGAIN_OR_ACCEPT = "a new runToken runs it again, `state: aborted` accepts it"
_NEW_TOKEN_OR_CONFIG = "a new runToken or config runs it again"
_SAY_HOW = "{ended}, or the same with `--ended failed`"
_OTHER_ID_OR_IMPORT = "give it another `id:`, or take it out of the manifest and take the run over: {take_over}"
_SAVING = command("plan", options=["--refresh", "--out", "plan.json"])
_REFRESHED = f"{_SAVING}, then {command('apply', options=['--plan', 'plan.json'])}"
NEWER_COPY = "bring the newer state here (with git: `git pull`); if it is lost"
"""What to do first about a run that bears the lineage of this state, and that the state does not know."""

WAITING = command("apply", options=["--wait", "3600"])
"""The command that waits for what a job comes after."""


class DriftCell(Enum):
    """The entries for `drift`.

    `kind` is the word that is printed. `reason` and `way_out` are templates for `str.format`; `way_out` is "" if
    nobody has to do anything. The fields of a reason are

        state, observed  the recorded state, and the observation in words
        since            when the observed run began, if the record has another time; else ""
        differs          the paths of the config fields that differ; else ""
        undeclared       a remark that the manifest does not declare the job; else ""
        detail           why the job can't be read
        verb, sent_at, answer, holder
                         the call that is in doubt: what was sent, when, how it went, and which command waits for it

    The fields of a way out are the commands `forget`, `resolve` (the observed run does not count), `settle` (the call
    in doubt is settled by hand), `ended` (the recorded run had completed) and `take_over` (import of the job).
    """

    GONE = (
        Kind.GONE,
        _RECORDED_AND_OBSERVED,
        "give it a new id, declare it absent, or drop its record ({forget})",
    )
    TAKEN_AWAY = (
        Kind.GONE,
        _RECORDED_AND_OBSERVED,
        f"{_RUN_AGAIN_OR_ACCEPT}; if the run had ended, say how: {_SAY_HOW}",
    )
    OTHER_OWNER = Kind.OTHER_OWNER, "{observed}{undeclared}", _OTHER_ID_OR_IMPORT
    LOST = Kind.LOST, _RECORDED_AND_OBSERVED, _NEW_TOKEN
    WITHDRAWN = (
        Kind.WITHDRAWN,
        _RECORDED_AND_OBSERVED,
        f"an apply runs it once the jobs that it comes after have completed, {WAITING} waits for them",
    )
    ABORTED = Kind.ABORTED, _RECORDED_AND_OBSERVED, _RUN_AGAIN_OR_ACCEPT
    OTHER_RUN = Kind.RUN, _RECORDED_AND_OBSERVED, "{resolve} records that run"
    NEWER_RUN = (
        Kind.RUN,
        f"{_RECORDED_AND_OBSERVED}; a newer copy of this state has started that run",
        f"{NEWER_COPY}, {{resolve}} records that run",
    )
    ACTIVE_AGAIN = Kind.RUN, _RECORDED_AND_OBSERVED, f"{_REFRESHED} aborts it; `state: running` takes it over"
    ENDING = (
        Kind.ENDING,
        _RECORDED_AND_OBSERVED,
        "look again once the aborted run has ended; an apply waits for its end",
    )
    ENDING_AS_ASKED = (
        Kind.ENDING,
        _RECORDED_AND_OBSERVED,
        f"look again once the aborted run has ended; if it does not end, {_REFRESHED} aborts it once more",
    )
    THERE = Kind.THERE, _RECORDED_AND_OBSERVED, f"{_REFRESHED} deletes it, where it is declared absent"
    FAILED = Kind.FAILED, _RECORDED_AND_OBSERVED, f"{_NEW_TOKEN_OR_CONFIG}, `state: aborted` accepts it"
    CONFIG = (
        Kind.CONFIG,
        _RECORDED_AND_OBSERVED,
        "a new runToken runs it with the recorded config, `ignore` in the manifest accepts this one",
    )
    UNREADABLE = Kind.UNREADABLE, "{detail}{undeclared}", "look again once it can be read"
    IN_DOUBT = (
        Kind.IN_DOUBT,
        "{verb} was sent at {sent_at}, and it is not known whether it was carried out ({answer})",
        "the next apply checks again, or settle it: {settle}",
    )
    UNDER_WAY = (
        Kind.UNDER_WAY,
        "{verb} was sent at {sent_at}, and may still be answered: {holder}",
        "wait for that command to end, and look again",
    )
    NOT_RECORDED = Kind.NOT_RECORDED, "declared, and never applied; the job is {observed}"
    SAME = Kind.SAME, _RECORDED_AND_OBSERVED

    def __init__(self, kind: Kind, reason: str, way_out: str = "") -> None:
        self.kind = kind
        self.reason = reason
        self.way_out = way_out


class Cell(Enum):
    """The entries for a plan.

    `word` names the entry. `reason` and `way_out` are as in `DriftCell`. A reason that depends on more than the
    observation is "": the rule in `decide` words it. The fields of a reason and of a way out are

        observed  the observation in words
        now       "; the job is …" with the observation in words, or "" if nothing was observed
        detail    why the job can't be read
        ended, take_over
                  the commands, as in the way out of a `DriftCell`
    """

    RUN = ("run",)
    RESTART = ("restart",)
    RESTART_OR_RUN = ("restart if recorded running, else run",)
    ADOPT = "adopt", "already {observed}; recorded without a call"
    ADOPT_DRAFT = "adopt", "already {observed}, and an abort would delete it; recorded without a call"
    ADOPT_ENDED = "adopt", "already {observed}, and not run again; recorded without a call"
    ADOPT_CONFIG = "adopt", "the new config counts from the next run; recorded without a call{now}"
    ADOPT_RAN = "adopt", "this config has run before, and is not run again; recorded without a call{now}"
    ADOPT_VALUES = (
        "adopt",
        "the values that `rerunOn` names have run before, and are not run again; recorded without a call{now}",
    )
    ADOPT_REST = (
        "adopt",
        "no field of `rerunOn` has changed, so the new config counts from the next run; recorded without a call{now}",
    )
    RUN_ONCE_ENDED = ("run once ended",)
    WAIT = ("wait",)
    ADOPT_OR_RESTART = ("adopt if its config agrees, else restart",)
    RESTART_OR_ADOPT = (
        "restart; if recorded aborted, run once that is over, or adopt a later run whose config agrees",
    )
    ABORT = "abort", "declared aborted{now}"
    DELETE = ("delete",)
    NOOP = "noop", AS_RECORDED + "{now}"
    NOOP_FAILED = "noop", _NEW_TOKEN_OR_CONFIG + "{now}"
    LOST_RUN = (
        f"hold: {Kind.LOST}",
        f"{Kind.LOST}: the job is recorded as running, and is {{observed}}; ",
        DriftCell.LOST.way_out,
    )
    ABORTED_ELSEWHERE = f"hold: {Kind.ABORTED}", f"{Kind.ABORTED} ({{observed}}): ", DriftCell.ABORTED.way_out
    ABORTED_UNRECORDED = (
        f"hold: {Kind.ABORTED}",
        f"{Kind.ABORTED} ({{observed}}): ",
        "apply it once as `state: aborted`, then a change to `running` runs it",
    )
    GONE = (
        f"hold: {Kind.GONE}",
        f"{Kind.GONE}: the job is recorded as running, and is {{observed}}; ",
        "give the job a new id, or declare it absent",
    )
    TAKEN_AWAY = (
        f"hold: {Kind.GONE}",
        f"{Kind.GONE}: the job is recorded as running, and is {{observed}}; ",
        DriftCell.TAKEN_AWAY.way_out,
    )
    NO_END = (
        "hold: no end",
        "the job is {observed}, so it is not known whether the new config is to run now; ",
        f"say how the run ended: {_SAY_HOW}; {_NEW_TOKEN}",
    )
    END_UNSEEN = (
        "hold: no end seen",
        "the service offers no reads, so it is not known whether the run before has ended; ",
        f"once it has, say how: {_SAY_HOW}; {_NEW_TOKEN} at once, in the place of the run before",
    )
    ABORTED_UNSEEN = (
        f"hold: {Kind.ABORTED}",
        f"the run before is recorded as {Kind.ABORTED}: ",
        DriftCell.ABORTED.way_out,
    )
    ABORT_UNSEEN = (
        "hold: abort unseen",
        "the run before was to be aborted, and may have ended by itself{now}; ",
        f"say how the run ended: {_SAY_HOW}; {_NEW_TOKEN} at once",
    )
    OTHER_OWNER = f"hold: {Kind.OTHER_OWNER}", "{observed}; ", DriftCell.OTHER_OWNER.way_out
    NO_SUCH_JOB = (
        "error: no such job",
        "no such job: it is {observed} at the service; ",
        "create it there, or correct its id",
    )
    NEEDS_NEW_ID = (
        "error: needs a new id",
        "needs a new id: the job is {observed}; ",
        "create a job there and give its id",
    )
    UNREADABLE = f"error: {Kind.UNREADABLE}", f"{Kind.UNREADABLE}: {{detail}}; ", "left alone until it can be read"

    def __init__(self, word: str, reason: str = "", way_out: str = "") -> None:
        self.word = word
        self.reason = reason
        self.way_out = way_out


ERRORS = frozenset({Cell.NO_SUCH_JOB, Cell.NEEDS_NEW_ID, Cell.UNREADABLE})
"""The entries for a job that can't be acted on."""

FIXED = ERRORS | {Cell.OTHER_OWNER}
"""The entries that `onConfigChange` does not change."""


class TableRow(NamedTuple):
    """What one status means: for a plan by what is asked for, and for `drift` by what is recorded.

    A column that can't happen with the status is missing.
    """

    asked: Mapping[Asked, Cell]
    recorded: Mapping[Desired, DriftCell]


def _row(asked: tuple[Cell | None, ...], recorded: tuple[DriftCell | None, ...]) -> TableRow:
    return TableRow(
        {column: cell for column, cell in zip(Asked, asked, strict=True) if cell},
        {state: cell for state, cell in zip(Desired, recorded, strict=True) if cell},
    )


_DEL = Cell.DELETE
TABLE: Mapping[Status, TableRow] = {
    Status.NOT_OBSERVED: _row(
        (Cell.RUN, Cell.NOOP, Cell.RESTART, Cell.RUN_ONCE_ENDED, Cell.RESTART_OR_RUN, Cell.ABORT, _DEL),
        (DriftCell.UNREADABLE, DriftCell.UNREADABLE, DriftCell.UNREADABLE),
    ),
    Status.DRAFT: _row(
        (Cell.RUN, Cell.LOST_RUN, Cell.RUN, Cell.RUN, Cell.RUN, Cell.ADOPT_DRAFT, _DEL),
        (DriftCell.LOST, DriftCell.SAME, DriftCell.THERE),
    ),
    Status.ACTIVE: _row(
        (Cell.ADOPT_OR_RESTART, Cell.NOOP, Cell.RESTART, Cell.WAIT, Cell.RESTART_OR_ADOPT, Cell.ABORT, _DEL),
        (DriftCell.SAME, DriftCell.ACTIVE_AGAIN, DriftCell.THERE),
    ),
    Status.COMPLETE: _row(
        (Cell.ADOPT_ENDED, Cell.NOOP, Cell.ADOPT_CONFIG, Cell.RUN, Cell.RUN, Cell.ADOPT, _DEL),
        (DriftCell.SAME, DriftCell.SAME, DriftCell.THERE),
    ),
    Status.FAILED: _row(
        (Cell.ADOPT_ENDED, Cell.NOOP_FAILED, Cell.RUN, Cell.RUN, Cell.RUN, Cell.ADOPT, _DEL),
        (DriftCell.FAILED, DriftCell.SAME, DriftCell.THERE),
    ),
    Status.ABORTED: _row(
        (Cell.ABORTED_UNRECORDED, *(Cell.ABORTED_ELSEWHERE,) * 3, Cell.RUN, Cell.ADOPT, _DEL),
        (DriftCell.ABORTED, DriftCell.SAME, DriftCell.THERE),
    ),
    Status.WITHDRAWN: _row(
        (*(Cell.RUN,) * 5, Cell.ADOPT, _DEL),
        (DriftCell.WITHDRAWN, DriftCell.SAME, DriftCell.THERE),
    ),
    Status.MISSING: _row(
        (Cell.NO_SUCH_JOB, Cell.GONE, *(Cell.NEEDS_NEW_ID,) * 3, Cell.ADOPT, Cell.ADOPT),
        (DriftCell.GONE, DriftCell.GONE, DriftCell.SAME),
    ),
    Status.UNREADABLE: _row((Cell.UNREADABLE,) * len(Asked), (DriftCell.UNREADABLE,) * len(Desired)),
    Status.NOTHING: _row(
        (Cell.RUN, None, None, None, Cell.RUN, Cell.ADOPT, Cell.ADOPT),
        (None, DriftCell.SAME, DriftCell.SAME),
    ),
    Status.TAKEN_AWAY: _row(
        (None, Cell.TAKEN_AWAY, Cell.RUN, Cell.RUN, Cell.RUN, Cell.ADOPT, Cell.ADOPT),
        (DriftCell.TAKEN_AWAY, None, None),
    ),
    Status.FORGOTTEN_COMPLETE: _row(
        (None, Cell.NOOP, Cell.ADOPT_CONFIG, Cell.RUN, Cell.RUN, Cell.ADOPT, Cell.ADOPT),
        (DriftCell.SAME, None, None),
    ),
    Status.FORGOTTEN_FAILED: _row(
        (None, Cell.NOOP_FAILED, Cell.RUN, Cell.RUN, Cell.RUN, Cell.ADOPT, Cell.ADOPT),
        (DriftCell.FAILED, None, None),
    ),
    Status.FORGOTTEN_ABORTED: _row(
        (None, *(Cell.ABORTED_ELSEWHERE,) * 3, Cell.RUN, Cell.ADOPT, Cell.ADOPT),
        (DriftCell.ABORTED, None, None),
    ),
    Status.FORGOTTEN: _row(
        (None, Cell.NOOP, Cell.NO_END, Cell.RUN, Cell.RUN, Cell.ADOPT, Cell.ADOPT),
        (DriftCell.SAME, None, None),
    ),
    Status.OTHER_OWNER: _row((Cell.OTHER_OWNER,) * len(Asked), (DriftCell.OTHER_OWNER,) * len(Desired)),
}
