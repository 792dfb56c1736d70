"""The closed set of reasons that a result carries, and what the engine promises: nothing above it reads a status."""

import threading
from random import Random

import pytest

from raw_server import Answering, Pauses, always, answer, raw_server
from reconciler.engines.bytenite.auth import Credentials
from reconciler.engines.bytenite.engine import ByteniteEngine
from reconciler.engines.port import AnswerClass, Engine, Reason, Result
from reconciler.model.errors import EngineError
from reconciler.model.jobs import Verb
from steps import step_for

RUN, ABORT, DELETE = (step_for(verb, "j") for verb in Verb)


def engine_at(url: str, credentials: Credentials) -> ByteniteEngine:
    return ByteniteEngine(url, credentials, parallelism=1, max_rps=None, wait=Pauses(), random=Random(1))


def results_of(answering: Answering) -> list[Result]:
    with raw_server(answering) as server:
        engine = engine_at(server.url, Credentials("canary-token"))
        found = [engine.send(step) for step in (RUN, ABORT, DELETE)]
        engine.close()
    return found


@pytest.mark.parametrize(
    ("status", "of_run", "of_abort", "of_delete"),
    [
        (400, Reason.INVALID, Reason.NOT_RUNNING, Reason.INVALID),
        (401, *[Reason.NOT_AUTHENTICATED] * 3),
        (403, *[Reason.NOT_PERMITTED] * 3),
        (404, *[Reason.NO_SUCH_JOB] * 3),
        (407, *[Reason.OTHER] * 3),
        (429, *[Reason.BUSY] * 3),
    ],
)
def test_a_rejection_carries_the_reason_that_its_status_stands_for(
    status: int, of_run: Reason, of_abort: Reason, of_delete: Reason
) -> None:
    found = results_of(always(answer(status, '{"message": "no"}')))
    assert {result.kind for result in found} == {AnswerClass.REJECTED}
    assert [result.reason for result in found] == [of_run, of_abort, of_delete]


@pytest.mark.parametrize("status", [200, 500, 503])
def test_a_lost_answer_carries_no_reason_that_a_rejection_has(status: int) -> None:
    found = results_of(always(answer(status, "not JSON")))
    assert {(result.kind, result.reason) for result in found} == {(AnswerClass.IN_DOUBT, Reason.OTHER)}


def test_a_call_without_a_token_was_not_sent_for_lack_of_a_login() -> None:
    with raw_server(always(answer(403, '{"message": "unknown key"}'))) as server:
        engine = engine_at(server.url, Credentials(api_key="canary-key"))
        found = engine.send(RUN)
        engine.close()
    assert (found.kind, found.reason) == (AnswerClass.NOT_SENT, Reason.NOT_AUTHENTICATED)


def test_an_engine_that_promises_no_logs_says_so_and_what_else_it_lacks_is_empty() -> None:
    engine: Engine = engine_at("http://127.0.0.1:9", Credentials("canary-token"))
    assert not engine.promises.has_logs
    with pytest.raises(EngineError, match="reads no logs"):
        engine.log("j", "", tail=None, follow=False, stop=threading.Event())
    assert engine.identity() == {}
    assert engine.stage(RUN) == ""
    engine.close()
