"""What the engine makes of a head's answers, on a server of this test that answers as the test says.

The texts are those of Ray 2.60. What a real head does is for tests/ray to show.
"""

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from reconciler.engines.port import (
    AnswerClass,
    CredentialsError,
    Engine,
    EngineError,
    Marks,
    Reason,
    Result,
    Status,
    Step,
    Surroundings,
    Verb,
)
from reconciler.engines.ray.marks import metadata_of
from reconciler.engines.ray.plugin import PLUGIN
from reconciler.model.errors import EngineFailed
from reconciler.model.jobs import EMPTY

FIRST, SECOND = "session_2026-11-28_10-00-00_000001_7", "session_2026-11-29_10-00-00_000002_8"
STEP = Step(Verb.RUN, "nightly", "nightly-7", {"command": ["true"]}, marks=Marks("mine", "op-1", "config-1"))
TAKEN = (
    'Traceback (most recent call last):\n  File "job_head.py", line 419\nRuntimeError: Request failed with status code '
    '400: Traceback (most recent call last):\n  File "job_manager.py", line 553\nValueError: Job with submission_id '
    "nightly-7 already exists. Please use a different submission_id.\n.\n"
)
INVALID = TAKEN.replace("Job with submission_id nightly-7 already exists. Please use", "Invalid label selector, use")
NO_AGENT = "No available agent to submit job, please try again later."

Answer = tuple[int, Any]


class StandIn:
    """A server that answers a request with what `answers` has for its method and path, and else with 404."""

    def __init__(self) -> None:
        self.session = FIRST
        self.answers: dict[str, Answer | Callable[[], Answer]] = {}
        self.asked: list[str] = []
        self.bodies: list[Any] = []
        self.token = ""
        stand_in = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                status, answer = stand_in.answer(f"{self.command} {self.path}", body, self.headers["Authorization"])
                content = answer.encode() if isinstance(answer, str) else json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_POST = do_PUT = do_DELETE = do_GET

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def answer(self, asked: str, body: bytes, authorization: str | None) -> Answer:
        self.asked.append(asked)
        if self.token and authorization != f"Bearer {self.token}":
            return (
                (401, "Unauthorized: Missing")
                if authorization is None
                else (403, "Forbidden: Invalid authentication token")
            )
        if body:
            self.bodies.append(json.loads(body))
        if asked == "GET /api/version" and asked not in self.answers:
            return 200, {"version": "4", "ray_version": "2.60.0", "session_name": self.session}
        found = self.answers.get(asked, (404, "404: Not Found"))
        return found() if callable(found) else found

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def head() -> Iterator[StandIn]:
    stand_in = StandIn()
    yield stand_in
    stand_in.close()


@contextmanager
def engine_at(
    head: StandIn, known: Mapping[str, str] = EMPTY, *, is_replaced: bool = False, **env: str
) -> Iterator[Engine]:
    around = Surroundings(
        env,
        pause=lambda seconds: False,
        note_credential=lambda text: None,
        boot_s=time.monotonic,
        wall_s=time.time,
        parallelism=4,
        max_rps=None,
        beside_state="beside",
        known_identity=known,
        is_replaced=is_replaced,
    )
    with PLUGIN.open(PLUGIN.target({"address": head.address}, "/"), around) as engine:
        yield engine


def sent(head: StandIn, step: Step = STEP, known: Mapping[str, str] = EMPTY) -> Result:
    with engine_at(head, known) as engine:
        return engine.send(step._replace(staged=step.staged or engine.stage(step)))


def job(status: str = "RUNNING", marks: Marks = STEP.marks, submission_id: str = "nightly-7") -> dict[str, Any]:
    metadata = metadata_of(STEP._replace(marks=marks, run_id=submission_id))
    return {
        "type": "SUBMISSION",
        "submission_id": submission_id,
        "status": status,
        "entrypoint": "true",
        "start_time": 1,
        "metadata": metadata,
    }


def unknown(submission_id: str) -> Answer:
    return 404, f"Job {submission_id} does not exist"


# --- a run ---------------------------------------------------------------------------------------------------------


