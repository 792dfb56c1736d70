"""Whether an apply is at work on a state: a difference between state and service is then not drift."""

import os
import time
from collections.abc import Mapping

from reconciler.host.git import git_environment, run_git
from reconciler.state.backends.checkout import Elsewhere
from reconciler.state.paths import paths_of
from reconciler.usecases.workspace import Workspace

_LONGEST_RUN_S = 6 * 3600.0
"""No job of a hosted runner takes longer: an older announcement was left by an apply that died."""


def why_not_to_judge(workspace: Workspace, ref: str) -> str:
    """Return why a running apply may have caused the differences, "" if no apply is at work.

    `ref` is the branch that is checked out.

    Raises `ReconcilerError` if the remote or the checkout cannot be read.
    """
    checkout = workspace.stores.open_checkout(ref)
    if checkout is None:  # the state has a branch of its own, and says itself which calls are under way
        return ""
    try:
        checkout.check()
    except Elsewhere as fault:
        return fault.message
    path = workspace.home.url
    if not os.path.exists(paths_of(path).journal):
        return ""
    age_s = time.time() - _committed_at_s(os.path.dirname(path) or ".", workspace.world.env)
    return "an apply has announced its calls and not ended yet" if age_s < _LONGEST_RUN_S else ""


def _committed_at_s(folder: str, env: Mapping[str, str]) -> float:
    """When the commit that is checked out was made; a journal in that commit is no younger."""
    found = run_git(["-C", folder, "log", "-1", "--format=%ct"], git_environment(env)).out.decode().strip()
    return float(found) if found.isdigit() else 0.0
