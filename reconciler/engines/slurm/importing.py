"""The config of a job that somebody else has submitted: its batch script, and what it was submitted with.

The controller gives the script of a job to its owner and to administrators alone, and only as long as it knows the job.
The variables of the job are told to nobody, and its output only with the numbers of the job in the path.
"""

import re
import shlex
from collections.abc import Iterator
from typing import Any

from reconciler.engines.port import Config
from reconciler.engines.slurm.commands import Commands
from reconciler.engines.slurm.rows import indexes_of, joined
from reconciler.engines.slurm.runs import Run
from reconciler.engines.slurm.scripts import is_for_a_shell, with_lines

_COMMAND = "   Command="
_GPU = re.compile(r"gpu:([^,]+)")
_FIELD = r"(?:^|\s){}=(\S+)"
_LIMIT = re.compile(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)")
_MEMORY = re.compile(r"(\d+(?:\.\d+)?)([KMGT])")
_UNITS = {"K": "KiB", "M": "MiB", "G": "GiB", "T": "TiB"}
_NONE = frozenset({"(null)", "N/A", "UNLIMITED", "365-00:00:00", "None", "0"})
"""What a field has that says nothing. A job without a limit of its own or of its partition may execute for a year."""


def config_of(commands: Commands, run: Run) -> Config | None:
    """Return a config that submits the same job; None if the controller does not give its script.

    Raises `EngineError` if there are no such commands.
    """
    script = commands.run(["scontrol", "write", "batch_script", str(run.id), "-"])
    told = commands.run(["scontrol", "show", "job", str(run.id)])
    if script.failure is not None or told.failure is not None or not script.out.startswith("#!"):
        return None
    arguments = _arguments(told.out)
    if arguments and not is_for_a_shell(script.out):
        return None
    text = with_lines(script.out, f"set -- {shlex.join(arguments)}\n" if arguments else "")
    return {"script": text, **dict(words_of_job(told.out, run))}


def _arguments(told: str) -> list[str]:
    """Return the arguments that the script of a job was given. The controller parts them with single blanks."""
    line = next((line for line in told.splitlines() if line.startswith(_COMMAND)), "")
    return line.removeprefix(_COMMAND).split(" ")[1:]


def words_of_job(told: str, run: Run) -> Iterator[tuple[str, Any]]:
    """Yield the words of a config that say what a job was submitted with.

    `told` is what `scontrol show job` says of it.
    """

    def field(name: str) -> str:
        found = re.search(_FIELD.format(re.escape(name)), told)
        return found[1] if found and found[1] not in _NONE else ""

    for word, name in (("partition", "Partition"), ("account", "Account"), ("qos", "QOS"), ("workdir", "WorkDir")):
        if value := field(name):
            yield word, value
    for word, name in (("nodes", "NumNodes"), ("ntasks", "NumTasks"), ("cpus", "CPUs/Task")):
        # One is what a job gets that asks for nothing.
        if (value := field(name).partition("-")[0]) and value.isdigit() and value != "1":
            yield word, int(value)
    if memory := _MEMORY.fullmatch(field("MinMemoryNode")):
        yield "memory", f"{round(float(memory[1]))}{_UNITS[memory[2]]}"
    if limit := _LIMIT.fullmatch(field("TimeLimit")):
        days, hours, minutes, seconds = (int(part or 0) for part in limit.groups())
        yield "jobTimeout", ((days * 24 + hours) * 60 + minutes) * 60 + seconds
    if any(row.tasks for row in run.rows):
        throttle = field("ArrayTaskThrottle")
        indexes = joined(index for row in run.rows for index in indexes_of(row.tasks))
        yield "array", f"{indexes}%{throttle}" if throttle else indexes
    if field("Requeue") == "1":
        yield "onDisruption", "continue"
    gres = field("TresPerNode").removeprefix("gres").lstrip(":/")
    if gpu := _GPU.fullmatch(gres):
        yield "gpu", int(gpu[1]) if gpu[1].isdigit() else gpu[1]
    native: dict[str, Any] = {} if gpu or not gres else {"gres": gres}
    if constraint := field("Features"):
        native["constraint"] = constraint
    if nice := field("Nice"):
        native["nice"] = int(nice)
    if field("OverSubscribe") == "NO":
        native["exclusive"] = True
    if native:
        yield "native", native
