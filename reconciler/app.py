"""The use cases. Nothing here prints or exits."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from reconciler.errors import ExitCode, ReconcilerError, Refused, StateError
from reconciler.jobs import EMPTY, NOT_OBSERVED, Desired, Job, Observation, Record, State, Target, Verb
from reconciler.plan import STEPS, ActionKind, ActionOutcome, Outcome, Plan
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
    user_of,
    wording_of,
)

if TYPE_CHECKING:
    from reconciler.events import Event
    from reconciler.history import HistoryEntry
    from reconciler.manifest import Manifest
    from reconciler.planner import Matching
    from reconciler.review import Review
    from reconciler.state.session import Session


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
    not be written, "" where it was; the journal has it all.
    """

    plan: Plan
    outcomes: tuple[ActionOutcome, ...]
    doubtful: frozenset[str] = frozenset()
    unwritten: str = ""
    manifest: "Manifest | None" = None

    @property
    def exit_code(self) -> ExitCode:
        """Doubt weighs more than failure, failure more than a hold."""
        found = {outcome.outcome for outcome in self.outcomes}
        if Outcome.IN_DOUBT in found or self.doubtful:
            return ExitCode.IN_DOUBT
        if Outcome.FAILED in found or self.unwritten:
            return ExitCode.FAILED
        if any(outcome.done is ActionKind.HOLD for outcome in self.outcomes):
            return ExitCode.REFUSED
        return ExitCode.DONE


class Planned(NamedTuple):
    """A plan, and what it was made from.

    `refusal` is that of a guard, None where none refuses. `observed` maps engine job ids to what was
    read; it is empty where nothing was.
    """

    plan: Plan
    refusal: ReconcilerError | None
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


def validate(place: Place, world: World) -> "tuple[Manifest, int]":
    """The manifest, and how many files it is made of. Raises `ManifestError`."""
    from reconciler.manifest import parse
    from reconciler.sources import read_sources

    sources = read_sources(manifest_paths(place))
    manifest = parse(sources, memory_of(place, world))
    return manifest._replace(target=target_of(manifest.target, place)), len(sources)


def plan(
    place: Place, world: World, selection: Selection, *, refresh: bool, parallelism: int = 10, provenance: bool = True
) -> Planned:
    """The plan, and what it was made from. Writes nothing.

    Without `refresh` nothing is read from the service and no credentials are needed. Without
    `provenance` the plan does not say which manifest it was made from, which is quicker.
    """
    manifest, _ = validate(place, world)
    state = open_store(place, world).read(manifest.target) or _empty(manifest.target)
    matching = _matching(manifest, state, selection)
    observed: Mapping[str, Observation] = {}
    if refresh:
        from reconciler.refresh import observe_jobs

        ids = [subject.job.id for subject in matching.subjects if selection.takes(subject.job.name)]
        with open_engine(manifest.target, place, world, ApplyOptions(parallelism=parallelism)) as engine:
            observed = observe_jobs(engine, ids, parallelism)
    made = _make_plan(place, manifest, state, matching, selection, observed, provenance=provenance)
    return Planned(made, _refusal(made, manifest, state), manifest, state, matching, observed)


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
    watch: Callable[[Plan, "Event"], None],
    remark: Callable[[str], None],
) -> Applied:
    """Carry out the manifest's plan, or a saved one that still fits.

    `confirm` is shown each plan that calls anything and raises `Refused` where the answer is no;
    `watch` gets the events of an apply, `remark` what else a person should know. Raises `Refused`
    (a guard, a stale plan, a taken lock) and the other errors of the tree only before the first call.
    """
    from reconciler.state.journal import JournalBroken

    if saved is not None:
        place = place._replace(paths=saved.paths)
    manifest, _ = validate(place, world)
    done: dict[str, ActionOutcome] = {}
    doubtful: frozenset[str] = frozenset()
    unwritten = ""
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
        if not done:
            raise StateError(f"nothing was sent: {fault}", "make room or mend the disk, and apply again") from fault
        unwritten = f"{fault}; the journal beside it has what was done: mend the disk, and apply again"
    actions = sorted((outcome.action for outcome in done.values()), key=lambda a: (STEPS[a.kind], a.job))
    outcomes = tuple(done[action.job] for action in actions)
    return Applied(work.plan._replace(actions=tuple(actions)), outcomes, doubtful, unwritten, manifest)


def dry_run(place: Place, world: World, selection: Selection, saved: Plan | None) -> tuple[Plan, str]:
    """The plan that an apply would carry out, and the endpoint that its calls would go to. Sends nothing."""
    if saved is not None:
        place = place._replace(paths=saved.paths)
    manifest, _ = validate(place, world)
    state = open_store(place, world).read(manifest.target) or _empty(manifest.target)
    if saved is not None:
        _refuse_stale(saved, manifest, state)
    matching = _matching(manifest, state, selection)
    made = saved or _make_plan(place, manifest, state, matching, selection, {})
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


def recorded(place: Place, world: World) -> State | None:
    """The state, its journal included; None where nothing was ever applied."""
    manifest, _ = validate(place, world)
    return open_store(place, world).read(manifest.target)


