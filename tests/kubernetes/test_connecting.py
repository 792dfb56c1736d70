"""The ways to a cluster, each on a real API server: credentials, impersonation, certificates, proxies, and files."""

import base64
import os
import stat
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme
import yaml

from kubernetes.cluster import Cluster
from kubernetes.test_scenes import KubernetesProject
from project import NOBODY
from proxies import Proxy, running
from reconciler.engines.kubernetes import kubeconfig
from reconciler.engines.kubernetes.connecting import connected
from reconciler.engines.kubernetes.engine import KubernetesEngine
from reconciler.engines.kubernetes.settings import Settings
from reconciler.engines.port import CredentialsError, EngineError, Status, Surroundings
from waits import until

RBAC = "/apis/rbac.authorization.k8s.io/v1"
V1, V1BETA1 = (f"client.authentication.k8s.io/{version}" for version in ("v1", "v1beta1"))
READS = (
    {"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["get", "list"]},
    {"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]},
)
OTHER_NAME = "cluster.example.test"
"""A name that the certificate of the API server is not for, and that no name server knows."""


class Way:
    """A namespace, and a kubeconfig with one cluster and one user, whose fields a test changes."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self.at = cluster
        self.folder = folder
        self.namespace = cluster.namespace()
        self.cluster: dict[str, Any] = {"server": cluster.server, "certificate-authority": str(cluster.ca_file)}
        self.user: dict[str, Any] = {"token": cluster.token}
        self.env: dict[str, str] = {}
        self.noted: list[str] = []
        self.ahead_s = 0.0
        """The seconds by which the clock of the engine is ahead."""

    def write(self, name: str = "config", parts: str = "cluster user context", **more: Any) -> Path:
        """Write a kubeconfig with some parts: the cluster, the user, the context."""
        context = {"cluster": "test", "user": "test", "namespace": self.namespace}
        values = {"cluster": self.cluster, "user": self.user, "context": context}
        lists = {f"{part}s": [{"name": "test", part: values[part]}] for part in parts.split()}
        current = {"current-context": "test"} if "context" in parts else {}
        path = self.folder / name
        path.write_text(yaml.safe_dump({**current, **lists, **more}))
        return path

    @contextmanager
    def engine(self, **settings: Any) -> Iterator[KubernetesEngine]:
        """Open the engine with the kubeconfig as it is now."""
        if "KUBECONFIG" not in self.env:
            settings = {"kubeconfig": str(self.write()), **settings}
        env = {"PATH": os.environ["PATH"], **self.env}
        surroundings = Surroundings(
            env=env,
            pause=_paused,
            note_credential=self.noted.append,
            boot_s=time.monotonic,
            wall_s=lambda: time.time() + self.ahead_s,
            parallelism=2,
            max_rps=None,
            beside_state=str(self.folder / "state"),
        )
        with connected(Settings(allows_old_server=True, **settings), surroundings) as engine:
            yield engine

    def looks(self, **settings: Any) -> Status:
        """Read a job that is not there. So the answer is MISSING if the user may read."""
        with self.engine(**settings) as engine:
            return engine.observe("a").status

    def allow(self, kind: str, name: str, *rules: Mapping[str, Any]) -> None:
        """Give rights in the namespace to a user or a group. Wait until the API server knows of it."""
        subject = {"kind": kind, "name": name, "apiGroup": "rbac.authorization.k8s.io"}
        if kind == "ServiceAccount":
            subject = {"kind": kind, "name": name, "namespace": self.namespace}
        self._allow(f"{RBAC}/namespaces/{self.namespace}", "Role", f"{kind}-{name}".lower(), subject, rules)

    def allow_everywhere(self, user: str, *rules: Mapping[str, Any]) -> None:
        """Give rights that belong to no namespace to a user."""
        subject = {"kind": "User", "name": user, "apiGroup": "rbac.authorization.k8s.io"}
        self._allow(RBAC, "ClusterRole", f"{self.namespace}-{user}", subject, rules)

    def _allow(self, path: str, kind: str, name: str, subject: Mapping[str, str], rules: Any) -> None:
        self.ask("POST", f"{path}/{kind.lower()}s", {"metadata": {"name": name}, "rules": list(rules)})
        ref = {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name}
        binding = {"metadata": {"name": name}, "roleRef": ref, "subjects": [subject]}
        self.ask("POST", f"{path}/{kind.lower()}bindings", binding)

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        status, answer = self.at.request(method, path, body)
        assert status < 300, (method, path, answer)
        return answer

    def program(self, script: str, version: str = V1, **more: Any) -> None:
        """Have a program of the PATH print the credential of the user. `$calls` counts its calls."""
        path = self.folder / "bin" / "login"
        path.parent.mkdir(exist_ok=True)
        counted = (
            f'echo >> {self.folder}/calls; calls=$(wc -l < {self.folder}/calls); answer=\'"apiVersion": "{version}"\''
        )
        path.write_text(f"#!/bin/sh\n{counted}\n{script}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        self.env["PATH"] = f"{path.parent}{os.pathsep}{os.environ['PATH']}"
        self.user = {"exec": {"apiVersion": version, "command": "login", "interactiveMode": "Never", **more}}

    @property
    def calls(self) -> int:
        return len((self.folder / "calls").read_text().splitlines())


@pytest.fixture
def way(cluster: Cluster, tmp_path: Path) -> Way:
    return Way(cluster, tmp_path)


def in_base64(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()


# Who asks


def test_each_group_to_act_as_counts(way: Way) -> None:
    way.allow("Group", "two", *READS)
    until(lambda: _may(way, user="ada", groups=("two",)))
    assert way.looks(user="ada", groups=("one", "two", "three")) is Status.MISSING
    for groups in ((), ("one",), ("one,two",), ("one, two",)):
        with pytest.raises(EngineError, match='User "ada" cannot list resource "jobs"'):
            way.looks(user="ada", groups=groups)


def test_the_user_to_act_as_of_a_kubeconfig_counts_unless_the_target_names_one(way: Way) -> None:
    way.allow("Group", "two", *READS)
    way.user |= {"as": "Zoë", "as-groups": ["one", "two"]}
    assert until(lambda: _may(way))
    with pytest.raises(EngineError, match='User "eve" cannot list'):
        way.looks(user="eve")
    way.user["as-groups"] = []
    with pytest.raises(EngineError, match='User "Zoë" cannot list'):
        way.looks()


def test_further_facts_about_the_user_to_act_as_are_sent(way: Way) -> None:
    name = f"clerk-{way.namespace}"
    way.allow_everywhere(
        name,
        {"apiGroups": [""], "resources": ["users"], "verbs": ["impersonate"]},
        {
            "apiGroups": ["authentication.k8s.io"],
            "resources": ["userextras/example.org%2fscopes", "userextras/example.org/scopes"],
            "resourceNames": ["view", "watch"],
            "verbs": ["impersonate"],
        },
    )
    way.allow("User", "ada", *READS)
    way.user = client_certificate(way, name)
    extra = {"example.org/scopes": ("view", "watch")}
    until(lambda: _may(way, user="ada", extra=extra))
    with pytest.raises(EngineError, match="cannot impersonate resource"):
        way.looks(user="ada", extra={"example.org/scopes": ("view", "edit")})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"user": "a\nImpersonate-Group: system:masters"}, "no request can act as"),
        ({"user": " ada"}, "no request can act as"),
        ({"user": "ada", "groups": ("a\r\nX: y",)}, "no request can act as"),
    ],
)
def test_no_name_becomes_a_header_of_its_own(way: Way, settings: Mapping[str, Any], message: str) -> None:
    with pytest.raises(EngineError, match=message):
        way.looks(**settings)


def test_groups_without_a_user_are_refused(way: Way) -> None:
    way.user["as-groups"] = ["one"]
    with pytest.raises(EngineError, match="and no user"):
        way.looks()


def client_certificate(way: Way, name: str, ca: trustme.CA | None = None) -> dict[str, str]:
    """Make a client certificate. Return the fields of a user."""
    issued = (ca or way.at.ca).issue_cert("ada@example.test", common_name=name, organization_name="team")
    paths = way.folder / "client.pem", way.folder / "client.key"
    issued.cert_chain_pems[0].write_to_path(str(paths[0]))
    issued.private_key_pem.write_to_path(str(paths[1]))
    return {"client-certificate": paths[0].name, "client-key": paths[1].name}


def test_a_client_certificate_names_the_user_and_its_group(way: Way) -> None:
    way.allow("Group", "team", *READS)
    way.user = client_certificate(way, "ada")
    assert until(lambda: _may(way))
    way.user = {f"{name}-data": in_base64(way.folder / path) for name, path in way.user.items()}
    for path in way.folder.glob("client.*"):
        path.unlink()
    assert way.looks() is Status.MISSING
    way.user = client_certificate(way, "ada", trustme.CA())
    with pytest.raises((EngineError, CredentialsError)):
        way.looks()


def test_a_certificate_that_can_not_be_used_is_named_with_the_field(way: Way) -> None:
    way.user = {"client-certificate": "gone.pem", "client-key": "gone.key"}
    with pytest.raises(
        EngineError,
        match=r"gone.pem \(client-certificate of the user test in .*\): can't be read",
    ):
        way.looks()
    way.user = {"client-certificate-data": "?", "client-key-data": "?"}
    with pytest.raises(EngineError, match="is no Base64"):
        way.looks()


def test_a_token_that_the_server_does_not_know_is_not_shown(way: Way) -> None:
    way.user = {"token": "made-up-token"}
    with pytest.raises(CredentialsError, match=r"does not accept the credentials \(401\)") as refused:
        way.looks()
    assert "made-up-token" not in f"{refused.value.message} {refused.value.hint}"
    assert way.noted == ["made-up-token"]


def test_a_password_is_refused_before_anything_is_sent(way: Way) -> None:
    way.user = {"username": "ada", "password": "made-up"}
    with pytest.raises(EngineError, match=r"a password, which Kubernetes removed in 1\.19"):
        way.looks()


# Tokens that rotate


def account_token(way: Way, secret: str) -> str:
    """Make a token of the service account that the server knows as long as a secret is there."""
    path = f"/api/v1/namespaces/{way.namespace}"
    made = way.ask("POST", f"{path}/secrets", {"metadata": {"name": secret}})
    bound = {"kind": "Secret", "apiVersion": "v1", "name": secret, "uid": made["metadata"]["uid"]}
    asked = {"spec": {"expirationSeconds": 3600, "boundObjectRef": bound}}
    return str(way.ask("POST", f"{path}/serviceaccounts/runner/token", asked)["status"]["token"])


def forget(way: Way, secret: str) -> None:
    """Have the server refuse a token. It takes its own cache ten seconds to know."""
    way.ask("DELETE", f"/api/v1/namespaces/{way.namespace}/secrets/{secret}")


def service_account(way: Way) -> None:
    way.ask("POST", f"/api/v1/namespaces/{way.namespace}/serviceaccounts", {"metadata": {"name": "runner"}})
    way.allow("ServiceAccount", "runner", *READS)


def test_the_service_account_of_a_pod_is_used_and_its_token_rotates(way: Way, monkeypatch: pytest.MonkeyPatch) -> None:
    service_account(way)
    folder = way.folder / "account"
    folder.mkdir()
    monkeypatch.setattr(kubeconfig, "_ACCOUNT", str(folder))
    (folder / "token").write_text(account_token(way, "first"))
    (folder / "ca.crt").write_bytes(way.at.ca_file.read_bytes())
    (folder / "namespace").write_text(way.namespace)
    host, port = way.at.place
    way.env = {"HOME": str(way.folder), "KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": str(port)}
    assert until(lambda: _may(way, kubeconfig=""))
    with way.engine(kubeconfig="") as engine:
        assert engine.observe("a").status is Status.MISSING
        (folder / "token").write_text(account_token(way, "second"))
        forget(way, "first")
        # Within a minute, only a refusal has the file read again.
        until(lambda: engine.observe("a").status is Status.MISSING and len(set(way.noted)) == 2)
    with pytest.raises(EngineError, match="there is no context prod: this pod has a service account"):
        way.looks(kubeconfig="", context="prod")


def test_a_token_file_of_a_kubeconfig_rotates(way: Way) -> None:
    (way.folder / "token").write_text(f"{way.at.token}\n")
    way.user = {"tokenFile": "token"}
    with way.engine() as engine:
        assert engine.observe("a").status is Status.MISSING
        (way.folder / "token").write_text("made-up")
        assert engine.observe("a").status is Status.MISSING
        way.ahead_s = 61
        with pytest.raises(CredentialsError):
            engine.observe("a")
    (way.folder / "token").write_text("")
    with pytest.raises(CredentialsError, match="token holds no token"):
        way.looks()


# Programs


@pytest.mark.parametrize("version", [V1, V1BETA1])
def test_a_program_prints_the_token_and_is_asked_again_after_its_time(way: Way, version: str) -> None:
    way.program(
        'case $KUBERNETES_EXEC_INFO in *\'"kind": "ExecCredential"\'*) ;; *) exit 4 ;; esac\n'
        'until=$(date -u -d "+10 minutes" +%Y-%m-%dT%H:%M:%SZ)\n'
        'echo "{$answer, \\"status\\": {\\"token\\": \\"$TOKEN\\", \\"expirationTimestamp\\": \\"$until\\"}}"',
        version,
        env=[{"name": "TOKEN", "value": way.at.token}],
    )
    with way.engine() as engine:
        for _ in range(3):
            assert engine.observe("a").status is Status.MISSING
        assert way.calls == 1
        way.ahead_s = 580  # it is renewed half a minute before its end
        assert engine.observe("a").status is Status.MISSING
        assert way.calls > 1


def test_a_program_is_asked_again_after_a_refusal(way: Way) -> None:
    way.program(
        f"[ $calls = 1 ] && TOKEN=made-up || TOKEN={way.at.token}\n"
        'echo "{$answer, \\"status\\": {\\"token\\": \\"$TOKEN\\"}}"'
    )
    assert way.looks() is Status.MISSING
    assert way.calls == 2


def test_a_program_prints_a_client_certificate(way: Way) -> None:
    way.allow("Group", "team", *READS)
    client_certificate(way, "ada")
    way.program(
        f"""quoted() {{ sed 's/$/\\\\n/' {way.folder}/$1 | tr -d '\\n'; }}
printf '{{%s, "status": {{"clientCertificateData": "%s", "clientKeyData": "%s"}}}}' "$answer" \\
  "$(quoted client.pem)" "$(quoted client.key)"
"""
    )
    assert until(lambda: _may(way))


def test_a_program_that_fails_is_told_without_its_secrets(cluster: Cluster, tmp_path: Path) -> None:
    project = KubernetesProject(tmp_path, cluster)
    way = Way(cluster, tmp_path)
    hint = "install login from your administrator"
    env = [{"name": "CLIENT_SECRET", "value": "made-up-secret"}]
    way.program('echo "no session for $CLIENT_SECRET" >&2; exit 3', env=env, installHint=hint)
    project.env |= {"KUBECONFIG": str(way.write()), "PATH": way.env["PATH"]}
    project.declare()
    run = project.run("apply", "--yes")
    assert run.code == 1, run
    assert "the exec plugin login failed: exit code 3: no session for [redacted]" in " ".join(run.err.split())
    assert hint in " ".join(run.err.split())
    for words in (("status",), ("plan", "--refresh"), ("drift", "--verbose"), ("apply", "--yes", "--format", "json")):
        run = project.run(*words)
        assert "made-up-secret" not in run.out + run.err
    assert b"made-up-secret" not in b"".join(project.files[name] for name in project.files if "config" not in name)


# Certificates of the server, and its name


def test_the_certificate_is_checked_for_the_name_that_the_kubeconfig_names(way: Way) -> None:
    way.cluster["tls-server-name"] = "kubernetes.default"
    assert way.looks() is Status.MISSING
    way.cluster["tls-server-name"] = OTHER_NAME
    with pytest.raises(EngineError, match=f"certificate is not valid for '{OTHER_NAME}'"):
        way.looks()


def test_a_server_that_is_reached_by_another_name_is_known_by_its_own(way: Way) -> None:
    _, port = way.at.place
    with running(Proxy(port)) as proxy:
        way.cluster |= {"server": f"https://{OTHER_NAME}:{port}", "proxy-url": f"http://127.0.0.1:{proxy.port}"}
        with pytest.raises(EngineError, match="Hostname mismatch"):
            way.looks()
        way.cluster["tls-server-name"] = "kubernetes"
        assert way.looks() is Status.MISSING


def test_only_the_authority_of_the_kubeconfig_is_trusted(way: Way) -> None:
    data = in_base64(way.at.ca_file)
    way.cluster = {"server": way.at.server, "certificate-authority-data": data}
    assert way.looks() is Status.MISSING
    trustme.CA().cert_pem.write_to_path(str(way.folder / "other.pem"))
    for fields in ({}, {"certificate-authority": "other.pem"}):
        way.cluster = {"server": way.at.server, **fields}
        with pytest.raises(EngineError, match="the certificate is not accepted") as refused:
            way.looks()
        assert refused.value.hint.startswith("name the CA that signed it: certificate-authority of the cluster ")
    way.cluster = {"server": way.at.server, "certificate-authority": "gone.pem"}
    with pytest.raises(
        EngineError, match=r"gone.pem \(certificate-authority of the cluster test in .*\): can't be read"
    ):
        way.looks()


def test_a_server_is_left_unverified_only_if_the_target_says_so(cluster: Cluster, tmp_path: Path) -> None:
    way, project = Way(cluster, tmp_path), KubernetesProject(tmp_path, cluster)
    way.cluster = {"server": cluster.server, "insecure-skip-tls-verify": True}
    project.env["KUBECONFIG"] = str(way.write())
    project.declare()
    run = project.run("plan", "--refresh")
    assert (run.code, "anyone on the way could act as the server" in run.err) == (1, True), run
    manifest = tmp_path / "jobs.yaml"
    manifest.write_text(manifest.read_text().replace("allowOldServer: true", "allowOldServer: true, insecure: true"))
    run = project.run("plan", "--refresh")
    assert run.code == 0, run
    assert "target.insecure allows an API server whose certificate is not checked" in " ".join(
        f"{run.out} {run.err}".split()
    )
    assert "InsecureRequestWarning" not in run.err


def test_a_token_is_sent_to_no_server_in_clear(way: Way) -> None:
    way.cluster["server"] = f"http://{OTHER_NAME}"
    with pytest.raises(EngineError, match="is http: use https"):
        way.looks()


# Proxies


def test_a_proxy_of_the_environment_leads_to_the_server(way: Way) -> None:
    _, port = way.at.place
    way.cluster["server"] = f"https://kubernetes.default:{port}"
    with running(Proxy(port)) as proxy:
        way.env["HTTPS_PROXY"] = f"http://ada:made-up-password@127.0.0.1:{proxy.port}"
        assert way.looks() is Status.MISSING
        assert way.at.token not in "".join(proxy.heads)
        assert proxy.heads[0].startswith(f"CONNECT kubernetes.default:{port} ")
        assert "made-up-password" in way.noted
        way.env["NO_PROXY"] = ".default"
        with pytest.raises(EngineError, match="does not resolve"):
            way.looks()


def test_the_proxy_of_a_kubeconfig_counts_first_also_for_loopback(way: Way) -> None:
    _, port = way.at.place
    way.env |= {"HTTPS_PROXY": "http://127.0.0.1:1", "NO_PROXY": "*"}
    with running(Proxy(port)) as proxy:
        way.cluster["proxy-url"] = f"http://ada:made-up-password@127.0.0.1:{proxy.port}"
        assert way.looks() is Status.MISSING
        assert len(proxy.heads) == 1
        proxy.stage = "407"
        with pytest.raises(EngineError, match="the proxy refuses the connection: 407") as refused:
            way.looks()
    assert "proxy-url" in refused.value.hint
    assert "made-up-password" not in f"{refused.value.message} {refused.value.hint}"
    way.cluster["proxy-url"] = "ftp://ada:made-up-password@127.0.0.1"
    with pytest.raises(EngineError, match="proxy-url names a proxy of an unknown kind") as refused:
        way.looks()
    assert "made-up-password" not in f"{refused.value.message} {refused.value.hint}"


# Files


def test_several_files_make_one_kubeconfig_and_the_first_counts(way: Way) -> None:
    right, way.user = way.user, {"token": "made-up"}
    wrong = way.write("last", "user context", **{"current-context": "gone"})
    way.user = right
    files = [way.folder / "missing", way.write("users", "user"), way.write("clusters", "cluster")]
    files.append(way.write("contexts", "context"))
    way.env["KUBECONFIG"] = os.pathsep.join(map(str, [*files, wrong]))
    assert way.looks() is Status.MISSING
    way.env["KUBECONFIG"] = os.pathsep.join(map(str, [wrong, *files]))
    with pytest.raises(EngineError, match="there is no context gone"):
        way.looks()
    with pytest.raises(CredentialsError):
        way.looks(context="test")


def test_no_message_shows_a_secret_of_the_kubeconfig(cluster: Cluster, tmp_path: Path) -> None:
    project, way = KubernetesProject(tmp_path, cluster), Way(cluster, tmp_path)
    way.user = {"token": "made-up-token", **client_certificate(way, "ada")}
    key = (tmp_path / "client.key").read_text()
    way.cluster["proxy-url"] = "http://ada:made-up-password@127.0.0.1:1"
    project.env |= {"KUBECONFIG": str(way.write()), **NOBODY}
    project.declare()
    for words in (
        ("plan", "--refresh"),
        ("apply", "--yes", "--verbose"),
        ("status", "--format", "json"),
        ("logs", "a"),
    ):
        run = project.run(*words)
        assert run.code != 0
        for secret in ("made-up-token", "made-up-password", key.splitlines()[1]):
            assert secret not in run.out + run.err


def _paused(seconds: float) -> bool:
    time.sleep(seconds)
    return False


def _may(way: Way, **settings: Any) -> bool:
    """Whether the user may read by now: an API server takes a moment to know a new role."""
    try:
        return way.looks(**settings) is Status.MISSING
    except EngineError as error:
        if "cannot" not in error.message:
            raise
        return False
