"""What the Jobs API of Ray is sent for a config: one JSON document (JobSubmitRequest).

A supervisor of Ray gives the entrypoint to /bin/sh, and its process group ends with the supervisor. `exec` keeps the
program in that group, and keeps the shell from taking its name for a builtin, a reserved word or an assignment.

Ray has no timeout for a job, and `timeout` of coreutils makes one. A leader of a session stays in its group, so that
`timeout` reaches all processes of the job, as a stop of Ray does.
"""

import shlex
from collections.abc import Mapping
from typing import Any

TIMEOUT_EXIT_CODE = 124
"""How an entrypoint ends that took longer than `jobTimeout` (timeout(1))."""

GRACE_S = 10
"""The seconds between the SIGTERM of a timeout and its SIGKILL. After that, the exit code is 137."""

_UNITS = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}


def submission(config: Mapping[str, Any], package: str = "") -> dict[str, Any]:
    """Return the document for a config, without what tells this run from another one: `submission_id` and the marks.

    The config must be free of faults (`faults.py`). `package` is the URI of the package that `working_dir` was uploaded
    as (`packages.py`); it is needed where `working_dir` is a folder, for all but a comparison. The value of `metadata`
    is there if the config gives one.
    """
    made: dict[str, Any] = {"entrypoint": entrypoint_of(config)}
    if environment := _runtime_env(config, package):
        made["runtime_env"] = environment
    resources: Mapping[str, Any] = config.get("resources", {})
    for name, field in (("cpu", "entrypoint_num_cpus"), ("gpu", "entrypoint_num_gpus")):
        if name in resources:
            made[field] = resources[name]
    if "memory" in resources:
        made["entrypoint_memory"] = bytes_of(resources["memory"])
    if custom := resources.get("custom"):
        made["entrypoint_resources"] = dict(custom)
    return {**made, **config.get("native", {})}


def entrypoint_of(config: Mapping[str, Any]) -> str:
    """Return the text that /bin/sh is given on a node of the cluster."""
    command: list[str] = ["timeout", f"--kill-after={GRACE_S}", str(config["jobTimeout"])] if _is_timed(config) else []
    if "script" in config:
        if not command:
            return str(config["script"])
        command += ["/bin/sh", "-c", config["script"]]
    else:
        command += config["command"]
    return f"exec {shlex.join(command)}"


def _is_timed(config: Mapping[str, Any]) -> bool:
    return "jobTimeout" in config


def _runtime_env(config: Mapping[str, Any], package: str) -> dict[str, Any]:
    made = dict(config.get("runtime_env", {}))
    if env := config.get("env"):
        made["env_vars"] = dict(env)
    folder = config.get("working_dir")
    if folder is not None:
        made["working_dir"] = folder if isinstance(folder, str) else package or folder["content"]
    return made


def bytes_of(amount: int | str) -> int:
    """Return an amount of memory in bytes."""
    return amount if isinstance(amount, int) else int(amount[:-3]) * _UNITS[amount[-3:]]


def was_timed_out(entrypoint: str, exit_code: int) -> bool:
    """Whether `timeout` has ended an entrypoint that this module made."""
    return exit_code == TIMEOUT_EXIT_CODE and entrypoint.startswith(f"exec timeout --kill-after={GRACE_S} ")
