"""One request, one reply: requests' adapter, a deadline for all of it, and certainty about what was sent.

The adapter takes a prepared request, and does with it what requests' users know: proxies, TLS, pooled connections.
It never reads netrc, keeps no cookie, follows no redirect and sends nothing a second time.
"""

import ssl
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

from requests import PreparedRequest, Response
from requests.adapters import HTTPAdapter

from reconciler.engines.http.connection import Pool, TlsPool
from reconciler.engines.http.dial import Dialer, SocksProxy
from reconciler.engines.http.exchange import Exchange, Means, Watchdog, ongoing
from reconciler.engines.http.faults import Fault, Way, is_refusal_of_client
from reconciler.engines.http.network import DIRECT, Network
from reconciler.engines.http.reply import Reply, json_document
from reconciler.engines.http.tls import proxy_tls_context, tls_context

if TYPE_CHECKING:
    from requests.structures import CaseInsensitiveDict
    from urllib3 import HTTPResponse

BODY_LIMIT_BYTES = 1024 * 1024

_KEPT_HEADERS = ("retry-after", "date", "location")


class _Adapter(HTTPAdapter):
    """The adapter of requests for one endpoint, with connections that are watched, and one TLS context for all of them.

    To read the certificates takes 20 ms, which each connection would otherwise pay anew.
    """

    def __init__(self, pool_size: int, tls: Mapping[str, ssl.SSLContext]) -> None:
        self._tls = tls
        self._pool: Any = None
        super().__init__(pool_connections=1, pool_maxsize=pool_size)

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **options: Any) -> None:
        options["ssl_context"] = self._tls.get("ssl_context")
        super().init_poolmanager(connections, maxsize, block, **options)
        _watch(self.poolmanager)

    def proxy_manager_for(self, proxy: Any, **options: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **options, **self._tls)
        _watch(manager)
        return manager

    def get_connection_with_tls_context(self, *arguments: Any, **options: Any) -> Any:
        # One endpoint has one pool, and to find it costs a tenth of an exchange.
        if self._pool is None:
            self._pool = super().get_connection_with_tls_context(*arguments, **options)
        return self._pool

    def cert_verify(self, *_arguments: Any, **_options: Any) -> None:
        """Leave the pool alone: its context has the certificates, and demands one."""

    def build_response(self, _request: PreparedRequest, raw: Any) -> Response:
        """The answer as it came: no cookie of it is kept, and its body is read elsewhere."""
        return cast("Response", raw)


def _watch(manager: Any) -> None:
    manager.pool_classes_by_scheme = {"http": Pool, "https": TlsPool}


class Transport:
    """Sends requests below one endpoint. Every method may be called from several threads at once.

    `timeout_s` bounds each request as a whole, `connect_timeout_s` the part of it before the first byte.
    `network` is the way to the endpoint. Raises `EngineError` for certificates that can't be used.
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
    ) -> None:
        parts = urlsplit(endpoint)
        host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
        proxy, self._proxies = network.proxy, {}
        tls: dict[str, ssl.SSLContext] = {}
        if parts.scheme == "https":
            tls["ssl_context"] = tls_context(network)
        if proxy is None:
            dialer = Dialer(host, port, clock)
        elif proxy.scheme.startswith("socks"):
            dialer = Dialer(*proxy.place, clock, SocksProxy.from_url(proxy.url), (host, port))
        else:
            dialer = Dialer(*proxy.place, clock)
            self._proxies = {parts.scheme: proxy.url}
            if proxy.scheme == "https":
                tls["proxy_ssl_context"] = proxy_tls_context(network)
        self._way = Way(endpoint, network, timeout_s, connect_timeout_s)
        self._means = Means(dialer.dial, Watchdog(clock), clock, connect_timeout_s)
        self._adapter = _Adapter(pool_size, tls)

    def exchange(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None) -> Reply:
        """Send one request once, and read what comes back. Never raises for what the network does."""
        exchange = ongoing.exchange = Exchange(self._means)
        pieces: list[bytes] = []
        response: HTTPResponse | None = None
        error: Exception | None = None
        try:
            self._means.watchdog.watch(exchange, self._means.clock() + self._way.timeout_s)
            request = _prepared(method, url, headers, body)
            response = cast("HTTPResponse", self._adapter.send(request, proxies=self._proxies))
            left_bytes = BODY_LIMIT_BYTES + 1
            while left_bytes and (piece := response.read1(left_bytes)):
                pieces.append(piece)
                left_bytes -= len(piece)
        except Exception as caught:  # noqa: BLE001  an odd answer can make the libraries raise anything
            error = caught
        finally:
            is_in_time = self._means.watchdog.leave(exchange)
            if response is not None:
                response.close()  # and its connection, unless it was read to its end and the connection given back
        fault = self._fault(exchange, error if is_in_time else TimeoutError())
        if response is None:
            return Reply(exchange.is_sent, fault=fault.text, remedy=fault.remedy, is_exhausted=fault.is_exhausted)
        return _reply(response, b"".join(pieces), fault)

    def close(self) -> None:
        """Drop the connections."""
        self._adapter.close()
        self._means.watchdog.close()

    def _fault(self, exchange: Exchange, error: Exception | None) -> Fault:
        """Fault."""
        if error is None:
            return Fault("")
        if is_refusal_of_client(error, exchange):
            exchange.is_sent = False
        return self._way.fault(exchange, error)


def _reply(response: "HTTPResponse", content: bytes, fault: Fault) -> Reply:
    """Reply."""
    encoding = response.headers.get("content-encoding", "identity")
    if len(content) > BODY_LIMIT_BYTES:
        fault = Fault(f"the answer is longer than {BODY_LIMIT_BYTES // 1024} KiB")
    elif not fault.text and encoding.lower() != "identity":
        fault = Fault(f"the answer came as {encoding}, which was not asked for")
    return Reply(
        sent=True,
        status=response.status,
        headers={name: value for name in _KEPT_HEADERS if (value := response.headers.get(name)) is not None},
        text=content[:BODY_LIMIT_BYTES].decode(errors="replace"),
        document=json_document(content),
        fault=fault.text,
        remedy=fault.remedy,
    )


def _prepared(method: str, url: str, headers: Mapping[str, str], body: bytes | None) -> PreparedRequest:
    # `PreparedRequest.prepare` would rewrite the URL, which is percent-encoded already.
    request = PreparedRequest()
    request.method, request.url, request.body = method, url, body
    # urllib3 adds the length of what has no body too (RFC 9110, 8.6); requests takes a body without one for chunked.
    framing = {} if body is None else {"Content-Length": str(len(body))}
    own = {"User-Agent": "reconciler", "Accept-Encoding": "identity"}
    # A plain mapping serves as well, and spares two copies of the other.
    request.headers = cast("CaseInsensitiveDict[str]", {**own, **headers, **framing})
    return request
