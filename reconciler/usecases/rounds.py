"""The rounds of an apply: the plan, then the jobs whose doubt was settled, or whose turn came, meanwhile."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import count
from typing import TYPE_CHECKING

from reconciler.apply.context import ApplyContext, is_stale
from reconciler.apply.execute import carry_out
from reconciler.apply.observe import observe_before, observe_jobs
from reconciler.apply.outcomes import failed, untouched
from reconciler.apply.settle import look, look_again
from reconciler.model.errors import CredentialsError, EngineError, Refused
from reconciler.model.jobs import NOT_OBSERVED, Doubt, Evidence, Observation, Status, Verb
from reconciler.model.outcomes import ActionOutcome, Outcome
from reconciler.model.plan import STEPS, Action, ActionKind, Plan, allowed_words
from reconciler.model.plan_json import plan_digest
from reconciler.rules.actions import action_for, is_within
from reconciler.rules.decide import decide
from reconciler.rules.order import Order
from reconciler.rules.records import protection
from reconciler.state.session import Announced
from reconciler.usecases.planning import (
    Selection,
    allowing,
    made_again,
    matching_of,
    picked,
    plan_of,
    refusal_of,
    selection_of,
)
from reconciler.usecases.wiring import ApplyOptions, LazyEngine, Place, World, fresh_id, now, wording_of

if TYPE_CHECKING:
    from reconciler.manifest import Manifest
    from reconciler.model.outcomes import Finished
    from reconciler.rules.matching import Matching, Subject
    from reconciler.state.session import Session

_LAST_CALL = {
    ActionKind.ABORT: Verb.ABORT,
    ActionKind.RUN: Verb.RUN,
    ActionKind.RESTART: Verb.RUN,
    ActionKind.DELETE: Verb.DELETE,
}
"""The call that ends an action; the one before it leaves no trace of its own once this one was sent."""


class Rounds:
    """One apply, its state locked."""

    def __init__(
        self,
        place: Place,
        world: World,
        options: ApplyOptions,
        manifest: "Manifest",
        session: "Session",
        engine: "LazyEngine",
        confirm: Callable[[Plan], None],
        watch: "Callable[[Plan, Sequence[Finished]], None]",
        remark: Callable[[str], None],
        announce: Callable[[int], None] | None = None,
    ) -> None:
        """`announce` brings the journal to others, before so many calls may be sent; None where nobody needs it."""
        self._place = place
        self._world = world
        self._boot_s = world.clocks.boot_s
        self._options = options
        self._manifest = manifest
        self._session = session
        self._engine = engine
        self._confirm = confirm
        self._watch = watch
        self._remark = remark
        self._announce = announce
        self._runs: dict[str, tuple[str, Evidence]] = {}
        self._done: Counter[str] = Counter()
        self._unwell = False
        """Whether something failed, or is in doubt since it was sent."""
        self._is_first = True
        """Whether what stops it now stops it before anything was done; later that only ends it."""
        self.plan: Plan

    def go(self, saved: Plan | None, selection: Selection) -> Iterator[list[ActionOutcome]]:
        """The outcomes of the plan, then those of the jobs whose doubt was settled, or whose turn came, meanwhile.

        A doubt takes two looks, some time apart. The jobs without one do not wait for it.
        """
        made = []
        for outcomes in self._without_waiting(saved, selection):
            yield outcomes
            made += outcomes
        yield from self._in_turn([outcome for outcome in made if outcome.waits])

    @property
    def _goes_on(self) -> bool:
        """Whether anything new may start."""
        return not (self._world.stop.is_set() or (self._unwell and self._options.fail_fast))

    def _without_waiting(self, saved: Plan | None, selection: Selection) -> Iterator[list[ActionOutcome]]:
        if saved is not None:
            selection = selection_of(saved)
            saved = made_again(self._place, self._world, self._manifest, self._session.state, saved)
        doubtful = any(record.doubt for record in self._session.state.jobs.values())
        pending = look(self._session, self._engine.open(), self._boot_s) if doubtful else []
        matching = picked(self._manifest, self._session.state, selection)
        made = self._planned(matching, selection) if saved is None else self._as_read(saved, matching)
        self.plan = allowing(made, self._options.allowed)
        refusal = refusal_of(self.plan, self._manifest, self._session.state)
        if refusal is not None:
            raise refusal
        yield self._confirmed(self.plan, matching, saved)
        self._is_first = False
        if not pending or not self._goes_on:
            return
        self._remark(f"{len(pending)} in doubt: checking again after {self._options.settle_s:g} s")
        engine, settle_s, pause = self._engine.open(), self._options.settle_s, self._world.pause
        ready: set[str] = set()
        try:
            for name in look_again(pending, self._session, engine, settle_s, self._boot_s, pause):
                ready.add(name)
        except (CredentialsError, EngineError) as fault:
            self._remark(f"stopped checking: {fault.message}")
        again = self._matching(selection)
        records = self._session.state.jobs
        second = self._planned(again, selection, {n for n in ready if n in records and records[n].doubt is not None})
        actions = tuple(a for a in second.actions if a.job in ready)
        if saved is None and actions and self._goes_on:
            second = second._replace(actions=actions)
            try:
                refusal = refusal_of(second, self._manifest, self._session.state, self._done)
                if refusal is not None:
                    raise refusal
                yield self._confirmed(second, again)
            except Refused as why:
                yield _refused(second, why)

    def _in_turn(self, waiting: Iterable[ActionOutcome]) -> Iterator[list[ActionOutcome]]:
        """Wait for what has to complete first, and run what comes after it; no more than the plan showed."""
        left = {outcome.action.job: outcome.action for outcome in waiting}
        ends_s, pause_s = self._boot_s() + self._options.wait_s, 0.5
        while left and self._goes_on and (rest_s := ends_s - self._boot_s()) > 0:
            self._remark(f"waiting up to {rest_s:.0f} s to run {', '.join(sorted(left))}")
            try:
                ready = self._await_turn(left, ends_s, pause_s)
            except (CredentialsError, EngineError) as fault:
                self._remark(f"stopped waiting: {fault.message}")
                return
            if not ready:
                return
            plan = self.plan._replace(actions=tuple(left.pop(name) for name in ready))
            outcomes = self._carry_out(plan, self._matching(Selection(prune=True)))
            left |= {outcome.action.job: outcome.action for outcome in outcomes if outcome.waits}
            yield outcomes

    def _await_turn(self, waiting: Mapping[str, Action], ends_s: float, pause_s: float) -> list[str]:
        """The jobs whose turn has come, or can't come; none where time is up or a stop is asked for."""
        engine = self._engine.open()
        subjects = self._matching(Selection(prune=True)).by_name
        while (rest_s := ends_s - self._boot_s()) > 0 and not self._world.pause(min(pause_s, rest_s)):
            pause_s = min(10.0, pause_s * 1.5)
            seen = observe_before(engine, waiting, subjects, self._options.parallelism)
            order = Order(subjects.values(), seen, waiting.__contains__, partial(is_stale, self._runs))
            ready = [
                name
                for name in waiting
                for subject in [subjects[name]]
                if not order.defer(decide(subject, NOT_OBSERVED), subject).waits_for
            ]
            if ready:
                return ready
        return []

    def _matching(self, selection: Selection) -> "Matching":
        return matching_of(self._manifest, self._session.state, selection)

    def _planned(self, matching: "Matching", selection: Selection, others: Collection[str] = ()) -> Plan:
        """The plan, made once more after the jobs that it would touch, and the `others`, were read."""
        made = self._plan_of(matching, selection, {})
        seen = self._read(made, matching, others)
        return self._plan_of(matching, selection, seen) if seen else made

    def _plan_of(self, matching: "Matching", selection: Selection, seen: Mapping[str, Observation]) -> Plan:
        state, allowed = self._session.state, self._options.allowed
        place, world, manifest = self._place, self._world, self._manifest
        return plan_of(place, world, manifest, state, matching, selection, seen, allowed, holds_for_others=False)

    def _as_read(self, saved: Plan, matching: "Matching") -> Plan:
        """A saved plan, with less in the place of each action for which the job, as it is now, calls for less."""
        seen = self._read(saved, matching)
        subjects, call_for = matching.by_name, wording_of(self._manifest.target)

        def as_read(action: Action) -> Action:
            subject = subjects.get(action.job)
            if subject is None or action.id not in seen or subject.job.id != action.id:
                return action
            decision = decide(subject, seen[action.id])
            fresh = action_for(subject, decision, call_for)
            is_less = fresh.touches and len(fresh.calls) < len(action.calls) and is_within(fresh.calls, action.calls)
            return fresh if is_less else action

        actions = sorted(map(as_read, saved.actions), key=lambda action: (STEPS[action.kind], action.job))
        return saved._replace(actions=tuple(actions))

    def _read(self, plan: Plan, matching: "Matching", others: Collection[str] = ()) -> Mapping[str, Observation]:
        """What the service says now of the jobs that a plan touches, and of these others in it, by engine job id."""
        known = {subject.job.id for subject in matching.subjects}
        ids = [a.id for a in plan.actions if (a.touches or a.job in others) and a.id in known]
        return observe_jobs(self._engine.open(), ids, self._options.parallelism) if ids else {}

    def _confirmed(self, plan: Plan, matching: "Matching", saved: Plan | None = None) -> list[ActionOutcome]:
        """Carry out a plan once a person has agreed; `saved` is the reviewed one that it rests on, if any."""
        subjects = matching.by_name
        if plan.touches_anything:
            self._engine.open()
            self._confirm(plan)
            self._session.rests_on(plan_digest(saved or plan), allowed_words(plan))
        self._session.move(matching.moves)
        # What is held goes by its new name too, as `resolve` is told it, and is protected as it says.
        holds = [action.job for action in plan.actions if action.kind is ActionKind.HOLD]
        # A refreshed plan also holds a job that is on record alone and differs from it; no manifest protects that one.
        held = [subjects[name] for name in holds if name in subjects]
        records = {name: record for subject in held for name, record in protection(subject).items()}
        self._session.put_all(records, "protect", "as the manifest says")
        if not plan.touches_anything:
            return [untouched(action) for action in plan.actions]
        self._session.drop_spent(matching.spent)
        self._announce_calls(plan, subjects)
        outcomes = self._carry_out(plan, matching)
        self._done += Counter(o.done for o in outcomes if o.outcome is not Outcome.SKIPPED)
        return outcomes

    def _announce_calls(self, plan: Plan, subjects: "Mapping[str, Subject]") -> None:
        """Have others know of each job that may be called. Raises `StateError` where that can't be.

        Each is observed for that, so that whoever finds the announcement can tell whether its call was sent. What
        is done in the end is the plan or less of it, so the plan alone says which calls are announced.
        """
        calling = [action for action in plan.actions if action.calls]
        if self._announce is None or not calling or not self._goes_on:
            return
        seen = observe_jobs(self._engine.open(), [action.id for action in calling], self._options.parallelism)
        at, ops = now(), map(f"{fresh_id()}.{{}}".format, count())
        calls = []
        for action, op in zip(calling, ops, strict=False):
            job, observed = subjects[action.job].job, seen[action.id]
            before = None if observed.status is Status.NOT_OBSERVED else observed.evidence
            doubt = Doubt(op, _LAST_CALL[action.kind], job.config, job.run_token, before, at, "")
            calls.append(Announced(action.job, action.id, doubt, action.reason))
        with self._session.announcing(calls):
            self._announce(len(calls))

    def _carry_out(self, plan: Plan, matching: "Matching") -> list[ActionOutcome]:
        subjects = matching.by_name
        context = ApplyContext(
            engine=self._engine.open(),
            session=self._session,
            call_for=wording_of(self._manifest.target),
            stop=self._world.stop,
            pause=self._world.pause,
            monotonic=self._boot_s,
            now=now,
            new_op=map(f"{fresh_id()}.{{}}".format, count()).__next__,
            runs=self._runs,
        )
        outcomes: list[ActionOutcome] = []
        options = self._options
        try:
            for ended in carry_out(
                plan,
                subjects,
                context,
                parallelism=options.parallelism,
                fail_fast=options.fail_fast,
                has_failed=self._unwell,
            ):
                self._watch(plan, ended)
                outcomes += [event.outcome for event in ended]
        except (CredentialsError, EngineError) as fault:
            if self._is_first:
                raise
            told = {outcome.action.job for outcome in outcomes}
            outcomes += [failed(action, fault.message) for action in plan.actions if action.job not in told]
        self._unwell |= any(outcome.outcome in (Outcome.FAILED, Outcome.IN_DOUBT) for outcome in outcomes)
        return outcomes


def _refused(plan: Plan, refusal: Refused) -> list[ActionOutcome]:
    """What comes of a plan that a guard refuses once others were carried out."""
    held = ActionKind.HOLD
    return [
        ActionOutcome(action, Outcome.SKIPPED, held, refusal.message) if action.touches else untouched(action)
        for action in plan.actions
    ]
