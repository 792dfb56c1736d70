"""What a config may not say: what the Jobs API can't take, and what is reconciler's own."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from reconciler.engines.port import Config
from reconciler.engines.ray.submission import entrypoint_of
from reconciler.engines.texts import LONGEST_ARGUMENT_BYTES, field_text, text_fault

_OWN_FIELDS: Mapping[str, str] = {
    "entrypoint": "write `command` or `script`",
    "entrypoint_memory": "write `resources: {memory: …}`",
    "entrypoint_num_cpus": "write `resources: {cpu: …}`",
    "entrypoint_num_gpus": "write `resources: {gpu: …}`",
    "entrypoint_resources": "write `resources: {custom: …}`",
    "job_id": "each run has its own",
    "runtime_env": "write `runtime_env` beside `native`",
    "submission_id": "each run has its own",
}
"""The fields that `native` may not have, each with the reason or with what to write instead."""

_OWN_METADATA = ("reconciler", "job_submission_id")
"""How the names begin that `native.metadata` may not have."""

_ELSEWHERE: Mapping[str, str] = {
    "env_vars": "write `env` beside `runtime_env`",
    "excludes": "name the files in .rayignore or .gitignore",
    "working_dir": "write `working_dir` beside `runtime_env`",
}
"""The fields that `runtime_env` may not have, each with what to write instead."""

_FILES_OF_A_CLIENT: Mapping[str, str] = {
    "conda": "write its content, or the name of an environment of the nodes",
    "pip": "write the list of the packages",
    "uv": "write the list of the packages",
}
"""The fields of `runtime_env` in which Ray's own client takes a text for a file that it reads."""

_REMOTE = ("azure://", "abfss://", "file://", "gcs://", "gs://", "http://", "https://", "local:///", "s3://")
"""How the URIs begin that Ray takes for `working_dir` and `py_modules` (runtime_env_uri.py, Protocol)."""


def config_fault(config: Config) -> str:
    """Return why no job can be made of a config; "" if all is well."""
    return next(_faults(config), "")


def _faults(config: Mapping[str, Any]) -> Iterator[str]:
    if fault := text_fault(config):
        yield fault
    if "command" in config and "script" in config:
        yield 'a config of the engine ray has one of "command", "script" and "batch", and not two'
    yield from _entrypoint_faults(config)
    yield from _env_faults(config.get("env", {}))
    yield from _runtime_env_faults(config.get("runtime_env", {}))
    folder = config.get("working_dir")
    if isinstance(folder, str) and not folder.startswith(_REMOTE):
        yield f"config.working_dir: Ray knows no such URI: it begins with one of {', '.join(_REMOTE)}"
    yield from _native_faults(config.get("native", {}))
    yield from _size_faults(config)


def _entrypoint_faults(config: Mapping[str, Any]) -> Iterator[str]:
    command, script = config.get("command"), config.get("script", "")
    if command is not None and not command[0]:
        yield "config.command has no program: its first text is empty"
    if command is not None and command[0].startswith("-"):
        yield "config.command: the name of a program can't begin with a hyphen: write the path of the program"
    if script.startswith("#!"):
        yield (
            "config.script names its program in its first line, and is given to /bin/sh: write it for that, "
            "or put it into `working_dir` and write `command: [./NAME]`"
        )


def _env_faults(env: Mapping[str, Any]) -> Iterator[str]:
    for name, value in env.items():
        if not isinstance(value, str):
            yield (
                f"{field_text('env', name)}: Ray shows the variables of a job to whoever can read it, so a secret "
                "can't be one: let the job read the secret itself, such as from a file of the nodes or from a service "
                "of secrets, and give the job the name of the secret"
            )


def _runtime_env_faults(environment: Mapping[str, Any]) -> Iterator[str]:
    for name in environment:
        if name in _ELSEWHERE:
            yield f"{field_text('runtime_env', name)}: {_ELSEWHERE[name]}"
    for name, advice in _FILES_OF_A_CLIENT.items():
        value = environment.get(name)
        packages = value.get("packages") if isinstance(value, Mapping) else value
        if isinstance(packages, str) and (name != "conda" or packages.endswith((".yaml", ".yml"))):
            yield f"{field_text('runtime_env', name)}: a file of this machine is not read: {advice}"
    modules = environment.get("py_modules", ())
    for number, module in enumerate(modules if isinstance(modules, list) else ()):
        if not isinstance(module, str) or not module.startswith(_REMOTE):
            yield (
                f"{field_text('runtime_env', 'py_modules', number)}: {module} is not uploaded: put it into "
                "`working_dir`, whose modules can be imported, or name a URI that Ray knows"
            )


def _native_faults(native: Mapping[str, Any]) -> Iterator[str]:
    for name in native:
        if name in _OWN_FIELDS:
            yield f"{field_text('native', name)} is reconciler's own: {_OWN_FIELDS[name]}"
    metadata = native.get("metadata", {})
    if not isinstance(metadata, Mapping):
        yield "config.native.metadata: expected a mapping"
        return
    for name, value in metadata.items():
        if name.startswith(_OWN_METADATA):
            yield f"{field_text('native', 'metadata', name)} is reconciler's own, or Ray's"
        if not isinstance(value, str):
            yield f"{field_text('native', 'metadata', name)}: expected text"


def _size_faults(config: Mapping[str, Any]) -> Iterator[str]:
    if not {"command", "script"} & config.keys():
        return
    size_bytes = len(entrypoint_of(config).encode())
    if size_bytes > LONGEST_ARGUMENT_BYTES:
        yield (
            f"the entrypoint has {size_bytes} bytes, and Linux takes {LONGEST_ARGUMENT_BYTES}: "
            "put it into a file of `working_dir`"
        )
    size_bytes = len(json.dumps(config.get("runtime_env", {}))) + len(json.dumps(config.get("env", {})))
    if size_bytes > LONGEST_ARGUMENT_BYTES:
        yield f"runtime_env and env have {size_bytes} bytes, and Linux takes {LONGEST_ARGUMENT_BYTES}: leave out some"
