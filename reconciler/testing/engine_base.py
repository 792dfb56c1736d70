"""What the parts of the contract of an engine share: fixtures, states to reach, and looks at what came of a call."""

import time
from collections.abc import Collection, Iterator

import pytest

from reconciler.engines.port import AnswerClass, Engine, EnginePlugin, Observation, Result, Status, Step, Verb
from reconciler.testing.amount import Amount, amount_in
from reconciler.testing.caller import engine_plugin_at
from reconciler.testing.services import Service, opened, step

SETTLES_WITHIN_S = 30.0
"""How long a service may take to show what a call has done."""

ENDED = (Status.COMPLETE, Status.FAILED, Status.ABORTED)

REACHABLE = (Status.MISSING, Status.DRAFT, Status.ACTIVE, *ENDED)
"""The statuses that a test can bring a job to."""

_LOOK_EVERY_S = 0.05


class EngineUnderTest:
    """The part of the suite for engines that an author fills in. An author has to provide the fixture `service`."""

    plugin = ""
    """`MODULE:NAME` of the plugin. "" finds the plugin by `engine` of the block, as the tool does."""

    @pytest.fixture
    def service(self) -> Service:
        """An empty service, which no other test uses."""
        raise NotImplementedError(f"{type(self).__name__} needs a fixture `service`, see reconciler.testing.services")

    @pytest.fixture
    def amount(self) -> Amount:
        """How much of the suite runs; see `reconciler.testing.amount`."""
        return amount_in()

    @pytest.fixture
    def engine_plugin(self, service: Service) -> EnginePlugin:
        """The plugin of the engine."""
        return engine_plugin_at(self.plugin, service.block["engine"])

    @pytest.fixture
    def engine(self, engine_plugin: EnginePlugin, service: Service) -> Iterator[Engine]:
        """The engine of the service."""
        with opened(engine_plugin, service) as engine:
            yield engine


def needs(engine: Engine, promise: str) -> None:
    """Skip the test unless the engine makes a promise. The reason of the skip names the promise."""
    if not getattr(engine.promises, promise):
        pytest.skip(f"the engine does not promise {promise}")


def needs_reads(engine: Engine, service: Service) -> None:
    """Skip the test unless the engine can observe jobs of this service."""
    needs(engine, "reads")
    if not service.reads:
        pytest.skip("this service offers no reads")


def prepare(engine: Engine, service: Service, *job_ids: str) -> None:
    """Make jobs ready for their first run."""
    if not engine.promises.creates_on_run and not service.knows_every_id:
        for job_id in job_ids:
            service.create(job_id)


def send(engine: Engine, wanted: Step) -> Result:
    """Stage and send a call, as an apply does."""
    return engine.send(wanted._replace(staged=engine.stage(wanted)))


def run(engine: Engine, service: Service, job_id: str, number: int = 1, *, fails: bool = False) -> Step:
    """Prepare and run a job. Return the call, which was applied."""
    prepare(engine, service, *([job_id] if number == 1 else []))
    wanted = step(Verb.RUN, job_id, number, service.config(fails=fails))
    result = send(engine, wanted)
    assert result.kind is AnswerClass.APPLIED, result
    return wanted


def reach(engine: Engine, service: Service, job_id: str, status: Status) -> None:
    """Bring a job to a status, by a first run where one is needed. Skips the test if this engine has no such status."""
    match status:
        case Status.MISSING:
            if service.knows_every_id:
                pytest.skip("this service knows every id")
        case Status.DRAFT:
            if engine.promises.creates_on_run:
                pytest.skip("the engine promises creates_on_run, so no job is there before its first run")
            prepare(engine, service, job_id)
        case Status.ACTIVE:
            run(engine, service, job_id)
        case Status.ABORTED:
            first = run(engine, service, job_id)
            # A service may take a moment to begin a run that it has accepted, and count what has begun.
            assert service.runs(job_id) == 1
            result = send(engine, about(engine, service, first, Verb.ABORT))
            assert result.kind is AnswerClass.APPLIED, result
        case _:
            run(engine, service, job_id, fails=status is Status.FAILED)
            service.end(job_id)
    if is_readable(engine, service):
        look = await_status(engine, job_id, {status})
        assert look.status is status, look


def about(engine: Engine, service: Service, ran: Step, verb: Verb) -> Step:
    """Return an abort or a delete of a run, with the handle that an observation gives."""
    seen = engine.observe(ran.job_id, ran.run_id).ref if is_readable(engine, service) else ""
    marks = ran.marks._replace(op=f"{ran.marks.op}-{verb}")
    return Step(verb, ran.job_id, ran.run_id, seen=seen, marks=marks)


def is_readable(engine: Engine, service: Service) -> bool:
    """Return whether observations tell anything about jobs of this service."""
    return engine.promises.reads and service.reads


def gone(service: Service) -> Collection[Status]:
    """Return the statuses that a job may have once the service has nothing of it any more."""
    return {Status.MISSING, Status.DRAFT} if service.knows_every_id else {Status.MISSING}


def await_status(engine: Engine, job_id: str, wanted: Collection[Status], run_id: str = "") -> Observation:
    """Observe a job until it has one of these statuses, or the time is over. Return the last observation."""
    until_s = time.monotonic() + SETTLES_WITHIN_S
    while True:
        look = engine.observe(job_id, run_id)
        if look.status in wanted or time.monotonic() > until_s:
            return look
        time.sleep(_LOOK_EVERY_S)
