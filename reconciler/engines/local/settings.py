"""What a manifest says of this engine, in the form that the engine uses: settings of a target, limits of a config."""

import os
from collections.abc import Mapping
from typing import NamedTuple

from reconciler.engines.local.env import Secrets
from reconciler.engines.local.limits import Limits, unheld
from reconciler.engines.local.log import DEFAULT_BYTES
from reconciler.engines.port import Config, Promises

PROMISES = Promises(
    creates_on_run=True, atomic_run=True, reads=True, lists=True, keeps_ended_s=float("inf"), has_logs=True
)
"""What the engine guarantees. A tombstone knows how its run ended, so no end is ever forgotten."""

_UNITS = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}


class Settings(NamedTuple):
    """What a target says beside its address. All paths are absolute.

    `root` is "" if the runs are beside the state. `folder` is the folder of the file with the target. `umask` is that
    of the commands.
    """

    folder: str
    root: str = ""
    slots: int = 1
    log_bytes: int = DEFAULT_BYTES
    secrets: Secrets = Secrets()
    umask: int = 0o022

    def workdir(self, config: Config) -> str:
        """Return the folder in which a command is executed."""
        workdir = config.get("workdir", ".")
        assert isinstance(workdir, str)
        return absolute(workdir, self.folder)


def limits_of(config: Config) -> Limits:
    """Return the limits of a config."""
    resources = config.get("resources")
    if not isinstance(resources, Mapping):
        return Limits()
    memory, cores = resources.get("memory"), resources.get("cpu")
    if isinstance(memory, str):
        memory = int(memory[:-3]) * _UNITS[memory[-3:]]
    return Limits(memory if isinstance(memory, int) else None, float(cores) if isinstance(cores, int | float) else None)


def gpus_of(config: Config) -> int:
    """Return how many GPUs a config asks for."""
    resources = config.get("resources")
    gpus = resources.get("gpu", 0) if isinstance(resources, Mapping) else 0
    return gpus if isinstance(gpus, int) else 0


def unheld_resources(config: Config) -> list[str]:
    """Return the resources of a config that nothing on this machine holds, such as "gpu"."""
    return unheld(limits_of(config)) + (["gpu"] if gpus_of(config) else [])


def absolute(path: str, folder: str) -> str:
    """Return a path that is relative to a folder as an absolute one. A leading ~ is the home folder."""
    return os.path.abspath(os.path.join(folder, os.path.expanduser(path)))
