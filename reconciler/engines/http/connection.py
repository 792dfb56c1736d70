"""urllib3's connections, with what it has no place for: a deadline for all of it, and a note that a byte left.

`Connection` overrides what urllib3 and http.client let a subclass override, and one name of urllib3's own,
`_new_conn`: only there can the socket be known before it connects, and the look-up be bounded.
"""

import http.client
import io
import socket
import ssl
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from reconciler.engines.http.exchange import Stage, ongoing

IDLE_LIMIT_S = 1.5
"""A connection that idled for longer is not used again.

A server may be closing it at this moment, and a `run` on it would be in doubt. Common servers
close after two seconds or more.
"""

_RECORD_BYTES = 16384
"""The most that one record of TLS holds (RFC 8446, 5.1)."""


class _Source(io.RawIOBase):
    """The bytes of a socket, counted."""

    def __init__(self, sock: socket.socket) -> None:
        self._source = sock.makefile("rb", buffering=0)
        self._count = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        read = self._source.readinto(buffer)
        if ongoing.exchange.is_late:  # what had arrived by then can still be read, and may take long to be
            raise TimeoutError
        self._count += read or 0
        return read

    def tell(self) -> int:
        return self._count

    def close(self) -> None:
        self._source.close()
        super().close()


class _Reader(io.BufferedReader):
    """Reads one answer. Its end is the last moment at which the connection is not yet anybody else's."""

    def __init__(self, source: _Source, ended: Callable[[bool], None]) -> None:
        super().__init__(source)
        self._ended = ended
        self._body_at: int | None = None

    def begin_body(self) -> None:
        self._body_at = self.tell()

    def close(self) -> None:
        if not self.closed and self._body_at is not None:
            # After an answer without a body one may yet come, and must never be read as the next answer.
            has_body = self.tell() > self._body_at
            self._ended(has_body and self.raw.tell() == self.tell())
        super().close()


class _Readable:
    """The one method that an `http.client.HTTPResponse` asks of its socket."""

    def __init__(self, sock: socket.socket, ended: Callable[[bool], None]) -> None:
        self._sock = sock
        self._ended = ended

    def makefile(self, _mode: str) -> _Reader:
        return _Reader(_Source(self._sock), self._ended)


class _Response(http.client.HTTPResponse):
    def begin(self) -> None:
        """Read the head of the answer; interim answers are passed over (RFC 9110, 15.2), not a 100 alone."""
        super().begin()
        while 100 <= self.status < 200 and self.status != HTTPStatus.SWITCHING_PROTOCOLS:
            self.headers = None  # type: ignore[assignment]  # else `begin` takes the head for read
            super().begin()
        ongoing.exchange.reach(Stage.BODY)
        self.fp.begin_body()  # type: ignore[attr-defined]


class Connection(HTTPConnection):
    """A connection whose exchanges are watched. It belongs to the exchange that the thread is about."""

    _gathered: bytearray | None = None
    _is_clean = False
    _used_at_s = 0.0

    def _new_conn(self) -> socket.socket:
        exchange = ongoing.exchange
        sock = exchange.means.dial(exchange, self.socket_options or ())
        exchange.reach(Stage.TUNNEL if self.proxy_is_tunneling else Stage.TLS)
        sock.settimeout(None)  # the watchdog ends what waits on it
        return sock

    def connect(self) -> None:
        exchange = ongoing.exchange
        means = exchange.means
        until_s = exchange.until_s
        means.watchdog.watch(exchange, min(until_s, means.clock() + means.connect_timeout_s))
        super().connect()
        means.watchdog.watch(exchange, until_s)

    @property
    def is_connected(self) -> bool:
        """Whether it may be used again: not where it idled, and not where anything unread is on it."""
        return (
            self._is_clean
            and ongoing.exchange.means.clock() - self._used_at_s < IDLE_LIMIT_S
            and super().is_connected
            # Into other buffers, as of TLS within TLS, nobody can look.
            and (not self.sock.pending() if isinstance(self.sock, ssl.SSLSocket) else type(self.sock) is socket.socket)
        )

    def request(self, *arguments: Any, **options: Any) -> None:
        """Send head and body in one piece: mostly one packet, and one point after which all is in doubt."""
        self._is_clean = False
        self._gathered = bytearray()
        try:
            super().request(*arguments, **options)
            content = bytes(self._gathered)
        finally:
            self._gathered = None
        if self.sock is None:
            self.connect()
        exchange = ongoing.exchange
        if isinstance(self.sock, socket.socket):  # else TLS within TLS, whose outer socket is known already
            exchange.sock = self.sock
        exchange.means.watchdog.begin_sending(exchange)
        try:
            count = self.sock.send(content)
        except OSError:
            # Nothing of it was taken (POSIX, send), or of TLS a part of one record, which nobody can decrypt.
            exchange.is_sent = type(self.sock) is not socket.socket and len(content) > _RECORD_BYTES
            raise
        if count < len(content):
            super().send(content[count:])

    def send(self, data: Any) -> None:
        if self._gathered is None:  # to the proxy, while it connects
            super().send(data)
        else:
            self._gathered += data

    def response_class(self, sock: Any, *arguments: Any, **options: Any) -> _Response:  # type: ignore[override]
        return _Response(_Readable(sock, self._end), *arguments, **options)  # type: ignore[arg-type]

    def _end(self, is_clean: bool) -> None:
        """An answer was read, or given up."""
        exchange = ongoing.exchange
        self._is_clean = exchange.means.watchdog.leave(exchange) and is_clean
        self._used_at_s = exchange.means.clock()


class TlsConnection(Connection, HTTPSConnection):
    """The same over TLS: `Connection` stands before the TLS connection in the order of calls."""


class Pool(HTTPConnectionPool):
    """Connections to one host."""

    ConnectionCls = Connection


class TlsPool(HTTPSConnectionPool):
    """Connections to one host over TLS."""

    ConnectionCls = TlsConnection
