"""The way to a cluster, as kubectl would find it."""

import base64
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from reconciler.engines.kubernetes import kubeconfig
from reconciler.engines.kubernetes.api import segment
from reconciler.engines.kubernetes.connecting import connected
from reconciler.engines.kubernetes.credentials import Credential, Credentials
from reconciler.engines.kubernetes.kubeconfig import Access, Blob, ExecPlugin, Impersonation, User, access
from reconciler.engines.kubernetes.settings import Settings
from reconciler.engines.port import CredentialsError, EngineError, Surroundings

CLUSTER = {"server": "https://one.example:6443", "certificate-authority": "ca.pem"}


def write(path: Path, **fields: Any) -> str:
    """Write a kubeconfig. `fields` replace those of one context, one cluster and one user."""
    whole = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "prod",
        "contexts": [{"name": "prod", "context": {"cluster": "one", "user": "ada", "namespace": "batch"}}],
        "clusters": [{"name": "one", "cluster": CLUSTER}],
        "users": [{"name": "ada", "user": {"token": "made-up"}}],
    }
    path.write_text(yaml.safe_dump({**whole, **{name.replace("_", "-"): value for name, value in fields.items()}}))
    return str(path)


def around(clock: list[float], noted: list[str] | None = None, **env: str) -> Surroundings:
    found = noted if noted is not None else []
    env = {"PATH": os.environ["PATH"], **env}
    return Surroundings(env, lambda _: False, found.append, lambda: clock[0], lambda: clock[0], 1, None, os.devnull)


def test_the_current_context_counts_and_paths_are_relative_to_their_file(tmp_path: Path) -> None:
    found = access("", "", {"KUBECONFIG": write(tmp_path / "config")})
    assert (found.server, found.namespace, found.user.token) == ("https://one.example:6443", "batch", "made-up")
    assert found.ca.path == str(tmp_path / "ca.pem")
    assert found.ca.named_by == f"certificate-authority of the cluster one in {tmp_path / 'config'}"
    assert "made-up" not in repr(found)


def test_of_several_files_the_first_entry_of_a_name_counts(tmp_path: Path) -> None:
    other = {"cluster": {"server": "https://two.example"}, "name": "one"}
    first = write(tmp_path / "a", current_context="", clusters=[other], users=[], contexts=[])
    second = write(tmp_path / "b")
    env = {"KUBECONFIG": os.pathsep.join([first, str(tmp_path / "missing"), "", second])}
    found = access("", "", env)
    assert (found.server, found.user.token) == ("https://two.example", "made-up")


def test_a_context_is_taken_by_its_name_or_refused_with_those_that_are_there(tmp_path: Path) -> None:
    contexts = [{"name": name, "context": {"cluster": "one"}} for name in ("test", "prod")]
    path = write(tmp_path / "config", contexts=contexts)
    assert access(path, "test", {}).user == User()
    with pytest.raises(EngineError, match="there is no context stage") as refused:
        access(path, "stage", {})
    assert refused.value.hint == "the contexts are prod, test"


def test_without_any_file_it_is_said_where_one_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=f"{tmp_path}/.kube/config is not there, and this is no pod"):
        access("", "", {"HOME": str(tmp_path)})
    with pytest.raises(EngineError, match=r"gone \(target.kubeconfig\) is not there"):
        access(str(tmp_path / "gone"), "", {})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"current_context": ""}, "has no current-context"),
        ({"clusters": []}, "names no cluster with a server"),
        ({"users": [{"name": "ada", "user": {"auth-provider": {"name": "gcp"}}}]}, "auth-provider"),
        ({"users": [{"name": "ada", "user": {"username": "ada", "password": "made-up"}}]}, "a password, which Kubern"),
        ({"users": [{"name": "ada", "user": {"exec": {"apiVersion": "v0", "command": "x"}}}]}, "of the version v0"),
    ],
)
def test_what_can_not_be_used_is_refused(tmp_path: Path, fields: Mapping[str, Any], message: str) -> None:
    with pytest.raises(EngineError, match=message) as refused:
        access(write(tmp_path / "config", **fields), "", {})
    assert "made-up" not in f"{refused.value.message} {refused.value.hint}"


def _context(**fields: Any) -> dict[str, Any]:
    return {"contexts": [{"name": "prod", "context": {"cluster": "one", "user": "ada", **fields}}]}


