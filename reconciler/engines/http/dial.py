"""Coming to a connected socket: look-up, each address in turn, and a SOCKS proxy where one is set."""

import socket
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

from reconciler.engines.http.exchange import Exchange, Stage

_Addresses = list[tuple[Any, ...]]
"""As `socket.getaddrinfo` returns them."""


class LookUp:
    """The addresses of one host. A look-up knows no timeout, so it runs in a thread that may be left behind.

    Those who ask at the same time share one look-up; once somebody gave up on it, the next one starts anew.
    """

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._lock = threading.Lock()
        self._ongoing: Future[_Addresses] | None = None

    def addresses(self, within_s: float) -> _Addresses:
        """The host's addresses. Raises `socket.gaierror`, `TimeoutError`, `RuntimeError` for want of a thread."""
        with self._lock:
            found = self._ongoing
            if found is None:
                found = Future()
                threading.Thread(target=self._run, args=(found,), name="look-up", daemon=True).start()
                self._ongoing = found
        try:
            return found.result(within_s)
        finally:
            self._forget(found)

    def _run(self, found: "Future[_Addresses]") -> None:
        try:
            addresses = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
        except Exception as error:  # noqa: BLE001  raised again in the threads that wait
            self._forget(found)
            found.set_exception(error)
        else:
            self._forget(found)
            found.set_result(addresses)

    def _forget(self, found: "Future[_Addresses]") -> None:
        with self._lock:
            if self._ongoing is found:
                self._ongoing = None


class SocksProxy(NamedTuple):
    """A SOCKS proxy; `resolves` is whether the proxy looks names up itself."""

    kind: int
    resolves: bool
    username: str | None
    password: str | None

    @classmethod
    def from_url(cls, url: str) -> "SocksProxy":
        """The proxy of a URL. Raises `ImportError` where PySocks is not installed."""
        import socks  # type: ignore[import-untyped,unused-ignore]

        parts = urlsplit(url)
        kind = socks.SOCKS5 if parts.scheme.startswith("socks5") else socks.SOCKS4
        names = [None if name is None else unquote(name) for name in (parts.username, parts.password)]
        return cls(kind, parts.scheme in ("socks5h", "socks4a"), *names)


class Dialer:
    """Connects to one place: the service's host, or its proxy.

    `through` is the SOCKS proxy that stands at `host` and `port`, and `beyond` the service behind it.
    """

    def __init__(
        self,
        host: str,
        port: int,
        clock: Callable[[], float],
        through: SocksProxy | None = None,
        beyond: tuple[str, int] = ("", 0),
    ) -> None:
        self._look_up = LookUp(host, port)
        self._clock = clock
        self._through = through
        self._beyond = beyond
        self._look_up_beyond = LookUp(*beyond) if through and not through.resolves else None

    def dial(self, exchange: Exchange, options: Iterable[tuple[Any, ...]]) -> socket.socket:
        """A connected socket. Raises `OSError`; a `TimeoutError` where the exchange's deadline is over."""
        exchange.reach(Stage.LOOK_UP)
        addresses = self._look_up.addresses(self._left_s(exchange))
        beyond = self._beyond
        if self._look_up_beyond:
            beyond = self._look_up_beyond.addresses(self._left_s(exchange))[0][4][:2]
        exchange.reach(Stage.CONNECT)
        fault: OSError | None = None
        for tried, (family, kind, protocol, _, address) in enumerate(addresses):
            # An address that nobody answers at leaves their share of the time to those after it.
            within_s = self._left_s(exchange) / (len(addresses) - tried)
            try:
                return self._connected(exchange, (family, kind, protocol), address, beyond, within_s, options)
            except OSError as error:
                fault = error
        raise fault or OSError("the host has no address")

    def _connected(
        self,
        exchange: Exchange,
        sort: tuple[Any, Any, int],
        address: tuple[Any, ...],
        beyond: tuple[str, int],
        within_s: float,
        options: Iterable[tuple[Any, ...]],
    ) -> socket.socket:
        sock = self._socket(sort, address)
        try:
            exchange.sock = sock
            for option in options:
                sock.setsockopt(*option)
            sock.settimeout(within_s)
            sock.connect(beyond if self._through else address)
            if exchange.is_late:
                raise TimeoutError
        except BaseException:
            exchange.sock = None
            sock.close()
            raise
        return sock

    def _socket(self, sort: tuple[Any, Any, int], address: tuple[Any, ...]) -> socket.socket:
        if self._through is None:
            return socket.socket(*sort)
        import socks

        kind, resolves, username, password = self._through
        sock: socket.socket = socks.socksocket(*sort)
        sock.set_proxy(kind, address[0], address[1], resolves, username, password)  # type: ignore[attr-defined]
        return sock

    def _left_s(self, exchange: Exchange) -> float:
        left_s = exchange.until_s - self._clock()
        if left_s <= 0 or exchange.is_late:
            raise TimeoutError
        return left_s
