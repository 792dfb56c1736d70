"""One call of an apply: the intent on disk, the request, and the result on disk.

A call whose answer was lost may have been carried out. The job is observed to find that out. An abort or a delete is
sent again if the observation shows that this is safe, because both are idempotent for one run. A run is not sent again
in the same apply. A later apply sends the run once more only if two observations show that it was not executed.
"""

from collections.abc import Callable, Mapping

from reconciler.apply.context import INTERRUPTED, TOO_LATE, ApplyContext, Halt, still_knows
from reconciler.apply.outcomes import OUTCOME_OF, Attempt, code_number
from reconciler.engines import answers
from reconciler.engines.conditions import Condition
from reconciler.engines.port import reason_of_duplicate
from reconciler.host.crash_report import error_line
from reconciler.model.errors import ReconcilerError
from reconciler.model.history import APPLIED, NOT_APPLIED, OBSERVED, Details
from reconciler.model.jobs import NOT_OBSERVED, Desired, Doubt, Evidence, Marks, Observation, Record, Status, Verb
from reconciler.model.results import AnswerClass, Reason, Result
from reconciler.model.steps import Step
from reconciler.rules.actions import step_of
from reconciler.rules.lost_calls import TELLS_NOTHING, Trace, may_be_other_run, trace_of
from reconciler.rules.matching import Subject
from reconciler.rules.records import run_of, settled
from reconciler.rules.retention import FOR_EVER, keep_for_of, kept_s, kept_s_of
from reconciler.rules.runs import digests
from reconciler.rules.sight import as_owned
from reconciler.state.journal import JournalBroken

_DONE_ALREADY: Mapping[Verb, frozenset[Reason]] = {
    Verb.RUN: frozenset(),
    Verb.ABORT: frozenset({Reason.NOT_RUNNING, Reason.NO_SUCH_JOB}),
    Verb.DELETE: frozenset({Reason.NO_SUCH_JOB}),
}
"""The reasons of a rejection that show that an earlier call of the verb was carried out, or is not needed any more."""

_TAKEN = frozenset({Reason.OTHER_OP, Reason.OTHER_OWNER})
"""The reasons of a rejection that show that another run has the run id."""

_TELLS_OF_RUN_ID = _TAKEN | {Reason.WAS_THERE}
"""The reasons of a rejection that say something about the run id.

Any other reason is about the rejected call alone: an earlier call for this run id may have been carried out.
"""

_REFUSED = "; sent again, and refused: "
"""What stands in the answer to a call in doubt between the answer to that call and the last refusal of a repetition."""

_SETTLED = "the service says that nothing is left to do"
"""What the history says of an abort or a delete in doubt if its repetition is refused for that reason."""

_TAKEN_WORDS = "another run has its run id"
"""What the history says of a run in doubt if its repetition is refused for that reason."""

_ENDED_WORDS = "the run had ended by itself"
"""What the history says of an abort in doubt if there is nothing to abort any more."""

_MAX_SENDS = 3
"""The number of times that an abort or a delete may be sent if its answers are lost."""


