"""The embedded server over real sockets: the life of jobs, the contract, malformed HTTP, and a killed server."""

import http.client
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from project import TOKEN
from reconciler.engines.sandbox.life import calls, ledger
from reconciler.engines.sandbox.server import SandboxServer
from reconciler.model.errors import EngineError

JOB = "7728ba38-f0a0-4319-ae28-07734448a334"
JOBS = "/v1/customer/jobs"


class Clock:
    """A clock that stands still until a test moves it. It starts at 2026-01-01T00:00:00Z."""

    def __init__(self) -> None:
        self.now = 1767225600.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def serve(start_server: Callable[..., SandboxServer], clock: Clock) -> Callable[..., SandboxServer]:
    return partial(start_server, clock=clock, job_seconds=10)


def ask(
    server: SandboxServer, method: str, path: str, body: Any = None, token: str | None = TOKEN, **headers: str
) -> tuple[int, Any, http.client.HTTPMessage]:
    """Send one request on a new connection. Return the status, the JSON and the headers."""
    connection = http.client.HTTPConnection("127.0.0.1", urlsplit(server.endpoint).port or 0, timeout=10)
    sent = {"Authorization": token} if token is not None else {}
    raw = body if isinstance(body, bytes | None) else json.dumps(body).encode()
    if raw is not None:
        sent["Content-Type"] = "application/json"
    try:
        connection.request(method, path, raw, sent | {key.replace("_", "-"): value for key, value in headers.items()})
        answer = connection.getresponse()
        text = answer.read()
        assert answer.headers["Server"] == "reconciler-sandbox (simulated)"
        assert method == "HEAD" or answer.headers["Content-Type"] == "application/json"
        return answer.status, json.loads(text) if text else None, answer.headers
    finally:
        connection.close()


def create(server: SandboxServer, name: str = "nightly") -> str:
    status, answer, _ = ask(server, "POST", JOBS, {"name": name, "templateId": "t-1", "description": "d"})
    assert status == 200
    job_id: str = answer["job"]["id"]
    return job_id


def run(server: SandboxServer, job_id: str, **config: Any) -> tuple[int, Any]:
    return ask(server, "POST", f"{JOBS}/{job_id}/run", {"config": config})[:2]


def abort(server: SandboxServer, job_id: str) -> tuple[int, Any]:
    return ask(server, "POST", f"{JOBS}/{job_id}/abort")[:2]


def delete(server: SandboxServer, job_id: str) -> tuple[int, Any]:
    return ask(server, "DELETE", f"{JOBS}/{job_id}")[:2]


def read(server: SandboxServer, job_id: str) -> Any:
    status, answer, _ = ask(server, "GET", f"{JOBS}/{job_id}")
    return answer["job"] if status == 200 else status


def raw(server: SandboxServer, sent: bytes) -> bytes:
    """Send these bytes, and return all bytes that arrive until the server closes the connection."""
    with socket.create_connection(("127.0.0.1", urlsplit(server.endpoint).port or 0), timeout=10) as connection:
        connection.sendall(sent)
        got = b""
        while part := connection.recv(65536):
            got += part
        return got


Serve = Callable[..., SandboxServer]


# The life of a job


def test_each_json_answer_ends_its_line_so_that_a_prompt_starts_on_its_own(serve: Serve) -> None:
    server = serve()
    port, job_id = urlsplit(server.endpoint).port or 0, create(server)
    asked = [
        ("GET", "/openapi.json", None, 200),
        ("GET", f"{JOBS}/{job_id}", None, 200),
        ("POST", f"{JOBS}/{job_id}/run", b'{"config": {}}', 200),
        ("POST", f"{JOBS}/{job_id}/run", b"{", 400),
        ("GET", "/nowhere", None, 404),
        ("PUT", JOBS, b"{}", 405),
    ]
    for method, path, body, status in asked:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.request(method, path, body, {"Authorization": TOKEN, "Content-Type": "application/json"})
        answer = connection.getresponse()
        text = answer.read()
        connection.close()
        assert (answer.status, text[-2:], text.count(b"\n")) == (status, b"}\n", 1), (method, path)


