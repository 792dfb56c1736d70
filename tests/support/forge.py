"""A bare remote as on a forge, a server, and the checkouts that CI runners make and throw away."""

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
    """Run git without any user's configuration and return its output."""
    done = subprocess.run(
        ["git", "-c", "protocol.file.allow=always", *words],
        cwd=folder, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, (words, done.stdout, done.stderr)
    return done.stdout.strip()


class Checkout(Project):
    """One runner's checkout; the state home lies beside the checkout and is thrown away with it."""

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
        """Commit all files as a person would, and push the commit."""
        git(self.folder, "add", "--all")
        git(self.folder, *WHO, "commit", "-q", "-m", message)
        git(self.folder, "push", "-q", "origin", f"HEAD:{BRANCH}")


class Forge:
    """A bare remote with a branch `main`, and the service that runs the jobs."""

    def __init__(self, folder: Path, server: SandboxServer) -> None:
        self.folder = folder
        self.server = server
        self.remote = folder / "remote.git"
        self._checkouts = 0
        subprocess.run(["git", "init", "-q", "--bare", "-b", BRANCH, self.remote], check=True, timeout=60)

    def begin(self, jobs: str) -> None:
        """Make the first commit: a manifest of these jobs."""
        first = self.folder / "first"
        first.mkdir()
        git(first, "init", "-q", "-b", BRANCH)
        git(first, "remote", "add", "origin", str(self.remote))
        made = Checkout(first, self.server)
        made.write(jobs)
        made.commit()

    def checkout(self, *options: str) -> Checkout:
        """Return a fresh clone; the clone is shallow, as on a runner."""
        self._checkouts += 1
        folder = self.folder / f"runner-{self._checkouts}"
        git(self.folder, "clone", "-q", "--depth=1", *options, f"file://{self.remote}", str(folder))
        return Checkout(folder, self.server)

    def hook(self, name: str, body: str) -> Path:
        """Install a script with this body as a hook of the remote. Write to the returned file to disable the hook."""
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
        """The subjects of the commits on the branch, newest first."""
        return git(self.remote, "log", "--format=%s", BRANCH).splitlines()

    @property
    def files(self) -> list[str]:
        return git(self.remote, "ls-tree", "-r", "--name-only", BRANCH).splitlines()

    def show(self, path: str) -> str:
        return git(self.remote, "show", f"{BRANCH}:{path}")

    def state(self, path: str = "jobs.state.json") -> State | None:
        """The state and journal on the branch, as the next runner reads them."""
        self._checkouts += 1
        folder = self.folder / f"reader-{self._checkouts}"
        git(self.folder, "clone", "-q", "--depth=1", f"file://{self.remote}", str(folder))
        found = load(OsDisk(), str(folder / path), Target("bytenite", self.server.endpoint))
        return found.state if found else None

    @property
    def done(self) -> list[tuple[str, str]]:
        """The calls that the server carried out, in order: (verb, job)."""
        return [(execution.verb, execution.job_id) for execution in ledger(self.folder / "server.db")]

    @property
    def calls(self) -> int:
        """The number of calls that change a job, as the server received them."""
        return sum(call.method != "GET" for call in calls(self.folder / "server.db"))


@contextmanager
def forge(folder: Path, *faults: str, jobs: str = "a: {state: running}", job_seconds: float = 1000) -> Iterator[Forge]:
    """Yield a forge whose branch holds a manifest of these jobs, with a server that has these faults."""
    with sandbox_in(folder, *faults, job_seconds=job_seconds) as server:
        made = Forge(folder, server)
        made.begin(jobs)
        yield made
