"""What a config may not say: options that are reconciler's own, and what no job can be made of."""

from collections.abc import Iterator, Mapping
from typing import Any

from reconciler.engines.port import Config
from reconciler.engines.slurm.scripts import foreign_line, is_heterogeneous, options_of
from reconciler.engines.slurm.settings import Settings
from reconciler.engines.slurm.submission import asked_array, native_of
from reconciler.engines.texts import field_text, text_fault

_NAMES = "each run has its own"
_OWN_OPTIONS: Mapping[str, str] = {
    "account": "write `account`",
    "array": "write `array`",
    "chdir": "write `workdir`",
    "comment": _NAMES,
    "cpus-per-task": "write `cpus`",
    "hold": "each run is submitted held, and then released",
    "job-name": _NAMES,
    "mem": "write `memory`",
    "nodes": "write `nodes`",
    "no-requeue": "write `onDisruption: fail`, which is the default",
    "ntasks": "write `ntasks`",
    "partition": "write `partition`",
    "qos": "write `qos`",
    "requeue": "write `onDisruption: continue`",
    "time": "write `jobTimeout`, in seconds",
    "wrap": "write `script`",
}
"""The options that `native` may not have, each with the reason or with what to write instead."""

_REFUSED_OPTIONS: Mapping[str, str] = {
    "cluster": "each cluster is a target of its own",
    "clusters": "each cluster is a target of its own",
    "external": "nothing would be executed",
    "gid": "a job is that of the user who applies",
    "help": "nothing would be submitted",
    "ignore-pbs": "each run has it",
    "parsable": "the engine reads what sbatch prints",
    "quiet": "the engine reads what sbatch prints",
    "test-only": "nothing would be submitted",
    "uid": "a job is that of the user who applies",
    "usage": "nothing would be submitted",
    "version": "nothing would be submitted",
    "wait": "sbatch would not return before the end of the job",
}
"""The options that no config may have, with the reason: neither in `native` nor in a script."""

_HARMLESS_IN_A_SCRIPT = frozenset({"ignore-pbs", "parsable", "quiet"})
_UNHEARD: Mapping[str, str] = {
    "comment": "the comment holds the marks of the run",
    "hold": "each run is submitted held, and then released",
    "job-name": "the name of the job is the run id",
    "requeue": "write `onDisruption: continue`",
}
"""The options of a script that never count, since ours take their places. `--no-requeue` is the default."""

_SAME_WORDS = (("cpu", "cpus"), ("memory", "memory"), ("gpu", "gpu"))
_VARIABLES_OF_SLURM = ("SBATCH_", "SLURM_", "SPANK_")


def config_fault(config: Config) -> str:
    """Return why no job can be made of a config; "" if all is well."""
    found = (*_word_faults(config), *_native_faults(config), *_script_faults(config))
    return found[0] if found else ""


def secrets_fault(config: Mapping[str, Any], settings: Settings) -> str:
    """Return why the secrets of a config can't be had, as far as the target says it; "" if they may be there.

    A run with this fault is refused, and nothing is sent to Slurm.
    """
    names = [name for name, value in config.get("env", {}).items() if not isinstance(value, str)]
    if not names or settings.secrets:
        return ""
    return (
        f"{field_text('env', names[0])}: no folder of secrets is known: name the one on the cluster with target.secrets"
    )


def unheard_options(config: Config) -> Iterator[tuple[int, str, str]]:
    """Yield the options of a script that never count, each as (number of its line, what it is, what to do)."""
    for option in options_of(str(config.get("script", ""))):
        name = _abbreviated(option.name, _UNHEARD)
        if name and not (name == "requeue" and config.get("onDisruption") == "continue"):
            yield option.line, f"--{name}", _UNHEARD[name]
    if line := foreign_line(str(config.get("script", ""))):
        yield line, "of another batch system", "write such lines as #SBATCH"


def _word_faults(config: Mapping[str, Any]) -> Iterator[str]:
    if "command" in config and "script" in config:
        yield 'a config of the engine slurm has one of "command", "script" and "batch", and not two'
    for name, word in _SAME_WORDS:
        if name in config.get("resources", {}) and word in config:
            yield f"config.{word} and config.resources.{name} mean the same: leave out one of them"
    if "tasks" in config and not asked_array(config):
        yield "config.tasks are some of an array, and the config has no `array`"
    if "command" in config and not config["command"][0]:
        yield "config.command has no program: its first text is empty"
    for name in config.get("env", {}):
        if name.startswith(_VARIABLES_OF_SLURM):
            yield f"{field_text('env', name)}: the variables of Slurm are set by Slurm itself"
    if fault := text_fault(config):
        yield fault


def _native_faults(config: Mapping[str, Any]) -> Iterator[str]:
    native = config.get("native", {})
    for name in native:
        if own := _abbreviated(name, _OWN_OPTIONS):
            yield f"{field_text('native', name)} is reconciler's own: {_OWN_OPTIONS[own]}"
        if refused := _abbreviated(name, _REFUSED_OPTIONS):
            yield f"{field_text('native', name)} can't be used: {_REFUSED_OPTIONS[refused]}"
    if "gres" in native_of(config) and ("gpu" in config or "gpu" in config.get("resources", {})):
        yield "config.native.gres and `gpu` are one option: write gres alone, such as gpu:2,shard:1"


def _script_faults(config: Mapping[str, Any]) -> Iterator[str]:
    script = config.get("script", "")
    if "\r\n" in script:
        yield "config.script has lines that end in CR LF, which sbatch refuses: end them with LF alone"
    if is_heterogeneous(script):
        yield "config.script is for a heterogeneous job (#SBATCH hetjob), which is several Slurm jobs and not one"
    for option in options_of(script):
        refused = _abbreviated(option.name, _REFUSED_OPTIONS)
        if refused and refused not in _HARMLESS_IN_A_SCRIPT:
            why = _REFUSED_OPTIONS[refused]
            yield f"config.script: line {option.line}: --{option.name} can't be used: {why}"


def _abbreviated(name: str, options: Mapping[str, str]) -> str:
    """Return which of these options `sbatch` takes a name for, or "": it also takes the beginning of a name."""
    if name in options:
        return name
    return next((option for option in options if option.startswith(name)), "")
