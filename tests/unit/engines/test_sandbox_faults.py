"""Every fault of the embedded server, as a raw socket receives it."""

import json
import re
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from project import TOKEN
from reconciler.engines.sandbox.faults import HUGE_BYTES, Kind, Operation, parse_fault
from reconciler.engines.sandbox.life import calls, ledger
from reconciler.engines.sandbox.server import SandboxServer

JOBS = "/v1/customer/jobs"
NOTHING = b""
RESET = b"reset"

Serve = Callable[..., SandboxServer]


@pytest.fixture
def serve(start_server: Serve) -> Serve:
    return partial(start_server, create_missing=True, job_seconds=600)


def connect(server: SandboxServer) -> socket.socket:
    return socket.create_connection(("127.0.0.1", urlsplit(server.endpoint).port or 0), timeout=20)


def request(method: str, path: str, body: str = "", *, close: bool = True) -> bytes:
    closing = "Connection: close\r\n" if close else ""
    head = f"{method} {path} HTTP/1.1\r\nHost: a\r\nAuthorization: {TOKEN}\r\n{closing}"
    return f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode()


def run_request(job_id: str = "a", *, close: bool = True) -> bytes:
    return request("POST", f"{JOBS}/{job_id}/run", '{"config": {}}', close=close)


def send(server: SandboxServer, sent: bytes) -> bytes:
    """Send these bytes, and return all bytes until the connection ends, or RESET if a reset ends it."""
    got = b""
    with connect(server) as connection:
        connection.sendall(sent)
        try:
            while part := connection.recv(1024 * 1024):
                got += part
        except ConnectionResetError:
            return got + RESET
    return got


def status_of(answer: bytes) -> int:
    assert re.match(rb"HTTP/1\.1 [0-9]{3} .*\r\nServer: reconciler-sandbox \(simulated\)\r\n", answer), answer[:200]
    return int(answer[9:12])


def body_of(answer: bytes) -> bytes:
    return answer.partition(b"\r\n\r\n")[2]


def header(answer: bytes, name: str) -> str | None:
    found = re.search(rf"\r\n{name}: (.*?)\r\n", answer.partition(b"\r\n\r\n")[0].decode() + "\r\n")
    return found[1] if found else None


def run(server: SandboxServer, job_id: str = "a") -> int:
    answer = send(server, run_request(job_id))
    return status_of(answer) if answer not in (NOTHING, RESET) else 0


def state(server: SandboxServer, job_id: str = "a") -> str:
    word: str = json.loads(body_of(send(server, request("GET", f"{JOBS}/{job_id}"))))["job"]["state"]
    return word


def runs(db: Path) -> int:
    return sum(execution.verb == "run" for execution in ledger(db))


AFTER = pytest.mark.parametrize(("after", "done"), [("", 0), (":after", 1)])


@AFTER
@pytest.mark.parametrize("status", [400, 401, 403, 404, 500, 503])
def test_a_status_of_the_contract_has_its_body(serve: Serve, db: Path, status: int, after: str, done: int) -> None:
    answer = send(serve(f"run:{status}{after}"), run_request())
    body = json.loads(body_of(answer))
    assert (status_of(answer), body["ok"], body["error"]["code"]) == (status, False, status)
    assert [(call.status, call.fault) for call in calls(db)] == [(status, f"run:{status}{after}")]
    assert runs(db) == done


@AFTER
@pytest.mark.parametrize(("status", "code"), [(409, 3), (429, 8), (502, 2), (504, 4), (599, 2)])
def test_any_other_failure_is_an_rpc_status(
    serve: Serve, db: Path, status: int, code: int, after: str, done: int
) -> None:
    answer = send(serve(f"run:{status}{after}"), run_request())
    body = json.loads(body_of(answer))
    assert (status_of(answer), set(body), body["code"]) == (status, {"code", "message", "details"}, code)
    assert runs(db) == done


def test_a_retry_after_is_sent_as_it_stands(serve: Serve) -> None:
    server = serve(
        "run:429:retry-after=Wed, 21 Oct 2026 07:28:00 GMT:times=1", "run:503:times=1:retry-after=7", "run:429:times=1"
    )
    answers = [send(server, run_request()) for _ in range(3)]
    assert [(status_of(answer), header(answer, "Retry-After")) for answer in answers] == [
        (429, "Wed, 21 Oct 2026 07:28:00 GMT"),
        (503, "7"),
        (429, None),
    ]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_who_follows_a_redirect_runs_the_job_a_second_time(serve: Serve, db: Path, status: int) -> None:
    server = serve(f"run:{status}")
    answer = send(server, run_request("a%2Fb"))
    assert (status_of(answer), header(answer, "Location"), runs(db)) == (status, "/followed/a%2Fb", 0)
    for method in ("GET", "POST"):
        send(server, request(method, "/followed/a%2Fb"))
    assert [(execution.job_id, execution.verb) for execution in ledger(db)] == [("a/b", "run")]


