"""The way to a cluster: kubeconfig files, or the service account of a pod.

The rules are those of kubectl (https://kubernetes.io/docs/concepts/configuration/organize-cluster-access-kubeconfig/):

- `target.kubeconfig` names one file. Otherwise KUBECONFIG names files, which are merged, and otherwise it is
  `~/.kube/config`. A file of KUBECONFIG that is missing is passed over.
- Of two entries of one name, that of the first file counts, as a whole. The first file that sets `current-context`
  counts.
- A relative path in a file is relative to that file.
- Without any file, a pod uses its service account.
"""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from reconciler.engines.kubernetes.fields import text
from reconciler.engines.kubernetes.files import content_of
from reconciler.engines.port import EngineError

_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
_SECRET = re.compile("token|secret|password|passwd|key", re.IGNORECASE)
"""The names of variables and options whose values no text may show."""

_SHORTEST_SECRET = 4
"""A shorter value is a part of common words. Its removal would make every message unreadable."""


_DEEPEST = 64


class Blob(NamedTuple):
    """The content of a certificate or a key: the path of a file, or the content itself in Base64. Both may be "".

    `named_by` says which field of which entry it is.
    """

    path: str = ""
    data: str = ""
    named_by: str = ""

    def __bool__(self) -> bool:
        return bool(self.path or self.data)

    def __repr__(self) -> str:
        return f"Blob(path={self.path!r})"


class ExecPlugin(NamedTuple):
    """A program that prints a credential (https://kubernetes.io/docs/reference/access-authn-authz/authentication/).

    `env` is added to the environment. `install_hint` says how to get the program. `cluster` is the cluster as the
    program gets it; empty unless the kubeconfig asks for that.
    """

    api_version: str
    command: str
    args: Sequence[str]
    env: Mapping[str, str]
    install_hint: str
    cluster: Mapping[str, Any]

    def __repr__(self) -> str:
        return f"ExecPlugin(command={self.command!r})"

    @property
    def secrets(self) -> Iterator[str]:
        """The values of variables and options that are secrets by their names."""
        options = [*zip(self.args, self.args[1:], strict=False), *(each.partition("=")[::2] for each in self.args)]
        given = [(name, value) for name, value in options if name.startswith("-") and not value.startswith("-")]
        for name, value in (*self.env.items(), *given):
            if _SECRET.search(name) and len(value) >= _SHORTEST_SECRET:
                yield value


class Impersonation(NamedTuple):
    """Whom requests act as. Without a user, they act as the user who is authenticated."""

    user: str = ""
    groups: Sequence[str] = ()
    uid: str = ""
    extra: Mapping[str, Sequence[str]] = {}


NO_BLOB = Blob()
NOBODY = Impersonation()


@dataclass(frozen=True, slots=True)
class User:
    """How requests are authenticated. Nothing is set for an anonymous user."""

    token: str = field(default="", repr=False)
    token_file: str = ""
    certificate: Blob = NO_BLOB
    key: Blob = NO_BLOB
    exec_plugin: ExecPlugin | None = None
    acts_as: Impersonation = NOBODY


class Access(NamedTuple):
    """A cluster, a user and a namespace. `source` names where they come from, in words.

    `server_name` is the name that the server's certificate is for; "" for the host of `server`. `proxy` is the URL of a
    proxy, which may hold a password. `is_unverified` is set if the server's certificate is not to be checked.
    """

    server: str
    user: User
    source: str
    namespace: str = ""
    ca: Blob = NO_BLOB
    server_name: str = ""
    proxy: str = ""
    is_unverified: bool = False

    def __repr__(self) -> str:
        return f"Access(server={self.server!r}, source={self.source!r})"


def access(kubeconfig: str, context: str, env: Mapping[str, str]) -> Access:
    """Return the way to the cluster of a context.

    `kubeconfig` is the path of a file, or "" for the files of the environment. `context` is "" for the current context.
    Raises `EngineError` if there is no such context, or if a file can't be used.
    """
    paths = _paths(kubeconfig, env)
    files = list(_read(paths, is_named=bool(kubeconfig)))
    if not files:
        if empty := [path for path in paths if os.path.exists(path)]:
            raise EngineError(f"{', '.join(empty)} is empty", "write a kubeconfig there, or name another one")
        return _service_account(paths, context, env)
    name = context or next((name for file in files if (name := file.text("current-context"))), "")
    where = ", ".join(file.path for file in files)
    if not name:
        raise EngineError(f"{where} has no current-context", "name a context: target.context")
    found = _entry(files, "contexts", "context", name)
    if found is None:
        known = sorted({text(entry, "name") for file in files for entry in file.entries("contexts")})
        raise EngineError(f"there is no context {name} in {where}", f"the contexts are {', '.join(known) or 'none'}")
    cluster = _entry(files, "clusters", "cluster", found.text("cluster"))
    if cluster is None or not cluster.text("server"):
        raise EngineError(f"the context {name} in {where} names no cluster with a server", "mend the file")
    user = _entry(files, "users", "user", found.text("user"))
    if user is None and found.text("user"):
        raise EngineError(
            f"the context {name} in {where} names the user {found.text('user')}, who is not there",
            "mend the file; without a user, requests would be those of an anonymous one",
        )
    return Access(
        cluster.text("server"),
        _user(user, cluster) if user else User(),
        f"the context {name} in {where}",
        found.text("namespace"),
        cluster.blob("certificate-authority"),
        _server_name(cluster),
        cluster.text("proxy-url"),
        cluster.flag("insecure-skip-tls-verify"),
    )


