"""Ctrl-C, SIGTERM and SIGHUP during an apply: what is in flight is recorded, nothing new starts, nothing is lost."""

import fcntl
import json
import os
import pty
import select
import shlex
import signal
import struct
import subprocess
import sys
import termios
import time
from contextlib import suppress
from pathlib import Path

import pytest

from project import Project, done, served_project
from reconciler.engines.sandbox.life import calls
from waits import until

GRACE_S = 5.0
"""So long after the last answer an interrupted apply may take to end."""

DEADLINE_S = 30.0
"""Longer than anything here takes on the slowest machine, and shorter than a request's own deadline and a half."""

CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 143}


def sent(project: Project) -> list[float]:
    """When the server received each call that changes a job, in seconds since 1970."""
    return [call.at for call in calls(project.folder / "server.db") if call.method != "GET"]


def wait_for_word(child: "subprocess.Popen[str]", word: str) -> None:
    """Read the child's stderr up to a line with this word: the signal before has been taken."""
    assert child.stderr is not None
    for line in child.stderr:
        if word in line:
            return
    raise AssertionError(f"it never said {word!r}")


def end_of(child: "subprocess.Popen[str]") -> tuple[int, str, str]:
    try:
        out, err = child.communicate(timeout=DEADLINE_S)
    finally:
        child.kill()
    assert "Traceback" not in err, err
    return child.returncode, out, err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_signal_starts_nothing_new_and_records_what_is_in_flight(
    tmp_path: Path, number: signal.Signals
) -> None:
    with served_project(tmp_path, "run:slow:seconds=1:times=2") as project:
        project.write("\n".join(f"{name}: {{state: running}}" for name in "abcdef"))
        child = project.start("apply", "--yes", "--parallelism", "2")
        until(lambda: len(sent(project)) == 2)
        child.send_signal(number)
        code, out, err = end_of(child)
        assert code == CODES[number]
        assert time.time() - (sent(project)[-1] + 1.0) < GRACE_S
        assert "no new call starts" in err
        assert sorted(done(project)) == [("run", "a"), ("run", "b")]
        recorded = {name: record["state"] for name, record in project.state["jobs"].items()}
        assert recorded == {"a": "running", "b": "running"}
        assert out.count("interrupted before it began") == 4
        assert project.run("apply", "--yes").code == 0
        assert sorted(done(project)) == [("run", name) for name in "abcdef"]


def test_what_waits_for_its_turn_on_the_wire_is_not_sent_after_a_signal(tmp_path: Path) -> None:
    """Of eight calls at a time, the intents of two more are put on disk meanwhile."""
    with served_project(tmp_path, "run:slow:seconds=1:times=8") as project:
        project.write("\n".join(f"{name}: {{state: running}}" for name in "abcdefghijkl"))
        child = project.start("apply", "--yes", "--parallelism", "8")
        until(lambda: len(sent(project)) == 8)
        child.send_signal(signal.SIGINT)
        code, out, _ = end_of(child)
        assert code == 130
        assert len(done(project)) == 8
        assert out.count("interrupted before it began") == 4
        entries = [json.loads(line) for line in (project.folder / "jobs.history.jsonl").read_text().splitlines()]
        not_sent = [line["answer"] for line in entries if line["outcome"] == "failed"]
        assert len(not_sent) <= 2
        assert set(not_sent) <= {"skipped: interrupted before it began"}
        assert project.run("apply", "--yes").code == 0
        assert sorted(done(project)) == [("run", name) for name in "abcdefghijkl"]


