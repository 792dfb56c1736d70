"""The decision about one job, from the manifest, the record and the observation.

These rules come before the table (`table`), in this order:

1. A job that is recorded for another service is held. A job with a call in doubt is held as well. A call that the
   manifest still asks for is sent again instead, if it can't be carried out twice.
2. A frozen job is a noop, whatever the manifest asks for.

These rules change the entry of the table:

3. `onConfigChange` counts in the column NEW_CONFIG: with `next-run` the job is adopted, and with `hold` it is held.
   With `rerun`, the column is RERUN if the new config asks for one more run; else the job is adopted. The entries in
   `FIXED` stay.
4. An adopt that would not change the record is a noop.
5. A job that was run since its record was written is not run again, because nobody knows whether that run is the one
   that the manifest asks for. The job is held. There is one exception: if the manifest has a new config and the run has
   the same config, the job is adopted.
6. `protect` turns abort, restart and delete into a hold. The record counts if the manifest does not set `protect`.
7. A noop that has a new `protect` or a new name to record is an adopt.

A config agrees with an observed config if all fields that the manifest sets have the same value there. `ignore` takes
fields out of this comparison. A change of an ignored field in the manifest still counts as a new config.
"""

from typing import NamedTuple, assert_never

from reconciler.model.commands import command
from reconciler.model.jobs import (
    NOT_OBSERVED,
    Config,
    Desired,
    Doubt,
    Job,
    Observation,
    OnConfigChange,
    Record,
    Status,
    Verb,
    title,
)
from reconciler.model.plan import AS_RECORDED, ActionKind, Change
from reconciler.model.times import TimeOrder
from reconciler.rules import reruns
from reconciler.rules.configs import SameConfig, agrees, config_changes
from reconciler.rules.doubts import doubt_words, may_follow
from reconciler.rules.matching import Subject
from reconciler.rules.observations import elsewhere_words, observation_words
from reconciler.rules.records import (
    adopted,
    applied,
    asked,
    is_ending,
    is_new_token,
    is_protected,
    ran_since,
    run_of,
    settled,
)
from reconciler.rules.runs import asks_the_same, is_earlier_run, number_of, run_id
from reconciler.rules.sight import as_seen
from reconciler.rules.table import FIXED, TABLE, WAITING, Asked, Cell
from reconciler.rules.words import reason_of, reason_with, way_out_of, why_asked

_PROTECTED = frozenset({ActionKind.ABORT, ActionKind.RESTART, ActionKind.DELETE})


class Decision(NamedTuple):
    """What a plan does about one job.

    `verbs` are the calls, in order. `record` is the record after all calls were applied; it is None if the record is
    dropped. `error` is the reason again if the job can't be acted on, else "". `way_out` is the end of the reason of a
    hold or a wait: it says what the user can do. The calls of a wait are sent once its turn has come.
    `once_over` is True if the calls are to be sent once the active run is over.
    """

    kind: ActionKind
    reason: str
    record: Record | None
    verbs: tuple[Verb, ...] = ()
    changes: tuple[Change, ...] = ()
    error: str = ""
    way_out: str = ""
    frozen: bool = False
    once_over: bool = False


def decide(subject: Subject, observed: Observation) -> Decision:
    """The decision about one job. The rules are those of this module's docstring."""
    job, record = subject.job, subject.record
    if record is not None and record.target is not None:
        why, way_out = elsewhere_words(record.target, job.name)
        return hold(record, f"{why}: ", way_out)
    observed = as_seen(subject, observed)
    if record is not None and record.doubt is not None:
        return _sent_again(subject, observed) or _in_doubt(job, record, record.doubt)
    if is_as_recorded(subject, observed):
        return _noop(record, AS_RECORDED)
    column = asked(subject)
    new_protect = None if record is None or job.protect is record.protect else job.protect
    is_frozen = job.freeze is not None and not job.freeze.over
    decision = _frozen(job, record, observed) if is_frozen else _decide_asked(column, subject, observed)
    if new_protect is not None and record is not None:
        decision = _protecting(decision, record, new_protect)
    if subject.renamed_from:
        reason = f"renamed from {title(subject.renamed_from)}"
        if decision.kind is ActionKind.NOOP:
            return _only_recorded(decision, reason)
        return decision._replace(reason=f"{reason}; {decision.reason}")
    return decision


