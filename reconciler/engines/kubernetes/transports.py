"""The connections to an API server: certificates, a proxy, and the user to act as."""

import base64
import os
import tempfile
import threading
from collections.abc import Iterator, Mapping
from urllib.parse import quote

from reconciler.engines.http.network import Certificates, Network, Settings, named_proxy, network_for
from reconciler.engines.http.targets import Access as HttpAccess
from reconciler.engines.http.transport import Transport
from reconciler.engines.kubernetes.credentials import Credential
from reconciler.engines.kubernetes.files import refuse_unfit
from reconciler.engines.kubernetes.kubeconfig import Access, Blob, Impersonation
from reconciler.engines.port import EngineError, Surroundings

_TIMEOUT_S, _CONNECT_TIMEOUT_S = 60.0, 10.0
_LONGEST_ANSWER_BYTES = 64 << 20
"""A page of the list, with large Jobs."""

_PROXY = "proxy-url"
"""The field of a kubeconfig that names a proxy. It counts before the variables, and for loopback too, as in client-go:
a tunnel may lead to a server that is on the loopback of another machine."""

_NAME_CHARACTERS = "!#$&'*+-.^_`|~"
"""What may stand in the name of a header beside letters and digits (RFC 9110, 5.6.2), but for the percent sign."""


class Transports:
    """One transport for each client certificate. Several threads may call any method at the same time."""

    def __init__(self, found: Access, acts_as: Impersonation, surroundings: Surroundings) -> None:
        """Raises `EngineError` for a proxy or a user to act as that can't be used."""
        self._found = found
        self._surroundings = surroundings
        self._lines = tuple(_impersonation(acts_as))
        self._network = _network(found, surroundings)
        self._known: dict[tuple[str, str], Transport] = {}
        self._lock = threading.Lock()

    def of(self, credential: Credential) -> Transport:
        """Return the transport that shows the certificate of a credential, or else that of the kubeconfig.

        Raises `EngineError` for certificates that can't be used.
        """
        with self._lock:
            shown = credential.certificate, credential.key
            if shown not in self._known:
                self._known[shown] = self._opened(*shown)
            return self._known[shown]

    def close(self) -> None:
        """Close the connections."""
        with self._lock:
            for transport in self._known.values():
                transport.close()

    def _opened(self, certificate: str, key: str) -> Transport:
        user = self._found.user
        blobs = {"ca.pem": self._found.ca, "client.pem": user.certificate, "client.key": user.key}
        if certificate:
            blobs |= {"client.pem": _printed(certificate, "certificate"), "client.key": _printed(key, "key")}
        # The TLS context reads the files while the transport is made. So no key stays on the disk.
        with tempfile.TemporaryDirectory(prefix="reconciler-") as folder:
            ca, certificate, key = (_file(blob, os.path.join(folder, name)) for name, blob in blobs.items())
            network = self._network._replace(certificate=certificate, key=key, settings=_settings(self._found, blobs))
            if ca:
                trusted = Certificates(file=ca, named_by=network.settings.ca, is_given=bool(self._found.ca.data))
                network = network._replace(trusted=trusted)
            return Transport(
                self._found.server,
                pool_size=self._surroundings.parallelism,
                timeout_s=_TIMEOUT_S,
                connect_timeout_s=_CONNECT_TIMEOUT_S,
                clock=self._surroundings.boot_s,
                network=network,
                lines=self._lines,
                body_limit_bytes=_LONGEST_ANSWER_BYTES,
            )


def _network(found: Access, surroundings: Surroundings) -> Network:
    """Return the network settings, but for certificates. The secrets of a proxy are noted."""
    if found.proxy:
        network = Network(proxy=named_proxy(found.proxy, _PROXY))
    else:
        network = network_for(found.server, HttpAccess(), surroundings.env)
    for secret in network.proxy.secrets if network.proxy else ():
        surroundings.note_credential(secret)
    return network._replace(server_name=found.server_name, is_unverified=found.is_unverified)


def _settings(found: Access, blobs: Mapping[str, Blob]) -> Settings:
    """Return what messages call the settings of a kubeconfig. A file of this program has no name for a person."""
    certificate, key = blobs["client.pem"], blobs["client.key"]
    fields = [blob.named_by for blob in (certificate, key) if blob.data] or [certificate.named_by]
    return Settings(
        found.ca.named_by or f"certificate-authority of the cluster of {found.source}",
        " and ".join(filter(None, fields)) or f"client-certificate of the user of {found.source}",
        f"the server of {found.source}",
        is_given=bool(certificate.data or key.data),
    )


def _printed(text: str, what: str) -> Blob:
    """Return what an exec plugin has printed."""
    return Blob(data=base64.b64encode(text.encode()).decode(), named_by=f"the {what} that the exec plugin printed")


def _file(blob: Blob, path: str) -> str:
    """Return the path of a file with the content of a blob; "" for none. Raises `EngineError` for what is none."""
    if not blob.data:
        _refuse_unfit(blob)
        return blob.path
    try:
        content = base64.b64decode(blob.data, validate=True)
    except ValueError:
        raise EngineError(f"{blob.named_by} is no Base64", "have it made anew") from None
    if b"-----BEGIN " not in content:
        raise EngineError(f"{blob.named_by} is no PEM, once its Base64 is decoded", "have it made anew")
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    return path


def _refuse_unfit(blob: Blob) -> None:
    """Raise `EngineError` for a file that OpenSSL would read for ever, or wait for. It tells of one that is missing."""
    try:
        if blob.path and os.path.exists(blob.path):
            refuse_unfit(blob.path)
    except OSError as fault:
        shown = f"{blob.path} ({blob.named_by}): can't be read: {fault.strerror}"
        raise EngineError(shown, "name another one") from fault


def _impersonation(acts_as: Impersonation) -> Iterator[tuple[str, str]]:
    """Yield the header lines that name the user to act as. Each group is a line of its own.

    See https://kubernetes.io/docs/reference/access-authn-authz/authentication/#user-impersonation.
    """
    if not acts_as.user:
        if acts_as.groups or acts_as.uid or acts_as.extra:
            raise EngineError("groups, a uid or extra fields to act as are named, and no user", "name the user too")
        return
    yield "Impersonate-User", _value(acts_as.user)
    for group in acts_as.groups:
        yield "Impersonate-Group", _value(group)
    if acts_as.uid:
        yield "Impersonate-Uid", _value(acts_as.uid)
    for name, values in acts_as.extra.items():
        for value in values:
            yield f"Impersonate-Extra-{quote(name, safe=_NAME_CHARACTERS)}", _value(value)


def _value(text: str) -> str:
    """Return the value of a header whose bytes are those of the text in UTF-8. http.client writes it as Latin-1."""
    if not text.isprintable() or text != text.strip():
        raise EngineError(f"no request can act as {text!r}", "name it without control characters and outer white space")
    return text.encode().decode("latin-1")
