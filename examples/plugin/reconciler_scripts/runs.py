"""The runs of a folder of scripts, as files. No service has to run, and each run goes on without the program.

    FOLDER/JOB.sh              the script of a job
    FOLDER/.runs/id            the identity of the folder
    FOLDER/.runs/JOB/RUN.json  a run: its config, its marks, and when it began
    FOLDER/.runs/JOB/RUN.log   what the script printed
    FOLDER/.runs/JOB/RUN.abort an abort was asked for
    FOLDER/.runs/JOB/RUN.code  the exit code of the script

`RUN.json` is made in one step by `run.sh`, and stays for ever, also after a delete. So no run id starts a script twice.
All processes of a run share a lock on this file, since each process inherits an open descriptor of the file. The kernel
gives the lock back with the last of them. So the lock tells whether anything of the run still executes, without ids of
processes, which the kernel uses again. A process that closes what it inherits, as a daemon does, is not seen.
"""

import fcntl
import json
import os
import re
import signal
import subprocess
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

NAME = re.compile(r"(?!.*\.\.)[A-Za-z0-9][A-Za-z0-9._-]{0,149}")
"""The form of the ids of jobs and runs: each is the name of a file."""

MARK = "RECONCILER_SCRIPTS_RUN"
"""The environment variable that each process of a run has. Its value is the path of the run."""

_RUNNER = Path(__file__).with_name("run.sh")
_KILLED_WITHIN_S = 5.0


class Script(NamedTuple):
    """What a run executes: the words of a command, its folder, and all of its environment."""

    command: Sequence[str]
    folder: Path
    env: Mapping[str, str]


class Run:
    """One run by the path of its files, without an extension. The run need not exist."""

    def __init__(self, path: Path) -> None:
        self.id = path.name
        self._path = path
        self.log = self._file("log")

    def document(self) -> Mapping[str, Any] | None:
        """Return what describes the run; None if there is no such run.

        Raises `ValueError` if the file is damaged, and `OSError` if the file can't be read.
        """
        try:
            found = json.loads(self._file("json").read_bytes())
        except FileNotFoundError:
            return None
        if not isinstance(found, dict):
            raise ValueError("not a JSON object")
        return found

    def is_active(self) -> bool:
        """Return whether any process of the run still executes."""
        with self._file("json").open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False

    def exit_code(self) -> int | None:
        """Return the exit code of the script; None if the script has not ended, or was killed with its shell."""
        try:
            return int(self._file("code").read_text())
        except FileNotFoundError:
            return None

    def ended_at_s(self) -> float | None:
        """Return when the exit code was recorded, in seconds since 1970; None without an exit code."""
        try:
            return self._file("code").stat().st_mtime
        except FileNotFoundError:
            return None

    def was_aborted(self) -> bool:
        """Return whether an abort was asked for while the run was active."""
        return self._file("abort").exists()

    def start(self, document: Mapping[str, Any], script: Script) -> str:
        """Start a script if no other sender has taken the run. Returns what the shell printed about a failure.

        The shell that does this takes the lock with it, and starts the script even if this program is killed. The
        sender that took the run finds its own `document` afterwards.
        """
        if not self._path.parent.exists():
            self._path.parent.mkdir(parents=True, exist_ok=True)
            _flush_folder(self._path.parent.parent)
        prepared = self._path.with_name(f"new-{uuid.uuid4()}")
        try:
            with prepared.open("x") as file:
                json.dump(document, file)
                file.flush()
                os.fsync(file.fileno())
                fcntl.flock(file, fcntl.LOCK_EX)
                done = subprocess.run(
                    ["/bin/sh", _RUNNER, prepared, self._path, *script.command],
                    cwd=script.folder,
                    env={**script.env, MARK: str(self._path)},
                    pass_fds=[file.fileno()],
                    start_new_session=True,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    check=False,
                )
        finally:
            with suppress(FileNotFoundError):
                prepared.unlink()
        return done.stdout.decode(errors="replace").strip()

    def abort(self, grace_s: float, clock: Callable[[], float], pause: Callable[[float], bool]) -> None:
        """End all processes of the run: with SIGTERM, and `grace_s` seconds later with SIGKILL.

        `clock` returns seconds. Returns once all have ended, once `pause` returns True, or 5 s after the first SIGKILL.
        An abort may be repeated.
        """
        self._file("abort").touch()
        asked: set[int] = set()
        kill_at_s, pause_s = clock() + grace_s, 0.02
        while self.is_active() and clock() < kill_at_s + _KILLED_WITHIN_S:
            if clock() < kill_at_s:
                asked |= self._signal(signal.SIGTERM, spared=asked)
            else:
                self._signal(signal.SIGKILL, spared=set())
            if pause(pause_s):
                return
            pause_s = min(0.5, pause_s * 1.5)

    def delete(self) -> None:
        """Remove all of the run but a tombstone, which keeps the run id taken."""
        document = self.document()
        if document is not None:
            _replace(self._file("json"), json.dumps({**document, "deleted": True}))
        for extension in ("log", "abort", "code", "code.new"):
            self._file(extension).unlink(missing_ok=True)

    def _file(self, extension: str) -> Path:
        return self._path.with_name(f"{self._path.name}.{extension}")

    def _signal(self, number: signal.Signals, spared: set[int]) -> set[int]:
        """Send a signal to each process of the run but the spared ones, and return the ids of those that got it.

        A file descriptor stands for each process, so that the signal reaches no later process of the same id.
        """
        mark = f"{MARK}={self._path}".encode()
        reached = set()
        for process_id in {int(name) for name in os.listdir("/proc") if name.isdecimal()} - spared:
            with suppress(OSError):  # the process has ended, or belongs to somebody else
                process = os.pidfd_open(process_id)
                try:
                    if mark in Path(f"/proc/{process_id}/environ").read_bytes().split(b"\0"):
                        signal.pidfd_send_signal(process, number)
                        reached.add(process_id)
                finally:
                    os.close(process)
        return reached


