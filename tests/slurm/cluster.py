"""A cluster of Slurm on this machine: a real controller and a real node, with accounting or without."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from daemons import Daemons, NotStarted, free_ports, kill_group
from reconciler.model.jobs import EMPTY

CPUS = 64
"""How many jobs of one core may execute at a time."""
KILL_WAIT_S = 2
"""How long Slurm waits between SIGTERM and SIGKILL."""
_HERE = "127.0.0.1"
_PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scontrol", "scancel")
_ACCOUNTING = ("slurmdbd", "mariadbd", "mariadb-install-db", "sacct", "sacctmgr")
_VARIABLES = ("SLURM_", "SBATCH_", "SQUEUE_", "SACCT_", "SCANCEL_", "RECONCILER_")
PATH = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
"""Where the programs are. Debian has the daemons where a plain user does not look."""


class _Parts(Daemons):
    """Parts of a cluster that have one configuration and one MUNGE."""

    def __init__(self, key: bytes = b"") -> None:
        super().__init__("reconciler-slurm-")
        self.folder.chmod(0o755)
        self.key = key or os.urandom(1024)
        """The key of MUNGE. Those who have it trust each other."""

    @property
    def conf(self) -> Path:
        """The file that SLURM_CONF names."""
        return self.folder / "slurm.conf"

    @property
    def munge_socket(self) -> Path:
        """The socket of this MUNGE."""
        return self.folder / "run" / "munge.socket"

    @property
    def env(self) -> dict[str, str]:
        """The environment in which Slurm's commands reach this cluster, and no variable asks them for something."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith(_VARIABLES)}
        return {**kept, "PATH": PATH, "SLURM_CONF": str(self.conf), "TZ": "UTC"}

    def command(self, *argv: str, check: bool = True, env: Mapping[str, str] = EMPTY) -> str:
        """Run one of Slurm's commands, and return what it prints."""
        done = subprocess.run(
            argv, env={**self.env, **env}, cwd=self.folder, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0 or not check, (argv, done)
        return done.stdout

    def kill(self, part: str) -> None:
        """Kill a part."""
        kill_group(self._processes.pop(part))

    def terminate(self, part: str) -> None:
        """Ask a part to end, as a service manager does, and wait for that. A controller saves its state then."""
        process = self._processes.pop(part)
        process.terminate()
        try:
            process.wait(30)
        finally:
            kill_group(process)

    def pause(self, part: str) -> None:
        """Stop a part, so that it accepts connections and answers none."""
        os.kill(self.pid(part), signal.SIGSTOP)

    def resume(self, part: str) -> None:
        """Let a part go on."""
        os.kill(self.pid(part), signal.SIGCONT)

    def _stop_all(self) -> None:
        super()._stop_all()
        _sweep(str(self.conf))

    def _start_munge(self) -> None:
        folder = self.folder
        for name in ("ctld", "spool", "run", "log"):
            (folder / name).mkdir(exist_ok=True)
            (folder / name).chmod(0o755)
        path = folder / "munge.key"
        if not path.exists():
            path.write_bytes(self.key)
            path.chmod(0o400)
        self._run_daemon(
            "munged",
            "munged",
            "--foreground",
            "--force",
            f"--key-file={path}",
            f"--socket={self.munge_socket}",
            f"--pid-file={folder / 'run' / 'munged.pid'}",
            f"--log-file={folder / 'log' / 'munge.log'}",
            f"--seed-file={folder / 'run' / 'munge.seed'}",
        )
        self._wait("MUNGE answers", self.munge_socket.exists)

    def _run_daemon(self, part: str, *command: str) -> None:
        env = {**self.env, "MYSQL_UNIX_PORT": str(self.folder / "run" / "db.socket")}
        self._launch(part, *command, env=env, folder=self.folder / "run")

    def _said(self, *command: str) -> str:
        with suppress(subprocess.SubprocessError):
            return subprocess.run(command, env=self.env, capture_output=True, text=True, timeout=15, check=False).stdout
        return ""


class Accounting(_Parts):
    """The service of accounting, with a database of its own. Several clusters may share it."""

    port = 0

    def start_service(self) -> None:
        """Start the service again, which `kill` or `terminate` has ended."""
        self._run_daemon("slurmdbd", "slurmdbd", "-D")
        self._wait("accounting answers", self._accounts)

    def add(self, cluster: str) -> None:
        """Make a cluster known."""
        for words in (f"cluster {cluster}", f"account lab cluster={cluster}", f"user {_user()} account=lab"):
            self.command("sacctmgr", "-i", "add", *words.split(), check=False)

    def _start(self) -> None:
        self._start_munge()
        folder, data = self.folder, self.folder / "db"
        if not data.exists():
            own = ["--no-defaults", f"--datadir={data}", f"--user={_user()}"]
            self._run("mariadb-install-db", *own, "--skip-test-db", "--auth-root-authentication-method=normal")
        socket_path = folder / "run" / "db.socket"
        self._run_daemon(
            "mariadbd",
            "mariadbd",
            "--no-defaults",
            f"--user={_user()}",
            f"--datadir={data}",
            "--skip-networking",
            f"--socket={socket_path}",
            f"--pid-file={folder / 'run' / 'db.pid'}",
            "--innodb-buffer-pool-size=64M",
            "--innodb-flush-log-at-trx-commit=0",
        )
        self._wait("the database answers", lambda: self._has_database(str(socket_path)))
        (self.port,) = free_ports(1)
        self._write_conf()
        self.start_service()

    def _write_conf(self) -> None:
        values = {
            "AuthType": "auth/munge",
            "AuthInfo": f"socket={self.munge_socket}",
            "DbdHost": "localhost",
            "DbdAddr": _HERE,
            "DbdPort": self.port,
            "SlurmUser": _user(),
            "StorageType": "accounting_storage/mysql",
            "StorageHost": "localhost",
            "StorageUser": "root",
            "StorageLoc": "slurm_acct",
            "PidFile": self.folder / "run" / "slurmdbd.pid",
        }
        path = self.folder / "slurmdbd.conf"
        path.write_text("".join(f"{key}={value}\n" for key, value in values.items()))
        path.chmod(0o600)
        # What the commands of accounting need of a cluster.
        lines = ["ClusterName=none", f"SlurmctldHost=localhost({_HERE})", "AuthType=auth/munge"]
        lines += [f"AuthInfo=socket={self.munge_socket}", *self.conf_lines]
        self.conf.write_text("\n".join(lines) + "\n")

    @property
    def conf_lines(self) -> list[str]:
        """The lines of slurm.conf that lead to this service."""
        return [
            "AccountingStorageType=accounting_storage/slurmdbd",
            f"AccountingStorageHost={_HERE}",
            f"AccountingStoragePort={self.port}",
            f"AccountingStoragePass={self.munge_socket}",
        ]

    def _accounts(self) -> bool:
        with suppress(subprocess.SubprocessError):
            argv = ["sacctmgr", "-n", "show", "cluster"]
            return subprocess.run(argv, env=self.env, capture_output=True, timeout=15, check=False).returncode == 0
        return False

    def _has_database(self, socket_path: str) -> bool:
        argv = ["mariadb", "--no-defaults", f"--socket={socket_path}", "-u", "root", "-e", "select 1"]
        return subprocess.run(argv, capture_output=True, env=self.env, check=False, timeout=30).returncode == 0

    def _run(self, *command: str) -> None:
        done = subprocess.run(command, env=self.env, capture_output=True, text=True, timeout=300, check=False)
        if done.returncode:
            raise NotStarted(f"{command[0]} has ended with {done.returncode}:\n{done.stdout}{done.stderr}")


class Cluster(_Parts):
    """A controller and a node. `min_job_age_s` is for how long the controller keeps a job that has ended.

    `conf` are lines of slurm.conf. The node pretends to have `CPUS` cores and their memory.
    """

    def __init__(
        self,
        name: str = "ci",
        *,
        accounting: Accounting | None = None,
        min_job_age_s: int = 300,
        conf: Mapping[str, object] = EMPTY,
    ) -> None:
        super().__init__(accounting.key if accounting else b"")
        self.name = name
        self.accounting = accounting
        self._min_job_age_s = min_job_age_s
        self._more = conf

    def start_controller(self, *, cold: bool = False, lost: bool = False) -> None:
        """Start the controller again, which `kill` or `terminate` has ended.

        A cold one knows no job of before. One that has `lost` its state also gives the ids of before again.
        """
        if lost:
            shutil.rmtree(self.folder / "ctld")
            (self.folder / "ctld").mkdir()
        self._run_daemon("slurmctld", "slurmctld", "-D", *(["-c"] if cold else []))
        self._wait("the controller answers", self._answers)

    def start_node(self) -> None:
        """Start the node again, which `kill` or `terminate` has ended."""
        self._run_daemon("slurmd", "slurmd", "-D")
        self._wait("the node is idle", lambda: "idle" in self._said("sinfo", "-h", "-o", "%t"))

    def _start(self) -> None:
        self._start_munge()
        self._write_conf()
        if self.accounting:
            self.accounting.add(self.name)
        self.start_controller()
        self.start_node()

    def _stop_all(self) -> None:
        if "slurmctld" in self._processes and self._processes["slurmctld"].poll() is None:
            self.resume("slurmctld")
            with suppress(subprocess.SubprocessError, OSError):
                subprocess.run(
                    ["scancel", "--signal=KILL", "--full", f"--user={_user()}"],
                    env=self.env,
                    capture_output=True,
                    timeout=20,
                    check=False,
                )
        super()._stop_all()

    def _write_conf(self) -> None:
        folder, host, user = self.folder, socket.gethostname().partition(".")[0], _user()
        controller, node = free_ports(2)
        values = {
            "ClusterName": self.name,
            "SlurmctldHost": f"{host}({_HERE})",
            "SlurmctldPort": controller,
            "SlurmdPort": node,
            "SlurmUser": user,
            "SlurmdUser": user,
            "AuthType": "auth/munge",
            "AuthInfo": f"socket={self.munge_socket}",
            "CredType": "cred/munge",
            "StateSaveLocation": folder / "ctld",
            "SlurmdSpoolDir": folder / "spool",
            "SlurmctldPidFile": folder / "run" / "slurmctld.pid",
            "SlurmdPidFile": folder / "run" / "slurmd.pid",
            "ProctrackType": "proctrack/linuxproc",
            "TaskPlugin": "task/none",
            "JobAcctGatherType": "jobacct_gather/none",
            "SelectType": "select/cons_tres",
            "SelectTypeParameters": "CR_Core",
            "SlurmdParameters": "config_overrides",
            "ReturnToService": 2,
            "SchedulerParameters": "sched_min_interval=10000,batch_sched_delay=0,bf_interval=1",
            "MinJobAge": self._min_job_age_s,
            "KillWait": KILL_WAIT_S,
            "MpiDefault": "none",
            "AccountingStorageType": "accounting_storage/none",
            **self._more,
        }
        lines = [f"{key}={value}" for key, value in values.items() if key != "AccountingStorageType"]
        lines += self.accounting.conf_lines if self.accounting else ["AccountingStorageType=accounting_storage/none"]
        lines.append(f"NodeName={host} NodeAddr={_HERE} CPUs={CPUS} RealMemory=256000 State=UNKNOWN")
        lines.append(f"PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP")
        lines.append(f"PartitionName=other Nodes={host} MaxTime=600 State=UP")
        self.conf.write_text("\n".join(lines) + "\n")
        if " 22." not in self._said("slurmctld", "-V"):  # a newer slurmd wants cgroups unless it is told
            (folder / "cgroup.conf").write_text("CgroupPlugin=disabled\n")

    def _answers(self) -> bool:
        return " is UP" in self._said("scontrol", "ping")


def missing() -> str:
    """Return what is not there that a cluster needs; nothing if all is there."""
    for program in (*_PROGRAMS, *_ACCOUNTING):
        if not shutil.which(program, path=PATH):
            return f"{program} is not installed: run tests/slurm/install.sh"
    return ""


def _user() -> str:
    return pwd.getpwuid(os.geteuid()).pw_name


def _sweep(conf: str) -> None:
    """Kill every process that was started for a cluster, such as a job, until there is none."""
    mark = f"SLURM_CONF={conf}".encode()

    def has_mark(pid: int) -> bool:
        with suppress(OSError):
            return mark in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        return False

    while pids := [int(each.name) for each in os.scandir("/proc") if each.name.isdigit() and has_mark(int(each.name))]:
        for pid in pids:
            with suppress(ProcessLookupError):
                process = os.pidfd_open(pid)
                try:
                    if has_mark(pid):
                        signal.pidfd_send_signal(process, signal.SIGKILL)
                finally:
                    os.close(process)
        time.sleep(0.01)
