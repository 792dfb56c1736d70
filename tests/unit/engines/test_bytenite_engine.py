"""The engine over real sockets: the requests that are sent, the meaning of each answer, and the repetitions."""

import http.client
import json
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

import pytest

from raw_server import Answering, Pauses, RawServer, Request, always, answer, raw_server, reset
from reconciler.engines.bytenite.auth import Credentials
from reconciler.engines.bytenite.engine import ByteniteEngine
from reconciler.engines.http.dial import LookUp
from reconciler.engines.port import AnswerClass, Engine, Reason, Result, Step
from reconciler.model.errors import CredentialsError, EngineError, ListIncomplete
from reconciler.model.jobs import NOT_OBSERVED, Status, Verb
from steps import step_for

TOKEN = "canary-token"
OK = answer(200, '{"ok": true, "requestId": "r-1", "message": "queued"}')
RUN = step_for(Verb.RUN, "j", {"taskTimeout": 60, "isTestJob": True})
ABORT = step_for(Verb.ABORT, "j", {})
DELETE = step_for(Verb.DELETE, "j", {})
SOON_S = 5.0
"""A time far above every deadline of these tests, and far below the time of a request without a deadline."""


@contextmanager
def engine_at(
    url: str,
    *,
    pauses: Callable[[float], bool] | None = None,
    max_rps: float | None = None,
    timeout_s: float = 10.0,
    connect_timeout_s: float = 5.0,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[ByteniteEngine]:
    engine = ByteniteEngine(
        url,
        Credentials(TOKEN),
        parallelism=4,
        max_rps=max_rps,
        wait=Pauses() if pauses is None else pauses,
        random=Random(1),
        clock=clock,
        timeout_s=timeout_s,
        connect_timeout_s=connect_timeout_s,
    )
    try:
        yield engine
    finally:
        engine.close()


def send_to(server: RawServer, step: Step = RUN, *, timeout_s: float = 10.0) -> Result:
    with engine_at(server.url, timeout_s=timeout_s) as engine:
        return engine.send(step)


def unused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def then_closed(content: bytes) -> Callable[[Request, socket.socket], None]:
    def answering(_request: Request, connection: socket.socket) -> None:
        connection.sendall(content)

    return answering


def test_it_is_an_engine() -> None:
    with engine_at("http://127.0.0.1:1") as engine:
        port: Engine = engine
        assert port is engine


# What is sent


def test_a_run_goes_out_as_the_reference_has_it() -> None:
    with raw_server(always(OK)) as server:
        given = send_to(server)
    [request] = server.requests
    assert (request.method, request.path) == ("POST", "/v1/customer/jobs/j/run")
    assert request.body == b'{"config":{"isTestJob":true,"taskTimeout":60}}'
    assert dict(request.headers) == {
        "host": f"127.0.0.1:{server.port}",
        "authorization": TOKEN,
        "accept": "application/json",
        "accept-encoding": "identity",
        "content-type": "application/json",
        "content-length": "46",
        "user-agent": "reconciler",
    }
    assert given == Result(AnswerClass.APPLIED, Reason.OTHER, "queued", "200", "r-1")


@pytest.mark.parametrize(
    ("step", "method", "path", "length"),
    [
        (ABORT, "POST", "/v1/customer/jobs/j/abort", "0"),
        (DELETE, "DELETE", "/v1/customer/jobs/j", None),
    ],
)
def test_abort_and_delete_have_no_body(step: Step, method: str, path: str, length: str | None) -> None:
    with raw_server(always(OK)) as server:
        assert send_to(server, step).kind is AnswerClass.APPLIED
    [request] = server.requests
    assert (request.method, request.path, request.body) == (method, path, b"")
    assert request.headers.get("content-length") == length
    assert "content-type" not in request.headers


def test_an_encoded_id_arrives_as_it_was_encoded() -> None:
    with raw_server(always(OK)) as server:
        send_to(server, step_for(Verb.DELETE, "a/../b%2e ü", {}))
    assert server.requests[0].path == "/v1/customer/jobs/a%2F..%2Fb%252e%20%C3%BC"


def test_head_and_body_leave_in_one_piece() -> None:
    received: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            connection, _ = listener.accept()
            with connection:
                received.append(connection.recv(65536))
                connection.sendall(OK)

        thread = threading.Thread(target=accept)
        thread.start()
        with engine_at(f"http://127.0.0.1:{listener.getsockname()[1]}") as engine:
            engine.send(RUN)
        thread.join()
    assert received[0].endswith(b'\r\n\r\n{"config":{"isTestJob":true,"taskTimeout":60}}')


def test_the_environment_is_ignored(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login someone password something\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "none"))
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    with raw_server(always(OK)) as server:
        assert send_to(server).kind is AnswerClass.APPLIED
    assert server.requests[0].headers["authorization"] == TOKEN


def test_cookies_are_not_kept() -> None:
    with raw_server(always(answer(200, '{"ok":true}', "Set-Cookie: a=b"))) as server, engine_at(server.url) as engine:
        engine.send(RUN)
        engine.send(RUN)
    assert "cookie" not in server.requests[1].headers


@pytest.mark.parametrize(
    "endpoint", ["http://example.org", "ftp://127.0.0.1", "https://someone:canary-word@example.org"]
)
def test_an_endpoint_that_would_show_the_token_is_refused(endpoint: str) -> None:
    with pytest.raises(EngineError) as caught:
        ByteniteEngine(endpoint, Credentials(TOKEN), parallelism=1, max_rps=None, wait=Pauses(), random=Random(1))
    assert "canary" not in caught.value.message


# Applied


@pytest.mark.parametrize(
    "body",
    [
        '{"ok": true}',
        '{"ok": true, "error": null}',
        '{"ok": true, "error": {}}',
        '{"ok": true, "error": {"code": "0", "message": "", "description": ""}}',
        '{"ok": true, "error": {"code": 0, "message": "", "details": []}}',
        '{"ok": true, "unknown": [1, 2, {"deep": true}]}',
        ' \n{"ok" : true}\r\n ',
    ],
)
@pytest.mark.parametrize("status", [200, 201, 202])
def test_a_2xx_that_says_ok_is_applied(status: int, body: str) -> None:
    with raw_server(always(answer(status, body))) as server:
        given = send_to(server)
    assert (given.kind, int(given.code)) == (AnswerClass.APPLIED, status)
    assert len(server.requests) == 1


def test_a_chunked_answer_is_read_to_its_end() -> None:
    chunked = b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\n{"ok":\r\n5\r\ntrue}\r\n0\r\n\r\n'
    with raw_server(always(chunked)) as server, engine_at(server.url) as engine:
        assert [engine.send(RUN).kind for _ in range(3)] == [AnswerClass.APPLIED] * 3
        assert server.connections == 1


