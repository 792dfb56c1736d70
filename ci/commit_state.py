"""Commit and push what an apply left: `commit_state.py [--state PATH] [--branch NAME] [--plan FILE] [PATH...]`.

`reconciler apply --push` does this by itself. Use this script after an apply that was killed. The script pushes the
state, the journal and the history as they are on disk, whatever .gitignore says. If the branch takes no push, or
already holds another state, the script prints why and exits with 1.
"""

import signal

signal.signal(signal.SIGINT, signal.SIG_DFL)  # a step that is cancelled during the imports ends at once

import argparse
import os
import sys
import threading
from collections.abc import Sequence
from typing import Any

import click

from reconciler.cli import cli
from reconciler.host.git import git_environment, run_git
from reconciler.model.errors import ReconcilerError
from reconciler.usecases.place import Place
from reconciler.usecases.plan_files import load_plan
from reconciler.usecases.saved_plans import workspace_of as workspace_of_plan
from reconciler.usecases.workspace import Workspace
from reconciler.usecases.world import World


def given_to_apply(words: Sequence[str]) -> dict[str, Any]:
    """Parse these arguments as `reconciler apply` does, with its environment variables."""
    command = cli.get_command(click.Context(cli), "apply")
    assert command is not None
    return command.make_context("apply", list(words), resilient_parsing=True).params


def workspace_of(words: Sequence[str]) -> Workspace:
    """Return the workspace of `reconciler apply` with these arguments. Raises `ReconcilerError`."""
    given = given_to_apply(words)
    place = Place(tuple(given["paths"]), given["state_url"] or "", given["endpoint"] or "")
    saved = given["saved"]
    workspace = Workspace(place, World(os.environ, threading.Event()))
    return workspace if saved is None else workspace_of_plan(load_plan(saved), workspace)


def commit_state(workspace: Workspace, branch: str) -> str:
    """Push the files of a state to a branch (in the form of `--push`); return an error message, "" on success."""
    try:
        checkout = workspace.stores.open_checkout(branch)
        if checkout is None:
            return ""
        checkout.find()
    except ReconcilerError as fault:
        return fault.message
    return checkout.conclude()


def _branch_of_checkout() -> str:
    found = run_git(["branch", "--show-current"], git_environment(os.environ))
    return found.out.decode().strip()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--state", default="")
    parser.add_argument("--branch", default="")
    parser.add_argument("--plan", default="")
    parser.add_argument("paths", nargs="*")
    given = parser.parse_args()
    plan = [f"--plan={given.plan}"] if given.plan else []
    try:
        workspace = workspace_of([f"--state={given.state}", *plan, "--", *given.paths])
        branch = given.branch or _branch_of_checkout()
    except (ReconcilerError, OSError) as fault:
        sys.stdout.write(f"{fault}\n")
        return 1
    trouble = commit_state(workspace, branch) if branch else "no branch is checked out: name one with --branch"
    if trouble:
        sys.stdout.write(f"{trouble}\n")
    return 1 if trouble else 0


if __name__ == "__main__":
    sys.exit(main())
