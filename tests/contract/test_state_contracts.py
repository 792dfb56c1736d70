"""The homes of state that ship keep the contract of `reconciler.testing`. Those of `examples/plugin` have own tests."""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

import pytest

from directory_home import PlainRemote
from reconciler.state.backends.git import GitRemote
from reconciler.state.backends.git_objects import Author
from reconciler.state.backends.repository import Repository
from reconciler.state.port import Remote
from reconciler.testing.amount import WHOLE, amount_in
from reconciler.testing.remotes import Connect, RemoteContract
from reconciler.testing.states import StateContract

BRANCH = "states"
AUTHOR = Author("ada", "ada@example.com")


def copied(folder: Path) -> Callable[[], None]:
    """Keep a copy of a folder. Return a function that puts the copy in the place of the folder."""
    copy = folder.with_name(f"{folder.name}-copy")
    shutil.copytree(folder, copy)

    def put_back() -> None:
        shutil.rmtree(folder)
        shutil.copytree(copy, folder)

    return put_back


def git(folder: Path, *words: str) -> str:
    return subprocess.run(
        ["git", "-C", str(folder), "-c", "user.name=ada", "-c", "user.email=ada@example.com", *words],
        check=True, capture_output=True, text=True, timeout=60,
    ).stdout.strip()  # fmt: skip


def bare(folder: Path) -> Path:
    folder.mkdir()
    git(folder, "init", "-q", "--bare")
    return folder


@contextmanager
def git_server(folder: Path) -> Iterator[int]:
    """Serve the repositories in a folder with git's own server. Yields its port."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    options = [f"--port={port}", "--listen=127.0.0.1", f"--base-path={folder}", "--export-all", "--reuseaddr"]
    with subprocess.Popen(["git", "daemon", "--enable=receive-pack", *options], start_new_session=True) as server:
        for _ in range(500):
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5):
                break
            time.sleep(0.02)
        try:
            yield port
        finally:
            os.killpg(server.pid, signal.SIGKILL)


class TestFile(StateContract):
    """A file in a checkout, whose commits are its revisions."""

    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        folder = tmp_path / "checkout"
        folder.mkdir()
        git(folder, "init", "-q")
        return str(folder / "jobs.state.json")

    def keep_copy(self, url: str) -> Callable[[], None]:
        return copied(Path(url).parent)

    def revision(self, url: str) -> str:
        folder = Path(url).parent
        git(folder, "add", "--all")
        git(folder, "commit", "-q", "-m", "state")
        return git(folder, "rev-parse", "HEAD")


class TestFileOutsideOfGit(StateContract):
    """A file in a folder that is no checkout."""

    __test__ = amount_in() is WHOLE  # TestFile is the sample of both

    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        (tmp_path / "plain").mkdir()
        return str(tmp_path / "plain" / "jobs.state.json")

    def keep_copy(self, url: str) -> Callable[[], None]:
        return copied(Path(url).parent)


class TestGit(StateContract):
    """A branch of a bare repository that git's own server serves over TCP."""

    @pytest.fixture
    def repository(self, tmp_path: Path) -> Path:
        return bare(tmp_path / "remote.git")

    @pytest.fixture
    def server(self, repository: Path) -> Iterator[tuple[str, int] | None]:
        with git_server(repository.parent) as port:
            yield "127.0.0.1", port

    @pytest.fixture
    def url(self, repository: Path) -> str:
        return f"git+file://{repository}#{BRANCH}:prod/jobs.state.json"

    def url_through(self, url: str, host: str, port: int) -> str:
        return f"git+git://{host}:{port}/remote.git#{BRANCH}:prod/jobs.state.json"

    def keep_copy(self, url: str) -> Callable[[], None]:
        folder = Path(url.removeprefix("git+file://").partition("#")[0])
        before = self.revision(url)

        def put_back() -> None:
            git(folder, "update-ref", f"refs/heads/{BRANCH}", before)

        return put_back

    def revision(self, url: str) -> str:
        return git(Path(url.removeprefix("git+file://").partition("#")[0]), "rev-parse", BRANCH)


class TestGitRemote(RemoteContract):
    """The remote of the home on a branch."""

    @pytest.fixture
    def connect(self, tmp_path: Path) -> Connect:
        folder, machines = bare(tmp_path / "remote.git"), count()

        def connected() -> Remote:
            repository = Repository(
                str(tmp_path / f"cache-{next(machines)}"),
                f"file://{folder}",
                BRANCH,
                env=os.environ,
                settings=(),
                wait=lambda seconds: False,
            )
            return GitRemote(repository, "prod/jobs.state.json", lambda: AUTHOR)

        return connected

    def revision(self, remote: Remote) -> str:
        return str(remote.version())


class TestPlainRemote(RemoteContract):
    """A remote that keeps no revisions: the directory of the example of a plugin, without them."""

    @pytest.fixture
    def connect(self, tmp_path: Path) -> Connect:
        return lambda: PlainRemote(tmp_path / "there")

    @pytest.fixture
    def connect_unfenced(self, connect: Connect, monkeypatch: pytest.MonkeyPatch) -> Connect:
        """A file server that puts a link in the place of a file."""

        def replace(source: Path, target: Path) -> None:
            target.write_bytes(source.read_bytes())

        monkeypatch.setattr(os, "link", replace)
        return connect
