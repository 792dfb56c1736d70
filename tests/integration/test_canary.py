"""Canaries in place of credentials, looked for in every byte that a command prints or leaves behind.

The server echoes what it was sent, in every kind of field and several encodings. What is searched are the
user's files, the high-water marks, and what went to stdout and stderr.
"""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable, Iterator, Mapping
from html import escape
from itertools import product
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import pytest

from fuzz_targets import shows
from project import Project, Run
from proxies import Proxy, running
from raw_server import RawServer, Request, answer, raw_server

TOKEN, KEY, EXCHANGED = "canaryTaken/+&1", "canaryKept/+&2", "canaryBought/+&3"
SECRETS = (TOKEN, KEY, EXCHANGED)
PARTS = ("canaryTaken", "canaryKept", "canaryBought")

ENCODINGS: Mapping[str, Callable[[str], str]] = {
    "plain": str,
    "slash": lambda secret: secret.replace("/", "\\/"),
    "upper": lambda secret: quote(secret, safe=""),
    "lower": lambda secret: secret.replace("/", "%2f").replace("+", "%2b").replace("&", "%26"),
    "all": lambda secret: "".join(f"%{ord(c):02X}" for c in secret),
    "twice": lambda secret: quote(quote(secret, safe=""), safe=""),
    "html": lambda secret: escape(secret).replace("/", "&#x2F;"),
    "units": lambda secret: "".join(f"\\u{ord(c):04x}" for c in secret),
    "quoted": lambda secret: json.dumps({"said": json.dumps({"token": secret}).replace("/", "\\/")}),
    "nested": lambda secret: "".join(f"\\\\u{ord(c):04x}" for c in secret),
    "base64": lambda secret: b64encode(secret.encode()).decode(),
    "inside": lambda secret: b64encode(f'{{"token":"{secret}"}}'.encode()).decode(),
    "urlsafe": lambda secret: urlsafe_b64encode(f"?>{secret}?>".encode()).decode(),
}

Shape = Callable[[str], bytes]


def _json(status: int, document: object) -> bytes:
    return answer(status, json.dumps(document), "Content-Type: application/json")


RUNS: Mapping[str, Shape] = {
    "message": lambda echo: _json(200, {"ok": True, "requestId": "r", "message": echo}),
    "request": lambda echo: _json(403, {"ok": False, "requestId": echo}),
    "error": lambda echo: _json(200, {"ok": False, "error": {"code": 7, "message": echo, "description": echo}}),
    "code": lambda echo: _json(400, {"code": echo, "message": f"bad {echo}"}),
    "word": lambda echo: _json(200, {"ok": False, "error": echo}),
    "text": lambda echo: answer(400, f"bad {echo}"),
    "lost": lambda echo: answer(503, f"<p>{echo}</p>", f"Retry-After: {echo}"),
    "wait": lambda echo: answer(429, echo, "Retry-After: 3600"),
    "broken": lambda echo: answer(200, f'{{"ok": "{echo}", "message": "{echo}"'),
    "list": lambda echo: _json(500, [echo]),
    "moved": lambda echo: answer(302, echo, f"Location: /login?token={echo}"),
    "zipped": lambda echo: answer(200, '{"ok": true}', f"Content-Encoding: {echo}"),
}
READS: Mapping[str, Shape] = {
    "state": lambda echo: _json(200, {"job": {"state": f"JOB_STATE_{echo}"}}),
    "fault": lambda echo: _json(200, {"job": {"state": "JOB_STATE_FAILED", "errorMessage": echo, "description": echo}}),
    "times": lambda echo: _json(
        200, {"job": {"state": "JOB_STATE_NEW", "stateTimestamps": {echo: echo}, "submittedAt": echo}}
    ),
    "denied": lambda echo: _json(403, {"message": echo}),
}
_DRAFT = _json(200, {"job": {"state": "JOB_STATE_NEW"}})
_NAMES = [f"{shape}.{form}" for shape, form in product((*RUNS, *READS), ENCODINGS)]


