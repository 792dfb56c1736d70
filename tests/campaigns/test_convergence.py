"""A second plan after an apply is empty except for holds, with any manifest, records, service and answers."""

from collections.abc import Mapping
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from model_commands import STATE
from model_how import HONEST, Ended, How
from model_service import TARGET
from model_words import CONFIGS, FAULTS
from model_world import ModelWorld
from reconciler.engines.sandbox.life import Job as ServerJob
from reconciler.engines.sandbox.life import JobState, RunConfig
from reconciler.engines.sandbox.life import abort as server_abort
from reconciler.engines.sandbox.life import run as server_run
from reconciler.model.errors import ExitCode
from reconciler.model.jobs import Desired, Doubt, Evidence, Freeze, Job, OnConfigChange, Record, State, Status, Verb
from reconciler.model.outcomes import Outcome
from reconciler.model.plan import ActionKind
from reconciler.state import codec

EXAMPLES = 60
IDS = ("1", "2", "3", "4", "5", "6")


class Case(NamedTuple):
    """One manifest, its records, the jobs of the service, and the service's answers."""

    jobs: Mapping[str, Job]
    records: Mapping[str, Record]
    server: tuple[ServerJob, ...]
    reads: bool
    create_missing: bool
    tells_config: bool
    unreadable: frozenset[str]
    faults: tuple[str, ...]
    prune: bool

    def world(self) -> ModelWorld:
        world = ModelWorld(reads=self.reads, create_missing=self.create_missing, job_seconds=5000)
        world.tells_config = self.tells_config
        world.unreadable = self.unreadable
        for job in self.server:
            world.add_job(job)
        if self.records:
            world.disk.put(STATE, codec.encode(State("lineage", 1, TARGET, self.records)))
        world.declare(self.jobs)
        return world


CONFIG: st.SearchStrategy[RunConfig] = st.sampled_from((*CONFIGS, {}, {"isTestJob": True, "taskTimeout": 2**63 - 1}))
TOKENS = ("monday", "tuesday")
# Never, at the time that the simulated service reports, or at some other time.
BEGAN = st.sampled_from((None, None, "", "2023-11-14T22:13:20.000000Z", "2026-11-20T10:00:00Z"))
BEFORE = st.sampled_from(
    (
        None,
        Evidence(Status.DRAFT, "JOB_STATE_NEW"),
        Evidence(Status.ACTIVE, "JOB_STATE_RUNNING", "2026-11-20T10:00:00Z", {}),
        Evidence(Status.COMPLETE, "JOB_STATE_COMPLETE", "2026-11-20T10:00:00Z", {"JOB_STATE_COMPLETE": "then"}),
    )
)


@st.composite
def a_job(draw: st.DrawFn, name: str, job_id: str) -> Job:
    return Job(
        name,
        job_id,
        draw(st.sampled_from(Desired)),
        draw(CONFIG),
        draw(st.sampled_from((None, None, *TOKENS))),
        draw(st.sampled_from(OnConfigChange)),
        draw(st.sampled_from((None, None, False, True))),
        draw(st.sampled_from(({}, {"team": "media"}))),
        draw(st.sampled_from((None, None, None, None, Freeze("a freeze"), Freeze("it was", "", 0.0)))),
        draw(st.sampled_from(((), (), ("config.taskTimeout",)))),
    )


@st.composite
def a_record(draw: st.DrawFn, job_id: str) -> Record | None:
    kind = draw(st.sampled_from(("none", "sound", "sound", "sound", "doubt", "first doubt")))
    if kind == "none":
        return None
    doubt = None
    if "doubt" in kind:
        verb = draw(st.sampled_from(Verb))
        doubt = Doubt(
            f"op-{job_id}", verb, draw(CONFIG), draw(st.sampled_from((None, *TOKENS))), draw(BEFORE), "then", ""
        )
    state = None if kind == "first doubt" else draw(st.sampled_from(Desired))
    config = {} if state in (None, Desired.ABSENT) else draw(CONFIG)
    protect = draw(st.sampled_from((False, False, True)))
    tokens = frozenset(draw(st.sets(st.sampled_from(TOKENS))))
    return Record(job_id, state, config, tokens, draw(BEGAN), doubt, protect=protect)


@st.composite
def a_server_job(draw: st.DrawFn, job_id: str) -> ServerJob | None:
    """A job that has been in one status since its start, None if there is no such job."""
    word = draw(st.sampled_from((None, "deleted", *JobState)))
    if word is None:
        return None
    start = 1_700_000_000.0
    job = ServerJob(job_id, created_at=start)
    match word:
        case JobState.NEW:
            return job
        case "deleted":
            return job._replace(deleted_at=start)
        case JobState.RUNNING:
            return server_run(job, draw(CONFIG), start, 10**10)
        case JobState.ABORTED:
            return server_abort(server_run(job, draw(CONFIG), start, 10), start)
        case _:
            return server_run(job, draw(CONFIG), start, 10, "it broke" if word is JobState.FAILED else "")


