"""The contract of an engine, as pytest tests.

    class MyService(Service):
        ...

    class TestMyEngine(EngineContract):
        @pytest.fixture
        def service(self, tmp_path):
            with MyService(tmp_path) as service:
                yield service

`Service` lists all that an author says about the service behind the engine. One rule is behind most tests: an answer is
true to what the service has done. A call that is answered as applied was carried out once, and a call that is answered
as rejected or not sent was not carried out.
"""

import time
from concurrent.futures import ThreadPoolExecutor
from threading import Event, Thread
from typing import Any

import pytest

from reconciler.engines import answers
from reconciler.engines.port import AnswerClass, Engine, EngineError, EnginePlugin, Reason, Status, Verb
from reconciler.testing.amount import Amount
from reconciler.testing.chains import ChainContract
from reconciler.testing.engine_base import (
    ENDED,
    REACHABLE,
    SETTLES_WITHIN_S,
    about,
    await_status,
    gone,
    is_readable,
    needs,
    needs_reads,
    prepare,
    reach,
    run,
    send,
)
from reconciler.testing.hostile import TEXTS
from reconciler.testing.lost_answers import LostAnswerContract
from reconciler.testing.plugins import PluginContract, is_bounded, is_printable
from reconciler.testing.refusals import RefusalContract
from reconciler.testing.run_ids import RunIdContract
from reconciler.testing.services import Service, job, opened, step, target_of

NOTHING_TO_END = frozenset({Reason.NOT_RUNNING, Reason.NO_SUCH_JOB})

_STOPS_WITHIN_S = 5.0
"""How long a log may go on after its reader has asked it to stop."""

JOB_IDS = ("a", "0", "A.b_c-9", "nightly.2026-01-01", "x" * 52, "y" * 128, "a-1", "a-1-1")
"""Ids that a manifest may have. Some of them look like run ids of others."""