def test_an_answer_that_ends_with_the_connection_is_applied_as_its_json_is_whole() -> None:
    with raw_server(then_closed(b'HTTP/1.1 200 OK\r\n\r\n{"ok":true}')) as server:
        assert send_to(server).kind is AnswerClass.APPLIED


def test_interim_continues_are_passed_over() -> None:
    with raw_server(always(b"HTTP/1.1 100 Continue\r\n\r\n" * 3 + OK)) as server:
        assert send_to(server).kind is AnswerClass.APPLIED


# Rejected


@pytest.mark.parametrize("status", [400, 401, 403, 404])
@pytest.mark.parametrize(
    ("body", "message"),
    [
        ('{"ok": false, "error": {"code": "7", "message": "no", "description": "not so"}}', "no: not so: code 7"),
        ('{"code": 5, "message": "job is not running", "details": [{"@type": "t"}]}', "job is not running: code 5"),
        ("plain\n  words", "plain words"),
        (b"\xff\xfe\x00bytes", "\ufffd\ufffd\x00bytes"),
        ("[1]", "[1]"),
    ],
)
def test_a_rejection_shows_what_the_service_said(status: int, body: bytes | str, message: str) -> None:
    with raw_server(always(answer(status, body))) as server:
        given = send_to(server)
    assert (given.kind, int(given.code), given.message) == (AnswerClass.REJECTED, status, message)
    assert len(server.requests) == 1


def test_a_rejection_without_a_word_is_shown_by_its_meaning() -> None:
    with raw_server(always(answer(403))) as server:
        assert send_to(server).message == "Forbidden"


@pytest.mark.parametrize(
    "body",
    [
        '{"ok": false}',
        '{"ok": false, "error": null}',
        '{"ok": false, "error": {}}',
        '{"ok": true, "error": {"code": 3}}',
        '{"error": {"message": "quota"}}',
        '{"error": "quota"}',
    ],
)
def test_a_200_that_tells_a_failure_is_rejected(body: str) -> None:
    with raw_server(always(answer(200, body))) as server:
        given = send_to(server)
    assert (given.kind, int(given.code)) == (AnswerClass.REJECTED, 200)
    assert len(server.requests) == 1


def test_a_failure_in_a_200_shows_error_and_request_id() -> None:
    body = (
        '{"ok":false,"requestId":"r-9","message":"failed","error":{"code":"12","message":"quota","description":"all"}}'
    )
    with raw_server(always(answer(200, body))) as server:
        assert send_to(server) == Result(AnswerClass.REJECTED, Reason.OTHER, "quota: all: code 12", "200", "r-9")


@pytest.mark.parametrize("status", [400, 401, 403, 404, 429])
def test_a_rejection_stands_though_its_body_breaks_off(status: int) -> None:
    broken = f"HTTP/1.1 {status} Words\r\nContent-Length: 99\r\n\r\nhalf a".encode()
    with raw_server(then_closed(broken)) as server:
        given = send_to(server)
    assert (given.kind, int(given.code)) == (AnswerClass.REJECTED, status)
    assert given.message == "the answer broke off before its end; half a"


def test_a_rejection_stands_though_its_body_never_ends() -> None:
    def hang(_request: Request, connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 99\r\n\r\n")
        server.closing.wait()

    with raw_server(hang) as server:
        assert send_to(server, timeout_s=0.3).kind is AnswerClass.REJECTED


def test_a_message_is_bounded() -> None:
    with raw_server(always(answer(400, "long " * 9999, "Content-Type: text/plain"))) as server:
        assert len(send_to(server).message) == 500


# In doubt


@pytest.mark.parametrize(
    "content",
    [
        answer(200),
        answer(204),
        answer(200, "   "),
        answer(200, "<html><body>Welcome</body></html>"),
        answer(200, "[]"),
        answer(200, '"ok"'),
        answer(200, "true"),
        answer(200, "null"),
        answer(200, '{"ok": true'),
        answer(200, '{"ok": true} trailing'),
        answer(200, '{"ok": "true"}'),
        answer(200, '{"ok": 0}'),
        answer(200, '{"ok": 1}'),
        answer(200, '{"ok": null, "error": null}'),
        answer(200, '{"error": {}}'),
        answer(200, "{}"),
        answer(200, '{"requestId": "r-1", "message": "queued"}'),
        answer(200, '{"code": 16, "message": "unauthenticated"}'),
        answer(200, '{"errors": [{"message": "no"}]}'),
        answer(200, '{"success": false}'),
        answer(200, '{"success": true}'),
        answer(200, '{"OK": true}'),
        answer(200, '{"result": {"ok": true}}'),
        answer(200, '{"job": {"id": "other", "state": "JOB_STATE_RUNNING"}}'),
        answer(200, '{"ok": false, "ok": true}'),
        answer(200, '{"ok": true, "ok": false}'),
        answer(200, '{"ok": true, "ok": true}'),
        answer(200, '{"ok": true, "error": {"code": 0, "code": 7}}'),
        answer(200, '{"ok": true, "took": NaN}'),
        answer(200, b'{"ok": true, "message": "\xff"}'),
        answer(200, "[" * 100_000),
        answer(200, '{"ok":true}', "Content-Encoding: gzip"),
        answer(200, '{"ok":true,"message":"' + "x" * 1024 * 1024 + '"}'),
        b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\nContent-Length: 12\r\n\r\n" + b'{"ok":true}',
        b'HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n{"ok":true}',
    ],
    ids=lambda content: content[:60].decode(errors="replace") if isinstance(content, bytes) else None,
)
def test_a_2xx_that_can_not_be_read_is_in_doubt(content: bytes) -> None:
    with raw_server(always(content)) as server:
        given = send_to(server)
    assert given.kind is AnswerClass.IN_DOUBT
    assert given.message not in ("", "OK")
    assert len(server.requests) == 1


def test_a_body_beyond_the_bound_is_not_read_on() -> None:
    with raw_server(drip(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 100_000)) as server:
        given = send_to(server)
    assert given.kind is AnswerClass.IN_DOUBT
    assert given.message.startswith("the answer is longer than 1024 KiB; xxx")


def test_a_request_that_was_sent_in_part_is_in_doubt() -> None:
    big = step_for(Verb.RUN, "j", {"x" * 30_000_000: 1})
    with socket.create_server(("127.0.0.1", 0)) as listener:  # the server accepts, and never reads
        port = listener.getsockname()[1]
        with engine_at(f"http://127.0.0.1:{port}", timeout_s=2, pauses=Pauses(stop=True)) as engine:
            given = engine.send(big)
    assert given == Result(AnswerClass.IN_DOUBT, Reason.OTHER, "no whole answer within 2 s: its head did not end")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"HTTP/1.1",
        b'HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n{"ok":true}',
        b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nb\r\n{"ok":true}\r\n',
        b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nb\r\n{"ok":true}\r\nzz\r\n',
        b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\n{"ok":true}',
        b'HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\nb\r\n{"ok":true}\r\n0\r\n\r\n',
        b"SSH-2.0-OpenSSH_9.9\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/2.0 200 OK\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n{}",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70_000 + b"\r\n\r\n{}",
        b"\x15\x03\x01\x00\x02\x02\x50",
    ],
    ids=lambda content: content[:90].decode(errors="replace") if isinstance(content, bytes) else None,
)
@pytest.mark.parametrize("step", [RUN, ABORT, DELETE], ids=lambda step: step.verb)
def test_an_answer_that_breaks_off_is_in_doubt_and_not_sent_twice(step: Step, content: bytes) -> None:
    with raw_server(then_closed(content)) as server:
        given = send_to(server, step)
    assert given.kind is AnswerClass.IN_DOUBT
    assert given.message
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [402, 405, 406, 408, 409, 410, 413, 415, 422, 500, 501, 502, 503, 504, 599, 999])
def test_any_other_status_is_in_doubt_and_not_sent_twice(status: int) -> None:
    with raw_server(always(answer(status, '{"ok": true}', "Retry-After: 1"))) as server:
        given = send_to(server)
    assert (given.kind, int(given.code)) == (AnswerClass.IN_DOUBT, status)
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [300, 301, 302, 303, 304, 307, 308])
def test_a_redirect_is_not_followed(status: int) -> None:
    with (
        raw_server(always(OK)) as elsewhere,
        raw_server(always(answer(status, "", f"Location: {elsewhere.url}/jobs/j/run"))) as server,
    ):
        given = send_to(server)
    assert (given.kind, int(given.code)) == (AnswerClass.IN_DOUBT, status)
    assert given.message == f"redirected to {elsewhere.url}/jobs/j/run, which is not followed"
    assert (len(server.requests), len(elsewhere.requests)) == (1, 0)