def test_a_created_job_is_a_draft(serve: Serve) -> None:
    server = serve()
    job_id = create(server)

    assert read(server, job_id) == {
        "id": job_id,
        "name": "nightly",
        "templateId": "t-1",
        "description": "d",
        "config": {},
        "state": "JOB_STATE_NEW",
        "createdAt": "2026-01-01T00:00:00.000000Z",
        "submittedAt": None,
        "startedAt": None,
        "endedAt": None,
        "deletedAt": None,
        "errorMessage": "",
        "stateTimestamps": {"JOB_STATE_NEW": "2026-01-01T00:00:00.000000Z"},
    }


def test_a_run_is_active_until_its_time_is_over(serve: Serve, clock: Clock, db: Path) -> None:
    server = serve()
    job_id = create(server)
    clock.now += 1
    status, answer = run(server, job_id, taskTimeout=600, jobTimeout="7200", isTestJob=True, unknown={})
    assert status == 200
    assert answer == {"ok": True, "requestId": answer["requestId"], "message": "run (simulated)"}

    clock.now += 9.5
    job = read(server, job_id)
    assert (job["state"], job["submittedAt"], job["startedAt"], job["endedAt"]) == (
        "JOB_STATE_RUNNING",
        "2026-01-01T00:00:01.000000Z",
        "2026-01-01T00:00:01.000000Z",
        None,
    )
    assert job["config"] == {"taskTimeout": "600", "jobTimeout": "7200", "isTestJob": True}

    clock.now += 0.5
    job = read(server, job_id)
    assert (job["state"], job["endedAt"]) == ("JOB_STATE_COMPLETE", "2026-01-01T00:00:11.000000Z")
    assert job["stateTimestamps"] == {
        "JOB_STATE_NEW": "2026-01-01T00:00:00.000000Z",
        "JOB_STATE_RUNNING": "2026-01-01T00:00:01.000000Z",
        "JOB_STATE_COMPLETE": "2026-01-01T00:00:11.000000Z",
    }
    [execution] = ledger(db)
    assert execution == (
        job_id,
        "run",
        1767225601.0,
        answer["requestId"],
        {"taskTimeout": 600, "jobTimeout": 7200, "isTestJob": True},
    )


def test_a_job_timeout_shorter_than_the_job_fails_it(serve: Serve, clock: Clock) -> None:
    server = serve()
    job_id = create(server)
    run(server, job_id, jobTimeout=4)
    clock.now += 3.9
    assert read(server, job_id)["state"] == "JOB_STATE_RUNNING"
    clock.now += 0.1
    job = read(server, job_id)
    assert (job["state"], job["endedAt"]) == ("JOB_STATE_FAILED", "2026-01-01T00:00:04.000000Z")
    assert job["errorMessage"] == "jobTimeout of 4 s is over (a simulated job takes 10 s)"


@pytest.mark.parametrize("job_timeout", [0, 10, 9223372036854775807])
def test_a_job_timeout_of_zero_or_long_enough_does_not(serve: Serve, clock: Clock, job_timeout: int) -> None:
    server = serve()
    job_id = create(server)
    run(server, job_id, jobTimeout=job_timeout)
    clock.now += 10
    assert read(server, job_id)["state"] == "JOB_STATE_COMPLETE"


def test_an_active_job_is_not_run_or_deleted(serve: Serve, db: Path) -> None:
    server = serve()
    job_id = create(server)
    run(server, job_id)

    status, answer = run(server, job_id)
    assert (status, answer["ok"], answer["error"]["code"], answer["error"]["message"]) == (
        400,
        False,
        400,
        "already running",
    )
    status, answer = delete(server, job_id)
    assert (status, answer["error"]["message"]) == (400, "still running")
    assert [execution.verb for execution in ledger(db)] == ["run"]


