"""The contract of an engine whose runs may wait for each other: a run begins once the others have completed."""

import time
from collections.abc import Callable

from reconciler.engines.port import AnswerClass, Engine, Status, Step, Verb
from reconciler.testing.engine_base import EngineUnderTest, await_status, needs, prepare, run, send
from reconciler.testing.services import Service, step

_STARTS_WITHIN_S = 60.0
_LOOK_EVERY_S = 0.05


class ChainContract(EngineUnderTest):
    """The part of the contract of an engine that is about `chains`."""

    def test_a_run_begins_once_the_runs_that_it_comes_after_have_completed(
        self, engine: Engine, service: Service
    ) -> None:
        needs(engine, "chains")
        _run_first(engine, service, "extract", "clean")
        _run_after(engine, service, "load", "extract", "clean")
        service.end("extract")
        assert await_status(engine, "extract", {Status.COMPLETE}).status is Status.COMPLETE
        assert engine.observe("load").status is Status.ACTIVE
        assert service.runs("load") == 0
        service.end("clean")
        assert _comes_true(lambda: service.runs("load") == 1)
        service.end("load")
        assert await_status(engine, "load", {Status.COMPLETE}).status is Status.COMPLETE

    def test_a_run_is_withdrawn_if_one_that_it_comes_after_does_not_complete(
        self, engine: Engine, service: Service
    ) -> None:
        needs(engine, "chains")
        _run_first(engine, service, "extract", fails=True)
        _run_after(engine, service, "load", "extract")
        service.end("extract")
        assert await_status(engine, "load", {Status.WITHDRAWN}).status is Status.WITHDRAWN
        assert service.runs("load") == 0
        run(engine, service, "load", 2)
        assert service.runs("load") == 1

    def test_a_run_that_waits_for_others_is_aborted_without_having_begun(
        self, engine: Engine, service: Service
    ) -> None:
        needs(engine, "chains")
        _run_first(engine, service, "extract")
        waits = _run_after(engine, service, "load", "extract")
        assert service.runs("load") == 0
        seen = engine.observe("load").ref
        abort = Step(Verb.ABORT, "load", waits.run_id, seen=seen, marks=waits.marks._replace(op="abort"))
        assert send(engine, abort).kind is AnswerClass.APPLIED
        assert await_status(engine, "load", {Status.ABORTED}).status is Status.ABORTED
        service.end("extract")
        assert await_status(engine, "extract", {Status.COMPLETE}).status is Status.COMPLETE
        assert engine.observe("load").status is Status.ABORTED
        assert service.runs("load") == 0

    def test_a_run_may_come_after_one_that_has_completed(self, engine: Engine, service: Service) -> None:
        needs(engine, "chains")
        _run_first(engine, service, "extract")
        service.end("extract")
        assert await_status(engine, "extract", {Status.COMPLETE}).status is Status.COMPLETE
        _run_after(engine, service, "load", "extract")
        assert _comes_true(lambda: service.runs("load") == 1)


def _run_first(engine: Engine, service: Service, *job_ids: str, fails: bool = False) -> None:
    for job_id in job_ids:
        run(engine, service, job_id, fails=fails)
        assert await_status(engine, job_id, {Status.ACTIVE}).ref


def _run_after(engine: Engine, service: Service, job_id: str, *others: str) -> Step:
    """Send a run that comes after the newest runs of other jobs. Return the call."""
    prepare(engine, service, job_id)
    handles = tuple(engine.observe(other).ref for other in others)
    wanted = step(Verb.RUN, job_id, 1, service.config())._replace(after=handles)
    result = send(engine, wanted)
    assert result.kind is AnswerClass.APPLIED, result
    return wanted


def _comes_true(holds: Callable[[], bool]) -> bool:
    until_s = time.monotonic() + _STARTS_WITHIN_S
    while not holds():
        if time.monotonic() > until_s:
            return False
        time.sleep(_LOOK_EVERY_S)
    return True
