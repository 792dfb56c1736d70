"""Carries out a plan: the order of the steps, the threads, and what ends an apply early."""

import queue
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial

from reconciler.apply.action import ActionRunner
from reconciler.apply.calls import CallSender
from reconciler.apply.context import ApplyContext, Halt, is_stale
from reconciler.apply.observe import note_ends, observe_before
from reconciler.apply.outcomes import Attempt, failed, outcome_of, skipped, untouched
from reconciler.host.crash_report import error_line
from reconciler.host.threads import WorkerPool
from reconciler.model.errors import CredentialsError, EngineError, ReconcilerError
from reconciler.model.history import NOTE
from reconciler.model.jobs import Record
from reconciler.model.outcomes import ActionOutcome, Finished, Outcome
from reconciler.model.plan import STEPS, Action, ActionKind, Plan
from reconciler.model.results import AnswerClass, Result
from reconciler.rules.lost_calls import is_newer_run
from reconciler.rules.matching import Subject
from reconciler.rules.order import Order
from reconciler.rules.records import noted
from reconciler.rules.sight import as_owned
from reconciler.state.journal import JournalBroken, Overtaken

_RUNS = frozenset({ActionKind.RUN, ActionKind.RESTART})
_DELETE_STEP = STEPS[ActionKind.DELETE]


def carry_out(
    plan: Plan,
    subjects: Mapping[str, Subject],
    context: ApplyContext,
    *,
    parallelism: int,
    fail_fast: bool,
    has_failed: bool = False,
) -> Iterator[Sequence[Finished]]:
    """Carry out a plan step by step, with up to `parallelism` calls at once. Yields the actions as they end.

    There is one `Finished` for each action, holds and noops included. `subjects` are all jobs by name. With `fail_fast`
    nothing new starts after a failure. `has_failed` is set if an action of the same command has failed before: nothing
    is deleted then. Raises `CredentialsError` or `EngineError` if no request of the plan reached the service.
    """
    yield from _Apply(plan, subjects, context, fail_fast, has_failed).events(parallelism)