def _user(**fields: Any) -> dict[str, Any]:
    return {"users": [{"name": "ada", "user": {name.replace("_", "-"): value for name, value in fields.items()}}]}


def _cluster(**fields: Any) -> dict[str, Any]:
    return {"clusters": [{"name": "one", "cluster": {**CLUSTER, **fields}}]}


_EXEC = {"apiVersion": "client.authentication.k8s.io/v1", "command": "x"}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (_context(namespace=123), "expected text at namespace"),
        (_context(user="eve"), "names the user eve, who is not there"),
        (_context(user=5), "expected text at user"),
        ({"contexts": [{"name": "prod", "context": "one"}]}, "expected a mapping at context"),
        ({"contexts": "prod"}, "expected a list of mappings at contexts"),
        (_user(**{"as": 123}), "expected text at as"),
        (_user(**{"as": {"user": "made-up"}}), "expected text at as"),
        (_user(**{"as": "ada"}, as_groups="made-up"), "expected a list of texts at as-groups"),
        (_user(**{"as": "ada"}, as_groups=[5]), "expected a list of texts at as-groups"),
        (_user(**{"as": "ada"}, as_user_extra={"scopes": "made-up"}), "expected a list of texts at scopes"),
        (_user(token=12345), "expected text at token"),
        (_user(exec=5), "expected a mapping at exec"),
        (_user(exec={**_EXEC, "args": "made-up"}), "expected a list of texts at args"),
        (_user(exec={**_EXEC, "env": [{"name": "A", "value": 12345}]}), "expected text at value"),
        (_cluster(**{"certificate-authority-data": 12345}), "expected text at certificate-authority-data"),
        (_cluster(**{"insecure-skip-tls-verify": "yes"}), "expected true or false at insecure-skip-tls-verify"),
    ],
)
def test_a_field_of_a_wrong_type_is_refused_and_its_value_is_not_shown(
    tmp_path: Path, fields: Mapping[str, Any], message: str
) -> None:
    """Otherwise, a job would run in another namespace, or as another user, than the file says."""
    with pytest.raises(EngineError, match=f"config: {message}|{message}") as refused:
        access(write(tmp_path / "config", **fields), "", {})
    shown = f"{refused.value.message} {refused.value.hint}"
    assert "12345" not in shown
    assert "made-up" not in shown


def test_a_file_that_is_empty_is_said_to_be_empty(tmp_path: Path) -> None:
    (tmp_path / "config").write_text("")
    for named, env in ((str(tmp_path / "config"), {}), ("", {"KUBECONFIG": str(tmp_path / "config")})):
        with pytest.raises(EngineError, match=f"{tmp_path}/config is empty"):
            access(named, "", env)


@pytest.mark.parametrize("content", ["- a\n", "a: [\n", "token: made-up: {\n"])
def test_a_file_that_is_no_kubeconfig_is_not_quoted(tmp_path: Path, content: str) -> None:
    (tmp_path / "config").write_text(content)
    with pytest.raises(EngineError) as refused:
        access(str(tmp_path / "config"), "", {})
    assert "made-up" not in f"{refused.value.message} {refused.value.hint}"