@pytest.mark.parametrize(
    ("fault", "second"), [("run:hang:times=1", signal.SIGINT), ("run:hang:after:times=1", signal.SIGTERM)]
)
def test_the_second_signal_leaves_at_once_and_the_next_apply_knows(
    tmp_path: Path, fault: str, second: signal.Signals
) -> None:
    with served_project(tmp_path, fault) as project:
        project.write("a: {state: running}\nb: {state: running}")
        child = project.start("apply", "--yes", "--parallelism", "1")
        until(lambda: len(sent(project)) == 1)
        child.send_signal(signal.SIGINT)
        wait_for_word(child, "Stopping")
        asked_s = time.monotonic()
        child.send_signal(second)
        code, _, err = end_of(child)
        assert code == CODES[second]
        assert "Stopped at once. Call in doubt: a. The next apply checks it; or settle it: " in err
        assert "`reconciler resolve a --applied`" in err
        assert time.monotonic() - asked_s < GRACE_S
        healed = project.run("apply", "--yes", "--settle", "0.1")
        assert healed.code == 0, healed.out
        assert sorted(done(project)) == [("run", "a"), ("run", "b")]


def test_a_ci_system_that_interrupts_terminates_and_kills_loses_nothing(tmp_path: Path) -> None:
    """SIGINT, then SIGTERM, then SIGKILL, as on a cancelled job; the gaps are shorter here."""
    with served_project(tmp_path, "run:hang:times=1") as project:
        project.write("a: {state: running}\nb: {state: absent}")
        child = project.start("apply", "--yes")
        until(lambda: len(sent(project)) == 1)
        child.send_signal(signal.SIGINT)
        wait_for_word(child, "Stopping")
        child.send_signal(signal.SIGTERM)
        child.wait(GRACE_S)
        child.kill()
        assert end_of(child)[0] == 143
        healed = project.run("apply", "--yes", "--settle", "0.1")
        assert healed.code == 0, healed.out
        assert sorted(done(project)) == [("delete", "b"), ("run", "a")]


def test_a_kill_after_an_interrupt_loses_nothing(tmp_path: Path) -> None:
    with served_project(tmp_path, "run:hang:after:times=1") as project:
        project.write("a: {state: running}")
        child = project.start("apply", "--yes")
        until(lambda: len(sent(project)) == 1)
        child.send_signal(signal.SIGINT)
        wait_for_word(child, "Stopping")
        child.kill()
        assert end_of(child)[0] == -signal.SIGKILL
        assert project.run("apply", "--yes", "--settle", "0.1").code == 0
        assert done(project) == [("run", "a")]


def test_an_interrupt_ends_the_wait_that_a_429_asked_for(tmp_path: Path) -> None:
    with served_project(tmp_path, "run:429:retry-after=50") as project:
        project.write("a: {state: running}")
        child = project.start("apply", "--yes")
        until(lambda: len(sent(project)) == 1)
        asked_s = time.monotonic()
        child.send_signal(signal.SIGTERM)
        assert end_of(child)[0] == 143
        assert time.monotonic() - asked_s < GRACE_S
        assert done(project) == []


def test_an_interrupt_ends_the_wait_between_two_looks_and_keeps_the_doubt(tmp_path: Path) -> None:
    with served_project(tmp_path, "run:503:times=1") as project:
        project.write("a: {state: running}")
        assert project.run("apply", "--yes").code == 5
        child = project.start("apply", "--yes", "--settle", "50")
        wait_for_word(child, "checking again")
        asked_s = time.monotonic()
        child.send_signal(signal.SIGINT)
        assert end_of(child)[0] == 130
        assert time.monotonic() - asked_s < GRACE_S
        assert project.state["jobs"]["a"]["inDoubt"]["verb"] == "run"
        assert project.run("apply", "--yes", "--settle", "0.1").code == 0
        assert done(project) == [("run", "a")]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_an_interrupt_ends_the_wait_for_the_lock(tmp_path: Path, number: signal.Signals) -> None:
    with served_project(tmp_path, "run:hang:times=1") as project:
        project.write("a: {state: running}")
        holder = project.start("apply", "--yes")
        until(lambda: len(sent(project)) == 1)
        child = project.start("apply", "--yes", "--lock-timeout", "50")
        until(lambda: is_caught(child.pid))
        asked_s = time.monotonic()
        child.send_signal(number)
        code, _, err = end_of(child)
        assert code == CODES[number], err
        assert time.monotonic() - asked_s < GRACE_S
        holder.kill()
        end_of(holder)
        assert len(sent(project)) == 1


