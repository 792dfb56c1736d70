"""A stand-in for the scheduler and the kubelet of a cluster: it runs pods as processes of this machine.

    python kubelet.py KUBECONFIG FOLDER MARK

It registers one node, binds pods to it, runs the first container of each, and reports what becomes of it. FOLDER holds
`kubelet.pem`, the certificate and the key of its read API, and takes the output of the containers. Every process of a
pod has MARK in its environment, and is killed when the kubelet ends, in whatever way. It has no containers, no images,
no volumes, no probes, no limits, and it never restarts a container.
"""

import ctypes
import heapq
import json
import os
import platform
import queue
import re
import select
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import traceback
from base64 import b64decode
from collections.abc import Callable, Iterator, Mapping, Set
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

import requests
import yaml
from requests.adapters import HTTPAdapter

Document = dict[str, Any]

MARK = "POD_MARK"
"""The variable that each process of a pod has: the mark of the kubelet, a slash, and the uid of the pod."""
OOM_MARK = "OOM_MARK"
"""The variable that names a file. A container that writes `oom` to it and kills itself was out of memory."""
NODE = "node-1"
ALLOCATABLE = {"cpu": "64", "memory": "64Gi", "ephemeral-storage": "64Gi", "pods": "5000"}
GRACE_S = 30
AGAIN_S = 0.3
BACK_OFF_S = 1.0
LONGEST_LINE = 16 * 1024
STRATEGIC = "application/strategic-merge-patch+json"
MERGE = "application/merge-patch+json"

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True)
_UNITS = {"m": Decimal("0.001"), "": Decimal(1)}
_UNITS |= {unit: Decimal(1000) ** power for power, unit in enumerate(("k", "M", "G", "T", "P", "E"), 1)}
_UNITS |= {unit: Decimal(1024) ** power for power, unit in enumerate(("Ki", "Mi", "Gi", "Ti", "Pi", "Ei"), 1)}


class Api:
    """An API server, reached with a token."""

    def __init__(self, server: str, ca_file: str, token: str) -> None:
        self._server = server
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.verify = ca_file
        self._session.headers["Authorization"] = f"Bearer {token}"
        self._session.mount("https://", HTTPAdapter(pool_maxsize=32))

    def request(
        self, method: str, path: str, body: object = None, content_type: str = "application/json", timeout_s: float = 30
    ) -> tuple[int, Any]:
        """Return the status and the document of an answer; its text if it is no JSON."""
        answer = self._session.request(
            method,
            self._server + path,
            json=body,
            headers={"Content-Type": content_type} if body is not None else {},
            timeout=timeout_s,
        )
        is_json = answer.headers.get("Content-Type", "").startswith("application/json")
        return answer.status_code, answer.json() if is_json else answer.text

    def stream(self, path: str, timeout_s: float = 300) -> requests.Response:
        """Return an answer whose body comes bit by bit. It has to be closed."""
        return self._session.get(self._server + path, stream=True, timeout=timeout_s)

    def close(self) -> None:
        self._session.close()


