"""A real sshd on this machine, with keys of its own, which lets the user of the tests in."""

import getpass
import os
import shutil
import signal
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from tempfile import mkdtemp
from types import TracebackType
from typing import Self

from daemons import free_ports
from parents import dies_with_parent

_STARTS_WITHIN_S = 60.0

_SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin") or ""
HOST = "login"
"""The name of the machine in the configuration of ssh that the server comes with."""


class Sshd:
    """A server that ends with the block, or with the thread that has started it.

    `config` is a configuration of ssh in which the server goes by the name `login`. `home` is the folder in which
    commands are executed there, and `env` their variables beside those of a login.
    """

    def __init__(self, **env: str) -> None:
        self.folder = Path(mkdtemp(prefix="reconciler-sshd-"))
        self.folder.chmod(0o700)
        self.config = self.folder / "config"
        self.key = self.folder / "key"
        self.home = self.folder / "home"
        self.env = env
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        try:
            self._make_files()
            self.start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def log(self) -> str:
        """What the server has logged."""
        return (self.folder / "log").read_text(errors="replace")

    @property
    def connections(self) -> int:
        """How many connections the server has let in."""
        return self.log.count("Accepted publickey")

    def start(self) -> None:
        """Start the server, also after `stop`."""
        os.makedirs("/run/sshd", mode=0o755, exist_ok=True)
        self.port = self.port or free_ports(1)[0]
        self._write_config()
        parent = os.getpid()
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [_SSHD, "-D", "-e", "-f", self.folder / "sshd_config"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=lambda: dies_with_parent(signal.SIGKILL, parent),  # noqa: PLW1509 -- it takes no lock
            )
        until_s = time.monotonic() + _STARTS_WITHIN_S
        while not self._answers():
            assert self._process.poll() is None, self.log
            assert time.monotonic() < until_s, self.log
            time.sleep(0.02)

    def stop(self) -> None:
        """End the server and its connections."""
        process, self._process = self._process, None
        if process is None:
            return
        for pid in (*_children(process.pid), process.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()

    def cut(self) -> int:
        """End the connections that are open, as a network that fails does. Returns how many processes they had.

        The server's own processes are ended before the commands, so that none can tell how its command has ended.
        """
        assert self._process is not None
        found = _children(self._process.pid)
        for pid in reversed(found):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return len(found)

    def _answers(self) -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
            return True
        return False

    def _make_files(self) -> None:
        self.home.mkdir()
        for name in ("host_key", "key"):
            argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", str(self.folder / name)]
            subprocess.run(argv, check=True, stdin=subprocess.DEVNULL, timeout=60)
        shutil.copy(self.folder / "key.pub", self.folder / "authorized_keys")

    def _write_config(self) -> None:
        folder = self.folder
        variables = " ".join(f'"{name}={value}"' for name, value in self.env.items())
        values = {
            "Port": self.port,
            "ListenAddress": "127.0.0.1",
            "HostKey": folder / "host_key",
            "AuthorizedKeysFile": folder / "authorized_keys",
            "PidFile": "none",
            "UsePAM": "no",
            "StrictModes": "no",
            "PasswordAuthentication": "no",
            "KbdInteractiveAuthentication": "no",
            "PermitRootLogin": "prohibit-password",
            "PrintMotd": "no",
            "MaxSessions": 10,
            "ForceCommand": f'export HOME={self.home}; cd && exec /bin/sh -c "$SSH_ORIGINAL_COMMAND"',
            **({"SetEnv": variables} if variables else {}),
        }
        text = "".join(f"{key} {value}\n" for key, value in values.items())
        (folder / "sshd_config").write_text(text)
        _, key, *_ = (folder / "host_key.pub").read_text().split()
        (folder / "known_hosts").write_text(f"[127.0.0.1]:{self.port} ssh-ed25519 {key}\n")
        self.config.write_text(
            f"Host {HOST}\n  HostName 127.0.0.1\n  Port {self.port}\n  User {getpass.getuser()}\n"
            f"  IdentityFile {self.key}\n  IdentitiesOnly yes\n  UserKnownHostsFile {folder / 'known_hosts'}\n"
            "  GlobalKnownHostsFile /dev/null\n"
        )


def _children(pid: int) -> list[int]:
    """Return all processes below a process, the deepest first."""
    found: list[int] = []
    for tasks in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            for child in map(int, tasks.read_text().split()):
                found += [*_children(child), child]
    return found