def is_caught(pid: int) -> bool:
    """Whether the program has a handler of its own by now: Python has one for Ctrl-C from its start, SIGTERM tells."""
    status = Path(f"/proc/{pid}/status").read_text()
    mask = int(next(line for line in status.splitlines() if line.startswith("SigCgt")).split()[1], 16)
    return bool(mask >> (signal.SIGTERM - 1) & 1)


# --- the terminal ------------------------------------------------------------------------------------------------


class AtTerminal:
    """A command at a real terminal of its own, as its controlling one."""

    def __init__(self, project: Project, *arguments: str) -> None:
        self._project = project
        self.pid, self._terminal = pty.fork()
        if not self.pid:
            fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
            os.chdir(project.folder)
            os.execve(sys.executable, project.command(*arguments), project.env)
        self.shown = ""

    def read_to(self, word: str) -> None:
        """Read what it shows, up to a word."""
        deadline_s = time.monotonic() + DEADLINE_S
        while word not in self.shown:
            assert time.monotonic() < deadline_s, f"it never said {word!r}: {self.shown}"
            if select.select([self._terminal], [], [], 0.1)[0]:
                try:
                    self.shown += os.read(self._terminal, 4096).decode(errors="replace")
                except OSError as fault:
                    raise AssertionError(f"it ended, and never said {word!r}: {self.shown}") from fault

    def type(self, text: str) -> None:
        os.write(self._terminal, text.encode())

    def hang_up(self) -> None:
        """The window is closed: the kernel sends SIGHUP, and no write succeeds any more."""
        os.close(self._terminal)
        self._terminal = -1

    def end(self) -> int:
        """What it exits with."""
        deadline_s = time.monotonic() + DEADLINE_S
        while True:
            if self._terminal >= 0 and select.select([self._terminal], [], [], 0)[0]:
                with suppress(OSError):
                    self.shown += os.read(self._terminal, 4096).decode(errors="replace")
            ended, status = os.waitpid(self.pid, os.WNOHANG)
            if ended:
                return os.waitstatus_to_exitcode(status)
            if time.monotonic() > deadline_s:
                os.kill(self.pid, signal.SIGKILL)
                raise AssertionError(f"it does not end: {self.shown}")
            time.sleep(0.01)


ASKS = "Only `yes` does: "


@pytest.mark.parametrize("number", list(CODES))
def test_a_signal_at_the_question_ends_the_command_and_gives_the_lock_back(
    tmp_path: Path, number: signal.Signals
) -> None:
    with served_project(tmp_path) as project:
        project.write("a: {state: running}")
        asked = AtTerminal(project, "apply")
        asked.read_to(ASKS)
        assert (project.folder / "jobs.state.json.lock").exists()
        os.kill(asked.pid, number)
        assert asked.end() == CODES[number], asked.shown
        assert "Traceback" not in asked.shown
        assert not (project.folder / "jobs.state.json.lock").exists()
        assert done(project) == []
        assert project.run("apply", "--yes").code == 0


def test_ctrl_c_typed_at_the_question_ends_the_command(tmp_path: Path) -> None:
    with served_project(tmp_path) as project:
        project.write("a: {state: running}")
        asked = AtTerminal(project, "apply")
        asked.read_to(ASKS)
        asked.type("\x03")
        assert asked.end() == 130
        assert done(project) == []


def test_a_terminal_that_goes_away_at_the_question_ends_the_command(tmp_path: Path) -> None:
    with served_project(tmp_path) as project:
        project.write("a: {state: running}")
        asked = AtTerminal(project, "apply")
        asked.read_to(ASKS)
        asked.hang_up()
        assert asked.end() == 143
        assert done(project) == []
        assert not (project.folder / "jobs.state.json.lock").exists()