def dies_with_parent(death: signal.Signals, parent: int) -> None:
    """Let the kernel send this process a signal when the thread that forked it ends."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, death, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def marked(*marks: str) -> list[int]:
    """Return the ids of the processes that have one of the marks: of a pod, or of a kubelet for all its pods."""
    wanted = frozenset(marks)
    return [int(entry.name) for entry in os.scandir("/proc") if entry.name.isdigit() and _has(int(entry.name), wanted)]


def _has(pid: int, wanted: Set[str]) -> bool:
    start = f"{MARK}=".encode()
    with suppress(OSError):
        for variable in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
            if variable.startswith(start):
                mark = variable.removeprefix(start).decode(errors="replace")
                return not wanted.isdisjoint((mark, mark.partition("/")[0]))
    return False


def sweep(*marks: str) -> None:
    """Kill every process that has one of the marks, until there is none.

    A descriptor stands for a process while it is looked at, so that no other one is killed, whatever its id belongs to.
    """
    while pids := marked(*marks):
        for pid in pids:
            with suppress(ProcessLookupError):
                process = os.pidfd_open(pid)
                try:
                    if _has(pid, frozenset(marks)):
                        signal.pidfd_send_signal(process, signal.SIGKILL)
                finally:
                    os.close(process)
        time.sleep(0.01)


class Sweeper:
    """Kills what containers leave behind. One look at all processes serves all containers that have ended by then."""

    def __init__(self) -> None:
        self._ended: queue.SimpleQueue[tuple[str, threading.Event]] = queue.SimpleQueue()
        threading.Thread(target=self._work, daemon=True).start()

    def sweep(self, mark: str) -> None:
        """Kill every process that has the mark of a pod, and return once there is none."""
        is_done = threading.Event()
        self._ended.put((mark, is_done))
        is_done.wait()

    def _work(self) -> None:
        while True:
            batch = [self._ended.get()]
            with suppress(queue.Empty):
                while True:
                    batch.append(self._ended.get_nowait())
            sweep(*(mark for mark, _ in batch))
            for _, is_done in batch:
                is_done.set()


def now() -> str:
    """Return the time as the API has it: in whole seconds."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def quantity(text: object) -> Decimal:
    """Return the number that a quantity such as 100m or 2Gi means."""
    match = re.fullmatch(r"([+-]?[0-9.]+(?:[eE][+-]?[0-9]+)?)([a-zA-Z]*)", str(text))
    assert match, f"{text} is no quantity"
    return Decimal(match[1]) * _UNITS[match[2]]


def expanded(text: str, env: Mapping[str, str]) -> str:
    """Replace each $(NAME) of a variable that is there; $$ is a dollar."""

    def value(match: re.Match[str]) -> str:
        return "$" if match[0] == "$$" else env.get(match[1], match[0])

    return re.sub(r"\$\$|\$\(([-._a-zA-Z0-9]+)\)", value, text)


class Ended(NamedTuple):
    """The end of a container."""

    code: int
    reason: str
    at: str
    message: str = ""


class NotYet(Exception):
    """A container can't start for a reason that may pass."""


@dataclass
class Pod:
    """A pod, and what was made of it."""

    document: Document
    folder: Path
    container: subprocess.Popen[bytes] | None = None
    has_started: bool = False
    accepted_s: float = 0.0
    """When the node took it, on the monotonic clock."""
    accepted: str = ""
    started: str = ""
    ended: Ended | None = None
    asked_s: float | None = None
    """When its container was asked to stop."""
    expired: bool = False
    waiting: tuple[str, str] = ("ContainerCreating", "")
    said: Document | None = None
    """The status that was reported last."""
    due_s: float | None = None
    """When it is looked at next, whether or not anything happens to it."""
    gone: bool = False
    """Whether the API server has it no more."""
    written: threading.Event = field(default_factory=threading.Event)
    """Whether all output of its container is in the file."""

    @property
    def uid(self) -> str:
        return str(self.document["metadata"]["uid"])

    @property
    def name(self) -> tuple[str, str]:
        return self.document["metadata"]["namespace"], self.document["metadata"]["name"]

    @property
    def path(self) -> str:
        return "/api/v1/namespaces/{}/pods/{}".format(*self.name)

    @property
    def spec(self) -> Document:
        spec: Document = self.document["spec"]
        return spec

    @property
    def first(self) -> Document:
        container: Document = self.spec["containers"][0]
        return container

    @property
    def log(self) -> Path:
        return self.folder / "output"

    @property
    def is_deleted(self) -> bool:
        return "deletionTimestamp" in self.document["metadata"]

    @property
    def executes(self) -> bool:
        return self.container is not None and not self.ended

    def requested(self) -> dict[str, Decimal]:
        """Return what it asks of a node."""
        total: dict[str, Decimal] = {"pods": Decimal(1)}
        for container in self.spec["containers"]:
            resources = container.get("resources") or {}
            for name, amount in ((resources.get("limits") or {}) | (resources.get("requests") or {})).items():
                total[name] = total.get(name, Decimal(0)) + quantity(amount)
        return total


