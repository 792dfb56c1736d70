"""This machine as a service for the contract of an engine: a root in the folder of a test, and commands that count."""

import json
import os
import shutil
import signal
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from reconciler.engines.local.files import FOLDER, holder
from reconciler.engines.local.processes import MARK, mark_of, survivors
from reconciler.engines.port import Config
from reconciler.testing.services import Service

_COMMAND = """\
run=${RECONCILER_RUN##*/} job=${RECONCILER_RUN#*/} job=${job%/*}
echo "$run" >> "$COUNTS/$job.ran"
number=$(wc -l < "$COUNTS/$job.ran")
echo "runs $job"
echo "until $job.$number.end is there" >&2
pipe="$COUNTS/$run.wake" looks=360
[ -p "$pipe" ] || mkfifo "$pipe"
until [ -e "$COUNTS/$job.$number.end" ]; do
  # A test that was killed ends nothing. What it has started ends with its folder, or within the hour.
  [ -d "$COUNTS" ] && [ "$((looks -= 1))" -gt 0 ] || exit 9
  # A thousand commands wait beside each other: a pipe wakes each at once, and until then none of them costs anything.
  timeout --foreground 10 cat "$pipe"
done
exit "$CODE"
"""
WITHIN_S = 60.0


class LocalService(Service):
    """Commands that note each of their starts in a file, and go on until another file is there."""

    def __init__(self, folder: Path, slots: int = 1000) -> None:
        self._folder = folder
        self._slots = slots
        self.root = folder / "runs"
        self.counts = folder / "counts"
        self.counts.mkdir()
        self._before = ""
        """What a command does first."""
        self._aborted: dict[str, set[str]] = {}
        """The runs of a job that were aborted before they noted their start. A delete does not undo that."""

    @property
    def block(self) -> Mapping[str, Any]:
        return {"engine": "local", "root": str(self.root), "slots": self._slots}

    @property
    def other_block(self) -> Mapping[str, Any]:
        return {"engine": "local", "root": str(self._folder / "other-runs")}

    def config(self, *, fails: bool = False) -> Config:
        env = {"COUNTS": str(self.counts), "CODE": "3" if fails else "0"}
        return {"script": self._before + _COMMAND, "env": env, "abort": {"grace": 10 if self._before else 1}}

    def config_with(self, text: str) -> Config | None:
        config = dict(self.config())
        return {**config, "env": {"COUNTS": str(self.counts), "CODE": "0", "TEXT": text}}

    def runs(self, job_id: str) -> int:
        """Return how often the command of a job was executed, and how many of its runs were aborted before that.

        Runs that are accepted are given time to start.
        """
        until_s = time.monotonic() + WITHIN_S
        while True:
            ran = self._ran(job_id)
            left = [run for run in self._runs(job_id) if run.name not in ran]
            aborted = [run for run in left if (run / "abort.json").exists() and not supervisor_of(run)]
            if left == aborted:
                before = self._aborted.setdefault(job_id, set())
                before |= {run.name for run in aborted}
                return len(ran) + len(before - set(ran))
            assert time.monotonic() < until_s, f"an accepted run of {job_id} does not start"
            time.sleep(0.01)

    def end(self, job_id: str) -> None:
        (self.counts / f"{job_id}.{self.runs(job_id)}.end").touch()
        until_s = time.monotonic() + WITHIN_S
        while any(supervisor_of(run) for run in self._runs(job_id)):
            assert time.monotonic() < until_s, f"{job_id} does not end"
            for run in self._runs(job_id):
                wake(self.counts / f"{run.name}.wake")
            time.sleep(0.01)

    @contextmanager
    def stopping_slowly(self) -> Iterator[Mapping[str, Any] | None]:
        self._before = "trap 'sleep 1.5; exit 0' TERM\n"
        yield self.block
        self._before = ""

    def executes(self, job_id: str) -> bool:
        self.runs(job_id)  # so that what is accepted has started
        root_id = json.loads((self.root / "root.json").read_text())["id"]
        return any(mark.startswith(mark_of(root_id, job_id, "")) for mark in survivors())

    def lose(self, job_id: str) -> None:
        self.runs(job_id)  # so that its start is counted
        kill_runs(self._runs(job_id))
        shutil.rmtree(self.root / "jobs" / job_id, ignore_errors=True)

    def logged(self, job_id: str) -> bytes:
        return f"runs {job_id}\nuntil {job_id}.{self.runs(job_id)}.end is there\n".encode()

    def close(self) -> None:
        """Kill what still executes."""
        kill_runs([run for job in (self.root / "jobs").glob("*") for run in self._runs(job.name)])

    def _ran(self, job_id: str) -> list[str]:
        path = self.counts / f"{job_id}.ran"
        return path.read_text().splitlines() if path.exists() else []

    def _runs(self, job_id: str) -> list[Path]:
        return [run for run in (self.root / "jobs" / job_id).glob("*") if not (run / "removed.json").exists()]


def supervisor_of(run: Path) -> int:
    """Return the process id of the supervisor of a run; 0 if there is none."""
    with suppress(FileNotFoundError), opened(run) as folder:
        return holder(folder, "lock").pid
    return 0


def wake(pipe: Path) -> None:
    """Wake the command that waits at a pipe, if one does."""
    # Where nobody waits, the pipe is not there yet, or opening it fails with ENXIO.
    with suppress(OSError):
        os.close(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK))


def kill_ours(pid: int, root: Path) -> bool:
    """Kill a process if it is one of a root: its spawner, a supervisor, a part of a run, or a program that names it.

    Return whether it was one. A descriptor stands for the process while this is found out, so that no other process is
    killed, whatever the id belongs to by then. The id 0, which means all sorts of things to the kernel, is refused.
    """
    if pid <= 1:
        raise ValueError(f"{pid} is no process of a test")
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return False
    try:
        if not _is_of(pid, root):
            return False
        signal.pidfd_send_signal(process, signal.SIGKILL)
    except ProcessLookupError:
        return False
    finally:
        os.close(process)
    return True


def _is_of(pid: int, root: Path) -> bool:
    with suppress(FileNotFoundError, ProcessLookupError):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        mark = f"{MARK}={json.loads((root / 'root.json').read_text())['id']}/".encode()
        return str(root).encode() in words or any(variable.startswith(mark) for variable in variables)
    return False


def kill_runs(runs: Iterable[Path]) -> None:
    """Kill the supervisors of runs, and all that the runs have started. A run that was not started never starts."""
    roots: dict[str, Path] = {}
    for run in runs:
        root = run.parents[2]
        with suppress(FileNotFoundError):
            (run / "abort.json").touch()
        while pid := supervisor_of(run):
            kill_ours(pid, root)
            time.sleep(0.01)
        root_id = json.loads((root / "root.json").read_text())["id"]
        roots[mark_of(root_id, run.parent.name, run.name)] = root
    if not roots:
        return
    # All processes of this machine are read once, and not once for each of a thousand runs.
    for mark, left in survivors().items():
        for pid in left if mark in roots else ():
            kill_ours(pid, roots[mark])


@contextmanager
def opened(folder: Path) -> Iterator[int]:
    """Open a folder."""
    descriptor = os.open(folder, FOLDER)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