def test_an_abort_stops_an_active_job(serve: Serve, clock: Clock, db: Path) -> None:
    server = serve()
    job_id = create(server)
    run(server, job_id)
    clock.now += 2
    assert abort(server, job_id)[0] == 200
    clock.now += 100
    job = read(server, job_id)
    assert (job["state"], job["endedAt"]) == ("JOB_STATE_ABORTED", "2026-01-01T00:00:02.000000Z")
    status, answer = abort(server, job_id)
    assert (status, answer["error"]["message"]) == (400, "not running")
    assert [execution.verb for execution in ledger(db)] == ["run", "abort"]


def test_an_abort_of_a_draft_deletes_it(serve: Serve, db: Path) -> None:
    server = serve()
    job_id = create(server)
    status, answer = abort(server, job_id)
    assert (status, answer["message"]) == (200, "deleted, as it was never run (simulated)")
    assert read(server, job_id) == 404
    assert [execution.verb for execution in ledger(db)] == ["delete"]


@pytest.mark.parametrize("end", ["complete", "failed", "aborted"])
def test_an_ended_job_is_not_aborted_but_runs_again(serve: Serve, clock: Clock, db: Path, end: str) -> None:
    server = serve()
    job_id = create(server)
    run(server, job_id, jobTimeout=1 if end == "failed" else 60)
    if end == "aborted":
        abort(server, job_id)
    clock.now += 20
    assert read(server, job_id)["state"] == f"JOB_STATE_{end.upper()}"
    assert abort(server, job_id)[0] == 400

    assert run(server, job_id, taskTimeout=5)[0] == 200
    job = read(server, job_id)
    assert (job["state"], job["submittedAt"], job["endedAt"]) == (
        "JOB_STATE_RUNNING",
        "2026-01-01T00:00:20.000000Z",
        None,
    )
    assert (job["config"], job["errorMessage"]) == ({"taskTimeout": "5"}, "")
    assert [execution.verb for execution in ledger(db)] == (
        ["run", "abort", "run"] if end == "aborted" else ["run", "run"]
    )


@pytest.mark.parametrize("before", ["draft", "complete", "aborted"])
def test_a_deleted_job_is_gone_for_every_call(serve: Serve, clock: Clock, before: str) -> None:
    server = serve(create_missing=True)
    job_id = create(server)
    if before != "draft":
        run(server, job_id)
    if before == "aborted":
        abort(server, job_id)
    clock.now += 10
    assert delete(server, job_id)[0] == 200

    assert [run(server, job_id)[0], abort(server, job_id)[0], delete(server, job_id)[0], read(server, job_id)] == [
        404
    ] * 4
    assert ask(server, "GET", JOBS)[1]["pagination"]["total"] == 0


def test_an_unknown_job_is_not_found(serve: Serve, db: Path) -> None:
    server = serve()
    status, answer = run(server, JOB)
    assert (status, answer["ok"], answer["error"]["message"]) == (404, False, "no such job")
    assert [abort(server, JOB)[0], delete(server, JOB)[0], read(server, JOB)] == [404] * 3
    assert ledger(db) == []


def test_create_missing_makes_a_draft_by_a_change_and_not_by_a_read(serve: Serve, db: Path) -> None:
    server = serve(create_missing=True)
    job = read(server, JOB)
    assert (job["id"], job["state"], job["createdAt"], job["stateTimestamps"]) == (JOB, "JOB_STATE_NEW", None, {})
    assert ask(server, "GET", JOBS)[1]["pagination"]["total"] == 0

    status, answer = run(server, JOB)
    assert status == 200
    assert answer["message"] == "the sandbox had never heard of this job and created it as a draft; run (simulated)"
    assert read(server, JOB)["state"] == "JOB_STATE_RUNNING"
    assert abort(server, JOB)[1]["message"] == "aborted (simulated)"
    assert "never heard" in abort(server, "another")[1]["message"]
    assert "never heard" in delete(server, "a-third")[1]["message"]
    assert [read(server, "another"), read(server, "a-third")] == [404, 404]
    assert [(execution.job_id, execution.verb) for execution in ledger(db)] == [
        (JOB, "run"),
        (JOB, "abort"),
        ("another", "delete"),
        ("a-third", "delete"),
    ]