class Kubelet:
    """One node. All but the reading of events and of output happens in one thread."""

    def __init__(self, api: Api, folder: Path, mark: str) -> None:
        self._api = api
        self._folder = folder / "pods"
        self._mark = mark
        self._sweeper = Sweeper()
        self._todo: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._due: list[tuple[float, str]] = []
        self._pods: dict[str, Pod] = {}
        self._names: dict[tuple[str, str], Pod] = {}
        self._labels = {
            "kubernetes.io/hostname": NODE,
            "kubernetes.io/os": "linux",
            "kubernetes.io/arch": {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine()),
        }

    def serve(self, port: int) -> None:
        """Register the node, whose read API has this port, and run pods for ever."""
        self._folder.mkdir(exist_ok=True)
        while True:
            with suppress(requests.RequestException):
                if self._registered(port):
                    break
            time.sleep(0.1)
        threading.Thread(target=self._watch, daemon=True).start()
        while True:
            wait_s = max(0.0, self._due[0][0] - time.monotonic()) if self._due else None
            with suppress(queue.Empty):
                self._todo.get(timeout=wait_s)()
            while self._due and self._due[0][0] <= time.monotonic():
                at_s, uid = heapq.heappop(self._due)
                if (pod := self._pods.get(uid)) and pod.due_s == at_s:
                    pod.due_s = None
                    self._step(pod)

    def find(self, namespace: str, name: str) -> Pod | None:
        return self._names.get((namespace, name))

    def _registered(self, port: int) -> bool:
        status = {
            "capacity": ALLOCATABLE,
            "allocatable": ALLOCATABLE,
            "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}, {"type": "Hostname", "address": NODE}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
            "conditions": [
                {
                    "type": "Ready",
                    "status": "True",
                    "reason": "KubeletReady",
                    "message": "kubelet is posting ready status",
                    "lastHeartbeatTime": now(),
                    "lastTransitionTime": now(),
                }
            ],
        }
        node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE, "labels": self._labels}}
        code, _ = self._api.request("POST", "/api/v1/nodes", node)
        if code not in (201, 409):
            return False
        # The server has marked the new node as one that is not ready.
        self._api.request("PATCH", f"/api/v1/nodes/{NODE}", {"spec": {"taints": None}}, MERGE)
        code, _ = self._api.request("PATCH", f"/api/v1/nodes/{NODE}/status", {"status": status}, STRATEGIC)
        return code == 200

    def _watch(self) -> None:
        """Hand over each change of a pod. A connection that breaks is opened again, with a list of all pods."""
        while True:
            with suppress(requests.RequestException, ValueError, KeyError):
                code, pods = self._api.request("GET", "/api/v1/pods")
                if code == 200:
                    self._todo.put(partial(self._listed, pods["items"]))
                    self._follow(pods["metadata"]["resourceVersion"])
            time.sleep(0.1)

    def _follow(self, version: str) -> None:
        path = f"/api/v1/pods?watch=1&resourceVersion={version}&timeoutSeconds=240"
        with self._api.stream(path) as answer:
            for line in answer.iter_lines():
                event = json.loads(line)
                if event["type"] == "ERROR":
                    return
                self._todo.put(partial(self._saw, event["object"], gone=event["type"] == "DELETED"))

    def _listed(self, documents: list[Document]) -> None:
        there = {document["metadata"]["uid"] for document in documents}
        for document in documents:
            self._saw(document)
        for pod in [pod for uid, pod in self._pods.items() if uid not in there]:
            self._saw(pod.document, gone=True)

    def _saw(self, document: Document, *, gone: bool = False) -> None:
        uid = document["metadata"]["uid"]
        if uid not in self._pods:
            if gone:
                return
            self._pods[uid] = Pod(document, self._folder / uid)
            self._names[self._pods[uid].name] = self._pods[uid]
        pod = self._pods[uid]
        pod.document = document
        pod.gone = pod.gone or gone
        self._step(pod)

    def _later(self, pod: Pod, at_s: float) -> None:
        """Look at a pod again at this time, or before it."""
        if pod.due_s is None or at_s < pod.due_s:
            pod.due_s = at_s
            heapq.heappush(self._due, (at_s, pod.uid))

    def _step(self, pod: Pod) -> None:
        """Do what is to be done for a pod now."""
        try:
            self._advance(pod)
        except requests.RequestException:
            self._later(pod, time.monotonic() + AGAIN_S)

    def _advance(self, pod: Pod) -> None:
        if pod.gone:
            if pod.executes:
                self._kill(pod)
            else:
                self._forget(pod)
            return
        if not pod.accepted and not self._accepted(pod):
            return
        self._look_at_deadline(pod)
        if pod.executes:
            self._report(pod)
            if pod.is_deleted or pod.expired:
                self._stop(pod)
            return
        if not pod.ended and not pod.is_deleted:
            if pod.expired:
                pod.ended = Ended(137, "ContainerStatusUnknown", now())
            else:
                self._start(pod)
        if pod.ended or not pod.is_deleted:
            self._report(pod)
        if pod.is_deleted and not pod.gone:
            self._remove(pod)

    def _accepted(self, pod: Pod) -> bool:
        """Return whether the node has the pod to run. A pod without a node is bound to this one if it fits."""
        if pod.spec.get("nodeName", NODE) != NODE or pod.spec.get("schedulingGates"):
            return False
        if pod.document["status"].get("phase") in ("Succeeded", "Failed"):
            if pod.is_deleted:
                self._remove(pod)
            return False
        if "nodeName" not in pod.spec and (pod.is_deleted or not self._bound(pod)):
            return False
        pod.accepted_s = time.monotonic()
        pod.accepted = pod.document["status"].get("startTime") or now()
        if pod.folder.exists():  # an earlier kubelet has started it, and its processes have ended with that one
            pod.has_started = True
            pod.started = pod.accepted
            pod.written.set()
            pod.ended = Ended(
                137, "ContainerStatusUnknown", now(), "The container could not be located when the pod was terminated"
            )
        return True

    def _bound(self, pod: Pod) -> bool:
        if reason := self._why_not(pod):
            status = {
                "conditions": [
                    {
                        "type": "PodScheduled",
                        "status": "False",
                        "reason": "Unschedulable",
                        "message": f"0/1 nodes are available: {reason}.",
                    }
                ]
            }
            self._patch(pod, status)
            self._later(pod, time.monotonic() + AGAIN_S)
            return False
        binding = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": pod.name[1], "uid": pod.uid},
            "target": {"apiVersion": "v1", "kind": "Node", "name": NODE},
        }
        code, _ = self._api.request("POST", f"{pod.path}/binding", binding)
        return code == 201  # otherwise it is bound or deleted by now, and an event says so

    def _why_not(self, pod: Pod) -> str:
        """Return why the node can't take a pod; nothing if it can."""
        selector = pod.spec.get("nodeSelector") or {}
        if any(self._labels.get(label) != value for label, value in selector.items()):
            return "1 node(s) didn't match Pod's node affinity"
        wanted = pod.requested()
        taken: dict[str, Decimal] = {}
        for other in self._pods.values():
            if other.accepted and not other.ended:
                for name, amount in other.requested().items():
                    taken[name] = taken.get(name, Decimal(0)) + amount
        short = [
            name
            for name, amount in wanted.items()
            if amount and amount + taken.get(name, Decimal(0)) > quantity(ALLOCATABLE.get(name, "0"))
        ]
        return ", ".join(f"1 Insufficient {name}" for name in short)

    def _look_at_deadline(self, pod: Pod) -> None:
        if (limit_s := pod.spec.get("activeDeadlineSeconds")) is not None and not pod.ended and not pod.expired:
            ends_s = pod.accepted_s + limit_s
            if time.monotonic() >= ends_s:
                pod.expired = True
            else:
                self._later(pod, ends_s)

    def _start(self, pod: Pod) -> None:
        image = str(pod.first.get("image", ""))
        if re.fullmatch(r"(.*/)?missing([:@].*)?", image):
            backs_off_s = pod.accepted_s + BACK_OFF_S
            if time.monotonic() < backs_off_s:
                text = f'rpc error: code = NotFound desc = failed to pull and unpack image "{image}": not found'
                pod.waiting = "ErrImagePull", text
                self._later(pod, backs_off_s)
            else:
                pod.waiting = "ImagePullBackOff", f'Back-off pulling image "{image}"'
            return
        try:
            values = self._variables(pod)
        except NotYet as error:
            pod.waiting = "CreateContainerConfigError", str(error)
            self._later(pod, time.monotonic() + BACK_OFF_S)
            return
        # From here on, no kubelet starts it again.
        pod.folder.mkdir()
        pod.has_started = True
        pod.started = now()
        ours = {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(pod.folder), "HOSTNAME": pod.name[1]}
        env = ours | {OOM_MARK: str(pod.folder / "oom")} | values | {MARK: f"{self._mark}/{pod.uid}"}
        words = [*(pod.first.get("command") or []), *(pod.first.get("args") or [])] or ["true"]
        into_r, into_w = os.pipe()
        parent = os.getpid()
        try:
            pod.container = subprocess.Popen(
                [expanded(word, values) for word in words],
                stdin=subprocess.DEVNULL,
                stdout=into_w,
                stderr=into_w,
                cwd=pod.first.get("workingDir") or pod.folder,
                env=env,
                start_new_session=True,
                preexec_fn=lambda: dies_with_parent(signal.SIGKILL, parent),  # noqa: PLW1509 -- it takes no lock
            )
        except (OSError, ValueError) as error:
            os.close(into_r)
            pod.log.touch()
            pod.written.set()
            pod.ended = Ended(128, "StartError", now(), f"failed to create containerd task: {error}")
            return
        finally:
            os.close(into_w)
        threading.Thread(target=self._attend, args=(pod, pod.container.pid, env, into_r), daemon=True).start()

    def _variables(self, pod: Pod) -> dict[str, str]:
        """Return the variables that a pod names."""
        values: dict[str, str] = {}
        for source in pod.first.get("envFrom") or []:
            for kind in ("secret", "configMap"):
                if reference := source.get(f"{kind}Ref"):
                    found = self._values(pod, kind, reference) or {}
                    values |= {source.get("prefix", "") + name: value for name, value in found.items()}
        for variable in pod.first.get("env") or []:
            source = variable.get("valueFrom") or {}
            if "fieldRef" in source:
                values[variable["name"]] = self._field(pod, source["fieldRef"]["fieldPath"])
                continue
            if not source:
                values[variable["name"]] = expanded(variable.get("value", ""), values)
            for kind in ("secret", "configMap"):
                if reference := source.get(f"{kind}KeyRef"):
                    held = self._values(pod, kind, reference) or {}
                    if reference["key"] in held:
                        values[variable["name"]] = held[reference["key"]]
                    elif not reference.get("optional"):
                        key, name = reference["key"], reference["name"]
                        raise NotYet(f"couldn't find key {key} in {kind.capitalize()} {pod.name[0]}/{name}")
        return values

    def _values(self, pod: Pod, kind: str, reference: Document) -> dict[str, str] | None:
        """Return the values of a Secret or a ConfigMap; None if it is not there, and need not be."""
        name = reference["name"]
        code, document = self._api.request("GET", f"/api/v1/namespaces/{pod.name[0]}/{kind.lower()}s/{name}")
        if code == 404:
            if reference.get("optional"):
                return None
            raise NotYet(f'{kind.lower()} "{name}" not found')
        if code != 200:
            raise NotYet(f"{kind.lower()} {name}: {code}")
        data = document.get("data") or {}
        return {key: b64decode(value).decode() if kind == "secret" else value for key, value in data.items()}

    @staticmethod
    def _field(pod: Pod, path: str) -> str:
        if match := re.fullmatch(r"metadata\.(labels|annotations)\['(.+)'\]", path):
            return str((pod.document["metadata"].get(match[1]) or {}).get(match[2], ""))
        value: Any = {**pod.document, "spec": {**pod.spec, "nodeName": NODE}}
        for part in path.split("."):
            value = value.get(part, "")
        return str(value)

    def _attend(self, pod: Pod, pid: int, env: Mapping[str, str], output: int) -> None:
        """Write down what a container says. When it ends, kill what it leaves behind, and hand over how it ended.

        Its process is not reaped here, so that its id belongs to nobody else while others may send it a signal.
        """
        copier = threading.Thread(target=_copy, args=(output, pod.log), daemon=True)
        copier.start()
        how = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        assert how is not None
        at = now()
        with suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
        self._sweeper.sweep(env[MARK])
        copier.join(5)
        pod.written.set()
        by_itself = how.si_code == os.CLD_EXITED
        code = how.si_status if by_itself else 128 + how.si_status
        reason = "Error" if code else "Completed"
        if not by_itself and how.si_status == signal.SIGKILL:
            with suppress(OSError):
                if Path(env[OOM_MARK]).read_text().startswith("oom"):
                    reason = "OOMKilled"
        self._todo.put(partial(self._has_ended, pod, Ended(code, reason, at)))

    def _has_ended(self, pod: Pod, ended: Ended) -> None:
        assert pod.container
        pod.container.wait()
        pod.ended = ended
        self._step(pod)

    def _stop(self, pod: Pod) -> None:
        """Ask a container to stop, and kill it when the time that it has for that is over."""
        assert pod.container
        grace_s = pod.spec.get("terminationGracePeriodSeconds", GRACE_S)
        if pod.is_deleted:
            grace_s = pod.document["metadata"].get("deletionGracePeriodSeconds", grace_s)
        if pod.asked_s is None:
            pod.asked_s = time.monotonic()
            os.kill(pod.container.pid, signal.SIGTERM)
        if time.monotonic() >= pod.asked_s + grace_s:
            self._kill(pod)
        else:
            self._later(pod, pod.asked_s + grace_s)

    @staticmethod
    def _kill(pod: Pod) -> None:
        assert pod.container
        os.killpg(pod.container.pid, signal.SIGKILL)

    def _remove(self, pod: Pod) -> None:
        """Let the API server forget a pod that was deleted, and of which nothing executes."""
        body = {"gracePeriodSeconds": 0, "preconditions": {"uid": pod.uid}}
        code, _ = self._api.request("DELETE", pod.path, body)
        if code >= 500 or code == 429:
            self._later(pod, time.monotonic() + AGAIN_S)

    def _forget(self, pod: Pod) -> None:
        self._pods.pop(pod.uid, None)
        if self._names.get(pod.name) is pod:
            del self._names[pod.name]

    def _report(self, pod: Pod) -> None:
        """Say what state a pod is in."""
        phase, state = "Pending", {"waiting": _without_empty(reason=pod.waiting[0], message=pod.waiting[1])}
        extra: Document = {}
        if pod.ended:
            phase = "Failed" if pod.ended.code or pod.expired else "Succeeded"
            state = {
                "terminated": _without_empty(
                    exitCode=pod.ended.code,
                    reason=pod.ended.reason,
                    message=pod.ended.message,
                    startedAt=pod.started,
                    finishedAt=pod.ended.at,
                    containerID=f"process://{pod.uid}" if pod.has_started else "",
                )
            }
            if pod.expired:
                extra["reason"] = "DeadlineExceeded"
                extra["message"] = "Pod was active on the node longer than the specified deadline"
        elif pod.executes:
            phase, state = "Running", {"running": {"startedAt": pod.started}}
        is_ready = phase == "Running"
        why = {"Succeeded": "PodCompleted", "Failed": "PodFailed", "Pending": "ContainersNotReady"}.get(phase, "")
        status: Document = {
            "phase": phase,
            "hostIP": "127.0.0.1",
            "podIP": "127.0.0.1",
            "startTime": pod.accepted,
            "conditions": [
                {"type": "Initialized", "status": "True"},
                _without_empty(type="Ready", status=str(is_ready), reason=why),
                _without_empty(type="ContainersReady", status=str(is_ready), reason=why),
            ],
            "containerStatuses": [
                {
                    "name": pod.first["name"],
                    "state": state,
                    "ready": is_ready,
                    "started": is_ready,
                    "restartCount": 0,
                    "image": pod.first.get("image", ""),
                    "imageID": "",
                    "containerID": f"process://{pod.uid}" if pod.has_started else "",
                }
            ],
            **extra,
        }
        self._patch(pod, status)

    def _patch(self, pod: Pod, status: Document) -> None:
        if status == pod.said:
            return
        conditions = [{**each, "lastTransitionTime": now()} for each in status["conditions"]]
        body = {"metadata": {"uid": pod.uid}, "status": {**status, "conditions": conditions}}
        code, answer = self._api.request("PATCH", f"{pod.path}/status", body, STRATEGIC)
        if code >= 500 or code == 429:
            raise requests.RequestException(f"{code} {answer}")
        if code == 200:
            pod.said = status
        elif code in (404, 409):  # it is gone, or another pod has its name
            pod.gone = True
            self._later(pod, time.monotonic())
        else:
            print(f"{pod.path}: {code} {answer}", file=sys.stderr, flush=True)