def _in_doubt(job: Job, record: Record, doubt: Doubt) -> Decision:
    """The hold of a job with a call in doubt."""
    cell, reason, way_out = doubt_words(job, doubt)
    return hold(record, f"{cell.kind}: {reason}; ", way_out)


def _sent_again(subject: Subject, observed: Observation) -> Decision | None:
    """Decide to send a call again if its answer was lost; None if the job has to be held.

    The job has to be held if the manifest does not ask for the call any more, because nobody knows whether the run goes
    on.
    """
    record = subject.record
    doubt = None if record is None else record.doubt
    if record is None or doubt is None or doubt.holder:
        return None
    if not may_follow(subject, doubt, observed):
        return None
    decision = decide(subject._replace(record=settled(record, was_applied=False)), observed)
    if doubt.verb not in decision.verbs or (doubt.verb is Verb.RUN and decision.verbs != (Verb.RUN,)):
        return None
    under = f" as {run_id(record.id, doubt.run)}" if doubt.verb is Verb.RUN else ""
    sent = f"the {doubt.verb} that was sent at {doubt.sent_at} got no answer, and is sent again{under}"
    return decision._replace(reason=f"{decision.reason}; {sent}")


def is_as_recorded(subject: Subject, observed: Observation) -> bool:
    """Whether a job was not observed, has not changed since its record, and falls under no other rule.

    Most jobs of most plans are like that. `make_plan` gives such a job a noop without a decision.
    """
    job, record = subject.job, subject.record
    if record is None or record.doubt is not None or record.target is not None or observed is not NOT_OBSERVED:
        return False
    is_plain = job.freeze is None and job.protect in (None, record.protect) and not subject.renamed_from
    return is_plain and asked(subject) is Asked.SAME


def _frozen(job: Job, record: Record | None, observed: Observation) -> Decision:
    """The noop of a frozen job."""
    assert job.freeze is not None
    reason = reason_with(f"frozen{job.freeze.so_long}: {job.freeze.reason}", observation_words(observed))
    return _noop(record, reason)._replace(frozen=True)


def _protecting(decision: Decision, record: Record, protect: bool) -> Decision:
    """The decision about a job whose `protect` is not as recorded. A hold does not change the record."""
    change = Change("protect", record.protect, protect)
    if decision.kind is ActionKind.NOOP:
        words = "protected from now on" if protect else "protected no more"
        kept = record._replace(protect=protect)
        return _only_recorded(decision, words)._replace(record=kept, changes=(change,))
    if decision.kind is ActionKind.HOLD:
        return decision
    return decision._replace(changes=(*decision.changes, change))


def _only_recorded(decision: Decision, reason: str) -> Decision:
    """Turn a noop that has something to record into an adopt."""
    why = f"; {decision.reason}" if decision.frozen else ""
    return decision._replace(kind=ActionKind.ADOPT, reason=f"{reason}; recorded without a call{why}", frozen=False)


