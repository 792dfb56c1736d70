"""A head of Ray on this machine, which is a whole cluster: it executes the jobs as well."""

import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from tempfile import mkdtemp
from types import TracebackType
from typing import Any, Self

import requests

from daemons import free_ports
from ray.keeper import dies_with_parent
from reconciler.model.jobs import EMPTY

VENV = "RAY_VENV"
"""The variable that names another venv with Ray than that of `install.sh`."""
STARTS_WITHIN_S = 240.0
"""A head takes some 16 s on a machine that is not busy."""
CPUS = 8
"""The CPUs that the node says it has. Ray counts them, and binds nothing to them."""

_HERE = "127.0.0.1"
_STARTS = 3
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DISABLE_IMPORT_WARNING": "1",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    # A busy machine takes long to fork. A node whose heartbeat is late is not dead.
    "RAY_health_check_timeout_ms": "60000",
    "RAY_health_check_failure_threshold": "20",
    # How full the disk or the memory of this machine is says nothing about the tests.
    "RAY_local_fs_capacity_threshold": "1",
    "RAY_memory_monitor_refresh_ms": "0",
}


class NotStarted(Exception):
    """The head ended before it was ready, or it was not ready in time."""


class Cluster:
    """A head of its own. It ends with the block, and with the thread that has started it, however that ends.

    So it is to be started in a thread that lives as long as it is used, such as the main one. `env` is added to the
    environment of the head.
    """

    def __init__(self, env: Mapping[str, str] = EMPTY) -> None:
        self._env = env
        # Ray has sockets in this folder, whose paths may have 107 bytes.
        self.folder = Path(mkdtemp(prefix="ray-"))
        self.mark = secrets.token_hex(8)
        """What all processes of the cluster have in their environment, the commands of jobs too."""
        self.port = 0
        """The port of the Jobs API. It stays the same when the head is started anew."""
        self._keeper: subprocess.Popen[bytes] | None = None
        self._sessions: list[str] = []

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def address(self) -> str:
        """The URL of the Jobs API."""
        return f"http://{_HERE}:{self.port}"

    @property
    def place(self) -> tuple[str, int]:
        """The host and the port of the Jobs API."""
        return _HERE, self.port

    @property
    def session(self) -> str:
        """The name of the session that the head has now. A head that is started anew has another one."""
        return self._sessions[-1]

    def start(self) -> None:
        """Start the head. The jobs of an earlier head are forgotten. Raises `NotStarted`."""
        for attempt in range(_STARTS):
            try:
                self._launch()
                self._wait_until_ready()
            except NotStarted:
                self.kill()
                if attempt == _STARTS - 1:
                    raise
            else:
                return

    def kill(self) -> None:
        """Kill the head and all that it has started, the commands of jobs too, as a machine that fails does."""
        if self._keeper is not None:
            self._keeper.terminate()
            self._keeper.wait()
            self._keeper = None

    def restart(self, env: Mapping[str, str] | None = None) -> None:
        """Kill the head, and start it anew at the same port; with `env` in place of the variables it was made with."""
        self.kill()
        self._env = self._env if env is None else env
        self.start()

    def stop(self) -> None:
        """Stop what was started, and nothing else, and remove its files."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def request(self, method: str, path: str, body: object = None, timeout_s: float = 60) -> tuple[int, Any]:
        """Return the status and the document of an answer; its text if it is no JSON."""
        token = self._env.get("RAY_AUTH_TOKEN", "")
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        with requests.Session() as session:
            session.trust_env = False
            answer = session.request(method, f"{self.address}{path}", json=body, timeout=timeout_s, headers=headers)
        try:
            return answer.status_code, answer.json()
        except ValueError:
            return answer.status_code, answer.text

    def jobs(self) -> list[dict[str, Any]]:
        """Return the jobs of the Jobs API, but for those of drivers that nobody submitted."""
        status, found = self.request("GET", "/api/jobs/")
        assert status == 200, found
        return [job for job in found if job["type"] == "SUBMISSION"]

    def job(self, submission_id: str) -> dict[str, Any] | None:
        """Return one job; None if the head does not know it."""
        status, found = self.request("GET", f"/api/jobs/{submission_id}")
        assert status in (200, 404), found
        return found if status == 200 else None

    def log_file(self, submission_id: str) -> Path:
        """Return the file with the output of a job."""
        return self.folder / self.session / "logs" / f"job-driver-{submission_id}.log"

    def _launch(self) -> None:
        first = self.port or free_ports(1)[0]
        ports = free_ports(8)
        self.port = first
        options = {
            "node-ip-address": _HERE,
            "port": ports[0],
            "dashboard-host": _HERE,
            "dashboard-port": self.port,
            "dashboard-agent-listen-port": ports[1],
            "dashboard-agent-grpc-port": ports[2],
            "runtime-env-agent-port": ports[3],
            "metrics-export-port": ports[4],
            "node-manager-port": ports[5],
            "object-manager-port": ports[6],
            "ray-client-server-port": ports[7],
            "include-dashboard": "true",
            "include-log-monitor": "false",
            "num-cpus": CPUS,
            "num-gpus": 0,
            "object-store-memory": 80_000_000,
            "temp-dir": self.folder,
        }
        parent = os.getpid()
        ray = [str(venv() / "bin" / "python"), "-m", "ray.scripts.scripts", "start", "--head", "--block"]
        with (self.folder / "head.log").open("ab") as log:
            self._keeper = subprocess.Popen(
                [
                    sys.executable,
                    str(Path(__file__).with_name("keeper.py")),
                    self.mark,
                    *ray,
                    "--disable-usage-stats",
                    *(f"--{name}={value}" for name, value in options.items()),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env={
                    # A job that asks for `python` gets that of the head, as where the venv is activated.
                    "PATH": f"{venv() / 'bin'}:{os.environ.get('PATH', os.defpath)}",
                    "HOME": str(self.folder),
                    **_QUIET,
                    **self._env,
                },
                start_new_session=True,
                preexec_fn=lambda: dies_with_parent(parent),  # noqa: PLW1509 -- it takes no lock
            )

    def _wait_until_ready(self) -> None:
        """Wait until the head takes jobs. A head answers before its agent, which takes them, is there."""
        until_s = time.monotonic() + STARTS_WITHIN_S
        session = ""
        while True:
            assert self._keeper is not None
            if self._keeper.poll() is not None or time.monotonic() > until_s:
                tail = (self.folder / "head.log").read_text(errors="replace")[-3000:]
                raise NotStarted(f"the head has not begun to take jobs:\n{tail}")
            with suppress(requests.RequestException):
                status, found = self.request("GET", "/api/version", timeout_s=5)
                session = found["session_name"] if status == 200 else ""
            # No job is stopped by this. The answer comes from the agent.
            with suppress(requests.RequestException):
                if session and session not in self._sessions and self._takes_jobs():
                    self._sessions.append(session)
                    return
            time.sleep(0.1)

    def _takes_jobs(self) -> bool:
        body = {"entrypoint": "true", "submission_id": f"first-{secrets.token_hex(4)}"}
        status, _ = self.request("POST", "/api/jobs/", body, timeout_s=120)
        if status != 200:
            return False
        until_s = time.monotonic() + STARTS_WITHIN_S
        while (job := self.job(body["submission_id"])) and job["status"] in ("PENDING", "RUNNING"):
            if time.monotonic() > until_s:
                return False
            time.sleep(0.1)
        return self.request("DELETE", f"/api/jobs/{body['submission_id']}")[0] == 200


def venv() -> Path:
    """Return the venv that has Ray."""
    if named := os.environ.get(VENV):
        return Path(named)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "reconciler-tests" / "ray-2.60.0" / "venv"


def missing() -> str:
    """Return what is not there that a head needs; nothing if all is there."""
    if not os.access(venv() / "bin" / "ray", os.X_OK):
        return f"{venv()} has no Ray: run tests/ray/install.sh, or set {VENV}"
    return ""