class CallSender:
    """Makes the calls of one apply. Several threads may use one object."""

    def __init__(self, context: ApplyContext, halt: Halt) -> None:
        self._context = context
        self._halt = halt
        self.has_sent = False
        """Whether this object has written an intent."""

    def send(
        self,
        subject: Subject,
        verb: Verb,
        observed: Observation,
        after: Record | None,
        reason: str,
        *,
        is_new: bool = True,
        follows: tuple[str, ...] = (),
    ) -> Attempt:
        """Make one call for a job. `after` is the record of the job if the service carries out the call.

        `observed` is the observation just before the call. The journal keeps `reason`. `is_new` is False for the call
        after an abort: that call is sent even if another action has failed meanwhile. `follows` are the handles of the
        runs for which the engine waits (`Step.after`). Raises `JournalBroken` if the intent can't be written.
        """
        context, job = self._context, subject.job
        before = None if observed.status is Status.NOT_OBSERVED else _baseline(verb, observed, subject.record)
        step, doubt = self._made_ready(subject, verb, observed, before, follows)
        context.session.intend(job.name, job.id, doubt, reason)
        self.has_sent = True
        sent_s, first = context.monotonic(), _first_call(subject, verb)
        attempt = self._request(step, before, is_new, first)
        if verb is Verb.ABORT and job.state is Desired.RUNNING:
            attempt = self._unless_too_late(step, before, attempt)
        took_s = context.monotonic() - sent_s
        record = self._recorded(subject, after, doubt, first, attempt)
        if attempt.kind is AnswerClass.APPLIED and verb is Verb.RUN and before is not None:
            context.runs[job.name] = job.id, before
        attempt = self._record_result(job.name, doubt.op, record, attempt, took_s)
        if first is not None and attempt.result.kind is AnswerClass.REJECTED:
            self._settle_first(first, job.name, record, attempt, verb)
        return attempt

    def _unless_too_late(self, step: Step, before: Evidence | None, attempt: Attempt) -> Attempt:
        """The end of the abort of a restart. It is none if its answer was lost, and the run has ended by itself.

        Were it recorded as an abort, the job would be run anew, though the run that was asked for has taken place.
        """
        was_answered = attempt.result.kind is AnswerClass.APPLIED
        if before is None or was_answered or attempt.kind is not AnswerClass.APPLIED:
            return attempt
        if trace_of(Verb.ABORT, before, self._observe(step.job_id)) is not Trace.TOO_LATE:
            return attempt
        result = attempt.result._replace(
            kind=AnswerClass.REJECTED, reason=Reason.NOT_RUNNING, message=f"{_ENDED_WORDS}; {attempt.result.words}"
        )
        return Attempt(result.kind, result)

    def _settle_first(self, first: Doubt, name: str, record: Record | None, attempt: Attempt, verb: Verb) -> None:
        """Record what became of a call in doubt, if the refusal of its repetition says so."""
        if attempt.kind is AnswerClass.APPLIED:
            outcome, words = APPLIED, _SETTLED
        elif verb is Verb.RUN and attempt.kind is AnswerClass.REJECTED and attempt.result.reason in _TAKEN:
            outcome, words = NOT_APPLIED, _TAKEN_WORDS
        elif verb is Verb.ABORT and attempt.kind is AnswerClass.REJECTED:
            outcome, words = NOT_APPLIED, _ENDED_WORDS
        else:
            return
        self._context.session.conclude(first.op, name, record, words, Details(outcome, reason=OBSERVED + words))

    def _made_ready(
        self, subject: Subject, verb: Verb, observed: Observation, before: Evidence | None, follows: tuple[str, ...]
    ) -> tuple[Step, Doubt]:
        """The step of a call with all that the engine's object bears, and the doubt that stays without a result.

        The engine does its harmless work here, before the intent, which then names the handle of that work. A run that
        is sent again has its handle already. Raises as `Engine.stage` does.
        """
        context, job = self._context, subject.job
        op, lineage = context.new_op(), _owner(subject.record, verb, observed) or context.session.lineage
        marks = digests(job.config, job.run_token) if verb is Verb.RUN else Marks()
        marks = marks._replace(lineage=lineage, op=op, commit=context.commit)
        step = step_of(subject, verb)._replace(seen=observed.ref, marks=marks, after=follows)
        first = _first_run(subject, verb)
        step = step._replace(staged=(first.staged if first else "") or context.engine.stage(step))
        run = run_of(subject, verb)
        doubt = Doubt(op, verb, job.config, job.run_token, before, context.now(), "", "", run, context.commit)
        return step, doubt._replace(staged=step.staged, first_sent_at=first.began_at if first else "")

    def _recorded(
        self, subject: Subject, after: Record | None, doubt: Doubt, first: Doubt | None, attempt: Attempt
    ) -> Record | None:
        """The record of a job after a call with this end. `after` is as in `send`, and `first` as in `_request`."""
        record, is_run = subject.record, doubt.verb is Verb.RUN
        if attempt.kind is AnswerClass.APPLIED:
            return self._begun(after, attempt) if is_run else after
        if attempt.kind is AnswerClass.REJECTED and _ends_first(doubt.verb, attempt.result):
            # An earlier call can't have an effect any more, either.
            return settled(record, was_applied=False) if record is not None else None
        if attempt.kind is AnswerClass.IN_DOUBT:
            # A repeated call that was refused did nothing. The call that stays in doubt is the first one.
            lost = first if first is not None and attempt.result.kind is AnswerClass.REJECTED else doubt
            answered = lost._replace(answer=attempt.result.words)
            return (record or Record(subject.job.id, None))._replace(doubt=answered)
        return record

    def _begun(self, after: Record | None, attempt: Attempt) -> Record | None:
        """The record of a run that was started, with the engine's handle of the run.

        The answer is the first sign of the run. An engine that forgets runs is judged by the time of the last sign.
        """
        if after is None:
            return None
        seen = self._context.now() if kept_s_of(self._context.engine.promises, after) < FOR_EVER else ""
        return after._replace(ref=attempt.result.ref or after.ref, last_active=seen)

    def _record_result(self, name: str, op: str, record: Record | None, attempt: Attempt, took_s: float) -> Attempt:
        """Write the result of a call to the journal. Nothing new may start if that fails, or without credentials."""
        result = attempt.result
        was_refused = attempt.kind is AnswerClass.IN_DOUBT and result.kind is AnswerClass.REJECTED
        outcome = OUTCOME_OF[result.kind if was_refused else attempt.kind]
        details = Details(outcome, code_number(result), result.trace_id, took_s)
        words = attempt.held_back or attempt.note or result.words
        try:
            self._context.session.conclude(op, name, record, words, details)
        except JournalBroken as fault:
            self._halt.halt("skipped: the journal can't be written")
            return Attempt(AnswerClass.IN_DOUBT, result, f"the result could not be recorded: {fault}")
        is_unreachable = attempt.kind is AnswerClass.NOT_SENT and not attempt.held_back
        if is_unreachable or result.reason is Reason.NOT_AUTHENTICATED:
            self._halt.halt(f"skipped: {result.words}")
        return attempt

    def _request(self, step: Step, before: Evidence | None, is_new: bool, first: Doubt | None) -> Attempt:
        """Send the request once, unless it is held back. A lost answer is settled if an observation allows that.

        `first` is the call in doubt that this one repeats; None if it repeats none.
        """
        context, held_back = self._context, ""
        first_run = first if step.verb is Verb.RUN else None
        known_s = kept_s(context.engine.promises, keep_for_of(step.config))
        sent_s = context.monotonic()

        def is_known() -> bool:
            is_late = first_run is not None and not still_knows(context.engine, first_run, context.now())
            return context.monotonic() - sent_s < known_s and not is_late

        def may_start() -> bool:
            # Another action may have failed while this call waited for its turn.
            nonlocal held_back
            held_back = self._halt.why_nothing_starts() if is_new else ""
            if first_run is not None and not is_known():
                held_back = held_back or TOO_LATE
            held_back = held_back or ("" if self._may_be_sent() else INTERRUPTED)
            return not held_back

        result = self._sent(step, may_start)
        if result.kind is AnswerClass.NOT_SENT and held_back:
            return Attempt(result.kind, result, held_back=held_back)
        if result.kind is not AnswerClass.IN_DOUBT:
            if first is None or result.kind is AnswerClass.APPLIED or (first_run and _is_about_run_id(result)):
                return _answered(result)
            if not first_run and _shows_done(step.verb, result):
                return Attempt(AnswerClass.APPLIED, result, f"sent again after a lost answer ({first.answer})")
            return _refused_again(first.answer, result)
        if step.verb is Verb.RUN and context.engine.promises.atomic_run:
            return self._ask_again(step, Attempt(result.kind, result), is_known)
        return self._settle(step, before, Attempt(result.kind, result))

    def _ask_again(self, step: Step, lost: Attempt, is_known: Callable[[], bool]) -> Attempt:
        """Ask for the run id of a run whose answer was lost. The engine starts no second run of that id.

        Returns an attempt in doubt if no answer says what became of that run id, or if the engine may have forgotten
        the run since it was sent (`is_known`). A refusal for another reason is about the repeated call alone.
        """
        context, words = self._context, lost.result.words
        for sends in range(1, _MAX_SENDS + 1):
            found = self._observe(step.job_id, step.run_id)
            tells = found.status not in TELLS_NOTHING and found.marks.name_a_call
            if tells and reason_of_duplicate(found.marks, step.marks) is Reason.WAS_THERE:
                note = f"the answer was lost ({words}), but {step.run_id} is {found.status}"
                return Attempt(AnswerClass.APPLIED, lost.result._replace(ref=found.ref), note)
            if not is_known() or sends == _MAX_SENDS or context.pause(0.25 * 2**sends):
                break
            try:
                again = self._sent(step, lambda: is_known() and self._may_be_sent())
            except JournalBroken:  # the repeated call was not sent, and the first call stays in doubt
                break
            if _is_about_run_id(again):
                return _answered(again, f"sent again after a lost answer ({words})")
            if again.kind is AnswerClass.REJECTED and again.reason is not Reason.BUSY:
                refused = _refused_again(words, again)
                lost = lost._replace(result=lost.result._replace(message=refused.result.message, reason=again.reason))
        return lost

    def _settle(self, step: Step, before: Evidence | None, lost: Attempt) -> Attempt:
        """Observe the job of a call whose answer was lost, and send the call again if that is safe.

        Returns `lost` if nothing shows what became of the call.
        """
        verb, words = step.verb, lost.result.words
        for sends in range(1, _MAX_SENDS + 1):
            now = NOT_OBSERVED if before is None else self._observe(step.job_id)
            now = as_owned(None, now, step.marks.lineage)
            if trace_of(verb, before, now) in (Trace.DONE, Trace.TOO_LATE):
                note = f"the answer was lost ({words}), but the job is {now.status}"
                return Attempt(AnswerClass.APPLIED, lost.result, note)
            may_hit_other_run = before is not None and (
                now.status in (Status.UNREADABLE, Status.OTHER_OWNER) or may_be_other_run(before, now)
            )
            is_last = verb is Verb.RUN or may_hit_other_run or sends == _MAX_SENDS
            if is_last or self._context.pause(0.25 * 2**sends):
                break
            try:
                again = self._sent(step, self._may_be_sent)
            except JournalBroken:  # the repeated call was not sent, and the first call stays in doubt
                break
            if _shows_done(verb, again):
                return Attempt(AnswerClass.APPLIED, again, f"sent again after a lost answer ({words})")
        return lost

    def _sent(self, step: Step, may_be_sent: Callable[[], bool]) -> Result:
        """Send the request. A fault of the engine leaves the call in doubt: the request may have left before it.

        Nothing new starts after such a fault, since each other call would probably end in the same way. Raises what
        `may_be_sent` raises.
        """
        asked = Condition(may_be_sent)
        try:
            return answers.result(self._context.engine.send(step, asked))
        except Exception as fault:
            if asked.raised is not None:
                raise
            words = error_line(fault)
            if isinstance(fault, answers.Malformed):
                words = f"reconciler itself failed: the engine returned {fault}; please report it"
            self._halt.halt("skipped: reconciler itself failed")
            return Result(AnswerClass.IN_DOUBT, message=words)

    def _may_be_sent(self) -> bool:
        """Whether a request may be sent now. Raises `JournalBroken` if the session may not send any more."""
        return not self._context.stop.is_set() and self._context.session.assure()

    def _observe(self, job_id: str, run_id: str = "") -> Observation:
        """The observation of a job, or of one of its runs; an unreadable one if the read fails."""
        try:
            return self._context.engine.observe(job_id, run_id)
        except ReconcilerError as fault:
            return Observation(Status.UNREADABLE, detail=fault.message)


