"""The decision about one job, from the manifest, the record and the observation.

These rules come before the table (`table`), in this order:

1. A job that is recorded for another service is held. A job with a call in doubt is held as well. A call that the
   manifest still asks for is sent again instead, if it can't be carried out twice.
2. A run that ended by itself, though its abort may have been accepted, is the run that was asked for before. If the
   engine does not know that run any more, only a new run token runs the job; else the job is held.
3. A frozen job is a noop, whatever the manifest asks for.

These rules change the entry of the table:

4. `onConfigChange` counts in the column NEW_CONFIG: with `next-run` the job is adopted, and with `hold` it is held.
   With `rerun`, the column is RERUN if the new config asks for one more run; else the job is adopted. The entries in
   `FIXED` stay.
5. An adopt that would not change the record is a noop.
6. A job that was run since its record was written is not run again, because nobody knows whether that run is the one
   that the manifest asks for. The job is held. There is one exception: if the manifest has a new config and the run has
   the same config, the job is adopted.
7. A run whose number would be above `MAX_RUN` is held, because the engine's report about such a run can't be read.
8. `protect` turns abort, restart and delete into a hold. The record counts if the manifest does not set `protect`.
9. A noop that has a new `protect` or a new name to record is an adopt.

A config agrees with an observed config if all fields that the manifest sets have the same value there. `ignore` takes
fields out of this comparison. A change of an ignored field in the manifest still counts as a new config.
"""

from typing import assert_never