class Echo:
    """Answers with what it was sent, each job in its own way; `hang` is never answered."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.sent: list[str] = []

    def __call__(self, request: Request, connection: socket.socket) -> bytes | None:
        token = request.headers.get("authorization", "")
        self.sent.append(token or KEY)
        if request.path.endswith("/auth/access_token"):
            return _json(200, {"token": EXCHANGED, "message": KEY, "expiresIn": "3600"})
        _, _, rest = request.path.partition("/jobs/")
        name, _, verb = rest.partition("/")
        if name == "hang" and verb:
            self.reached.set()
            connection.recv(1)  # until the command is killed
            return None
        shape, _, form = name.partition(".")
        if form not in ENCODINGS:
            return _DRAFT if name and not verb else answer(404, token)
        echo = ENCODINGS[form](token)
        if verb:
            return RUNS.get(shape, RUNS["lost"])(echo)
        return READS[shape](echo) if shape in READS else _DRAFT


class Scene(NamedTuple):
    """A user's folder, the server that echoes, and what was printed so far."""

    project: Project
    echo: Echo
    server: RawServer
    printed: list[str]

    def run(self, *arguments: str) -> Run:
        run = self.project.run(*arguments, "--endpoint", self.server.url)
        self.printed.extend((run.out, run.err))
        return run

    def seen(self) -> str:
        """All that was printed and all that lies on disk, names of files too."""
        files = [f"{name}\n{content.decode('utf-8', 'replace')}" for name, content in self.project.files.items()]
        return "\n".join([*self.printed, *files])


def assert_none(text: str) -> None:
    """No secret in a text, nor a part of one, nor one in an encoding that any reader undoes."""
    found = [line for line in text.splitlines() if any(part in line for part in PARTS)]
    assert not found, found[:9]
    for secret in SECRETS:
        assert not shows(secret, text), [line for line in text.splitlines() if shows(secret, line)][:9]


@pytest.fixture(params=["token", "key"])
def scene(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Scene]:
    """With a token, or with an API key that is exchanged for one."""
    echo = Echo()
    with raw_server(echo) as server:
        project = Project(tmp_path)
        project.env |= {"BYTENITE_ACCESS_TOKEN": TOKEN} if request.param == "token" else {"BYTENITE_API_KEY": KEY}
        yield Scene(project, echo, server, [])


def declare(scene: Scene, *names: str, state: str = "running") -> None:
    scene.project.write("\n".join(f"{name}: {{state: {state}}}" for name in names))


def test_no_command_prints_or_leaves_a_credential(scene: Scene) -> None:
    declare(scene, *_NAMES)
    scene.run("validate", "--verbose")
    scene.run("plan", "--out", "plan.json", "--verbose")
    for form in ("text", "json"):
        scene.run("plan", "--refresh", "--verbose", "--format", form)
        scene.run("status", "--verbose", "--format", form)
    applied = scene.run("apply", "--yes", "--verbose", "--settle", "0", "--format", "json")
    assert applied.code == 5
    outcomes = {action["job"]: action["outcome"] for action in applied.json["actions"]}
    assert {outcomes[f"{shape}.plain"] for shape in (*RUNS, *READS)} == {"succeeded", "recorded", "failed", "in-doubt"}
    for form in ("text", "json"):
        scene.run("state", "list", "--verbose", "--format", form)
        scene.run("state", "show", "lost.upper", "--verbose", "--format", form)
    scene.run("apply", "--dry-run", "--verbose")
    scene.run("apply", "--yes", "--verbose", "--settle", "0")
    assert scene.run("resolve", "lost.plain", "--applied", "--verbose").code == 0
    assert scene.run("state", "forget", "lost.plain", "--verbose").code == 0
    (scene.project.folder / "jobs.state.json").write_text(
        (scene.project.folder / "jobs.state.json").read_text().replace('"serial": ', '"serial": 1')
    )
    assert scene.run("state", "accept", "--verbose").code == 0
    seen = scene.seen()
    assert "[redacted]" in (scene.project.folder / "jobs.state.json").read_text()
    assert seen.count("[redacted]") > 100
    assert_none(seen)
    assert EXCHANGED in scene.echo.sent or TOKEN in scene.echo.sent