def test_a_run_is_submitted_under_its_run_id_with_its_marks(head: StandIn) -> None:
    head.answers["POST /api/jobs/"] = 200, {"job_id": "nightly-7", "submission_id": "nightly-7"}
    assert sent(head) == Result(AnswerClass.APPLIED, code="200", ref="nightly-7")
    (body,) = head.bodies
    assert (body["submission_id"], body["entrypoint"]) == ("nightly-7", "exec true")
    assert body["metadata"]["reconciler/lineage"] == "mine"


@pytest.mark.parametrize(
    ("marks", "reason"),
    [
        (STEP.marks, Reason.WAS_THERE),
        (STEP.marks._replace(op="op-2"), Reason.WAS_THERE),
        (STEP.marks._replace(op="op-2", config_digest="config-2"), Reason.OTHER_OP),
        (STEP.marks._replace(lineage="yours"), Reason.OTHER_OWNER),
    ],
)
def test_an_id_that_is_taken_is_looked_up(head: StandIn, marks: Marks, reason: Reason) -> None:
    head.answers["POST /api/jobs/"] = 500, TAKEN
    head.answers["GET /api/jobs/nightly-7"] = 200, job(marks=marks)
    found = sent(head)
    assert (found.kind, found.reason) == (AnswerClass.REJECTED, reason), found


@pytest.mark.parametrize(
    ("status", "text", "kind", "reason"),
    [
        (500, TAKEN, AnswerClass.IN_DOUBT, Reason.OTHER),
        (500, NO_AGENT, AnswerClass.IN_DOUBT, Reason.OTHER),
        (500, "Traceback (most recent call last):\nServerDisconnectedError", AnswerClass.IN_DOUBT, Reason.OTHER),
        (500, INVALID, AnswerClass.REJECTED, Reason.INVALID),
        (400, "TypeError: entrypoint must be a string", AnswerClass.REJECTED, Reason.INVALID),
        (403, "no", AnswerClass.REJECTED, Reason.NOT_PERMITTED),
        (413, "too large", AnswerClass.REJECTED, Reason.INVALID),
        (502, "bad gateway", AnswerClass.IN_DOUBT, Reason.OTHER),
        (503, "unavailable", AnswerClass.IN_DOUBT, Reason.OTHER),
        (200, "<html>a page to log in</html>", AnswerClass.IN_DOUBT, Reason.OTHER),
        (200, {"submission_id": "another"}, AnswerClass.IN_DOUBT, Reason.OTHER),
        (302, "elsewhere", AnswerClass.IN_DOUBT, Reason.OTHER),
    ],
)
def test_what_another_answer_means_for_a_run(
    head: StandIn, status: int, text: object, kind: AnswerClass, reason: Reason
) -> None:
    """Nobody knows of a job of this id. A request may still be on its way inside of the head."""
    head.answers["POST /api/jobs/"] = status, text
    head.answers["GET /api/jobs/nightly-7"] = unknown("nightly-7")
    found = sent(head)
    assert (found.kind, found.reason) == (kind, reason), found
    assert head.asked.count("POST /api/jobs/") == 1
    assert "Traceback" not in found.message


def test_a_fault_of_the_head_is_looked_up_too(head: StandIn) -> None:
    head.answers["POST /api/jobs/"] = 500, NO_AGENT
    head.answers["GET /api/jobs/nightly-7"] = 200, job()
    found = sent(head)
    assert (found.kind, found.reason, found.ref) == (AnswerClass.REJECTED, Reason.WAS_THERE, "nightly-7")


def test_a_config_that_no_job_can_be_made_of_is_not_sent(head: StandIn) -> None:
    found = sent(head, STEP._replace(config={"command": ["true"], "script": "true"}))
    assert (found.kind, found.reason) == (AnswerClass.REJECTED, Reason.INVALID), found
    assert "POST /api/jobs/" not in head.asked


# --- sessions ------------------------------------------------------------------------------------------------------


def test_a_run_is_not_sent_to_another_session_than_the_one_it_was_staged_for(head: StandIn) -> None:
    with engine_at(head) as engine:
        staged = engine.stage(STEP)
    assert staged == FIRST
    head.session = SECOND
    found = sent(head, STEP._replace(staged=staged))
    assert (found.kind, found.reason) == (AnswerClass.REJECTED, Reason.OTHER), found
    assert "it is not known whether the head before has executed nightly-7" in found.message
    assert "POST /api/jobs/" not in head.asked