def test_jobs_outlive_the_server(serve: Serve, clock: Clock, db: Path) -> None:
    first = serve()
    job_id = create(first)
    run(first, job_id)
    first.stop()
    clock.now += 10
    second = serve(job_seconds=99)
    assert read(second, job_id)["state"] == "JOB_STATE_COMPLETE"
    assert [execution.job_id for execution in ledger(db)] == [job_id]


def test_the_list_goes_page_by_page_oldest_first(serve: Serve, clock: Clock) -> None:
    server = serve()
    ids = []
    for name in ("a", "b", "c"):
        clock.now += 1
        ids.append(create(server, name))
    gone = create(server)
    delete(server, gone)

    _, first, _ = ask(server, "GET", f"{JOBS}?pagination.limit=2&orderBy=createdAt")
    assert first["pagination"] == {"total": 3, "offset": 0, "hasPrevious": False, "hasNext": True}
    _, second, _ = ask(server, "GET", f"{JOBS}?pagination.limit=2&pagination.offset=2")
    assert second["pagination"] == {"total": 3, "offset": 2, "hasPrevious": True, "hasNext": False}
    assert [job["id"] for job in first["data"] + second["data"]] == ids
    assert first["data"][0] == read(server, ids[0])


@pytest.mark.parametrize(
    "query",
    [
        "pagination.limit=0",
        "pagination.limit=1001",
        "pagination.limit=x",
        "pagination.offset=-1",
        "pagination.limit=1&pagination.limit=2",
    ],
)
def test_a_page_that_makes_no_sense_is_refused(serve: Serve, query: str) -> None:
    assert ask(serve(), "GET", f"{JOBS}?{query}")[0] == 400


# What comes in


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff",
        b"{}",
        b'{"config": null}',
        b'{"config": []}',
        b'{"config": {"taskTimeout": -1}}',
        b'{"config": {"taskTimeout": 1.5}}',
        b'{"config": {"taskTimeout": NaN}}',
        b'{"config": {"taskTimeout": true}}',
        b'{"config": {"taskTimeout": null}}',
        b'{"config": {"jobTimeout": 9223372036854775808}}',
        b'{"config": {"jobTimeout": "9223372036854775808"}}',
        b'{"config": {"jobTimeout": "+1"}}',
        b'{"config": {"jobTimeout": "\\u0661"}}',
        b'{"config": {"jobTimeout": ' + b"9" * 5000 + b"}}",
        b'{"config": {"isTestJob": "true"}}',
        b'{"config": {"isTestJob": 1}}',
        b"[" * 200_000,
    ],
)
def test_a_malformed_run_is_a_400_and_runs_nothing(serve: Serve, db: Path, body: bytes) -> None:
    server = serve(create_missing=True)
    status, answer, _ = ask(server, "POST", f"{JOBS}/{JOB}/run", body)
    assert (status, answer["ok"], set(answer["error"])) == (400, False, {"code", "message", "description"})
    assert ledger(db) == []


@pytest.mark.parametrize(
    ("config", "kept"),
    [
        ({}, {}),
        ({"taskTimeout": 0}, {"taskTimeout": 0}),
        ({"taskTimeout": 60.0, "jobTimeout": "060"}, {"taskTimeout": 60, "jobTimeout": 60}),
        ({"jobTimeout": "9223372036854775807"}, {"jobTimeout": 9223372036854775807}),
        ({"isTestJob": False, "new": 1}, {"isTestJob": False}),
    ],
)
def test_an_int64_may_be_a_number_or_a_decimal_string(serve: Serve, db: Path, config: Any, kept: Any) -> None:
    assert run(serve(create_missing=True), JOB, **config)[0] == 200
    assert [execution.config for execution in ledger(db)] == [kept]


