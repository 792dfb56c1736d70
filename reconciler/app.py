"""The use cases. Nothing here prints or exits."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from reconciler.errors import CredentialsError, EngineError, ExitCode, ReconcilerError, Refused
from reconciler.history import APPLIED, NOT_APPLIED, Told
from reconciler.jobs import (
    EMPTY,
    NOT_OBSERVED,
    Desired,
    Evidence,
    Job,
    Observation,
    Record,
    State,
    Status,
    Target,
    Verb,
)
from reconciler.plan import (
    STEPS,
    Action,
    ActionKind,
    ActionOutcome,
    Narrowed,
    Outcome,
    Plan,
    plan_digest,
    said_of_allowed,
    verdict,
)
from reconciler.unchanged import remember
from reconciler.wiring import (
    ApplyOptions,
    LazyEngine,
    Place,
    World,
    commit_of,
    fresh_id,
    manifest_paths,
    memory_of,
    now,
    open_engine,
    open_store,
    state_name,
    target_of,
    who_acts,
    wording_of,
)

if TYPE_CHECKING:
    from reconciler.drift import Drift
    from reconciler.events import Finished
    from reconciler.history import HistoryEntry
    from reconciler.manifest import Manifest
    from reconciler.planner import Matching
    from reconciler.review import Review
    from reconciler.sources import Sources
    from reconciler.state.session import Session


_ALL_NAMES = "reconciler plan --format json names all jobs"


class Selection(NamedTuple):
    """Which jobs, by globs over their names; without any `targets`, all. `prune` adds the undeclared."""

    targets: tuple[str, ...] = ()
    excludes: tuple[str, ...] = ()
    prune: bool = False

    def takes(self, name: str) -> bool:
        """Whether the job is selected."""
        if not self.targets and not self.excludes:
            return True
        from fnmatch import fnmatchcase

        wanted = not self.targets or any(fnmatchcase(name, glob) for glob in self.targets)
        return wanted and not any(fnmatchcase(name, glob) for glob in self.excludes)


class Applied(NamedTuple):
    """The end of an apply: the plan, and an outcome for each of its actions, in plan order.

    `doubtful` are all recorded jobs that are in doubt now. `unwritten` says why the state file could
    not be written, "" where it was; the journal has it all. `unwritten_code` is what that ends with.
    """

    plan: Plan
    outcomes: tuple[ActionOutcome, ...]
    doubtful: frozenset[str] = frozenset()
    unwritten: str = ""
    unwritten_code: ExitCode = ExitCode.FAILED
    manifest: "Manifest | None" = None

    @property
    def exit_code(self) -> ExitCode:
        """Doubt weighs more than failure, failure more than a hold."""
        found = {outcome.outcome for outcome in self.outcomes}
        if Outcome.IN_DOUBT in found or self.doubtful:
            return ExitCode.IN_DOUBT
        if Outcome.FAILED in found:
            return ExitCode.FAILED
        if self.unwritten:
            return self.unwritten_code
        if any(outcome.done is ActionKind.HOLD for outcome in self.outcomes):
            return ExitCode.REFUSED
        return ExitCode.DONE


class Planned(NamedTuple):
    """A plan, and what it was made from.

    `refusal` is that of a guard, None where none refuses. `observed` maps engine job ids to what was
    read; it is empty where nothing was.
    """

    plan: Plan
    refusal: Refused | None
    manifest: "Manifest"
    state: State
    matching: "Matching"
    observed: Mapping[str, Observation]


class JobStatus(NamedTuple):
    """One job: what is asked, what is recorded, what is observed."""

    name: str
    desired: Desired | None
    record: Record | None
    observed: Observation


def validate(place: Place, world: World, sources: "Sources | None" = None) -> "tuple[Manifest, int]":
    """The manifest, and how many files it is made of; `sources` are they, once read. Raises `ManifestError`."""
    from reconciler.manifest import parse
    from reconciler.sources import read_sources

    sources = read_sources(manifest_paths(place)) if sources is None else sources
    manifest = parse(sources, memory_of(place, world))
    return manifest._replace(target=target_of(manifest.target, place)), len(sources)


def plan(
    place: Place,
    world: World,
    selection: Selection,
    sources: "Sources",
    *,
    refresh: bool,
    parallelism: int = 10,
    provenance: bool = True,
    allowed: Mapping[str, int] = EMPTY,
) -> Planned:
    """The plan of the manifest that these files make, and what it was made from. Writes nothing.

    Without `refresh` nothing is read from the service and no credentials are needed. Without
    `provenance` the plan does not say which manifest it was made from, which is quicker. `allowed` is as
    in `Plan`.
    """
    manifest = _manifest(place, world, sources)
    seen = open_store(place, world).seen(manifest.target)
    state = seen.state or _empty(manifest.target)
    matching = _picked(manifest, state, selection)
    observed: Mapping[str, Observation] = {}
    if refresh:
        from reconciler.refresh import observe_jobs

        ids = _ids_to_read(matching, selection)
        with open_engine(manifest.target, place, world, ApplyOptions(parallelism=parallelism)) as engine:
            observed = observe_jobs(engine, ids, parallelism)
    made = _make_plan(place, manifest, state, matching, selection, observed, allowed, provenance=provenance)
    refusal = _refusal(made, manifest, state)
    if made.says_nothing and not (refresh or provenance):
        remember(place, world, sources, seen, verdict(made))
    return Planned(made, refusal, manifest, state, matching, observed)


def review(planned: Planned, place: Place, histories: "Mapping[str, Sequence[HistoryEntry]]" = EMPTY) -> "Review":
    """The plan with all that is known of its jobs; `histories` holds what was done before, by job."""
    from reconciler.planner import prune
    from reconciler.review import review_plan

    matching = prune(planned.matching, planned.state.jobs)
    return review_plan(
        planned.plan,
        matching.subjects,
        planned.observed,
        planned.manifest.position,
        histories,
        state_at=state_name(place),
        refusal=planned.refusal,
    )


def apply(
    place: Place,
    world: World,
    selection: Selection,
    options: ApplyOptions,
    *,
    saved: Plan | None,
    confirm: Callable[[Plan], None],
    watch: Callable[[Plan, "Sequence[Finished]"], None],
    remark: Callable[[str], None],
) -> Applied:
    """Carry out the manifest's plan, or a saved one that still fits.

    `confirm` is shown each plan that calls anything and raises `Refused` where the answer is no;
    `watch` gets what has ended of a plan, as it ends, `remark` what else a person should know. Raises `Refused`
    (a guard, a stale plan, a taken lock) and the other errors of the tree only before the first call.
    """
    from reconciler.state.journal import JournalBroken

    if saved is not None:
        place = place._replace(paths=saved.paths)
    manifest = _manifest(place, world)
    done: dict[str, ActionOutcome] = {}
    doubtful: frozenset[str] = frozenset()
    unwritten, unwritten_code = "", ExitCode.FAILED
    try:
        with (
            open_store(place, world).open(manifest.target, "apply", options.lock_timeout_s) as session,
            LazyEngine(manifest.target, place, world, options) as engine,
        ):
            work = _Work(place, world, options, manifest, session, engine, confirm, watch, remark)
            for made in work.rounds(saved, selection):
                done |= {outcome.action.job: outcome for outcome in made}
            doubtful = session.doubtful
            for name in sorted(doubtful - done.keys()):
                remark(f"{name}, which this apply was not about, has a call in doubt: reconciler state show {name}")
    except JournalBroken as fault:
        if not done or fault.is_unsent:
            raise type(fault)(f"nothing was sent: {fault}") from fault
        named = f": {', '.join(sorted(fault.doubtful))}" if fault.doubtful else ""
        unwritten, unwritten_code = f"{fault}; {fault.kept}{named}", max(fault.exit_code, ExitCode.FAILED)
        doubtful |= fault.doubtful
    actions = sorted((outcome.action for outcome in done.values()), key=lambda a: (STEPS[a.kind], a.job))
    outcomes = tuple(done[action.job] for action in actions)
    return Applied(work.plan._replace(actions=tuple(actions)), outcomes, doubtful, unwritten, unwritten_code, manifest)


def dry_run(
    place: Place, world: World, selection: Selection, saved: Plan | None, allowed: Mapping[str, int] = EMPTY
) -> tuple[Plan, str]:
    """The plan that an apply would carry out, and the endpoint that its calls would go to. Sends nothing."""
    if saved is not None:
        place = place._replace(paths=saved.paths)
    manifest = _manifest(place, world)
    state = open_store(place, world).read(manifest.target) or _empty(manifest.target)
    if saved is not None:
        _refuse_stale(saved, manifest, state)
    matching = _picked(manifest, state, selection)
    made = _allowing(saved or _make_plan(place, manifest, state, matching, selection, {}), allowed)
    refusal = _refusal(made, manifest, state)
    if refusal is not None:
        raise refusal
    return made, manifest.target.endpoint or "http://127.0.0.1:PORT/v1/customer"


def status(place: Place, world: World, parallelism: int = 10) -> list[JobStatus]:
    """Desired, recorded and observed of every declared or recorded job, sorted by name."""
    from reconciler.planner import match_records, prune
    from reconciler.refresh import observe_jobs

    manifest, _ = validate(place, world)
    state = open_store(place, world).read(manifest.target) or _empty(manifest.target)
    matching = prune(match_records(manifest.jobs, state.jobs), state.jobs)
    ids = [subject.job.id for subject in matching.subjects]
    with open_engine(manifest.target, place, world, ApplyOptions(parallelism=parallelism)) as engine:
        observed = observe_jobs(engine, ids, parallelism)
    rows = [
        JobStatus(s.job.name, s.job.state if s.keep else None, s.record, observed.get(s.job.id, NOT_OBSERVED))
        for s in matching.subjects
    ]
    return sorted(rows, key=lambda row: row.name)


def drift(place: Place, world: World, selection: Selection, parallelism: int = 10) -> "tuple[Drift, Manifest]":
    """What the service says of all declared and recorded jobs, compared with what is recorded; and the manifest.

    Raises `EngineError` where the service offers no reads.
    """
    from reconciler.drift import Drift, compare, in_order
    from reconciler.refresh import observe_jobs

    manifest = _manifest(place, world)
    state = open_store(place, world).read(manifest.target) or _empty(manifest.target)
    matching = _picked(manifest, state, selection._replace(prune=True))
    subjects = [subject for subject in matching.subjects if selection.takes(subject.job.name)]
    with open_engine(manifest.target, place, world, ApplyOptions(parallelism=parallelism)) as engine:
        observed = observe_jobs(engine, [subject.job.id for subject in subjects], parallelism)
    if any(seen.status is Status.NOT_OBSERVED for seen in observed.values()):
        raise EngineError(
            f"{manifest.target} offers no reads, so nobody can tell what differs from the record",
            "look there by other means; `reconciler state list` shows what is recorded",
        )
    findings = in_order([compare(subject, observed[subject.job.id]) for subject in subjects])
    paths = manifest_paths(place)
    return Drift(manifest.target, state.lineage, state.serial, commit_of(place), paths, findings), manifest


def review_of_drift(
    found: "Drift", manifest: "Manifest", place: Place, histories: "Mapping[str, Sequence[HistoryEntry]]" = EMPTY
) -> "Review":
    """The drift with where each job is declared; `histories` is as in `review`."""
    from reconciler.drift import review_drift

    return review_drift(found, manifest.position, histories, state_at=state_name(place))


def recorded(place: Place, world: World) -> State | None:
    """The state, its journal included; None where nothing was ever applied."""
    manifest, _ = validate(place, world)
    return open_store(place, world).read(manifest.target)


def forget(place: Place, world: World, name: str, lock_timeout_s: float) -> None:
    """Drop the record of a job; calls nothing.

    Raises `ReconcilerError` where it has none, `Refused` where a call is in doubt: no other record tells of that.
    """
    manifest, _ = validate(place, world)
    with open_store(place, world).open(manifest.target, "state forget", lock_timeout_s) as session:
        doubt = _record_of(session, name).doubt
        if doubt is not None:
            raise Refused(
                f"{name} has a call in doubt, which would be lost: {doubt.verb}, sent at {doubt.sent_at}",
                f"settle it first: apply, or reconciler resolve {name} --applied | --not-applied",
            )
        session.put(name, None)


def move(place: Place, world: World, old: str, new: str, lock_timeout_s: float) -> None:
    """Give a record another name; calls nothing. Raises `ReconcilerError` where that can not be."""
    manifest, _ = validate(place, world)
    with open_store(place, world).open(manifest.target, "state mv", lock_timeout_s) as session:
        _record_of(session, old)
        if session.record_of(new) is not None:
            raise ReconcilerError(f"{new} is on record already", "reconciler state show tells what it is")
        session.move({old: new})


def push(place: Place, world: World, text: bytes, where: str, lock_timeout_s: float) -> tuple[State, bool]:
    """Record the state in a file's bytes in place of an older one. Returns it, and whether that changed anything."""
    from reconciler.state.codec import decode

    manifest = _manifest(place, world)
    state = decode(text, where)
    return state, open_store(place, world).put(state, manifest.target, lock_timeout_s)


