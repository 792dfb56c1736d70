"""Carry out a plan: order, parallelism, one intent and one result on disk around each call.

Each job is observed just before it is touched, and decided on anew. What is then done is what the
plan shows or less: a call that the plan does not show is held, not sent.
"""

import os
import queue
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from threading import Lock
from typing import NamedTuple, assert_never

from reconciler.apply.observe import observe_jobs
from reconciler.engines.port import Answer, AnswerClass, Engine
from reconciler.host.crash_report import error_line
from reconciler.host.stop import Flag
from reconciler.host.threads import WorkerPool
from reconciler.model.commands import command, settling
from reconciler.model.errors import CredentialsError, EngineError, ReconcilerError
from reconciler.model.history import APPLIED, NOTE, OBSERVED, Details
from reconciler.model.jobs import NOT_OBSERVED, Config, Doubt, Evidence, Observation, Record, Status, Verb
from reconciler.model.outcomes import ActionOutcome, Finished, Outcome
from reconciler.model.plan import STEPS, Action, ActionKind, Call, Plan
from reconciler.rules.actions import action_for
from reconciler.rules.circles import all_before
from reconciler.rules.decide import Decision, decide
from reconciler.rules.lost_calls import Trace, is_newer_run, may_be_other_run, trace_of
from reconciler.rules.matching import Subject
from reconciler.rules.order import Order
from reconciler.rules.records import applied, is_ending, protection, settled
from reconciler.state.journal import JournalBroken, Overtaken
from reconciler.state.session import Session

_SENDS = 3
"""How often an abort or delete whose answer was lost may be sent in all."""

_MANY_THREADS = 8

_INACTIVE_WITHIN_S = 60.0
"""How long an abort may take to show before the run or delete that follows it is given up."""

_OUTCOMES: Mapping[AnswerClass, Outcome] = {
    AnswerClass.NOT_SENT: Outcome.FAILED,
    AnswerClass.REJECTED: Outcome.FAILED,
    AnswerClass.APPLIED: Outcome.SUCCEEDED,
    AnswerClass.IN_DOUBT: Outcome.IN_DOUBT,
}
_INTERRUPTED = "skipped: interrupted before it began"
_STOPPED_MIDWAY = "interrupted after the abort; the next apply goes on from there"
_RUNS = frozenset({ActionKind.RUN, ActionKind.RESTART})
_DELETE_STEP = STEPS[ActionKind.DELETE]


class Surroundings(NamedTuple):
    """What an apply takes from the world around it.

    `call_for` words a call for the engine. `stop` is set once nothing new may start. `pause` waits
    for seconds and returns True where a stop was asked for meanwhile. `now` gives RFC 3339 time for
    people to read, `new_op` a fresh id. `runs` holds the runs of this command so far: a job's name to its
    engine job id and what was observed just before.
    """

    engine: Engine
    session: Session
    call_for: Callable[[Verb, str, Config], Call]
    stop: Flag
    pause: Callable[[float], bool]
    monotonic: Callable[[], float]
    now: Callable[[], str]
    new_op: Callable[[], str]
    runs: dict[str, tuple[str, Evidence]]


def is_stale(runs: Mapping[str, tuple[str, Evidence]], name: str, observed: Observation) -> bool:
    """Whether an observation does not yet tell of the run that was sent last, `runs` being as in `Surroundings`."""
    return name in runs and not is_newer_run(runs[name][1], observed)


def look_before(
    engine: Engine, names: Iterable[str], subjects: Mapping[str, Subject], parallelism: int
) -> Mapping[str, Observation]:
    """What the service says of all jobs that these come after, by engine job id. Raises as `Engine.observe` does."""
    before = sorted(all_before(names, lambda name: subjects[name].job.after))
    return observe_jobs(engine, [subjects[name].job.id for name in before], parallelism) if before else {}


class _Reply(NamedTuple):
    """What became of one call in the end. `kind` is what is believed; `answer` what was said.

    `held_back` is why it was not sent when its turn came, "" where it was.
    """

    kind: AnswerClass
    answer: Answer
    note: str = ""
    held_back: str = ""


def carry_out(
    plan: Plan,
    subjects: Mapping[str, Subject],
    around: Surroundings,
    *,
    parallelism: int,
    fail_fast: bool,
    unwell: bool = False,
) -> Iterator[Sequence[Finished]]:
    """Carry out a plan step by step, up to `parallelism` calls at once; yields what has ended, as it ends.

    One `Finished` for each action, holds and noops included. `subjects` are all jobs by name; `unwell` says
    that something failed before. Raises `CredentialsError` or `EngineError` where the service was not
    even reached once.
    """
    yield from _Apply(plan, subjects, around, fail_fast, unwell).events(parallelism)


