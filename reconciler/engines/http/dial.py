"""How a connection is made: the name look-up, each address in turn, and a SOCKS proxy if one is set."""

import socket
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

from reconciler.engines.http.exchange import Exchange, Stage

_Addresses = list[tuple[Any, ...]]
"""Addresses in the form that `socket.getaddrinfo` returns."""


class LookUp:
    """The look-up of the addresses of one host.

    `socket.getaddrinfo` has no timeout, so a look-up runs in a thread of its own, and a caller that gives up leaves the
    thread behind. Callers share one look-up if they ask at the same time. After a caller gave up, the next caller
    starts a new look-up.
    """

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._lock = threading.Lock()
        self._ongoing: Future[_Addresses] | None = None

    def addresses(self, within_s: float) -> _Addresses:
        """Return the addresses of the host, in the order of `socket.getaddrinfo`.

        Raises `socket.gaierror` if the name does not resolve, `TimeoutError` after `within_s` seconds, and
        `RuntimeError` if no thread can be started.
        """
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
        except Exception as error:  # noqa: BLE001  the waiting threads raise the error again
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
    """A SOCKS proxy. `kind` is a constant of PySocks. `resolves` is True if the proxy looks up host names itself."""

    kind: int
    resolves: bool
    username: str | None
    password: str | None

    @classmethod
    def from_url(cls, url: str) -> "SocksProxy":
        """Return the proxy that a URL names. Raises `ImportError` if PySocks is not installed."""
        import socks  # type: ignore[import-untyped,unused-ignore]

        parts = urlsplit(url)
        kind = socks.SOCKS5 if parts.scheme.startswith("socks5") else socks.SOCKS4
        names = [None if name is None else unquote(name) for name in (parts.username, parts.password)]
        return cls(kind, parts.scheme in ("socks5h", "socks4a"), *names)


class Dialer:
    """Connects to one place: to the host of the service, or to the proxy of that host.

    `through` is the SOCKS proxy at `host` and `port`, or None. `beyond` is the host and port of the service behind a
    SOCKS proxy.
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
        """Return a connected socket, with `options` set as `setsockopt` takes them.

        Raises `TimeoutError` if the deadline of the exchange is over, and `OSError` if no address accepts the
        connection.
        """
        exchange.reach(Stage.LOOK_UP)
        addresses = self._look_up.addresses(self._left_s(exchange))
        beyond = self._beyond
        if self._look_up_beyond:
            beyond = self._look_up_beyond.addresses(self._left_s(exchange))[0][4][:2]
        exchange.reach(Stage.CONNECT)
        fault: OSError | None = None
        for tried, (family, kind, protocol, _, address) in enumerate(addresses):
            # Each address gets an equal share of the remaining time, so that a silent one leaves time for the others.
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
