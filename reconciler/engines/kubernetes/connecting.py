"""Opens the engine of a target: reads the kubeconfig, and makes the transport to its API server."""

import base64
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from reconciler.engines.http.network import Network, network_for, proxy_for
from reconciler.engines.http.targets import Access as HttpAccess
from reconciler.engines.http.transport import Transport
from reconciler.engines.kubernetes.api import Api
from reconciler.engines.kubernetes.credentials import Credentials
from reconciler.engines.kubernetes.engine import KubernetesEngine
from reconciler.engines.kubernetes.kubeconfig import Access, Blob, access
from reconciler.engines.kubernetes.settings import DEFAULT_NAMESPACE, Settings
from reconciler.engines.port import EngineError, Surroundings

_TIMEOUT_S, _CONNECT_TIMEOUT_S = 60.0, 10.0
_LONGEST_ANSWER_BYTES = 64 << 20
"""A page of the list, with large Jobs."""


@contextmanager
def connected(settings: Settings, surroundings: Surroundings) -> Iterator[KubernetesEngine]:
    """Yield the engine. Raises `EngineError` for a kubeconfig, certificates or a proxy that can't be used."""
    found = access(settings.kubeconfig, settings.context, surroundings.env)
    credentials = Credentials(found.user, surroundings)
    with tempfile.TemporaryDirectory(prefix="reconciler-") as folder:
        transport = Transport(
            found.server,
            pool_size=surroundings.parallelism,
            timeout_s=_TIMEOUT_S,
            connect_timeout_s=_CONNECT_TIMEOUT_S,
            clock=surroundings.boot_s,
            network=_network(found, folder, surroundings.env),
            body_limit_bytes=_LONGEST_ANSWER_BYTES,
        )
        api = Api(found.server.rstrip("/"), transport, credentials, surroundings, _impersonation(settings, found))
        engine = KubernetesEngine(
            api,
            settings.namespace or found.namespace or DEFAULT_NAMESPACE,
            surroundings,
            allows_old_server=settings.allows_old_server,
        )
        try:
            yield engine
        finally:
            engine.close()


def _network(found: Access, folder: str, env: Mapping[str, str]) -> Network:
    """Return the network settings. Certificates that the kubeconfig holds are written to files in the folder."""
    if found.server_name:
        raise EngineError(
            f"{found.source} has tls-server-name, which is not supported", "name the server as its certificate does"
        )
    ca, certificate, key = (
        _file(blob, os.path.join(folder, name))
        for name, blob in (("ca.pem", found.ca), ("client.pem", found.user.certificate), ("client.key", found.user.key))
    )
    network = network_for(found.server, HttpAccess(ca, certificate, key), env)
    if found.proxy:
        return network._replace(proxy=proxy_for(found.server, {"all_proxy": found.proxy}))
    return network


def _file(blob: Blob, path: str) -> str:
    """Return the path of a file with the content of a blob; "" for none."""
    if not blob.data:
        return blob.path
    try:
        content = base64.b64decode(blob.data, validate=True)
    except ValueError as fault:
        raise EngineError("a certificate or a key in the kubeconfig is no Base64", "have it made anew") from fault
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    return path


def _impersonation(settings: Settings, found: Access) -> dict[str, str]:
    """Return the headers that name the user to act as.

    A header of one name can stand once here, so one group at most can be named.
    """
    user = settings.user or found.user.impersonated
    groups = settings.groups if settings.user else tuple(found.user.impersonated_groups)
    if len(groups) > 1:
        raise EngineError("more than one group to act as can't be sent", "name one group")
    headers = {"Impersonate-User": user} if user else {}
    if groups:
        headers["Impersonate-Group"] = groups[0]
    return headers
