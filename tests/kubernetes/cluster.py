"""A cluster of Kubernetes on this machine: a real API server, and a stand-in for its nodes."""

import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import requests
import trustme
import yaml

from daemons import Daemons, free_ports, kill_group
from kubernetes.kubelet import NODE, Api, sweep

BINARIES = "KUBERNETES_BINARIES"
"""The variable that names a folder with other binaries than those of `install.sh`."""
_HERE = "127.0.0.1"


class Cluster(Daemons):
    """A cluster of its own."""

    starts_within_s = 180.0

    def __init__(self) -> None:
        super().__init__("reconciler-kubernetes-")
        self.ca = trustme.CA()
        """The authority of the server's certificate, and of those of its clients."""
        self.ca_file = self.folder / "ca.pem"
        self.kubeconfig = self.folder / "kubeconfig"
        self.token = secrets.token_hex(16)
        """The token of a user who may do everything."""
        self.kubeconfig_of_nobody = self.folder / "nobody.kubeconfig"
        """The file of a user who may do nothing."""
        self.server = ""
        self.mark = secrets.token_hex(8)
        """What the processes of pods have in their environment."""
        self._tokens = {
            self.kubeconfig: self.token,
            self.kubeconfig_of_nobody: secrets.token_hex(16),
            self.folder / "kubelet.kubeconfig": secrets.token_hex(16),
        }
        self._api: Api | None = None
        self._certify()

    @property
    def version(self) -> tuple[int, int]:
        """The version of the API server, such as (1, 20)."""
        return version_of(binaries())

    def request(
        self, method: str, path: str, body: object = None, content_type: str = "application/json"
    ) -> tuple[int, Any]:
        """Return the status and the document of an answer; its text if it is no JSON."""
        assert self._api
        return self._api.request(method, path, body, content_type)

    def stream(self, path: str) -> requests.Response:
        """Return an answer whose body comes bit by bit, such as a log that is followed. It has to be closed."""
        assert self._api
        return self._api.stream(path)

    @property
    def place(self) -> tuple[str, int]:
        """The host and the port of the API server."""
        return _HERE, int(self.server.rpartition(":")[2])

    def kubeconfig_for(self, server: str) -> Path:
        """Write a kubeconfig that reaches the API server at another address, such as that of a proxy."""
        path = self.folder / f"{secrets.token_hex(5)}.kubeconfig"
        self._write_kubeconfig(path, server, self.token)
        return path

    def namespace(self) -> str:
        """Make a namespace. Return its name."""
        name = f"test-{secrets.token_hex(5)}"
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        code, answer = self.request("POST", "/api/v1/namespaces", body)
        assert code == 201, answer
        return name

    def _stop_all(self) -> None:
        if self._api:
            self._api.close()
            self._api = None
        if kubelet := self._processes.pop("kubelet", None):
            kubelet.terminate()
            with suppress(subprocess.TimeoutExpired):
                kubelet.wait(10)
            kill_group(kubelet)
        super()._stop_all()
        sweep(self.mark)

    def _certify(self) -> None:
        ca = self.ca
        ca.cert_pem.write_to_path(str(self.ca_file))
        names = (_HERE, "localhost", "kubernetes", "kubernetes.default")
        for part in ("api", "kubelet"):
            issued = ca.issue_cert(*names, common_name=part)
            issued.private_key_and_cert_chain_pem.write_to_path(str(self.folder / f"{part}.pem"))
        # The key that signs the tokens of service accounts.
        ca.issue_cert("tokens.example.test").private_key_pem.write_to_path(str(self.folder / "tokens.key"))
        all_rights = "system:masters"
        rows = [
            f"{self.token},admin,1,{all_rights}",
            f"{self._tokens[self.kubeconfig_of_nobody]},nobody,2",
            f"{self._tokens[self.folder / 'kubelet.kubeconfig']},kubelet,3,{all_rights}",
        ]
        (self.folder / "tokens.csv").write_text("\n".join(rows) + "\n")

    def _start(self) -> None:
        programs = binaries()
        _, minor = version_of(programs)
        folder = self.folder
        store, store_peer, port = free_ports(3)
        store_url, peer_url = f"http://{_HERE}:{store}", f"http://{_HERE}:{store_peer}"
        self.server = f"https://{_HERE}:{port}"
        for path, token in self._tokens.items():
            self._write_kubeconfig(path, self.server, token)
        self._api = Api(self.server, str(self.ca_file), self.token)
        shutil.rmtree(folder / "etcd", ignore_errors=True)
        own = programs / "etcd"
        self._run_daemon(
            "etcd",
            str(own) if own.exists() else "etcd",
            f"--data-dir={folder / 'etcd'}",
            f"--listen-client-urls={store_url}",
            f"--advertise-client-urls={store_url}",
            f"--listen-peer-urls={peer_url}",
            f"--initial-advertise-peer-urls={peer_url}",
            f"--initial-cluster=default={peer_url}",
            "--unsafe-no-fsync",
        )
        gates = ["--feature-gates=TTLAfterFinished=true"] if minor < 21 else []
        self._run_daemon(
            "kube-apiserver",
            str(programs / "kube-apiserver"),
            f"--etcd-servers={store_url}",
            f"--bind-address={_HERE}",
            f"--secure-port={port}",
            "--endpoint-reconciler-type=none",
            f"--tls-cert-file={folder / 'api.pem'}",
            f"--tls-private-key-file={folder / 'api.pem'}",
            f"--client-ca-file={self.ca_file}",
            f"--token-auth-file={folder / 'tokens.csv'}",
            "--authorization-mode=RBAC",
            "--service-account-issuer=https://kubernetes.default",
            f"--service-account-key-file={folder / 'tokens.key'}",
            f"--service-account-signing-key-file={folder / 'tokens.key'}",
            "--service-cluster-ip-range=10.0.0.0/24",
            "--disable-admission-plugins=ServiceAccount",
            f"--kubelet-certificate-authority={self.ca_file}",
            f"--kubelet-client-certificate={folder / 'api.pem'}",
            f"--kubelet-client-key={folder / 'api.pem'}",
            "--kubelet-preferred-address-types=InternalIP",
            *gates,
        )
        program = Path(__file__).with_name("kubelet.py")
        self._run_daemon(
            "kubelet", sys.executable, str(program), str(folder / "kubelet.kubeconfig"), str(folder), self.mark
        )
        self._wait("the API server is ready", lambda: self._answers("/readyz"))
        self._run_daemon(
            "kube-controller-manager",
            str(programs / "kube-controller-manager"),
            f"--kubeconfig={self.kubeconfig}",
            "--leader-elect=false",
            # Without podgc: it takes a node for dead that no lease speaks for, and removes its pods.
            "--controllers=job,garbagecollector,ttl-after-finished,namespace",
            "--secure-port=0",
            # With 20 requests a second, sixty Jobs would take a quarter of a minute.
            "--kube-api-qps=1000",
            "--kube-api-burst=1000",
            *(["--port=0"] if minor < 24 else []),
            *gates,
        )
        self._wait("the node is there", lambda: self._answers(f"/api/v1/nodes/{NODE}"))
        self._wait("the default namespace is there", lambda: self._answers("/api/v1/namespaces/default"))
        self._see_controllers_at_work()

    def _see_controllers_at_work(self) -> None:
        """Wait until a Job has run, and until its pod is removed with it."""
        container = {"name": "main", "image": "none", "command": ["true"]}
        template = {"spec": {"restartPolicy": "Never", "containers": [container]}}
        jobs, pods = "/apis/batch/v1/namespaces/default/jobs", "/api/v1/namespaces/default/pods"
        code, answer = self.request("POST", jobs, {"metadata": {"name": "first"}, "spec": {"template": template}})
        assert code == 201, answer
        self._wait("a Job runs", lambda: "completionTime" in self.request("GET", f"{jobs}/first")[1]["status"])
        code, answer = self.request("DELETE", f"{jobs}/first", {"propagationPolicy": "Background"})
        assert code == 200, answer
        self._wait("its pod is removed", lambda: self.request("GET", pods)[1]["items"] == [])

    def _write_kubeconfig(self, path: Path, server: str, token: str) -> None:
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": {"server": server, "certificate-authority": str(self.ca_file)}}],
            "users": [{"name": "test", "user": {"token": token}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test", "namespace": "default"}}],
            "current-context": "test",
        }
        path.write_text(yaml.safe_dump(config))
        path.chmod(0o600)

    def _run_daemon(self, part: str, *command: str) -> None:
        env = {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(self.folder)}
        # The kubelet has to kill what its pods have started.
        death = signal.SIGTERM if part == "kubelet" else signal.SIGKILL
        self._launch(part, *command, env=env, folder=self.folder, death=death)

    def _answers(self, path: str) -> bool:
        assert self._api
        with suppress(requests.RequestException):
            return self._api.request("GET", path, timeout_s=5)[0] == 200
        return False


def binaries() -> Path:
    """Return the folder of the API server and the controller manager."""
    if named := os.environ.get(BINARIES):
        return Path(named)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "reconciler-tests" / "kubernetes-1.20.2"


def missing() -> str:
    """Return what is not there that a cluster needs; nothing if all is there."""
    folder = binaries()
    for name in ("kube-apiserver", "kube-controller-manager"):
        if not os.access(folder / name, os.X_OK):
            return f"{name} is not in {folder}: run tests/kubernetes/install.sh, or set {BINARIES}"
    if not os.access(folder / "etcd", os.X_OK) and not shutil.which("etcd"):
        return "etcd is not installed: run tests/kubernetes/install.sh"
    return ""


def version_of(folder: Path) -> tuple[int, int]:
    """Return the version of the API server in a folder."""
    said = subprocess.run([folder / "kube-apiserver", "--version"], capture_output=True, text=True, check=True).stdout
    match = re.search(r"v(\d+)\.(\d+)", said)
    assert match, said
    return int(match[1]), int(match[2])
