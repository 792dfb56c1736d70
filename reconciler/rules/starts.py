"""The decisions to start a run: at once, after an abort, or once a run has ended."""

from typing import Literal, assert_never

from reconciler.model.jobs import NOT_ASKED, Config, Desired, Observation, OnConfigChange, Status, Verb
from reconciler.model.plan import ActionKind, Change
from reconciler.model.times import TimeOrder
from reconciler.rules.configs import agrees, config_changes
from reconciler.rules.decisions import Decision, adopt, hold, wait
from reconciler.rules.matching import Subject
from reconciler.rules.observations import observation_words
from reconciler.rules.records import applied, is_ending, is_new_token, run_of
from reconciler.rules.runs import asks_the_same
from reconciler.rules.table import WAITING, Asked, Cell
from reconciler.rules.words import reason_of, reason_with, way_out_of, why_asked

Start = Literal[
    Cell.RUN,
    Cell.RESTART,
    Cell.RESTART_OR_RUN,
    Cell.ADOPT_OR_RESTART,
    Cell.RESTART_OR_ADOPT,
    Cell.RUN_ONCE_ENDED,
    Cell.WAIT,
]
"""The entries of the table that start a run, or may start one."""


def start_of(cell: Start, column: Asked, subject: Subject, observed: Observation) -> Decision:
    """The decision that such an entry stands for. `column` says why the manifest asks for a run."""
    match cell:
        case Cell.RUN:
            return _run(subject, column, observed)
        case Cell.RESTART:
            return _restart(subject, column, observed)
        case Cell.RESTART_OR_RUN:
            is_running = subject.record is not None and subject.record.state is Desired.RUNNING
            return (_restart if is_running else _run)(subject, column, observed)
        case Cell.ADOPT_OR_RESTART:
            return _adopt_or_restart(column, subject, observed)
        case Cell.RESTART_OR_ADOPT:
            return _restart_or_adopt(column, subject, observed)
        case Cell.RUN_ONCE_ENDED:
            return _run_once_ended(subject, column, observed)
        case Cell.WAIT:
            return _wait_for_its_end(subject, column, observed)
    assert_never(cell)


def _run(subject: Subject, column: Asked, observed: Observation) -> Decision:
    """The decision to run a job."""
    return _start(ActionKind.RUN, (Verb.RUN,), subject, column, observed)


def _adopt_or_restart(column: Asked, subject: Subject, observed: Observation) -> Decision:
    """The decision about an active run that no record knows."""
    job, record = subject.job, subject.record
    words = observation_words(observed)
    if agrees(job.config, observed.config, subject.same_config, job.ignore):
        return adopt(subject, reason_of(Cell.ADOPT, observed), observed)
    match job.on_config_change:
        case OnConfigChange.NEXT_RUN:
            why = f"already {words} with another config, and the new one counts from the next run"
            return adopt(subject, f"{why}; recorded without a call", observed)
        case OnConfigChange.HOLD:
            return hold(
                record,
                f"already {words} with another config, and onConfigChange is hold: ",
                "onConfigChange: restart runs it with this config, rerun once it has ended, next-run lets it through",
            )
        case OnConfigChange.RESTART:
            return _restart(subject, column, observed)
        case OnConfigChange.RERUN:
            # Without a record, the run would count as the one that is asked for once it has ended.
            its_own = subject._replace(job=job._replace(config=observed.config or {}))
            why = f"already {words} with another config, and the new one asks for a run once that has ended"
            return adopt(its_own, f"{why}; recorded without a call", observed)
    assert_never(job.on_config_change)


def _restart_or_adopt(column: Asked, subject: Subject, observed: Observation) -> Decision:
    """The decision about an active run where the manifest asks for one more run."""
    job, record = subject.job, subject.record
    if record is None or record.state is not Desired.ABORTED:
        return _restart(subject, column, observed)
    if observed.stands_to(record.submitted_at) is not TimeOrder.LATER:
        return _run_once_over(subject, column, observed)
    # A later run of this state that bears another run token was asked for by another copy of the state.
    is_ours = observed.marks.lineage != "" and observed.marks.lineage == subject.lineage
    is_asked = not is_ours or asks_the_same(observed.marks, job.config, job.run_token)
    config, same = observed.config, subject.same_config
    if is_asked and config is not None and agrees(job.config, config, same, job.ignore):
        why = f"already {observation_words(observed)} with this config; recorded without a call"
        return adopt(subject, why, observed)
    return _restart(subject, column, observed)


def _run_once_over(subject: Subject, column: Asked, observed: Observation) -> Decision:
    """The decision to run a job once its active run is over, because that may be the run that was aborted.

    An adopt would be wrong here: it would record the ending run as the new run, and the new run would never start.
    """
    decision = _run(subject, column, observed)
    if is_ending(subject.record, observed):
        why = "that is the run that was aborted, and the new one follows its end"
    else:
        why = "it is not known whether that is the run that was aborted, so the new one follows its end"
    return decision._replace(reason=f"{decision.reason}; {why}", awaits_end=True)


def _run_once_ended(subject: Subject, column: Asked, observed: Observation) -> Decision:
    """The decision to run a job that was not observed, and whose run before has to end first.

    An apply asks the engine before it acts. If the engine offers no reads, only the record tells whether the run before
    has ended. The job is held without an end on record, since two runs of it might be active at the same time.
    """
    decision = _run(subject, column, observed)
    end = subject.record.end if subject.record is not None else None
    if end in (Status.COMPLETE, Status.FAILED):
        return decision
    if subject.terms.promises.reads and not observed.is_answer:
        return decision if end else decision._replace(reason=f"{decision.reason}; once the run before has ended")
    cell = Cell.END_UNSEEN if end is None else Cell.ABORTED_UNSEEN
    reason = f"{decision.reason}; {reason_of(cell, observed)}"
    return hold(subject.record, reason, way_out_of(cell, subject.job), decision.changes)


def _wait_for_its_end(subject: Subject, column: Asked, observed: Observation) -> Decision:
    """The decision to run a job once its active run has ended by itself."""
    decision = _run(subject, column, NOT_ASKED)
    why = f"{decision.reason}; waiting for the end of the run before, which is {observation_words(observed)}: "
    return wait(decision, why, f"the next apply goes on once that has ended, {WAITING} waits for it")


def _restart(subject: Subject, column: Asked, observed: Observation) -> Decision:
    """The decision to abort the active run of a job, and to run the job again."""
    return _start(ActionKind.RESTART, (Verb.ABORT, Verb.RUN), subject, column, observed)


def _start(
    kind: ActionKind, verbs: tuple[Verb, ...], subject: Subject, column: Asked, observed: Observation
) -> Decision:
    """The decision to start a run. The run consumes the run token of the manifest."""
    job, record = subject.job, subject.record
    changes: list[Change] = []
    if record is None or record.state is not Desired.RUNNING:
        changes.append(Change("state", record.state if record else None, Desired.RUNNING))
    if job.run_token is not None and (record is None or is_new_token(job, record)):
        changes.append(Change("runToken", None, job.run_token))
    replaced: Config | None = None
    if kind is ActionKind.RESTART and column is Asked.FIRST_RUN and observed.config is not None:
        replaced = {field: value for field, value in observed.config.items() if field in job.config}
    recorded = record.config if record else {}
    changes += config_changes(recorded if replaced is None else replaced, job.config, subject.same_config)
    reason = reason_with(why_asked(subject, column, replaced), observation_words(observed))
    after = applied(job, record, Verb.RUN, run=run_of(subject, Verb.RUN), ran=job.config)
    return Decision(kind, reason, after, verbs, tuple(changes))
