"""The rounds of an apply: first the plan, then the jobs whose doubt was settled or whose turn came meanwhile."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import partial
from itertools import count
from typing import TYPE_CHECKING

from reconciler.apply.context import ApplyContext, is_stale
from reconciler.apply.execute import carry_out
from reconciler.apply.observe import note_ends, observe_before
from reconciler.apply.outcomes import failed, untouched
from reconciler.apply.settle import Pending, look, look_again
from reconciler.model.errors import CredentialsError, EngineError, Refused
from reconciler.model.jobs import NOT_ASKED, Doubt, Evidence, Observation, OnConfigChange, State, Status
from reconciler.model.outcomes import ActionOutcome, Outcome
from reconciler.model.plan import STEPS, Action, ActionKind, Plan, allowed_words
from reconciler.model.plan_json import plan_digest
from reconciler.rules.actions import action_for, is_within
from reconciler.rules.decide import decide
from reconciler.rules.decisions import Decision
from reconciler.rules.order import Order
from reconciler.rules.records import protection, run_of
from reconciler.rules.sight import may_be_forgotten
from reconciler.state.session import Announced
from reconciler.usecases.ends import with_ends, without_end
from reconciler.usecases.engines import wording_of
from reconciler.usecases.planning import allowing, plan_of, refusal_of
from reconciler.usecases.saved_plans import made_again, selection_of
from reconciler.usecases.selection import Selection, matching_of, selected
from reconciler.usecases.world import fresh_id

if TYPE_CHECKING:
    from reconciler.rules.matching import Matching, Subject
    from reconciler.state.session import Session
    from reconciler.usecases.apply_options import ApplyOptions, Interaction
    from reconciler.usecases.engines import LazyEngine
    from reconciler.usecases.workspace import Workspace


_RERUN = OnConfigChange.RERUN


class Rounds:
    """The rounds of one apply, which has the lock of the state. `plan` is the plan of the first round."""

    plan: Plan

    def __init__(
        self,
        workspace: "Workspace",
        options: "ApplyOptions",
        interaction: "Interaction",
        session: "Session",
        engine: "LazyEngine",
        announce: Callable[[int], None] | None = None,
    ) -> None:
        """`announce` publishes the journal before the given number of calls may be sent. None if nobody needs it."""
        self._workspace = workspace
        self._options = options
        self._interaction = interaction
        self._session = session
        self._engine = engine
        self._announce = announce
        self._manifest = workspace.manifest
        self._world = workspace.world
        self._boot_s = workspace.world.clocks.boot_s
        self._runs: dict[str, tuple[str, Evidence]] = {}
        self._observed: Mapping[str, Observation] = {}
        """What was read for the plan that is made at this time, by engine job id."""
        self._before: Mapping[str, Observation] = {}
        """What was read of the jobs that come before those of that plan, by engine job id."""
        self._done: Counter[str] = Counter()
        self._has_failed = False
        """Whether an action failed, or is in doubt since its call was sent."""
        self._is_first_round = True
        """Whether an error of the engine is raised. In later rounds it fails the actions that are left."""

    def outcomes(self, saved: Plan | None, selection: Selection) -> Iterator[list[ActionOutcome]]:
        """Carry out the plan, or a saved plan. Yields the outcomes of each round.

        A doubt is settled by two looks, some time apart. Jobs without a doubt don't wait for that. Jobs that come after
        others are carried out last, as soon as their turn comes.
        """
        made = []
        for outcomes in self._planned_rounds(saved, selection):
            yield outcomes
            made += outcomes
        yield from self._rounds_in_turn([outcome for outcome in made if outcome.outcome is Outcome.WAITING])

    @property
    def _may_start(self) -> bool:
        """Whether a new call may start."""
        return not (self._world.stop.is_set() or (self._has_failed and self._options.fail_fast))

    def _planned_rounds(self, saved: Plan | None, selection: Selection) -> Iterator[list[ActionOutcome]]:
        """The round of the plan, then the round of the jobs whose doubt was settled."""
        if saved is not None:
            selection = selection_of(saved)
            saved = made_again(saved, self._workspace, self._session.state)
        pending = self._first_look()
        matching = selected(self._manifest, self._session.state, selection, self._world.clocks.wall_s())
        if saved is None:
            matching = _with_guarded(matching, pending)
            asking = _asking_again(matching)
            made = self._planned(matching, selection, asking)
            runs = [action.job for action in made.actions if action.kind is ActionKind.RUN]
            sent_again = {asking[job] for job in runs if job in asking}
            pending = [one for one in pending if one.op not in sent_again]
        else:
            made = self._reduced(saved, matching)
        self.plan = allowing(made, self._options.allowed)
        refusal = refusal_of(self.plan, self._manifest, self._session.state)
        if refusal is not None:
            raise refusal
        yield self._confirmed(self.plan, matching, saved)
        self._is_first_round = False
        if pending and self._may_start:
            settled = self._settled(pending)
            # A saved plan shows nothing of what comes after a doubt.
            if saved is None:
                yield from self._settled_round(settled, selection)

    def _first_look(self) -> list[Pending]:
        """Take the first look at each call in doubt. Returns those that need a second one."""
        before = _number_in_doubt(self._session.state)
        pending = look(self._session, self._engine.open(), self._boot_s, self._world.now) if before else []
        if settled := before - _number_in_doubt(self._session.state):
            self._world.remark(f"{settled} in doubt: settled, since the service shows what came of the call")
        return pending

    def _settled(self, pending: list[Pending]) -> set[str]:
        """Take the second look at each call in doubt. Returns the names of the jobs that may be acted on again."""
        self._world.remark(f"{len(pending)} in doubt: checking again after {self._options.settle_s:g} s")
        settled: set[str] = set()
        again = look_again(
            pending,
            self._session,
            self._engine.open(),
            self._options.settle_s,
            self._boot_s,
            self._world.pause,
            self._world.now,
        )
        try:
            for name in again:
                settled.add(name)
        except (CredentialsError, EngineError) as fault:
            self._world.remark(f"stopped checking: {fault.message}")
        return settled

    def _settled_round(self, settled: Collection[str], selection: Selection) -> Iterator[list[ActionOutcome]]:
        """Plan the jobs whose doubt was settled, and carry that plan out."""
        matching = self._matching(selection)
        records = self._session.state.jobs
        doubtful = {name for name in settled if name in records and records[name].doubt is not None}
        made = self._planned(matching, selection, doubtful)
        plan = made._replace(actions=tuple(action for action in made.actions if action.job in settled))
        if not plan.actions or not self._may_start:
            return
        try:
            refusal = refusal_of(plan, self._manifest, self._session.state, self._done)
            if refusal is not None:
                raise refusal
            yield self._confirmed(plan, matching)
        except Refused as fault:
            yield _refused(plan, fault)

    def _rounds_in_turn(self, waiting: Iterable[ActionOutcome]) -> Iterator[list[ActionOutcome]]:
        """Wait for the jobs that must complete first, and carry out what comes after them, as the plan shows it.

        Nothing is waited for where the engine waits.
        """
        left = {outcome.action.job: outcome.action for outcome in waiting}
        ends_s, pause_s = self._boot_s() + self._options.wait_s, 0.5
        chained: set[str] = set()
        while left and self._may_start:
            try:
                ready = [name for name in self._chained(left) if name not in chained]
                chained.update(ready)
                if not ready and (rest_s := ends_s - self._boot_s()) > 0:
                    self._world.remark(f"waiting up to {rest_s:.0f} s to run {', '.join(sorted(left))}")
                    ready = self._await_turn(left, ends_s, pause_s)
                self._note_own_ends(ready)
            except (CredentialsError, EngineError) as fault:
                self._world.remark(f"stopped waiting: {fault.message}")
                return
            if not ready:
                return
            due = [left.pop(name) for name in ready]
            plan = self.plan._replace(actions=tuple(action._replace(kind=action.due) for action in due))
            outcomes = self._carry_out(plan, self._matching(Selection(prune=True)))
            left |= {one.action.job: one.action for one in outcomes if one.outcome is Outcome.WAITING}
            yield outcomes

    def _await_turn(self, waiting: Mapping[str, Action], ends_s: float, pause_s: float) -> list[str]:
        """Wait until the turn of some jobs has come, or can't come any more. Returns the names of these jobs.

        Returns none if the time is up, or if a stop is requested. `ends_s` is on the boot clock.
        """
        while (rest_s := ends_s - self._boot_s()) > 0 and not self._world.pause(min(pause_s, rest_s)):
            pause_s = min(10.0, pause_s * 1.5)
            ready = [name for name, decision in self._decided(waiting) if decision.kind is not ActionKind.WAIT]
            if ready:
                return ready
        return []

    def _chained(self, waiting: Mapping[str, Action]) -> list[str]:
        """The names of the waiting jobs whose runs the engine can begin in their turn by itself."""
        if not self._engine.open().promises.chains:
            return []
        return [name for name, decision in self._decided(waiting) if decision.after]

    def _decided(self, waiting: Mapping[str, Action]) -> list[tuple[str, Decision]]:
        """The decisions about waiting jobs, given how those that they come after look now.

        The ends that this reads are recorded at once, since the next read may fail.
        """
        engine = self._engine.open()
        subjects: Mapping[str, Subject] = self._matching(Selection(prune=True)).by_name
        before = observe_before(engine, waiting, subjects)
        subjects = self._with_ends(subjects, before)
        # Only these may also wait for a run of their own.
        own = [s.job.id for s in map(subjects.__getitem__, waiting) if s.job.on_config_change is _RERUN]
        observed = engine.observe_many(own) if own else {}
        subjects = self._with_ends(subjects, observed)
        order = Order(subjects.values(), before, waiting.__contains__, partial(is_stale, self._runs))
        return [
            (name, order.defer(decide(subject, seen), subject))
            for name in waiting
            for subject in [subjects[name]]
            for seen in [observed.get(subject.job.id, NOT_ASKED)]
        ]

    def _with_ends(
        self, subjects: Mapping[str, "Subject"], observed: Mapping[str, Observation]
    ) -> Mapping[str, "Subject"]:
        return with_ends(self._session, self._engine.open(), subjects, observed, self._runs, self._world.now())

    def _note_own_ends(self, ready: Iterable[str]) -> None:
        """Record how the earlier runs ended of jobs whose turn has come: a new run takes their place on record."""
        subjects = self._matching(Selection(prune=True)).by_name
        if ids := without_end(ready, subjects):
            self._with_ends(subjects, self._engine.open().observe_many(ids))

    def _matching(self, selection: Selection) -> "Matching":
        return matching_of(self._manifest, self._session.state, selection, self._world.clocks.wall_s())

    def _planned(self, matching: "Matching", selection: Selection, others: Collection[str] = ()) -> Plan:
        """The plan. It is made a second time after the jobs that it would touch, and the `others`, were read.

        The jobs that these come after are read too, and decide nothing but whose turn it is.
        """
        allowed, state = self._options.allowed, self._session.state
        made = plan_of(self._workspace, state, matching, selection, {}, allowed=allowed)
        observed, before = self._read(made, matching, others)
        if not observed:
            return made
        return plan_of(self._workspace, state, matching, selection, observed, before=before, allowed=allowed)

    def _reduced(self, saved: Plan, matching: "Matching") -> Plan:
        """A saved plan, in which an action is smaller if the job, as it is read now, needs fewer of its calls.

        An action that waits becomes its run or restart if its turn has come, and an action waits if that is to come.
        """
        observed, before = self._read(saved, matching)
        subjects, wording = matching.by_name, wording_of(self._manifest.target)
        planned = {action.job for action in saved.actions}
        order = Order(matching.subjects, {**before, **observed}, planned.__contains__)

        def reduced(action: Action) -> Action:
            subject = subjects.get(action.job)
            if subject is None or action.id not in observed or subject.job.id != action.id:
                return action
            fresh = action_for(subject, order.defer(decide(subject, observed[action.id]), subject), wording)
            if action.kind is ActionKind.WAIT or fresh.kind is ActionKind.WAIT:
                is_less = fresh.kind is not action.kind
            else:
                is_less = fresh.touches and len(fresh.calls) < len(action.calls)
            return fresh if is_less and is_within(fresh.calls, action.calls) else action

        actions = sorted(map(reduced, saved.actions), key=lambda action: (STEPS[action.kind], action.job))
        return saved._replace(actions=tuple(actions))

    def _read(
        self, plan: Plan, matching: "Matching", others: Collection[str] = ()
    ) -> tuple[Mapping[str, Observation], Mapping[str, Observation]]:
        """The observations, by engine job id, of the jobs that a plan is to act on, and of those that come before them.

        The first mapping also has the `others` in the plan, and the jobs whose run the engine may forget before its end
        is recorded.
        """
        subjects, known = matching.by_name, {subject.job.id for subject in matching.subjects}
        others = {*others, *(name for name, subject in subjects.items() if may_be_forgotten(subject))}
        acting = [a for a in plan.actions if a.touches or a.kind is ActionKind.WAIT or a.job in others]
        ids = [action.id for action in acting if action.id in known]
        self._observed, self._before = {}, {}
        if ids:
            names = [action.job for action in acting if action.job in subjects]
            self._observed = self._engine.open().observe_many(ids)
            self._before = observe_before(self._engine.open(), names, subjects)
        return self._observed, self._before

    def _confirmed(self, plan: Plan, matching: "Matching", saved: Plan | None = None) -> list[ActionOutcome]:
        """Carry out a plan once the user has agreed to it. `saved` is the reviewed plan that it is based on, if any."""
        is_to_act = plan.touches_anything or (plan.waits and self._options.wait_s > 0)
        if is_to_act:
            self._engine.open()
            self._interaction.confirm(plan)
            self._session.rests_on(plan_digest(saved or plan), allowed_words(plan))
            # Whatever is recorded from here on, also without a call, is about the jobs of this very service.
            self._session.identify({**self._session.identity, **self._engine.open().identity()})
        self._session.move(matching.moves)
        if self._observed:
            note_ends(self._session, self._engine.open(), matching.subjects, self._observed, self._world.now())
            self._with_ends(matching.by_name, self._before)
        self._protect_held(plan, matching)
        if is_to_act:
            self._session.drop_spent(matching.spent)
            self._announce_calls(plan, matching)
        if not plan.touches_anything:
            return [untouched(action) for action in plan.actions]
        outcomes = self._carry_out(plan, matching)
        self._done += Counter(o.done for o in outcomes if o.outcome is not Outcome.SKIPPED)
        return outcomes

    def _protect_held(self, plan: Plan, matching: "Matching") -> None:
        """Record the protection of each job that is held or waits, as the manifest states it.

        A refreshed plan also holds a job that is only on record and differs from its record. The manifest does not
        mention such a job.
        """
        subjects = matching.by_name
        names = [action.job for action in plan.actions if action.kind in (ActionKind.HOLD, ActionKind.WAIT)]
        held = [subjects[name].job for name in names if name in subjects]
        record_of = self._session.record_of
        records = {name: record for job in held for name, record in protection(job, record_of(job.name)).items()}
        self._session.put_all(records, "protect", "as the manifest says")

    def _announce_calls(self, plan: Plan, matching: "Matching") -> None:
        """Publish the name of each job that may be called. Raises `StateError` if that fails.

        Each job is observed before. Whoever finds the announcement after a crash can then tell whether a call was sent.
        An apply does what the plan shows or less, so the plan alone decides which calls are announced.
        """
        may_come = self._options.wait_s > 0 or self._engine.open().promises.chains
        calling = [a for a in plan.actions if a.calls and (a.touches or may_come)]
        if self._announce is None or not calling or not self._may_start:
            return
        ids = [action.id for action in calling]
        observed = self._engine.open().observe_many(ids)
        subjects = matching.by_name
        calls = [
            _announced(action, subjects[action.job], observed[action.id], op, self._world.now())
            for action, op in zip(calling, _ops(), strict=False)
        ]
        with self._session.announcing(calls):
            self._announce(len(calls))

    def _carry_out(self, plan: Plan, matching: "Matching") -> list[ActionOutcome]:
        """Carry out a plan. An error of the engine fails the actions that are left, except in the first round."""
        outcomes: list[ActionOutcome] = []
        options = self._options
        try:
            for ended in carry_out(
                plan,
                matching.by_name,
                self._context(),
                parallelism=options.pace.parallelism,
                fail_fast=options.fail_fast,
                has_failed=self._has_failed,
            ):
                self._interaction.watch(plan, ended)
                outcomes += [event.outcome for event in ended]
        except (CredentialsError, EngineError) as fault:
            if self._is_first_round:
                raise
            ended_jobs = {outcome.action.job for outcome in outcomes}
            outcomes += [failed(action, fault.message) for action in plan.actions if action.job not in ended_jobs]
        self._has_failed |= any(outcome.outcome in (Outcome.FAILED, Outcome.IN_DOUBT) for outcome in outcomes)
        return outcomes

    def _context(self) -> ApplyContext:
        return ApplyContext(
            engine=self._engine.open(),
            session=self._session,
            wording=wording_of(self._manifest.target),
            stop=self._world.stop,
            pause=self._world.pause,
            monotonic=self._boot_s,
            now=self._world.now,
            new_op=_ops().__next__,
            runs=self._runs,
            commit=self._workspace.commit or "",
        )


def _with_guarded(matching: "Matching", pending: list[Pending]) -> "Matching":
    """The matching, in which a run in doubt may be sent again if the engine can't start a second run of its id."""
    ops = {one.op for one in pending if one.may_ask_again}
    if not ops:
        return matching

    def guarded(subject: "Subject") -> "Subject":
        doubt = subject.record.doubt if subject.record else None
        return subject._replace(may_ask_again=True) if doubt is not None and doubt.op in ops else subject

    return matching._replace(subjects=tuple(map(guarded, matching.subjects)))