class EngineContract(PluginContract, RunIdContract, ChainContract, LostAnswerContract, RefusalContract):
    """The whole contract of an engine."""

    # --- the plugin ----------------------------------------------------------------------------------------------

    def test_each_value_of_the_engine_has_the_type_of_the_port(self, engine: Engine, service: Service) -> None:
        """The tool refuses other values: the job is unreadable then, or the call in doubt."""
        prepare(engine, service, "nightly")
        wanted = step(Verb.RUN, "nightly", config=service.config())
        wanted = wanted._replace(staged=answers.word(engine.stage(wanted), "the handle"))
        answers.promises(engine.promises)
        answers.identity(engine.identity())
        answers.result(engine.send(wanted))
        wanted_ids = ("nightly", "nobody-made-this")
        found = engine.observe_many(wanted_ids)
        for job_id in wanted_ids:
            answers.observation(engine.observe(job_id))
            answers.observation(found[job_id])
        if engine.promises.lists and service.reads:
            for job_id, seen in engine.observe_all():
                answers.word(job_id, "the id of a job")
                answers.observation(seen)

    @pytest.mark.parametrize("job_id", JOB_IDS)
    def test_an_id_is_taken_or_refused_with_a_sentence(
        self, engine_plugin: EnginePlugin, engine: Engine, service: Service, job_id: str
    ) -> None:
        fault = engine_plugin.job_fault(job(job_id, service.config()))
        assert "\n" not in fault
        if not fault:
            run(engine, service, job_id)
            assert service.runs(job_id) == 1

    def test_an_id_that_looks_like_a_run_of_another_job_is_a_job_of_its_own(
        self, engine: Engine, service: Service
    ) -> None:
        run(engine, service, "a")
        run(engine, service, "a-1")
        assert (service.runs("a"), service.runs("a-1")) == (1, 1)
        result = send(engine, step(Verb.ABORT, "a"))
        assert result.kind is AnswerClass.APPLIED, result
        if is_readable(engine, service):
            assert await_status(engine, "a", {Status.ABORTED}).status is Status.ABORTED
            assert engine.observe("a-1").status is Status.ACTIVE

    def test_the_identity_is_the_same_each_time_and_another_one_elsewhere(
        self, engine_plugin: EnginePlugin, engine: Engine, service: Service
    ) -> None:
        identity = dict(engine.identity())
        with opened(engine_plugin, service) as again:
            assert dict(again.identity()) == identity
        for name, part in identity.items():
            assert (type(name), type(part)) == (str, str)
            assert name
            assert part.isprintable()
        if identity:
            with opened(engine_plugin, service, service.other_block) as other:
                assert dict(other.identity()) != identity, "two services have one identity"

    # --- every verb in every state -------------------------------------------------------------------------------

    @pytest.mark.parametrize("status", REACHABLE)
    def test_a_run_starts_one_run_or_none_as_its_answer_says(
        self, engine: Engine, service: Service, status: Status
    ) -> None:
        reach(engine, service, "nightly", status)
        before = service.runs("nightly")
        result = send(engine, step(Verb.RUN, "nightly", 2, service.config()))
        started = service.runs("nightly") - before
        assert (result.kind, started) in ((AnswerClass.APPLIED, 1), (AnswerClass.REJECTED, 0)), result
        if status is Status.MISSING and not engine.promises.creates_on_run:
            assert result.reason is Reason.NO_SUCH_JOB, result
        elif status is not Status.ACTIVE:
            assert result.kind is AnswerClass.APPLIED, result
        if started and is_readable(engine, service):
            assert await_status(engine, "nightly", {Status.ACTIVE}).status is Status.ACTIVE

    @pytest.mark.parametrize("status", REACHABLE)
    def test_an_abort_ends_what_is_active_and_nothing_else(
        self, engine: Engine, service: Service, status: Status
    ) -> None:
        reach(engine, service, "nightly", status)
        before = service.runs("nightly")
        result = send(engine, about(engine, service, step(Verb.RUN, "nightly"), Verb.ABORT))
        assert service.runs("nightly") == before
        if status is Status.ACTIVE:
            assert result.kind is AnswerClass.APPLIED, result
            if is_readable(engine, service):
                assert await_status(engine, "nightly", {Status.ABORTED}).status is Status.ABORTED
        elif status is not Status.DRAFT or result.kind is not AnswerClass.APPLIED:  # an abort may delete a draft
            assert result.kind is AnswerClass.REJECTED, result
            assert result.reason in NOTHING_TO_END, result
            if is_readable(engine, service):
                assert engine.observe("nightly").status is status

    @pytest.mark.parametrize("status", REACHABLE)
    def test_a_delete_removes_what_has_ended(self, engine: Engine, service: Service, status: Status) -> None:
        reach(engine, service, "nightly", status)
        before = service.runs("nightly")
        result = send(engine, about(engine, service, step(Verb.RUN, "nightly"), Verb.DELETE))
        assert service.runs("nightly") == before
        assert result.kind in (AnswerClass.APPLIED, AnswerClass.REJECTED), result
        if status in ENDED:
            assert result.kind is AnswerClass.APPLIED, result
        if status is Status.MISSING:
            assert (result.kind, result.reason) == (AnswerClass.REJECTED, Reason.NO_SUCH_JOB), result
        if not is_readable(engine, service):
            return
        expected = gone(service) if result.kind is AnswerClass.APPLIED else {status}
        assert await_status(engine, "nightly", expected).status in expected

    def test_a_delete_removes_all_runs_of_the_job(self, engine: Engine, service: Service) -> None:
        needs_reads(engine, service)
        for number in (1, 2):
            ran = run(engine, service, "nightly", number)
            service.end("nightly")
            assert await_status(engine, "nightly", {Status.COMPLETE}).status is Status.COMPLETE
        result = send(engine, about(engine, service, ran, Verb.DELETE))
        assert result.kind is AnswerClass.APPLIED, result
        for run_id in ("", *(["nightly-1", "nightly-2"] if engine.promises.atomic_run else [])):
            assert await_status(engine, "nightly", gone(service), run_id).status in gone(service)

    def test_a_run_has_ended_once_nothing_of_it_executes(self, engine_plugin: EnginePlugin, service: Service) -> None:
        """A restart starts the next run when the one before has ended, and the two must not overlap."""
        with service.stopping_slowly() as block:
            if block is None:
                pytest.skip("the author has no service that stops runs slowly: see Service.stopping_slowly")
            with opened(engine_plugin, service, block) as engine:
                needs_reads(engine, service)
                ran = run(engine, service, "nightly")
                # A service may take a moment to begin a run that it has accepted, and count what has begun.
                assert service.runs("nightly") == 1
                assert service.executes("nightly")
                abort = Thread(target=send, args=(engine, about(engine, service, ran, Verb.ABORT)))
                abort.start()
                seen: list[Status] = []
                until_s = time.monotonic() + SETTLES_WITHIN_S
                while not seen or (seen[-1] is Status.ACTIVE and time.monotonic() < until_s):
                    seen.append(engine.observe("nightly").status)
                    has_ended = seen[-1] is not Status.ACTIVE
                    assert not (has_ended and service.executes("nightly")), f"{seen[-1]}, and it still executes"
                abort.join()
        assert seen[-1] is Status.ABORTED

    def test_an_engine_that_is_opened_to_read_makes_nothing(
        self, engine_plugin: EnginePlugin, service: Service
    ) -> None:
        """What it makes of its own would be another thing for the next program: an identity, above all."""
        with opened(engine_plugin, service, may_change=False) as reader:
            before = dict(reader.identity())
            if is_readable(reader, service):
                assert reader.observe("nightly").status in gone(service)
                if reader.promises.lists:
                    assert list(reader.observe_all()) == []
        with opened(engine_plugin, service) as engine:
            assert before.items() <= dict(engine.identity()).items()
            run(engine, service, "nightly")
            identity = dict(engine.identity())
        with opened(engine_plugin, service, may_change=False) as reader:
            assert dict(reader.identity()) == identity
            if is_readable(reader, service):
                assert reader.observe("nightly").status is Status.ACTIVE

    @pytest.mark.parametrize("verb", list(Verb))
    def test_a_call_that_is_held_back_does_nothing(self, engine: Engine, service: Service, verb: Verb) -> None:
        ran = run(engine, service, "nightly")
        prepare(engine, service, "weekly")
        runs = step(Verb.RUN, "weekly", config=service.config())
        wanted = runs if verb is Verb.RUN else about(engine, service, ran, verb)
        wanted = wanted._replace(staged=engine.stage(wanted))
        assert engine.send(wanted, lambda: False).kind is AnswerClass.NOT_SENT

        def stop() -> bool:
            raise _Stopped

        with pytest.raises(_Stopped):
            engine.send(wanted, stop)
        assert (service.runs("nightly"), service.runs("weekly")) == (1, 0)
        if is_readable(engine, service):
            assert engine.observe("nightly").status is Status.ACTIVE

    def test_the_engine_asks_right_before_a_call_leaves(self, engine: Engine, service: Service) -> None:
        prepare(engine, service, "nightly")
        seen: list[int] = []

        def may_be_sent() -> bool:
            seen.append(service.runs("nightly"))
            return True

        wanted = step(Verb.RUN, "nightly", config=service.config())
        assert engine.send(wanted._replace(staged=engine.stage(wanted)), may_be_sent).kind is AnswerClass.APPLIED
        assert seen, "the engine never asked whether the call may leave"
        assert seen[0] == 0, "the engine asked after the call had left"

    def test_staging_is_harmless_and_may_be_done_twice(self, engine: Engine, service: Service) -> None:
        prepare(engine, service, "nightly")
        wanted = step(Verb.RUN, "nightly", config=service.config())
        left_behind, staged = engine.stage(wanted), engine.stage(wanted)
        assert type(left_behind) is type(staged) is str
        assert service.runs("nightly") == 0
        assert engine.send(wanted._replace(staged=staged)).kind is AnswerClass.APPLIED
        assert service.runs("nightly") == 1

    # --- observing -----------------------------------------------------------------------------------------------

    def test_without_reads_nothing_is_observed(self, engine: Engine, service: Service) -> None:
        if is_readable(engine, service):
            pytest.skip("this service offers reads")
        run(engine, service, "nightly")
        for job_id in ("nightly", "nobody-made-this"):
            assert engine.observe(job_id).status is Status.NOT_OBSERVED
        assert engine.observe_many(["nightly"])["nightly"].status is Status.NOT_OBSERVED

    def test_many_jobs_are_observed_as_each_of_them_is(self, engine: Engine, service: Service) -> None:
        needs_reads(engine, service)
        for number, status in enumerate((Status.ACTIVE, *ENDED)):
            reach(engine, service, f"job-{number}", status)
        wanted = ["job-0", "job-1", "job-2", "job-3", "nobody-made-this"]
        found = engine.observe_many(wanted)
        assert sorted(found) == sorted(wanted)
        assert {job_id: found[job_id].evidence for job_id in wanted} == {
            job_id: engine.observe(job_id).evidence for job_id in wanted
        }
        assert dict(engine.observe_many([])) == {}

    def test_a_config_is_observed_as_it_was_sent(
        self, engine_plugin: EnginePlugin, engine: Engine, service: Service
    ) -> None:
        needs_reads(engine, service)
        run(engine, service, "nightly")
        found = engine.observe("nightly").config
        assert found is None or engine_plugin.same_config(found, service.config())

    def test_the_list_holds_each_job_once(self, engine: Engine, service: Service) -> None:
        if not (engine.promises.lists and service.reads):
            with pytest.raises(EngineError):
                list(engine.observe_all())
            return
        for number in range(5):
            run(engine, service, f"job-{number}")
        listed = [job_id for job_id, _ in engine.observe_all()]
        assert sorted(set(listed)) == sorted(listed)
        assert {f"job-{number}" for number in range(5)} <= set(listed)

    def test_a_job_that_somebody_took_away_is_missing(self, engine: Engine, service: Service) -> None:
        ran = run(engine, service, "nightly")
        service.lose("nightly")
        result = send(engine, about(engine, service, ran, Verb.ABORT))
        assert result.kind is AnswerClass.REJECTED or service.knows_every_id, result
        assert service.runs("nightly") == 1
        if is_readable(engine, service):
            assert await_status(engine, "nightly", gone(service)).status in gone(service)
            assert "nightly" not in dict(engine.observe_all() if engine.promises.lists else ())

    def test_a_run_that_the_service_forgot_is_missing_and_runs_again_under_a_new_id(
        self, engine: Engine, service: Service
    ) -> None:
        if engine.promises.keeps_ended_s == float("inf"):
            pytest.skip("the engine promises keeps_ended_s without a limit")
        run(engine, service, "nightly")
        service.end("nightly")
        service.forget("nightly")
        if is_readable(engine, service):
            assert await_status(engine, "nightly", {Status.MISSING}).status is Status.MISSING
        prepare(engine, service, "nightly")
        run(engine, service, "nightly", 2)
        assert service.runs("nightly") == 2

    def test_many_jobs_run_once_each_and_are_all_observed(
        self, engine: Engine, service: Service, amount: Amount
    ) -> None:
        names = [f"job-{number}" for number in range(amount.jobs)]
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(lambda name: run(engine, service, name), names))
        assert [service.runs(name) for name in (names[0], names[-1])] == [1, 1]
        if is_readable(engine, service):
            found = engine.observe_many(names)
            # In a service whose jobs are short, the first ones may have ended by now.
            assert {found[name].status for name in names} <= {Status.ACTIVE, Status.COMPLETE}

    # --- texts and logs ------------------------------------------------------------------------------------------

    def test_hostile_texts_in_a_config_do_no_harm(
        self, engine_plugin: EnginePlugin, engine: Engine, service: Service, amount: Amount
    ) -> None:
        if service.config_with("text") is None:
            pytest.skip("no config of this engine holds a text")
        target = target_of(engine_plugin, service.block)
        for number, text in enumerate(TEXTS[:: amount.nth_text]):
            config = service.config_with(text)
            assert config is not None
            job_id = f"job-{number}"
            prepare(engine, service, job_id)
            wanted = step(Verb.RUN, job_id, config=config)
            for request in engine_plugin.wording(target, wanted):
                is_printable(request)
            refused = engine_plugin.job_fault(job(job_id, config))
            result = send(engine, wanted)
            is_bounded(result.message)
            assert (result.kind is AnswerClass.APPLIED) != bool(refused), (text, result)
            assert service.runs(job_id) == (0 if refused else 1)
            if not refused and is_readable(engine, service):
                found = engine.observe(job_id).config
                assert found is None or engine_plugin.same_config(found, config), (text, found)

    def test_a_log_is_whole_and_its_tail_is_its_end(self, engine: Engine, service: Service) -> None:
        run(engine, service, "nightly")
        if not engine.promises.has_logs:
            with pytest.raises(EngineError):
                list(engine.log("nightly", "nightly-1", tail=None, follow=False, stop=Event()))
            return
        service.end("nightly")
        whole = service.logged("nightly")
        assert whole.count(b"\n") >= 2, "the author's log has two lines or more"

        def log(**options: Any) -> bytes:
            given = {"tail": None, "follow": False, "stop": Event(), **options}
            return b"".join(engine.log("nightly", "nightly-1", **given))

        assert log() == whole
        assert log(follow=True) == whole, "a log that is followed ends once the run is over"
        assert log(tail=1) == whole.splitlines(keepends=True)[-1]
        assert log(tail=0) == b""
        assert log(tail=10_000) == whole

    def test_following_a_log_ends_when_it_is_asked_to(self, engine: Engine, service: Service) -> None:
        needs(engine, "has_logs")
        run(engine, service, "nightly")
        stop = Event()
        pieces = engine.log("nightly", "nightly-1", tail=None, follow=True, stop=stop)
        reader = Thread(target=list, args=(pieces,), daemon=True)
        reader.start()
        reader.join(0.3)
        stop.set()
        reader.join(_STOPS_WITHIN_S)
        assert not reader.is_alive(), "a log goes on, though its reader has asked it to stop"


class _Stopped(Exception):
    """What `may_be_sent` raises in a test."""
