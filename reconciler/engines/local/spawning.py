"""The way of a command to the spawner of a root: finds it or starts it, and hands runs over to it."""

import json
import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from threading import Lock

import reconciler
from reconciler.engines.local.files import holder
from reconciler.engines.local.spawner import LOCK, PROTOCOL, READY, SOCKET, TAKEN, Manner
from reconciler.model.errors import EngineError

WITHIN_S = 10.0
"""How long a spawner has to start and to answer."""

_AGAIN_S = 0.01
_START = "import sys; sys.path.insert(0, sys.argv[1]); from reconciler.engines.local.spawner import main; "
_START += "sys.exit(main(sys.argv[2]))"


class SpawnerLink:
    """The connection of one command. Several threads may use it; one of them talks at a time."""

    def __init__(self, root_path: str, root: int, slots: int, pause: Callable[[float], bool]) -> None:
        """`root` is an open descriptor of the root."""
        self._root_path = root_path
        self._root = root
        self._slots = slots
        self._pause = pause
        self._lock = Lock()
        self._socket: socket.socket | None = None

    def announce(self, path: str, env: Mapping[str, str], op: str) -> bool:
        """Tell a spawner of a run that is about to be accepted, so that it is executed if this program is killed then.

        `env` is the whole environment of the command, and `op` is that of the call. Returns True if this call has
        started the spawner. Raises `EngineError` if none can start.
        """
        return self._send({"path": path, "env": dict(env), "op": op, "manner": Manner.ANNOUNCE})

    def start(self, path: str, env: Mapping[str, str], op: str) -> bool:
        """Have an accepted run executed as soon as a slot is free. `op` is the one that the run bears.

        Returns as `announce` does. Raises `EngineError`; the run may be in the queue then.
        """
        return self._send({"path": path, "env": dict(env), "op": op, "manner": Manner.START})

    def start_at_once(self, path: str) -> bool:
        """Have a supervisor look after a run whose abort was asked for. Returns and raises as `start` does."""
        return self._send({"path": path, "env": {}, "op": "", "manner": Manner.URGENT})

    def close(self) -> None:
        """Close the connection. The spawner goes on until its queue is empty."""
        with self._lock:
            self._drop()

    def _send(self, message: Mapping[str, object]) -> bool:
        line = json.dumps({"protocol": PROTOCOL, "slots": self._slots, **message}).encode() + b"\n"
        with self._lock:
            until_s, has_started = time.monotonic() + WITHIN_S, False
            while not self._is_taken(line):
                if time.monotonic() > until_s:
                    raise EngineError(f"the spawner of {self._root_path} ends again and again", self._advice())
                if self._start_one() == READY:
                    has_started = True
                # A spawner that has just ended still has its lock for a moment.
                elif self._pause(_AGAIN_S):
                    raise EngineError("stopped before a process was started")
            return has_started

    def _is_taken(self, line: bytes) -> bool:
        """Send one message, and return whether a spawner has answered."""
        try:
            if self._socket is None:
                self._socket = self._connected()
            self._socket.sendall(line)
            answer = self._socket.recv(64)
        except TimeoutError:
            self._drop()
            pid = holder(self._root, LOCK).pid
            who = f"the spawner of {self._root_path}" + (f" (process {pid})" if pid else "")
            raise EngineError(f"{who} gives no answer", f"let it go on, or end it: kill -9 {pid}") from None
        except OSError:
            self._drop()
            return False
        if answer == b"protocol\n":
            advice = "wait until its queue is empty, and try again"
            raise EngineError(f"the spawner of {self._root_path} is of another version of this program", advice)
        if answer.endswith(b"\n") and answer != b"ok\n":
            reason = answer.decode(errors="replace").strip()
            raise EngineError(f"no queue can be kept in {self._root_path}: {reason}", "mend that, and try again")
        if answer != b"ok\n":
            self._drop()
            return False
        return True

    def _connected(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.settimeout(WITHIN_S)
            connection.connect(self._address())
        except BaseException:
            connection.close()
            raise
        return connection

    def _address(self) -> str:
        """Return a path of the socket that is short enough for the kernel."""
        short = f"/proc/self/fd/{self._root}/{SOCKET}"
        return short if os.path.exists("/proc/self/fd") else os.path.join(self._root_path, SOCKET)

    def _start_one(self) -> int:
        """Start a spawner, and return how the program that leaves it behind has ended. Raises `EngineError`."""
        package = os.path.dirname(os.path.dirname(os.path.abspath(reconciler.__file__)))
        # Isolated and without site packages: neither the environment nor the working directory changes what it runs.
        command = [sys.executable, "-I", "-S", "-c", _START, package, self._root_path]
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            log = os.open("spawner.log", flags, 0o600, dir_fd=self._root)
            try:
                code = _ended(
                    subprocess.Popen(
                        command,
                        env={"PATH": os.defpath},
                        cwd="/",
                        stdin=subprocess.DEVNULL,
                        stdout=subprocess.DEVNULL,
                        stderr=log,
                        start_new_session=True,
                    )
                )
            finally:
                os.close(log)
        except (OSError, subprocess.SubprocessError) as fault:
            raise EngineError(
                f"no process can be started: {fault}", "free processes or memory, and try again"
            ) from fault
        if code not in (READY, TAKEN):
            raise EngineError(f"the spawner of {self._root_path} can't start", self._advice())
        return code

    def _advice(self) -> str:
        return f"{os.path.join(self._root_path, 'spawner.log')} says why"

    def _drop(self) -> None:
        with suppress(OSError):
            if self._socket is not None:
                self._socket.close()
        self._socket = None


def _ended(program: "subprocess.Popen[bytes]") -> int:
    """Wait for the end of a program, and return its exit code.

    After `WITHIN_S`, the program is killed. Raises `TimeoutExpired` then.
    """
    with program:
        try:
            _wait_for(program.pid)
            return program.wait(WITHIN_S)
        except BaseException:
            program.kill()
            raise


def _wait_for(pid: int) -> None:
    """Wait until a child has ended, for `WITHIN_S` at most, where the kernel has a descriptor for it (Linux 5.3).

    `Popen.wait` with a timeout sleeps for up to 50 ms between two looks, which is longer than the start takes.
    """
    try:
        child = os.pidfd_open(pid)
    except (AttributeError, OSError):
        return
    try:
        poll = select.poll()
        poll.register(child, select.POLLIN)
        poll.poll(WITHIN_S * 1000)
    finally:
        os.close(child)