def test_the_journal_of_a_killed_apply_holds_no_credential(scene: Scene) -> None:
    declare(scene, "hang", *(name for name in _NAMES if name < "hang" or name.startswith(("lost", "times"))))
    arguments = ("apply", "--yes", "--verbose", "--endpoint", scene.server.url, "--parallelism", "64")
    with scene.project.start(*arguments) as child:
        assert scene.echo.reached.wait(30)
        journal = scene.project.folder / "jobs.state.json.journal"
        for _ in range(3000):
            if journal.read_bytes().count(b'"type":"result"') >= 2 * len(ENCODINGS):
                break
            child.poll()
            threading.Event().wait(0.01)
        child.send_signal(signal.SIGKILL)
        scene.printed.extend(child.communicate(timeout=30))
    assert journal.read_bytes().count(b"[redacted]") > len(ENCODINGS)
    assert_none(scene.seen())
    assert scene.run("state", "show", "hang").code == 0
    scene.run("status", "--verbose", "--format", "json")
    assert_none(scene.seen())


def test_no_child_program_gets_the_services_credentials(tmp_path: Path) -> None:
    """Git hands its environment on, to GIT_ASKPASS, helpers and hooks; here a program in its place writes it down."""
    git = shutil.which("git")
    if git is None:
        pytest.skip("git is not installed")
    seen, programs = tmp_path / "seen", tmp_path / "programs"
    programs.mkdir()
    (programs / "git").write_text(f'#!/bin/sh\nenv >> "{seen}"\nexec "{git}" "$@"\n')
    (programs / "git").chmod(0o755)
    folder, remote = tmp_path / "work", tmp_path / "remote.git"
    folder.mkdir()
    subprocess.run([git, "init", "-q", "--bare", str(remote)], check=True)
    subprocess.run([git, "init", "-q", str(folder)], check=True)
    with raw_server(Echo()) as server:
        project = Project(folder)
        project.env |= {"BYTENITE_ACCESS_TOKEN": TOKEN, "BYTENITE_API_KEY": KEY, "KEPT": "kept"}
        project.env |= {"RAY_AUTH_TOKEN": TOKEN, "RAY_JOB_HEADERS": json.dumps({"Authorization": f"Bearer {KEY}"})}
        project.env["PATH"] = f"{programs}{os.pathsep}{project.env['PATH']}"
        project.write("a: {state: running}")
        for command in (
            f"apply --yes --state git+{remote}#state:jobs.state.json",
            f"history --state git+{remote}#state:jobs.state.json",
            "apply --yes",
            "plan --format json",
        ):
            project.run(*command.split(), "--endpoint", server.url)
    written = seen.read_text()
    assert written.count("KEPT=kept\n") > 20
    assert_none(written)


def test_netrc_is_not_read(scene: Scene, tmp_path: Path) -> None:
    netrc = tmp_path / ".netrc"
    netrc.write_text("default login canaryNet password canaryNet\n")
    netrc.chmod(0o600)
    scene.project.env |= {"HOME": str(tmp_path), "NETRC": str(netrc)}
    declare(scene, "a")
    scene.run("status")
    assert scene.echo.sent
    assert set(scene.echo.sent) <= {*SECRETS}


@pytest.mark.parametrize("stage", ["", "407", "502", "garbage"])
def test_no_command_prints_or_leaves_the_credentials_of_a_proxy(tmp_path: Path, stage: str) -> None:
    def echo(request: Request, _connection: socket.socket) -> bytes:
        return answer(500, f"{request.headers} {b64encode(PROXY_USERINFO.encode()).decode()} canaryProxyPass%2F")

    with raw_server(echo) as server, running(Proxy(server.port, stage)) as proxy:
        project = Project(tmp_path)
        project.env |= {"BYTENITE_ACCESS_TOKEN": TOKEN}
        project.env |= {"HTTP_PROXY": f"http://canaryProxyUser:canaryProxyPass%2F@127.0.0.1:{proxy.port}"}
        project.write("a: {state: running}")
        manifest = tmp_path / "jobs.yaml"
        target = "target: {engine: bytenite, endpoint: 'http://jobs.example.test/v1', insecure: true}"
        manifest.write_text(re.sub("target: .*", target, manifest.read_text()))
        runs = [
            project.run(*command.split(), "--verbose")
            for command in ("status", "apply --yes --settle 0", "state list", "history", "plan --format json")
        ]
    assert proxy.heads
    assert not any(TOKEN in head for head in proxy.heads if head.startswith("CONNECT"))
    text = "\n".join([run.out + run.err for run in runs] + [str(content) for content in project.files.values()])
    assert "canaryProxy" not in text
    assert_none(text)
    assert not shows(PROXY_USERINFO, text)