class _Apply:
    def __init__(
        self, plan: Plan, subjects: Mapping[str, Subject], around: Surroundings, fail_fast: bool, unwell: bool
    ) -> None:
        self._plan = plan
        self._subjects = subjects
        self._around = around
        self._fail_fast = fail_fast
        self._turn = Lock()
        self._sent = 0
        self._order = Order((), {}, lambda name: False)
        self._unwell = unwell
        self._halted = ""
        self._fatal: ReconcilerError | None = None

    def events(self, parallelism: int) -> Iterator[Sequence[Finished]]:
        steps: dict[int, list[Action]] = {}
        left_alone: list[Finished] = []
        for action in self._plan.actions:
            if action.touches:
                steps.setdefault(STEPS[action.kind], []).append(action)
            else:
                left_alone.append(Finished(untouched(action), 0.0))
        yield left_alone
        self._look_before(parallelism)
        session = self._around.session
        # The git of a state that is pushed would share that core with them.
        place = one_core(parallelism) if session.is_local else nullcontext()
        # Where nothing new is to start after a failure, none may stand ready.
        threads = parallelism if self._fail_fast and session.is_local else session.threads(parallelism)
        with place, WorkerPool(threads) as pool:
            for step, actions in sorted(steps.items()):
                yield from self._step(step, actions, pool)
        self._note_runs(parallelism)
        if self._fatal is not None and not self._sent:
            raise self._fatal

    def _look_before(self, parallelism: int) -> None:
        """Observe what the plan's jobs come after. One that is run by this plan is not complete within it."""
        touching = self._plan.touching
        touched = [action.job for action in touching]
        runs = {action.job for action in touching if action.kind in _RUNS}
        around = self._around
        before = look_before(around.engine, touched, self._subjects, parallelism)
        if before:
            known = [s._replace(record=around.session.record_of(name)) for name, s in self._subjects.items()]
            self._order = Order(known, before, runs.__contains__, partial(is_stale, around.runs))

    def _note_runs(self, parallelism: int) -> None:
        """Record when the new runs began, so that an older state is known by it.

        Best effort: where a read fails, or still tells of the run before, that stays unknown.
        """
        session = self._around.session
        runs = {
            name: run
            for name, run in self._around.runs.items()
            for record in [session.record_of(name)]
            if record is not None and record.submitted_at is None
        }
        if not runs or self._around.stop.is_set():
            return
        try:
            seen = observe_jobs(self._around.engine, [job_id for job_id, _ in runs.values()], parallelism)
            began: dict[str, Record] = {}
            for name, (job_id, before) in runs.items():
                record = session.record_of(name)
                if record is not None and record.doubt is None and is_newer_run(before, seen[job_id]):
                    began[name] = record._replace(submitted_at=seen[job_id].run_began)
            session.put_all(began, NOTE, "when its run began")
        except ReconcilerError:
            # The results are on record. A journal that broke is told of when the state is written.
            return

    def _step(self, step: int, actions: Sequence[Action], pool: WorkerPool) -> Iterator[Sequence[Finished]]:
        if step == _DELETE_STEP and self._unwell:
            why = "skipped: nothing is deleted once another action has failed"
            yield [Finished(_skipped(action, why), 0.0) for action in actions]
            return
        events: queue.SimpleQueue[Finished] = queue.SimpleQueue()
        self._around.session.begin(len(actions))
        for action in actions:
            pool.submit(self._run_one, action, events)
        left = len(actions)
        while left:
            pool.help()
            ended = [events.get()]
            with suppress(queue.Empty):
                while True:
                    ended.append(events.get_nowait())
            left -= len(ended)
            yield ended

    def _run_one(self, action: Action, events: "queue.SimpleQueue[Finished]") -> None:
        started_s = self._around.monotonic()
        outcome = failed(action, "the apply ended before this action did")
        try:
            if why := self._why_nothing_starts():
                outcome = _skipped(action, why)
                return
            outcome = self._carry_out(action)
        except (CredentialsError, EngineError) as fault:
            self._halt(f"skipped: {fault.message}")
            self._fatal = fault
            outcome = failed(action, fault.message)
        except Overtaken as fault:
            self._halt("skipped: someone else changed the state")
            outcome = _skipped(action, f"not sent: {fault}")
        except JournalBroken as fault:
            self._halt("skipped: the journal can't be written")
            outcome = failed(action, f"not sent: {fault}")
        except Exception as fault:  # noqa: BLE001  it must neither pass for an end nor stop what is in flight
            self._halt("skipped: reconciler itself failed")
            outcome = failed(action, error_line(fault))
        finally:
            if outcome.outcome in (Outcome.FAILED, Outcome.IN_DOUBT):
                self._unwell = True
                if self._fail_fast:
                    self._halt("skipped: another action failed, and --fail-fast was given")
            self._around.session.end()
            events.put(Finished(outcome, self._around.monotonic() - started_s))

    def _carry_out(self, action: Action) -> ActionOutcome:
        name = action.job
        subject = self._subjects[name]._replace(record=self._around.session.record_of(name))
        observed = self._around.engine.observe(action.id)
        decision = self._order.defer(decide(subject, observed), subject)
        fresh = action_for(subject, decision, self._around.call_for)
        if decision.once_over and is_within(fresh.calls, action.calls):
            # What is observed once that run is over may ask for something else.
            observed = self._wait_inactive(action.id, observed, _INACTIVE_WITHIN_S)
            if why := self._why_nothing_starts():
                return _skipped(action, why)
            decision = self._order.defer(decide(subject, observed), subject)
            fresh = action_for(subject, decision, self._around.call_for)
            if decision.once_over:
                return failed(action, _still_active(subject, observed))
        if decision.kind is ActionKind.HOLD:
            self._around.session.put_all(protection(subject), "protect", "as the manifest says")
            if decision.error:
                return failed(action, decision.error)
            held = _skipped(action, decision.reason, done=ActionKind.HOLD)
            return held._replace(waits=bool(decision.waits_for))
        if not is_within(fresh.calls, action.calls):
            said = f"held, because the plan shows no {decision.kind} of this job: {decision.reason}"
            note = f"{said}; make a new plan to see it"
            return _skipped(action, note, done=ActionKind.HOLD)
        if not decision.verbs:
            self._around.session.put(name, decision.record, details=Details(reason=decision.reason))
            note = "" if decision.kind is action.kind else decision.reason
            return ActionOutcome(action, Outcome.RECORDED, decision.kind, note)
        return self._send_all(action, subject, decision, observed)

    def _send_all(self, action: Action, subject: Subject, decision: Decision, observed: Observation) -> ActionOutcome:
        """Send the decision's calls in order; an abort ahead of another call is waited for."""
        *before_last, last = decision.verbs
        for verb in before_last:
            # The record of an abort keeps which run it was sent to: that run may take long to end.
            began = observed.run_began if observed.status is Status.ACTIVE else None
            after = applied(subject.job, subject.record, verb, began)
            reply = self._call(subject, verb, observed, after, decision.reason)
            if reply.held_back:
                return _skipped(action, reply.held_back)
            not_running = reply.kind is AnswerClass.REJECTED and reply.answer.status == 400
            if reply.kind is not AnswerClass.APPLIED and not not_running:
                return _outcome(action, decision.kind, verb, reply)
            if not_running:
                self._settle_abort(subject)
            subject = subject._replace(record=self._around.session.record_of(action.job))
            observed = self._wait_inactive(action.id, observed, 0.0 if not_running else _INACTIVE_WITHIN_S)
            if observed.status is Status.MISSING and last is Verb.DELETE:
                note = "the job was gone once it was aborted"
                self._around.session.put(action.job, decision.record, details=Details(reason=note))
                return ActionOutcome(action, Outcome.SUCCEEDED, decision.kind, note)
            stuck = self._why_stuck(subject, observed)
            if stuck:
                return _outcome(action, decision.kind, verb, reply)._replace(outcome=Outcome.FAILED, error=stuck)
        reply = self._call(subject, last, observed, decision.record, decision.reason, is_new=not before_last)
        if not reply.held_back:
            return _outcome(action, decision.kind, last, reply)
        return failed(action, _STOPPED_MIDWAY) if before_last else _skipped(action, reply.held_back)

    def _settle_abort(self, subject: Subject) -> None:
        """Settle an abort that was in doubt, once the service says that the job it was sent to does not run."""
        record = subject.record
        if record is not None and record.doubt is not None and record.doubt.verb is Verb.ABORT:
            words = "the service says that the job does not run"
            details = Details(APPLIED, reason=OBSERVED + words)
            after = settled(record, was_applied=True)
            self._around.session.conclude(record.doubt.op, subject.job.name, after, words, details)

    def _wait_inactive(self, job_id: str, observed: Observation, within_s: float) -> Observation:
        """Observe until the job is no longer active, for `within_s` at most; where nothing can be read, don't."""
        if observed.status is Status.NOT_OBSERVED:
            return observed
        waited_s, pause_s = 0.0, 0.1
        while True:
            observed = self._around.engine.observe(job_id)
            if observed.status not in (Status.ACTIVE, Status.UNREADABLE) or waited_s >= within_s:
                return observed
            if self._around.pause(pause_s):
                return observed
            waited_s, pause_s = waited_s + pause_s, min(2.0, pause_s * 1.5)

    def _why_stuck(self, subject: Subject, observed: Observation) -> str:
        """Why the call after an abort can't follow, "" where it can."""
        if self._around.stop.is_set():
            return _STOPPED_MIDWAY
        if observed.status is Status.ACTIVE:
            return _still_active(subject, observed)
        if observed.status is Status.UNREADABLE:
            return f"the job can't be read after the abort ({observed.detail}); apply again once it can"
        if observed.status is Status.MISSING:
            gone = applied(subject.job, subject.record, Verb.DELETE)
            self._around.session.put(subject.job.name, gone, details=Details(reason="the abort deleted it"))
            return "the abort deleted the job, since it had yet to start: create a job there and give its id"
        return ""

    def _call(
        self,
        subject: Subject,
        verb: Verb,
        observed: Observation,
        after: Record | None,
        reason: str,
        *,
        is_new: bool = True,
    ) -> _Reply:
        """One call: intent on disk, send, result on disk. `after` is the record if it was applied.

        `is_new` is False for what follows an abort: that is brought to its end though others failed.
        """
        around, job = self._around, subject.job
        before = None if observed.status is Status.NOT_OBSERVED else _baseline(verb, observed, subject.record)
        doubt = Doubt(around.new_op(), verb, job.config, job.run_token, before, around.now(), "")
        around.session.intend(job.name, job.id, doubt, reason)
        self._sent += 1
        sent_s = around.monotonic()
        reply = self._settle(job.id, around.call_for(verb, job.id, job.config), verb, before, is_new)
        took_s = around.monotonic() - sent_s
        words = _words(reply.answer)
        record = subject.record
        if reply.kind is AnswerClass.APPLIED:
            record = after
            if verb is Verb.RUN and before is not None:
                around.runs[job.name] = job.id, before
        elif reply.kind is AnswerClass.IN_DOUBT:
            record = (record or Record(job.id, None))._replace(doubt=doubt._replace(answer=words))
        details = Details(_OUTCOMES[reply.kind], reply.answer.status, reply.answer.request_id, took_s)
        try:
            around.session.conclude(doubt.op, job.name, record, reply.note or words, details)
        except JournalBroken as fault:
            self._halt("skipped: the journal can't be written")
            return _Reply(AnswerClass.IN_DOUBT, reply.answer, f"the result could not be recorded: {fault}")
        if (reply.kind is AnswerClass.NOT_SENT and not reply.held_back) or reply.answer.status == 401:
            self._halt(f"skipped: {words}")
        return reply

    def _settle(self, job_id: str, call: Call, verb: Verb, before: Evidence | None, is_new: bool) -> _Reply:
        """Send, and where the answer is lost look, and repeat what may be repeated."""
        engine = self._around.engine
        held_back = ""

        def may_start() -> bool:
            # Others may have failed while this one waited for its turn.
            nonlocal held_back
            held_back = self._why_nothing_starts() if is_new else ""
            held_back = held_back or ("" if self._may_be_sent() else _INTERRUPTED)
            return not held_back

        answer = engine.send(call, may_start)
        if answer.kind is AnswerClass.NOT_SENT and held_back:
            return _Reply(answer.kind, answer, held_back=held_back)
        done_already = (400, 404) if verb is Verb.ABORT else (404,)
        if answer.kind is not AnswerClass.IN_DOUBT:
            return _Reply(answer.kind, answer, answer.message if answer.kind is AnswerClass.APPLIED else "")
        for sends in range(1, _SENDS + 1):
            now = NOT_OBSERVED if before is None else self._look(job_id)
            if trace_of(verb, before, now) is Trace.DONE:
                return _Reply(
                    AnswerClass.APPLIED, answer, f"the answer was lost ({_words(answer)}), but the job is {now.status}"
                )
            may_hit_other_run = before is not None and (
                now.status is Status.UNREADABLE or may_be_other_run(before, now)
            )
            if verb is Verb.RUN or may_hit_other_run or sends == _SENDS or self._around.pause(0.25 * 2**sends):
                break
            try:
                again = engine.send(call, self._may_be_sent)
            except JournalBroken:  # this one was not sent; what became of the first is as open as before
                break
            if again.kind is AnswerClass.APPLIED or again.status in done_already:
                return _Reply(AnswerClass.APPLIED, again, f"sent again after a lost answer ({_words(answer)})")
        return _Reply(AnswerClass.IN_DOUBT, answer)

    def _why_nothing_starts(self) -> str:
        return _INTERRUPTED if self._around.stop.is_set() else self._halted

    def _may_be_sent(self) -> bool:
        return not self._around.stop.is_set() and self._around.session.assure()

    def _look(self, job_id: str) -> Observation:
        try:
            return self._around.engine.observe(job_id)
        except ReconcilerError as fault:
            return Observation(Status.UNREADABLE, detail=fault.message)

    def _halt(self, reason: str) -> None:
        with self._turn:
            self._halted = self._halted or reason


