"""Credentials: the variables that hold them, the renewal of a token, and that no text shows a secret."""

import json
import math
import socket
import threading
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from random import Random

import pytest

from raw_server import Answering, Pauses, RawServer, Request, always, answer, raw_server
from reconciler.engines.bytenite.auth import Credentials, Grant, Tokens, life_s, renew_after_s, token_url
from reconciler.engines.bytenite.engine import ByteniteEngine
from reconciler.engines.port import AnswerClass, Reason, Result
from reconciler.model.errors import CredentialsError, EngineError
from reconciler.model.jobs import Verb
from steps import step_for

RUN = step_for(Verb.RUN, "j", {})
OK = answer(200, '{"ok": true}')
JOB = answer(200, '{"job": {"id": "j", "state": "JOB_STATE_RUNNING"}}')
CANARY, KEY_CANARY = "canary/token+1", "canary/key+2"


# From the environment


@pytest.mark.parametrize(
    ("environment", "credentials"),
    [
        ({"BYTENITE_ACCESS_TOKEN": "a-token"}, Credentials("a-token", None)),
        ({"BYTENITE_API_KEY": "a-key", "HOME": "/"}, Credentials(None, "a-key")),
        ({"BYTENITE_ACCESS_TOKEN": " a-token\r\n", "BYTENITE_API_KEY": "\ta-key\n"}, Credentials("a-token", "a-key")),
    ],
)
def test_credentials_are_read_and_stripped(environment: dict[str, str], credentials: Credentials) -> None:
    assert Credentials.from_environment(environment) == credentials


def test_no_credentials_name_both_variables() -> None:
    with pytest.raises(CredentialsError, match="neither BYTENITE_ACCESS_TOKEN nor BYTENITE_API_KEY is set"):
        Credentials.from_environment({})


@pytest.mark.parametrize("empty", ["", "  \n"])
def test_an_empty_variable_counts_as_not_set(empty: str) -> None:
    with pytest.raises(CredentialsError, match="neither BYTENITE_ACCESS_TOKEN nor BYTENITE_API_KEY is set"):
        Credentials.from_environment({"BYTENITE_ACCESS_TOKEN": empty, "BYTENITE_API_KEY": empty})
    assert Credentials.from_environment({"BYTENITE_ACCESS_TOKEN": empty, "BYTENITE_API_KEY": "k"}) == Credentials(
        None, "k"
    )


@pytest.mark.parametrize("name", ["BYTENITE_ACCESS_TOKEN", "BYTENITE_API_KEY"])
@pytest.mark.parametrize("value", ["canary\nX: y", "canary\x00", "canäry", "canary\x7f", "Bearer canary"])
def test_what_a_header_can_not_carry_is_refused_and_not_shown(name: str, value: str) -> None:
    with pytest.raises(CredentialsError) as caught:
        Credentials.from_environment({name: value})
    assert name in caught.value.message
    shown = "".join(traceback.format_exception(caught.value)) + caught.value.hint
    assert "canary" not in shown
    assert "canäry" not in shown


def test_nothing_that_holds_a_secret_shows_it() -> None:
    credentials = Credentials(CANARY, KEY_CANARY)
    tokens = Tokens(credentials, lambda _: Grant(CANARY, None), lambda: 0.0)
    shown = [repr(credentials), str(credentials), repr(tokens), repr(Grant(CANARY, 3.0))]
    assert not [text for text in shown if "canary" in text]


# How long a token lives


@pytest.mark.parametrize(
    ("endpoint", "url"),
    [
        ("https://api.bytenite.com/v1/customer", "https://api.bytenite.com/v1/auth/access_token"),
        ("https://jobs.example.org", "https://jobs.example.org/auth/access_token"),
        ("https://jobs.example.org/customers", "https://jobs.example.org/customers/auth/access_token"),
    ],
)
def test_the_token_is_asked_for_beside_the_customer_api(endpoint: str, url: str) -> None:
    assert token_url(endpoint) == url


@pytest.mark.parametrize(("wire_value", "seconds"), [("3600", 3600.0), (3600, 3600.0), (0.5, 0.5), ("1", 1.0)])
def test_a_life_is_seconds_as_number_or_string(wire_value: object, seconds: float) -> None:
    assert life_s(wire_value) == seconds


@pytest.mark.parametrize(
    "wire_value", [None, "", "0", 0, -5, "-5", "1h", "1.5", True, math.nan, math.inf, "9" * 400, 10**400, [], {}]
)
def test_a_life_that_makes_no_sense_is_not_known(wire_value: object) -> None:
    assert life_s(wire_value) is None


@pytest.mark.parametrize(("life", "after"), [(3600, 2880), (300, 240), (200, 140), (100, 50), (60, 30), (1, 0.5)])
def test_a_token_is_renewed_well_before_its_end(life: float, after: float) -> None:
    assert renew_after_s(life) == after


