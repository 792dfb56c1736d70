"""Opens the engine of a target: reads the kubeconfig, and makes the transport to its API server."""

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from reconciler.engines.http.endpoints import endpoint_fault, normalize_endpoint
from reconciler.engines.kubernetes.api import Api
from reconciler.engines.kubernetes.credentials import Credential, Credentials
from reconciler.engines.kubernetes.engine import KubernetesEngine
from reconciler.engines.kubernetes.kubeconfig import Access, Impersonation, User, access
from reconciler.engines.kubernetes.settings import DEFAULT_NAMESPACE, Settings
from reconciler.engines.kubernetes.transports import Transports
from reconciler.engines.port import EngineError, Surroundings
from reconciler.model.errors import EngineFailed

_NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


@contextmanager
def connected(settings: Settings, surroundings: Surroundings) -> Iterator[KubernetesEngine]:
    """Yield the engine. Raises `EngineError` for a kubeconfig, certificates or a proxy that can't be used."""
    found = access(settings.kubeconfig, settings.context, surroundings.env)
    _refuse_unverified(found, is_insecure=settings.is_insecure)
    found = found._replace(server=normalize_endpoint(found.server))
    namespace = _namespace(settings, found)
    if settings.user:
        acts_as = Impersonation(settings.user, settings.groups, settings.uid, settings.extra)
    else:
        acts_as = found.user.acts_as
    if found.server.startswith("http://"):
        # As kubectl: what answers there, such as `kubectl proxy`, has credentials of its own.
        found = found._replace(user=User())
    transports = Transports(found, acts_as, surroundings)
    if found.user.exec_plugin is None:  # otherwise, the program may name the certificate
        transports.of(Credential())
    api = Api(found.server, transports, Credentials(found.user, surroundings), surroundings)
    engine = KubernetesEngine(api, namespace, surroundings, allows_old_server=settings.allows_old_server)
    try:
        yield engine
    except BaseException:
        # What went wrong before counts, and not what is left undone.
        with suppress(EngineFailed):
            engine.close()
        raise
    engine.close()


def _namespace(settings: Settings, found: Access) -> str:
    """Return the namespace of the jobs. Raises `EngineError` for a name that no namespace has."""
    namespace = settings.namespace or found.namespace or DEFAULT_NAMESPACE
    if _NAMESPACE.fullmatch(namespace):
        return namespace
    source = "the target" if settings.namespace else found.source
    raise EngineError(
        f"{source} names the namespace {namespace!r}: a name has up to 63 lower-case letters, digits and hyphens",
        "mend it, or name the namespace in the manifest: target.namespace",
    )


def _refuse_unverified(found: Access, *, is_insecure: bool) -> None:
    """Raise `EngineError` for the address of a server that can't be used, or that nobody could be sure of."""
    if fault := endpoint_fault(found.server, insecure=is_insecure):
        raise EngineError(f"the server of {found.source} {fault}", "mend the kubeconfig")
    if found.is_unverified and not is_insecure:
        raise EngineError(
            f"{found.source} has insecure-skip-tls-verify, so anyone on the way could act as the server",
            "name the certificate of its authority in the kubeconfig: certificate-authority; "
            "or allow it in the manifest: target.insecure",
        )