def accept(place: Place, world: World, lock_timeout_s: float) -> tuple[State, list[str]]:
    """Take the state as it stands as true. Returns it, and what was accepted."""
    manifest, _ = validate(place, world)
    return open_store(place, world).accept(manifest.target, lock_timeout_s)


def resolve(place: Place, world: World, name: str, was_applied: bool, why: str, lock_timeout_s: float) -> str:
    """Settle a call in doubt on a person's word. Returns what is then on record, in words.

    Without a call in doubt it is about a run that the record does not know: whether that was the
    one which the manifest asks for. The job is observed for that, which takes credentials.

    Who said it and why stays in the record until the next call. A first run that was not applied
    leaves no record to keep it in.
    """
    from reconciler.planner import settled

    manifest, _ = validate(place, world)
    says = f"says {who_acts(place, world)}" + (f": {why}" if why else "")
    word = "applied" if was_applied else "not applied"
    told = Told(APPLIED if was_applied else NOT_APPLIED, reason=why)
    with open_store(place, world).open(manifest.target, "resolve", lock_timeout_s) as session:
        record = _record_of(session, name)
        doubt = record.doubt
        if doubt is None:
            with open_engine(manifest.target, place, world, ApplyOptions()) as engine:
                observed = engine.observe(record.id)
            known, about = _resolved_run(name, record, manifest.jobs.get(name), observed, was_applied)
            said = f"{about} was {word}, {says}"
            about_it = told._replace(reason=f"{about}: {why}" if why else about)
            session.put(name, known._replace(resolved=said), "resolve", about_it)
            return f"{name}: {said}"
        said = f"{doubt.verb} sent at {doubt.sent_at} was {word}, {says}"
        after = settled(record, was_applied)
        session.conclude(doubt.op, name, after._replace(resolved=said) if after else None, said, told)
        return f"{name}: {said}"


