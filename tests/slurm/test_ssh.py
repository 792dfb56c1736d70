"""Commands on another machine: one connection of ssh, which a real server accepts."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from reconciler.engines.slurm.settings import Ssh
from reconciler.engines.slurm.ssh import _READY, MOST_SESSIONS, Connection, ended
from slurm.sshd import HOST, Sshd

ENV = {"PATH": os.environ.get("PATH", os.defpath), "HOME": os.environ.get("HOME", "/")}


@pytest.fixture(scope="module")
def sshd() -> Iterator[Sshd]:
    with Sshd() as server:
        yield server


@pytest.fixture
def connection(sshd: Sshd) -> Iterator[Connection]:
    connection = Connection(Ssh(HOST, config=str(sshd.config)), ENV)
    yield connection
    connection.close()


def run(connection: Connection, *argv: str, given: bytes = b"", **env: str) -> tuple[int | None, str, str]:
    """Run a command over there. Returns its exit code, its output and its complaint."""
    done = subprocess.run(
        connection.words(argv, env), input=given, capture_output=True, env=ENV, timeout=60, check=False
    )
    code, err = ended(done.stderr.decode())
    return code, done.stdout.decode(), err


def gone(pid: int, within_s: float = 60) -> bool:
    until_s = time.monotonic() + within_s
    while os.path.exists(f"/proc/{pid}"):
        if time.monotonic() > until_s:
            return False
        time.sleep(0.02)
    return True


def test_all_commands_share_one_connection(sshd: Sshd, connection: Connection) -> None:
    before = sshd.connections
    for number in range(5):
        assert connection.connect() == ""
        assert run(connection, "echo", str(number)) == (0, f"{number}\n", "")
    with ThreadPoolExecutor(MOST_SESSIONS) as pool:
        codes = list(pool.map(lambda number: run(connection, "sleep", "0.2")[0], range(3 * MOST_SESSIONS)))
    assert codes == [0] * 3 * MOST_SESSIONS
    assert sshd.connections == before + 1


def test_words_variables_and_input_arrive_as_they_are(sshd: Sshd, connection: Connection) -> None:
    assert connection.connect() == ""
    words = ["a b", "$HOME", "it's", '"', "*", "`id`", "", "a\nb", "-x", "ü"]
    assert run(connection, "printf", "%s|", *words)[:2] == (0, "a b|$HOME|it's|\"|*|`id`||a\nb|-x|ü|")
    assert run(connection, "printenv", "A", A="it's $HOME")[:2] == (0, "it's $HOME\n")
    script = b"#!/bin/sh\n" + os.urandom(300_000).hex().encode()
    assert run(connection, "cat", given=script)[1].encode() == script
    assert run(connection, "pwd")[1] == f"{sshd.home}\n"


@pytest.mark.parametrize("code", [0, 1, 7, 255])
def test_the_exit_code_is_that_of_the_command(connection: Connection, code: int) -> None:
    assert connection.connect() == ""
    assert run(connection, "sh", "-c", f"echo no >&2; exit {code}") == (code, "", "no\n")


def test_a_command_whose_connection_is_lost_has_no_exit_code(sshd: Sshd, connection: Connection) -> None:
    assert connection.connect() == ""
    with ThreadPoolExecutor(1) as pool:
        began = sshd.home / "began"
        lost = pool.submit(run, connection, "sh", "-c", f"touch {began}; sleep 600")
        while not began.exists():
            time.sleep(0.02)
        assert sshd.cut() > 0
        assert lost.result(60)[0] is None
    assert connection.connect() == ""
    assert run(connection, "echo", "again") == (0, "again\n", "")


def test_a_server_that_is_not_there_is_told_before_anything_is_sent(sshd: Sshd) -> None:
    connection = Connection(Ssh("127.0.0.1", port=sshd.port, config=str(sshd.config)), ENV)
    assert "Host key verification failed" in connection.connect() or "Permission denied" in connection.connect()
    sshd.stop()
    try:
        connection = Connection(Ssh(HOST, config=str(sshd.config)), ENV)
        assert "Connection refused" in connection.connect()
    finally:
        sshd.start()
    assert connection.connect() == ""
    connection.close()


def test_a_machine_without_ssh_says_so(tmp_path: Path) -> None:
    assert Connection(Ssh(HOST), {**ENV, "PATH": str(tmp_path)}).connect() == (
        "ssh can't be run on this machine: No such file or directory"
    )


def test_a_connection_ends_with_the_program_also_if_that_is_killed(sshd: Sshd) -> None:
    program = f"""
import sys, time
from reconciler.engines.slurm.settings import Ssh
from reconciler.engines.slurm.ssh import Connection
connection = Connection(Ssh({HOST!r}, config={str(sshd.config)!r}), {ENV!r})
assert connection.connect() == ""
print(connection._master.pid, connection._folder, flush=True)
time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        pid, folder = process.stdout.readline().decode().split()
        assert Path(f"/proc/{pid}").exists()
        process.send_signal(signal.SIGKILL)
    assert gone(int(pid))
    Path(folder).rmdir()  # the socket is gone


def test_a_connection_that_is_closed_leaves_nothing(sshd: Sshd) -> None:
    connection = Connection(Ssh(HOST, config=str(sshd.config)), ENV)
    assert connection.connect() == ""
    folder = Path(connection._folder)
    assert (folder / "socket").exists()
    connection.close()
    assert not folder.exists()


def test_a_connection_that_the_user_shares_is_used_and_stays(sshd: Sshd, tmp_path: Path) -> None:
    socket = sshd.folder / "shared"
    config = sshd.folder / "sharing"
    config.write_text(f"{sshd.config.read_text()}  ControlPath {socket}\n")
    argv = ["ssh", "-F", str(config), "-M", "-N", "-o", "BatchMode=yes", HOST]
    with subprocess.Popen(argv, stdin=subprocess.DEVNULL, env=ENV) as users:
        try:
            while not socket.exists():
                assert users.poll() is None
                time.sleep(0.02)
            before = sshd.connections
            connection = Connection(Ssh(HOST, config=str(config)), ENV)
            assert connection.connect() == ""
            assert run(connection, "echo", "x") == (0, "x\n", "")
            connection.close()
            assert (sshd.connections, users.poll()) == (before, None)
        finally:
            users.kill()


def test_an_ssh_that_goes_on_after_its_connection_is_ended(tmp_path: Path) -> None:
    """It may hang in a write to a machine that has gone."""
    program = tmp_path / "ssh"
    program.write_text(
        "#!/bin/sh\n"
        "case \"$*\" in *' -O check '*) exit 1;; esac\n"  # no connection is there that the user shares
        f"trap '' TERM HUP PIPE\necho $$ > {tmp_path}/pid\necho '{_READY}'\nexec sleep 600\n"
    )
    program.chmod(0o755)
    connection = Connection(Ssh(HOST), {**ENV, "PATH": f"{tmp_path}:/usr/bin:/bin"})
    assert connection.connect() == ""
    pid = int((tmp_path / "pid").read_text())
    with ThreadPoolExecutor(1) as pool:
        try:
            pool.submit(connection.close).result(30)
        finally:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    assert gone(pid)
