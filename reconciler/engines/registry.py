"""The engines by name: those that come with the tool, and those of other packages.

A package makes an engine known with an entry point of the group `reconciler.engines`, whose name is the name of the
engine and whose object is the plugin. Reading the entry points of all installed packages takes some 25 ms. So they are
read only for a name that is not built in. An engine of another package is put behind a guard.
"""

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, cast

from reconciler.engines.port import EnginePlugin

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUP = "reconciler.engines"
"""The group of the entry points."""

_BUILT_IN: Mapping[str, str] = {
    "bytenite": "reconciler.engines.bytenite.plugin",
    "kubernetes": "reconciler.engines.kubernetes.plugin",
    "local": "reconciler.engines.local.plugin",
    "ray": "reconciler.engines.ray.plugin",
    "sandbox": "reconciler.engines.embedded",
    "slurm": "reconciler.engines.slurm.plugin",
}
"""The module of each engine that comes with the tool. The module holds the plugin as `PLUGIN`."""


def built_in() -> tuple[EnginePlugin, ...]:
    """Return the plugins that come with the tool, in the order of their names."""
    return tuple(_load(name) for name in sorted(_BUILT_IN))


def plugin(name: str) -> EnginePlugin | None:
    """Return the plugin of an engine, or None if no installed package has an engine of this name.

    Raises whatever the package of the engine raises while it is imported, and `EngineFailed` if the plugin has another
    name than its entry point.
    """
    if name in _BUILT_IN:
        return _load(name)
    from importlib.metadata import entry_points

    for point in entry_points(group=GROUP, name=name):
        return _guarded(name, point)
    return None


def installed() -> tuple[str, ...]:
    """Return the names of all engines, sorted: those that come with the tool, and those of other packages."""
    from importlib.metadata import entry_points

    return tuple(sorted({*_BUILT_IN, *entry_points(group=GROUP).names}))


def _guarded(name: str, point: "EntryPoint") -> EnginePlugin:
    """Return the plugin of an entry point behind a guard, which is the same object each time."""
    from reconciler.engines.guarded import GuardedPlugin

    found = point.load()
    known = _GUARDED.get(name)
    if known is None or known[0] is not found:
        distribution = f"{point.dist.name} {point.dist.version}" if point.dist else ""
        known = _GUARDED[name] = found, GuardedPlugin(found, name, distribution)
    return known[1]


_GUARDED: dict[str, tuple[object, EnginePlugin]] = {}
"""The plugins of other packages by their names, each with the guard before it."""


def _load(name: str) -> EnginePlugin:
    return cast(EnginePlugin, import_module(_BUILT_IN[name]).PLUGIN)