def _resolved_run(
    name: str, record: Record, job: Job | None, observed: Observation, was_applied: bool
) -> tuple[Record, str]:
    """The record once it knows of the job's last run, and that run in words."""
    from reconciler.planner import applied, ran_since

    if not ran_since(record, observed):
        raise ReconcilerError(f"{name} has no call in doubt", "reconciler state list shows which have")
    about = f"the run that began at {observed.submitted_at}"
    if not was_applied:
        return record._replace(submitted_at=observed.run_began), about
    if job is None or job.id != record.id or job.state is not Desired.RUNNING:
        raise ReconcilerError(
            f"no run of {name} is asked for in the manifest, so none can have been applied",
            "--not-applied records the run without counting it",
        )
    return applied(job, record, Verb.RUN, observed.run_began), about


def read_plan(text: str, where: str) -> Plan:
    """The saved plan in a file. Raises `ReconcilerError` where it is none."""
    import json

    from reconciler.plan import plan_from_json
    from reconciler.schemas import explain, schema_text

    try:
        document = json.loads(text)
    except ValueError as fault:
        raise ReconcilerError(f"{where} is no saved plan: {fault}", "make one: reconciler plan --out FILE") from fault
    faults = list(explain(json.loads(schema_text("plan.schema.json")), document))
    if faults:
        path, _, message = faults[0]
        raise ReconcilerError(
            f"{where} is no saved plan: {'.'.join(map(str, path)) or 'the document'}: {message}",
            "make one: reconciler plan --out FILE",
        )
    return plan_from_json(document)


