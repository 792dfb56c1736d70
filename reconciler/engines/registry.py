"""The engines by name: those that come with the tool, and those of other packages.

A package makes an engine known with an entry point of the group `reconciler.engines`, whose name is the name of the
engine and whose object is the plugin. Reading the entry points of all installed packages takes some 25 ms. So they are
read only for a name that is not built in.
"""

from collections.abc import Mapping
from importlib import import_module
from typing import cast

from reconciler.engines.port import EnginePlugin

GROUP = "reconciler.engines"
"""The group of the entry points."""

_BUILT_IN: Mapping[str, str] = {
    "bytenite": "reconciler.engines.bytenite.plugin",
    "local": "reconciler.engines.local.plugin",
    "sandbox": "reconciler.engines.embedded",
}
"""The module of each engine that comes with the tool. The module holds the plugin as `PLUGIN`."""


def built_in() -> tuple[EnginePlugin, ...]:
    """Return the plugins that come with the tool, in the order of their names."""
    return tuple(_load(name) for name in sorted(_BUILT_IN))


def plugin(name: str) -> EnginePlugin | None:
    """Return the plugin of an engine, or None if no installed package has an engine of this name.

    Raises `ImportError` and `AttributeError` if the package of the engine is broken.
    """
    if name in _BUILT_IN:
        return _load(name)
    from importlib.metadata import entry_points

    for point in entry_points(group=GROUP, name=name):
        return cast(EnginePlugin, point.load())
    return None


def installed() -> tuple[str, ...]:
    """Return the names of all engines, sorted: those that come with the tool, and those of other packages."""
    from importlib.metadata import entry_points

    return tuple(sorted({*_BUILT_IN, *entry_points(group=GROUP).names}))


def _load(name: str) -> EnginePlugin:
    return cast(EnginePlugin, import_module(_BUILT_IN[name]).PLUGIN)