PROXY_USERINFO = "canaryProxyUser:canaryProxyPass/"


@pytest.mark.parametrize("status", [200, 401, 500])
@pytest.mark.parametrize("form", ["plain", "upper", "units"])
def test_a_failed_exchange_shows_neither_key_nor_token(tmp_path: Path, status: int, form: str) -> None:
    echo = ENCODINGS[form](KEY)
    rejected = answer(status, f'{{"message": "no {echo}", "token": "{echo} x"', "Retry-After: 3600")
    with raw_server(lambda request, _: rejected) as server:
        project = Project(tmp_path)
        project.env["BYTENITE_API_KEY"] = KEY
        project.write("a: {state: running}")
        run = project.run("status", "--verbose", "--format", "json", "--endpoint", server.url)
    assert run.code == 1
    assert_none(run.out + run.err)


@pytest.mark.parametrize(
    "value", ["canaryTaken\nX: y", "canary Taken", "canaryTäken", "Bearer canaryTaken", "canary\x07"]
)
@pytest.mark.parametrize("name", ["BYTENITE_ACCESS_TOKEN", "BYTENITE_API_KEY"])
def test_a_credential_that_no_header_can_carry_is_refused_and_not_printed(
    tmp_path: Path, name: str, value: str
) -> None:
    project = Project(tmp_path)
    project.write("a: {state: running}")
    with raw_server(lambda request, _: answer(200)) as server:
        run = project.run("status", "--verbose", "--format", "json", "--endpoint", server.url, **{name: value})
        assert server.connections == 0
    assert run.code == 1
    assert name in run.err
    assert "canary" not in run.out + run.err


_CRASHING = """
import sys
from reconciler import cli

class Injected({base}):
    pass

def broken(*arguments, **named):
    raise Injected("injected")

import {module}
{module}.{name} = broken
cli.main()
"""


@pytest.mark.parametrize(
    ("base", "module", "name"),
    [
        ("BaseException", "reconciler.engines.http.transport", "Transport.exchange"),
        ("BaseException", "reconciler.engines.http.transport", "_prepared"),
        ("RuntimeError", "reconciler.engines.bytenite.answers", "_row"),
        ("RuntimeError", "reconciler.engines.http.transport", "json_document"),
        ("MemoryError", "reconciler.engines.bytenite.engine", "observation_from"),
    ],
)
@pytest.mark.parametrize("command", [["status"], ["apply", "--yes"]])
@pytest.mark.parametrize("scene", ["token"], indirect=True)
def test_a_crash_within_the_engine_prints_neither_locals_nor_headers(
    scene: Scene, base: str, module: str, name: str, command: list[str]
) -> None:
    declare(scene, "a")
    child = crashing(scene, _CRASHING.format(base=base, module=module, name=name), *command)
    assert child.returncode != 0
    assert "Injected" in child.stderr or command != ["status"]
    assert_none(scene.seen())