class _Part:
    """A mapping of a kubeconfig file, and the file.

    A field of a wrong type is refused, as kubectl does. Were it taken for one that is not there, a job could run in
    another namespace, or as another user, than the file says. No message shows the value, which may be a token.
    `title` names an entry of a list, such as "the user ada".
    """

    def __init__(self, path: str, value: Mapping[str, Any], title: str = "") -> None:
        self.path = path
        self.value = value
        self.where = f"{title} in {path}" if title else path

    def text(self, name: str) -> str:
        found: str = self._typed(name, "text", str) or ""
        return found

    def texts(self, name: str) -> list[str]:
        found = self._typed(name, "a list of texts", list) or []
        if not all(isinstance(each, str) for each in found):
            raise self._fault(name, "a list of texts")
        return list(found)

    def flag(self, name: str) -> bool:
        return bool(self._typed(name, "true or false", bool))

    def part(self, name: str) -> "_Part | None":
        """The mapping of a field; None if there is none."""
        found = self._typed(name, "a mapping", Mapping)
        return None if found is None else _Part(self.path, found)

    def _typed(self, name: str, what: str, kind: type) -> Any:
        found = self.value.get(name)
        if found is not None and not isinstance(found, kind):
            raise self._fault(name, what)
        return found

    def _fault(self, name: str, what: str) -> EngineError:
        quoted = "; write a number in quotes" if what == "text" else ""
        return EngineError(f"{self.path}: expected {what} at {name}", f"mend the file{quoted}")

    def entries(self, name: str) -> list[Mapping[str, Any]]:
        """The named entries of a list, such as `contexts`."""
        found = self._typed(name, "a list of mappings", list) or []
        if not all(isinstance(entry, Mapping) for entry in found):
            raise self._fault(name, "a list of mappings")
        return list(found)

    def file(self, name: str) -> str:
        """The path that a field names, or ""."""
        path = self.text(name)
        return os.path.join(os.path.dirname(os.path.abspath(self.path)), path) if path else ""

    def blob(self, name: str) -> Blob:
        """A certificate or a key. The content counts before the path, as in client-go."""
        if data := self.text(f"{name}-data"):
            return Blob(data=data, named_by=f"{name}-data of {self.where}")
        path = self.file(name)
        return Blob(path=path, named_by=f"{name} of {self.where}") if path else NO_BLOB


def _paths(kubeconfig: str, env: Mapping[str, str]) -> list[str]:
    if kubeconfig:
        return [os.path.expanduser(kubeconfig)]
    if listed := env.get("KUBECONFIG", ""):
        return [path for path in listed.split(os.pathsep) if path]
    return [os.path.join(env.get("HOME", "") or os.path.expanduser("~"), ".kube", "config")]


def _read(paths: Sequence[str], *, is_named: bool) -> Iterator[_Part]:
    """Yield the files. A missing file is passed over, unless the target names it."""
    import yaml

    for path in paths:
        try:
            value = _loaded(content_of(path))
        except FileNotFoundError as fault:
            if is_named:
                raise EngineError(f"{path} (target.kubeconfig) is not there", "name a kubeconfig that is") from fault
            continue
        except OSError as fault:
            raise EngineError(f"{path} can't be read: {fault.strerror}", "mend it, or name another one") from fault
        except RecursionError:
            raise EngineError(f"{path} is nested too deeply", "mend it, or name another kubeconfig") from None
        except (yaml.YAMLError, ValueError) as fault:
            # The text of the fault may quote a line of the file, which may hold a token.
            mark = getattr(fault, "problem_mark", None)
            place = f":{mark.line + 1}" if mark else ""
            raise EngineError(f"{path}{place} is no YAML", "mend it, or name another kubeconfig") from None
        if value is None:
            continue
        if not isinstance(value, Mapping):
            raise EngineError(f"{path} is no kubeconfig: it holds no mapping", "name another one")
        yield _Part(path, value)