# The token in use


class Service:
    """Sells access tokens, each with another value. A call with any but a valid token is answered with a 401."""

    def __init__(self, *valid: str, expires_in: object = None) -> None:
        self.valid = set(valid)
        self.expires_in = expires_in
        self.sold = 0
        self.lock = threading.Lock()

    def __call__(self, request: Request, _connection: socket.socket) -> bytes:
        with self.lock:
            if request.path == "/v1/auth/access_token":
                assert (request.method, request.body) == ("POST", b'{"apiKey":"%s"}' % KEY_CANARY.encode())
                assert "authorization" not in request.headers
                self.sold += 1
                self.valid.add(f"{CANARY}-{self.sold}")
                return answer(200, json.dumps({"token": f"{CANARY}-{self.sold}", "expiresIn": self.expires_in}))
            return OK if request.headers["authorization"] in self.valid else answer(401, "expired")


@contextmanager
def engine_for(
    answering: Answering, credentials: Credentials, clock: Callable[[], float] = lambda: 0.0
) -> Iterator[tuple[RawServer, ByteniteEngine]]:
    with raw_server(answering) as server:
        engine = ByteniteEngine(
            server.url, credentials, parallelism=32, max_rps=None, wait=Pauses(), random=Random(1), clock=clock
        )
        try:
            yield server, engine
        finally:
            engine.close()


def sent(server: RawServer) -> list[str]:
    """Return the tokens of the calls in order, with "exchange" for each exchange of the API key."""
    return [request.headers.get("authorization", "exchange") for request in server.requests]


def test_an_api_key_is_exchanged_once_and_its_token_used() -> None:
    with engine_for(Service(), Credentials(api_key=KEY_CANARY)) as (server, engine):
        assert [engine.send(RUN).kind for _ in range(3)] == [AnswerClass.APPLIED] * 3
    assert sent(server) == ["exchange"] + [f"{CANARY}-1"] * 3


def test_of_both_the_token_is_used_first_and_the_key_renews_it() -> None:
    service = Service(CANARY)
    with engine_for(service, Credentials(CANARY, KEY_CANARY)) as (server, engine):
        assert engine.send(RUN).kind is AnswerClass.APPLIED
        service.valid.clear()
        assert engine.send(RUN).kind is AnswerClass.APPLIED
    assert sent(server) == [CANARY, CANARY, "exchange", f"{CANARY}-1"]


def test_a_token_alone_is_not_renewed() -> None:
    with engine_for(Service(), Credentials(CANARY)) as (server, engine):
        assert engine.send(RUN) == Result(AnswerClass.REJECTED, Reason.NOT_AUTHENTICATED, "expired", "401")
    assert sent(server) == [CANARY]


def test_a_token_is_renewed_before_it_expires() -> None:
    now_s = 0.0
    with engine_for(Service(expires_in="1000"), Credentials(api_key=KEY_CANARY), lambda: now_s) as (server, engine):
        for at_s in (0.0, 799.0, 800.0, 1599.0, 1600.0):
            now_s = at_s
            engine.send(RUN)
    first, second, third = (f"{CANARY}-{number}" for number in (1, 2, 3))
    assert sent(server) == ["exchange", first, first, "exchange", second, second, "exchange", third]


def test_a_token_of_unknown_life_is_renewed_at_a_401_alone() -> None:
    now_s = 0.0
    service = Service()
    with engine_for(service, Credentials(api_key=KEY_CANARY), lambda: now_s) as (server, engine):
        engine.send(RUN)
        now_s = 1e9
        engine.send(RUN)
        service.valid.clear()
        assert engine.send(RUN).kind is AnswerClass.APPLIED
    assert sent(server) == ["exchange", *[f"{CANARY}-1"] * 3, "exchange", f"{CANARY}-2"]


def test_a_renewal_ahead_of_time_that_fails_leaves_the_token_in_use() -> None:
    now_s = 0.0
    up = Service(expires_in=1000)
    down = False

    def answering(request: Request, connection: socket.socket) -> bytes:
        return answer(503) if down and request.path.endswith("access_token") else up(request, connection)

    with engine_for(answering, Credentials(api_key=KEY_CANARY), lambda: now_s) as (server, engine):
        engine.send(RUN)
        now_s, down = 900.0, True
        assert [engine.send(RUN).kind for _ in range(2)] == [AnswerClass.APPLIED] * 2
        down = False
        up.valid.clear()
        assert engine.send(RUN).kind is AnswerClass.APPLIED
    assert sent(server) == [
        "exchange",
        f"{CANARY}-1",
        *["exchange"] * 4,
        *[f"{CANARY}-1"] * 3,
        "exchange",
        f"{CANARY}-2",
    ]


