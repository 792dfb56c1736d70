"""The server without sockets gives the same replies as the server behind a socket, with faults too."""

import itertools
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest

from project import TOKEN
from reconciler.engines.bytenite.auth import Credentials
from reconciler.engines.bytenite.engine import ByteniteEngine
from reconciler.engines.http.reply import Reply
from reconciler.engines.http.transport import BODY_LIMIT_BYTES, Transport
from reconciler.engines.port import AnswerClass
from reconciler.engines.sandbox import direct
from reconciler.engines.sandbox.direct import DirectTransport
from reconciler.engines.sandbox.faults import Faults, parse_fault
from reconciler.engines.sandbox.life import Database, calls, ledger
from reconciler.engines.sandbox.server import SandboxServer
from reconciler.engines.sandbox.service import Options, Service
from reconciler.model.jobs import Status, Verb
from steps import step_for

KEY = "an-api-key"
TIMEOUT_S = 1.0
START = 1_800_000_000.0

Exchange = Callable[[str, str, dict[str, str], bytes | None], Reply]

REQUESTS: list[tuple[str, str, str, bytes | None]] = [
    ("GET", "/jobs/a", TOKEN, None),
    ("POST", "/jobs/a/run", TOKEN, b'{"config": {"taskTimeout": 600}}'),
    ("GET", "/jobs/a", TOKEN, None),
    ("GET", "/jobs/a", TOKEN, None),
    ("POST", "/jobs/a/run", TOKEN, b'{"config": {}}'),
    ("POST", "/jobs/a/run", TOKEN, b'{"config": {"taskTimeout": "soon"}}'),
    ("POST", "/jobs/a/run", TOKEN, b"{"),
    ("DELETE", "/jobs/a", TOKEN, None),
    ("POST", "/jobs/a/abort", TOKEN, None),
    ("POST", "/jobs/a/abort", TOKEN, None),
    ("DELETE", "/jobs/a", TOKEN, None),
    ("GET", "/jobs/a", TOKEN, None),
    ("POST", "/jobs/b%2Fc/abort", TOKEN, None),
    ("GET", "/jobs?pagination.limit=5&pagination.offset=0", TOKEN, None),
    ("GET", "/jobs/a", "a-wrong-token", None),
    ("GET", "/nowhere", TOKEN, None),
    ("PUT", "/jobs/a", TOKEN, None),
]

FAULTS = [
    *(f"any:{status}{when}" for status in (200, 204, 302, 400, 429, 503, 599) for when in ("", ":after")),
    *(
        f"any:{kind}"
        for kind in ("slow:seconds=0.02", "drip:seconds=0.02", "stale", "fail", "time-format", "extra-time")
    ),
    *(
        f"any:{kind}{when}"
        for kind in (
            *("reset", "close", "truncated", "html", "empty", "garbage", "huge", "wrong-type", "not-ok"),
            *("no-ok", "two-oks", "rpc-status", "other-job"),
        )
        for when in ("", ":after")
    ),
    "any:error-in-200",
    "any:hang:seconds=0.02",
    "run:hang:after",
    "run:slow:seconds=30",
    "run:503:retry-after=Fri, 31 Dec 1999 23:59:59 GMT",
    "run:302:after:location=https://elsewhere.example/",
]