def _without_empty(**values: object) -> Document:
    return {name: value for name, value in values.items() if value != ""}


def _copy(output: int, path: Path) -> None:
    """Write each line that comes out of a pipe to a file, with its time, as container runtimes do."""
    with open(output, "rb") as source, path.open("wb", buffering=0) as into:
        while line := source.readline(LONGEST_LINE):
            at_s, rest_ns = divmod(time.time_ns(), 10**9)
            at = datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%dT%H:%M:%S")
            tag = "F" if line.endswith(b"\n") else "P"
            into.write(f"{at}.{rest_ns:09}Z {tag} ".encode() + line.removesuffix(b"\n") + b"\n")


class Line(NamedTuple):
    """A line of output, or a part of one."""

    at: str
    text: bytes


def _entries(source: Any) -> Iterator[Line]:
    """Return the lines that a file has, from its position on. A line that is being written is left for later."""
    while True:
        position = source.tell()
        entry = source.readline()
        if not entry.endswith(b"\n"):
            source.seek(position)
            return
        at, tag, text = entry[:-1].split(b" ", 2)
        yield Line(at.decode(), text + (b"\n" if tag == b"F" else b""))


def _tail(lines: list[Line], count: int) -> list[Line]:
    """Return the last lines; parts that belong together count as one."""
    first = len(lines)
    while first and count:
        first -= 1
        while first and not lines[first - 1].text.endswith(b"\n"):
            first -= 1
        count -= 1
    return lines[first:]