def forget(place: Place, world: World, name: str, lock_timeout_s: float) -> None:
    """Drop the record of a job; calls nothing. Raises `ReconcilerError` where it has none."""
    manifest, _ = validate(place, world)
    with open_store(place, world).open(manifest.target, "state forget", lock_timeout_s) as session:
        _record_of(session, name)
        session.put(name, None)


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
    says = f"says {user_of(world.env)}" + (f": {why}" if why else "")
    word = "applied" if was_applied else "not applied"
    with open_store(place, world).open(manifest.target, "resolve", lock_timeout_s) as session:
        record = _record_of(session, name)
        doubt = record.doubt
        if doubt is None:
            with open_engine(manifest.target, place, world, ApplyOptions()) as engine:
                observed = engine.observe(record.id)
            known, about = _resolved_run(name, record, manifest.jobs.get(name), observed, was_applied)
            said = f"{about} was {word}, {says}"
            session.put(name, known._replace(resolved=said))
            return f"{name}: {said}"
        said = f"{doubt.verb} sent at {doubt.sent_at} was {word}, {says}"
        after = settled(record, was_applied)
        session.conclude(doubt.op, name, after._replace(resolved=said) if after else None, said)
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
        watch: "Callable[[Plan, Event], None]",
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
        self.plan: Plan

    def rounds(self, saved: Plan | None, selection: Selection) -> Iterator[list[ActionOutcome]]:
        """The outcomes of the plan, then those of the jobs whose doubt was settled meanwhile.

        A doubt takes two looks, some time apart. The jobs without one do not wait for it.
        """
        import time

        from reconciler.recover import look, look_again

        doubtful = any(record.doubt for record in self._session.state.jobs.values())
        pending = look(self._session, self._engine.open(), time.monotonic) if doubtful else []
        matching = self._matching(Selection(prune=True) if saved else selection)
        if saved is not None:
            _refuse_stale(saved, self._manifest, self._session.state)
        self.plan = saved or self._planned(matching, selection)
        yield self._carry_out(self.plan, matching)
        if not pending or self._world.stop.is_set():
            return
        self._remark(f"{len(pending)} in doubt: looking again after {self._options.settle_s:g} s")
        engine, settle_s = self._engine.open(), self._options.settle_s
        known = set(look_again(pending, self._session, engine, settle_s, time.monotonic, self._world.pause))
        again = self._matching(selection)
        second = self._planned(again, selection)
        actions = tuple(a for a in second.actions if a.job in known)
        if saved is None and actions and not self._world.stop.is_set():
            yield self._carry_out(second._replace(actions=actions), again)

    def _matching(self, selection: Selection) -> "Matching":
        return _matching(self._manifest, self._session.state, selection)

    def _planned(self, matching: "Matching", selection: Selection) -> Plan:
        return _make_plan(self._place, self._manifest, self._session.state, matching, selection, {})

    def _carry_out(self, plan: Plan, matching: "Matching") -> list[ActionOutcome]:
        import time
        from itertools import count

        from reconciler.apply import Surroundings, carry_out, untouched
        from reconciler.events import Finished

        refusal = _refusal(plan, self._manifest, self._session.state)
        if refusal is not None:
            raise refusal
        subjects = {subject.job.name: subject for subject in matching.subjects}
        if not plan.touches_anything:
            # What is held goes by its new name too, as `resolve` is told it.
            self._session.move(matching.moves)
            return [untouched(action) for action in plan.actions]
        unknown = [action.job for action in plan.actions if action.job not in subjects]
        if unknown:
            raise _stale(f"it names {unknown[0]}, which is neither declared nor recorded")
        engine = self._engine.open()
        self._confirm(plan)
        self._session.move(matching.moves)
        self._session.drop_spent(matching.spent)
        around = Surroundings(
            engine=engine,
            session=self._session,
            call_for=wording_of(self._manifest.target),
            stop=self._world.stop,
            pause=self._world.pause,
            monotonic=time.monotonic,
            now=now,
            new_op=map(f"{fresh_id()}.{{}}".format, count()).__next__,
        )
        outcomes = []
        options = self._options
        for event in carry_out(plan, subjects, around, parallelism=options.parallelism, fail_fast=options.fail_fast):
            self._watch(plan, event)
            if isinstance(event, Finished):
                outcomes.append(event.outcome)
        return outcomes


def _empty(target: Target) -> State:
    return State("", 0, target, {})


def _matching(manifest: "Manifest", state: State, selection: Selection) -> "Matching":
    from reconciler.planner import match_records, prune

    matching = match_records(manifest.jobs, state.jobs)
    if selection.prune:
        matching = prune(matching, state.jobs)
    for glob in selection.targets:
        if not any(selection._replace(targets=(glob,), excludes=()).takes(s.job.name) for s in matching.subjects):
            raise ReconcilerError(f"--target {glob} matches no job", "reconciler status shows the names")
    return matching


def _make_plan(
    place: Place,
    manifest: "Manifest",
    state: State,
    matching: "Matching",
    selection: Selection,
    observed: Mapping[str, Observation],
    *,
    provenance: bool = True,
) -> Plan:
    from reconciler.planner import make_plan

    return make_plan(
        matching,
        observed,
        wording_of(manifest.target),
        selection.takes,
        state=state,
        manifest_digest=manifest.digest if provenance else "",
        commit=commit_of(place) if provenance else None,
        paths=manifest_paths(place),
    )


def _refusal(plan: Plan, manifest: "Manifest", state: State) -> Refused | None:
    if not manifest.guards:
        return None
    from reconciler.guards import check

    try:
        check(plan, manifest.guards, len(state.jobs))
    except Refused as refusal:
        return refusal
    return None


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
