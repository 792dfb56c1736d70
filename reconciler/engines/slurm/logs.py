"""The log of a run: the file that its batch script writes, read where the commands are executed."""

import os
import re
from collections.abc import Callable, Iterator
from threading import Event

from reconciler.engines.port import EngineError, Status
from reconciler.engines.slurm.commands import Commands
from reconciler.engines.slurm.rows import Row
from reconciler.engines.slurm.runs import Run

_FOLLOW_EVERY_S = 0.3
_STDOUT = re.compile(r"^\s*StdOut=(.*)$", re.MULTILINE)
_TASK = re.compile(r"\bArrayTaskId=(\S+)")
_STATE = re.compile(r"\bJobState=(\S+)")
_OUTPUT_OPTION = re.compile(r" (?:--output[= ]|-o ?)(\S+)")
_PATTERN = re.compile(r"%(\d*)([%AajJNnstuxb])")


def log_of(
    commands: Commands, found: Callable[[], Run | None], *, tail: int | None, follow: bool, stop: Event
) -> Iterator[bytes]:
    """Yield the log of a run in pieces. With `follow`, go on until the run is over or `stop` is set.

    `found` reads the run again. Raises `EngineError` and `CredentialsError`.
    """
    read: dict[str, int] = {}
    first = True
    while True:
        run = found()
        if run is None:
            return
        is_over = run.status is not Status.ACTIVE or stop.is_set()
        for path in _paths(commands, run):
            yield from _more(commands, path, read, tail if first else None)
        first = False
        if not follow or is_over:
            return
        stop.wait(_FOLLOW_EVERY_S)


def _more(commands: Commands, path: str, read: dict[str, int], tail: int | None) -> Iterator[bytes]:
    """Yield what a file has got since the last time; the first time from its last `tail` lines on."""
    at = read.get(path, 0)
    whole, piece = commands.file_from(path, at)
    if tail is not None:
        lines = piece.splitlines(keepends=True)
        piece = b"".join(lines[len(lines) - tail :]) if tail < len(lines) else piece
        piece = piece if tail else b""
    read[path] = whole
    if piece:
        yield piece


def _paths(commands: Commands, run: Run) -> list[str]:
    """Return the files of a run; for an array one for each task that has begun, in their order."""
    found: dict[int, str] = {}
    if any(not row.is_accounted for row in run.rows):
        answer = commands.run(["scontrol", "show", "job", str(run.id)])
        for told in answer.out.split("\n\n") if answer.failure is None else ():
            path, index, state = (_first(pattern, told) for pattern in (_STDOUT, _TASK, _STATE))
            if path and (state != "PENDING" or not index):
                found[_number(index)] = _in_folder(path, run)
    for row in run.rows:
        task = _number(row.tasks)
        if row.is_accounted and row.is_terminal and task not in found:
            found[task] = _of_accounting(row)
    return [found[task] for task in sorted(found)]


def _in_folder(path: str, run: Run) -> str:
    """Return the file that a node writes, where the controller tells another one (Slurm 22.05).

    In a pattern, `%%` stands for a `%`, such as one in the name of the folder. The controller reads something else into
    it. The file that a run has by default lies in the folder of the job.
    """
    workdir, name = run.rows[0].workdir, os.path.basename(path)
    return os.path.join(workdir, name) if "%" in workdir and name.startswith(f"{run.name}-{run.id}") else path


def _of_accounting(row: Row) -> str:
    """Return the file of a job that the controller has forgotten. Raises `EngineError` if nothing tells where it is."""
    option = _OUTPUT_OPTION.search(row.submit_line)
    if option is None:
        raise EngineError(
            f"the controller does not know job {row.id} any more, so that nothing tells where its output is",
            "look for it on the cluster: its script has a line `#SBATCH --output`",
        )
    return os.path.join(row.workdir, expanded(option[1], row))


def _number(index: str) -> int:
    return int(index) if index.isdigit() else 0


def _first(pattern: re.Pattern[str], text: str) -> str:
    found = pattern.search(text)
    return found[1].strip() if found else ""


def expanded(pattern: str, row: Row) -> str:
    """Return the name of a file that a pattern means (sbatch, "filename pattern")."""

    def value(found: re.Match[str]) -> str:
        width, letter = found[1], found[2]
        values = {
            "%": "%",
            "A": str(row.id),
            "a": row.tasks or "4294967294",
            "j": str(row.id),
            "J": str(row.id),
            "N": row.nodes.partition(",")[0],
            "n": "0",
            "s": "batch",
            "t": "0",
            "u": row.user,
            "x": row.name,
            "b": str(int(row.tasks) % 10) if row.tasks.isdigit() else "0",
        }
        return values[letter].zfill(int(width or 0)) if letter in "Aaj" else values[letter]

    return _PATTERN.sub(value, pattern)