def _loaded(content: bytes) -> Any:
    """Return the value of a YAML text. Raises `RecursionError` for one that is nested deeper than any kubeconfig."""
    import yaml

    class Loader(yaml.SafeLoader):
        """Stops at a depth at which the time that PyYAML takes, its square, is still short."""

        depth = 0

        def compose_node(self, parent: Any, index: Any) -> Any:
            self.depth += 1
            if self.depth > _DEEPEST:
                raise RecursionError
            node = super().compose_node(parent, index)
            self.depth -= 1
            return node

    return yaml.load(content, Loader)  # noqa: S506  it is a SafeLoader


def _entry(files: Sequence[_Part], lists: str, kind: str, name: str) -> _Part | None:
    """The first entry of a name in the lists of all files, or None."""
    for file in files:
        for entry in file.entries(lists):
            if text(entry, "name") == name:
                found = _Part(file.path, entry).part(kind)
                return _Part(file.path, found.value if found else {}, f"the {kind} {name}")
    return None


def _server_name(cluster: _Part) -> str:
    """Return the name that the certificate of a server is for; "" for the host of the server."""
    name = cluster.text("tls-server-name")
    try:
        is_name = name.encode("idna") is not None and not name.startswith(".") and name.isprintable()
    except UnicodeError:
        is_name = False
    if not is_name or " " in name:
        raise EngineError(f"{cluster.where}: tls-server-name is no name of a host: {name!r}", "mend the file")
    return name


def _user(part: _Part, cluster: _Part) -> User:
    if part.value.get("auth-provider"):
        raise EngineError(
            f"{part.path} has a user with auth-provider, which Kubernetes removed in 1.26",
            "have the kubeconfig made anew, with an exec plugin",
        )
    plugin, extra = part.part("exec"), part.part("as-user-extra")
    if not any(part.value.get(name) for name in ("token", "tokenFile", "exec")) and part.text("username"):
        raise EngineError(
            f"{part.path} has a user with a password, which Kubernetes removed in 1.19",
            "have the kubeconfig made anew, with a token, a client certificate or an exec plugin",
        )
    return User(
        token=part.text("token"),
        token_file=part.file("tokenFile"),
        certificate=part.blob("client-certificate"),
        key=part.blob("client-key"),
        exec_plugin=None if plugin is None else _exec_plugin(plugin, cluster),
        acts_as=Impersonation(
            part.text("as"),
            part.texts("as-groups"),
            part.text("as-uid"),
            {} if extra is None else {str(name): extra.texts(name) for name in extra.value},
        ),
    )


def _exec_plugin(part: _Part, cluster: _Part) -> ExecPlugin:
    version = part.text("apiVersion")
    if version not in ("client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1"):
        raise EngineError(
            f"{part.path} has an exec plugin of the version {version or 'none'}",
            "have the kubeconfig made anew: client.authentication.k8s.io/v1 and /v1beta1 are read",
        )
    if part.text("interactiveMode") == "Always":
        raise EngineError(f"{part.path} has an exec plugin that needs a terminal", "use one that needs none")
    command = part.text("command")
    known = cluster.value if part.flag("provideClusterInfo") else {}
    return ExecPlugin(
        version,
        # A command with a separator is relative to the file, and any other one is looked for in PATH.
        part.file("command") if os.sep in command else command,
        part.texts("args"),
        {each.text("name"): each.text("value") for each in (_Part(part.path, entry) for entry in part.entries("env"))},
        part.text("installHint"),
        {name: value for name, value in known.items() if name != "certificate-authority"},
    )


def _service_account(paths: Sequence[str], context: str, env: Mapping[str, str]) -> Access:
    host, port = env.get("KUBERNETES_SERVICE_HOST", ""), env.get("KUBERNETES_SERVICE_PORT", "")
    token = os.path.join(_ACCOUNT, "token")
    if not host or not port or not os.path.exists(token):
        raise EngineError(
            f"no kubeconfig: {', '.join(paths)} is not there, and this is no pod with a service account",
            "set KUBECONFIG, or name the file in the manifest: target.kubeconfig",
        )
    if context:
        raise EngineError(
            f"there is no context {context}: this pod has a service account, and no kubeconfig",
            "leave target.context out, or set KUBECONFIG",
        )
    try:
        namespace = content_of(os.path.join(_ACCOUNT, "namespace")).decode(errors="replace").strip()
    except OSError:
        namespace = ""
    shown = f"[{host}]" if ":" in host else host
    ca = Blob(path=os.path.join(_ACCOUNT, "ca.crt"))
    user = User(token_file=token)
    return Access(f"https://{shown}:{port}", user, "the service account of this pod", namespace, ca)
