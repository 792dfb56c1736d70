"""The same surroundings for every test, wherever it runs, and the fixtures that several tests share."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from clone import Clone, served_clone
from forge import Forge, forge
from git_races import Team, team
from github_server import GitHub, served_github
from project import TOKEN, Project, served_project
from reconciler.engines.sandbox import server
from reconciler.engines.sandbox.faults import parse_fault

# A program that a test starts gets the installed package, even where its working folder is the checkout.
os.environ["PYTHONSAFEPATH"] = "1"
# The programs buffer their output as those of a user do.
os.environ.pop("PYTHONUNBUFFERED", None)
# No test may meet a real account.
for name in [name for name in os.environ if name.startswith("BYTENITE_")]:
    del os.environ[name]
# A shell starts a background job with SIGINT ignored, `nohup` starts a program with SIGHUP ignored, and every program
# that a test starts would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
# A server looks this often whether it is to stop: most tests start one, and wait for its end.
server._POLL_S = 0.005


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A user's folder whose commands use the embedded server."""
    return Project(tmp_path)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Project]:
    """A user's folder on a server that outlives the commands, and whose ledger a test can read."""
    with served_project(tmp_path) as project:
        yield project


@pytest.fixture
def clone(tmp_path: Path) -> Iterator[Clone]:
    """A git repository of a user, on a server that outlives the commands."""
    with served_clone(tmp_path) as clone:
        yield clone


@pytest.fixture
def group(tmp_path: Path) -> Iterator[Team]:
    """Several machines with one state on a branch, and jobs that run longer than any test."""
    with team(tmp_path, job_seconds=10_000) as group:
        yield group


@pytest.fixture
def hub() -> Iterator[GitHub]:
    """A server that answers as GitHub's API does."""
    with served_github() as hub:
        yield hub


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Forge]:
    """A remote repository whose branch holds a manifest of one job."""
    with forge(tmp_path) as place:
        yield place


@pytest.fixture
def db(tmp_path: Path) -> Path:
    """The path of a database of the embedded server that does not exist yet."""
    return tmp_path / "sandbox.db"


@pytest.fixture
def start_server(db: Path) -> Iterator[Callable[..., server.SandboxServer]]:
    """A function that starts a server with these faults and options. The end of the test stops every server."""
    with ExitStack() as stack:

        def start(*faults: str, **options: Any) -> server.SandboxServer:
            given: dict[str, Any] = {"api_key": "an-api-key"} | options
            rules = [parse_fault(fault) for fault in faults]
            return stack.enter_context(server.SandboxServer(db, access_token=TOKEN, faults=rules, **given))

        yield start
