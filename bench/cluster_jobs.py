"""Jobs on a Kubernetes cluster of this machine: `reconciler apply` beside one `kubectl apply -f` of the same Jobs.

The cluster is that of the tests (tests/kubernetes): a real API server, whose pods run as processes. Without its
programs or without kubectl, which `tests/kubernetes/install.sh` installs, this part is left out.
"""

import json
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from timing import Case, Row, Timing, middle, time_once

if TYPE_CHECKING:
    from kubernetes.cluster import Cluster

JOBS = 200
CREATED, ENDED = "Jobs of one second on a cluster, to the end of the command", "the same, to the end of the last Job"
KUBECTL, APPLY = "kubectl apply -f", "reconciler apply"
GOAL = "not slower than kubectl"
_COMMAND = ["sleep", "1"]
_ALL_END_WITHIN_S = 600.0


def bench_cluster(root: Path, rounds: int, tool: str) -> Iterator[Row]:
    """Create the Jobs in a fresh namespace for each program, which takes the other's place in the next round.

    The next program starts once all Jobs have ended. Until the command ends, the cluster starts Jobs on the same cores:
    the sooner a program has created a Job, the more of that work falls into its own time.
    """
    sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
    from kubernetes.cluster import Cluster, binaries, missing

    kubectl = shutil.which("kubectl") or shutil.which("kubectl", path=str(binaries()))
    if reason := missing() or ("" if kubectl else "kubectl is not installed: run tests/kubernetes/install.sh"):
        print(f"left out: Jobs on a cluster: {reason}", file=sys.stderr, flush=True)
        return
    assert kubectl
    taken: dict[str, list[Timing]] = {KUBECTL: [], APPLY: []}
    ended: dict[str, list[Timing]] = {KUBECTL: [], APPLY: []}
    with Cluster() as cluster:
        home = root / "kubectl-home"
        home.mkdir()
        # What kubectl knows of the server is in its cache afterwards.
        time_once(Case(KUBECTL, [kubectl, "api-resources"], home, _around(cluster, home)))
        for number in range(rounds):
            for name in taken if number % 2 == 0 else reversed(taken):
                folder = root / f"cluster-{number}-{name.split()[0]}"
                folder.mkdir()
                namespace = cluster.namespace()
                words = _kubectl(kubectl, folder, namespace) if name == KUBECTL else _apply(tool, folder, namespace)
                began_s = time.perf_counter()
                timing = time_once(Case(name, words, folder, _around(cluster, home)))
                _wait_for_all(cluster, namespace)
                taken[name].append(timing)
                ended[name].append(timing._replace(wall_s=time.perf_counter() - began_s))
    for group, timings in ((CREATED, taken), (ENDED, ended)):
        base_s = middle(timings[KUBECTL]).wall_s
        for name, each in timings.items():
            timing = middle(each)
            yield Row(group, JOBS, name, timing, timing.wall_s / base_s, goal=GOAL if name == APPLY else "")


def _around(cluster: "Cluster", home: Path) -> dict[str, str]:
    return {"KUBECONFIG": str(cluster.kubeconfig), "HOME": str(home), "XDG_STATE_HOME": str(home / "state")}


def _kubectl(program: str, folder: Path, namespace: str) -> list[str]:
    spec = {
        "backoffLimit": 0,
        "template": {
            "spec": {
                "restartPolicy": "Never",
                "containers": [{"name": "main", "image": "busybox", "command": _COMMAND}],
            }
        },
    }
    documents = (
        {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": f"job-{number:03}"}, "spec": spec}
        for number in range(JOBS)
    )
    (folder / "jobs.yaml").write_text("".join(f"---\n{json.dumps(document)}\n" for document in documents))
    return [program, "--namespace", namespace, "apply", "-f", "jobs.yaml"]


def _apply(program: str, folder: Path, namespace: str) -> list[str]:
    target = f"{{engine: kubernetes, namespace: {namespace}, allowOldServer: true}}"
    jobs = "".join(
        f"  job-{number:03}:\n    state: running\n    config: {{image: busybox, command: {json.dumps(_COMMAND)}}}\n"
        for number in range(JOBS)
    )
    (folder / "jobs.yaml").write_text(f"apiVersion: reconciler/v1\ntarget: {target}\njobs:\n{jobs}")
    return [program, "apply", "--yes"]


def _wait_for_all(cluster: "Cluster", namespace: str) -> None:
    """Wait until all Jobs are complete. Raises `AssertionError` if that takes too long or if there are not as many."""
    until_s = time.monotonic() + _ALL_END_WITHIN_S
    while True:
        _, document = cluster.request("GET", f"/apis/batch/v1/namespaces/{namespace}/jobs")
        assert len(document["items"]) == JOBS, len(document["items"])
        if all(job["status"].get("succeeded") for job in document["items"]):
            return
        assert time.monotonic() < until_s, "not all Jobs have ended"
        time.sleep(0.2)