class _Apply:
    """One plan under way. The arguments are those of `carry_out`."""

    def __init__(
        self, plan: Plan, subjects: Mapping[str, Subject], context: ApplyContext, fail_fast: bool, has_failed: bool
    ) -> None:
        self._plan = plan
        self._subjects = subjects
        self._context = context
        self._fail_fast = fail_fast
        self._has_failed = has_failed
        self._halt = Halt(context.stop)
        self._sender = CallSender(context, self._halt)
        self._fatal: ReconcilerError | None = None

    def events(self, parallelism: int) -> Iterator[Sequence[Finished]]:
        """Carry out the steps, one after the other. Holds and noops come first, because nothing is done for them."""
        steps: dict[int, list[Action]] = {}
        left_alone: list[Finished] = []
        for action in self._plan.actions:
            if action.touches:
                steps.setdefault(STEPS[action.kind], []).append(action)
            else:
                left_alone.append(Finished(untouched(action), 0.0))
        yield left_alone
        runner = self._runner()
        session = self._context.session
        # No action may stand ready if a failure is to stop all new ones.
        threads = parallelism if self._fail_fast and session.is_local else session.threads(parallelism)
        with WorkerPool(threads) as pool:
            for step, actions in sorted(steps.items()):
                yield from self._step(step, actions, runner, pool)
        self._note_runs()
        if self._fatal is not None and not self._sender.has_sent:
            raise self._fatal

    def _runner(self) -> ActionRunner:
        """Observe the jobs that come before the jobs of the plan. No job that the plan runs counts as complete."""
        touching = self._plan.touching
        runs = {action.job for action in touching if action.kind in _RUNS}
        context, subjects = self._context, self._subjects
        before = observe_before(context.engine, [action.job for action in touching], subjects)
        order = Order((), {}, lambda name: False)
        if before:
            stale = partial(is_stale, context.runs)
            fresh = [s for name, s in subjects.items() if s.job.id in before and not stale(name, before[s.job.id])]
            note_ends(context.session, context.engine, fresh, before, context.now())
            recorded = [s._replace(record=context.session.record_of(name)) for name, s in subjects.items()]
            order = Order(recorded, before, runs.__contains__, stale)
        return ActionRunner(context, subjects, order, self._sender, self._halt.why_nothing_starts)

    def _step(
        self, step: int, actions: Sequence[Action], runner: ActionRunner, pool: WorkerPool
    ) -> Iterator[Sequence[Finished]]:
        """Carry out the actions of one step in the threads of the pool. Yields the actions as they end."""
        if step == _DELETE_STEP and self._has_failed:
            why = "skipped: nothing is deleted once another action has failed"
            yield [Finished(skipped(action, why), 0.0) for action in actions]
            return
        events: queue.SimpleQueue[Finished] = queue.SimpleQueue()
        self._context.session.begin(len(actions))
        for action in actions:
            pool.submit(self._run_one, action, runner, events)
        left = len(actions)
        while left:
            pool.help()
            ended = [events.get()]
            with suppress(queue.Empty):
                while True:
                    ended.append(events.get_nowait())
            left -= len(ended)
            yield ended

    def _run_one(self, action: Action, runner: ActionRunner, events: "queue.SimpleQueue[Finished]") -> None:
        """Carry out an action in a thread. `events` gets exactly one `Finished`, whatever the action raises."""
        started_s = self._context.monotonic()
        outcome = None
        try:
            if why := self._halt.why_nothing_starts():
                outcome = skipped(action, why)
                return
            outcome = self._outcome_of(action, runner)
        finally:
            if outcome is None:  # what was raised is no error that an action expects
                outcome = self._cut_short(action, "the apply ended before this action did")
            if outcome.outcome in (Outcome.FAILED, Outcome.IN_DOUBT):
                self._has_failed = True
                if self._fail_fast:
                    self._halt.halt("skipped: another action failed, and --fail-fast was given")
            self._context.session.end()
            events.put(Finished(outcome, self._context.monotonic() - started_s))

    def _outcome_of(self, action: Action, runner: ActionRunner) -> ActionOutcome:
        """Carry out an action. An error that concerns the whole apply halts the apply."""
        try:
            return runner.run(action)
        except (CredentialsError, EngineError) as fault:
            self._halt.halt(f"skipped: {fault.message}")
            self._fatal = fault
            return failed(action, fault.message)
        except Overtaken as fault:
            self._halt.halt("skipped: someone else changed the state")
            return skipped(action, f"not sent: {fault}")
        except JournalBroken as fault:
            self._halt.halt("skipped: the journal can't be written")
            return failed(action, f"not sent: {fault}")
        except Exception as fault:  # noqa: BLE001  an unknown error must not stop the actions that are in flight
            self._halt.halt("skipped: reconciler itself failed")
            return self._cut_short(action, error_line(fault))

    def _cut_short(self, action: Action, why: str) -> ActionOutcome:
        """The outcome of an action that an unknown error ended: in doubt if a call of the action may have been sent."""
        doubt = self._context.session.unsettled(action.job)
        if doubt is None:
            return failed(action, why)
        result = Result(AnswerClass.IN_DOUBT, message=why)
        return outcome_of(action, action.kind, doubt.verb, Attempt(AnswerClass.IN_DOUBT, result))

    def _note_runs(self) -> None:
        """Record when each new run began. A later apply then knows which run the record is about.

        The time stays unknown if an observation fails, or is older than the run.
        """
        context, session = self._context, self._context.session
        runs = {
            name: run
            for name, run in context.runs.items()
            for record in [session.record_of(name)]
            if record is not None and record.submitted_at is None
        }
        if not runs or context.stop.is_set():
            return
        try:
            observed = context.engine.observe_many([job_id for job_id, _ in runs.values()])
            began: dict[str, Record] = {}
            for name, (job_id, before) in runs.items():
                record = session.record_of(name)
                seen = as_owned(record, observed[job_id], session.lineage)
                if record is not None and record.doubt is None and is_newer_run(before, seen):
                    record = record._replace(submitted_at=seen.run_began, ref=seen.ref or record.ref)
                    began[name] = noted(record, seen, context.now(), context.engine.promises)
            session.put_all(began, NOTE, "when its run began")
        except ReconcilerError:
            # The results are on record already. The write of the state reports a broken journal.
            return
