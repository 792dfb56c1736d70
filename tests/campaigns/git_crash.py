"""The crash points of `crash.py`, with the state on a branch of a bare repository.

    python tests/campaigns/git_crash.py --all           and all other options of crash.py

The program is killed before each call on a socket, a lock, a mark or the lock of the private repository. These calls
lie before and after each git command and each request. Every request must have its intent in the bare repository, as
git itself reads the repository. After a kill another machine continues, which has folders of its own and shares only
the remote.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

import crash
import ptrace
from reconciler.engines.sandbox.life import Execution
from reconciler.host.disk import OsDisk
from reconciler.model.errors import StateError
from reconciler.model.jobs import State, Target, Verb
from reconciler.state import lease
from reconciler.state.loading import load

BRANCH, PATH = "states", "prod dir/jobs.state.json"
LEFT_OUT = ("adopt-after-lost-state",)
"""Scenarios that test the folder of a state file."""


class PublishedWitness(crash.Witness):
    """Checks that each request has its intent on the branch when the request is sent."""

    remote: ClassVar[Path]

    def _check(self, request: re.Match[bytes]) -> None:
        verb = (request[3] or b"delete").decode()
        self.last_verb = verb
        if (request[2].decode(), verb) not in open_intents(self.remote):
            self.faults.append(f"{verb} of {request[2].decode()} was sent without its intent on the branch")


class PublishedHistory(crash.History):
    """One server, one bare repository, and machines that each live for a while."""

    def __init__(
        self,
        scenario: crash.Scenario,
        folder: Path,
        *,
        fresh_program: bool = False,
        port: int = 0,
        prepared: crash.Prepared | None = None,
    ) -> None:
        assert not fresh_program, "the waits of a program that is started afresh can't be cut short"
        super().__init__(scenario, folder, port=port, prepared=prepared)
        self._remote = folder / "the remote.git"
        self._machines = 1
        if prepared is None:
            subprocess.run(["git", "init", "-q", "--bare", str(self._remote)], check=True, timeout=60)
        PublishedWitness.remote = self._remote

    def trace(
        self, arguments: Sequence[str], decide: Callable[[int, ptrace.Call], ptrace.Verdict]
    ) -> tuple[crash.Ended, crash.Witness]:
        found = super().trace(arguments, decide)
        self._let_orphans_end()
        return found

    def check_record(self) -> None:
        super().check_record()
        self._move()

    def converge(self) -> None:
        self._move()
        super().converge()

    def _move(self) -> None:
        """Continue on another machine, with a new folder that holds only the manifest."""
        self._machines += 1
        old, self._folder = self._folder, self._folder.with_name(f"machine-{self._machines}")
        self._folder.mkdir()
        for name in ("jobs.yaml", "plan.json"):
            if (old / name).exists():
                shutil.copy(old / name, self._folder)

    def _let_orphans_end(self) -> None:
        """Wait for the git commands that outlive a killed program, since a push may still arrive."""
        mark = os.fsencode(self._folder / ".cache")
        until_s = time.monotonic() + crash.DEADLINE_S
        while any(mark in command for command in _commands()):
            crash._require(time.monotonic() < until_s, "git does not end")
            time.sleep(0.01)

    def _program(self, arguments: Sequence[str]) -> None:
        super()._program([*arguments, "--state", f"git+file://{self._remote}#{BRANCH}:{PATH}"])

    def _state(self) -> State:
        target = Target("bytenite", self._endpoint)
        with tempfile.TemporaryDirectory() as folder:
            for name, content in files_of(self._remote).items():
                (Path(folder) / name).write_bytes(content)
            try:
                loaded = load(OsDisk(), str(Path(folder) / "jobs.state.json"), target)
            except StateError as fault:
                raise crash.Broken(f"the state can't be read: {fault.message}") from fault
        return State("", 0, target, {}) if loaded is None else loaded.state

    def _files(self) -> dict[str, bytes]:
        """Return the manifest, and every file that the branch ever held."""
        left = set(files_of(self._remote)) - {"jobs.state.json", "jobs.history.jsonl"}
        crash._require(not left, f"left over on the branch: {sorted(left)}")
        there = tip(self._remote) or ""
        return {"jobs.yaml": (self._folder / "jobs.yaml").read_bytes(), "jobs.state.json": there.encode()}

    def _check_history(self, executions: Sequence[Execution]) -> None:
        copy = self._folder / "jobs.history.jsonl"
        copy.write_bytes(files_of(self._remote)["jobs.history.jsonl"])
        super()._check_history(executions)
        copy.unlink()

    @staticmethod
    def _kill_after(verb: Verb) -> Callable[[int, ptrace.Call], ptrace.Verdict]:
        """Kill the program once the first call of this verb is answered: the answer is recorded nowhere."""
        sent: list[str] = []

        def decide(_: int, call: ptrace.Call) -> ptrace.Verdict:
            was_answered = bool(sent) and sent[-1] == verb and call.name not in ("recvfrom", "connect")
            if call.name == "sendto" and (request := crash._REQUEST.match(call.content)):
                sent.append((request[3] or b"delete").decode())
            return ptrace.Kill() if was_answered else None

        return decide


def git(remote: Path, *arguments: str) -> bytes:
    """Return git's output, b"" if git fails."""
    return subprocess.run(["git", "-C", str(remote), *arguments], capture_output=True, check=False, timeout=60).stdout


def tip(remote: Path, branch: str = BRANCH) -> str | None:
    """Return the last commit of the branch, None if there is none."""
    return git(remote, "rev-parse", "--verify", "--quiet", f"refs/heads/{branch}").decode().strip() or None


def files_of(remote: Path, branch: str = BRANCH, path: str = PATH) -> Mapping[str, bytes]:
    """Return the content of each file beside the state, by its name."""
    folder = os.path.dirname(path)
    there = f"refs/heads/{branch}:{folder}"
    names = git(remote, "ls-tree", "--name-only", "-z", there).decode().split("\0")
    return {
        name: git(remote, "cat-file", "blob", f"{there}/{name}" if folder else f"{there}{name}")
        for name in names
        if name
    }


def open_intents(remote: Path, branch: str = BRANCH, path: str = PATH) -> set[tuple[str, str]]:
    """Return (engine job id, verb) of each intent on the branch without a result. The product's reader is not used."""
    found: dict[str, tuple[str, str]] = {}
    journal = files_of(remote, branch, path).get(f"{os.path.basename(path)}.journal", b"")
    for entry in crash._entries(journal.rstrip(b"\0")):
        if entry["type"] == "intent":
            found[entry["doubt"]["op"]] = entry["id"], entry["doubt"]["verb"]
        elif entry["type"] == "result":
            found.pop(entry["op"], None)
    return set(found.values())


def _commands() -> list[bytes]:
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            with suppress(OSError):  # it has ended meanwhile
                found.append(Path(f"/proc/{name}/cmdline").read_bytes())
    return found


def main() -> int:
    crash.History = PublishedHistory  # type: ignore[misc]
    crash.Witness = PublishedWitness  # type: ignore[misc]
    lease.TAKE_OVER_AFTER_S = 0.2
    lease.POLL_S = 0.05
    for name in LEFT_OUT:
        crash.SCENARIOS.pop(name)  # type: ignore[attr-defined]
    return crash.main()


if __name__ == "__main__":
    sys.exit(main())
