"""The engine of a target: its plugin, and opening it with what a command has."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import TYPE_CHECKING, NamedTuple

from reconciler.model.errors import EngineError, EngineFailed, UnknownEngine
from reconciler.model.jobs import EMPTY, Target
from reconciler.usecases.world import World

if TYPE_CHECKING:
    from reconciler.engines.port import Engine, EnginePlugin
    from reconciler.rules.actions import Wording
    from reconciler.state.homes import Home


_MOST_NAMES = 20
"""The most names of engines that a message lists."""


class Pace(NamedTuple):
    """How many calls may be under way at a time, and the most requests in a second; None for no limit."""

    parallelism: int = 10
    max_rps: float | None = None


class LazyEngine:
    """An engine that is opened when it is first needed, as a context manager. A plan of holds needs no credentials."""

    def __init__(self, make: "Callable[[], AbstractContextManager[Engine]]") -> None:
        self._make = make
        self._stack = ExitStack()
        self._engine: Engine | None = None

    def __enter__(self) -> "LazyEngine":
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    def open(self) -> "Engine":
        """The engine. Raises as `open_engine` does."""
        if self._engine is None:
            self._engine = self._stack.enter_context(self._make())
        return self._engine


def plugin_named(name: str) -> "EnginePlugin":
    """The plugin of an engine.

    Raises `UnknownEngine` if no installed package has an engine of this name, and `EngineError` if the package that has
    it is broken.
    """
    from reconciler.engines.registry import plugin
    from reconciler.host.packages import RAISED

    try:
        found = plugin(name)
    except EngineFailed:
        raise
    except RAISED as fault:
        raise EngineError(
            f"the engine {name} can't be loaded: {type(fault).__name__}: {fault}",
            "install its package anew, in a version that fits this reconciler",
        ) from fault
    if found is None:
        raise _unknown(name)
    return found


def _unknown(name: str) -> UnknownEngine:
    """The error about a name that no engine has, with the nearest name and the way to get an engine."""
    from reconciler.engines.registry import installed
    from reconciler.model.suggestions import Suggestions

    names = installed()
    *most, last = names[:_MOST_NAMES]
    return UnknownEngine(
        f"no engine is installed by the name {name[:100]}{Suggestions()(name, names)}",
        f"there are {', '.join(most)} and {last}; another one comes with a package of its own, to be installed where "
        "reconciler is (`pip install PACKAGE`)",
    )


def plugin_for(target: Target) -> "EnginePlugin":
    """The plugin of a target's engine. Raises as `plugin_named` does."""
    return plugin_named(target.engine)


def wording_of(target: Target) -> "Wording":
    """How the engine of a target words a step."""
    engine = plugin_for(target)
    return lambda step: engine.wording(target, step)


class Beside(NamedTuple):
    """Where an engine's own files are. The fields are `beside_state` and `state_is_file` of `Surroundings`."""

    name: str
    state_is_file: bool = True


def open_engine(
    target: Target,
    world: World,
    beside: Beside,
    pace: Pace,
    *,
    may_change: bool = False,
    known_identity: Mapping[str, str] = EMPTY,
    is_replaced: bool = False,
) -> "AbstractContextManager[Engine]":
    """The engine of a target, as a context manager. The last three arguments are as in `Surroundings`.

    Raises `CredentialsError` without credentials, and `EngineError` for settings that can't be used.
    """
    from reconciler.engines.port import Surroundings

    engine = plugin_for(target)
    for secret in engine.secrets(world.env):
        world.note_credential(secret)
    clocks = world.clocks
    surroundings = Surroundings(
        env=world.env,
        pause=world.pause,
        note_credential=world.note_credential,
        boot_s=clocks.boot_s,
        wall_s=clocks.wall_s,
        parallelism=pace.parallelism,
        max_rps=pace.max_rps,
        beside_state=beside.name,
        state_is_file=beside.state_is_file,
        may_change=may_change,
        known_identity=known_identity,
        is_replaced=is_replaced,
    )
    return _closing(engine.open(target, surroundings), world)


@contextmanager
def _closing(opening: "AbstractContextManager[Engine]", world: World) -> "Iterator[Engine]":
    """The engine that is opened. If its package fails on closing, that is a remark, since all is done by then."""
    is_over = False
    try:
        with opening as engine:
            yield engine
            is_over = True
    except EngineFailed as fault:
        if not is_over:
            raise
        world.remark(f"warning: {fault.message}")


@contextmanager
def checked(
    opening: "AbstractContextManager[Engine]", identity: Mapping[str, str], target: Target
) -> "Iterator[Engine]":
    """The engine that is opened. Raises `OtherIdentity` if its service is not the one of this identity."""
    with opening as engine:
        if identity:
            from reconciler.rules.identities import refuse_other_identity

            refuse_other_identity(identity, engine.identity(), target)
        yield engine


def beside_state(home: "Home", manifest_path: str) -> Beside:
    """The beginning of the names of an engine's own files: beside the state file, or where one would be by default."""
    from reconciler.state.homes import default_state_path
    from reconciler.state.paths import STATE_SUFFIX

    state_path = home.path or default_state_path(manifest_path)
    return Beside(state_path.removesuffix(STATE_SUFFIX), bool(home.path))
