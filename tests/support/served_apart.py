"""Run the embedded server in another process, such that a later server can continue with the same files."""

import os
import pickle
import signal
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import ptrace
from reconciler.engines.sandbox.faults import parse_fault
from reconciler.engines.sandbox.server import SandboxServer

TOKEN = "an-access-token"
_PIPE_BYTES = 65536
"""A pipe takes this many bytes in one piece."""


class Server(NamedTuple):
    """A running server. When its holder ends, the pipe `ask` closes, and the server ends too."""

    pid: int
    endpoint: str
    ask: int
    replies: int

    def counts(self) -> bytes:
        """Return how many times each fault fired or was skipped, for a server that continues from here."""
        os.write(self.ask, b"?")
        return os.read(self.replies, _PIPE_BYTES)

    def kill(self) -> None:
        """Kill the server at once. The calls that it answered are in its files."""
        os.close(self.ask)
        os.close(self.replies)
        os.kill(self.pid, signal.SIGKILL)
        with suppress(ChildProcessError):  # the tracer has already waited for the child
            os.waitpid(self.pid, 0)


def serve(db: Path, job_seconds: float, faults: Sequence[str], port: int = 0, counts: bytes = b"") -> Server:
    """Start a server whose faults have these counts; port 0 takes a free port. The caller must have no threads."""
    replies, reply = os.pipe()
    asked, ask = os.pipe()

    def body() -> None:
        os.close(ask)
        rules = [parse_fault(fault) for fault in faults]
        server = SandboxServer(
            db, port=port, access_token=TOKEN, create_missing=True, job_seconds=job_seconds, faults=rules
        )
        service = server._listener.service
        if counts:
            service._faults = pickle.loads(counts)
        server.start()
        os.write(reply, server.endpoint.encode())
        while os.read(asked, 1):
            os.write(reply, pickle.dumps(service._faults))
        os._exit(0)

    child = ptrace.start(body)
    os.close(reply)
    os.close(asked)
    return Server(child, os.read(replies, _PIPE_BYTES).decode(), ask, replies)
