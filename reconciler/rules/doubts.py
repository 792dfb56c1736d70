"""Calls in doubt, as a plan and the drift report word them, and whether such a call may be sent again."""

from reconciler.model.commands import settling
from reconciler.model.jobs import Desired, Doubt, Job, Observation, Verb
from reconciler.rules.lost_calls import Trace, trace_of
from reconciler.rules.matching import Subject
from reconciler.rules.runs import digests
from reconciler.rules.table import DriftCell


def may_follow(subject: Subject, doubt: Doubt, observed: Observation) -> bool:
    """Whether a call in doubt may be sent again, as far as the engine is concerned.

    The service may carry out an abort or a delete long after it took the call. So a job that looks as it did before the
    call proves nothing. But both calls are idempotent for one run, and may be sent twice. A run may be sent twice where
    the engine can't start a second run of its run id (`Subject.may_ask_again`), if the manifest asks for that run.
    """
    if doubt.verb is Verb.RUN:
        return subject.may_ask_again and _is_still_asked(subject.job, doubt)
    return trace_of(doubt.verb, doubt.before, observed) is Trace.NOT_DONE


def doubt_words(job: Job, doubt: Doubt) -> tuple[DriftCell, str, str]:
    """The entry of the table for a call in doubt, its reason and its way out. A plan and `drift` print the same words.

    A call is under way, rather than in doubt, while the command that sent the call may still get the answer.
    """
    cell = DriftCell.UNDER_WAY if doubt.holder else DriftCell.IN_DOUBT
    reason = cell.reason.format(verb=doubt.verb, sent_at=doubt.sent_at, answer=doubt.answer, holder=doubt.holder)
    return cell, reason, cell.way_out.format(settle=settling(job.name))


def _is_still_asked(job: Job, doubt: Doubt) -> bool:
    """Whether the manifest asks for the very run that is in doubt: with the same config and the same run token."""
    same = digests(job.config, job.run_token) == digests(doubt.config, doubt.run_token)
    return job.state is Desired.RUNNING and same