def test_a_reset_after_the_request_is_in_doubt() -> None:
    def cut(_request: Request, connection: socket.socket) -> None:
        reset(connection)

    with raw_server(cut) as server:
        given = send_to(server)
    assert given == Result(AnswerClass.IN_DOUBT, Reason.OTHER, "the connection was reset before the whole answer came")
    assert len(server.requests) == 1


def test_a_close_without_an_answer_is_in_doubt() -> None:
    with raw_server(then_closed(b"")) as server:
        given = send_to(server)
    assert given == Result(AnswerClass.IN_DOUBT, Reason.OTHER, "the connection was closed before an answer came")


def drip(head: bytes, drop: bytes) -> Callable[[Request, socket.socket], None]:
    def answering(_request: Request, connection: socket.socket) -> None:
        connection.sendall(head)
        stop_at = time.monotonic() + 2 * SOON_S
        while time.monotonic() < stop_at:
            connection.sendall(drop)
            time.sleep(0.02)

    return answering


@pytest.mark.parametrize(
    ("head", "drop"),
    [
        (b"", b""),
        (b"HTTP/1.1 200 OK\r\n", b""),
        (b"HTTP/1.1 200 OK\r\nX-", b"x"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n", b"x"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
        (b"HTTP/1.1 200 OK\r\n\r\n", b" "),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    ],
    ids=["nothing", "hang in head", "drip of head", "drip of body", "drip of chunks", "no length", "endless 100"],
)
def test_the_deadline_is_one_for_the_whole_call(head: bytes, drop: bytes) -> None:
    with raw_server(drip(head, drop)) as server:
        began_s = time.monotonic()
        given = send_to(server, timeout_s=0.3)
        took_s = time.monotonic() - began_s
    assert given.kind is AnswerClass.IN_DOUBT
    assert given.message.startswith("no whole answer within 0.3 s")
    assert 0.3 <= took_s < SOON_S
    assert len(server.requests) == 1


# Not sent


def test_a_refused_connection_is_not_sent_and_tried_four_times() -> None:
    port = unused_port()
    pauses = Pauses()
    with engine_at(f"http://127.0.0.1:{port}", pauses=pauses) as engine:
        given = engine.send(RUN)
    assert given == Result(
        AnswerClass.NOT_SENT,
        Reason.OTHER,
        f"127.0.0.1:{port}: the host refused the connection; check the endpoint: nothing listens there",
    )
    assert len(pauses) == 3
    assert 0.25 <= pauses[0] <= 0.5 <= pauses[1] <= 1.0 <= pauses[2] <= 2.0


def test_a_run_that_was_not_sent_is_sent_once_the_service_is_up() -> None:
    servers: list[RawServer] = []
    port = unused_port()

    def start(_seconds: float) -> bool:
        servers.append(RawServer(always(OK), port=port))
        return False

    with engine_at(f"http://127.0.0.1:{port}", pauses=start) as engine:
        given = engine.send(RUN)
    for server in servers:
        server.close()
    assert given.kind is AnswerClass.APPLIED
    assert [len(server.requests) for server in servers] == [1]


def test_a_name_that_does_not_resolve_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    def look_up(*_args: object, **_kwargs: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    with engine_at("https://jobs.invalid/v1/customer") as engine:
        given = engine.send(RUN)
    assert given == Result(
        AnswerClass.NOT_SENT,
        Reason.OTHER,
        "jobs.invalid: the host name does not resolve; check the endpoint and the name server; "
        "where a proxy leads out, name it with HTTPS_PROXY",
    )


def test_a_look_up_that_hangs_ends_with_the_time_to_connect(monkeypatch: pytest.MonkeyPatch) -> None:
    over = threading.Event()

    def look_up(*_args: object, **_kwargs: object) -> None:
        over.wait(SOON_S)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    began_s = time.monotonic()
    with engine_at("https://jobs.invalid", connect_timeout_s=0.1) as engine:
        given = engine.send(RUN)
    took_s = time.monotonic() - began_s
    over.set()
    assert given.kind is AnswerClass.NOT_SENT
    assert given.message.startswith("jobs.invalid: no connection in time: name look-up took longer than 0.1 s; check ")
    assert 0.4 <= took_s < SOON_S


def test_several_addresses_share_the_time_to_connect(monkeypatch: pytest.MonkeyPatch) -> None:
    with full_backlog() as port:
        address = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_kwargs: [address] * 99)
        began_s = time.monotonic()
        with engine_at("http://localhost", connect_timeout_s=0.2, pauses=Pauses(stop=True)) as engine:
            given = engine.send(RUN)
        took_s = time.monotonic() - began_s
        monkeypatch.undo()
    assert given.kind is AnswerClass.NOT_SENT
    assert took_s < SOON_S


def test_a_look_up_that_was_given_up_makes_no_connection_and_keeps_no_other_look_up_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    over, is_first, look_up = threading.Event(), iter([True]), socket.getaddrinfo
    before = set(threading.enumerate())

    def late(*arguments: Any, **options: Any) -> Any:
        if next(is_first, False):
            over.wait(SOON_S)
        return look_up(*arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", late)
    with raw_server(always(OK)) as server, engine_at(server.url, connect_timeout_s=0.1) as engine:
        assert engine.send(RUN).kind is AnswerClass.APPLIED
        [given_up] = [t for t in threading.enumerate() if t.name == "look-up" and t not in before]
        over.set()
        given_up.join(SOON_S)
        assert engine.send(RUN).kind is AnswerClass.APPLIED
        assert server.connections == 1


def test_threads_that_connect_at_the_same_time_share_one_look_up(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = threading.Semaphore(0)
    over = threading.Event()

    def slow(*_arguments: Any, **_options: Any) -> list[Any]:
        asked.release()
        over.wait(SOON_S)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    look_up = LookUp("jobs.invalid", 443)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(look_up.addresses, SOON_S)
        assert asked.acquire(timeout=SOON_S)
        with pytest.raises(TimeoutError):
            look_up.addresses(0.01)
        over.set()
        assert first.result() == []
    assert not asked.acquire(blocking=False)


@contextmanager
def full_backlog() -> Iterator[int]:
    """Return a port whose backlog is full, so that a connect hangs."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        waiting = [socket.socket() for _ in range(4)]
        for client in waiting:
            client.setblocking(False)
            client.connect_ex(("127.0.0.1", port))
        yield port
        for client in waiting:
            client.close()


def test_a_connection_that_takes_too_long_is_not_sent() -> None:
    with full_backlog() as port, engine_at(f"http://127.0.0.1:{port}", connect_timeout_s=0.1) as engine:
        given = engine.send(RUN)
    assert given.kind is AnswerClass.NOT_SENT
    assert given.message.startswith(f"127.0.0.1:{port}: no connection in time: connect took longer than 0.1 s; check ")


# TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a self-signed certificate for 127.0.0.1, with its key in the same file."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("makes its certificate with openssl")
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    key = path.with_name("key.pem")
    subprocess.run(
        [
            *(openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"),
            *("-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-keyout", str(key), "-out", str(path)),
        ],
        check=True,
        capture_output=True,
    )
    path.write_bytes(path.read_bytes() + key.read_bytes())
    return path


@pytest.fixture
def tls(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


def test_a_certificate_that_nobody_vouches_for_is_not_sent_to(tls: ssl.SSLContext) -> None:
    with raw_server(always(OK), tls) as server:
        given = send_to(server)
    assert given.kind is AnswerClass.NOT_SENT
    assert "TLS failed: the certificate is not accepted (self-signed certificate)" in given.message
    assert server.requests == []


def test_the_environments_certificates_are_ignored(
    tls: ssl.SSLContext, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.setenv(name, str(certificate))
    with raw_server(always(OK), tls) as server:
        assert send_to(server).kind is AnswerClass.NOT_SENT


@pytest.fixture
def trusted(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trust the certificate, as one of the bundle."""
    monkeypatch.setattr("requests.utils.DEFAULT_CA_BUNDLE_PATH", str(certificate))


@pytest.mark.usefixtures("trusted")
def test_tls_carries_calls_over_one_connection(tls: ssl.SSLContext) -> None:
    with raw_server(always(OK), tls) as server, engine_at(server.url) as engine:
        assert [engine.send(RUN).kind for _ in range(3)] == [AnswerClass.APPLIED] * 3
        assert server.connections == 1


@pytest.mark.usefixtures("trusted")
def test_a_certificate_for_another_name_is_not_sent_to(tls: ssl.SSLContext) -> None:
    with raw_server(always(OK), tls) as server, engine_at(f"https://localhost:{server.port}") as engine:
        given = engine.send(RUN)
    assert given.kind is AnswerClass.NOT_SENT
    assert "Hostname mismatch" in given.message
    assert server.requests == []


@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize("head", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n"])
def test_the_deadline_holds_over_tls(tls: ssl.SSLContext, head: bytes) -> None:
    def answering(_request: Request, connection: socket.socket) -> None:
        drip(head, b"H")(_request, connection)

    with raw_server(answering, tls) as server:
        began_s = time.monotonic()
        given = send_to(server, timeout_s=0.4)
        took_s = time.monotonic() - began_s
    assert given.kind is AnswerClass.IN_DOUBT
    assert took_s < SOON_S


def test_a_tls_handshake_that_hangs_is_not_sent() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        engine_at(f"https://127.0.0.1:{listener.getsockname()[1]}", connect_timeout_s=0.1) as engine,
    ):
        given = engine.send(RUN)
    assert given.kind is AnswerClass.NOT_SENT
    assert ": no connection in time: TLS handshake took longer than 0.1 s; check " in given.message


def test_a_server_that_speaks_no_tls_is_not_sent_to() -> None:
    def speak(connection: socket.socket) -> None:
        connection.recv(1)
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with listener_that(speak) as port, engine_at(f"https://127.0.0.1:{port}") as engine:
        given = engine.send(RUN)
    assert given.kind is AnswerClass.NOT_SENT
    assert "TLS failed" in given.message


def test_a_reset_in_the_tls_handshake_is_not_sent() -> None:
    with listener_that(reset) as port, engine_at(f"https://127.0.0.1:{port}") as engine:
        given = engine.send(RUN)
    assert given.kind is AnswerClass.NOT_SENT


@contextmanager
def listener_that(does: Callable[[socket.socket], None]) -> Iterator[int]:
    """Return a port at which a function gets each connection before the connection is closed."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    try:
                        does(connection)
                    except OSError:
                        pass

        thread = threading.Thread(target=accept)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


# Connections


def test_a_connection_that_the_server_closed_is_not_used_again() -> None:
    closed = threading.Event()

    def once(_request: Request, connection: socket.socket) -> None:
        connection.sendall(OK)
        connection.shutdown(socket.SHUT_RDWR)
        closed.set()

    with raw_server(once) as server, engine_at(server.url) as engine:
        for _ in range(3):
            closed.clear()
            assert engine.send(RUN).kind is AnswerClass.APPLIED
            assert closed.wait(SOON_S)
    assert (len(server.requests), server.connections) == (3, 3)


def test_a_connection_that_idled_is_not_used_again_as_the_server_may_be_closing_it() -> None:
    now_s = 1000.0
    with raw_server(always(OK)) as server, engine_at(server.url, clock=lambda: now_s) as engine:
        engine.send(RUN)
        now_s += 1.4
        engine.send(RUN)
        assert server.connections == 1
        now_s += 1.6
        assert engine.send(RUN).kind is AnswerClass.APPLIED
        assert server.connections == 2


@pytest.mark.parametrize("head", [b"", b"HTTP/1.1 103 Early Hints\r\n\r\n"])
def test_bytes_left_over_are_never_the_answer_to_the_next_request(head: bytes) -> None:
    numbers = count(1)

    def answering(_request: Request, _connection: socket.socket) -> bytes:
        number = next(numbers)
        return head + answer(200, json.dumps({"ok": True, "requestId": f"r-{number}"})) + answer(200, '{"ok":true}')

    with raw_server(answering) as server, engine_at(server.url) as engine:
        answers = [engine.send(RUN) for _ in range(3)]
    assert len(server.requests) == 3
    assert [given.trace_id for given in answers] == ["r-1", "r-2", "r-3"]


@pytest.mark.parametrize(
    "content",
    [
        answer(200),
        answer(204),
        b"HTTP/1.1 103 Early Hints\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2000000\r\n\r\n" + b" " * (1024 * 1024 + 1),
    ],
    ids=["empty", "204", "103", "too long"],
)
def test_a_connection_with_an_odd_answer_is_not_used_again_as_more_may_come_on_it(content: bytes) -> None:
    with raw_server(always(content)) as server, engine_at(server.url) as engine:
        for _ in range(3):
            engine.send(RUN)
    assert (len(server.requests), server.connections) == (3, 3)


def test_a_late_answer_is_never_the_answer_to_the_next_request() -> None:
    numbers = count(1)
    late = threading.Event()

    def answering(_request: Request, _connection: socket.socket) -> bytes:
        number = next(numbers)
        if number == 1:
            late.wait(SOON_S)
        return answer(200, json.dumps({"ok": True, "requestId": f"r-{number}"}))

    with raw_server(answering) as server, engine_at(server.url, timeout_s=0.3) as engine:
        assert engine.send(RUN).kind is AnswerClass.IN_DOUBT
        late.set()
        assert engine.send(RUN).trace_id == "r-2"


def test_many_threads_share_the_engine() -> None:
    def echo(request: Request, _connection: socket.socket) -> bytes:
        return answer(200, json.dumps({"ok": True, "requestId": request.path.split("/")[4]}))

    request_ids: dict[str, str] = {}
    with raw_server(echo) as server, engine_at(server.url) as engine:

        def work(part: int) -> None:
            for number in range(25):
                job_id = f"j-{part}-{number}"
                request_ids[job_id] = engine.send(step_for(Verb.RUN, job_id, {})).trace_id

        threads = [threading.Thread(target=work, args=(part,)) for part in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(request_ids) == 200
    assert all(job_id == request_id for job_id, request_id in request_ids.items())


def test_a_fault_of_the_libraries_after_sending_is_in_doubt(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(response: http.client.HTTPResponse) -> None:
        assert response.fp.readline()  # the request has arrived
        raise IndexError

    monkeypatch.setattr(http.client.HTTPResponse, "_read_status", fail)
    with raw_server(always(OK)) as server:
        given = send_to(server)
    assert given.kind is AnswerClass.IN_DOUBT
    assert len(server.requests) == 1


# Asked again


SLOW_DOWN = answer(429, '{"message": "slow down"}', "Retry-After: 3")


@pytest.mark.parametrize("step", [RUN, ABORT, DELETE], ids=lambda step: step.verb)
def test_a_429_waits_as_told_and_is_sent_again(step: Step) -> None:
    pauses = Pauses()
    with raw_server(always(SLOW_DOWN, SLOW_DOWN, OK)) as server, engine_at(server.url, pauses=pauses) as engine:
        assert engine.send(step).kind is AnswerClass.APPLIED
    assert pauses == [3.0, 3.0]
    assert len(server.requests) == 3


def test_what_a_service_takes_sets_the_pace_of_the_next_requests() -> None:
    """After an answer 429, three quarters of the one request a second that the service took: one in 1.33 s."""
    pauses, answers = Pauses(), always(OK, answer(429, "", "Retry-After: 3"), OK)
    with raw_server(answers) as server, engine_at(server.url, pauses=pauses, clock=lambda: 0.0) as engine:
        for step in (RUN, ABORT):
            assert engine.send(step).kind is AnswerClass.APPLIED
    assert pauses == pytest.approx([3.0, 4 / 3])


def test_a_429_for_ever_is_a_rejection_after_four_attempts() -> None:
    with raw_server(always(SLOW_DOWN)) as server:
        given = send_to(server)
    assert given == Result(
        AnswerClass.REJECTED, Reason.BUSY, "slow down; it asks to wait before the next try (Retry-After: 3)", "429"
    )
    assert len(server.requests) == 4


@pytest.mark.parametrize("header", ["Retry-After: soon", "X-Nothing: 1"])
def test_a_429_that_does_not_say_how_long_is_waited_out(header: str) -> None:
    pauses = Pauses()
    with raw_server(always(answer(429, "", header), OK)) as server, engine_at(server.url, pauses=pauses) as engine:
        assert engine.send(RUN).kind is AnswerClass.APPLIED
    assert len(pauses) == 1
    assert 0.25 <= pauses[0] <= 0.5


def test_a_429_with_a_date_waits_until_then() -> None:
    content = answer(429, "", "Date: Wed, 14 Oct 2026 17:46:40 GMT", "Retry-After: Wed, 14 Oct 2026 17:46:52 GMT")
    pauses = Pauses()
    with raw_server(always(content, OK)) as server, engine_at(server.url, pauses=pauses) as engine:
        engine.send(RUN)
    assert pauses == [12.0]


def test_a_429_that_asks_for_an_hour_is_returned_at_once() -> None:
    pauses = Pauses()
    content = answer(429, "", "Retry-After: 3600")
    with raw_server(always(content)) as server, engine_at(server.url, pauses=pauses) as engine:
        given = engine.send(RUN)
    assert given.message == "it asks to wait before the next try (Retry-After: 3600)"
    assert (pauses, len(server.requests)) == ([], 1)


def test_a_stop_ends_the_waiting_with_the_last_answer() -> None:
    with raw_server(always(SLOW_DOWN)) as server, engine_at(server.url, pauses=Pauses(stop=True)) as engine:
        assert (int(engine.send(RUN).code), len(server.requests)) == (429, 1)


def test_a_stop_while_waiting_for_its_turn_sends_nothing() -> None:
    with raw_server(always(OK)) as server:
        with engine_at(server.url, pauses=Pauses(stop=True), max_rps=0.001) as engine:
            assert engine.send(RUN).kind is AnswerClass.APPLIED
            given = engine.send(RUN)
        assert given == Result(AnswerClass.NOT_SENT, Reason.OTHER, "stopped before it was sent")
        assert len(server.requests) == 1


def test_the_rate_limit_spaces_the_requests_of_an_engine() -> None:
    pauses = Pauses()
    with (
        raw_server(always(OK)) as server,
        engine_at(server.url, pauses=pauses, max_rps=0.5, clock=lambda: 7.0) as engine,
    ):
        for _ in range(4):
            engine.send(RUN)
    assert pauses == [2.0, 4.0, 6.0]


TOO_MANY = answer(429, "{}")


def slept(seconds: float) -> bool:
    time.sleep(seconds)
    return False


def test_the_rate_of_a_service_is_found_and_no_call_is_given_up() -> None:
    """Thirty-two threads call a service that accepts twenty requests a second.

    Pauses alone would exhaust the attempts.
    """
    taken: deque[float] = deque()
    lock = threading.Lock()

    def takes_twenty_a_second(_request: Request, _connection: socket.socket) -> bytes:
        with lock:
            now_s = time.monotonic()
            while taken and taken[0] <= now_s - 1.0:
                taken.popleft()
            if len(taken) >= 20:
                return TOO_MANY
            taken.append(now_s)
            return OK

    with (
        raw_server(takes_twenty_a_second) as server,
        engine_at(server.url, pauses=slept) as engine,
        ThreadPoolExecutor(32) as pool,
    ):
        given = list(pool.map(lambda _: engine.send(RUN).kind, range(80)))
        assert given == [AnswerClass.APPLIED] * 80
        assert len(server.requests) < 160


# Observed


def job(**fields: object) -> bytes:
    return answer(200, json.dumps({"job": {"id": "j", "state": "JOB_STATE_RUNNING"} | fields, "templateInfo": {}}))


def routes(**paths: bytes) -> Callable[[Request, socket.socket], bytes]:
    """Return the answers of a service: `list` for the list of jobs, and `one` for any other read."""

    def answering(request: Request, _connection: socket.socket) -> bytes:
        return paths["list" if request.path.startswith("/v1/customer/jobs?") else "one"]

    return answering


def test_a_job_is_observed() -> None:
    document = job(config={"taskTimeout": "60"}, submittedAt="2026-01-02T03:04:05Z", errorMessage=None)
    with raw_server(always(document)) as server, engine_at(server.url) as engine:
        observation = engine.observe("j")
    assert (observation.status, observation.word) == (Status.ACTIVE, "JOB_STATE_RUNNING")
    assert (observation.config, observation.submitted_at) == ({"taskTimeout": 60}, "2026-01-02T03:04:05Z")
    [request] = server.requests
    assert (request.method, request.path) == ("GET", "/v1/customer/jobs/j")
    assert "content-length" not in request.headers


def test_a_404_is_a_missing_job_where_a_read_has_succeeded() -> None:
    with (
        raw_server(always(job(), answer(404, '{"message": "no such job"}'))) as server,
        engine_at(server.url) as engine,
    ):
        engine.observe("j")
        observation = engine.observe("gone")
    assert (observation.status, observation.detail) == (Status.MISSING, "no such job")
    assert len(server.requests) == 2


def test_a_404_is_a_missing_job_where_the_list_can_be_read_and_that_is_asked_once() -> None:
    answering = routes(one=answer(404), list=answer(200, '{"pagination": {}, "data": []}'))
    with raw_server(answering) as server, engine_at(server.url) as engine:
        assert [engine.observe(name).status for name in "abc"] == [Status.MISSING] * 3
    assert [request.path for request in server.requests] == [
        "/v1/customer/jobs/a",
        "/v1/customer/jobs?pagination.limit=1",
        "/v1/customer/jobs/b",
        "/v1/customer/jobs/c",
    ]


@pytest.mark.parametrize("status", [404, 405, 501])
def test_a_service_without_reads_is_found_out_once_and_not_asked_again(status: int) -> None:
    with raw_server(routes(one=answer(404), list=answer(status))) as server, engine_at(server.url) as engine:
        assert [engine.observe(name) for name in "abc"] == [NOT_OBSERVED] * 3
    assert len(server.requests) == 2


@pytest.mark.parametrize("status", [405, 501])
def test_a_service_that_refuses_the_read_itself_has_no_reads(status: int) -> None:
    with raw_server(always(answer(status))) as server, engine_at(server.url) as engine:
        assert [engine.observe(name) for name in "abc"] == [NOT_OBSERVED] * 3
    assert len(server.requests) == 1


def test_a_405_is_one_jobs_fault_where_reads_have_worked() -> None:
    with raw_server(always(job(), answer(405), job())) as server, engine_at(server.url) as engine:
        statuses = [engine.observe("j").status for _ in range(3)]
    assert statuses == [Status.ACTIVE, Status.UNREADABLE, Status.ACTIVE]


def test_a_404_stays_open_while_the_list_fails() -> None:
    with raw_server(routes(one=answer(404), list=answer(500, "down"))) as server, engine_at(server.url) as engine:
        observation = engine.observe("j")
    assert observation.status is Status.UNREADABLE
    assert "its list answers 500: down" in observation.detail
    assert len(server.requests) == 5


@pytest.mark.parametrize(
    "body", ['{"status": "ok"}', '{"code": 16, "message": "unauthenticated"}', '{"data": {}}', '{"ok": true}']
)
def test_a_document_that_is_no_list_does_not_show_that_reads_are_offered(body: str) -> None:
    with raw_server(routes(one=answer(404), list=answer(200, body))) as server, engine_at(server.url) as engine:
        assert engine.observe("j").status is Status.UNREADABLE


def test_many_threads_ask_for_the_list_once() -> None:
    answering = routes(one=answer(404), list=answer(200, "{}"))
    found: list[Status] = []
    with raw_server(answering) as server, engine_at(server.url) as engine:
        threads = [threading.Thread(target=lambda: found.append(engine.observe("j").status)) for _ in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found == [Status.MISSING] * 12
    assert sum("pagination" in request.path for request in server.requests) == 1


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_a_read_is_free_and_asked_again(status: int) -> None:
    pauses = Pauses()
    down = answer(status, "", "Retry-After: 2")
    with raw_server(always(down, down, down, job())) as server, engine_at(server.url, pauses=pauses) as engine:
        assert engine.observe("j").status is Status.ACTIVE
    assert pauses == [2.0, 2.0, 2.0]
    assert len(server.requests) == 4


def test_a_read_is_asked_again_after_a_reset_and_a_broken_answer() -> None:
    numbers = count(1)

    def answering(_request: Request, connection: socket.socket) -> bytes | None:
        match next(numbers):
            case 1:
                reset(connection)
                return None
            case 2:
                connection.sendall(job()[:-5])
                return None
            case 3:
                return answer(200, "<html>")
            case _:
                return job()

    with raw_server(answering) as server, engine_at(server.url) as engine:
        assert engine.observe("j").status is Status.ACTIVE
    assert len(server.requests) == 4


@pytest.mark.parametrize(
    ("content", "detail", "requests"),
    [
        (answer(403, "not yours"), "403: not yours", 1),
        (answer(500, "down"), "500: down", 4),
        (answer(302, "", "Location: /login"), "302: redirected to /login, which is not followed", 1),
        (answer(200, "<html>"), "200: the answer is no JSON object; <html>", 4),
        (answer(200, '{"ok": false, "error": {"message": "broken"}}'), "200: broken", 1),
        (answer(200, "{}"), "the answer holds no job", 1),
        (
            answer(200, '{"code": 16, "message": "unauthenticated"}'),
            "the answer holds no job: unauthenticated: code 16",
            1,
        ),
        (answer(200, '{"ok": true}'), "the answer holds no job", 1),
        (answer(200, '{"data": []}'), "the answer holds no job", 1),
        (answer(200, '{"job": {"id": "j", "state": "S"}, "error": {"message": "stale"}}'), "200: stale", 1),
        (job(id=None), "the answer is about another job", 1),
        (
            answer(200, '{"job": {"id": "other"}, "job": {"id": "j", "state": "S"}}'),
            '200: the answer is no JSON object; {"job": {"id": "other"}, "job": {"id": "j", "state": "S"}}',
            4,
        ),
        (answer(200, '{"job": []}'), "the answer holds no job", 1),
        (job(id="other"), "the answer is about another job", 1),
        (job(state=None), "the service tells no state of this job", 1),
        (answer(400, "odd id"), "400: odd id", 1),
    ],
)
def test_a_job_that_can_not_be_read_says_why(content: bytes, detail: str, requests: int) -> None:
    with raw_server(always(content)) as server, engine_at(server.url) as engine:
        observation = engine.observe("j")
    assert (observation.status, observation.detail) == (Status.UNREADABLE, detail)
    assert len(server.requests) == requests


def test_a_rejected_token_is_no_jobs_fault() -> None:
    with (
        raw_server(always(answer(401, "expired"))) as server,
        engine_at(server.url) as engine,
        pytest.raises(CredentialsError, match=r"rejected the access token \(401\): expired") as caught,
    ):
        engine.observe("j")
    assert "BYTENITE_ACCESS_TOKEN" in caught.value.hint


def test_a_service_that_can_not_be_reached_is_no_jobs_fault() -> None:
    with engine_at(f"http://127.0.0.1:{unused_port()}") as engine:
        with pytest.raises(EngineError, match="the host refused the connection"):
            engine.observe("j")
        with pytest.raises(EngineError, match="the host refused the connection"):
            list(engine.observe_all())


# Listed


def page(ids: range, **pagination: object) -> bytes:
    jobs = [{"id": f"j-{number}", "state": "JOB_STATE_NEW"} for number in ids]
    return answer(200, json.dumps({"pagination": pagination, "data": jobs}))


Paginate = Callable[[int, int, int], Mapping[str, object]]
"""The `pagination` of a page, made of the page's offset, the number of its jobs, and the number of all jobs."""


class Lister:
    """A service whose list has pages of at most `size` jobs. `paginate` makes the `pagination` of each page.

    `before` is called before each page with the number of the page.
    """

    def __init__(
        self,
        count: int,
        paginate: Paginate = lambda offset, size, total: {"total": total},
        *,
        size: int = 100,
        before: Callable[["Lister", int], None] = lambda lister, number: None,
    ) -> None:
        self.jobs = [f"j-{number}" for number in range(count)]
        self.offsets: list[int] = []
        self._paginate, self._size, self._before = paginate, size, before
        self._lock = threading.Lock()

    def __call__(self, request: Request, _connection: socket.socket) -> bytes:
        with self._lock:
            offset = int(request.path.rpartition("=")[2])
            self._before(self, len(self.offsets))
            self.offsets.append(offset)
            ids = self.jobs[offset : offset + self._size]
            pagination = self._paginate(offset, len(ids), len(self.jobs))
        data = [{"id": job_id, "state": "JOB_STATE_NEW"} for job_id in ids]
        return answer(200, json.dumps({"data": data} | ({"pagination": pagination} if pagination else {})))


def listed(answering: Answering) -> tuple[list[str], str]:
    """Return the listed ids, and the reason why the list may be incomplete, or ""."""
    ids = []
    with raw_server(answering) as server, engine_at(server.url) as engine:
        try:
            for job_id, _ in engine.observe_all():
                ids.append(job_id)
        except ListIncomplete as fault:
            return ids, fault.message
    return ids, ""


HAS_NEXT: Paginate = lambda offset, size, total: {"hasNext": offset + size < total}  # noqa: E731
LEFT_OUT: Paginate = lambda offset, size, total: {"hasNext": True} if offset + size < total else {"offset": offset}  # noqa: E731


@pytest.mark.parametrize("count", [0, 1, 2, 99, 100, 101, 199, 200, 250])
@pytest.mark.parametrize("size", [100, 50, 30, 1, 1000])
@pytest.mark.parametrize(
    "paginate",
    [
        HAS_NEXT,
        LEFT_OUT,
        lambda offset, size, total: {"total": total},
        lambda offset, size, total: {"total": str(total)},
        lambda offset, size, total: {"total": total, "hasNext": offset + size < total},
        lambda offset, size, total: {"total": total, "hasNext": True},
        lambda offset, size, total: {"total": size, "hasNext": offset + size < total},
        lambda offset, size, total: {"total": size},
        lambda offset, size, total: {"total": 0},
        lambda offset, size, total: {"total": -1},
        lambda offset, size, total: {"total": "many"},
        lambda offset, size, total: {"hasNext": "no"},
        lambda offset, size, total: {},
    ],
    ids=["hasNext", "false left out", "total", "total as text", "both", "always more", "of the page and hasNext",
         "of the page", "zero", "less than none", "no number", "no boolean", "nothing"],
)  # fmt: skip
def test_the_list_is_read_to_its_end_whatever_it_says_of_itself(paginate: Paginate, size: int, count: int) -> None:
    lister = Lister(count, paginate, size=size)
    assert listed(lister) == (lister.jobs, "")


def test_pages_that_grow_shorter_leave_nothing_out() -> None:
    def shorter(lister: Lister, number: int) -> None:
        lister._size = 100 if number == 0 else 30

    lister = Lister(250, before=shorter)
    assert listed(lister) == (lister.jobs, "")


def gone_before_page(number: int, *, added: int = 0, times: int = 1) -> Callable[[Lister, int], None]:
    """Return a function that deletes five jobs of the first page, and adds some at the end, before this page and later
    ones.
    """

    def before(lister: Lister, page_number: int) -> None:
        if number <= page_number < number + times:
            del lister.jobs[3:8]
            lister.jobs += [f"new-{page_number}-{one}" for one in range(added)]

    return before


@pytest.mark.parametrize("added", [0, 5, 9])
@pytest.mark.parametrize("paginate", [HAS_NEXT, LEFT_OUT, lambda offset, size, total: {"total": total}])
def test_a_list_that_shrinks_while_it_is_read_is_read_again(paginate: Paginate, added: int) -> None:
    """Without a second reading, the five jobs at the start of the next page were on no page."""
    lister = Lister(250, paginate, before=gone_before_page(1, added=added))
    ids, doubt = listed(lister)
    assert doubt == ""
    assert set(lister.jobs) <= set(ids)
    assert len(ids) == len(set(ids))


def test_a_list_that_grows_at_its_front_is_read_again() -> None:
    def before(lister: Lister, number: int) -> None:
        if number == 1:
            lister.jobs[:0] = [f"new-{one}" for one in range(7)]

    lister = Lister(250, before=before)
    ids, doubt = listed(lister)
    assert (doubt, set(ids)) == ("", set(lister.jobs))


def test_a_list_that_never_holds_still_may_not_be_whole() -> None:
    _, doubt = listed(Lister(1000, HAS_NEXT, before=gone_before_page(1, times=1000)))
    assert "may not be whole: it changed while it was read" in doubt


def test_a_service_that_begins_a_page_only_at_whole_pages_is_read_until_two_readings_agree() -> None:
    lister = Lister(250, HAS_NEXT)

    def answering(request: Request, connection: socket.socket) -> bytes:
        path, _, offset = request.path.rpartition("=")
        return lister(request._replace(path=f"{path}={int(offset) // 100 * 100}"), connection)

    assert listed(answering) == (lister.jobs, "")


def test_a_service_that_begins_a_page_only_at_whole_pages_may_also_shrink() -> None:
    lister = Lister(250, HAS_NEXT, before=gone_before_page(5))

    def answering(request: Request, connection: socket.socket) -> bytes:
        path, _, offset = request.path.rpartition("=")
        return lister(request._replace(path=f"{path}={int(offset) // 100 * 100}"), connection)

    ids, doubt = listed(answering)
    assert doubt == ""
    assert set(lister.jobs) <= set(ids)


def test_a_service_that_refuses_an_odd_offset_is_read_by_whole_pages() -> None:
    lister = Lister(250, HAS_NEXT)

    def answering(request: Request, connection: socket.socket) -> bytes:
        if int(request.path.rpartition("=")[2]) % 100:
            return answer(400, "offset is no multiple of limit")
        return lister(request, connection)

    assert listed(answering) == (lister.jobs, "")


@pytest.mark.parametrize(
    ("pagination", "size", "says"),
    [
        ({}, 100, "answers for another page with the same jobs"),
        ({"hasNext": True}, 100, "says that it has more jobs than the 100 that it lists"),
        ({"total": 250}, 100, "says that it has 250 jobs, and lists 100"),
        ({}, 7, "answers for another page with the same jobs"),
    ],
)
def test_a_service_that_answers_every_page_with_the_first_may_have_more(
    pagination: Mapping[str, object], size: int, says: str
) -> None:
    ids, doubt = listed(always(page(range(size), **pagination)))
    assert ids == [f"j-{number}" for number in range(size)]
    assert says in doubt


@pytest.mark.parametrize("pagination", [{"total": 7}, {"total": 7, "hasNext": True}, {"hasNext": False}])
def test_a_service_that_ignores_the_offset_and_says_how_many_there_are_is_believed(
    pagination: Mapping[str, object],
) -> None:
    assert listed(always(page(range(7), **pagination))) == ([f"j-{number}" for number in range(7)], "")


def empty_from(offset: int, **pagination: object) -> Answering:
    """Return a service whose pages of 100 jobs are empty from an offset on, although `pagination` does not explain
    that.
    """

    def answering(request: Request, _connection: socket.socket) -> bytes:
        start = int(request.path.rpartition("=")[2])
        return page(range(start, min(start + 100, offset)) if start < offset else range(0), **pagination)

    return answering


@pytest.mark.parametrize(
    ("pagination", "says"),
    [
        ({"hasNext": True}, "says that it has more jobs than the 200 that it lists"),
        ({"total": 250, "hasNext": False}, "says that it has 250 jobs, and lists 200"),
        ({"total": 250}, "says that it has 250 jobs, and lists 200"),
    ],
)
def test_a_list_that_ends_before_it_says_that_it_does_may_not_be_whole(
    pagination: Mapping[str, object], says: str
) -> None:
    ids, doubt = listed(empty_from(200, **pagination))
    assert len(ids) == 200
    assert says in doubt


def test_an_answer_without_a_word_in_the_middle_of_a_list_is_not_its_end() -> None:
    lister = Lister(250, HAS_NEXT)

    def answering(request: Request, connection: socket.socket) -> bytes:
        return answer(200, "{}") if int(request.path.rpartition("=")[2]) > 150 else lister(request, connection)

    ids, doubt = listed(answering)
    assert len(ids) < 250
    assert "may not be whole" in doubt


def test_pages_are_asked_for_together_and_come_in_order() -> None:
    together = threading.Barrier(4)

    def answering(request: Request, _connection: socket.socket) -> bytes:
        offset = int(request.path.rpartition("=")[2])
        if 0 < offset < 400:
            together.wait(10)
        return page(range(offset, min(offset + 100, 496)), total=496, hasNext=offset + 100 < 496)

    with raw_server(answering) as server, engine_at(server.url) as engine:
        ids = [job_id for job_id, _ in engine.observe_all()]
    assert ids == [f"j-{number}" for number in range(496)]
    assert len(server.requests) == 5


@pytest.mark.parametrize("body", ["{}", '{"data": []}', '{"pagination": {}}', '{"data": null, "pagination": {}}'])
def test_an_empty_list_is_no_error(body: str) -> None:
    assert listed(always(answer(200, body))) == ([], "")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (answer(404), "has no list of jobs (404)"),
        (answer(405), "has no list of jobs (405)"),
        (answer(503, "down"), "can't be read: 503: down"),
        (answer(200, "<html>"), "can't be read: 200"),
        (answer(200, '{"data": {"a": 1}}'), "holds no list of jobs"),
        (answer(200, '{"code": 16, "message": "unauthenticated"}'), "holds no list of jobs: unauthenticated: code 16"),
        (answer(200, '{"ok": false, "data": []}'), "can't be read: 200"),
        (answer(200, '{"data": [{"state": "JOB_STATE_NEW"}]}'), "an entry that is no job with an id"),
        (answer(200, '{"data": [7]}'), "an entry that is no job with an id"),
    ],
)
def test_a_list_that_can_not_be_read_is_the_services_fault(content: bytes, message: str) -> None:
    with raw_server(always(content)) as server, engine_at(server.url) as engine, pytest.raises(EngineError) as caught:
        list(engine.observe_all())
    assert message in caught.value.message


def test_odd_pagination_ends_the_list() -> None:
    content = answer(200, '{"pagination": [], "data": [{"id": "j-0", "state": "JOB_STATE_NEW"}]}')
    assert listed(always(content)) == (["j-0"], "")


def test_a_list_shows_that_reads_are_offered() -> None:
    answering = routes(list=page(range(1), hasNext=False), one=answer(404))
    with raw_server(answering) as server, engine_at(server.url) as engine:
        list(engine.observe_all())
        assert engine.observe("gone").status is Status.MISSING
    assert len(server.requests) == 2
