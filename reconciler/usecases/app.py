"""The use cases. Nothing here prints or exits."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from reconciler.host.crash_report import error_line
from reconciler.model.commands import command, settling
from reconciler.model.errors import (
    EngineError,
    ExitCode,
    Halted,
    ManifestError,
    ReconcilerError,
    Refused,
    StateError,
    Usage,
)
from reconciler.model.history import APPLIED, NOT_APPLIED, Details
from reconciler.model.jobs import EMPTY, NOT_OBSERVED, Desired, Job, Observation, Record, State, Status, Verb, title
from reconciler.model.outcomes import ActionOutcome, Outcome
from reconciler.model.plan import STEPS, ActionKind, Plan
from reconciler.usecases.planning import (
    Selection,
    allowing,
    declared_at,
    empty,
    head_at,
    ids_to_read,
    made_again,
    names_of,
    opened,
    picked,
    place_of,
    plan_of,
    refusal_of,
    stale,
    validate,
)
from reconciler.usecases.wiring import (
    ApplyOptions,
    LazyEngine,
    Place,
    World,
    anchored,
    commit_of,
    located,
    lost_marks,
    manifest_paths,
    open_checkout,
    open_engine,
    open_store,
    state_name,
    who_acts,
)

if TYPE_CHECKING:
    from reconciler.manifest import Manifest
    from reconciler.model.history import HistoryEntry
    from reconciler.model.outcomes import Finished
    from reconciler.rules.drift import Drift
    from reconciler.rules.matching import Matching
    from reconciler.rules.naming import Meant
    from reconciler.rules.review import Review
    from reconciler.state.session import Session


_MAKE_A_PLAN = f"make one: {command('plan', options=['--out', 'FILE'])}"


class Applied(NamedTuple):
    """The end of an apply: the plan, and an outcome for each of its actions, in plan order.

    `doubtful` are all recorded jobs that are in doubt now. `unwritten` says why the state file could
    not be written, "" where it was; the journal has it all. `unwritten_code` is what that ends with.
    `unpushed` says why the files of the state could not be pushed, "" where they were, or were not to be.
    """

    plan: Plan
    outcomes: tuple[ActionOutcome, ...]
    doubtful: frozenset[str] = frozenset()
    unwritten: str = ""
    unwritten_code: ExitCode = ExitCode.FAILED
    manifest: "Manifest | None" = None
    unpushed: str = ""

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
        if self.unpushed:
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


def plan(
    place: Place,
    world: World,
    selection: Selection,
    *,
    refresh: bool,
    parallelism: int = 10,
    provenance: bool = True,
    allowed: Mapping[str, int] = EMPTY,
) -> Planned:
    """The plan of the manifest, and what it was made from. Writes nothing.

    Without `refresh` nothing is read from the service and no credentials are needed. Without
    `provenance` the plan does not say which manifest it was made from, which is quicker. `allowed` is as
    in `Plan`.
    """
    place, manifest = opened(place, world)
    losses: list[str] = []
    state = open_store(place, world, losses.append).read(manifest.target) or empty(manifest.target)
    matching = picked(manifest, state, selection)
    observed: Mapping[str, Observation] = {}
    if refresh:
        from reconciler.apply.observe import observe_jobs

        ids = ids_to_read(matching, selection)
        with open_engine(
            manifest.target, manifest.access, place, world, ApplyOptions(parallelism=parallelism)
        ) as engine:
            observed = observe_jobs(engine, ids, parallelism)
        _tell_of_no_reads(manifest, observed, world)
    made = plan_of(place, world, manifest, state, matching, selection, observed, allowed, provenance=provenance)
    made = made._replace(warnings=(*losses, *made.warnings))
    refusal = refusal_of(made, manifest, state, is_read=refresh)
    return Planned(made, refusal, manifest, state, matching, observed)


def review(planned: Planned, place: Place, histories: "Mapping[str, Sequence[HistoryEntry]]" = EMPTY) -> "Review":
    """The plan with all that is known of its jobs; `histories` holds what was done before, by engine job id."""
    from reconciler.rules.matching import prune
    from reconciler.rules.review import review_plan

    matching = prune(planned.matching, planned.state.jobs)
    review = review_plan(
        planned.plan,
        matching.subjects,
        planned.observed,
        planned.manifest.position,
        histories,
        state_at=state_name(located(place, planned.manifest.state)),
        refusal=planned.refusal,
    )
    drifted = [action for action in planned.plan.actions if action.drift]
    if not drifted:
        return review
    from reconciler.rules.drift import compare

    # The reason of such an action holds what to do as well, since a line of text has no other place for that.
    found = {title(one.job): compare(matching.by_name[one.job], planned.observed[one.id]) for one in drifted}
    rows = (
        row._replace(reason=found[row.job].reason, way_out=found[row.job].way_out) if row.job in found else row
        for row in review.rows
    )
    return review._replace(rows=tuple(rows))


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
    show_refused: Callable[[Plan], None] = lambda _: None,
) -> Applied:
    """Carry out the manifest's plan, or a saved one that still fits.

    `confirm` is shown each plan that calls anything and raises `Refused` where the answer is no; `show_refused` is
    shown the plan that a guard refuses, before that is raised;
    `watch` gets what has ended of a plan, as it ends, `remark` what else a person should know. Raises `Refused`
    (a guard, a stale plan, a taken lock) and the other errors of the tree only before the first call.
    """
    if saved is not None:
        place = place_of(saved, place, world)
    place, manifest = opened(place, world)
    checkout = open_checkout(place, world, options.push) if options.push else None
    if checkout is None:
        return _apply(place, world, selection, options, manifest, saved, confirm, watch, remark, show_refused)
    checkout.check()

    def announce(calls: int) -> None:
        try:
            checkout.announce(calls)
        except StateError as fault:
            raise type(fault)(f"nothing was sent: {fault.message}", fault.hint) from fault

    try:
        done = _apply(place, world, selection, options, manifest, saved, confirm, watch, remark, show_refused, announce)
    except ReconcilerError:
        # What was found out on the way may have changed the state.
        if trouble := checkout.conclude():
            remark(f"the state could not be pushed: {trouble}")
        raise
    trouble = checkout.conclude()
    return done._replace(unpushed=f"the state could not be pushed: {trouble}" if trouble else "")


def _apply(
    place: Place,
    world: World,
    selection: Selection,
    options: ApplyOptions,
    manifest: "Manifest",
    saved: Plan | None,
    confirm: Callable[[Plan], None],
    watch: Callable[[Plan, "Sequence[Finished]"], None],
    remark: Callable[[str], None],
    show_refused: Callable[[Plan], None],
    announce: Callable[[int], None] | None = None,
) -> Applied:
    """Apply, with the state where it lives; `announce` is as in `Rounds`."""
    from reconciler.state.journal import JournalBroken

    place = anchored(place)
    if trouble := lost_marks(place, world):
        remark(f"warning: {trouble}")
    done: dict[str, ActionOutcome] = {}
    doubtful: frozenset[str] = frozenset()
    unwritten, unwritten_code = "", ExitCode.FAILED
    session: Session | None = None
    try:
        with (
            open_store(place, world).open(manifest.target, "apply", options.lock_timeout_s) as session,
            LazyEngine(manifest.target, manifest.access, place, world, options) as engine,
        ):
            from reconciler.usecases.rounds import Rounds

            rounds = Rounds(place, world, options, manifest, session, engine, confirm, watch, remark, announce)
            try:
                for ended in rounds.go(saved, selection):
                    done |= {outcome.action.job: outcome for outcome in ended}
            except Refused as fault:
                if fault.allow and not done:
                    show_refused(rounds.plan)
                raise
            finally:
                # The exit code tells of each call in doubt, also where the journal can't be written any more.
                doubtful = session.doubtful
            for name in sorted(doubtful - done.keys()):
                look = command("state show", name)
                remark(f"{title(name)}, which this apply was not about, has a call in doubt: {look}")
    except JournalBroken as fault:
        if not done and session is not None and session.has_sent and not fault.is_unsent:
            raise Halted(f"{fault}; {fault.kept}", is_in_doubt=bool(fault.doubtful)) from fault
        if not done or fault.is_unsent:
            raise fault.changed(why=f"nothing was sent: {fault}") from fault
        named = f": {', '.join(sorted(fault.doubtful))}" if fault.doubtful else ""
        unwritten, unwritten_code = f"{fault}; {fault.kept}{named}", fault.exit_code_once_sent
        doubtful |= fault.doubtful
    except Exception as fault:
        if session is None or not session.has_sent:
            raise
        words = fault.message if isinstance(fault, ReconcilerError) else error_line(fault)
        raise Halted(words, is_in_doubt=bool(session.doubtful)) from fault
    actions = sorted((outcome.action for outcome in done.values()), key=lambda a: (STEPS[a.kind], a.job))
    outcomes = tuple(done[action.job] for action in actions)
    return Applied(
        rounds.plan._replace(actions=tuple(actions)), outcomes, doubtful, unwritten, unwritten_code, manifest
    )


def dry_run(
    place: Place, world: World, selection: Selection, saved: Plan | None, allowed: Mapping[str, int] = EMPTY
) -> tuple[Plan, str, Refused | None]:
    """The plan that an apply would carry out, the endpoint that its calls would go to, and why a guard refuses it.

    Sends nothing.
    """
    if saved is not None:
        place = place_of(saved, place, world)
    place, manifest = opened(place, world)
    state = open_store(place, world).read(manifest.target) or empty(manifest.target)
    if saved is not None:
        made = made_again(place, world, manifest, state, saved)
    else:
        matching = picked(manifest, state, selection)
        made = plan_of(place, world, manifest, state, matching, selection, {})
    made = allowing(made, allowed)
    refusal = refusal_of(made, manifest, state, is_read=False)
    return made, manifest.target.endpoint or "http://127.0.0.1:PORT/v1/customer", refusal


def status(place: Place, world: World, parallelism: int = 10) -> list[JobStatus]:
    """Desired, recorded and observed of every declared or recorded job, sorted by name."""
    from reconciler.apply.observe import observe_jobs
    from reconciler.rules.matching import match_records, prune

    place, manifest = opened(place, world)
    state = open_store(place, world).read(manifest.target) or empty(manifest.target)
    matching = prune(match_records(manifest.jobs, state.jobs), state.jobs)
    ids = [subject.job.id for subject in matching.subjects]
    with open_engine(manifest.target, manifest.access, place, world, ApplyOptions(parallelism=parallelism)) as engine:
        observed = observe_jobs(engine, ids, parallelism)
    _tell_of_no_reads(manifest, observed, world)
    rows = [
        JobStatus(s.job.name, s.job.state if s.keep else None, s.record, observed.get(s.job.id, NOT_OBSERVED))
        for s in matching.subjects
    ]
    return sorted(rows, key=lambda row: row.name)


def _tell_of_no_reads(manifest: "Manifest", observed: Mapping[str, Observation], world: World) -> None:
    """Say that nothing could be observed, so that nobody takes what is recorded for what was read."""
    if any(seen.status is Status.NOT_OBSERVED for seen in observed.values()):
        world.tell(
            f"{manifest.target} offers no reads, so no job was observed: if the service does offer them, look whether "
            "the path of the endpoint is right"
        )


def drift(place: Place, world: World, selection: Selection, parallelism: int = 10) -> "tuple[Drift, Manifest]":
    """What the service says of all declared and recorded jobs, compared with what is recorded; and the manifest.

    Raises `EngineError` where the service offers no reads.
    """
    from reconciler.apply.observe import observe_jobs
    from reconciler.rules.drift import Drift, compare, in_order

    place, manifest = opened(place, world)
    state = open_store(place, world).read(manifest.target) or empty(manifest.target)
    matching = picked(manifest, state, selection._replace(prune=True))
    takes = selection.among(names_of(matching))
    subjects = [subject for subject in matching.subjects if takes(subject.job.name)]
    with open_engine(manifest.target, manifest.access, place, world, ApplyOptions(parallelism=parallelism)) as engine:
        observed = observe_jobs(engine, [subject.job.id for subject in subjects], parallelism)
    if any(seen.status is Status.NOT_OBSERVED for seen in observed.values()):
        raise EngineError(
            f"{manifest.target} offers no reads, so what differs from the record can't be told",
            f"look there by other means; {command('state list')} shows what is recorded",
        )
    findings = in_order([compare(subject, observed[subject.job.id]) for subject in subjects])
    paths = manifest_paths(place)
    return Drift(manifest.target, state.lineage, state.serial, commit_of(place, world), paths, findings), manifest


def review_of_drift(
    found: "Drift", manifest: "Manifest", place: Place, histories: "Mapping[str, Sequence[HistoryEntry]]" = EMPTY
) -> "Review":
    """The drift with where each job is declared; `histories` is as in `review`."""
    from reconciler.rules.drift import review_drift

    return review_drift(found, manifest.position, histories, state_at=state_name(located(place, manifest.state)))


def recorded(place: Place, world: World) -> State | None:
    """The state as it stands, its journal included; None where nothing was ever applied."""
    place, head = head_at(place, world)
    return open_store(place, world).read(head.target)


def listed(place: Place, world: World) -> State | None:
    """The same, its records by the names that a plan gives them; each that the state has under another is told of."""
    from reconciler.rules.naming import named

    place, declared = declared_at(place, world)
    state = open_store(place, world).read(declared.target)
    if state is None:
        return None
    found = named(declared.ids or {}, state.jobs)
    for meant in found.values():
        _remark(world, meant)
    return state._replace(jobs={name: meant.record for name, meant in found.items()})


def forget(place: Place, world: World, job: str, lock_timeout_s: float) -> "tuple[Meant, str]":
    """Drop the record of a job; calls nothing. Returns it, and what the next plan does as the job is still declared.

    The latter is "" for a job that is not declared, or where the manifest can't be read.

    Raises `ReconcilerError` where it has none, `Refused` where a call is in doubt: no other record tells of that.
    """
    from reconciler.rules.naming import meant_by

    place, declared = declared_at(place, world)
    with open_store(place, world).open(declared.target, "state forget", lock_timeout_s) as session:
        meant = meant_by(job, declared.ids, session.state.jobs)
        _remark(world, meant)
        doubt = meant.record.doubt
        if doubt is not None:
            raise Refused(
                f"{title(meant.name)} has a call in doubt, which would be lost: {_call_of(meant)}",
                f"settle it first: {command('apply')}, or {settling(meant.name)}",
            )
        session.put(meant.key, None)
    return meant, _planned_unrecorded(place, world, meant.name)


def _planned_unrecorded(place: Place, world: World, name: str) -> str:
    """What a plan does about a declared job without a record, in words; "" where it is not declared."""
    from reconciler.rules.decide import decide
    from reconciler.rules.matching import Subject

    try:
        manifest, _ = validate(place, world)
    except ManifestError:
        return ""
    if name not in manifest.jobs:
        return ""
    job = manifest.jobs[name]
    kind = decide(Subject(job, None), NOT_OBSERVED).kind
    planned = "leaves it alone" if kind is ActionKind.NOOP else f"is to {kind} it"
    return f"{manifest.position(name)}: {title(name)} is still declared {job.state}: the next plan {planned}"


def move(place: Place, world: World, old: str, new: str, lock_timeout_s: float) -> "Meant":
    """Give a record another name, and return what it was; calls nothing.

    Raises `ReconcilerError` where it has none, or where the name is none, or that of another record.
    """
    from reconciler.manifest.faults import job_fault
    from reconciler.rules.naming import meant_by, named

    place, declared = declared_at(place, world)
    with open_store(place, world).open(declared.target, "state mv", lock_timeout_s) as session:
        records = session.state.jobs
        meant = meant_by(old, declared.ids, records)
        _remark(world, meant)
        if fault := job_fault(new, {"id": meant.record.id, "state": "running"}):
            raise ReconcilerError(f'no job can be called "{new}": {fault}', "give it another name")
        taken = new in records or new in named(declared.ids or {}, records).keys() - {meant.name}
        if taken:
            raise ReconcilerError(f"{new} is recorded already", f"{command('state show', new)} tells what it is")
        session.move({meant.key: new})
    return meant


def _remark(world: World, meant: "Meant") -> None:
    """Say so where the state knows the record by another name than a plan does."""
    if meant.remark:
        world.tell(meant.remark)


def _call_of(meant: "Meant") -> str:
    """The call in doubt in words: what was sent, about which engine job, when."""
    doubt = meant.record.doubt
    assert doubt is not None
    return f"{doubt.verb} of the engine job {meant.record.id}, sent at {doubt.sent_at}"


def push(place: Place, world: World, text: bytes, where: str, lock_timeout_s: float) -> tuple[State, bool]:
    """Record the state in a file's bytes in place of an older one. Returns it, and whether that changed anything."""
    from reconciler.state.codec import decode

    place, head = head_at(place, world)
    state = decode(text, where)
    return state, open_store(place, world).put(state, head.target, lock_timeout_s)