def _first_call(subject: Subject, verb: Verb) -> Doubt | None:
    """The call in doubt that a call of this verb repeats; None if the call repeats none."""
    doubt = subject.record.doubt if subject.record else None
    return doubt if doubt is not None and doubt.verb is verb else None


def _first_run(subject: Subject, verb: Verb) -> Doubt | None:
    """The run in doubt that a run repeats under its run id; None for any other call."""
    return _first_call(subject, verb) if verb is Verb.RUN else None


def _shows_done(verb: Verb, again: Result) -> bool:
    """Whether the answer to an abort or a delete that was sent again shows that nothing is left to do."""
    return again.kind is AnswerClass.APPLIED or again.reason in _DONE_ALREADY[verb]


def _ends_first(verb: Verb, refusal: Result) -> bool:
    """Whether a refusal says that no earlier call of the verb for the job can have an effect any more.

    The run id of a run is another run's, or the run of an abort has ended by itself.
    """
    if verb is Verb.RUN:
        return refusal.reason in _TAKEN
    return verb is Verb.ABORT and refusal.reason is Reason.NOT_RUNNING


def _owner(record: Record | None, verb: Verb, observed: Observation) -> str:
    """The lineage of another state whose object an abort or a delete is about; "" for any other call.

    A person has imported the object if the record names it. The call then acts for the owner that the object bears,
    because an engine refuses a call that bears another lineage than the object.
    """
    is_imported = record is not None and record.ref != "" and record.ref == observed.ref
    return observed.marks.lineage if verb is not Verb.RUN and is_imported else ""


