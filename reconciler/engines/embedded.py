"""The sandbox as an engine: the ByteNite engine at the server that comes with the tool.

A target without an endpoint has the server embedded: the server runs as long as the engine is open, and keeps its jobs
in a file beside the state.
"""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import cached_property
from typing import TYPE_CHECKING

from reconciler.engines.bytenite.plugin import BytenitePlugin, opened
from reconciler.engines.port import Engine, Schema, Surroundings
from reconciler.host.user_folders import can_write_in
from reconciler.model.errors import EngineError
from reconciler.model.jobs import Target

if TYPE_CHECKING:
    from reconciler.engines.sandbox.server import SandboxServer

_SANDBOX_JOB_S = 30.0
"""How long a job of the embedded sandbox is active."""


class SandboxPlugin(BytenitePlugin):
    """The server that comes with the tool, embedded or at an endpoint. See `EnginePlugin`."""

    name = "sandbox"
    default_endpoint = ""

    @cached_property
    def target_schema(self) -> Schema:
        """The schema of the fields of a target."""
        return {**BytenitePlugin().target_schema, "title": "The server that comes with reconciler"}

    def is_on_this_machine(self, target: Target) -> bool:
        """Return whether the server is embedded, or is on loopback."""
        return not target.address or super().is_on_this_machine(target)

    def open(self, target: Target, surroundings: Surroundings) -> AbstractContextManager[Engine]:
        """Return the engine, and start the embedded server if the target has no endpoint."""
        return super().open(target, surroundings) if target.address else _with_server(target, surroundings)

    def _shown_endpoint(self, target: Target) -> str:
        return target.address or "http://127.0.0.1:PORT/v1/customer"


@contextmanager
def _with_server(target: Target, surroundings: Surroundings) -> Iterator[Engine]:
    import secrets

    from reconciler.engines.bytenite.auth import Credentials

    token = secrets.token_hex(16)
    with ExitStack() as stack:
        server = stack.enter_context(_server(f"{surroundings.beside_state}.sandbox.db", token))
        # The server has the other end of each connection in this process.
        credentials = Credentials(access_token=token)
        yield stack.enter_context(opened(target, server.endpoint, credentials, surroundings, files_each=2))


def _server(path: str, token: str) -> "SandboxServer":
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


PLUGIN = SandboxPlugin()
