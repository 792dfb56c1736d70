"""Completion of paths and of names of jobs.

Completion prints no errors. If the manifest can't be read, no name is offered.
"""

import os
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


def paths(ctx: click.Context, param: click.Parameter, incomplete: str) -> "list[CompletionItem]":
    """Let the shell complete a path."""
    from click.shell_completion import CompletionItem

    return [CompletionItem(incomplete, type="file")]


def declared_jobs(ctx: click.Context, param: click.Parameter, incomplete: str) -> "list[CompletionItem]":
    """The names of the declared jobs."""
    return _items(_names(ctx, with_recorded=False), incomplete)


def known_jobs(ctx: click.Context, param: click.Parameter, incomplete: str) -> "list[CompletionItem]":
    """The names of the declared jobs, and of the jobs that a state file records."""
    return _items(_names(ctx, with_recorded=True), incomplete)


def known_jobs_or_paths(ctx: click.Context, param: click.Parameter, incomplete: str) -> "list[CompletionItem]":
    """The names of known jobs for the first word; paths for the other words, and if no name fits."""
    found = [] if ctx.params.get(param.name or "") else known_jobs(ctx, param, incomplete)
    return found or paths(ctx, param, incomplete)


def engines(ctx: click.Context, param: click.Parameter, incomplete: str) -> "list[CompletionItem]":
    """The names of the installed engines."""
    from reconciler.engines.registry import installed

    return _items(installed(), incomplete)


def _names(ctx: click.Context, *, with_recorded: bool) -> Iterable[str]:
    from reconciler.host.stop import Stop
    from reconciler.model.errors import ReconcilerError
    from reconciler.usecases.names import declared_names, recorded_names
    from reconciler.usecases.place import Place
    from reconciler.usecases.workspace import Workspace
    from reconciler.usecases.world import World

    given = ctx.params
    # While an option lacks its value, click leaves the words before it unparsed.
    words = given.get("paths") or [word for word in ctx.args if os.path.exists(word)]
    place = Place(tuple(words), given.get("state_url") or "", given.get("endpoint") or "")
    workspace = Workspace(place, World(os.environ, Stop()))
    try:
        names = set(declared_names(workspace))
        return names | recorded_names(workspace) if with_recorded else names
    except (ReconcilerError, OSError):
        return ()


def _quoted(name: str) -> str:
    """A name, quoted so that bash reads it as one word. Click's script removes one of each two backslashes."""
    return re.sub(r"[^\w@%+=:,./-]", r"\\\\\g<0>", name)


def _items(names: Iterable[str], incomplete: str) -> "list[CompletionItem]":
    from click.shell_completion import CompletionItem

    # Only bash inserts a word as it is, so a character that bash would split or expand must be quoted.
    is_bash = os.environ.get("_RECONCILER_COMPLETE", "").startswith("bash")
    fitting = sorted(name for name in names if name.startswith(incomplete) and name.isprintable())
    return [CompletionItem(_quoted(name) if is_bash else name) for name in fitting]