def crashing(scene: Scene, program: str, *command: str) -> "subprocess.CompletedProcess[str]":
    """Run a command under a program that breaks something first, as loudly as Python can."""
    child = subprocess.run(
        [sys.executable, "-X", "dev", "-c", program, *command, "--verbose", "--endpoint", scene.server.url],
        cwd=scene.project.folder,
        env=scene.project.env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    scene.printed.extend((child.stdout, child.stderr))
    return child


@pytest.mark.parametrize("scene", ["token"], indirect=True)
def test_an_error_of_the_library_that_quotes_a_header_is_not_quoted(scene: Scene) -> None:
    """As http.client's own "Invalid header value" does."""
    declare(scene, "a")
    program = (
        "from reconciler.engines.http import transport\n"
        "def prepared(method, url, headers, body, lines):\n"
        "    raise ValueError('Invalid header value %r' % (headers,))\n"
        "transport._prepared = prepared\n"
        "from reconciler import cli; cli.main()"
    )
    child = crashing(scene, program, "status")
    assert child.returncode == 1
    assert "the request could not be made (ValueError)" in child.stderr
    assert_none(child.stdout + child.stderr)


_BREAKS = """
import os
from urllib.parse import quote
import {module}

class Foreseen({base}):
    pass

before = {module}.{name}

def broken(*arguments, **named):
    more = before(*arguments, **named) if {after} else ""
    secrets = [os.environ.get(name, "") for name in ("BYTENITE_ACCESS_TOKEN", "BYTENITE_API_KEY")]
    told = "\\n".join([*secrets, *map(quote, secrets), repr(os.environ), repr(arguments), str(more)])
    raise Foreseen(told) from ValueError(told)

{module}.{name} = broken
"""
"""Makes a function of the product raise what holds every credential, from `sitecustomize`."""


def break_it(project: Project, module: str, name: str, base: str = "RuntimeError", *, after: bool = False) -> None:
    site = project.folder / ".cache" / "site"
    site.mkdir(parents=True, exist_ok=True)
    text = _BREAKS.format(module=module, name=name, base=base, after=after)
    (site / "sitecustomize.py").write_text(text)
    project.env["PYTHONPATH"] = os.pathsep.join([str(site), *filter(None, [os.environ.get("PYTHONPATH")])])


def started(project: Project, *arguments: str) -> Run:
    """As `Project.run`, where a traceback may be printed."""
    with project.start(*arguments) as child:
        out, err = child.communicate(timeout=60)
    return Run(child.returncode, out, err)


@pytest.mark.parametrize("base", ["RuntimeError", "BaseException"])
def test_an_error_that_nobody_foresaw_is_one_line_without_its_own_words(scene: Scene, base: str) -> None:
    declare(scene, "a")
    break_it(scene.project, "reconciler.rules.actions", "make_plan", base)
    for command in ("plan", "apply --yes", "plan --format markdown"):
        run = scene.run(*command.split())
        assert run.code == 1
        first, *rest = run.err.splitlines()
        assert re.fullmatch(r"error: reconciler itself failed: Foreseen in broken, line \d+; please report it", first)
        assert len(rest) == 1
    documents = [
        scene.run("plan", "--format", "json").json["error"],
        scene.run("apply", "--format", "json").json["error"],
    ]
    assert [error["exitCode"] for error in documents] == [1, 1]
    assert_none(scene.seen())


def test_its_traceback_is_shown_where_that_is_asked_for_without_any_credential(scene: Scene) -> None:
    """One of them is a token that was exchanged for the key, and stands nowhere but in memory."""
    declare(scene, "a")
    break_it(scene.project, "reconciler.engines.bytenite.auth", "Tokens.token", after=True)
    run = started(scene.project, "status", "--verbose", "--endpoint", scene.server.url)
    assert run.code == 1
    assert "Traceback (most recent call last):" in run.err
    assert "itself failed: Foreseen in broken" in run.err
    assert 'engine.py", line ' in run.err
    assert run.err.count("[redacted]") >= 2
    assert_none(run.out + run.err)


def test_a_failure_to_say_what_failed_is_told_as_shortly(scene: Scene) -> None:
    declare(scene, "a")
    break_it(scene.project, "reconciler.cli.shell", "show_error")
    (scene.project.folder / "jobs.yaml").write_text("apiVersion: 3\n")
    run = scene.run("plan")
    assert (run.code, run.err.splitlines()[0][:48]) == (1, "error: reconciler itself failed: Foreseen in bro")
    verbose = started(scene.project, "plan", "--verbose")
    assert "Traceback" in verbose.err
    assert_none(scene.seen() + verbose.out + verbose.err)


def test_a_failure_in_a_thread_of_the_embedded_server_is_told_as_shortly(tmp_path: Path) -> None:
    project = Project(tmp_path)
    project.env |= {"BYTENITE_ACCESS_TOKEN": TOKEN, "BYTENITE_API_KEY": KEY}
    project.write("a: {state: running}")
    break_it(project, "reconciler.engines.sandbox.service", "Service.answer")
    run = project.run("status")
    assert "error: reconciler itself failed: Foreseen in broken" in run.err
    assert_none(run.out + run.err)