def _asking_again(matching: "Matching") -> dict[str, str]:
    """The call in doubt of each job whose run may be sent again, by the name of the job."""
    return {
        subject.job.name: subject.record.doubt.op
        for subject in matching.subjects
        if subject.may_ask_again and subject.record is not None and subject.record.doubt is not None
    }


def _ops() -> Iterator[str]:
    """New unique ids of calls, which share a prefix."""
    return map(f"{fresh_id()}.{{}}".format, count())


def _announced(action: Action, subject: "Subject", observed: Observation, op: str, now: str) -> Announced:
    """The announcement of the last call of an action. Once it is sent, the call before it leaves no trace."""
    before = None if observed.status is Status.NOT_OBSERVED else observed.evidence
    job = subject.job
    verb = action.calls[-1].verb
    doubt = Doubt(op, verb, job.config, job.run_token, before, now, "", run=run_of(subject, verb))
    return Announced(action.job, action.id, doubt, action.reason)


def _refused(plan: Plan, refusal: Refused) -> list[ActionOutcome]:
    """The outcomes of a plan that a guard refuses after another plan was carried out."""
    held = ActionKind.HOLD
    return [
        ActionOutcome(action, Outcome.SKIPPED, held, refusal.message) if action.touches else untouched(action)
        for action in plan.actions
    ]


def _number_in_doubt(state: State) -> int:
    return sum(record.doubt is not None for record in state.jobs.values())