def _still_active(subject: Subject, observed: Observation) -> str:
    """Why what follows the end of an aborted run was not sent, and what to do about it."""
    said = f"the job is still active ({observed.word}) after the abort; apply again once it has ended"
    if is_ending(subject.record, observed):
        return said
    forget = command("state forget", subject.job.name)
    return f"{said}; or, if that is a run to keep, drop the record ({forget}) and apply: the run is then adopted"


def _baseline(verb: Verb, observed: Observation, record: Record | None) -> Evidence:
    """What tells a run before a call from the run that the call starts.

    A read may be old, or may leave out when the last run began. The record still knows that.
    """
    evidence = observed.evidence
    if verb is Verb.RUN and evidence.submitted_at is None and record is not None and record.submitted_at:
        return evidence._replace(submitted_at=record.submitted_at)
    return evidence


@contextmanager
def one_core(threads: int) -> Iterator[None]:
    """Keep this thread, and those that it starts meanwhile, on one core where they are to be many.

    Python runs one of its threads at a time. On several cores many of them spend a third of their time on
    handing over; on one they mostly find it free. Linux alone offers this.
    """
    if threads < _MANY_THREADS or not hasattr(os, "sched_setaffinity"):
        yield
        return
    cores = os.sched_getaffinity(0)
    with suppress(OSError):
        os.sched_setaffinity(0, {sorted(cores)[os.getpid() % len(cores)]})
    try:
        yield
    finally:
        with suppress(OSError):
            os.sched_setaffinity(0, cores)