def test_a_redirect_may_lead_elsewhere_and_then_there_is_no_trap(serve: Serve) -> None:
    server = serve("run:302:location=http://127.0.0.1:9/x?a=b:times=1")
    assert header(send(server, run_request()), "Location") == "http://127.0.0.1:9/x?a=b"
    assert status_of(send(server, request("GET", "/followed/a"))) == 404


def test_a_204_has_no_body_and_a_202_has(serve: Serve, db: Path) -> None:
    server = serve("run:204:times=1:job=a", "run:202:after")
    none = send(server, run_request())
    assert (status_of(none), body_of(none), header(none, "Content-Length")) == (204, b"", None)
    some = send(server, run_request())
    assert (status_of(some), json.loads(body_of(some))["ok"], runs(db)) == (202, True, 1)


@AFTER
def test_a_reset_is_a_tcp_reset(serve: Serve, db: Path, after: str, done: int) -> None:
    assert send(serve(f"run:reset{after}"), run_request()) == RESET
    assert [(call.status, call.fault) for call in calls(db)] == [(None, f"run:reset{after}")]
    assert runs(db) == done


@AFTER
def test_a_close_is_orderly_and_without_an_answer(serve: Serve, db: Path, after: str, done: int) -> None:
    assert send(serve(f"run:close{after}"), run_request(close=False)) == NOTHING
    assert [call.status for call in calls(db)] == [None]
    assert runs(db) == done


@AFTER
def test_a_hang_says_nothing_and_ends_when_told(serve: Serve, db: Path, after: str, done: int) -> None:
    server = serve(f"run:hang{after}:seconds=0.3")
    began = time.monotonic()
    assert send(server, run_request(close=False)) == NOTHING
    assert time.monotonic() - began >= 0.3
    assert [call.status for call in calls(db)] == [None]
    assert runs(db) == done


@pytest.mark.parametrize("fault", ["run:hang", "run:slow:seconds=600", "run:drip:seconds=600"])
def test_stop_ends_whatever_waits(serve: Serve, db: Path, fault: str) -> None:
    server = serve(fault)
    with connect(server) as connection:
        connection.sendall(run_request())
        while not calls(db):
            time.sleep(0.01)
        began = time.monotonic()
        server.stop()
        assert time.monotonic() - began < 3


def test_a_slow_answer_comes_late_and_the_work_is_done_at_once(serve: Serve, db: Path) -> None:
    server = serve("run:slow:seconds=0.5")
    with connect(server) as connection:
        began = time.monotonic()
        connection.sendall(run_request())
        while not runs(db):
            time.sleep(0.01)
        assert status_of(connection.recv(65536)) == 200
        assert time.monotonic() - began >= 0.5


@pytest.mark.parametrize(("after", "status", "done"), [("", 503, 0), (":after", 200, 1)])
def test_a_drip_comes_byte_by_byte(serve: Serve, db: Path, after: str, status: int, done: int) -> None:
    server = serve(f"run:drip{after}:seconds=0.5")
    with connect(server) as connection:
        began = time.monotonic()
        connection.sendall(run_request())
        parts = []
        while part := connection.recv(65536):
            parts.append(part)
        assert time.monotonic() - began >= 0.4
    assert len(parts) > 10
    assert [call.status for call in calls(db)] == [status]
    assert json.loads(body_of(b"".join(parts)))["ok"] is (done == 1)
    assert runs(db) == done


@AFTER
def test_a_truncated_answer_promises_more_than_it_sends(serve: Serve, db: Path, after: str, done: int) -> None:
    answer = send(serve(f"run:truncated{after}"), run_request(close=False))
    assert status_of(answer) == 200
    body, promised = body_of(answer), int(header(answer, "Content-Length") or 0)
    assert 0 < len(body) < promised
    assert body.startswith(b'{"ok": true')
    with pytest.raises(json.JSONDecodeError):
        json.loads(body)
    assert runs(db) == done


