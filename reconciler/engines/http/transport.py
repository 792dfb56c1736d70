"""One request and one reply: requests' adapter with a deadline for the whole exchange, and certainty about what left.

The adapter sends a prepared request as requests does: with proxies, TLS and pooled connections. The adapter never reads
netrc, keeps no cookie, follows no redirect and sends nothing twice.
"""

import ssl
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

from requests import PreparedRequest, Response
from requests.adapters import HTTPAdapter

from reconciler.engines.http.connection import Pool, TlsPool
from reconciler.engines.http.dial import Dialer, SocksProxy
from reconciler.engines.http.exchange import Exchange, TransportContext, Watchdog, ongoing
from reconciler.engines.http.faults import Fault, FaultContext, is_refusal_of_client
from reconciler.engines.http.network import DIRECT, Network
from reconciler.engines.http.reply import Reply, json_document
from reconciler.engines.http.tls import proxy_tls_context, tls_context

if TYPE_CHECKING:
    from requests.structures import CaseInsensitiveDict
    from urllib3 import HTTPResponse

BODY_LIMIT_BYTES = 1024 * 1024

_KEPT_HEADERS = ("retry-after", "date", "location")


class _Adapter(HTTPAdapter):
    """The adapter of requests for one endpoint, with watched connections and one TLS context for all of them.

    To read the trusted certificates takes 20 ms, which each new connection would otherwise take again.
    """

    def __init__(self, pool_size: int, tls: Mapping[str, Any], proxy_tls: Mapping[str, Any]) -> None:
        """`tls` are arguments of urllib3's pools, and `proxy_tls` further ones of its pools behind a proxy."""
        self._tls = tls
        self._proxy_tls = proxy_tls
        self._pool: Any = None
        super().__init__(pool_connections=1, pool_maxsize=pool_size)

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **options: Any) -> None:
        super().init_poolmanager(connections, maxsize, block, **options, **self._tls)
        _watch(self.poolmanager)

    def proxy_manager_for(self, proxy: Any, **options: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **options, **self._tls, **self._proxy_tls)
        _watch(manager)
        return manager

    def get_connection_with_tls_context(self, *arguments: Any, **options: Any) -> Any:
        # One endpoint has one pool. A search for the pool takes a tenth of the time of an exchange.
        if self._pool is None:
            self._pool = super().get_connection_with_tls_context(*arguments, **options)
        return self._pool

    def cert_verify(self, *_arguments: Any, **_options: Any) -> None:
        """Leave the pool as it is.

        The TLS context already holds the certificates, and demands a certificate of the server.
        """

    def build_response(self, _request: PreparedRequest, raw: Any) -> Response:
        """Return the answer of urllib3 as it is. No cookie is kept, and the body is not read here."""
        return cast("Response", raw)


def _watch(manager: Any) -> None:
    manager.pool_classes_by_scheme = {"http": Pool, "https": TlsPool}


