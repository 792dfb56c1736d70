"""What `sbatch` is given for a config: its options, and the script.

An option on the command line takes the place of the same option in a line `#SBATCH` of the script. So what the config
says in words counts, and everything else of the script stays as it is.

`env` stands in the script and not in `--export`, in which no value may hold both kinds of quotes. The value of a secret
never passes through Slurm, which stores the environment of a job: the job reads it from a file when it begins.
"""

import os
import shlex
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from reconciler.engines.port import Config
from reconciler.engines.slurm.scripts import options_of, whole_name, with_lines
from reconciler.engines.slurm.settings import Settings
from reconciler.rules.runs import digests

_UNITS = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
_PLAIN = {
    "partition": "partition",
    "account": "account",
    "qos": "qos",
    "nodes": "nodes",
    "ntasks": "ntasks",
}
"""The words whose values `sbatch` takes as they are, each with its option."""

NO_SECRET_EXIT_CODE = 78
"""How a job ends that can't read a secret (EX_CONFIG of sysexits.h)."""


class Submission(NamedTuple):
    """What `sbatch` is given for a run, without what tells this run from another one.

    `options` are words of a command line. `script` is the whole batch script, with its first line `#!`.
    """

    options: tuple[str, ...]
    script: str


def submission(config: Config, settings: Settings, token_digest: str = "") -> Submission:
    """Return what `sbatch` is given for a config. The config must be free of faults (`faults.py`).

    `token_digest` is that of the run (`Marks`). It says whether the run is limited to some tasks of its array.
    """
    options = _options(config, settings, asked_array(config, token_digest))
    return Submission(tuple(options), script_of(config, settings))


def script_of(config: Mapping[str, Any], settings: Settings) -> str:
    """Return the batch script of a config."""
    lines = "".join(_exports(config.get("env", {}), settings))
    if "script" in config:
        return with_lines(config["script"], lines)
    return with_lines(f"#!/bin/sh\nexec {shlex.join(config['command'])}\n", lines)


def asked_array(config: Mapping[str, Any], token_digest: str = "") -> str:
    """Return the indexes of the array that a run asks for, as `sbatch` takes them; "" if it asks for no array.

    `tasks: 3,7 of TOKEN` in the config limits the run of that token to some of them. How many tasks execute at a time
    stays as it is.
    """
    options = (option for option in options_of(config.get("script", "")) if option.name == "array")
    whole = str(config["array"]) if "array" in config else next((each.value for each in reversed([*options])), "")
    indexes, token = limit_of(config)
    if not whole or not token or digests({}, token).token_digest != token_digest:
        return whole
    _, percent, at_a_time = whole.partition("%")
    return f"{indexes}{percent}{at_a_time}"


def limit_of(config: Mapping[str, Any]) -> tuple[str, str]:
    """Return the indexes to which a config limits one run, and the token of that run; both are "" without a limit."""
    indexes, _, token = str(config.get("tasks", "")).partition(" of ")
    return indexes, token


def native_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of `native` in a config; those that the engine reads have their whole names."""
    return {whole_name(name): value for name, value in config.get("native", {}).items()}


def is_folder_ours(config: Mapping[str, Any]) -> bool:
    """Return whether a config says the folder of the job, or leaves it to the default, and its script does not."""
    return "workdir" in config or all(each.name != "chdir" for each in options_of(config.get("script", "")))


def words_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the words of a config with one name each, and with amounts as numbers.

    `resources: {cpu, memory, gpu}` means the same as `cpus`, `memory` and `gpu`. The memory is in KiB, and the timeout
    in minutes, rounded up as Slurm does.
    """
    resources = config.get("resources", {})
    words = {name: value for name, value in config.items() if name != "resources"}
    for name, word in (("cpu", "cpus"), ("memory", "memory"), ("gpu", "gpu")):
        if name in resources:
            words[word] = resources[name]
    if "memory" in words:
        words["memory"] = -(-_bytes(words["memory"]) // 1024)
    if "jobTimeout" in words:
        words["jobTimeout"] = -(-words["jobTimeout"] // 60)
    return words


def _options(config: Config, settings: Settings, array: str) -> Iterator[str]:
    words = words_of(config)
    native = native_of(words)
    for word, option in _PLAIN.items():
        if word in words:
            yield f"--{option}={words[word]}"
    if array:
        yield f"--array={array}"
    if "cpus" in words:
        yield f"--cpus-per-task={words['cpus']}"
    if "memory" in words:
        yield f"--mem={words['memory']}K"
    if words.get("gpu"):
        yield f"--gres=gpu:{words['gpu']}"
    if "jobTimeout" in words:
        yield f"--time={words['jobTimeout']}"
    yield "--ignore-pbs"
    yield "--requeue" if words.get("onDisruption") == "continue" else "--no-requeue"
    script = {option.name for option in options_of(words.get("script", ""))}
    folder = _workdir(words.get("workdir", "."), settings) if is_folder_ours(words) else ""
    if folder:
        yield f"--chdir={folder}"
    if "output" not in script and "output" not in native:
        yield f"--output={_output_in(folder, is_array=bool(array))}"
    for name in sorted(native):
        if native[name] is not False:
            yield f"--{name}" if native[name] is True else f"--{name}={native[name]}"


def _output_in(folder: str, *, is_array: bool) -> str:
    """Return the pattern of the file for what a job prints (sbatch, "filename pattern")."""
    # Slurm puts the name of the job, which is the run id, for %x.
    name = "%x-%A_%a.out" if is_array else "%x-%j.out"
    if "%" not in folder or not os.path.isabs(folder):
        return name
    # It would take the name of the folder for a part of the pattern.
    return os.path.join(folder.replace("%", "%%"), name)


def _workdir(workdir: str, settings: Settings) -> str:
    """Return the folder of a job. Behind ssh, it is relative to the home folder, in which the commands are executed."""
    if settings.ssh is None:
        return os.path.abspath(os.path.join(settings.folder, os.path.expanduser(workdir)))
    return workdir[2:] or "." if workdir.startswith("~/") else "." if workdir == "~" else workdir


def _exports(env: Mapping[str, Any], settings: Settings) -> Iterator[str]:
    """Yield the lines of a shell that set the variables of a job."""
    for name in sorted(env):
        if isinstance(env[name], str):
            yield f"export {name}={shlex.quote(env[name])}\n"
            continue
        secret = env[name]["secret"]
        path = _in_home(f"{settings.secrets}/{secret}")
        failed = shlex.quote(f"reconciler: the secret {secret} can't be read, so the job does not start")
        yield f"{name}=$(cat {path}) || {{ echo {failed} >&2; exit {NO_SECRET_EXIT_CODE}; }}\nexport {name}\n"


def _in_home(path: str) -> str:
    """Return a path as a word of a shell. A leading ~ is the home folder where the job is executed."""
    return f'"$HOME"{shlex.quote(path[1:])}' if path.startswith("~/") else shlex.quote(path)


def _bytes(amount: int | str) -> int:
    """Return an amount of memory in bytes."""
    return amount if isinstance(amount, int) else int(amount[:-3]) * _UNITS[amount[-3:]]