@AFTER
@pytest.mark.parametrize(
    "kind",
    [
        *("html", "empty", "garbage", "huge", "wrong-type", "not-ok", "error-in-200"),
        *("no-ok", "two-oks", "rpc-status", "other-job"),
    ],
)
def test_a_200_that_is_no_plain_success(serve: Serve, db: Path, kind: str, after: str, done: int) -> None:
    answer = send(serve(f"run:{kind}{after}"), run_request())
    body = body_of(answer)
    assert (status_of(answer), header(answer, "Content-Length")) == (200, str(len(body)))
    match kind:
        case "html":
            assert header(answer, "Content-Type") == "text/html; charset=utf-8"
            assert body.startswith(b"<!doctype html>")
        case "empty":
            assert body == b""
        case "garbage":
            with pytest.raises(UnicodeDecodeError):
                body.decode()
        case "huge":
            assert len(body) == HUGE_BYTES == 16 * 1024 * 1024
            assert json.loads(body)["ok"] is True
        case "wrong-type":
            assert isinstance(json.loads(body), list)
        case "not-ok":
            document = json.loads(body)
            assert (document["ok"], document["error"]["message"]) == (False, "simulated fault")
        case "error-in-200":
            document = json.loads(body)
            assert (document["ok"], document["error"]["message"]) == (True, "simulated fault")
        case "no-ok":
            assert set(json.loads(body)) == {"requestId", "message"}
        case "two-oks":
            pairs = json.loads(body, object_pairs_hook=list)
            assert [value for name, value in pairs if name == "ok"] == [False, True]
        case "rpc-status":
            assert json.loads(body) == {"code": 16, "message": "unauthenticated", "details": []}
        case "other-job":
            assert json.loads(body)["job"]["id"] == "another-job"
    assert runs(db) == done


def test_a_stale_read_shows_the_job_before_its_last_change(serve: Serve) -> None:
    server = serve("read:stale:skip=1:times=2", "read:stale:job=never")
    run(server)
    assert [state(server) for _ in range(4)] == [
        "JOB_STATE_RUNNING",
        "JOB_STATE_NEW",
        "JOB_STATE_NEW",
        "JOB_STATE_RUNNING",
    ]
    assert state(server, "never") == "JOB_STATE_NEW"


def test_a_stale_read_still_shows_a_deleted_job(serve: Serve) -> None:
    server = serve("any:stale")
    run(server)
    send(server, request("POST", f"{JOBS}/a/abort"))
    send(server, request("DELETE", f"{JOBS}/a"))
    assert state(server) == "JOB_STATE_ABORTED"


def test_a_stale_read_of_a_new_job_finds_nothing(serve: Serve) -> None:
    server = serve("read:stale", create_missing=False)
    created = json.loads(body_of(send(server, request("POST", JOBS, "{}"))))["job"]["id"]
    assert status_of(send(server, request("GET", f"{JOBS}/{created}"))) == 404


def test_a_run_may_be_made_to_fail(serve: Serve, db: Path) -> None:
    server = serve("run:fail:times=1", job_seconds=0)
    assert run(server) == 200
    job = json.loads(body_of(send(server, request("GET", f"{JOBS}/a"))))["job"]
    assert (job["state"], job["errorMessage"]) == ("JOB_STATE_FAILED", "a simulated fault failed this run")
    assert run(server) == 200
    assert state(server) == "JOB_STATE_COMPLETE"
    assert runs(db) == 2


def abort(server: SandboxServer) -> int:
    return status_of(send(server, request("POST", f"{JOBS}/a/abort")))


def test_an_abort_that_drains_is_accepted_and_shows_later(serve: Serve, db: Path) -> None:
    now = [1_700_000_000.0]
    server = serve("abort:drain:seconds=30", clock=lambda: now[0])
    assert (run(server), abort(server)) == (200, 200)
    assert (state(server), run(server), abort(server)) == ("JOB_STATE_RUNNING", 400, 400)
    now[0] += 30
    job = json.loads(body_of(send(server, request("GET", f"{JOBS}/a"))))["job"]
    assert (job["state"], job["endedAt"]) == ("JOB_STATE_ABORTED", "2023-11-14T22:13:50.000000Z")
    assert run(server) == 200
    assert [execution.verb for execution in ledger(db)] == ["run", "abort", "run"]


def test_a_job_that_drains_is_aborted_though_its_run_would_have_been_over_by_then(serve: Serve) -> None:
    now = [1_700_000_000.0]
    server = serve("abort:drain:seconds=30", clock=lambda: now[0], job_seconds=10)
    assert (run(server), abort(server)) == (200, 200)
    now[0] += 20
    assert state(server) == "JOB_STATE_RUNNING"
    now[0] += 20
    assert state(server) == "JOB_STATE_ABORTED"


