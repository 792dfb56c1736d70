"""What a cluster has done in one namespace, from the server's own record and from what pods have noted themselves."""

import json
import threading
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import requests
from kubernetes.cluster import Cluster

OVER_WITHIN_S = 120.0


class Record:
    """A fresh namespace, each Job that was ever created in it, and each pod that was executed."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self._cluster = cluster
        self.namespace = cluster.namespace()
        self._path = f"/apis/batch/v1/namespaces/{self.namespace}/jobs"
        self._executed = folder / f"{self.namespace}.executed"
        self._executed.touch()
        self._created: dict[str, set[str]] = defaultdict(set)
        self._lock = threading.Lock()
        self._closed = threading.Event()
        _, document = cluster.request("GET", self._path)
        self._version = str(document["metadata"]["resourceVersion"])
        self._watcher = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._watcher.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed.set()

    def script(self, job_id: str) -> str:
        """Return the script of a job: it notes the name of its pod, which begins with the run id."""
        return f'echo "$HOSTNAME" >> {self._executed}'

    def created(self) -> Mapping[str, set[str]]:
        """Return the uids of the Jobs of each name that the server has now, and of those that it ever had."""
        items = self._listed()
        wanted = {(item["metadata"]["name"], item["metadata"]["uid"]) for item in items}
        until_s = time.monotonic() + OVER_WITHIN_S
        while True:
            with self._lock:
                if all(uid in self._created[name] for name, uid in wanted):
                    return {name: set(uids) for name, uids in self._created.items() if uids}
            assert time.monotonic() < until_s, "the watch lags behind"
            time.sleep(0.01)

    def wait_for_idle(self) -> None:
        """Wait until every Job of the namespace is over."""
        until_s = time.monotonic() + OVER_WITHIN_S
        while any(not item["status"].get("conditions") for item in self._listed()):
            assert time.monotonic() < until_s, "a Job does not end"
            time.sleep(0.05)

    def judge(self, runs: Sequence[str]) -> None:
        """Compare with what was asked for: each of these runs once, and no other run of their jobs.

        Raises `AssertionError`.
        """
        self.wait_for_idle()
        jobs = {run.rpartition("-")[0] for run in runs}
        created = {name: uids for name, uids in self.created().items() if name.rpartition("-")[0] in jobs}
        assert {name: len(uids) for name, uids in created.items()} == dict.fromkeys(runs, 1), (runs, created)
        executed: dict[str, int] = defaultdict(int)
        for pod in self._executed.read_text().split():
            run = pod.rpartition("-")[0]
            if run.rpartition("-")[0] in jobs:
                executed[run] += 1
        assert executed == dict.fromkeys(runs, 1), (runs, executed)

    def _listed(self) -> list[dict[str, Any]]:
        code, document = self._cluster.request("GET", self._path)
        assert code == 200, document
        items: list[dict[str, Any]] = document["items"]
        return items

    def _watch(self) -> None:
        """Note each Job that is created. A connection that ends is opened again where it has ended."""
        while not self._closed.wait(0.05):
            path = f"{self._path}?watch=1&resourceVersion={self._version}&timeoutSeconds=240"
            with suppress(requests.RequestException, AssertionError), self._cluster.stream(path) as answer:
                for line in answer.iter_lines():
                    event = json.loads(line)
                    metadata = event["object"]["metadata"]
                    with self._lock:
                        self._version = metadata["resourceVersion"]
                        if event["type"] == "ADDED":
                            self._created[metadata["name"]].add(metadata["uid"])
                    if self._closed.is_set():
                        return