def is_within(calls: Sequence[Call], shown: Sequence[Call]) -> bool:
    """Whether these calls are among those shown, in the same order."""
    left = iter(shown)
    return all(call in left for call in calls)


def untouched(action: Action) -> ActionOutcome:
    """The outcome of a hold or a noop, which nothing is done for."""
    if action.error:
        return failed(action, action.error)
    done = Outcome.SKIPPED if action.kind is ActionKind.HOLD else Outcome.SUCCEEDED
    return ActionOutcome(action, done, action.kind)


def _skipped(action: Action, note: str, done: ActionKind | None = None) -> ActionOutcome:
    return ActionOutcome(action, Outcome.SKIPPED, done or action.kind, note)


def failed(action: Action, error: str) -> ActionOutcome:
    """The outcome of an action that could not be carried out."""
    return ActionOutcome(action, Outcome.FAILED, action.kind, error=error)


def _outcome(action: Action, done: ActionKind, verb: Verb, reply: _Reply) -> ActionOutcome:
    answer = reply.answer
    match reply.kind:
        case AnswerClass.APPLIED:
            outcome, error = Outcome.SUCCEEDED, ""
        case AnswerClass.REJECTED:
            outcome, error = Outcome.FAILED, f"{verb} was rejected: {_words(answer)}"
        case AnswerClass.NOT_SENT:
            outcome, error = Outcome.FAILED, f"{verb} was not sent: {_words(answer)}"
        case AnswerClass.IN_DOUBT:
            outcome = Outcome.IN_DOUBT
            error = (
                f"{verb} was sent, and it is not known whether it was carried out: {_words(answer)}; "
                f"the next apply checks again, or settle it: {settling(action.job)}"
            )
        case _:
            assert_never(reply.kind)
    return ActionOutcome(action, outcome, done, reply.note, error, answer.status, answer.request_id)


def _words(answer: Answer) -> str:
    return answer.message or (f"HTTP {answer.status}" if answer.status is not None else "no answer")