def test_a_head_that_is_restarted_between_stage_and_send_gets_no_run(head: StandIn) -> None:
    with engine_at(head) as engine:
        wanted = STEP._replace(staged=engine.stage(STEP))
        head.session = SECOND
        assert engine.send(wanted).kind is AnswerClass.REJECTED
        with pytest.raises(EngineError, match="was restarted while this command was at work"):
            engine.stage(STEP)
    assert "POST /api/jobs/" not in head.asked


def test_a_program_that_was_stopped_after_its_look_at_the_session_sends_nothing(head: StandIn) -> None:
    """Its look may be of any age by then. The time that counts goes on while a machine is suspended."""
    now_s = 0.0

    def stopped() -> bool:
        nonlocal now_s
        now_s += 60.0
        return True

    around = Surroundings({}, lambda s: False, lambda t: None, lambda: now_s, time.time, 1, None, "beside")
    with PLUGIN.open(PLUGIN.target({"address": head.address}, "/"), around) as engine:
        found = engine.send(STEP._replace(staged=FIRST), stopped)
    assert (found.kind, found.message) == (AnswerClass.NOT_SENT, "the head took too long to tell its session")
    assert "POST /api/jobs/" not in head.asked


def test_a_run_that_was_not_staged_is_not_sent(head: StandIn) -> None:
    with engine_at(head) as engine:
        assert engine.send(STEP).kind is AnswerClass.REJECTED
    assert "POST /api/jobs/" not in head.asked


@pytest.mark.parametrize(
    ("known", "is_replaced", "identity"),
    [
        ({}, False, {"session": SECOND}),
        ({"session": SECOND}, False, {"session": SECOND}),
        ({"session": FIRST}, False, {"restarts": "yes"}),
        ({"session": FIRST, "restarts": "yes"}, False, {"restarts": "yes"}),
        ({"session": SECOND, "restarts": "yes"}, False, {"session": SECOND, "restarts": "yes"}),
        ({"session": FIRST}, True, {"session": SECOND, "restarts": "yes"}),
    ],
)
def test_the_identity_has_the_session_until_there_is_another_one(
    head: StandIn, known: Mapping[str, str], is_replaced: bool, identity: Mapping[str, str]
) -> None:
    head.session = SECOND
    with engine_at(head, known, is_replaced=is_replaced) as engine:
        assert dict(engine.identity()) == identity


@pytest.mark.parametrize(
    ("known", "status"),
    [
        ({}, Status.MISSING),
        ({"session": FIRST}, Status.MISSING),
        ({"session": SECOND}, Status.NOT_OBSERVED),
        ({"session": FIRST, "restarts": "yes"}, Status.NOT_OBSERVED),
    ],
)
def test_a_head_that_is_not_the_only_one_proves_nothing_about_a_run_it_does_not_know(
    head: StandIn, known: Mapping[str, str], status: Status
) -> None:
    head.answers |= {"GET /api/jobs/nightly-7": unknown("nightly-7"), "GET /api/jobs/": (200, [])}
    with _warned(known.get("session") == SECOND), engine_at(head, known) as engine:
        engine.identity()
        assert engine.observe("nightly", "nightly-7").status is status
        assert engine.observe("nightly").status is Status.MISSING


@contextmanager
def _warned(is_so: bool) -> Iterator[None]:
    if not is_so:
        yield
        return
    with pytest.raises(EngineFailed, match="was restarted: its session was"):
        yield


def test_a_head_that_does_not_tell_its_session_is_refused(head: StandIn) -> None:
    head.answers["GET /api/version"] = 200, {"version": "1", "ray_version": "1.9.0"}
    with engine_at(head) as engine, pytest.raises(EngineError, match="does not tell the name of its session"):
        engine.identity()


