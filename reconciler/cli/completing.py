"""What completes the words that no list of commands and options has: paths, and the names of jobs.

Completion is silent: a manifest that can't be read completes nothing.
"""

import os
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from reconciler.usecases.wiring import Place, World


def paths(ctx: click.Context, param: click.Parameter, incomplete: str) -> "list[CompletionItem]":
    """Have the shell complete a path."""
    from click.shell_completion import CompletionItem

    return [CompletionItem(incomplete, type="file")]


def declared_jobs(ctx: click.Context, param: click.Parameter, incomplete: str) -> "list[CompletionItem]":
    """The names of the jobs that the manifest declares."""
    return _items(_names(ctx, with_recorded=False), incomplete)


def known_jobs(ctx: click.Context, param: click.Parameter, incomplete: str) -> "list[CompletionItem]":
    """The names of the jobs that the manifest declares, and of those that a state in a file has records of."""
    return _items(_names(ctx, with_recorded=True), incomplete)


def known_jobs_or_paths(ctx: click.Context, param: click.Parameter, incomplete: str) -> "list[CompletionItem]":
    """The names of known jobs for the first word, and paths for all others and where no name fits."""
    found = [] if ctx.params.get(param.name or "") else known_jobs(ctx, param, incomplete)
    return found or paths(ctx, param, incomplete)


def _names(ctx: click.Context, *, with_recorded: bool) -> Iterable[str]:
    from reconciler.host.stop import Stop
    from reconciler.model.errors import ReconcilerError
    from reconciler.usecases.planning import declared_names
    from reconciler.usecases.wiring import Place, World

    given = ctx.params
    # An option that has yet to get its value keeps click from telling the words before it apart.
    words = given.get("paths") or [word for word in ctx.args if os.path.exists(word)]
    place = Place(tuple(words), given.get("state_url") or "", given.get("endpoint") or "")
    world = World(os.environ, Stop())
    try:
        names = set(declared_names(place, world))
        return names | _recorded_names(place, world) if with_recorded else names
    except (ReconcilerError, OSError):
        return ()


def _recorded_names(place: "Place", world: "World") -> set[str]:
    """The names in a state file; none for a state on a branch, which would take a fetch."""
    from reconciler.host.disk import OsDisk
    from reconciler.model.jobs import title
    from reconciler.state.loading import load
    from reconciler.usecases.planning import at_home
    from reconciler.usecases.wiring import is_on_branch, state_path

    place = at_home(place, world)
    loaded = None if is_on_branch(place) else load(OsDisk(), state_path(place), None)
    return set(map(title, loaded.state.jobs)) if loaded else set()


def _quoted(name: str) -> str:
    """A name as bash takes it for one word; the script of click reads each backslash twice."""
    return re.sub(r"[^\w@%+=:,./-]", r"\\\\\g<0>", name)


def _items(names: Iterable[str], incomplete: str) -> "list[CompletionItem]":
    from click.shell_completion import CompletionItem

    # Of all shells only bash takes a word as it is, so that what the shell would divide or expand has to be quoted.
    is_bash = os.environ.get("_RECONCILER_COMPLETE", "").startswith("bash")
    fitting = sorted(name for name in names if name.startswith(incomplete) and name.isprintable())
    return [CompletionItem(_quoted(name) if is_bash else name) for name in fitting]