@pytest.mark.parametrize("token", [None, "", "wrong", f"Bearer {TOKEN}", TOKEN + "x", TOKEN[:-1], f"{TOKEN}, {TOKEN}"])
def test_a_call_needs_the_bare_token(serve: Serve, db: Path, token: str | None) -> None:
    server = serve(create_missing=True)
    for method, path in (
        ("POST", f"{JOBS}/{JOB}/run"),
        ("POST", f"{JOBS}/{JOB}/abort"),
        ("DELETE", f"{JOBS}/{JOB}"),
        ("GET", f"{JOBS}/{JOB}"),
        ("GET", JOBS),
        ("POST", JOBS),
    ):
        status, answer, _ = ask(server, method, path, {"config": {}}, token=token)
        assert (status, answer["error"]["message"]) == (401, "not authenticated")
    assert ledger(db) == []


def test_an_api_key_buys_a_token_that_expires(serve: Serve, clock: Clock) -> None:
    server = serve(token_seconds=60)
    exchange = "/v1/auth/access_token"
    status, answer, _ = ask(server, "POST", exchange, {"apiKey": "an-api-key"}, token=None)
    assert (status, answer["expiresIn"]) == (200, "60")
    assert ask(server, "GET", JOBS, token=answer["token"])[0] == 200
    clock.now += 59
    assert ask(server, "POST", exchange, {"apiKey": "an-api-key"}, token=None)[1]["token"] != answer["token"]
    assert ask(server, "GET", JOBS, token=answer["token"])[0] == 200
    clock.now += 1
    assert ask(server, "GET", JOBS, token=answer["token"])[0] == 401

    assert ask(server, "POST", exchange, {"apiKey": "wrong"}, token=None)[0] == 401
    assert ask(server, "POST", exchange, {"apiKey": 7}, token=None)[0] == 400


def test_without_an_api_key_no_key_is_right(serve: Serve) -> None:
    server = serve(api_key="")
    bodies: tuple[Any, ...] = ({}, {"apiKey": ""})
    for body in bodies:
        assert ask(server, "POST", "/v1/auth/access_token", body, token=None)[0] == 401


def test_a_path_id_is_decoded_once(serve: Serve, db: Path) -> None:
    server = serve(create_missing=True)
    for path_id in ("a%2Fb", "a%252Fb", "caf%C3%A9"):
        assert ask(server, "POST", f"{JOBS}/{path_id}/run", {"config": {}})[0] == 200
    assert [execution.job_id for execution in ledger(db)] == ["a/b", "a%2Fb", "café"]
    assert ask(server, "GET", f"{JOBS}/%FF")[0] == 400


@pytest.mark.parametrize(
    "path", ["/", "/v1/customer", f"{JOBS}/", f"{JOBS}//run", f"{JOBS}/a/b/run", "//x/v1/customer/jobs"]
)
def test_an_unknown_path_is_not_found(serve: Serve, path: str) -> None:
    status, answer, _ = ask(serve(create_missing=True), "POST", path, {"config": {}})
    assert (status, answer["error"]["message"]) == (404, "no such route")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("HEAD", f"{JOBS}/{JOB}", "DELETE, GET"),
        ("PUT", f"{JOBS}/{JOB}", "DELETE, GET"),
        ("GET", f"{JOBS}/{JOB}/run", "POST"),
        ("PATCH", JOBS, "GET, POST"),
        ("BREW", "/v1/auth/access_token", "POST"),
    ],
)
def test_another_method_is_a_405_that_says_what_is_allowed(serve: Serve, method: str, path: str, allowed: str) -> None:
    status, answer, headers = ask(serve(), method, path)
    assert (status, headers["Allow"]) == (405, allowed)
    assert answer is None if method == "HEAD" else set(answer) == {"code", "message", "details"}


def test_the_server_without_reads_speaks_part_1_only(serve: Serve) -> None:
    server = serve(reads=False, create_missing=True)
    assert run(server, JOB)[0] == 200
    assert abort(server, JOB)[0] == 200
    assert delete(server, JOB)[0] == 200
    for method, path in (("GET", JOBS), ("POST", JOBS), ("POST", "/v1/auth/access_token")):
        status, answer, _ = ask(server, method, path, {})
        assert (status, answer["error"]["message"]) == (404, "no such route")
    document = ask(server, "GET", "/openapi.json", token=None)[1]
    assert {
        (path, method) for path, item in document["paths"].items() for method in item if method != "parameters"
    } == {
        ("/customer/jobs/{jobId}/run", "post"),
        ("/customer/jobs/{jobId}/abort", "post"),
        ("/customer/jobs/{jobId}", "delete"),
    }


