"""A folder with a manifest, in which the real program runs as a child, against a real server on loopback.

`Project.run` forks the program where that makes no difference (`fork_server.py`). `Project.start` always starts it.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import fork_server
from reconciler.engines.sandbox.faults import parse_fault
from reconciler.engines.sandbox.life import ledger
from reconciler.engines.sandbox.server import SandboxServer

TOKEN = "an-access-token"


NOBODY = {
    **dict.fromkeys(("CI", "GITHUB_ACTIONS", "GITLAB_CI", "BUILDKITE", "CIRCLECI", "TF_BUILD", "JENKINS_URL"), ""),
    **dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"), ""),
    **dict.fromkeys(("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR"), ""),
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
}
"""No user's configuration, no proxy and no CI variables: a record must not depend on who runs the tests."""


class Run(NamedTuple):
    """The result of a command: its exit code and its output."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Project:
    """One user's folder."""

    def __init__(self, folder: Path, server: SandboxServer | None = None) -> None:
        self.folder = folder
        self.server = server
        self.env = {
            # What a run of the tests is told with such a variable is not for the program.
            **{name: value for name, value in os.environ.items() if not name.startswith("RECONCILER_")},
            **NOBODY,
            "XDG_STATE_HOME": str(folder / ".marks"),
            "XDG_CACHE_HOME": str(folder / ".cache"),
            "USER": "ada",
        }
        if server is not None:
            self.env["BYTENITE_ACCESS_TOKEN"] = TOKEN

    @property
    def target(self) -> str:
        if self.server is None:
            return "{engine: sandbox}"
        return f"{{engine: bytenite, endpoint: '{self.server.endpoint}'}}"

    def write(self, jobs: str, *, more: str = "", name: str = "jobs.yaml") -> None:
        """Write a manifest from the lines of `jobs`, each `name: {...}`, and from other top-level blocks."""
        lines = "\n".join(f"  {line.strip()}" for line in jobs.strip().splitlines())
        text = f"apiVersion: reconciler/v1\ntarget: {self.target}\n{more}\njobs:\n{lines}\n"
        (self.folder / name).write_text(text)

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "reconciler", *arguments]

    def run(self, *arguments: str, stdin: str = "", **env: str) -> Run:
        command, env = self.command(*arguments), self.env | env
        if fork_server.can_run(command, env):
            done = fork_server.run(command, self.folder, env, stdin, timeout_s=60)
        else:
            done = subprocess.run(
                command, cwd=self.folder, env=env, input=stdin, capture_output=True, text=True, timeout=60, check=False
            )
        assert "Traceback" not in done.stderr, done.stderr
        return Run(done.returncode, done.stdout, done.stderr)

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            self.command(*arguments),
            cwd=self.folder,
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    @property
    def state(self) -> Any:
        return json.loads((self.folder / "jobs.state.json").read_text())

    @property
    def files(self) -> dict[str, bytes]:
        """Return the user's files, without those of the server and those that the tool can make again."""
        return {
            str(path.relative_to(self.folder)): path.read_bytes()
            for path in sorted(self.folder.rglob("*"))
            if path.is_file() and ".db" not in path.name and ".cache" not in path.parts
        }


def sandbox_in(folder: Path, *faults: str, job_seconds: float = 1000, **options: Any) -> SandboxServer:
    """Return an embedded server with these faults; its database lies in the folder, and it accepts any job id."""
    rules = [parse_fault(fault) for fault in faults]
    database = folder / "server.db"
    return SandboxServer(
        database, access_token=TOKEN, create_missing=True, job_seconds=job_seconds, faults=rules, **options
    )


@contextmanager
def served_project(folder: Path, *faults: str, job_seconds: float = 1000) -> Iterator[Project]:
    """Yield a user's folder, and a server with these faults that outlives the commands."""
    with sandbox_in(folder, *faults, job_seconds=job_seconds) as server:
        yield Project(folder, server)


def done(project: Project) -> list[tuple[str, str]]:
    """Return the calls that the server of a project carried out, in order: (verb, job)."""
    return [(execution.verb, execution.job_id) for execution in ledger(project.folder / "server.db")]


def no_fault_in(harness: Path, *arguments: str) -> str:
    """Run a harness beside the tests and return its output, which names each fault and how to reproduce the fault."""
    run = subprocess.run(
        [sys.executable, harness, *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    if run.stdout.startswith("skipped: "):
        pytest.skip(run.stdout.removeprefix("skipped: ").strip())
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout
