"""Whether an apply is at work on a state, so that what differs just now is no drift."""

import os
import time
from collections.abc import Mapping

from reconciler.host.git import git_environment, run_git
from reconciler.state.backends.checkout import Elsewhere
from reconciler.state.journal import journal_path
from reconciler.usecases.workspace import Workspace

_LONGEST_RUN_S = 6 * 3600.0
"""No job of a hosted runner takes longer; what was announced before that was announced by one that died."""


def why_not_to_judge(workspace: Workspace, ref: str) -> str:
    """Why what differs may be an apply's doing, "" where no apply is at work.

    `ref` is the branch that is checked out. Raises `ReconcilerError` where that can't be found out.
    """
    checkout = workspace.stores.open_checkout(ref)
    if checkout is None:  # on a branch of its own the state itself says which calls are under way
        return ""
    try:
        checkout.check()
    except Elsewhere as fault:
        return fault.message
    path = workspace.home.url
    if not os.path.exists(journal_path(path)):
        return ""
    age_s = time.time() - _committed_at_s(os.path.dirname(path) or ".", workspace.world.env)
    return "an apply has announced its calls and not ended yet" if age_s < _LONGEST_RUN_S else ""


def _committed_at_s(folder: str, env: Mapping[str, str]) -> float:
    """When the commit that is checked out was made; of a journal in it, that is its latest date."""
    found = run_git(["-C", folder, "log", "-1", "--format=%ct"], git_environment(env)).out.decode().strip()
    return float(found) if found.isdigit() else 0.0
