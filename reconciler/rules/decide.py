"""What to do about one job, from what is asked of it, recorded and observed: the decision table, and what bends it."""

from typing import NamedTuple, assert_never

from reconciler.model.commands import command, settling
from reconciler.model.jobs import (
    NOT_OBSERVED,
    Config,
    Desired,
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
from reconciler.rules.configs import _show, agrees, config_changes, show_changes
from reconciler.rules.lost_calls import Trace, trace_of
from reconciler.rules.matching import Subject
from reconciler.rules.records import _is_new_token, applied, asked, is_ending, is_protected, ran_since, settled
from reconciler.rules.table import _ERRORS, TABLE, Asked, Cell

_PROTECTED = frozenset({ActionKind.ABORT, ActionKind.RESTART, ActionKind.DELETE})


class Decision(NamedTuple):
    """What to do about one job.

    `verbs` are the calls in order. `record` is what to record once all of it is done, None for
    nothing. `error` is set where the job can't be acted on at all. `way_out` is the end of the reason
    of a hold: what to do about it. `waits_for` names the jobs that it is held for and that may yet complete.
    `once_over` says that the calls are only sent once the run that is active is over.
    """

    kind: ActionKind
    reason: str
    record: Record | None
    verbs: tuple[Verb, ...] = ()
    changes: tuple[Change, ...] = ()
    error: str = ""
    way_out: str = ""
    waits_for: tuple[str, ...] = ()
    suspended: bool = False
    once_over: bool = False


def decide(subject: Subject, observed: Observation) -> Decision:
    """What to do about one job: the decision table, then what bends it."""
    job, record = subject.job, subject.record
    if record is not None and record.doubt is not None:
        return _once_more(subject, observed) or _hold(record, *_in_doubt(job, record))
    if _is_as_recorded(subject, observed):
        return _noop(record, AS_RECORDED)
    column = asked(job, record)
    new_protect = None if record is None or job.protect is record.protect else job.protect
    is_suspended = job.suspend is not None and not job.suspend.over
    decision = _suspended(job, record, observed) if is_suspended else _decide_asked(column, subject, observed)
    if new_protect is not None and record is not None:
        decision = _protecting(decision, record, new_protect)
    if subject.renamed_from:
        reason = f"renamed from {title(subject.renamed_from)}"
        if decision.kind is ActionKind.NOOP:
            return _only_recorded(decision, reason)
        return decision._replace(reason=f"{reason}; {decision.reason}")
    return decision


def _once_more(subject: Subject, observed: Observation) -> Decision | None:
    """To send an abort or a delete again whose answer was lost, if that is still asked for; None to hold the job.

    Such a call may take effect long after the service took it, so that a job that is as it was before the call says
    nothing of what became of it. It may be sent twice to the same run. Where it is not asked for any more, nobody
    knows whether that run goes on.
    """
    record = subject.record
    doubt = None if record is None else record.doubt
    if record is None or doubt is None:
        return None
    if doubt.verb is Verb.RUN or doubt.holder or trace_of(doubt.verb, doubt.before, observed) is not Trace.NOT_DONE:
        return None
    decision = decide(subject._replace(record=settled(record, was_applied=False)), observed)
    if doubt.verb not in decision.verbs:
        return None
    sent = f"the {doubt.verb} that was sent at {doubt.sent_at} got no answer, and is sent again"
    return decision._replace(reason=f"{decision.reason}; {sent}")


def _is_as_recorded(subject: Subject, observed: Observation) -> bool:
    """Whether nothing bends the table, and it says so too, which it does of most jobs of most plans."""
    job, record = subject.job, subject.record
    if record is None or record.doubt is not None or observed is not NOT_OBSERVED:
        return False
    is_plain = job.suspend is None and job.protect in (None, record.protect) and not subject.renamed_from
    return is_plain and asked(job, record) is Asked.SAME


def _suspended(job: Job, record: Record | None, observed: Observation) -> Decision:
    assert job.suspend is not None
    reason = _reason(f"suspended{job.suspend.so_long}: {job.suspend.reason}", words_of(observed))
    return _noop(record, reason)._replace(suspended=True)


def _protecting(decision: Decision, record: Record, protect: bool) -> Decision:
    """The decision about a job whose `protect` is not as recorded. A hold records nothing by itself."""
    change = Change("protect", record.protect, protect)
    if decision.kind is ActionKind.NOOP:
        words = "protected from now on" if protect else "protected no more"
        kept = record._replace(protect=protect)
        return _only_recorded(decision, words)._replace(record=kept, changes=(change,))
    if decision.kind is ActionKind.HOLD:
        return decision
    return decision._replace(changes=(*decision.changes, change))


def _only_recorded(decision: Decision, reason: str) -> Decision:
    """A noop that has something to record after all."""
    why = f"; {decision.reason}" if decision.suspended else ""
    return decision._replace(kind=ActionKind.ADOPT, reason=f"{reason}; recorded without a call{why}", suspended=False)


def _decide_asked(column: Asked, subject: Subject, observed: Observation) -> Decision:
    job, record = subject.job, subject.record
    cell = TABLE[observed.status][column]
    if column is Asked.NEW_CONFIG and cell not in _ERRORS:
        if job.on_config_change is OnConfigChange.NEXT_RUN:
            cell = Cell.ADOPT
        elif job.on_config_change is OnConfigChange.HOLD:
            return _hold(
                record,
                f"{_why(job, record, column)}, and onConfigChange is hold: ",
                "a new runToken runs it with this config, onConfigChange: restart or next-run lets it through",
                config_changes(record.config if record else {}, job.config),
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
        return _hold(record, why, way_out, decision.changes)
    return decision


def _decide_cell(cell: Cell, column: Asked, subject: Subject, observed: Observation) -> Decision:
    job, record = subject.job, subject.record
    seen = words_of(observed)
    match cell:
        case Cell.RUN:
            return _run(job, record, column, observed)
        case Cell.RESTART:
            return _restart(job, record, column, observed)
        case Cell.RESTART_OR_RUN:
            if record is not None and record.state is Desired.RUNNING:
                return _restart(job, record, column, observed)
            return _run(job, record, column, observed)
        case Cell.ADOPT_OR_RESTART:
            if agrees(job.config, observed.config, job.ignore):
                return _adopt(subject, f"already {seen}; recorded without a call", observed)
            if job.on_config_change is OnConfigChange.NEXT_RUN:
                why = f"already {seen} with another config, and the new one counts from the next run"
                return _adopt(subject, f"{why}; recorded without a call", observed)
            if job.on_config_change is OnConfigChange.HOLD:
                return _hold(
                    record,
                    f"already {seen} with another config, and onConfigChange is hold: ",
                    "onConfigChange: restart runs it with this config, next-run lets it through",
                )
            return _restart(job, record, column, observed)
        case Cell.RESTART_OR_ADOPT:
            if record is None or record.state is not Desired.ABORTED:
                return _restart(job, record, column, observed)
            if observed.stands_to(record.submitted_at) is not TimeOrder.LATER:
                return _run_once_over(job, record, column, observed)
            if observed.config is not None and agrees(job.config, observed.config, job.ignore):
                return _adopt(subject, f"already {seen} with this config; recorded without a call", observed)
            return _restart(job, record, column, observed)
        case Cell.ADOPT:
            return _adopt(subject, _why_adopt(job, column, observed), observed)
        case Cell.ABORT:
            if observed.status is Status.NOT_OBSERVED and record is not None and record.state is not Desired.RUNNING:
                return _noop(record, f"recorded {record.state}")
            changes = (Change("state", record.state if record else None, Desired.ABORTED),)
            again = "; it was aborted already, and has yet to end" if is_ending(record, observed) else ""
            return Decision(
                ActionKind.ABORT,
                _reason("declared aborted", seen) + again,
                applied(job, record, Verb.ABORT, observed.run_began),
                (Verb.ABORT,),
                changes,
            )
        case Cell.DELETE:
            return _delete(subject, observed)
        case Cell.NOOP:
            if observed.status is Status.FAILED:
                return _noop(record, _reason("a new runToken or config runs it again", seen))
            return _noop(record, _reason(AS_RECORDED, seen))
        case Cell.LOST_RUN:
            return _hold(record, f"lost run: the job is recorded as running, and is {seen}; ", "a new runToken runs it")
        case Cell.ABORTED_ELSEWHERE:
            if record is None or record.state is None:
                way_out = "apply it once as `state: aborted`, then a change to `running` runs it"
            else:
                way_out = "a new runToken runs it again, `state: aborted` accepts it"
            return _hold(record, f"aborted by someone else ({seen}): ", way_out)
        case Cell.GONE:
            return _hold(
                record,
                f"gone: the job is recorded as running, and is {seen}; ",
                "give the job a new id, or declare it absent",
            )
        case Cell.NO_SUCH_JOB:
            return _error(record, f"no such job: it is {seen} at the service; ", "create it there, or correct its id")
        case Cell.NEEDS_NEW_ID:
            return _error(record, f"needs a new id: the job is {seen}; ", "create a job there and give its id")
        case Cell.UNREADABLE:
            return _error(
                record, f"unreadable: {observed.detail or 'no reason given'}; ", "left alone until it can be read"
            )
    assert_never(cell)


def _run(job: Job, record: Record | None, column: Asked, observed: Observation) -> Decision:
    return _spend(ActionKind.RUN, (Verb.RUN,), job, record, column, observed)


def _run_once_over(job: Job, record: Record, column: Asked, observed: Observation) -> Decision:
    """A run beside an active one that is not known to have begun after the one that was aborted.

    To adopt it would take the run that is ending for the one that is asked for, which would never be run.
    """
    decision = _run(job, record, column, observed)
    if is_ending(record, observed):
        why = "that is the run that was aborted, and the new one follows its end"
    else:
        why = "it is not known whether that is the run that was aborted, so the new one follows its end"
    return decision._replace(reason=f"{decision.reason}; {why}", once_over=True)


def _restart(job: Job, record: Record | None, column: Asked, observed: Observation) -> Decision:
    return _spend(ActionKind.RESTART, (Verb.ABORT, Verb.RUN), job, record, column, observed)


def _spend(
    kind: ActionKind, verbs: tuple[Verb, ...], job: Job, record: Record | None, column: Asked, observed: Observation
) -> Decision:
    changes: list[Change] = []
    if record is None or record.state is not Desired.RUNNING:
        changes.append(Change("state", record.state if record else None, Desired.RUNNING))
    if job.run_token is not None and (record is None or _is_new_token(job, record)):
        changes.append(Change("runToken", None, job.run_token))
    told = observed.config if column is Asked.FIRST_RUN and observed.config is not None else None
    before: Config = record.config if record else {}
    if told is not None and kind is ActionKind.RESTART:
        before = {field: told.get(field, type(value)()) for field, value in job.config.items()}
    changes += config_changes(before, job.config)
    reason = _reason(_why(job, record, column, before), words_of(observed))
    return Decision(kind, reason, applied(job, record, Verb.RUN), verbs, tuple(changes))


def _delete(subject: Subject, observed: Observation) -> Decision:
    job, record = subject.job, subject.record
    recorded = record.state if record else None
    unseen = observed.status is Status.NOT_OBSERVED
    if unseen and recorded is Desired.ABSENT:
        return _noop(record, "recorded absent")
    active = observed.status is Status.ACTIVE or (unseen and recorded is Desired.RUNNING)
    was_aborted = is_ending(record, observed)
    verbs = (Verb.ABORT, Verb.DELETE) if active and not was_aborted else (Verb.DELETE,)
    why = "declared absent" if subject.keep else "no longer declared, and --prune was given"
    after = applied(job, record, Verb.DELETE) if subject.keep else None
    changes = (Change("state", recorded, Desired.ABSENT),)
    reason = _reason(why, words_of(observed))
    if was_aborted:
        reason = f"{reason}; that is the run that was aborted, and the delete follows its end"
    return Decision(ActionKind.DELETE, reason, after, verbs, changes, once_over=was_aborted)


def _already_run(decision: Decision, column: Asked, subject: Subject, observed: Observation) -> Decision:
    job, record = subject.job, subject.record
    assert record is not None
    is_older = observed.stands_to(record.submitted_at) is TimeOrder.EARLIER
    seen = "the service tells of an earlier run than the recorded one" if is_older else "run since this was recorded"
    since = f"{seen} (at {observed.submitted_at}, recorded {record.submitted_at or 'as never run'})"
    if column is Asked.NEW_CONFIG and observed.config is not None and agrees(job.config, observed.config, job.ignore):
        return _adopt(subject, f"{since}, with this config; recorded without a call", observed)
    return _hold(
        record,
        f"{since}: ",
        f"{command('resolve', job.name, options=['--applied'])} if that run is the one wanted here, "
        f"the same with `--not-applied` if one more is ({decision.reason})",
        decision.changes,
    )


def _adopt(subject: Subject, reason: str, observed: Observation) -> Decision:
    job, record = subject.job, subject.record
    if not subject.keep:
        return Decision(ActionKind.FORGET, reason, None)
    verb = {Desired.RUNNING: Verb.RUN, Desired.ABORTED: Verb.ABORT, Desired.ABSENT: Verb.DELETE}[job.state]
    after = applied(job, record, verb, observed.run_began)
    if record is not None and after == record._replace(submitted_at=after.submitted_at):
        return _noop(record, reason.replace("; recorded without a call", ""))
    before = record.state if record else None
    changes: tuple[Change, ...] = () if before is after.state else (Change("state", before, after.state),)
    if job.state is Desired.RUNNING:
        changes += config_changes(record.config if record else {}, after.config)
    return Decision(ActionKind.ADOPT, reason, after, changes=changes)


def _noop(record: Record | None, reason: str) -> Decision:
    return Decision(ActionKind.NOOP, reason, record)


def _hold(record: Record | None, why: str, way_out: str, changes: tuple[Change, ...] = ()) -> Decision:
    return Decision(ActionKind.HOLD, why + way_out, record, changes=changes, way_out=way_out)


def _error(record: Record | None, error: str, way_out: str) -> Decision:
    return Decision(ActionKind.HOLD, f"error: {error}{way_out}", record, error=error + way_out, way_out=way_out)


def _why(job: Job, record: Record | None, column: Asked, before: Config | None = None) -> str:
    match column:
        case Asked.FIRST_RUN:
            changes = config_changes(before, job.config) if before else ()
            return show_changes(changes) or "first run"
        case Asked.NEW_CONFIG:
            return show_changes(config_changes(record.config if record else {}, job.config))
        case Asked.RERUN:
            if record is not None and record.state is not Desired.RUNNING:
                return f"state {record.state} → running"
            return f"new runToken {_show(job.run_token)}"
        case Asked.SAME | Asked.ABORTED | Asked.ABSENT:
            return f"declared {job.state}"
    assert_never(column)


def _why_adopt(job: Job, column: Asked, observed: Observation) -> str:
    seen = words_of(observed)
    if column is Asked.NEW_CONFIG:
        return _reason("the new config counts from the next run; recorded without a call", seen)
    if column is Asked.FIRST_RUN:
        return f"already {seen}, and not run again; recorded without a call"
    if observed.status is Status.DRAFT:
        return f"already {seen}, and an abort would delete it; recorded without a call"
    return f"already {seen}; recorded without a call"


def _in_doubt(job: Job, record: Record) -> tuple[str, str]:
    doubt = record.doubt
    assert doubt is not None
    if doubt.holder:
        return (
            f"under way: {doubt.verb} was sent at {doubt.sent_at}, and may still be answered: {doubt.holder}; ",
            "wait for that command to end, and look again",
        )
    sent = f"{doubt.verb} was sent at {doubt.sent_at}"
    return (
        f"in doubt: {sent}, and it is not known whether it was carried out ({doubt.answer}); ",
        f"the next apply checks again, or settle it: {settling(job.name)}",
    )


def words_of(observed: Observation) -> str:
    """An observation in words, with the engine's own word: `active (JOB_STATE_RUNNING)`."""
    if observed.status is Status.NOT_OBSERVED:
        return ""
    said = f"{observed.status} ({observed.word})" if observed.word else str(observed.status)
    return f"{said}: {observed.detail}" if observed.detail and observed.status is Status.FAILED else said


def _reason(why: str, seen: str) -> str:
    return f"{why}; the job is {seen}" if seen else why
