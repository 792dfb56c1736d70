"""Commit the state that an apply wrote, and push it: `commit_state.py [--state PATH] [--branch NAME] [PATH...]`.

A push that loses the race is merged and tried again, never forced. A state that two applies wrote at
once is for a person to merge: no machine can say which calls were made.
"""

import argparse
import os
import subprocess
import sys
import threading
from collections.abc import Sequence

from reconciler.errors import ReconcilerError
from reconciler.planning import at_home
from reconciler.state.history import history_path
from reconciler.state.session import journal_path
from reconciler.wiring import Place, World, is_on_branch, state_path

_PUSHES = 5
"""How often a push that lost a race is merged and tried again."""

_IDENTITY = ("-c", "user.name=reconciler", "-c", "user.email=reconciler@users.noreply.invalid")


def commit_state(paths: Sequence[str], state: str, branch: str) -> str:
    """Commit and push what changed of state, journal and history; returns what went wrong, "" where nothing did.

    `paths` and `state` are as reconciler takes them, "" and () for the defaults; `branch` is the one to
    push to, "" for the one that is checked out. Raises `subprocess.CalledProcessError` where git fails.
    """
    files = [file for file in _files(paths, state) if os.path.exists(file) or _git("ls-files", "--", file)]
    if not files or not _git("status", "--porcelain", "--", *files):
        return ""
    branch = branch or _git("branch", "--show-current")
    _git("add", "--all", "--", *files)
    _git(*_IDENTITY, "commit", "--quiet", "-m", "State after an apply [skip ci]", "--", *files)
    for _ in range(_PUSHES):
        if _try("push", "--quiet", "origin", f"HEAD:refs/heads/{branch}"):
            return ""
        depth = "--unshallow" if _git("rev-parse", "--is-shallow-repository") == "true" else "--no-tags"
        _git("fetch", "--quiet", depth, "origin", f"refs/heads/{branch}")
        merged = ("merge", "--quiet", "-m", "Merge before the state [skip ci]", "FETCH_HEAD")
        if not _try(*_IDENTITY, *merged):
            _try("merge", "--abort")
            return "the state was changed elsewhere meanwhile: it is committed here only; merge it by hand"
    return f"the state could not be pushed in {_PUSHES} tries: it is committed here only"


def _files(paths: Sequence[str], state: str) -> list[str]:
    """The state, its journal where an apply did not end, and the history."""
    world = World(os.environ, threading.Event())
    place = at_home(Place(tuple(paths), state), world)
    if is_on_branch(place):
        return []
    path = state_path(place)
    return [path, journal_path(path), history_path(path)]


def _git(*words: str) -> str:
    return subprocess.run(["git", *words], stdout=subprocess.PIPE, text=True, check=True).stdout.strip()


def _try(*words: str) -> bool:
    return subprocess.run(["git", *words], stdout=sys.stderr, check=False).returncode == 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--state", default="")
    parser.add_argument("--branch", default="")
    parser.add_argument("paths", nargs="*")
    given = parser.parse_args()
    try:
        fault = commit_state(given.paths, given.state, given.branch)
    except subprocess.CalledProcessError as error:
        fault = f"git failed: {' '.join(error.cmd)}"
    except ReconcilerError as error:
        fault = error.message
    if fault:
        sys.stdout.write(f"{fault}\n")
    return 1 if fault else 0


if __name__ == "__main__":
    sys.exit(main())