def counter() -> Callable[[int], bytes]:
    """Return a source of random bytes that is the same each time."""
    numbers = itertools.count(1)
    return lambda size: next(numbers).to_bytes(2, "big") * (size // 2) + b"\0" * (size % 2)


class MemoryDatabase(Database):
    """A database that is closed when nothing refers to it any more."""

    def __del__(self) -> None:
        self.close()


def directly(fault: str, options: Options, pause: Callable[[float], object]) -> tuple[DirectTransport, Database]:
    database = MemoryDatabase(":memory:")
    faults = Faults([parse_fault(fault)] if fault else [])
    service = Service(database, faults, options, lambda: START, counter())
    return DirectTransport(service, clock=lambda: START, pause=pause, timeout_s=TIMEOUT_S), database


def replies(exchange: Exchange, endpoint: str, requests: list[tuple[str, str, str, bytes | None]]) -> list[Reply]:
    made = []
    for method, path, token, body in requests:
        headers = {"Authorization": token} | ({} if body is None else {"Content-Type": "application/json"})
        made.append(exchange(method, endpoint + path, headers, body))
    return made


def over_a_socket(
    db: Path, fault: str, requests: list[tuple[str, str, str, bytes | None]], *, reads: bool
) -> Iterator[Reply]:
    with SandboxServer(
        db,
        access_token=TOKEN,
        api_key=KEY,
        job_seconds=600,
        faults=[parse_fault(fault)] if fault else [],
        create_missing=True,
        reads=reads,
        clock=lambda: START,
        randbytes=counter(),
    ) as server:
        transport = Transport(
            server.endpoint, pool_size=1, timeout_s=TIMEOUT_S, connect_timeout_s=5, clock=time.monotonic
        )
        yield from replies(transport.exchange, server.endpoint, requests)
        transport.close()


@pytest.mark.parametrize("reads", [True, False])
def test_every_request_has_the_answer_that_it_has_over_a_socket(tmp_path: Path, reads: bool) -> None:
    options = Options(TOKEN, KEY, 3600, 600, create_missing=True, reads=reads)
    transport, _ = directly("", options, lambda seconds: None)
    wire = list(over_a_socket(tmp_path / "db", "", REQUESTS, reads=reads))
    assert replies(transport.exchange, "http://127.0.0.1:1/v1/customer", REQUESTS) == wire
    assert {reply.status for reply in wire} >= {200, 400, 404, 401 if reads else 405}


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_means_what_it_means_on_the_wire(tmp_path: Path, fault: str) -> None:
    # A deadline takes real time over a socket, so one request is enough.
    requests = REQUESTS[1:2] if fault.startswith("run:") else REQUESTS[1:4]
    options = Options(TOKEN, KEY, 3600, 600, create_missing=True, reads=True)
    transport, database = directly(fault, options, lambda seconds: None)
    wire = list(over_a_socket(tmp_path / "db", fault, requests, reads=True))
    assert replies(transport.exchange, "http://127.0.0.1:1/v1/customer", requests) == wire
    with database.transaction():
        executions = database._sql.execute("SELECT count(*) FROM ledger").fetchone()[0]
        seen = database._sql.execute("SELECT status, fault FROM calls ORDER BY seq").fetchall()
    assert executions == len(ledger(tmp_path / "db"))
    assert seen == [(call.status, call.fault) for call in calls(tmp_path / "db")]
    assert any(logged for _, logged in seen)


def test_a_lost_answer_was_sent_and_an_answer_too_late_costs_the_clock_its_deadline() -> None:
    options = Options(TOKEN, KEY, 3600, 600, create_missing=True, reads=True)
    waits: list[float] = []
    transport, _ = directly("run:slow:seconds=30", options, waits.append)
    [reply] = replies(transport.exchange, "http://127.0.0.1:1/v1/customer", REQUESTS[1:2])
    assert (reply.sent, reply.status, reply.fault) == (True, None, "no whole answer within 1 s: its head did not end")
    assert waits == [1]


def test_it_reads_as_much_of_an_answer_as_the_network_does() -> None:
    assert direct.BODY_LIMIT_BYTES == BODY_LIMIT_BYTES


def test_the_real_engine_works_over_it() -> None:
    options = Options("", KEY, 3600, 600, create_missing=True, reads=True)
    transport, database = directly("run:reset:after:times=1", options, lambda seconds: None)
    engine = ByteniteEngine(
        "http://127.0.0.1:1/v1/customer",
        Credentials(api_key=KEY),
        parallelism=1,
        max_rps=None,
        wait=lambda seconds: False,
        random=Random(0),
        transport=transport,
    )
    run = step_for(Verb.RUN, "a", {"taskTimeout": 600})
    assert engine.observe("a").status is Status.DRAFT
    assert engine.send(run).kind is AnswerClass.IN_DOUBT
    assert engine.observe("a").status is Status.ACTIVE
    assert engine.send(run).kind is AnswerClass.REJECTED
    engine.close()
    with database.transaction():
        configs = database._sql.execute("SELECT config FROM ledger").fetchall()
    assert [json.loads(config) for (config,) in configs] == [{"taskTimeout": 600}]