# --- reads ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [(404, "default backend - 404"), (404, ""), (200, []), (200, "<html>"), (200, job(submission_id="other-1"))],
)
def test_an_answer_that_is_none_of_a_jobs_api_does_not_make_a_job_missing(head: StandIn, answer: Answer) -> None:
    head.answers |= {"GET /api/jobs/nightly-7": answer, "GET /api/jobs/": answer}
    with engine_at(head) as engine:
        with pytest.raises(EngineError):
            engine.observe("nightly", "nightly-7")
        if answer != (200, []):
            with pytest.raises(EngineError):
                engine.observe("nightly")


def test_a_read_is_repeated_while_the_head_has_a_fault(head: StandIn) -> None:
    faults = iter([(500, "Traceback"), (503, "")])
    head.answers["GET /api/jobs/nightly-7"] = lambda: next(faults, (200, job()))
    with engine_at(head) as engine:
        assert engine.observe("nightly", "nightly-7").status is Status.ACTIVE


# --- the token -----------------------------------------------------------------------------------------------------


def test_a_token_that_was_renewed_in_its_file_is_read_anew(head: StandIn, tmp_path: Path) -> None:
    head.token = "the-second-token"
    path = tmp_path / "token"
    path.write_text("the-first-token")
    head.answers["POST /api/jobs/"] = 200, {"submission_id": "nightly-7"}
    with engine_at(head, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN_PATH=str(path)) as engine:
        with pytest.raises(CredentialsError, match="does not accept the token"):
            engine.identity()
        path.write_text("the-second-token")
        assert engine.send(STEP._replace(staged=FIRST)).kind is AnswerClass.APPLIED


@pytest.mark.parametrize("mode", ["disabled", "token"])
def test_a_call_without_the_right_token_is_rejected_for_that_reason(head: StandIn, mode: str) -> None:
    head.token = "the-right-token"
    with engine_at(head, RAY_AUTH_MODE=mode, RAY_AUTH_TOKEN="a-wrong-token") as engine:
        found = engine.send(STEP._replace(staged=FIRST))
    assert (found.kind, found.reason) == (AnswerClass.REJECTED, Reason.NOT_AUTHENTICATED), found


def test_a_token_that_the_head_repeats_is_not_shown(head: StandIn) -> None:
    head.token = "the-right-token"
    head.answers["POST /api/jobs/"] = 400, "Bearer the-right-token: the-right-token is no good"
    with engine_at(head, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN="the-right-token") as engine:
        found = engine.send(STEP._replace(staged=FIRST))
    assert found.kind is AnswerClass.REJECTED
    assert "the-right-token" not in found.message


# --- stops and deletes ---------------------------------------------------------------------------------------------


def abort(seen: str = "nightly-7") -> Step:
    return Step(Verb.ABORT, "nightly", "nightly-7", seen=seen, marks=STEP.marks)


@pytest.mark.parametrize(
    ("stopped", "then", "kind", "reason"),
    [
        (True, job(), AnswerClass.APPLIED, Reason.OTHER),
        (False, job("SUCCEEDED"), AnswerClass.REJECTED, Reason.NOT_RUNNING),
        (False, job(), AnswerClass.REJECTED, Reason.OTHER),
    ],
)
def test_a_stop_that_has_stopped_nothing_is_looked_up(
    head: StandIn, stopped: bool, then: Any, kind: AnswerClass, reason: Reason
) -> None:
    head.answers["GET /api/jobs/"] = 200, [job()]
    head.answers["POST /api/jobs/nightly-7/stop"] = 200, {"stopped": stopped}
    head.answers["GET /api/jobs/nightly-7"] = 200, then
    with engine_at(head) as engine:
        found = engine.send(abort())
    assert (found.kind, found.reason) == (kind, reason), found


def test_a_job_that_is_active_again_is_not_deleted(head: StandIn) -> None:
    head.answers["GET /api/jobs/"] = 200, [job("SUCCEEDED")]
    text = "RuntimeError: Attempted to delete job 'nightly-7', but it is in a non-terminal state RUNNING.\n.\n"
    head.answers["DELETE /api/jobs/nightly-7"] = 500, text
    with engine_at(head) as engine:
        found = engine.send(abort()._replace(verb=Verb.DELETE))
    assert (found.kind, found.reason) == (AnswerClass.REJECTED, Reason.INVALID), found
