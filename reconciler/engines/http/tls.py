"""TLS of the transport: the trusted certificates, the client's certificate, and sockets that the watchdog can shut
down.
"""

import os
import ssl
from typing import Any

from reconciler.engines.http.exchange import Stage, ongoing
from reconciler.engines.http.network import Network
from reconciler.model.errors import EngineError


def tls_context(network: Network) -> ssl.SSLContext:
    """Return the context of all TLS connections to the service. Raises `EngineError` for files that can't be used."""
    file, folder, named_by, _ = network.trusted
    if not named_by:
        from requests.utils import DEFAULT_CA_BUNDLE_PATH

        file = DEFAULT_CA_BUNDLE_PATH
    try:
        for part in folder.split(os.pathsep) if folder else ():
            os.listdir(part)  # OpenSSL ignores a folder that does not exist
        context = ssl.create_default_context(cafile=file or None, capath=folder or None)
    except OSError as error:
        raise EngineError(
            f"{network.trusted}: can't be read: {_reason(error)}",
            f"check {named_by}: it is to name certificates of authorities, in PEM",
        ) from error
    if network.certificate:
        _load_client_certificate(context, network)
    if network.is_unverified:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        # Each request would print a warning. Whoever allows this has been warned by the plan.
        import urllib3

        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
    context.sslsocket_class = _Socket
    context.sslobject_class = _Object
    return context


def proxy_tls_context(network: Network) -> ssl.SSLContext:
    """Return the context for TLS with the proxy itself. The proxy gets no certificate of the client."""
    context = tls_context(network._replace(certificate="", key="", is_unverified=False))
    context.sslsocket_class = _ProxySocket
    return context


def _load_client_certificate(context: ssl.SSLContext, network: Network) -> None:
    """Load the client's certificate and key into a context. Raises `EngineError` for files that can't be used."""
    certificate, key, setting = network.certificate, network.key, network.settings.certificate
    paths = f"{certificate} and {key}" if key else certificate
    files = setting if network.settings.is_given else f"{paths} ({setting})"
    hint = f"check {setting}: a certificate and its key without a passphrase, in PEM, in one file or two"
    for file in filter(None, (certificate, key)):
        try:
            with open(file, "rb"):
                pass
        except OSError as error:
            raise EngineError(f"{file} ({setting}): can't be read: {_reason(error)}", hint) from error
    try:
        # Without the argument `password`, OpenSSL would ask for a passphrase at the terminal.
        context.load_cert_chain(certificate, key or None, password=_passphrase)
    except (OSError, ValueError) as error:
        words = str(error) if isinstance(error, ValueError) and not isinstance(error, OSError) else _reason(error)
        raise EngineError(f"{files}: can't be used: {words}", hint) from error


def _passphrase() -> str:
    raise ValueError("the key is encrypted")


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return (error.reason or "no certificate in PEM").replace("_", " ").lower()
    return (error.strerror if isinstance(error, OSError) else None) or type(error).__name__


class _Socket(ssl.SSLSocket):
    """A TLS socket that the watchdog knows before the handshake begins."""

    _stage = Stage.TLS

    def do_handshake(self, block: bool = False) -> None:
        exchange = ongoing.exchange
        exchange.reach(self._stage)
        exchange.sock = self
        if exchange.is_late:
            raise TimeoutError
        super().do_handshake(block)
        exchange.is_new_tls_1_3 = self._stage is Stage.TLS and self.version() == "TLSv1.3"

    def recv(self, *arguments: Any, **options: Any) -> bytes:
        try:
            return super().recv(*arguments, **options)
        except OSError:
            # Python leaves the socket open if the connection was reset before the handshake.
            if self.version() is None:
                self.close()
            raise


class _ProxySocket(_Socket):
    _stage = Stage.PROXY_TLS


class _Object(ssl.SSLObject):
    """TLS inside the TLS of a proxy. The watchdog knows the socket of the outer TLS."""

    def do_handshake(self) -> None:
        ongoing.exchange.reach(Stage.TLS)
        super().do_handshake()
