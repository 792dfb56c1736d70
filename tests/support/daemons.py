"""Servers of other projects that tests start: free ports for them, their start, and their end."""

import os
import random
import shutil
import signal
import socket
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from tempfile import mkdtemp
from types import TracebackType
from typing import Self

from parents import dies_with_parent

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


class NotStarted(Exception):
    """A server ended before it was ready, or it was not ready in time."""


class Daemons(ABC):
    """Servers that work together, and their files, in a folder that is removed with them.

    They end with the block, and with the thread that has started them, however that ends. So they are to be started in
    a thread that lives as long as they are used, such as the main one.
    """

    starts_within_s = 120.0

    def __init__(self, prefix: str) -> None:
        self.folder = Path(mkdtemp(prefix=prefix))
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        try:
            self._start_on_free_ports()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def pid(self, part: str) -> int:
        """Return the process id of a server."""
        return self._processes[part].pid

    def output(self, part: str) -> str:
        """Return what a server has printed."""
        path = self._log_of(part)
        return path.read_text(errors="replace") if path.exists() else ""

    def stop(self) -> None:
        """Stop what was started, and nothing else, and remove its files."""
        self._stop_all()
        shutil.rmtree(self.folder, ignore_errors=True)

    @abstractmethod
    def _start(self) -> None:
        """Start all servers, on ports that are free. Raises `NotStarted`."""

    def _stop_all(self) -> None:
        while self._processes:
            _, process = self._processes.popitem()
            kill_group(process)

    def _start_on_free_ports(self) -> None:
        """Start all servers, once more if somebody else has taken one of their ports meanwhile."""
        for _ in range(2):
            try:
                return self._start()
            except NotStarted as error:
                if "address already in use" not in str(error).lower():
                    raise
                self._stop_all()
        return self._start()

    def _launch(
        self,
        part: str,
        *command: str,
        env: Mapping[str, str],
        folder: Path,
        death: signal.Signals = signal.SIGKILL,
    ) -> None:
        """Start a server. `death` is the signal that it gets when the thread that starts it ends."""
        parent = os.getpid()
        self._log_of(part).parent.mkdir(exist_ok=True)
        with self._log_of(part).open("ab") as log:
            self._processes[part] = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=folder,
                env=env,
                start_new_session=True,
                preexec_fn=lambda: dies_with_parent(death, parent),  # noqa: PLW1509 -- it takes no lock
            )

    def _log_of(self, part: str) -> Path:
        return self.folder / "log" / f"{part}.log"

    def _wait(self, what: str, is_so: Callable[[], bool]) -> None:
        until_s = time.monotonic() + self.starts_within_s
        while not is_so():
            for part, process in self._processes.items():
                if process.poll() is not None:
                    raise NotStarted(f"{part} has ended with {process.returncode}:\n{self.output(part)[-3000:]}")
            if time.monotonic() > until_s:
                tails = "\n".join(f"{part}:\n{self.output(part)[-1500:]}" for part in self._processes)
                raise NotStarted(f"after {self.starts_within_s} s it is not so that {what}\n{tails}")
            time.sleep(0.02)