class ReadApi(ThreadingHTTPServer):
    """The read API of a kubelet: what containers have said. It asks for a certificate of the cluster's authority."""

    daemon_threads = True

    def __init__(self, certificate: Path, ca_file: str) -> None:
        self.kubelet: Kubelet | None = None
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate)
        self._context.load_verify_locations(ca_file)
        self._context.verify_mode = ssl.CERT_REQUIRED
        super().__init__(("127.0.0.1", 0), ReadHandler)

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        connection.settimeout(30)
        return self._context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False), address

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Keep quiet: clients leave when they like."""


class ReadHandler(BaseHTTPRequestHandler):
    """One request to the read API."""

    protocol_version = "HTTP/1.1"
    server: ReadApi

    def do_GET(self) -> None:
        self.close_connection = True
        parts = urlsplit(self.path)
        query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        match parts.path.strip("/").split("/"):
            case ["healthz"]:
                self._answer(200, "ok")
            case ["containerLogs", namespace, name, container]:
                pod = self.server.kubelet.find(namespace, name) if self.server.kubelet else None
                if not pod:
                    self._answer(404, f'pod "{name}" not found')
                elif pod.first["name"] != container:
                    self._answer(404, f'container "{container}" not found in pod "{name}"')
                elif not pod.has_started:
                    reason = pod.waiting[0]
                    if reason in ("ErrImagePull", "ImagePullBackOff"):
                        reason = "trying and failing to pull image"
                    text = f'container "{container}" in pod "{name}" is waiting to start: {reason}'
                    self._answer(400, text)
                elif query.get("previous") == "true":
                    self._answer(400, f'previous terminated container "{container}" in pod "{name}" not found')
                else:
                    self._send_log(pod, query)
            case _:
                self._answer(404, "404 page not found")

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing."""

    def _answer(self, code: int, text: str) -> None:
        body = text.encode()
        self.send_response(code)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def _send_log(self, pod: Pod, query: Mapping[str, str]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Transfer-Encoding", "chunked")
        self.send_header("Connection", "close")
        self.end_headers()
        left = int(query["limitBytes"]) if "limitBytes" in query else None
        begins = True  # a line, and not a further part of one
        for line in self._lines(pod, query):
            text = f"{line.at} ".encode() + line.text if begins and query.get("timestamps") == "true" else line.text
            begins = line.text.endswith(b"\n")
            if left is not None:
                text = text[:left]
                left -= len(text)
            if text:
                self.wfile.write(b"%x\r\n%b\r\n" % (len(text), text))
            if left == 0:
                break
        self.wfile.write(b"0\r\n\r\n")

    def _lines(self, pod: Pod, query: Mapping[str, str]) -> Iterator[Line]:
        since_s = 0.0
        if "sinceSeconds" in query:
            since_s = time.time() - int(query["sinceSeconds"])
        if "sinceTime" in query:
            since_s = datetime.fromisoformat(query["sinceTime"]).timestamp()
        while not pod.log.exists() and not pod.written.is_set():
            time.sleep(0.01)
        if not pod.log.exists():
            return
        with pod.log.open("rb") as source:
            is_last = pod.written.is_set()
            lines = list(_entries(source))
            if "tailLines" in query:
                lines = _tail(lines, int(query["tailLines"]))
            while True:
                yield from (line for line in lines if datetime.fromisoformat(line.at).timestamp() >= since_s)
                if is_last or query.get("follow") != "true" or self._client_has_left():
                    return
                is_last = pod.written.is_set()
                lines = list(_entries(source))

    def _client_has_left(self) -> bool:
        """Wait a moment. A client says nothing more, so what is there to read is its end."""
        return bool(select.select([self.connection], [], [], 0.05)[0])


def _run(kubeconfig: Path, folder: Path, mark: str) -> None:
    config = yaml.safe_load(kubeconfig.read_text())
    cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
    reads = ReadApi(folder / "kubelet.pem", cluster["certificate-authority"])
    api = Api(cluster["server"], cluster["certificate-authority"], user["token"])
    reads.kubelet = Kubelet(api, folder, mark)
    threading.Thread(target=reads.serve_forever, daemon=True).start()
    reads.kubelet.serve(reads.server_port)


def main() -> int:
    """Run the kubelet in a child. Whichever of the two processes is killed, the other one kills what pods have left."""
    kubeconfig, folder, mark = sys.argv[1:]
    waited = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD}
    signal.pthread_sigmask(signal.SIG_BLOCK, waited)
    parent = os.getpid()
    child = os.fork()
    if not child:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, waited)

        def stop(*_: object) -> None:
            sweep(mark)
            os._exit(1)

        signal.signal(signal.SIGTERM, stop)
        dies_with_parent(signal.SIGTERM, parent)
        try:
            _run(Path(kubeconfig), Path(folder), mark)
        finally:
            traceback.print_exc()
            os._exit(1)
    was_stopped = signal.sigwait(waited) != signal.SIGCHLD
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    sweep(mark)
    return 0 if was_stopped else 1


if __name__ == "__main__":
    sys.exit(main())