class RunsFolder:
    """The runs of one folder of scripts."""

    def __init__(self, scripts: Path) -> None:
        self._root = scripts / ".runs"

    def identity(self, *, may_make: bool) -> str:
        """Return the id of the folder, which is made once; "" if there is none, and none may be made."""
        path = self._root / "id"
        if not path.exists():
            if not may_make:
                return ""
            self._root.mkdir(exist_ok=True)
            prepared = self._root / f"new-{uuid.uuid4()}"
            _write(prepared, f"{uuid.uuid4()}\n")
            with suppress(FileExistsError):
                os.link(prepared, path)
            prepared.unlink()
            _flush_folder(self._root)
        return path.read_text().strip()

    def run(self, job_id: str, run_id: str) -> Run:
        """Return a run, which need not exist."""
        return Run(self._root / job_id / run_id)

    def of(self, job_id: str) -> list[Run]:
        """Return the runs of a job in the order of their numbers, with those that are deleted."""
        ids = [path.stem for path in (self._root / job_id).glob("*.json")]
        # All ids are those of the job with a number behind, so a longer id has a greater number.
        return [self.run(job_id, run_id) for run_id in sorted(ids, key=lambda run_id: (len(run_id), run_id))]

    def jobs(self) -> Iterator[str]:
        """Yield the id of each job that was ever run, in order."""
        for path in sorted(self._root.iterdir()) if self._root.exists() else ():
            if path.is_dir():
                yield path.name


def _write(path: Path, text: str) -> None:
    """Write a new file, and flush it to the disk."""
    with path.open("x") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _replace(path: Path, text: str) -> None:
    """Replace a file in one step."""
    prepared = path.with_name(f"new-{uuid.uuid4()}")
    _write(prepared, text)
    prepared.replace(path)


def _flush_folder(folder: Path) -> None:
    """Write the names in a folder to the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
