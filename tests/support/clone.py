"""A user's folder that is a git repository, with a server whose files lie elsewhere."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jsonschema

from project import NOBODY, Project, Run, sandbox_in
from reconciler.manifest.schema import schema_text
from reconciler.state.history import ATTRIBUTE

GIT = {
    **NOBODY,
    "GIT_AUTHOR_DATE": "2026-11-21T10:00:00Z",
    "GIT_COMMITTER_DATE": "2026-11-21T10:00:00Z",
}
"""The environment of git: no user's configuration, no CI variables, and fixed times."""


class Clone(Project):
    """One user's clone; Ada is configured as its author."""

    def git(self, *arguments: str) -> str:
        """Run git and return its output; git must succeed."""
        done = subprocess.run(
            ["git", *arguments], cwd=self.folder, env=self.env, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()

    def commit(self) -> str:
        """Commit all files; return the commit's id."""
        self.git("add", "-A")
        self.git("commit", "-qm", "change")
        return self.git("rev-parse", "HEAD")

    def apply(self, jobs: str, **env: str) -> Run:
        """Write a manifest and apply it. The apply must succeed or end in doubt."""
        self.write(jobs)
        done = self.run("apply", "--yes", "--settle", "0.1", **env)
        assert done.code in (0, 5), done.out + done.err
        return done

    def history(self, *arguments: str) -> list[dict[str, Any]]:
        """The entries that `history` prints, oldest first."""
        run = self.run("history", *arguments, "--format", "json")
        assert run.code == 0, run.err
        jsonschema.validate(run.json, json.loads(schema_text("history.schema.json")))
        return list(reversed(run.json["entries"]))

    def outcomes(self, *arguments: str) -> list[tuple[str, str, str]]:
        """The same entries as (job, verb, outcome)."""
        return [(entry["job"], entry["verb"], entry["outcome"]) for entry in self.history(*arguments)]


@contextmanager
def served_clone(tmp_path: Path, *faults: str) -> Iterator[Clone]:
    """Yield an empty repository, and a server with these faults."""
    (tmp_path / "repo").mkdir()
    with sandbox_in(tmp_path, *faults) as server:
        clone = Clone(tmp_path / "repo", server)
        clone.env |= {**GIT, "XDG_STATE_HOME": str(tmp_path / "marks"), "XDG_CACHE_HOME": str(tmp_path / "cache")}
        clone.git("init", "-q", "-b", "main")
        clone.git("config", "user.name", "Ada")
        clone.git("config", "user.email", "ada@example.org")
        (clone.folder / ".gitattributes").write_text(f"{ATTRIBUTE}\n")
        yield clone
