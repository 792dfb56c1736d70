"""One action of an apply: the job is observed and decided again, and the calls of that decision are sent.

The plan decides what an apply may do. What an action does in the end is what the plan shows, or less. A job that calls
for more than that is held.
"""

from collections.abc import Callable, Iterable, Mapping

from reconciler.apply.calls import CallSender
from reconciler.apply.context import ApplyContext
from reconciler.apply.outcomes import Attempt, failed, outcome_of, skipped, waiting
from reconciler.model.commands import command
from reconciler.model.history import NOTE, Details
from reconciler.model.jobs import Observation, Status, Verb
from reconciler.model.outcomes import ActionOutcome, Outcome
from reconciler.model.plan import Action, ActionKind
from reconciler.model.results import AnswerClass, Reason
from reconciler.rules.actions import action_for, is_within
from reconciler.rules.decide import decide
from reconciler.rules.decisions import Decision
from reconciler.rules.matching import Subject
from reconciler.rules.observations import observation_words
from reconciler.rules.order import Order
from reconciler.rules.records import applied, is_ending, noted, protection
from reconciler.rules.runs import number_of
from reconciler.rules.sight import as_owned

_INACTIVE_WITHIN_S = 60.0
"""The time that an abort has to take effect beside the `abort.grace` of the run. After that time the call that follows
the abort is given up.
"""

_STOPPED_MIDWAY = "interrupted after the abort; the next apply goes on from there"


