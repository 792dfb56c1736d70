"""Finds the plugin for the place of a state by the beginning of its URL.

The built-in plugins come first. Plugins of other packages are entry points of the group `reconciler.state`. An entry
point has the name of its scheme, such as `s3` for `s3://…`. Entry points are looked for only for an unknown scheme,
since that takes 26 ms. A plugin of another package is put behind a guard.
"""

import os
import re
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING

from reconciler.model.errors import ReconcilerError, Usage

if TYPE_CHECKING:
    from reconciler.state.port import StatePlugin

GROUP = "reconciler.state"
"""The group of the entry points."""

_BUILT_IN = {"git+": "reconciler.state.backends.git"}
"""The module of each built-in plugin, by the beginning of its URLs."""
_FILES = "reconciler.state.backends.file"
"""The module of the plugin for paths."""
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9.-]*)(\+[A-Za-z0-9.+-]*)?://")
_LIKE_A_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9.-]*):/*")
"""The beginning of a path that may be meant for a URL of an installed plugin."""


class UnknownPlace(Usage):
    """No plugin takes a URL."""


def is_path(url: str) -> bool:
    """Whether a URL is the path of a file, perhaps with `file:` before it."""
    return url.startswith("file:") or not (url.startswith(tuple(_BUILT_IN)) or "://" in url)


def plugin_of(url: str) -> "StatePlugin":
    """The plugin that takes a URL or a path. Raises `UnknownPlace`."""
    if is_path(url):
        return _built_in(_FILES)
    for prefix, module in _BUILT_IN.items():
        if url.startswith(prefix):
            return _built_in(module)
    scheme = _SCHEME.match(url)
    plugin = _installed(scheme[1]) if scheme else None
    if plugin is None or not url.startswith(plugin.prefix):
        raise UnknownPlace(
            "state is kept in a file, on a branch of a git remote, or where an installed plugin keeps it",
            "give a path, or git+https://host/org/repo.git#reconciler-state:jobs.state.json",
        )
    return plugin


def url_meant(url: str, folder: str, checkout: str) -> str:
    """The URL that one without the beginning of its kind is likely to mean, "" where it means itself.

    A relative path is relative to `folder`, and `checkout` is the folder of the manifest. A path that is there, and one
    that begins with `file:` or `./`, means itself.
    """
    from reconciler.state.backends import git_url

    if is_path(url):
        return _url_of_installed(url, folder) or git_url.url_meant(url, folder, checkout)
    try:
        plugin_of(url)
    except UnknownPlace:
        return git_url.url_meant(url, folder, checkout)
    return ""


def _url_of_installed(path: str, folder: str) -> str:
    """The URL of an installed plugin that a path with its scheme means: `dir://st` for `dir:st`, or ""."""
    scheme = _LIKE_A_SCHEME.match(path)
    if scheme is None or path.startswith("file:") or os.path.lexists(os.path.join(folder, path)):
        return ""
    plugin = _installed(scheme[1].lower())
    if plugin is None:
        return ""
    url = plugin.prefix + path[len(scheme[1]) + 1 :]
    return "" if plugin.fault_of(url) else url


def _built_in(module: str) -> "StatePlugin":
    plugin: StatePlugin = import_module(module).PLUGIN
    return plugin


@cache
def _installed(scheme: str) -> "StatePlugin | None":
    """The plugin of another package for a scheme, None if no installed package has one.

    Raises `ReconcilerError` if the plugin can't be loaded.
    """
    from importlib.metadata import entry_points

    from reconciler.host.packages import RAISED

    for point in entry_points(group=GROUP, name=scheme):
        try:
            plugin = point.load()
        except RAISED as fault:
            raise ReconcilerError(
                f"the plugin {point.value}, which keeps states at {scheme}://, can't be loaded: {fault}",
                "install the package that has it anew",
            ) from fault
        from reconciler.state.guarded import GuardedStatePlugin

        return GuardedStatePlugin(plugin, scheme, f"{point.dist.name} {point.dist.version}" if point.dist else "")
    return None
