"""The requests on the socket are those of the plan's JSON: method, path and body, each once and in order."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from project import TOKEN, Project


class Recorder(ThreadingHTTPServer):
    """A service without reads that keeps every request."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests: list[tuple[str, str, Any]] = []
        self.headers: list[dict[str, str]] = []

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1/customer"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Recorder

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.requests.append((self.command, self.path, json.loads(body) if body else None))
        self.server.headers.append(dict(self.headers.items()))
        reply = b'{"ok": true, "requestId": "r-1"}'
        self.send_response(404 if self.command == "GET" else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(reply)))
        self.end_headers()
        self.wfile.write(reply)

    do_GET = do_POST = do_DELETE = answer

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    with Recorder() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def test_the_requests_on_the_wire_equal_those_that_the_plan_lists(tmp_path: Path, recorder: Recorder) -> None:
    project = Project(tmp_path)
    project.env["BYTENITE_ACCESS_TOKEN"] = TOKEN
    endpoint = ["--endpoint", recorder.endpoint]
    project.write("keep: {state: running}\nchange: {state: running}\nstop: {state: running}\ndrop: {state: running}")
    assert project.run("apply", "--yes", *endpoint).code == 0
    recorder.requests.clear()
    recorder.headers.clear()
    project.write(
        "keep: {state: running}\n"
        "change: {state: running, id: change, config: {taskTimeout: 9223372036854775807, isTestJob: true}}\n"
        "stop: {state: aborted}\ndrop: {state: absent}\n"
        "new: {state: running, id: A.b_c-9, config: {jobTimeout: 1}, runToken: t}"
    )
    assert project.run("plan", "--out", "plan.json", *endpoint).code == 0
    plan = json.loads((tmp_path / "plan.json").read_text())

    run = project.run("apply", "--plan", "plan.json", "--yes", "--parallelism", "1", *endpoint)

    assert run.code == 0, run.err
    planned = [
        (*call["request"].replace(" ", " /v1/customer", 1).split(" "), call["body"])
        for action in plan["actions"]
        for call in action["calls"]
    ]
    sent = [request for request in recorder.requests if request[0] != "GET"]
    assert sent == planned
    assert sent == [
        ("POST", "/v1/customer/jobs/stop/abort", None),
        ("POST", "/v1/customer/jobs/change/abort", None),
        ("POST", "/v1/customer/jobs/change/run", {"config": {"taskTimeout": 9223372036854775807, "isTestJob": True}}),
        ("POST", "/v1/customer/jobs/A.b_c-9/run", {"config": {"jobTimeout": 1}}),
        ("POST", "/v1/customer/jobs/drop/abort", None),
        ("DELETE", "/v1/customer/jobs/drop", None),
    ]
    assert {headers["Authorization"] for headers in recorder.headers} == {TOKEN}
    assert {headers["Accept"] for headers in recorder.headers} == {"application/json"}


def test_where_nothing_can_be_read_it_is_asked_for_once_and_the_table_without_observation_holds(
    tmp_path: Path, recorder: Recorder
) -> None:
    project = Project(tmp_path)
    project.env["BYTENITE_ACCESS_TOKEN"] = TOKEN
    project.write("a: {state: running}\nb: {state: running}\nc: {state: running}")
    assert project.run("apply", "--yes", "--parallelism", "1", "--endpoint", recorder.endpoint).code == 0
    reads = [path for method, path, _ in recorder.requests if method == "GET"]
    assert len(reads) == 2  # one job, and then the list: the service has no reads
    assert [path for method, path, _ in recorder.requests if method == "POST"] == [
        "/v1/customer/jobs/a/run",
        "/v1/customer/jobs/b/run",
        "/v1/customer/jobs/c/run",
    ]