def test_a_get_of_a_job_is_an_unknown_route_without_reads(serve: Serve) -> None:
    status, answer, _ = ask(serve(reads=False), "GET", f"{JOBS}/{JOB}")
    assert (status, answer["error"]["message"]) == (404, "no such route")


# HTTP


def test_a_body_of_a_mebibyte_is_read_and_one_byte_more_is_refused(serve: Serve) -> None:
    server = serve(create_missing=True)
    body = b'{"config": {}, "more": "%s"}'
    filled = body % (b"x" * (1024 * 1024 - len(body) + 2))
    assert len(filled) == 1024 * 1024
    assert ask(server, "POST", f"{JOBS}/{JOB}/run", filled)[0] == 200
    status, answer, headers = ask(server, "POST", f"{JOBS}/{JOB}/run", filled + b" ")
    assert (status, headers["Connection"], set(answer)) == (413, "close", {"code", "message", "details"})
    assert ask(server, "POST", f"{JOBS}/{JOB}/run", filled * 16)[0] == 413


def test_another_media_type_is_refused(serve: Serve) -> None:
    server = serve(create_missing=True)
    path = f"{JOBS}/{JOB}/run"
    body: Any = {"config": {}}
    assert ask(server, "POST", path, body, Content_Type="application/x-protobuf")[0] == 415
    assert ask(server, "POST", path, body, Content_Type="Application/JSON; charset=utf-8")[0] == 200


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET /openapi.json HTTP/1.1\r\n", 400),
        (b"GET /openapi.json HTTP/1.1\r\nHost: a\r\nHost: b\r\n", 400),
        (b"GET /openapi.json\r\n", 400),
        (b"GET  /openapi.json HTTP/1.1\r\nHost: a\r\n", 400),
        (b"\x16\x03\x01\r\n", 400),
        (b"GET /openapi.json HTTP/2.0\r\nHost: a\r\n", 505),
        (b"GET /openapi.json HTTP/1.1\r\nHost: a\r\nno colon\r\n", 400),
        (b"GET /openapi.json HTTP/1.1\r\nHost : a\r\n", 400),
        (b"GET /openapi.json HTTP/1.1\r\nHost: a\r\nX: 1\r\n folded\r\n", 400),
        (b"POST /openapi.json HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n", 400),
        (b"POST /openapi.json HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n", 400),
        (b"POST /openapi.json HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n", 411),
        (b"GET /openapi.json HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 101, 431),
        (b"GET /openapi.json HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 70000 + b"\r\n", 431),
        (b"GET /" + b"x" * 70000 + b" HTTP/1.1\r\nHost: a\r\n", 414),
        (b"GET /openapi.json HTTP/1.0\r\n", 200),
        (b"\r\nGET /openapi.json HTTP/1.1\r\nHost: a\r\nConnection: close\r\n", 200),
        (b"GET http://a/openapi.json?x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n", 200),
    ],
)
def test_what_is_no_http_is_refused_and_the_connection_closed(serve: Serve, db: Path, head: bytes, status: int) -> None:
    answer = raw(serve(), head + b"\r\n")
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert b"\r\nConnection: close\r\n" in answer
    json.loads(answer.partition(b"\r\n\r\n")[2])
    assert [call.status for call in calls(db)] == [status]


def test_calls_follow_each_other_on_one_connection(serve: Serve) -> None:
    one = b"POST %s/a/abort HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nGET /" % JOBS.encode()
    last = b"DELETE /openapi.json HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    answer = raw(serve(), one + one + last)
    assert [part[:3] for part in answer.split(b"HTTP/1.1 ")[1:]] == [b"401", b"401", b"405"]


