"""What a target of this engine says beside its address, and what the engine guarantees."""

from typing import NamedTuple

from reconciler.engines.port import Promises

DEFAULT_FORGETS_S = 300
"""The seconds after which a controller forgets an ended job, unless its MinJobAge says otherwise."""


class Ssh(NamedTuple):
    """The machine whose commands are used, as `ssh` takes it. Everything but the host is "" or 0 if it is not said.

    `identity` and `config` are paths of files on this machine.
    """

    host: str
    user: str = ""
    port: int = 0
    identity: str = ""
    config: str = ""

    @property
    def destination(self) -> str:
        """The host, with the user before it if there is one."""
        return f"{self.user}@{self.host}" if self.user else self.host


class Settings(NamedTuple):
    """What a target says. Everything is "" if the manifest does not say it.

    `folder` is the folder of the file with the target. `ssh` is None if the commands are those of this machine. `conf`
    is the path of slurm.conf where the commands are: absolute, or "~/" and a path. `cluster` is the ClusterName that
    the controller has to have. `user` and `account` limit the jobs that are listed. `secrets` is the folder of the
    files with secrets, where the jobs are executed: absolute, or "~/" and a path. `forgets_s` is for how many seconds
    Slurm knows a job after its end.
    """

    folder: str = ""
    ssh: Ssh | None = None
    conf: str = ""
    cluster: str = ""
    user: str = ""
    account: str = ""
    secrets: str = ""
    forgets_s: float | None = None


def promises_of(settings: Settings) -> Promises:
    """Return what the engine guarantees. Slurm has no guard, and hold and release make one (`engine.py`)."""
    return Promises(
        creates_on_run=True,
        atomic_run=True,
        reads=True,
        lists=True,
        keeps_ended_s=DEFAULT_FORGETS_S if settings.forgets_s is None else settings.forgets_s,
        has_logs=True,
        chains=True,
    )