class ActionRunner:
    """Carries out single actions of one apply. Several threads may use one object.

    `subjects` are all jobs by name. `order` holds the runs that come after other jobs. `why_nothing_starts` returns why
    nothing new may start; "" if actions may start.
    """

    def __init__(
        self,
        context: ApplyContext,
        subjects: Mapping[str, Subject],
        order: Order,
        sender: CallSender,
        why_nothing_starts: Callable[[], str],
    ) -> None:
        self._context = context
        self._subjects = subjects
        self._order = order
        self._sender = sender
        self._why_nothing_starts = why_nothing_starts

    def run(self, action: Action) -> ActionOutcome:
        """Carry out an action. Raises as `Engine.observe` does, and `JournalBroken` if the journal can't be written."""
        session = self._context.session
        subject = self._as_recorded(self._subjects[action.job])
        observed = self._context.engine.observe(action.id)
        decision, fresh = self._decide(subject, observed)
        if decision.awaits_end and is_within(fresh.calls, action.calls):
            # The observation after the end of that run may ask for another decision.
            observed = self._wait_inactive(subject, observed, _ends_within_s(subject))
            if why := self._why_nothing_starts():
                return skipped(action, why)
            decision, fresh = self._decide(subject, observed)
            if decision.awaits_end:
                return failed(action, _still_active(subject, observed))
        if left := self._left_alone(action, subject, decision):
            return left
        if not is_within(fresh.calls, action.calls):
            why = f"held, because the plan shows no {decision.kind} of this job: {decision.reason}"
            return skipped(action, f"{why}; make a new plan to see it", done=ActionKind.HOLD)
        if not decision.verbs:
            record = decision.record
            if record is not None:
                record = noted(record, observed, self._context.now(), self._context.engine.promises)
            session.put(action.job, record, details=Details(reason=decision.reason))
            note = "" if decision.kind is action.kind else decision.reason
            return ActionOutcome(action, Outcome.RECORDED, decision.kind, note)
        return self._send_all(action, subject, decision, observed)

    def _as_recorded(self, subject: Subject) -> Subject:
        """The subject with its record and its run count as they are now."""
        session = self._context.session
        return subject._replace(record=session.record_of(subject.job.name), last=session.last_of(subject.job.id))

    def _left_alone(self, action: Action, subject: Subject, decision: Decision) -> ActionOutcome | None:
        """The outcome if the job has to be held, or to wait for its turn; None if the job can be acted on now."""
        if decision.kind not in (ActionKind.HOLD, ActionKind.WAIT):
            return None
        self._context.session.put_all(protection(subject.job, subject.record), "protect", "as the manifest says")
        if decision.error:
            return failed(action, decision.error)
        if decision.kind is ActionKind.WAIT:
            return waiting(action, decision.reason)
        return skipped(action, decision.reason, done=ActionKind.HOLD)

    def _decide(self, subject: Subject, observed: Observation) -> tuple[Decision, Action]:
        """The decision about the job as it is now, and the action that a plan would show for the decision."""
        decision = self._order.defer(decide(subject, observed), subject)
        return decision, action_for(subject, decision, self._context.wording)

    def _send_all(self, action: Action, subject: Subject, decision: Decision, observed: Observation) -> ActionOutcome:
        """Send the calls of a decision, in order. A call after an abort is sent once the run has ended."""
        *before_last, last = decision.verbs
        for verb in before_last:
            # The record of an abort names the aborted run, because the end of that run may take long.
            is_active = observed.status is Status.ACTIVE
            began, run = (observed.run_began, number_of(observed.run_id, action.id)) if is_active else (None, 0)
            after = applied(subject.job, subject.record, verb, began, run)
            attempt = self._sender.send(subject, verb, observed, after, decision.reason)
            if attempt.held_back:
                return skipped(action, attempt.held_back)
            not_running = attempt.kind is AnswerClass.REJECTED and attempt.result.reason is Reason.NOT_RUNNING
            if attempt.kind is not AnswerClass.APPLIED and not not_running:
                return outcome_of(action, decision.kind, verb, attempt)
            subject = self._as_recorded(subject)
            observed = self._wait_inactive(subject, observed, 0.0 if not_running else _ends_within_s(subject))
            subject = self._with_seen_abort(subject, observed)
            if ended := self._ended_by_abort(action, subject, decision, observed, attempt):
                return ended
        attempt = self._sender.send(
            subject,
            last,
            observed,
            decision.record,
            decision.reason,
            is_new=not before_last,
            follows=self._handles_of(decision.after),
        )
        if not attempt.held_back:
            return outcome_of(action, decision.kind, last, attempt)
        return failed(action, _STOPPED_MIDWAY) if before_last else skipped(action, attempt.held_back)

    def _handles_of(self, names: Iterable[str]) -> tuple[str, ...]:
        """The engine's handles of the recorded runs of some jobs."""
        records = map(self._context.session.record_of, names)
        return tuple(record.ref for record in records if record is not None)

    def _with_seen_abort(self, subject: Subject, observed: Observation) -> Subject:
        """Record that an abort was seen to have ended the run, so that nobody has to say it once it is forgotten."""
        record = subject.record
        if record is None or not record.abort_unseen or observed.status is not Status.ABORTED:
            return subject
        seen = noted(record, observed, self._context.now(), self._context.engine.promises)
        self._context.session.put_all({subject.job.name: seen}, NOTE, "the abort has ended the run")
        return self._as_recorded(subject)

    def _ended_by_abort(
        self, action: Action, subject: Subject, decision: Decision, observed: Observation, attempt: Attempt
    ) -> ActionOutcome | None:
        """The outcome if the action ends with its abort; None if the call after the abort follows.

        `observed` is the observation after the abort, and `attempt` is the end of the abort.
        """
        if observed.status is Status.MISSING and decision.verbs[-1] is Verb.DELETE:
            note = "the job was gone once it was aborted"
            self._context.session.put(action.job, decision.record, details=Details(reason=note))
            return ActionOutcome(action, Outcome.SUCCEEDED, decision.kind, note)
        stuck = self._why_stuck(subject, observed)
        if not stuck:
            return None
        return outcome_of(action, decision.kind, Verb.ABORT, attempt)._replace(outcome=Outcome.FAILED, error=stuck)

    def _wait_inactive(self, subject: Subject, observed: Observation, within_s: float) -> Observation:
        """Observe a job until it is no longer active, for at most `within_s` seconds. Returns the last observation.

        Nothing is observed if the service offers no reads.
        """
        if observed.status is Status.NOT_OBSERVED:
            return observed
        waited_s, pause_s = 0.0, 0.1
        while True:
            observed = self._context.engine.observe(subject.job.id)
            observed = as_owned(subject.record, observed, self._context.session.lineage)
            if observed.status not in (Status.ACTIVE, Status.UNREADABLE) or waited_s >= within_s:
                return observed
            if self._context.pause(pause_s):
                return observed
            waited_s, pause_s = waited_s + pause_s, min(2.0, pause_s * 1.5)

    def _why_stuck(self, subject: Subject, observed: Observation) -> str:
        """Why the call after an abort can't be sent; "" if it can."""
        if self._context.stop.is_set():
            return _STOPPED_MIDWAY
        if observed.status is Status.ACTIVE:
            return _still_active(subject, observed)
        if observed.status is Status.OTHER_OWNER:
            return f"after the abort, the job is {observation_words(observed)}; apply again to see what to do"
        if observed.status is Status.UNREADABLE:
            return f"the job can't be read after the abort ({observed.detail}); apply again once it can"
        if observed.status is Status.MISSING and not self._context.engine.promises.creates_on_run:
            gone = applied(subject.job, subject.record, Verb.DELETE)
            self._context.session.put(subject.job.name, gone, details=Details(reason="the abort deleted it"))
            return "the abort deleted the job, since it had yet to start: create a job there and give its id"
        return ""


def _ends_within_s(subject: Subject) -> float:
    """How long a run may take to end once it was aborted. `abort.grace` means the same on all engines."""
    abort = subject.record.config.get("abort") if subject.record else None
    grace_s = abort.get("grace") if isinstance(abort, Mapping) else None
    if not isinstance(grace_s, int | float) or isinstance(grace_s, bool):
        return _INACTIVE_WITHIN_S
    return _INACTIVE_WITHIN_S + grace_s


def _still_active(subject: Subject, observed: Observation) -> str:
    """Why the call that follows the end of an aborted run was not sent, and what the user can do."""
    why = f"the job is still active ({observed.word}) after the abort; apply again once it has ended"
    if is_ending(subject.record, observed):
        return why
    forget = command("state forget", subject.job.name)
    return f"{why}; or, if that is a run to keep, drop the record ({forget}) and apply: the run is then adopted"
