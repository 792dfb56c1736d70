"""The part of the contract of an engine about answers that are lost, and about programs that are killed."""

import random
import time
from pathlib import Path

import pytest

from reconciler.engines.port import AnswerClass, Engine, EnginePlugin, Reason, Result, Status, Step, Verb
from reconciler.model.jobs import State
from reconciler.state.registry import plugin_of
from reconciler.testing.amount import Amount
from reconciler.testing.caller import Errand, Point
from reconciler.testing.engine_base import (
    EngineUnderTest,
    about,
    await_status,
    gone,
    is_readable,
    prepare,
    run,
    send,
)
from reconciler.testing.machines import Machine
from reconciler.testing.programs import Program
from reconciler.testing.proxy import Fault
from reconciler.testing.services import Service, opened, step
from reconciler.testing.worker import TARGET

_DONE = {Verb.ABORT: {Reason.NOT_RUNNING, Reason.NO_SUCH_JOB}, Verb.DELETE: {Reason.NO_SUCH_JOB}}


class LostAnswerContract(EngineUnderTest):
    """Whatever is lost, an answer claims no more than is known, and a later look or a repeated call tells the rest."""

    @pytest.mark.parametrize("fault", [Fault.UNSENT, Fault.LOST, Fault.SLOW])
    def test_a_run_whose_answer_is_lost_is_in_doubt_or_known(
        self, engine_plugin: EnginePlugin, engine: Engine, service: Service, fault: Fault
    ) -> None:
        prepare(engine, service, "nightly")
        wanted = step(Verb.RUN, "nightly", config=service.config())
        wanted = wanted._replace(staged=engine.stage(wanted))
        with service.disturbed(fault) as block:
            if block is None:
                pytest.skip("there is no network between the engine and its service")
            with opened(engine_plugin, service, block) as disturbed:
                result = disturbed.send(wanted)
        started = service.runs("nightly")
        assert started <= 1
        _is_true(result, started)
        self._settles(engine, service, wanted, started)

    @pytest.mark.parametrize("fault", [Fault.UNSENT, Fault.LOST])
    @pytest.mark.parametrize("verb", [Verb.ABORT, Verb.DELETE])
    def test_an_abort_or_a_delete_whose_answer_is_lost_may_be_sent_again(
        self, engine_plugin: EnginePlugin, engine: Engine, service: Service, verb: Verb, fault: Fault
    ) -> None:
        ran = run(engine, service, "nightly")
        if verb is Verb.DELETE:
            service.end("nightly")
            if is_readable(engine, service):
                await_status(engine, "nightly", {Status.COMPLETE})
        wanted = about(engine, service, ran, verb)
        with service.disturbed(fault) as block:
            if block is None:
                pytest.skip("there is no network between the engine and its service")
            with opened(engine_plugin, service, block) as disturbed:
                first = disturbed.send(wanted)
        again = send(engine, wanted)
        assert AnswerClass.APPLIED in (first.kind, again.kind) or again.reason in _DONE[verb], (first, again)
        if is_readable(engine, service):
            ended = {Status.ABORTED, *gone(service)}
            assert await_status(engine, "nightly", ended).status in ended

    @pytest.mark.parametrize("point", list(Point))
    def test_a_program_that_is_killed_leaves_a_call_that_can_be_settled(
        self, engine: Engine, service: Service, point: Point, tmp_path: Path
    ) -> None:
        prepare(engine, service, "nightly")
        wanted = step(Verb.RUN, "nightly", config=service.config())
        state = self._killed(service, wanted, tmp_path, point)
        started = service.runs("nightly")
        if point in (Point.STAGED, Point.INTENDED, Point.SENDING):
            assert started == 0, f"the service has {started} runs, though no call has left"
        else:
            assert started == 1
        in_doubt = [] if state is None else [name for name, record in state.jobs.items() if record.doubt is not None]
        has_intent = point in (Point.INTENDED, Point.SENDING, Point.SENT)
        assert in_doubt == (["nightly"] if has_intent else [])
        self._settles(engine, service, wanted, started)

    def test_a_program_that_is_killed_while_it_sends_leaves_one_run_or_none(
        self, engine: Engine, service: Service, amount: Amount, tmp_path: Path
    ) -> None:
        moments = random.Random(1)  # noqa: S311  a test has to be repeatable
        for number in range(amount.kills):
            job_id, folder = f"job-{number}", tmp_path / f"kill-{number}"
            folder.mkdir()
            prepare(engine, service, job_id)
            wanted = step(Verb.RUN, job_id, config=service.config())
            self._killed(service, wanted, folder, Point.SENDING, after_s=moments.uniform(0.0, 0.05))
            self._settles(engine, service, wanted, None)

    def _killed(
        self, service: Service, wanted: Step, folder: Path, point: Point, after_s: float | None = None
    ) -> State | None:
        """Kill a program at a point of its call, or so many seconds after it. Return the state that it leaves."""
        path = folder / "jobs.state.json"
        errand = Errand(
            service.block, service.beside_state, wanted, str(path), str(folder), self.plugin, pause_at=point.value
        )
        with Program("reconciler.testing.caller", errand._asdict(), service.environment, str(folder)) as program:
            at = program.await_point(point)
            assert at.get("at") == point, at
            if after_s is not None:
                program.go_on()
                time.sleep(after_s)
            program.kill()
        around = Machine("reader", str(folder / "reader")).surroundings({})
        return plugin_of(str(path)).open(str(path), around).read(TARGET)

    def _settles(self, engine: Engine, service: Service, wanted: Step, started: int | None) -> None:
        """Settle a run in doubt as the engine's promises allow. There is one run at most, and it is known."""
        if started is None:
            # A request that has left may still arrive.
            time.sleep(0.5)
            started = service.runs(wanted.job_id)
            assert started <= 1
        if is_readable(engine, service):
            look = await_status(engine, wanted.job_id, {Status.ACTIVE} if started else _NOT_STARTED)
            assert (look.status is Status.ACTIVE) == bool(started), look
        if engine.promises.atomic_run:
            result = send(engine, wanted)
            assert service.runs(wanted.job_id) == 1, result
            assert result.kind is AnswerClass.APPLIED or (started and result.reason is Reason.WAS_THERE), result


_NOT_STARTED = frozenset({Status.MISSING, Status.DRAFT})


def _is_true(result: Result, started: int) -> None:
    match result.kind:
        case AnswerClass.APPLIED:
            assert started == 1, f"the engine says that the run was started, and it was not: {result}"
        case AnswerClass.NOT_SENT | AnswerClass.REJECTED:
            assert started == 0, f"the engine says that no run was started, and one was: {result}"
        case AnswerClass.IN_DOUBT:
            pass