def _is_about_run_id(result: Result) -> bool:
    """Whether the answer to a run says what became of its run id, and so of each earlier call for that run id."""
    is_refused = result.kind is AnswerClass.REJECTED and result.reason in _TELLS_OF_RUN_ID
    return result.kind is AnswerClass.APPLIED or is_refused


def _refused_again(lost_words: str, again: Result) -> Attempt:
    """The end of a call that was sent again, and refused for a reason that says nothing about the first call.

    `lost_words` is what is known of the answer to the first call, which stays in doubt. The call that was sent again
    ends as it was answered if it did not leave this machine.
    """
    if again.kind is AnswerClass.NOT_SENT:
        return Attempt(again.kind, again)
    words = f"{lost_words.partition(_REFUSED)[0]}{_REFUSED}{again.words}"
    return Attempt(AnswerClass.IN_DOUBT, again._replace(message=words))


def _answered(result: Result, note: str = "") -> Attempt:
    """The end of a call that was answered. A run that was there already, from this very call or one like it, counts as
    applied.
    """
    was_there = result.reason is Reason.WAS_THERE
    kind = AnswerClass.APPLIED if was_there else result.kind
    words = result.words if was_there else result.message
    return Attempt(kind, result, (note or words) if kind is AnswerClass.APPLIED else "")


def _baseline(verb: Verb, observed: Observation, record: Record | None) -> Evidence:
    """The evidence that tells the run before a call from the run that the call starts.

    An observation may be old, or may leave out when the last run began. The record may still have that time.
    """
    evidence = observed.evidence
    if verb is Verb.RUN and evidence.submitted_at is None and record is not None and record.submitted_at:
        return evidence._replace(submitted_at=record.submitted_at)
    return evidence