def test_a_call_renews_the_token_once() -> None:
    def answering(request: Request, connection: socket.socket) -> bytes:
        return service(request, connection) if request.path.endswith("access_token") else answer(401, "no")

    service = Service()
    with engine_for(answering, Credentials(CANARY, KEY_CANARY)) as (server, engine):
        assert engine.send(RUN) == Result(AnswerClass.REJECTED, Reason.NOT_AUTHENTICATED, "no", "401")
        assert sent(server) == [CANARY, "exchange", f"{CANARY}-1"]
        with pytest.raises(CredentialsError, match=r"rejected the access token \(401\)"):
            engine.observe("j")


def test_a_storm_of_401s_renews_the_token_once() -> None:
    together = threading.Barrier(16)
    service = Service()

    def answering(request: Request, connection: socket.socket) -> bytes:
        if request.headers.get("authorization") == CANARY:
            together.wait(10)
        return service(request, connection)

    answers: list[AnswerClass] = []
    with engine_for(answering, Credentials(CANARY, KEY_CANARY)) as (server, engine):
        threads = [threading.Thread(target=lambda: answers.append(engine.send(RUN).kind)) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert answers == [AnswerClass.APPLIED] * 16
    assert service.sold == 1
    assert sorted(sent(server)) == [CANARY] * 16 + [f"{CANARY}-1"] * 16 + ["exchange"]


def test_while_the_exchange_is_down_one_thread_asks_and_all_share_the_verdict() -> None:
    """Two hundred calls on 64 threads, while the service demands a pause of five seconds before each attempt."""
    expired = threading.Barrier(64)
    pauses = Pauses()

    def answering(request: Request, _connection: socket.socket) -> bytes:
        if request.path.endswith("access_token"):
            return answer(503, "down", "Retry-After: 5")
        with suppress(threading.BrokenBarrierError):  # the barrier stays open after all threads have met once
            expired.wait(10)
            expired.abort()
        return answer(401, "expired")

    with raw_server(answering) as server:
        engine = ByteniteEngine(
            server.url,
            Credentials(CANARY, KEY_CANARY),
            parallelism=64,
            max_rps=None,
            wait=pauses,
            random=Random(1),
            clock=lambda: 0.0,
        )
        with ThreadPoolExecutor(64) as pool:
            given = list(pool.map(lambda _: engine.send(RUN), range(200)))
        engine.close()
    assert {(each.kind, int(each.code)) for each in given} == {(AnswerClass.REJECTED, 401)}
    assert all("could not be renewed" in each.message and ": 503: down" in each.message for each in given)
    assert sent(server).count("exchange") == 4
    assert pauses.count(5.0) == 3


def test_a_verdict_holds_for_a_minute_and_then_the_key_is_tried_again() -> None:
    now_s, down = 0.0, True
    up = Service()

    def answering(request: Request, connection: socket.socket) -> bytes:
        return answer(503) if down and request.path.endswith("access_token") else up(request, connection)

    with engine_for(answering, Credentials(api_key=KEY_CANARY), lambda: now_s) as (server, engine):
        assert engine.send(RUN).kind is AnswerClass.NOT_SENT
        down, now_s = False, 59.0
        assert engine.send(RUN).kind is AnswerClass.NOT_SENT
        now_s = 60.0
        assert engine.send(RUN).kind is AnswerClass.APPLIED
    assert sent(server) == [*["exchange"] * 5, f"{CANARY}-1"]


def test_a_token_that_still_lives_is_used_while_another_thread_renews_it() -> None:
    now_s, asked, over = 0.0, threading.Event(), threading.Event()
    service = Service(expires_in=1000)

    def answering(request: Request, connection: socket.socket) -> bytes:
        if request.path.endswith("access_token") and service.sold:
            asked.set()
            over.wait(10)
        return service(request, connection)

    credentials = Credentials(api_key=KEY_CANARY)
    with engine_for(answering, credentials, lambda: now_s) as (server, engine), ThreadPoolExecutor(1) as pool:
        engine.send(RUN)
        now_s = 900.0
        renewing = pool.submit(engine.send, RUN)
        assert asked.wait(10)
        assert engine.send(RUN).kind is AnswerClass.APPLIED
        over.set()
        assert renewing.result().kind is AnswerClass.APPLIED
    assert sent(server) == ["exchange", f"{CANARY}-1", "exchange", f"{CANARY}-1", f"{CANARY}-2"]


def test_a_key_that_is_rejected_is_not_tried_again() -> None:
    with engine_for(always(answer(401, '{"message": "unknown key"}')), Credentials(api_key=KEY_CANARY)) as (
        server,
        engine,
    ):
        assert engine.send(RUN) == Result(
            AnswerClass.NOT_SENT, Reason.NOT_AUTHENTICATED, "the service rejected the API key (401): unknown key"
        )
        with pytest.raises(CredentialsError, match="unknown key") as caught:
            engine.observe("j")
    assert "BYTENITE_API_KEY" in caught.value.hint
    assert sent(server) == ["exchange"]


def test_a_renewal_that_fails_leaves_the_401_standing() -> None:
    def answering(request: Request, _connection: socket.socket) -> bytes:
        return answer(403, "blocked") if request.path.endswith("access_token") else answer(401, "expired")

    with engine_for(answering, Credentials(CANARY, KEY_CANARY)) as (_, engine):
        given = engine.send(RUN)
    assert (given.kind, int(given.code)) == (AnswerClass.REJECTED, 401)
    assert given.message == (
        "the credentials could not be renewed: the service rejected the API key (403): blocked; expired"
    )


@pytest.mark.parametrize(
    "content",
    [
        answer(404),
        answer(200, "{}"),
        answer(200, "canary-new-token"),
        answer(200, '{"token": ["canary-new-token"]}'),
        answer(200, '{"token": "canary-new token"}'),
        answer(200, '{"token": "canary-new-token\\r\\nX: y"}'),
        answer(200, '{"ok": false, "token": "canary-new-token", "message": "canary-new-token"}'),
        answer(302, "", "Location: /login"),
        answer(503),
    ],
)
def test_an_exchange_that_yields_no_token_is_the_services_fault(content: bytes) -> None:
    with engine_for(always(content), Credentials(api_key=KEY_CANARY)) as (server, engine):
        assert engine.send(RUN).kind is AnswerClass.NOT_SENT
        with pytest.raises(EngineError) as caught:
            engine.observe("j")
    assert f"http://127.0.0.1:{server.port}/v1/auth/access_token: " in caught.value.message
    assert "canary" not in "".join(traceback.format_exception(caught.value))


# Never shown

ECHOES = [CANARY, CANARY.replace("/", "\\/"), "x" * 493 + CANARY, KEY_CANARY, f"{CANARY}-{KEY_CANARY}"]


@pytest.mark.parametrize("echo", ECHOES, ids=range(len(ECHOES)))
@pytest.mark.parametrize(
    "shape",
    [
        lambda echo: answer(400, f"bad {echo}"),
        lambda echo: answer(500, f'{{"message": "bad {echo}"}}'),
        lambda echo: answer(200, f'{{"ok": true, "requestId": "{echo}", "message": "{echo}"}}'),
        lambda echo: answer(200, f'{{"error": {{"message": "{echo}", "description": "{echo}", "code": "{echo}"}}}}'),
        lambda echo: answer(403, f'["{echo}"]'),
        lambda echo: answer(302, "", f"Location: /login?token={echo}"),
        lambda echo: answer(429, "", f"Retry-After: {echo}"),
        lambda echo: answer(200, f'{{"ok": "{echo}"'),
        lambda echo: answer(502, f"<p>{echo}"),
        lambda echo: answer(200, '{"ok": true}', f"Content-Encoding: {echo}"),
        lambda echo: answer(200, f'{{"job": {{"id": "j", "state": "S {echo}", "errorMessage": "{echo}"}}}}'),
        lambda echo: answer(200, f'{{"job": {{"id": "j", "state": "S", "submittedAt": "{echo}"}}}}'),
        lambda echo: answer(200, f'{{"data": [{{"id": "j", "state": "S {echo}"}}]}}'),
        lambda echo: answer(200, f'{{"job": {{"id": "j", "state": "S", "stateTimestamps": {{"{echo}": "{echo}"}}}}}}'),
    ],
    ids=range(14),
)
def test_a_secret_that_the_service_echoes_is_not_shown(shape: Callable[[str], bytes], echo: str) -> None:
    with engine_for(always(shape(echo)), Credentials(CANARY, KEY_CANARY)) as (_, engine):
        shown = repr(engine.send(RUN)) + repr(engine)
        try:
            shown += repr(engine.observe("j"))
            shown += repr(list(engine.observe_all()))
        except (EngineError, CredentialsError) as error:
            shown += error.hint + "".join(traceback.format_exception(error))
    assert "canary" not in shown
    assert "[redacted]" in shown or len(echo) > 400  # the mark of the cut takes one character


def test_a_renewed_token_is_not_shown_either() -> None:
    service = Service()

    def answering(request: Request, connection: socket.socket) -> bytes:
        if request.path.endswith("access_token"):
            return service(request, connection)
        return answer(400, f"bad {request.headers['authorization']}")

    with engine_for(answering, Credentials(api_key=KEY_CANARY)) as (_, engine):
        assert engine.send(RUN).message == "bad [redacted]"


def test_a_jobs_own_words_are_left_alone() -> None:
    with engine_for(always(JOB), Credentials("a-token")) as (_, engine):
        assert engine.observe("j").word == "JOB_STATE_RUNNING"