def test_a_terminal_that_goes_away_in_the_midst_ends_the_apply_as_sigterm_does(tmp_path: Path) -> None:
    with served_project(tmp_path, "run:slow:seconds=0.5") as project:
        project.write("\n".join(f"{name}: {{state: running}}" for name in "abcdef"))
        child = AtTerminal(project, "apply", "--parallelism", "1")
        child.read_to(ASKS)
        child.type("yes\n")
        until(lambda: len(sent(project)) == 2)
        child.hang_up()
        assert child.end() == 143
        ran = [job for _, job in done(project)]
        assert set(project.state["jobs"]) == set(ran)
        assert 2 <= len(ran) < 6
        assert not (project.folder / "jobs.state.json.journal").exists()
        assert project.run("apply", "--yes").code == 0
        assert sorted(done(project)) == [("run", name) for name in "abcdef"]


def test_under_nohup_the_end_of_the_terminal_ends_nothing(tmp_path: Path) -> None:
    with served_project(tmp_path, "run:slow:seconds=0.3") as project:
        project.write("\n".join(f"{name}: {{state: running}}" for name in "abcd"))
        command = " ".join(map(shlex.quote, project.command("apply", "--yes", "--parallelism", "1")))
        child = subprocess.Popen(
            ["sh", "-c", f"trap '' HUP; exec {command}"],
            cwd=project.folder,
            env=project.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        until(lambda: len(sent(project)) == 1)
        child.send_signal(signal.SIGHUP)
        assert end_of(child)[0] == 0
        assert sorted(done(project)) == [("run", name) for name in "abcd"]


def test_a_hang_up_ends_the_wait_for_jobs_that_others_come_after(tmp_path: Path) -> None:
    with served_project(tmp_path) as project:
        project.write("a: {state: running}\nb: {state: running, after: [a]}")
        child = project.start("apply", "--yes", "--wait", "50")
        wait_for_word(child, "waiting")
        asked_s = time.monotonic()
        child.send_signal(signal.SIGHUP)
        assert end_of(child)[0] == 143
        assert time.monotonic() - asked_s < GRACE_S
        assert done(project) == [("run", "a")]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_sandbox_ends_in_peace_whatever_ends_it(tmp_path: Path, number: signal.Signals) -> None:
    project = Project(tmp_path)
    child = project.start("sandbox")
    assert child.stdout is not None
    child.stdout.readline()
    until(lambda: is_caught(child.pid))
    child.send_signal(number)
    assert end_of(child)[0] == 0


def test_ctrl_c_before_the_program_is_loaded_is_no_traceback(tmp_path: Path) -> None:
    """The signal comes while the command line is imported."""
    program = (
        "import os, signal, sys\n"
        "from reconciler import __main__\n"
        "class Sends:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'reconciler.cli': os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Sends())\n"
        "__main__.main()\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path, timeout=60, check=False
    )
    assert (ended.returncode, ended.stderr) == (-signal.SIGINT, "")


def test_ctrl_c_while_the_schemas_are_loaded_ends_the_command_as_at_any_other_time(tmp_path: Path) -> None:
    # The signal is pending once the module is loaded, which takes a Ctrl-C meanwhile for a fault of its own.
    program = (
        "import os, signal, sys, threading\n"
        "class Interrupting:\n"
        "    def find_spec(self, name, path, target=None):\n"
        "        if name == 'decimal':  # its module imports it\n"
        "            os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Interrupting())\n"
        "sys.argv = ['reconciler', 'validate']\n"
        "from reconciler.__main__ import main\n"
        "main()\n"
    )
    project = Project(tmp_path)
    project.write("a: {state: running}")
    ended = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env=project.env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode in (130, -signal.SIGINT), ended
    assert "Traceback" not in ended.stderr
    assert "itself failed" not in ended.stderr
