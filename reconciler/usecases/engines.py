"""Opening the engine of a target, with its credentials, its proxy and, for a sandbox, its embedded server."""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import TYPE_CHECKING, NamedTuple

from reconciler.model.errors import EngineError
from reconciler.model.jobs import Access, Config, Target, Verb
from reconciler.model.plan import Call
from reconciler.usecases.world import World, can_write_in

if TYPE_CHECKING:
    from reconciler.engines.bytenite.auth import Credentials
    from reconciler.engines.port import Engine
    from reconciler.engines.sandbox.server import SandboxServer
    from reconciler.state.homes import Home

_SANDBOX_JOB_S = 30.0
"""How long a job of the embedded sandbox is active."""


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


@contextmanager
def open_engine(target: Target, access: Access, world: World, sandbox_path: str, pace: Pace) -> "Iterator[Engine]":
    """The engine of a target. For an embedded sandbox its server runs too, with its jobs in the file `sandbox_path`.

    Raises `CredentialsError` without credentials, and `EngineError` for a proxy or certificates that can't be used.
    """
    from random import Random

    from reconciler.engines.bytenite.engine import ByteniteEngine
    from reconciler.engines.http.network import network_for
    from reconciler.host.threads import affordable_connections

    with ExitStack() as stack:
        endpoint, credentials = _connection_to(target, world, sandbox_path, stack)
        # An embedded server has the other end of each connection in this process.
        connections = affordable_connections(pace.parallelism, 1 if target.endpoint else 2)
        network = network_for(endpoint, access, world.env)
        for secret in network.proxy.secrets if network.proxy else ():
            world.note_credential(secret)
        engine = ByteniteEngine(
            endpoint,
            credentials,
            parallelism=connections,
            max_rps=pace.max_rps,
            wait=world.pause,
            random=Random(),  # noqa: S311  jitter needs no cryptography
            network=network,
            insecure=access.insecure,
            noted=world.note_credential,
            clock=world.clocks.boot_s,
            wall_clock=world.clocks.wall_s,
        )
        stack.callback(engine.close)
        yield engine


def _connection_to(target: Target, world: World, sandbox_path: str, stack: ExitStack) -> "tuple[str, Credentials]":
    """The endpoint of the service and its credentials. Starts the server of an embedded sandbox; `stack` ends it."""
    import secrets

    from reconciler.engines.bytenite.auth import Credentials

    if target.endpoint:
        return target.endpoint, Credentials.from_environment(world.env)
    token = secrets.token_hex(16)
    return stack.enter_context(_embedded_sandbox(sandbox_path, token)).endpoint, Credentials(access_token=token)


def _embedded_sandbox(path: str, token: str) -> "SandboxServer":
    from reconciler.engines.sandbox.server import SandboxServer

    try:
        return SandboxServer(path, access_token=token, create_missing=True, job_seconds=_SANDBOX_JOB_S)
    except EngineError as fault:
        # The user did not name this file, so the message says why it is there.
        folder = os.path.dirname(path) or "."
        if can_write_in(folder):
            raise
        raise EngineError(
            f"the embedded sandbox keeps its jobs in {path}, and the folder {folder} can't be written to",
            "let it be written to, or name a state in another folder with --state: the file stands beside the state",
        ) from fault


def sandbox_path(home: "Home", manifest_path: str) -> str:
    """The file of the embedded sandbox: beside the state file, or where the state file would be by default."""
    from reconciler.state.homes import default_state_path

    state_path = default_state_path(manifest_path) if home.is_on_branch else home.url
    return f"{state_path.removesuffix('.state.json')}.sandbox.db"


def wording_of(target: Target) -> Callable[[Verb, str, Config], Call]:
    """How the engine of a target words a call. Both engines speak the jobs API; another engine gets its line here."""
    from reconciler.engines.bytenite.wire import call_for

    return {"bytenite": call_for, "sandbox": call_for}[target.engine]