def _decide_asked(column: Asked, subject: Subject, observed: Observation) -> Decision:
    """The decision of the table, changed by the rules 3 to 6 of this module's docstring."""
    job, record = subject.job, subject.record
    cell = TABLE[observed.status].asked[column]
    if column is Asked.NEW_CONFIG and cell not in FIXED:
        if job.on_config_change is OnConfigChange.NEXT_RUN:
            cell = Cell.ADOPT_CONFIG
        elif job.on_config_change is OnConfigChange.RERUN and record is not None:
            cell = _why_no_rerun(job, record, subject.same_config)
        elif job.on_config_change is OnConfigChange.HOLD:
            return hold(
                record,
                f"{why_asked(subject, column)}, and onConfigChange is hold: ",
                "a new runToken runs it with this config, onConfigChange: restart, rerun or next-run lets it through",
                config_changes(record.config if record else {}, job.config, subject.same_config),
            )
    decision = _decide_cell(cell, column, subject, observed)
    if Verb.RUN in decision.verbs and ran_since(record, observed):
        decision = _already_run(decision, column, subject, observed)
    if decision.kind in _PROTECTED and is_protected(job, record):
        way_out = "`protect: false` in the manifest lifts it"
        if not subject.keep:
            way_out = (
                "declare it again with `protect: false`, or leave it be and drop its record "
                f"({command('state forget', job.name)})"
            )
        why = f"protected, so no {decision.kind} ({decision.reason}): "
        return hold(record, why, way_out, decision.changes)
    return decision


def _why_no_rerun(job: Job, record: Record, same: SameConfig) -> Cell:
    """The entry for a new config that asks for no run under `onConfigChange: rerun`."""
    if not reruns.counts(job, record, same):
        return Cell.ADOPT_REST
    return Cell.ADOPT_RAN if reruns.has_run_whole(job, record, same) else Cell.ADOPT_VALUES


def _decide_cell(cell: Cell, column: Asked, subject: Subject, observed: Observation) -> Decision:
    """The decision that an entry of the table stands for."""
    job, record = subject.job, subject.record
    match cell:
        case Cell.RUN:
            return _run(subject, column, observed)
        case Cell.RESTART:
            return _restart(subject, column, observed)
        case Cell.RESTART_OR_RUN:
            is_running = record is not None and record.state is Desired.RUNNING
            return (_restart if is_running else _run)(subject, column, observed)
        case Cell.ADOPT_OR_RESTART:
            return _adopt_or_restart(column, subject, observed)
        case Cell.RESTART_OR_ADOPT:
            return _restart_or_adopt(column, subject, observed)
        case Cell.RUN_ONCE_ENDED:
            return _run_once_ended(subject, column, observed)
        case Cell.WAIT:
            return _wait_for_its_end(subject, column, observed)
        case Cell.ADOPT | Cell.ADOPT_DRAFT | Cell.ADOPT_ENDED:
            return _adopt(subject, reason_of(cell, observed), observed)
        case Cell.ADOPT_CONFIG | Cell.ADOPT_RAN | Cell.ADOPT_VALUES | Cell.ADOPT_REST:
            return _adopt(subject, reason_of(cell, observed), observed, as_run=False)
        case Cell.ABORT:
            return _abort(job, record, observed)
        case Cell.DELETE:
            return _delete(subject, observed)
        case Cell.NOOP | Cell.NOOP_FAILED:
            return _noop(record, reason_of(cell, observed))
        case Cell.LOST_RUN | Cell.ABORTED_ELSEWHERE | Cell.ABORTED_UNRECORDED | Cell.GONE | Cell.TAKEN_AWAY:
            return hold(record, reason_of(cell, observed), way_out_of(cell, job))
        case Cell.NO_END | Cell.OTHER_OWNER:
            return hold(record, reason_of(cell, observed), way_out_of(cell, job))
        case Cell.NO_SUCH_JOB | Cell.NEEDS_NEW_ID | Cell.UNREADABLE:
            return _error(record, reason_of(cell, observed), cell.way_out)
    assert_never(cell)


def _adopt_or_restart(column: Asked, subject: Subject, observed: Observation) -> Decision:
    """The decision about an active run that no record knows."""
    job, record = subject.job, subject.record
    words = observation_words(observed)
    if agrees(job.config, observed.config, subject.same_config, job.ignore):
        return _adopt(subject, reason_of(Cell.ADOPT, observed), observed)
    match job.on_config_change:
        case OnConfigChange.NEXT_RUN:
            why = f"already {words} with another config, and the new one counts from the next run"
            return _adopt(subject, f"{why}; recorded without a call", observed)
        case OnConfigChange.HOLD:
            return hold(
                record,
                f"already {words} with another config, and onConfigChange is hold: ",
                "onConfigChange: restart runs it with this config, rerun once it has ended, next-run lets it through",
            )
        case OnConfigChange.RESTART:
            return _restart(subject, column, observed)
        case OnConfigChange.RERUN:
            return _wait_for_its_end(subject, column, observed)
    assert_never(job.on_config_change)