@pytest.mark.parametrize(
    ("time_format", "expected"),
    [
        ("seconds", "2023-11-14T22:13:20Z"),
        ("millis", "2023-11-14T22:13:20.250Z"),
        ("nanos", "2023-11-14T22:13:20.250000000Z"),
        ("offset", "2023-11-14T23:13:20.250000+01:00"),
        ("lower", "2023-11-14t22:13:20.250000z"),
    ],
)
@pytest.mark.parametrize(("verb", "path"), [("read", f"{JOBS}/a"), ("list", JOBS)])
def test_times_may_be_written_in_another_way(
    serve: Serve, verb: str, path: str, time_format: str, expected: str
) -> None:
    server = serve(f"{verb}:time-format:format={time_format}", clock=lambda: 1_700_000_000.25)
    run(server)
    document = json.loads(body_of(send(server, request("GET", path))))
    [job] = document.get("data", [document.get("job")])
    assert (job["submittedAt"], job["stateTimestamps"]["JOB_STATE_RUNNING"]) == (expected, expected)


def test_a_read_may_tell_one_more_time_of_the_run_that_is_over(serve: Serve) -> None:
    server = serve("read:extra-time:skip=1", job_seconds=0)
    run(server)
    expected, more = (json.loads(body_of(send(server, request("GET", f"{JOBS}/a"))))["job"] for _ in range(2))
    assert set(more["stateTimestamps"]) - set(expected["stateTimestamps"]) == {"JOB_STATE_ARCHIVED"}
    assert more["submittedAt"] == expected["submittedAt"]


@pytest.mark.parametrize(
    ("fault", "ids", "pagination"),
    [
        ("list:page-cap:jobs=2", ["2", "3"], {"total": 6, "offset": 2, "hasPrevious": True, "hasNext": True}),
        ("list:no-pagination", ["2", "3", "4"], None),
        ("list:same-page", ["0", "1", "2"], {"total": 6, "offset": 0, "hasPrevious": False, "hasNext": True}),
        ("list:shift:jobs=1", ["3", "4", "5"], {"total": 5, "offset": 2, "hasPrevious": True, "hasNext": False}),
    ],
)
def test_a_list_may_be_odd(serve: Serve, fault: str, ids: list[str], pagination: dict[str, object] | None) -> None:
    times = iter(range(10**6))
    server = serve(fault, clock=lambda: float(next(times)))
    for number in range(6):
        run(server, str(number))
    answer = send(server, request("GET", f"{JOBS}?pagination.limit=3&pagination.offset=2"))
    document = json.loads(body_of(answer))
    assert ([job["id"] for job in document["data"]], document.get("pagination")) == (ids, pagination)


def test_the_work_under_after_is_honest(serve: Serve, db: Path) -> None:
    server = serve("abort:500:after")
    assert status_of(send(server, request("POST", f"{JOBS}/a/abort"))) == 500
    assert status_of(send(server, request("POST", f"{JOBS}/a/abort"))) == 500
    assert [execution.verb for execution in ledger(db)] == ["delete"]


@pytest.mark.parametrize(
    ("verb", "sent"),
    [
        ("run", run_request()),
        ("abort", request("POST", f"{JOBS}/a/abort")),
        ("delete", request("DELETE", f"{JOBS}/a")),
        ("read", request("GET", f"{JOBS}/a")),
        ("list", request("GET", f"{JOBS}?pagination.limit=1")),
        ("create", request("POST", JOBS, "{}")),
        ("token", request("POST", "/v1/auth/access_token", '{"apiKey": "an-api-key"}')),
    ],
)
def test_a_fault_meets_its_verb_and_no_other(serve: Serve, verb: str, sent: bytes) -> None:
    others = [
        f"{other}:500" for other in ("run", "abort", "delete", "read", "list", "create", "token") if other != verb
    ]
    assert status_of(send(serve(*others), sent)) == 200
    assert status_of(send(serve(f"{verb}:502"), sent)) == 502
    assert status_of(send(serve("any:502"), sent)) == 502


def test_any_leaves_the_document_alone(serve: Serve) -> None:
    assert status_of(send(serve("any:reset"), request("GET", "/openapi.json"))) == 200


def test_times_and_skip_count_the_calls_that_match(serve: Serve) -> None:
    server = serve("run:503:skip=1:times=2:job=a*")
    assert [run(server, job) for job in ("a1", "b", "a2", "b2", "a3", "a4")] == [200, 200, 503, 200, 503, 200]


def test_of_several_faults_the_first_that_matches_applies(serve: Serve) -> None:
    server = serve("run:503:times=1", "run:429:times=1:job=b", "any:500:times=1")
    assert [run(server, job) for job in ("a", "a", "b", "c")] == [503, 500, 429, 200]