class Transport:
    """Sends requests below one endpoint. Several threads may call any method at the same time.

    `timeout_s` bounds each request as a whole. `connect_timeout_s` bounds the part before the first byte. `network`
    says how the endpoint is reached. `lines` are further header lines of each request, where a name may come several
    times. A body that is longer than `body_limit_bytes` is a fault of the reply. Raises
    `EngineError` for certificates that can't be used.
    """

    def __init__(
        self,
        endpoint: str,
        *,
        pool_size: int,
        timeout_s: float,
        connect_timeout_s: float,
        clock: Callable[[], float],
        network: Network = DIRECT,
        lines: Sequence[tuple[str, str]] = (),
        body_limit_bytes: int = BODY_LIMIT_BYTES,
    ) -> None:
        self._body_limit_bytes = body_limit_bytes
        self._lines = lines
        self._is_verified = not network.is_unverified
        parts = urlsplit(endpoint)
        host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
        proxy, self._proxies = network.proxy, {}
        tls: dict[str, Any] = {}
        proxy_tls: dict[str, ssl.SSLContext] = {}
        if parts.scheme == "https":
            tls["ssl_context"] = tls_context(network)
            if network.server_name:
                tls["server_hostname"] = network.server_name
        if proxy is None:
            dialer = Dialer(host, port, clock)
        elif proxy.scheme.startswith("socks"):
            dialer = Dialer(*proxy.place, clock, SocksProxy.from_url(proxy.url), (host, port))
        else:
            dialer = Dialer(*proxy.place, clock)
            self._proxies = {parts.scheme: proxy.url}
            if proxy.scheme == "https":
                proxy_tls["proxy_ssl_context"] = proxy_tls_context(network)
        self._fault_context = FaultContext(endpoint, network, timeout_s, connect_timeout_s)
        self._context = TransportContext(dialer.dial, Watchdog(clock), clock, connect_timeout_s)
        self._adapter = _Adapter(pool_size, tls, proxy_tls)

    def exchange(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None) -> Reply:
        """Send one request once, and return the reply. A failure of the network is a reply, not an exception."""
        exchange = ongoing.exchange = Exchange(self._context)
        pieces: list[bytes] = []
        response: HTTPResponse | None = None
        error: Exception | None = None
        try:
            self._context.watchdog.watch(exchange, self._context.clock() + self._fault_context.timeout_s)
            request = _prepared(method, url, headers, body, self._lines)
            response = cast(
                "HTTPResponse", self._adapter.send(request, proxies=self._proxies, verify=self._is_verified)
            )
            left_bytes = self._body_limit_bytes + 1
            while left_bytes and (piece := response.read1(left_bytes)):
                pieces.append(piece)
                left_bytes -= len(piece)
        except Exception as caught:  # noqa: BLE001  a malformed answer can make the libraries raise any error
            error = caught
        finally:
            is_in_time = self._context.watchdog.leave(exchange)
            if response is not None:
                response.close()  # closes the connection too, unless the body was read to its end
        fault = self._fault(exchange, error if is_in_time else TimeoutError())
        if response is None:
            return Reply(exchange.is_sent, fault=fault.text, remedy=fault.remedy, is_exhausted=fault.is_exhausted)
        return _reply(response, b"".join(pieces), fault, self._body_limit_bytes)

    def close(self) -> None:
        """Close the connections, and end the watchdog."""
        self._adapter.close()
        self._context.watchdog.close()

    def _fault(self, exchange: Exchange, error: Exception | None) -> Fault:
        """Return the fault of an exchange that ended with `error`, or a fault without text if `error` is None."""
        if error is None:
            return Fault("")
        if is_refusal_of_client(error, exchange):
            exchange.is_sent = False
        return self._fault_context.fault(exchange, error)


def _reply(response: "HTTPResponse", content: bytes, fault: Fault, limit_bytes: int) -> Reply:
    """Return the reply for an answer whose head was read. `content` is the body as far as it was read."""
    encoding = response.headers.get("content-encoding", "identity")
    if len(content) > limit_bytes:
        fault = Fault(f"the answer is longer than {limit_bytes // 1024} KiB")
    elif not fault.text and encoding.lower() != "identity":
        fault = Fault(f"the answer came as {encoding}, which was not asked for")
    return Reply(
        sent=True,
        status=response.status,
        headers={name: value for name in _KEPT_HEADERS if (value := response.headers.get(name)) is not None},
        content=content[:limit_bytes],
        text=content[:limit_bytes].decode(errors="replace"),
        document=json_document(content),
        fault=fault.text,
        remedy=fault.remedy,
    )


def _prepared(
    method: str, url: str, headers: Mapping[str, str], body: bytes | None, lines: Sequence[tuple[str, str]]
) -> PreparedRequest:
    # `PreparedRequest.prepare` would encode the URL, which is percent-encoded already.
    request = PreparedRequest()
    request.method, request.url, request.body = method, url, body
    # requests sends a body without a length as chunked. urllib3 adds a length if there is no body (RFC 9110, 8.6).
    framing = {} if body is None else {"Content-Length": str(len(body))}
    own = {"User-Agent": "reconciler", "Accept-Encoding": "identity"}
    whole: MutableMapping[str, str] = {**own, **headers, **framing}
    if lines:
        from urllib3 import HTTPHeaderDict

        # The items of this mapping of urllib3 are lines, where a name may stand several times.
        whole = several = HTTPHeaderDict(whole)
        for name, value in lines:
            several.add(name, value)
    # A plain mapping is enough otherwise. A CaseInsensitiveDict would be copied twice.
    request.headers = cast("CaseInsensitiveDict[str]", whole)
    return request