def _restart_or_adopt(column: Asked, subject: Subject, observed: Observation) -> Decision:
    """The decision about an active run where the manifest asks for one more run."""
    job, record = subject.job, subject.record
    if record is None or record.state is not Desired.ABORTED:
        return _restart(subject, column, observed)
    if observed.stands_to(record.submitted_at) is not TimeOrder.LATER:
        return _run_once_over(subject, column, observed)
    if observed.config is not None and agrees(job.config, observed.config, subject.same_config, job.ignore):
        why = f"already {observation_words(observed)} with this config; recorded without a call"
        return _adopt(subject, why, observed)
    return _restart(subject, column, observed)


def _abort(job: Job, record: Record | None, observed: Observation) -> Decision:
    """The decision to abort a job; a noop if the job was not observed and is not recorded as running."""
    if observed.status is Status.NOT_OBSERVED and record is not None and record.state is not Desired.RUNNING:
        return _noop(record, f"recorded {record.state}")
    changes = (Change("state", record.state if record else None, Desired.ABORTED),)
    again = "; it was aborted already, and has yet to end" if is_ending(record, observed) else ""
    after = applied(job, record, Verb.ABORT, observed.run_began, number_of(observed.run_id, job.id))
    return Decision(ActionKind.ABORT, reason_of(Cell.ABORT, observed) + again, after, (Verb.ABORT,), changes)


def _run(subject: Subject, column: Asked, observed: Observation) -> Decision:
    """The decision to run a job."""
    return _start(ActionKind.RUN, (Verb.RUN,), subject, column, observed)


def _run_once_over(subject: Subject, column: Asked, observed: Observation) -> Decision:
    """The decision to run a job once its active run is over, because that may be the run that was aborted.

    An adopt would be wrong here: it would record the ending run as the new run, and the new run would never start.
    """
    decision = _run(subject, column, observed)
    if is_ending(subject.record, observed):
        why = "that is the run that was aborted, and the new one follows its end"
    else:
        why = "it is not known whether that is the run that was aborted, so the new one follows its end"
    return decision._replace(reason=f"{decision.reason}; {why}", once_over=True)


def _run_once_ended(subject: Subject, column: Asked, observed: Observation) -> Decision:
    """The decision to run a job that was not observed, and whose run before may have to end first."""
    decision = _run(subject, column, observed)
    if subject.record is not None and subject.record.end is not None:
        return decision
    return decision._replace(reason=f"{decision.reason}; once the run before has ended")


def _wait_for_its_end(subject: Subject, column: Asked, observed: Observation) -> Decision:
    """The decision to run a job once its active run has ended by itself."""
    decision = _run(subject, column, NOT_OBSERVED)
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


def _delete(subject: Subject, observed: Observation) -> Decision:
    """The decision to delete a job. A run that may be active is aborted first."""
    job, record = subject.job, subject.record
    recorded = record.state if record else None
    is_unobserved = observed.status is Status.NOT_OBSERVED
    if is_unobserved and recorded is Desired.ABSENT:
        return _noop(record, "recorded absent")
    active = observed.status is Status.ACTIVE or (is_unobserved and recorded is Desired.RUNNING)
    was_aborted = is_ending(record, observed)
    verbs = (Verb.ABORT, Verb.DELETE) if active and not was_aborted else (Verb.DELETE,)
    why = "declared absent" if subject.keep else "no longer declared, and --prune was given"
    after = applied(job, record, Verb.DELETE, run=number_of(observed.run_id, job.id)) if subject.keep else None
    changes = (Change("state", recorded, Desired.ABSENT),)
    reason = reason_with(why, observation_words(observed))
    if was_aborted:
        reason = f"{reason}; that is the run that was aborted, and the delete follows its end"
    return Decision(ActionKind.DELETE, reason, after, verbs, changes, once_over=was_aborted)


