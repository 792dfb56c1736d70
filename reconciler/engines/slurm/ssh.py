"""One connection of `ssh` to another machine, which all commands share.

The user's own `ssh` makes the connection, with the user's own configuration, keys and agent. Nobody can answer a
prompt, so it asks nothing (`BatchMode`). A connection that the user has open already and shares (`ControlMaster` in
~/.ssh/config) is used: where a second factor is asked for, there is no other way.

The connection lasts for as long as the standard input of its first session is open. This is a pipe from this process,
so that the connection also ends if this process is killed.
"""

import os
import shlex
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Mapping, Sequence

from reconciler.engines.slurm.settings import Ssh

MOST_SESSIONS = 8
"""How many commands may be under way on a connection. A server allows 10 sessions by default (MaxSessions)."""

_CONNECTS_WITHIN_S = 30
_READY = "reconciler: connected"
_END = "reconciler: exit code "
_WRAPPED = f'code=0; "$@" || code=$?; echo "{_END}$code" >&2'
"""Tells how a command has ended. `ssh` ends with 255 if the connection is lost, and some commands do it themselves."""

_LONGEST_SOCKET = 80
"""A longer path is too long for the name of a socket, of which `ssh` first makes a longer one."""


class Connection:
    """A connection to a machine, which is made with the first command. Several threads may call any method."""

    def __init__(self, ssh: Ssh, env: Mapping[str, str]) -> None:
        self._ssh = ssh
        self._env = env
        self._lock = threading.Lock()
        self._master: subprocess.Popen[bytes] | None = None
        self._folder = ""
        self._is_users = False

    def connect(self) -> str:
        """Make the connection unless it is there. Returns why there is none; "" if there is one."""
        with self._lock:
            if self._is_users or (self._master is not None and self._master.poll() is None):
                return ""
            self._end()
            try:
                self._is_users = self._runs("-O", "check")
                return "" if self._is_users else self._open()
            except OSError as fault:
                return f"ssh can't be run on this machine: {fault.strerror}"

    def words(self, argv: Sequence[str], env: Mapping[str, str]) -> list[str]:
        """Return the command of this machine that executes a command over there, with some more variables."""
        there = ["sh", "-c", _WRAPPED, "sh", "env", *(f"{name}={env[name]}" for name in sorted(env)), *argv]
        return [*self._start(), *self._shared("no"), "--", self._ssh.host, shlex.join(there)]

    def close(self) -> None:
        """End the connection, unless it is the user's own."""
        with self._lock:
            self._end()

    def _open(self) -> str:
        """Start the first session, and wait until it answers. Returns why it does not."""
        self._folder = _folder()
        there = shlex.join(["sh", "-c", f"echo; echo {shlex.quote(_READY)}; exec cat >/dev/null"])
        with tempfile.TemporaryFile() as errors:
            self._master = subprocess.Popen(
                [*self._start(), *self._shared("yes"), "--", self._ssh.host, there],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=self._env,
                start_new_session=True,
            )
            # A prompt of the server, a name that does not resolve or a hanging login shell may take for ever.
            watch = threading.Timer(_CONNECTS_WITHIN_S, self._master.kill)
            watch.start()
            try:
                assert self._master.stdout is not None
                if any(line.strip() == _READY.encode() for line in self._master.stdout):
                    return ""
            finally:
                watch.cancel()
            self._end()
            errors.seek(0)
            lines = errors.read(10_000).decode("utf-8", "replace").split("\n")
            said = "; ".join(line.strip() for line in lines if line.strip())
            return said or f"{self._ssh.destination} did not answer within {_CONNECTS_WITHIN_S} s"

    def _end(self) -> None:
        master, self._master = self._master, None
        if master is not None:
            for pipe in (master.stdin, master.stdout):
                if pipe is not None:
                    pipe.close()
            try:
                master.wait(1)
            except subprocess.TimeoutExpired:
                master.kill()
                master.wait()
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = ""

    def _start(self) -> list[str]:
        """Return the words of `ssh` up to those about a shared connection."""
        ssh = self._ssh
        return [
            "ssh",
            "-T",
            *(["-F", ssh.config] if ssh.config else []),
            *(["-i", ssh.identity] if ssh.identity else []),
            *(["-l", ssh.user] if ssh.user else []),
            *(["-p", str(ssh.port)] if ssh.port else []),
            *(["-o", "BatchMode=yes", "-o", f"ConnectTimeout={_CONNECTS_WITHIN_S}"]),
            *(["-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=4", "-o", "RemoteCommand=none"]),
        ]

    def _shared(self, is_master: str) -> list[str]:
        if self._is_users:
            return []
        return [
            *("-o", f"ControlMaster={is_master}", "-o", f"ControlPath={self._folder}/socket"),
            *(
                "-o",
                "ControlPersist=no",
                "-o",
                "ForwardX11=no",
                "-o",
                "ForwardAgent=no",
                "-o",
                "ClearAllForwardings=yes",
            ),
        ]

    def _runs(self, *words: str) -> bool:
        """Return whether a request to a connection that the user shares succeeds."""
        argv = [*self._start(), *words, "--", self._ssh.host]
        within_s = _CONNECTS_WITHIN_S
        try:
            done = subprocess.run(argv, input=b"", capture_output=True, env=self._env, check=False, timeout=within_s)
        except subprocess.TimeoutExpired:
            return False
        return done.returncode == 0


def ended(err: str) -> tuple[int | None, str]:
    """Return how a command over there has ended, and what it complained of, from all that came as its standard error.

    The exit code is None if the connection was lost before the command ended.
    """
    rest, mark, code = err.rpartition(_END)
    if not mark or not code.strip().isdigit():
        return None, err
    return int(code), rest


def _folder() -> str:
    """Make a folder of its own for the socket of a connection."""
    folder = tempfile.mkdtemp(prefix="reconciler-ssh-")
    if len(folder) <= _LONGEST_SOCKET:
        return folder
    os.rmdir(folder)
    return tempfile.mkdtemp(prefix="reconciler-ssh-", dir="/tmp")
