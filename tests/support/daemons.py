"""Servers of other projects that tests start: free ports for them, and their end."""

import os
import random
import signal
import socket
import subprocess
from contextlib import suppress

_PORTS = range(20000, 32000)
"""Ports that the kernel gives to no outgoing connection, as a rule, so that a free one stays free."""


def free_ports(count: int) -> list[int]:
    """Return so many different ports of 127.0.0.1 that nobody listens on."""
    found: list[int] = []
    while len(found) < count:
        port = random.choice(_PORTS)
        with socket.socket() as tried, suppress(OSError):
            tried.bind(("127.0.0.1", port))
            if port not in found:
                found.append(port)
    return found


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """Kill a process that leads a group, and its group, unless it has ended. Returns once it has."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