def accept(place: Place, world: World, lock_timeout_s: float, moved_to: str | None = None) -> tuple[State, list[str]]:
    """Take the state as it stands as true. Returns it, and what was accepted.

    `moved_to` is the address of the service that the state is for from now on, said by a person who knows that the
    service moved there; for an embedded sandbox it is `sandbox`. Raises `StateError` where the state is for another
    target and nothing is said, `Refused` where what is said is not the target of the manifest, `Usage` where there is
    nothing to accept.
    """
    from reconciler.model.endpoints import normalize_endpoint

    place, head = head_at(place, world)
    target = head.target
    address = target.endpoint or target.engine
    if moved_to is not None and address not in (moved_to, normalize_endpoint(moved_to)):
        raise Refused(
            f"--moved-to names {moved_to}, and the manifest is for {target}",
            "name the service in the manifest first, or with --endpoint",
        )
    store = open_store(place, world)
    try:
        is_empty = store.read(target) is None
    except ReconcilerError:  # what is wrong there is what may be accepted
        is_empty = False
    if is_empty:
        raise Usage(f"{store.where} is not there, so there is nothing to accept", f"{command('apply')} makes a state")
    return store.accept(target, lock_timeout_s, has_moved=moved_to is not None)


def resolve(place: Place, world: World, job: str, was_applied: bool, why: str, lock_timeout_s: float) -> str:
    """Settle a call in doubt on a person's word. Returns what is then recorded, in words.

    The job is the one that a plan calls so; which call it is about is told before anything is written.
    Without a call in doubt it is about a run that the record does not know: whether that was the
    one which the manifest asks for. The job is observed for that, which takes credentials.

    Who said it and why stays in the record until the next call. A first run that was not applied
    leaves no record to keep it in.
    """
    from reconciler.rules.naming import meant_by, refuse_guess
    from reconciler.rules.records import settled

    place, declared = declared_at(place, world)
    says = f"says {who_acts(place, world)}" + (f": {why}" if why else "")
    word = "applied" if was_applied else "not applied"
    details = Details(APPLIED if was_applied else NOT_APPLIED, reason=why)
    with open_store(place, world).open(declared.target, "resolve", lock_timeout_s) as session:
        records = session.state.jobs
        meant = meant_by(job, declared.ids, records)
        if declared.ids is None:
            refuse_guess(job, meant, records)
        _remark(world, meant)
        doubt = meant.record.doubt
        if doubt is None:
            manifest, _ = validate(place, world)
            with open_engine(manifest.target, manifest.access, place, world, ApplyOptions()) as engine:
                observed = engine.observe(meant.record.id)
            known, about = _resolved_run(meant, manifest.jobs.get(meant.name), observed, was_applied)
            said = f"{about} was {word}, {says}"
            world.tell(f"settling {about} of {title(meant.name)} (engine job {meant.record.id})")
            about_it = details._replace(reason=f"{about}: {why}" if why else about)
            session.put(meant.key, known._replace(resolved=said), "resolve", about_it)
            return f"{title(meant.name)}: {said}"
        said = f"{doubt.verb} sent at {doubt.sent_at} was {word}, {says}"
        world.tell(f"settling the call in doubt of {title(meant.name)}: {_call_of(meant)}")
        after = settled(meant.record, was_applied)
        session.conclude(doubt.op, meant.key, after._replace(resolved=said) if after else None, said, details)
        return f"{title(meant.name)}: {said}"


