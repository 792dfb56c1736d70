"""A bare remote as a forge keeps it, a server, and the checkouts that runners make and throw away."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from project import Project, sandbox_in
from reconciler.engines.sandbox.life import calls, ledger
from reconciler.engines.sandbox.server import SandboxServer
from reconciler.host.disk import OsDisk
from reconciler.model.jobs import State, Target
from reconciler.state.loading import load

BRANCH = "main"
WHO = ("-c", "user.name=ada", "-c", "user.email=ada@example.com")


def git(folder: Path, *words: str) -> str:
    """Run git without anyone's configuration; what it prints."""
    done = subprocess.run(
        ["git", "-c", "protocol.file.allow=always", *words],
        cwd=folder, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, (words, done.stdout, done.stderr)
    return done.stdout.strip()


class Checkout(Project):
    """One runner's checkout; what it remembers lies beside it and is thrown away with it."""

    def __init__(self, folder: Path, server: SandboxServer) -> None:
        folder.mkdir(exist_ok=True)
        home = folder.with_name(f"{folder.name}-home")
        home.mkdir(exist_ok=True)
        super().__init__(folder, server)
        self.home = home
        self.env |= {
            "HOME": str(home),
            "XDG_STATE_HOME": str(home / "marks"),
            "XDG_CACHE_HOME": str(home / "cache"),
            "USER": folder.name,
        }

    def commit(self, message: str = "Jobs") -> None:
        """Commit all files, by hand, and push them."""
        git(self.folder, "add", "--all")
        git(self.folder, *WHO, "commit", "-q", "-m", message)
        git(self.folder, "push", "-q", "origin", f"HEAD:{BRANCH}")


class Forge:
    """A bare remote with a branch `main`, and the service that the jobs are for."""

    def __init__(self, folder: Path, server: SandboxServer) -> None:
        self.folder = folder
        self.server = server
        self.remote = folder / "remote.git"
        self._checkouts = 0
        subprocess.run(["git", "init", "-q", "--bare", "-b", BRANCH, self.remote], check=True, timeout=60)

    def begin(self, jobs: str) -> None:
        """The first commit: a manifest of these jobs."""
        first = self.folder / "first"
        first.mkdir()
        git(first, "init", "-q", "-b", BRANCH)
        git(first, "remote", "add", "origin", str(self.remote))
        made = Checkout(first, self.server)
        made.write(jobs)
        made.commit()

    def checkout(self, *options: str) -> Checkout:
        """A fresh clone, shallow as runners make it."""
        self._checkouts += 1
        folder = self.folder / f"runner-{self._checkouts}"
        git(self.folder, "clone", "-q", "--depth=1", *options, f"file://{self.remote}", str(folder))
        return Checkout(folder, self.server)

    def hook(self, name: str, body: str) -> Path:
        """Have the remote run a script of this body; `echo > the file` that is returned ends that."""
        path = self.remote / "hooks" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)
        return path

    @property
    def tip(self) -> str:
        return git(self.remote, "rev-parse", BRANCH)

    @property
    def branches(self) -> list[str]:
        return git(self.remote, "for-each-ref", "--format=%(refname:short)", "refs/heads").split()

    @property
    def subjects(self) -> list[str]:
        """What the commits of the branch say, newest first."""
        return git(self.remote, "log", "--format=%s", BRANCH).splitlines()

    @property
    def files(self) -> list[str]:
        return git(self.remote, "ls-tree", "-r", "--name-only", BRANCH).splitlines()

    def show(self, path: str) -> str:
        return git(self.remote, "show", f"{BRANCH}:{path}")

    def state(self, path: str = "jobs.state.json") -> State | None:
        """The state on the branch with its journal, as the next runner reads it."""
        self._checkouts += 1
        folder = self.folder / f"reader-{self._checkouts}"
        git(self.folder, "clone", "-q", "--depth=1", f"file://{self.remote}", str(folder))
        found = load(OsDisk(), str(folder / path), Target("bytenite", self.server.endpoint))
        return found.state if found else None

    @property
    def done(self) -> list[tuple[str, str]]:
        """What the server did, in order: (verb, job)."""
        return [(execution.verb, execution.job_id) for execution in ledger(self.folder / "server.db")]

    @property
    def calls(self) -> int:
        """How many calls that change a job the server received."""
        return sum(call.method != "GET" for call in calls(self.folder / "server.db"))


@contextmanager
def forge(folder: Path, *faults: str, jobs: str = "a: {state: running}", job_seconds: float = 1000) -> Iterator[Forge]:
    """A forge whose branch holds a manifest of these jobs, and a server that misbehaves by these rules."""
    with sandbox_in(folder, *faults, job_seconds=job_seconds) as server:
        made = Forge(folder, server)
        made.begin(jobs)
        yield made