def test_a_client_that_waits_for_100_continue_gets_it(serve: Serve) -> None:
    server = serve(create_missing=True)
    head = f"POST {JOBS}/a/run HTTP/1.1\r\nHost: a\r\nAuthorization: {TOKEN}\r\nContent-Length: 14\r\n"
    with socket.create_connection(("127.0.0.1", urlsplit(server.endpoint).port or 0), timeout=10) as connection:
        connection.sendall(f"{head}Expect: 100-continue\r\n\r\n".encode())
        assert connection.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b'{"config": {}}')
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 OK\r\n")


def test_a_client_that_leaves_in_the_middle_of_its_body_did_nothing(serve: Serve, db: Path) -> None:
    server = serve(create_missing=True)
    with socket.create_connection(("127.0.0.1", urlsplit(server.endpoint).port or 0), timeout=10) as connection:
        connection.sendall(f"POST {JOBS}/a/run HTTP/1.1\r\nHost: a\r\nAuthorization: {TOKEN}\r\n".encode())
        connection.sendall(b'Content-Length: 99\r\n\r\n{"config": {}}')
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(65536) == b""
    assert ledger(db) == []


# The server as a whole


def test_it_listens_on_loopback_only_and_says_that_it_simulates(serve: Serve) -> None:
    server = serve()
    assert server.endpoint.startswith("http://127.0.0.1:")
    assert server.endpoint.endswith("/v1/customer")
    assert server.endpoint in server.banner
    assert "simulates" in server.banner
    assert TOKEN not in server.banner
    document = ask(server, "GET", "/openapi.json", token=None)[1]
    assert "This server simulates" in document["info"]["description"]
    assert document["info"]["version"] == "0.1"


def test_every_call_is_noted_with_what_it_was_answered(serve: Serve, db: Path) -> None:
    server = serve(create_missing=True)
    request_id = run(server, JOB)[1]["requestId"]
    read(server, JOB)
    ask(server, "GET", "/nowhere?x=1")
    assert [(call.method, call.path, call.status, call.fault) for call in calls(db)] == [
        ("POST", f"{JOBS}/{JOB}/run", 200, ""),
        ("GET", f"{JOBS}/{JOB}", 200, ""),
        ("GET", "/nowhere?x=1", 404, ""),
    ]
    assert calls(db)[0].request_id == ledger(db)[0].request_id == request_id
    assert len({call.request_id for call in calls(db)}) == 3


def test_64_runs_at_once_of_one_draft_are_one_execution(serve: Serve, db: Path) -> None:
    server = serve()
    job_id = create(server)
    barrier = threading.Barrier(64)

    def at_once(_: int) -> int:
        barrier.wait()
        return run(server, job_id)[0]

    with ThreadPoolExecutor(64) as pool:
        assert Counter(pool.map(at_once, range(64))) == {200: 1, 400: 63}
    assert [execution.verb for execution in ledger(db)] == ["run"]


def test_two_servers_on_one_database_run_a_job_once(serve: Serve, db: Path) -> None:
    servers = [serve(), serve()]
    job_id = create(servers[0])
    with ThreadPoolExecutor(8) as pool:
        statuses = Counter(pool.map(lambda n: run(servers[n % 2], job_id)[0], range(16)))
    assert statuses == {200: 1, 400: 15}
    assert len(ledger(db)) == 1


def test_latency_delays_every_answer(serve: Serve) -> None:
    server = serve(latency_s=0.2)
    began = time.monotonic()
    read(server, JOB)
    assert time.monotonic() - began >= 0.2


def test_stop_does_not_wait_for_idle_or_waiting_connections(serve: Serve, db: Path) -> None:
    server = serve(latency_s=600)
    address = ("127.0.0.1", urlsplit(server.endpoint).port or 0)
    with (
        socket.create_connection(address, timeout=10) as idle,
        socket.create_connection(address, timeout=10) as waiting,
    ):
        waiting.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: a\r\n\r\n")
        while not calls(db):
            time.sleep(0.01)
        began = time.monotonic()
        server.stop()
        assert time.monotonic() - began < 3
        for connection in (idle, waiting):
            assert _bytes_left(connection) == b""
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address, timeout=10)
    server.stop()


def _bytes_left(connection: socket.socket) -> bytes:
    try:
        return connection.recv(65536)
    except ConnectionResetError:
        return b""