from reconciler.model.commands import command
from reconciler.model.jobs import (
    NOT_ASKED,
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
from reconciler.rules import reruns
from reconciler.rules.configs import SameConfig, agrees, config_changes
from reconciler.rules.decisions import Decision, abort, adopt, delete, error, hold, noop
from reconciler.rules.doubts import doubt_words, may_follow
from reconciler.rules.matching import Subject
from reconciler.rules.observations import elsewhere_words, observation_words
from reconciler.rules.records import asked, in_spite_of_abort, is_protected, ran_since, run_of, settled
from reconciler.rules.runs import MAX_RUN, asks_the_same, is_earlier_run, number_of, run_id
from reconciler.rules.sight import as_seen, is_of_newer_copy
from reconciler.rules.starts import start_of
from reconciler.rules.table import FIXED, NEWER_COPY, TABLE, Asked, Cell
from reconciler.rules.words import reason_of, reason_with, way_out_of, why_asked

_PROTECTED = frozenset({ActionKind.ABORT, ActionKind.RESTART, ActionKind.DELETE})


def decide(subject: Subject, observed: Observation) -> Decision:
    """The decision about one job. The rules are those of this module's docstring."""
    job, record = subject.job, subject.record
    if record is not None and record.target is not None:
        why, way_out = elsewhere_words(record.target, job.name)
        return hold(record, f"{why}: ", way_out)
    observed = as_seen(subject, observed)
    if record is not None and record.doubt is not None:
        return _sent_again(subject, observed) or _in_doubt(job, record, record.doubt)
    if record is not None and record.abort_unseen and (decision := _after_unseen_abort(subject, record, observed)):
        return decision
    if is_as_recorded(subject, observed):
        return noop(record, AS_RECORDED)
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


def _after_unseen_abort(subject: Subject, record: Record, observed: Observation) -> Decision | None:
    """The decision about a job whose last run may have ended by itself, and not by its abort; None if the run did not.

    A frozen job is left as it is. A job that is declared aborted or absent by now does not go back to that run. If
    nobody can know how the run ended, a manifest that asks for that very run holds the job.
    """
    job = subject.job
    if job.freeze is not None and not job.freeze.over:
        return None
    is_declared = job.state is not Desired.RUNNING
    known = record._replace(abort_unseen=False) if is_declared else in_spite_of_abort(record, observed)
    if known is None:
        column = asked(subject._replace(record=record._replace(state=Desired.RUNNING)))
        is_blind = observed.status is Status.NOT_OBSERVED and not subject.terms.promises.reads
        # In these columns, the job is run whatever the end was.
        is_unknown = (is_blind or observed.status is Status.NOTHING) and column not in (Asked.NEW_TOKEN, Asked.RERUN)
        return _decide_cell(Cell.ABORT_UNSEEN, column, subject, observed) if is_unknown else None
    decision = decide(subject._replace(record=known), observed)
    if decision.kind is not ActionKind.NOOP or (is_declared and decision.frozen):
        return decision
    why = f"declared {job.state}" if is_declared else "the run ended by itself, in spite of its abort"
    return _only_recorded(decision._replace(record=known), why)


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
    """Whether nobody asked for a job that has not changed since its record, and falls under no other rule.

    Most jobs of most plans are like that. `make_plan` gives such a job a noop without a decision.
    """
    job, record = subject.job, subject.record
    if record is None or record.doubt is not None or record.target is not None or observed is not NOT_ASKED:
        return False
    is_plain = job.freeze is None and job.protect in (None, record.protect) and not subject.renamed_from
    return is_plain and asked(subject) is Asked.SAME


def _frozen(job: Job, record: Record | None, observed: Observation) -> Decision:
    """The noop of a frozen job."""
    assert job.freeze is not None
    reason = reason_with(f"frozen{job.freeze.so_long}: {job.freeze.reason}", observation_words(observed))
    return noop(record, reason)._replace(frozen=True)


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
    """The decision of the table, changed by the rules 4 to 8 of this module's docstring."""
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
    if Verb.RUN in decision.verbs and run_of(subject, Verb.RUN) > MAX_RUN:
        why = f"{decision.reason}; the last run of {job.id} has the number {subject.last}, and no run can follow it: "
        return hold(record, why, "give the job a new `id:`, whose runs are counted from 1", decision.changes)
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
        case (
            Cell.RUN
            | Cell.RESTART
            | Cell.RESTART_OR_RUN
            | Cell.ADOPT_OR_RESTART
            | Cell.RESTART_OR_ADOPT
            | Cell.RUN_ONCE_ENDED
            | Cell.WAIT
        ):
            return start_of(cell, column, subject, observed)
        case Cell.ADOPT | Cell.ADOPT_DRAFT | Cell.ADOPT_ENDED:
            return adopt(subject, reason_of(cell, observed), observed)
        case Cell.ADOPT_CONFIG | Cell.ADOPT_RAN | Cell.ADOPT_VALUES | Cell.ADOPT_REST:
            return adopt(subject, reason_of(cell, observed), observed, as_run=False)
        case Cell.ABORT:
            return abort(job, record, observed)
        case Cell.DELETE:
            return delete(subject, observed)
        case Cell.NOOP | Cell.NOOP_FAILED:
            return noop(record, reason_of(cell, observed))
        case (
            Cell.LOST_RUN
            | Cell.ABORTED_ELSEWHERE
            | Cell.ABORTED_UNRECORDED
            | Cell.GONE
            | Cell.TAKEN_AWAY
            | Cell.NO_END
            | Cell.END_UNSEEN
            | Cell.ABORTED_UNSEEN
            | Cell.ABORT_UNSEEN
            | Cell.OTHER_OWNER
        ):
            return hold(record, reason_of(cell, observed), way_out_of(cell, job))
        case Cell.NO_SUCH_JOB | Cell.NEEDS_NEW_ID | Cell.UNREADABLE:
            return error(record, reason_of(cell, observed), cell.way_out)
    assert_never(cell)


def _already_run(decision: Decision, column: Asked, subject: Subject, observed: Observation) -> Decision:
    """The hold or adopt of a job that was run since its record was written (rule 6)."""
    job, record = subject.job, subject.record
    assert record is not None
    is_older = is_earlier_run(record, observed)
    run = "the service tells of an earlier run than the recorded one" if is_older else "run since this was recorded"
    is_counted = number_of(observed.run_id, job.id) and record.run
    recorded = run_id(job.id, record.run) if is_counted else record.submitted_at or "as never run"
    since = f"{run} ({f'{observed.run_id}, ' if is_counted else ''}at {observed.submitted_at}, recorded {recorded})"
    if observed.marks.lineage == subject.lineage and asks_the_same(observed.marks, job.config, job.run_token):
        return adopt(subject, f"{since}, as it is asked for here; recorded without a call", observed)
    if (
        column is Asked.NEW_CONFIG
        and observed.config is not None
        and agrees(job.config, observed.config, subject.same_config, job.ignore)
    ):
        return adopt(subject, f"{since}, with this config; recorded without a call", observed)
    newer = f"{NEWER_COPY}, " if is_of_newer_copy(subject, observed) else ""
    return hold(
        record,
        f"{since}: ",
        f"{newer}{command('resolve', job.name, options=['--applied'])} if that run is the one wanted here, "
        f"the same with `--not-applied` if one more is ({decision.reason})",
        decision.changes,
    )