def test_chance_is_the_same_for_the_same_seed(serve: Serve, tmp_path: Path) -> None:
    def hits(fault: str) -> list[bool]:
        server = serve(fault)
        with connect(server) as connection:
            seen = []
            for _ in range(60):
                connection.sendall(request("GET", JOBS, close=False))
                seen.append(connection.recv(65536).startswith(b"HTTP/1.1 503"))
            return seen

    first = hits("list:503:p=0.5:seed=7")
    assert 15 < sum(first) < 45
    assert hits("list:503:p=0.5:seed=7") == first
    assert hits("list:503:p=0.5:seed=8") != first
    assert sum(hits("list:503:p=0")) == 0
    assert sum(hits("list:503:p=1")) == 60


def test_counts_hold_under_concurrency(serve: Serve, db: Path) -> None:
    server = serve("run:503:skip=10:times=20", "run:429:times=5")
    barrier = threading.Barrier(48)

    def at_once(n: int) -> int:
        barrier.wait()
        return run(server, f"job-{n}")

    with ThreadPoolExecutor(48) as pool:
        assert Counter(pool.map(at_once, range(48))) == {503: 20, 429: 5, 200: 23}
    assert runs(db) == 23


def test_a_connection_lives_on_after_an_answered_fault(serve: Serve) -> None:
    server = serve("run:503:times=1", "run:empty:times=1")
    with connect(server) as connection:
        statuses = []
        for _ in range(3):
            connection.sendall(run_request(close=False))
            statuses.append(status_of(connection.recv(65536)))
    assert statuses == [503, 200, 200]


def test_a_fault_is_read_in_full() -> None:
    fault = parse_fault("run:503:after:times=2:skip=1:job=night*:retry-after=3:p=0.25:seed=9")
    assert (fault.operation, fault.kind, fault.status, fault.after) == (Operation.RUN, Kind.STATUS, 503, True)
    assert (fault.times, fault.skip, fault.job, fault.retry_after, fault.p, fault.seed) == (
        2,
        1,
        "night*",
        "3",
        0.25,
        9,
    )
    assert parse_fault("any:hang").operation is None
    assert parse_fault("any:hang").seconds == float("inf")
    assert parse_fault("token:slow:seconds=1.5").seconds == 1.5


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "'' is no verb; right would be: one of run, abort, delete, read, list, create, token, any"),
        ("start:503", "'start' is no verb"),
        ("document:503", "'document' is no verb"),
        ("run", "'' is no kind; right would be: a status from 200 to 599 or one of reset, close, hang,"),
        ("run:status", "'status' is no kind"),
        ("run:100", "'100' is no kind"),
        ("run:600", "'600' is no kind"),
        ("run:\uff15\uff10\uff13", "is no kind"),
        ("run:503:often=3", "'often=3' is no part of a fault"),
        ("run:503:times=1:after", "'after' is no part of a fault"),
        ("run:503:retry-after=3:often=3", "'often=3' is no part of a fault"),
        ("run:503:times=0", "times=0 is out of range; right would be: a whole number from 1"),
        ("run:503:times=x", "times=x is out of range"),
        ("run:503:times=", "times= is empty"),
        ("run:503:times=1:times=2", "times= is there twice"),
        ("run:503:p=1.1", "p=1.1 is out of range; right would be: a number from 0 to 1"),
        ("run:hang:seconds=nan", "seconds=nan is out of range"),
        ("run:503:seconds=1", "seconds= only with hang, slow and drip"),
        ("run:reset:retry-after=1", "retry-after= only with a status"),
        ("run:503:retry-after=1\r\nX: 1", "retry-after= is empty or not plain text"),
        ("run:503:location=/x", "location= only with a 3xx status"),
        ("run:503:seed=1", "seed= only with p="),
        ("list:503:job=a", "job= only with a verb that names a job"),
        ("run:stale", "stale does not go with run; right would be: read:stale"),
        ("abort:fail", "fail does not go with abort; right would be: run:fail"),
        ("run:fail:after", "fail has no 'after'"),
        ("abort:drain:after", "drain has no 'after'"),
        ("run:drain", "drain does not go with run; right would be: abort:drain"),
        ("run:time-format", "time-format does not go with run; right would be: read:time-format or list:time-format"),
        ("read:page-cap", "page-cap does not go with read; right would be: list:page-cap"),
        ("read:time-format:format=iso", "iso is no format; right would be: one of seconds, millis, nanos"),
        ("read:503:format=nanos", "format= only with time-format"),
        ("list:503:jobs=3", "jobs= only with page-cap and shift"),
        ("list:shift:jobs=0", "jobs=0 is out of range"),
    ],
)
def test_a_fault_that_makes_no_sense_is_refused_with_what_would(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=re.escape(says)):
        parse_fault(text)
