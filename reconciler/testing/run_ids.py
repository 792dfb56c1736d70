"""The part of the contract of an engine about run ids: who asked for a run, and that none is started twice."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from threading import Barrier

import pytest

from reconciler.engines.port import AnswerClass, Engine, EnginePlugin, Reason, Result, Status, Step, Verb
from reconciler.testing.amount import Amount
from reconciler.testing.engine_base import (
    ENDED,
    EngineUnderTest,
    about,
    await_status,
    needs,
    needs_reads,
    prepare,
    reach,
    run,
    send,
)
from reconciler.testing.hostile import TEXTS
from reconciler.testing.services import Service, opened, step

_SENDERS = 8


class RunIdContract(EngineUnderTest):
    """One run for each run id. The tests but the first are for engines that promise `atomic_run`."""

    def _at_once(self, plugin: EnginePlugin, service: Service, wanted: list[Step]) -> list[Result]:
        """Send calls at the same moment, each from an engine of its own."""
        barrier = Barrier(len(wanted))
        with ExitStack() as stack:
            engines = [stack.enter_context(opened(plugin, service)) for _ in wanted]
            staged = [one._replace(staged=engine.stage(one)) for one, engine in zip(wanted, engines, strict=True)]

            def sent(number: int) -> Result:
                barrier.wait()
                return engines[number].send(staged[number])

            with ThreadPoolExecutor(len(wanted)) as pool:
                return list(pool.map(sent, range(len(wanted))))

    def test_senders_that_meet_get_answers_that_are_true(
        self, engine_plugin: EnginePlugin, engine: Engine, service: Service
    ) -> None:
        prepare(engine, service, "nightly")
        runs = [step(Verb.RUN, "nightly", number, service.config()) for number in range(1, _SENDERS + 1)]
        results = self._at_once(engine_plugin, service, runs)
        applied = sum(result.kind is AnswerClass.APPLIED for result in results)
        assert service.runs("nightly") == applied >= 1, results

    def test_of_eight_senders_of_one_run_id_one_starts_it(
        self, engine_plugin: EnginePlugin, engine: Engine, service: Service
    ) -> None:
        needs(engine, "atomic_run")
        for job_id in ("nightly", "weekly", "yearly"):
            prepare(engine, service, job_id)
            runs = [step(Verb.RUN, job_id, config=service.config()) for _ in range(_SENDERS)]
            results = self._at_once(engine_plugin, service, runs)
            assert service.runs(job_id) == 1, results
            assert all(_says_done(result) for result in results), results

    @pytest.mark.parametrize("status", [Status.ACTIVE, *ENDED])
    @pytest.mark.parametrize(
        ("marks", "reason"),
        [
            ({}, Reason.WAS_THERE),
            ({"op": "another"}, Reason.WAS_THERE),
            ({"op": "another", "config_digest": "another"}, Reason.OTHER_OP),
            ({"op": "another", "token_digest": "another"}, Reason.OTHER_OP),
            ({"lineage": "another"}, Reason.OTHER_OWNER),
        ],
        ids=["this call", "this run", "another config", "another token", "another state"],
    )
    def test_a_run_id_that_is_taken_is_refused_and_the_reason_says_whose_it_is(
        self, engine: Engine, service: Service, status: Status, marks: dict[str, str], reason: Reason
    ) -> None:
        """An engine may also take the same run for the first one, and answer that the call was applied."""
        needs(engine, "atomic_run")
        reach(engine, service, "nightly", status)
        result = send(engine, step(Verb.RUN, "nightly", 1, service.config(), **marks))
        assert service.runs("nightly") == 1, result
        if reason is not Reason.WAS_THERE or result.kind is not AnswerClass.APPLIED:
            assert (result.kind, result.reason) == (AnswerClass.REJECTED, reason), result

    @pytest.mark.parametrize("verb", [Verb.ABORT, Verb.DELETE])
    def test_what_belongs_to_another_state_is_left_alone(self, engine: Engine, service: Service, verb: Verb) -> None:
        needs(engine, "atomic_run")
        needs_reads(engine, service)
        ran = run(engine, service, "nightly")
        if verb is Verb.DELETE:
            service.end("nightly")
            await_status(engine, "nightly", {Status.COMPLETE})
        before = engine.observe("nightly")
        ours = about(engine, service, ran, verb)
        result = send(engine, ours._replace(marks=ours.marks._replace(lineage="another")))
        assert (result.kind, result.reason) == (AnswerClass.REJECTED, Reason.OTHER_OWNER), result
        after = engine.observe("nightly")
        # A service may tell more times of one run by now.
        assert (after.status, after.run_id, after.ref) == (before.status, before.run_id, before.ref)

    def test_an_observation_tells_the_run_and_its_marks(self, engine: Engine, service: Service) -> None:
        needs(engine, "atomic_run")
        needs_reads(engine, service)
        ran = run(engine, service, "nightly")
        for found in (engine.observe("nightly"), engine.observe("nightly", "nightly-1")):
            assert (found.status, found.run_id, found.marks) == (Status.ACTIVE, "nightly-1", ran.marks)
            assert found.ref
        assert engine.observe("nightly", "nightly-2").status is Status.MISSING

    def test_an_earlier_run_is_told_from_the_newest_one(self, engine: Engine, service: Service) -> None:
        needs(engine, "atomic_run")
        needs_reads(engine, service)
        run(engine, service, "nightly", 1)
        service.end("nightly")
        await_status(engine, "nightly", {Status.COMPLETE})
        run(engine, service, "nightly", 2)
        newest = await_status(engine, "nightly", {Status.ACTIVE})
        assert (newest.status, newest.run_id) == (Status.ACTIVE, "nightly-2")
        earlier = engine.observe("nightly", "nightly-1")
        assert earlier.status in (Status.COMPLETE, Status.MISSING)
        assert earlier.ref != newest.ref

    @pytest.mark.parametrize("verb", [Verb.ABORT, Verb.DELETE])
    def test_a_call_about_an_earlier_run_leaves_the_newer_one_alone(
        self, engine: Engine, service: Service, verb: Verb
    ) -> None:
        """The handle of the call is that of the earlier run, which was observed before somebody ran the job again."""
        needs(engine, "atomic_run")
        needs_reads(engine, service)
        late = about(engine, service, run(engine, service, "nightly", 1), verb)
        service.end("nightly")
        await_status(engine, "nightly", {Status.COMPLETE})
        run(engine, service, "nightly", 2)
        send(engine, late)
        newest = engine.observe("nightly")
        assert (newest.status, newest.run_id) == (Status.ACTIVE, "nightly-2")

    def test_marks_come_back_as_they_were(self, engine: Engine, service: Service, amount: Amount) -> None:
        needs(engine, "atomic_run")
        needs_reads(engine, service)
        for number, text in enumerate(TEXTS[:: amount.nth_text]):
            job_id = f"job-{number}"
            prepare(engine, service, job_id)
            wanted = step(Verb.RUN, job_id, config=service.config(), lineage="lineage-1", op=text, commit=text)
            result = send(engine, wanted)
            assert result.kind is AnswerClass.APPLIED, (text, result)
            assert engine.observe(job_id).marks == wanted.marks


def _says_done(result: Result) -> bool:
    return result.kind is AnswerClass.APPLIED or result.reason is Reason.WAS_THERE