def test_serve_forever_ends_with_stop(db: Path) -> None:
    server = SandboxServer(db, access_token=TOKEN)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    assert ask(server, "GET", "/openapi.json")[0] == 200
    server.stop()
    thread.join(10)
    assert not thread.is_alive()


def test_an_empty_token_is_refused(db: Path) -> None:
    with pytest.raises(ValueError, match="needs an access token"):
        SandboxServer(db, access_token="")


def test_a_taken_port_is_said(serve: Serve, db: Path) -> None:
    port = urlsplit(serve().endpoint).port or 0
    with pytest.raises(EngineError, match=f"can't listen on 127.0.0.1:{port}"):
        SandboxServer(db, access_token=TOKEN, port=port)


def test_a_file_that_is_no_sandbox_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    text = tmp_path / "text.db"
    text.write_text("not a database, and longer than the header of one, so that SQLite sees it\n" * 4)
    other = tmp_path / "other.db"
    with sqlite3.connect(other) as sql:
        sql.execute("CREATE TABLE mine (x)")
    sql.close()
    for path in (text, other, tmp_path / "no" / "folder.db"):
        with pytest.raises(EngineError, match="as the sandbox database"):
            SandboxServer(path, access_token=TOKEN)
    assert text.read_text().startswith("not a database")
    with sqlite3.connect(other) as sql:
        assert sql.execute("SELECT name FROM sqlite_master").fetchall() == [("mine",)]
    sql.close()


def test_a_database_that_fails_is_a_503_and_nothing_is_done(serve: Serve, db: Path) -> None:
    server = serve(create_missing=True)
    with sqlite3.connect(db) as sql:
        sql.execute("ALTER TABLE ledger RENAME TO away")
    sql.close()
    status, answer = run(server, JOB)
    assert (status, answer["error"]["message"]) == (503, "database failure")
    with sqlite3.connect(db) as sql:
        sql.execute("ALTER TABLE away RENAME TO ledger")
    sql.close()
    assert ledger(db) == []
    assert read(server, JOB)["createdAt"] is None


CHILD = """
import sys
from reconciler.engines.sandbox.server import SandboxServer
server = SandboxServer(sys.argv[1], access_token="an-access-token", create_missing=True, job_seconds=600)
server.start()
print(server.endpoint, flush=True)
sys.stdin.read()
"""


def test_a_killed_server_leaves_a_database_that_holds_all_that_was_answered(db: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", CHILD, str(db)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        port = urlsplit(child.stdout.readline()).port or 0
        enough = threading.Event()
        answered: list[str] = []
        sent: list[str] = []

        def load(worker: int) -> None:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
            headers = {"Authorization": TOKEN, "Content-Type": "application/json"}
            try:
                for n in range(100_000):
                    sent.append(f"job-{worker}-{n}")
                    connection.request("POST", f"{JOBS}/job-{worker}-{n}/run", b'{"config": {}}', headers)
                    answer = connection.getresponse()
                    assert json.loads(answer.read())["ok"] is True
                    answered.append(f"job-{worker}-{n}")
                    if len(answered) >= 200:
                        enough.set()
            except (OSError, http.client.HTTPException):
                return
            finally:
                connection.close()

        workers = [threading.Thread(target=load, args=(worker,)) for worker in range(4)]
        for worker in workers:
            worker.start()
        assert enough.wait(30)
        os.kill(child.pid, signal.SIGKILL)
        for worker in workers:
            worker.join(30)

    executed = [execution.job_id for execution in ledger(db)]
    assert len(executed) == len(set(executed))
    assert set(answered) <= set(executed) <= set(sent)
    assert [call.path for call in calls(db)] == [f"{JOBS}/{job_id}/run" for job_id in executed]
    with sqlite3.connect(db) as sql:
        assert sql.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert {row[0] for row in sql.execute("SELECT id FROM jobs")} == set(executed)
    sql.close()
    with SandboxServer(db, access_token=TOKEN) as again:
        assert read(again, executed[0])["state"] == "JOB_STATE_RUNNING"