class _Work:
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
    ) -> None:
        self._place = place
        self._world = world
        self._options = options
        self._manifest = manifest
        self._session = session
        self._engine = engine
        self._confirm = confirm
        self._watch = watch
        self._remark = remark
        self._runs: dict[str, tuple[str, Evidence]] = {}
        self._done: Counter[str] = Counter()
        self._unwell = False
        """Whether something failed, or is in doubt since it was sent."""
        self._is_first = True
        """Whether what stops it now stops it before anything was done; later that only ends it."""
        self.plan: Plan

    def rounds(self, saved: Plan | None, selection: Selection) -> Iterator[list[ActionOutcome]]:
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
        import time

        from reconciler.recover import look, look_again

        doubtful = any(record.doubt for record in self._session.state.jobs.values())
        pending = look(self._session, self._engine.open(), time.monotonic) if doubtful else []
        matching = _picked(self._manifest, self._session.state, Selection(prune=True) if saved else selection)
        if saved is not None:
            _refuse_stale(saved, self._manifest, self._session.state)
        self.plan = _allowing(saved or self._planned(matching, selection), self._options.allowed)
        refusal = _refusal(self.plan, self._manifest, self._session.state)
        if refusal is not None:
            raise refusal
        yield self._confirmed(self.plan, matching)
        self._is_first = False
        if not pending or not self._goes_on:
            return
        self._remark(f"{len(pending)} in doubt: looking again after {self._options.settle_s:g} s")
        engine, settle_s, pause = self._engine.open(), self._options.settle_s, self._world.pause
        settled: set[str] = set()
        try:
            for name in look_again(pending, self._session, engine, settle_s, time.monotonic, pause):
                settled.add(name)
        except (CredentialsError, EngineError) as fault:
            self._remark(f"looking no further: {fault.message}")
        again = self._matching(selection)
        second = self._planned(again, selection)
        actions = tuple(a for a in second.actions if a.job in settled)
        if saved is None and actions and self._goes_on:
            second = second._replace(actions=actions)
            try:
                refusal = _refusal(second, self._manifest, self._session.state, self._done)
                if refusal is not None:
                    raise refusal
                yield self._confirmed(second, again)
            except Refused as why:
                yield _refused(second, why)

    def _in_turn(self, waiting: Iterable[ActionOutcome]) -> Iterator[list[ActionOutcome]]:
        """Wait for what has to complete first, and run what comes after it; no more than the plan showed."""
        import time

        left = {outcome.action.job: outcome.action for outcome in waiting}
        ends_s, pause_s = time.monotonic() + self._options.wait_s, 0.5
        while left and self._goes_on and (rest_s := ends_s - time.monotonic()) > 0:
            self._remark(f"waiting, {rest_s:.0f} s at most, to run {', '.join(sorted(left))}")
            try:
                ready = self._await_turn(left, ends_s, pause_s)
            except (CredentialsError, EngineError) as fault:
                self._remark(f"waiting no longer: {fault.message}")
                return
            if not ready:
                return
            plan = self.plan._replace(actions=tuple(left.pop(name) for name in ready))
            outcomes = self._carry_out(plan, self._matching(Selection(prune=True)))
            left |= {outcome.action.job: outcome.action for outcome in outcomes if outcome.waits}
            yield outcomes

    def _await_turn(self, waiting: Mapping[str, Action], ends_s: float, pause_s: float) -> list[str]:
        """The jobs whose turn has come, or can't come; none where time is up or a stop is asked for."""
        import time

        from reconciler.apply import is_stale, look_before
        from reconciler.planner import Order, decide

        engine = self._engine.open()
        subjects = self._matching(Selection(prune=True)).by_name
        while (rest_s := ends_s - time.monotonic()) > 0 and not self._world.pause(min(pause_s, rest_s)):
            pause_s = min(10.0, pause_s * 1.5)
            seen = look_before(engine, waiting, subjects, self._options.parallelism)
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
        return _matching(self._manifest, self._session.state, selection)

    def _planned(self, matching: "Matching", selection: Selection) -> Plan:
        state, allowed = self._session.state, self._options.allowed
        return _make_plan(self._place, self._manifest, state, matching, selection, {}, allowed)

    def _confirmed(self, plan: Plan, matching: "Matching") -> list[ActionOutcome]:
        from reconciler.apply import untouched
        from reconciler.planner import protection

        subjects = matching.by_name
        unknown = [action.job for action in plan.actions if action.job not in subjects]
        if unknown:
            raise _stale(f"it names {unknown[0]}, which is neither declared nor recorded")
        if plan.touches_anything:
            self._engine.open()
            self._confirm(plan)
            self._session.rests_on(plan_digest(plan), said_of_allowed(plan))
        self._session.move(matching.moves)
        # What is held goes by its new name too, as `resolve` is told it, and is protected as it says.
        held = [subjects[action.job] for action in plan.actions if action.kind is ActionKind.HOLD]
        records = {name: record for subject in held for name, record in protection(subject).items()}
        self._session.put_all(records, "protect", "as the manifest says")
        if not plan.touches_anything:
            return [untouched(action) for action in plan.actions]
        self._session.drop_spent(matching.spent)
        outcomes = self._carry_out(plan, matching)
        self._done += Counter(o.done for o in outcomes if o.outcome is not Outcome.SKIPPED)
        return outcomes

    def _carry_out(self, plan: Plan, matching: "Matching") -> list[ActionOutcome]:
        import time
        from itertools import count

        from reconciler.apply import Surroundings, carry_out, failed

        subjects = matching.by_name
        around = Surroundings(
            engine=self._engine.open(),
            session=self._session,
            call_for=wording_of(self._manifest.target),
            stop=self._world.stop,
            pause=self._world.pause,
            monotonic=time.monotonic,
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
                around,
                parallelism=options.parallelism,
                fail_fast=options.fail_fast,
                unwell=self._unwell,
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


def _manifest(place: Place, world: World, sources: "Sources | None" = None) -> "Manifest":
    """The manifest, with each suspension marked that is over by now. Raises `ManifestError`."""
    import time

    from reconciler.planner import lapsed

    manifest, _ = validate(place, world, sources)
    over = lapsed(manifest.jobs, time.time())
    return manifest._replace(jobs={**manifest.jobs, **over}, over=tuple(over)) if over else manifest


def _ids_to_read(matching: "Matching", selection: Selection) -> list[str]:
    """The engine job ids of what is selected and, wherever it stands, of what that comes after."""
    from reconciler.order import all_before

    ids = {subject.job.name: subject.job.id for subject in matching.subjects}
    after = {subject.job.name: subject.job.after for subject in matching.subjects if subject.job.after}
    chosen = [name for name in ids if selection.takes(name)]
    before = all_before(filter(after.__contains__, chosen), lambda name: after.get(name, ()))
    return [ids[name] for name in dict.fromkeys((*chosen, *sorted(before)))]


def _empty(target: Target) -> State:
    return State("", 0, target, {})


def _matching(manifest: "Manifest", state: State, selection: Selection) -> "Matching":
    from reconciler.planner import match_records, prune

    matching = match_records(manifest.jobs, state.jobs)
    return prune(matching, state.jobs) if selection.prune else matching


def _picked(manifest: "Manifest", state: State, selection: Selection) -> "Matching":
    """The same. Raises `ReconcilerError` where a --target matches no job, or --exclude leaves none."""
    matching = _matching(manifest, state, selection)
    names = [subject.job.name for subject in matching.subjects]
    for glob in selection.targets:
        if not any(map(selection._replace(targets=(glob,), excludes=()).takes, names)):
            raise ReconcilerError(f"--target {glob} matches no job", _ALL_NAMES)
    if selection.excludes and not any(map(selection.takes, names)):
        globs = " ".join(f"--exclude {glob}" for glob in selection.excludes)
        raise ReconcilerError(f"{globs} leaves no job", _ALL_NAMES)
    return matching


def _make_plan(
    place: Place,
    manifest: "Manifest",
    state: State,
    matching: "Matching",
    selection: Selection,
    observed: Mapping[str, Observation],
    allowed: Mapping[str, int] = EMPTY,
    *,
    provenance: bool = True,
) -> Plan:
    from reconciler.planner import make_plan

    made = make_plan(
        matching,
        observed,
        wording_of(manifest.target),
        selection.takes,
        state=state,
        manifest_digest=manifest.digest if provenance else "",
        commit=commit_of(place) if provenance else None,
        paths=manifest_paths(place),
    )
    narrowed = _narrowed(selection, len(made.actions), len(matching.subjects))
    return _allowing(made._replace(warnings=_warnings(made, manifest, state), narrowed=narrowed), allowed)


def _narrowed(selection: Selection, jobs: int, of: int) -> Narrowed | None:
    return Narrowed(jobs, of, selection.targets, selection.excludes) if jobs < of else None


def _warnings(plan: Plan, manifest: "Manifest", state: State) -> tuple[str, ...]:
    """What is said of a plan as a whole: suspensions that are over, and a manifest that lost most of its jobs."""
    from reconciler.guards import loss

    over = f"no longer suspended, for its time is over: {', '.join(manifest.over)}" if manifest.over else ""
    lost = loss(len(plan.undeclared), _recorded(state)) if plan.undeclared else ""
    return tuple(filter(None, (over, lost)))


def _recorded(state: State) -> int:
    """How many jobs are recorded and not gone for good."""
    return sum(record.state is not Desired.ABSENT for record in state.jobs.values())


def _allowing(plan: Plan, allowed: Mapping[str, int]) -> Plan:
    """The plan with more of a kind allowed."""
    if not allowed:
        return plan
    return plan._replace(allowed={**plan.allowed, **{k: max(n, plan.allowed.get(k, 0)) for k, n in allowed.items()}})


def _refusal(plan: Plan, manifest: "Manifest", state: State, done: Mapping[str, int] = EMPTY) -> Refused | None:
    """Why a guard refuses the plan, None where none does; `done` is what this apply did before."""
    if not manifest.guards and not plan.count_of(ActionKind.DELETE) + plan.count_of(ActionKind.FORGET):
        return None
    from reconciler.guards import check, check_loss
    from reconciler.planner import match_records

    try:
        check(plan, manifest.guards, len(state.jobs), done)
        declared = {job.id for job in manifest.jobs.values()}
        ends = (ActionKind.DELETE, ActionKind.FORGET)
        pruned = sum(action.kind in ends and action.id not in declared for action in plan.actions)
        if pruned:
            undeclared = len(match_records(manifest.jobs, state.jobs).undeclared)
            check_loss(plan, pruned, undeclared, _recorded(state))
    except Refused as refusal:
        return refusal
    return None


def _refused(plan: Plan, refusal: Refused) -> list[ActionOutcome]:
    """What comes of a plan that a guard refuses once others were carried out."""
    from reconciler.apply import untouched

    held = ActionKind.HOLD
    return [
        untouched(action)
        if action.kind in (ActionKind.HOLD, ActionKind.NOOP)
        else ActionOutcome(action, Outcome.SKIPPED, held, refusal.message)
        for action in plan.actions
    ]


def _refuse_stale(saved: Plan, manifest: "Manifest", state: State) -> None:
    if saved.target != manifest.target:
        raise _stale(f"it is for {saved.target}, and the manifest for {manifest.target}")
    if saved.manifest_digest != manifest.digest:
        raise _stale("the manifest is no longer the one that it was made from")
    # Where nothing was ever applied, a plan has no lineage to name; it is made with the first apply.
    if saved.lineage != (state.lineage if state.serial else ""):
        raise _stale("it was made from another state (the lineage differs)")
    if saved.serial != state.serial:
        raise _stale(f"it was made from serial {saved.serial} of the state, which is at {state.serial} now")


def _stale(why: str) -> Refused:
    return Refused(f"the saved plan is stale: {why}", "make a new one, review it, and apply that")


def _record_of(session: "Session", name: str) -> Record:
    record = session.record_of(name)
    if record is None:
        raise ReconcilerError(f"nothing is recorded of {name}", "reconciler state list shows the names")
    return record
