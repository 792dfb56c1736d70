"""A namespace of the test cluster as a service for the contract of an engine: Jobs whose pods count what they do."""

import errno
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kubernetes.cluster import Cluster
from reconciler.engines.kubernetes.objects import ABORT_OP, JOB_LABEL
from reconciler.engines.port import Config
from reconciler.testing.proxy import Fault, FaultProxy
from reconciler.testing.services import Service

_SCRIPT = """\
run=${HOSTNAME%-*} job=${run%-*}
echo "$run" >> "$COUNTS/$job.ran"
number=$(wc -l < "$COUNTS/$job.ran")
echo "runs $job"
echo "until $job.$number.end is there" >&2
mkfifo "$COUNTS/$job.$number.end"
read -r _ < "$COUNTS/$job.$number.end"
exit "$CODE"
"""
_SLOWLY = """trap 'trap "" TERM; sleep 1.5; touch "$COUNTS/$HOSTNAME.over"; exit 1' TERM\n"""
_WITHIN_S = 60.0
_HANDSHAKE_PIECES = 2
"""What a client of TLS 1.3 sends before its first request: the hello, and the end of the handshake."""


class KubernetesService(Service):
    """A fresh namespace. Each pod notes its start in a file, and waits until somebody opens a named pipe of its own.

    A thousand pods that look for a file again and again would take all of the machine.
    """

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self._cluster = cluster
        self._folder = folder
        self.namespace = cluster.namespace()
        self._other = ""
        self._counts = folder / "counts"
        self._counts.mkdir()
        self._before = ""
        self._aborted: dict[str, set[str]] = {}
        """The runs of a job that were aborted before they noted their start. A delete does not undo that."""
        self.server = cluster.place

    @property
    def block(self) -> Mapping[str, Any]:
        return self._block(self.namespace, self._cluster.kubeconfig)

    @property
    def other_block(self) -> Mapping[str, Any]:
        if not self._other:
            self._other = self._cluster.namespace()
        return self._block(self._other, self._cluster.kubeconfig)

    def config(self, *, fails: bool = False) -> Config:
        env = {"COUNTS": str(self._counts), "CODE": "3" if fails else "0"}
        grace_s = 10 if self._before else 1
        return {"image": "busybox", "script": self._before + _SCRIPT, "env": env, "abort": {"grace": grace_s}}

    def config_with(self, text: str) -> Config | None:
        return {**self.config(), "env": {"COUNTS": str(self._counts), "CODE": "0", "TEXT": text}}

    def runs(self, job_id: str) -> int:
        """Return how often the pod of a job was executed, and how many of its runs were aborted before that.

        A pod waits behind those that were created before it: a thousand of them take minutes on a busy machine.
        """
        until_s, started = 0.0, -1
        while True:
            if (before_us := len(os.listdir(self._counts))) > started:
                until_s, started = time.monotonic() + _WITHIN_S, before_us
            ran = set(self._ran(job_id))
            left = [job for job in self._jobs(job_id) if job["metadata"]["name"] not in ran]
            aborted = [job for job in left if ABORT_OP in job["metadata"].get("annotations", {})]
            before = self._aborted.setdefault(job_id, set())
            before |= {job["metadata"]["name"] for job in aborted}
            if len(left) == len(aborted) and not any(map(_is_pending, self._pods(job_id))):
                return len(self._ran(job_id)) + len(before - ran)
            assert time.monotonic() < until_s, f"a Job of {job_id} does not start"
            time.sleep(0.05)

    def end(self, job_id: str) -> None:
        path = self._counts / f"{job_id}.{self.runs(job_id)}.end"
        until_s = time.monotonic() + _WITHIN_S
        while not _let_go(path):
            assert time.monotonic() < until_s, f"the pod of {job_id} does not wait"
            time.sleep(0.02)

    def lose(self, job_id: str) -> None:
        self.runs(job_id)  # so that its start is counted
        for job in self._jobs(job_id):
            name = job["metadata"]["name"]
            self._ask("DELETE", f"{self._path}/{name}", {"propagationPolicy": "Background"})
        until_s = time.monotonic() + _WITHIN_S
        while self._jobs(job_id) or self._pods(job_id):
            assert time.monotonic() < until_s, f"{job_id} does not go away"
            time.sleep(0.05)

    def logged(self, job_id: str) -> bytes:
        return f"runs {job_id}\nuntil {job_id}.{self.runs(job_id)}.end is there\n".encode()

    def block_through(self, host: str, port: int) -> Mapping[str, Any]:
        return self._block(self.namespace, self._cluster.kubeconfig_for(f"https://{host}:{port}"))

    @contextmanager
    def disturbed(self, fault: Fault) -> Iterator[Mapping[str, Any] | None]:
        host, port = self._cluster.place
        with FaultProxy(host, port, fault=fault, spared=_HANDSHAKE_PIECES) as proxy:
            yield self.block_through("127.0.0.1", proxy.port)

    @contextmanager
    def stopping_slowly(self) -> Iterator[Mapping[str, Any] | None]:
        self._before = _SLOWLY
        yield self.block
        self._before = ""

    def executes(self, job_id: str) -> bool:
        started = self.runs(job_id)
        return len(list(self._counts.glob(f"{job_id}-*.over"))) < started

    @contextmanager
    def refusing(self) -> Iterator[Mapping[str, Any] | None]:
        """Yield the block with the credentials of a user who has no right."""
        yield self._block(self.namespace, self._cluster.kubeconfig_of_nobody)

    def close(self) -> None:
        """Let all pods end that have started. The namespace stays."""
        for path in self._counts.glob("*.end"):
            _let_go(path)

    @property
    def _path(self) -> str:
        return f"/apis/batch/v1/namespaces/{self.namespace}/jobs"

    def _block(self, namespace: str, kubeconfig: Path) -> Mapping[str, Any]:
        return {"engine": "kubernetes", "kubeconfig": str(kubeconfig), "namespace": namespace, "allowOldServer": True}

    def _ran(self, job_id: str) -> list[str]:
        path = self._counts / f"{job_id}.ran"
        return path.read_text().splitlines() if path.exists() else []

    def _jobs(self, job_id: str) -> list[dict[str, Any]]:
        return self._listed(f"{self._path}?labelSelector={JOB_LABEL}={job_id}")

    def _pods(self, job_id: str) -> list[dict[str, Any]]:
        return self._listed(f"/api/v1/namespaces/{self.namespace}/pods?labelSelector={JOB_LABEL}={job_id}")

    def _listed(self, path: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._ask("GET", path)["items"]
        return found

    def _ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        status, document = self._cluster.request(method, path, None if body is None else json.loads(json.dumps(body)))
        assert status < 300, (method, path, status, document)
        found: dict[str, Any] = document
        return found


def _let_go(path: Path) -> bool:
    """Open the named pipe that a pod waits for. Returns whether one does."""
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))
    except OSError as fault:
        if fault.errno not in (errno.ENOENT, errno.ENXIO):
            raise
        return False
    return True


def _is_pending(pod: Mapping[str, Any]) -> bool:
    return bool(pod["status"].get("phase") == "Pending" and "deletionTimestamp" not in pod["metadata"])