def _already_run(decision: Decision, column: Asked, subject: Subject, observed: Observation) -> Decision:
    """The hold or adopt of a job that was run since its record was written (rule 5)."""
    job, record = subject.job, subject.record
    assert record is not None
    is_older = is_earlier_run(record, observed)
    run = "the service tells of an earlier run than the recorded one" if is_older else "run since this was recorded"
    is_counted = number_of(observed.run_id, job.id) and record.run
    recorded = run_id(job.id, record.run) if is_counted else record.submitted_at or "as never run"
    since = f"{run} ({f'{observed.run_id}, ' if is_counted else ''}at {observed.submitted_at}, recorded {recorded})"
    if observed.marks.lineage == subject.lineage and asks_the_same(observed.marks, job.config, job.run_token):
        return _adopt(subject, f"{since}, as it is asked for here; recorded without a call", observed)
    if (
        column is Asked.NEW_CONFIG
        and observed.config is not None
        and agrees(job.config, observed.config, subject.same_config, job.ignore)
    ):
        return _adopt(subject, f"{since}, with this config; recorded without a call", observed)
    return hold(
        record,
        f"{since}: ",
        f"{command('resolve', job.name, options=['--applied'])} if that run is the one wanted here, "
        f"the same with `--not-applied` if one more is ({decision.reason})",
        decision.changes,
    )


def _adopt(subject: Subject, reason: str, observed: Observation, *, as_run: bool = True) -> Decision:
    """The decision to change the record without a call; a noop if the record would not change.

    `as_run` is True if the observed run is taken for a run that the manifest asks for, which consumes the config of
    that run. It is False if the new config is only recorded: that config has not run.
    """
    job, record = subject.job, subject.record
    if not subject.keep:
        return Decision(ActionKind.FORGET, reason, None)
    verb = {Desired.RUNNING: Verb.RUN, Desired.ABORTED: Verb.ABORT, Desired.ABSENT: Verb.DELETE}[job.state]
    is_run = verb is Verb.RUN and as_run
    ran = reruns.config_of_run(job, observed, subject.same_config) if is_run else None
    after = adopted(job, record, verb, observed, ran)
    if record is not None and after == _about_run_of(record, after):
        return _noop(record, reason.replace("; recorded without a call", ""))
    before = record.state if record else None
    changes: tuple[Change, ...] = () if before is after.state else (Change("state", before, after.state),)
    if job.state is Desired.RUNNING:
        changes += config_changes(record.config if record else {}, after.config, subject.same_config)
    return Decision(ActionKind.ADOPT, reason, after, changes=changes)


def _about_run_of(record: Record, other: Record) -> Record:
    """The record with all that another record says of the last run, but for its number and its config."""
    return record._replace(submitted_at=other.submitted_at, end=other.end, last_active=other.last_active, ref=other.ref)


def _noop(record: Record | None, reason: str) -> Decision:
    """The decision to do nothing."""
    return Decision(ActionKind.NOOP, reason, record)


def hold(record: Record | None, why: str, way_out: str, changes: tuple[Change, ...] = ()) -> Decision:
    """The decision to leave a job alone. The reason is `why`, then `way_out`, which says what the user can do."""
    return Decision(ActionKind.HOLD, why + way_out, record, changes=changes, way_out=way_out)


def wait(decision: Decision, why: str, way_out: str) -> Decision:
    """The decision to wait with a run or restart until its turn has come. The reason is `why`, then `way_out`."""
    return decision._replace(kind=ActionKind.WAIT, reason=why + way_out, way_out=way_out)


def _error(record: Record | None, error: str, way_out: str) -> Decision:
    """The decision to leave alone a job that can't be acted on."""
    return Decision(ActionKind.HOLD, f"error: {error}{way_out}", record, error=error + way_out, way_out=way_out)