def test_a_token_file_is_read_again_after_a_minute_and_after_a_refusal(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("first\n")
    clock, noted = [1000.0], list[str]()
    credentials = Credentials(User(token_file=str(path)), around(clock, noted))
    first = credentials.current()
    assert first.token == "first"
    path.write_text("second")
    assert credentials.current().token == "first"
    newer = credentials.renewed(first)
    assert newer is not None
    assert newer.token == "second"
    assert credentials.renewed(newer) is None
    path.write_text("third")
    clock[0] += 61
    assert credentials.current().token == "third"
    assert noted == ["first", "second", "second", "third"]


def plugin(tmp_path: Path, script: str) -> ExecPlugin:
    """An exec plugin that is a shell script."""
    path = tmp_path / "plugin"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return ExecPlugin(
        "client.authentication.k8s.io/v1",
        str(path),
        ["get-token", "--client-secret", "made-up-secret", "--level=info"],
        {"CALLS": str(tmp_path / "calls"), "API_KEY": "made-up-key"},
        "ask ada",
        {},
    )


def test_a_plugin_prints_a_token_that_lasts_until_its_time(tmp_path: Path) -> None:
    script = """\
echo "$1 $KUBERNETES_EXEC_INFO" >> "$CALLS"
printf '{"apiVersion": "client.authentication.k8s.io/v1", "status": {"token": "made-up-%s", ' "$(wc -l < "$CALLS")"
echo '"expirationTimestamp": "1970-01-01T01:00:00Z"}}'
"""
    clock = [0.0]
    credentials = Credentials(User(exec_plugin=plugin(tmp_path, script)), around(clock))
    assert credentials.current().token == "made-up-1"
    clock[0] = 3500.0
    assert credentials.current().token == "made-up-1"
    clock[0] = 3580.0  # it is renewed half a minute before its end
    assert credentials.current().token == "made-up-2"
    first, _ = (tmp_path / "calls").read_text().splitlines()
    assert first.startswith('get-token {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential"')


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("exit 3", "the exec plugin plugin failed: exit code 3"),
        ("echo no json", "printed no ExecCredential"),
        ("echo '{\"status\": {}}'", "another version than client.authentication.k8s.io/v1, which the kubeconfig names"),
        (
            'echo \'{"apiVersion": "client.authentication.k8s.io/v1", "status": {}}\'',
            "a credential without a token and a certificate",
        ),
        ("echo log in first >&2; exit 1", "failed: exit code 1: log in first$"),
        ('echo "$3 of $API_KEY" at info >&2; exit 1', r"exit code 1: \[redacted\] of \[redacted\] at info$"),
    ],
)
def test_a_plugin_that_fails_is_named(tmp_path: Path, script: str, message: str) -> None:
    credentials = Credentials(User(exec_plugin=plugin(tmp_path, script)), around([0.0]))
    with pytest.raises(CredentialsError, match=message):
        credentials.current()


def test_a_plugin_that_can_not_be_started_is_named_with_its_advice(tmp_path: Path) -> None:
    gone = plugin(tmp_path, "exit 0")._replace(command=str(tmp_path / "gone"))
    credentials = Credentials(User(exec_plugin=gone), around([0.0]))
    with pytest.raises(CredentialsError, match="gone can't be started: No such file or directory") as refused:
        credentials.current()
    assert refused.value.hint == "ask ada"


def test_a_plugin_gets_no_credential_of_another_service(tmp_path: Path) -> None:
    script = 'echo "token ${BYTENITE_ACCESS_TOKEN-none}, profile $PROFILE" >&2; exit 1'
    surroundings = around([0.0], BYTENITE_ACCESS_TOKEN="made-up", PROFILE="prod")
    with pytest.raises(CredentialsError, match="exit code 1: token none, profile prod"):
        Credentials(User(exec_plugin=plugin(tmp_path, script)), surroundings).current()


def test_the_secrets_of_a_kubeconfig_stand_in_no_representation(tmp_path: Path) -> None:
    user = User(token="made-up", exec_plugin=plugin(tmp_path, ""), certificate=Blob(data="made-up"))
    found = Access("https://one.example", user, "a test", proxy="http://ada:made-up@proxy.example")
    assert "made-up" not in f"{found!r} {user!r} {Credential('made-up', 'made-up', 'made-up')!r}"


def test_a_user_to_act_as_is_read_whole(tmp_path: Path) -> None:
    named = {"as": "ada", "as-groups": ["one", "two"], "as-uid": "7", "as-user-extra": {"scopes": ["view"]}}
    found = access(write(tmp_path / "config", users=[{"name": "ada", "user": named}]), "", {})
    assert found.user.acts_as == Impersonation("ada", ["one", "two"], "7", {"scopes": ["view"]})


@pytest.mark.parametrize("namespace", [".", "..", "%2e%2e", "../../x", "a/b", "A", "a" * 64, "a\n", "-a"])
def test_a_namespace_that_can_be_none_is_refused_before_any_request(tmp_path: Path, namespace: str) -> None:
    path = write(tmp_path / "config", **_context(namespace=namespace), **_cluster(server="https://127.0.0.1:1"))
    settings = Settings(kubeconfig=path)
    with (
        pytest.raises(EngineError, match=r"the context prod in .* names the namespace") as refused,
        connected(settings, around([0.0])),
    ):
        pass
    assert "target.namespace" in refused.value.hint


def test_a_service_account_names_no_namespace_that_can_be_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kubeconfig, "_ACCOUNT", str(tmp_path))
    (tmp_path / "token").write_text("made-up")
    (tmp_path / "namespace").write_text("../kube-system")
    env = {"HOME": str(tmp_path), "KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": "1"}
    with (
        pytest.raises(EngineError, match="the service account of this pod names the namespace"),
        connected(Settings(), around([0.0], None, **env)),
    ):
        pass