def _resolved_run(meant: "Meant", job: Job | None, observed: Observation, was_applied: bool) -> tuple[Record, str]:
    """The record once it knows of the job's last run, and that run in words."""
    from reconciler.rules.records import applied, ran_since

    record = meant.record
    if not ran_since(record, observed):
        raise ReconcilerError(
            f"{title(meant.name)} (engine job {record.id}) has no call in doubt",
            f"{command('state list')} shows which have",
        )
    about = f"the run that began at {observed.submitted_at}"
    if not was_applied:
        return record._replace(submitted_at=observed.run_began), about
    if job is None or job.id != record.id or job.state is not Desired.RUNNING:
        raise ReconcilerError(
            f"no run of {title(meant.name)} is asked for in the manifest, so none can have been applied",
            "--not-applied records the run without counting it",
        )
    return applied(job, record, Verb.RUN, observed.run_began), about


def read_plan(text: str, where: str) -> Plan:
    """The saved plan in a file. Raises `ReconcilerError` where it is none."""
    import json

    from reconciler.manifest.schema import Validator, schema_text
    from reconciler.model.plan_json import plan_from_json, plan_to_json

    try:
        document = json.loads(text, object_pairs_hook=_each_key_once)
    except (ValueError, RecursionError) as fault:
        raise ReconcilerError(f"{where} is no saved plan: {fault}", _MAKE_A_PLAN) from fault
    for path, _, message in Validator(json.loads(schema_text("plan.schema.json"))).refusals(document):
        raise ReconcilerError(
            f"{where} is no saved plan: {'.'.join(map(str, path)) or 'the document'}: {message}",
            _MAKE_A_PLAN,
        )
    plan = plan_from_json(document)
    document.pop("refused", None)
    if json.dumps(plan_to_json(plan), sort_keys=True) != json.dumps(document, sort_keys=True):
        raise stale(f"{where} was edited: its parts contradict each other")
    return plan


def _each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON. Of a key that stands there twice, one reader sees the first value and another the last."""
    document = dict(pairs)
    if len(document) < len(pairs):
        raise ValueError("a field stands there twice")
    return document