@st.composite
def a_case(draw: st.DrawFn) -> Case:
    count = draw(st.integers(1, 6))
    names = [f"job-{number}" for number in range(6)]
    jobs = {name: draw(a_job(name, job_id)) for name, job_id in zip(names[:count], IDS, strict=False)}
    for number, name in enumerate(names[1:count], 1):  # a job comes only after earlier jobs, so there is no circle
        if draw(st.sampled_from((False, False, True))):
            jobs[name] = jobs[name]._replace(after=(draw(st.sampled_from(names[:number])),))
    records = {}
    for name, job_id in zip(names, IDS, strict=True):
        record = draw(a_record(job_id)) if name in jobs or draw(st.booleans()) else None
        if record is not None:
            renamed = draw(st.sampled_from((False, False, True)))
            records[f"old-{name}" if renamed else name] = record
    server = [draw(a_server_job(job_id)) for job_id in IDS[: count + 2]]
    faults = draw(
        st.lists(
            st.tuples(st.sampled_from(FAULTS), st.sampled_from((1, 2, 4)), st.sampled_from((0, 1))).map(
                lambda parts: f"{parts[0]}:times={parts[1]}:skip={parts[2]}"
            ),
            max_size=3,
        )
    )
    return Case(
        jobs,
        records,
        tuple(job for job in server if job is not None),
        reads=draw(st.sampled_from((True, True, False))),
        create_missing=draw(st.booleans()),
        tells_config=draw(st.sampled_from((True, True, False))),
        unreadable=frozenset(draw(st.sampled_from(((), (), (), ("1",), ("2", "3"))))),
        faults=tuple(faults),
        prune=draw(st.booleans()),
    )


def is_clean(ended: Ended) -> bool:
    """Whether an apply ended without a failure or a doubt."""
    return ended.exit_code in (ExitCode.DONE, ExitCode.REFUSED)


def check_quiet(world: ModelWorld, ended: Ended, *, prune: bool) -> None:
    """Check the rules right after an apply without a failure or a doubt."""
    world.check_plans(ended)
    state = world.disk.read(STATE)
    again = world.apply(prune=prune)
    assert again.changing == ()
    assert is_clean(again)
    assert world.disk.read(STATE) == state


def check_rest(world: ModelWorld, *, prune: bool) -> None:
    """Check that honest answers bring everything to rest, and that each doubt is settled or held by name."""
    last = world.come_to_rest(lambda: world.apply(prune=prune))
    for outcome in last.outcomes:
        record = world.record_of(outcome.action.id)
        if record is not None and record.doubt is not None:
            assert last.exit_code is ExitCode.IN_DOUBT
            assert outcome.done is ActionKind.HOLD
            for words in (outcome.action.job, record.doubt.verb, record.doubt.sent_at, "reconciler resolve"):
                assert words in outcome.action.reason


QUICK = settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    phases=(Phase.explicit, Phase.generate, Phase.shrink),
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.parametrize("number", range(3))
@pytest.mark.parametrize("honest", [True, False])
def test_a_second_plan_after_an_apply_is_empty_but_for_holds(honest: bool, number: int) -> None:
    @QUICK
    @seed(number)
    @given(a_case())
    def property_holds(case: Case) -> None:
        world = case.world()
        ended = world.apply(HONEST if honest else How(faults=case.faults), prune=case.prune)
        if is_clean(ended):
            check_quiet(world, ended, prune=case.prune)
        check_rest(world, prune=case.prune)

    property_holds()


@QUICK
@seed(3)
@given(a_case())
def test_a_second_refreshed_plan_after_applying_one_has_not_even_drift(case: Case) -> None:
    world = case._replace(reads=True).world()
    plan = world.plan(refresh=True, prune=case.prune)
    ended = world.apply(saved=plan)
    done = {o.action.job for o in ended.outcomes if o.outcome is Outcome.SUCCEEDED}
    again = world.plan(refresh=True, prune=case.prune)
    left = [a for a in again.actions if a.kind not in (ActionKind.NOOP, ActionKind.HOLD) and a.job in done]
    assert left == []
    settled_meanwhile = any(action.reason.startswith("in doubt") for action in plan.actions)
    if is_clean(ended) and not settled_meanwhile:
        assert world.apply(saved=again).changing == ()


def test_a_job_that_is_renamed_while_in_doubt_is_named_and_resolved_by_its_new_name() -> None:
    world = ModelWorld(create_missing=True, reads=False)
    world.declare({"old": Job("old", "1", Desired.RUNNING, {})})
    assert world.apply(How(faults=("run:503:after",))).exit_code is ExitCode.IN_DOUBT
    world.declare({"new": Job("new", "1", Desired.RUNNING, {})})
    ended = world.apply()
    assert ended.exit_code is ExitCode.IN_DOUBT
    assert "reconciler resolve new" in ended.outcomes[0].action.reason
    world.settle_doubt("new", applied=True)
    assert [action.kind for action in world.plan(refresh=False).actions] == [ActionKind.NOOP]