def test_a_name_is_one_segment_of_a_path() -> None:
    assert segment("train-1") == "train-1"
    assert segment("a/../%2e") == "a%2F..%2F%252e"
    for name in ("", ".", ".."):
        with pytest.raises(EngineError, match="no object of a cluster has the name"):
            segment(name)


def _opened(path: str) -> None:
    with connected(Settings(kubeconfig=path), around([0.0])):
        pass


@pytest.mark.parametrize("content", ["[" * 100_000, "a: " + "[" * 2000 + "]" * 2000, "{a: " * 3000, "2020-13-45"])
def test_a_kubeconfig_that_no_parser_takes_is_told(tmp_path: Path, content: str) -> None:
    (tmp_path / "config").write_text(content)
    with pytest.raises(EngineError, match=f"{tmp_path}/config is (nested too deeply|no YAML|no kubeconfig)"):
        access(str(tmp_path / "config"), "", {})


def test_a_file_that_has_no_end_or_never_begins_is_not_read(tmp_path: Path) -> None:
    pipe, large = tmp_path / "pipe", tmp_path / "large"
    os.mkfifo(pipe)
    large.touch()
    os.truncate(large, 5 << 20)
    for path, why in (
        ("/dev/zero", "it is no regular file"),
        (pipe, "it is no regular file"),
        (large, "more than 4 MiB"),
    ):
        with pytest.raises(EngineError, match=f"{path} can't be read: .*{why}"):
            access(str(path), "", {})
        config = write(tmp_path / "config", **_user(tokenFile=str(path)))
        with pytest.raises(CredentialsError, match=f"{path} can't be read: .*{why}"):
            Credentials(access(config, "", {}).user, around([0.0])).current()
        for field in ("client-certificate", "client-key"):
            given = {"client-certificate": "a.pem", "client-key": "a.key", field: str(path)}
            config = write(tmp_path / "config", **_user(**given), **_cluster(**{"certificate-authority": ""}))
            with pytest.raises(EngineError, match=rf"{path} \({field} of the user ada in .*: can't be read: .*{why}"):
                _opened(config)
        with pytest.raises(EngineError, match=rf"{path} \(certificate-authority of the cluster one in .*{why}"):
            _opened(write(tmp_path / "config", **_cluster(**{"certificate-authority": str(path)})))


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("?", "is no Base64"),
        (base64.b64encode(b"no PEM").decode(), "is no PEM, once its Base64 is decoded"),
        (base64.b64encode(b"-----BEGIN CERTIFICATE-----\n?").decode(), ".*: can't be (used|read)"),
    ],
)
def test_a_certificate_in_a_kubeconfig_is_named_by_its_field_and_entry(tmp_path: Path, content: str, why: str) -> None:
    unused = _cluster(**{"certificate-authority": ""})
    ours = {"client-certificate-data": content, "client-key-data": content}
    with pytest.raises(EngineError, match=f"client-certificate-data .*of the user ada in .*{why}") as refused:
        _opened(write(tmp_path / "config", **_user(**ours), **unused))
    assert "reconciler-" not in f"{refused.value.message} {refused.value.hint}"
    with pytest.raises(EngineError, match=f"certificate-authority-data of the cluster one in .*{why}") as refused:
        _opened(write(tmp_path / "config", **_cluster(**{"certificate-authority-data": content})))
    assert "reconciler-" not in f"{refused.value.message} {refused.value.hint}"


@pytest.mark.parametrize("name", ["a..b", ".a", "a" * 64, "a b", "a\0b"])
def test_a_name_that_no_certificate_has_is_told_with_its_field(tmp_path: Path, name: str) -> None:
    with pytest.raises(EngineError, match=r"the cluster one in .*: tls-server-name is no name of a host"):
        access(write(tmp_path / "config", **_cluster(**{"tls-server-name": name})), "", {})


def test_a_server_that_is_down_is_named_once_and_with_its_context(tmp_path: Path) -> None:
    config = write(tmp_path / "config", **_cluster(**{"server": "http://127.0.0.1:1", "certificate-authority": ""}))
    with (
        pytest.raises(EngineError, match=r"^127\.0\.0\.1:1: the host refused the connection$") as refused,
        connected(Settings(kubeconfig=config), around([0.0])) as engine,
    ):
        engine.observe("a")
    assert refused.value.hint == f"check the server of the context prod in {config}: nothing listens there"
