"""Connections of urllib3 with two additions: a deadline for the whole exchange, and a record of whether a byte left.

`Connection` overrides methods that urllib3 and http.client document for subclasses, and one method of urllib3 that is
private, `_new_conn`. Only `_new_conn` gives access to a socket before the socket connects, and so lets the watchdog end
a name look-up or a connect.
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
"""The seconds after which an idle connection is not used again.

A server may close an idle connection at any moment, and a `run` that is sent at that moment would be in doubt. Common
servers wait for two seconds or more before they close.
"""

_RECORD_BYTES = 16384
"""The largest payload of one TLS record (RFC 8446, section 5.1)."""


class _Source(io.RawIOBase):
    """A raw stream that reads from a socket and counts the bytes."""

    def __init__(self, sock: socket.socket) -> None:
        self._source = sock.makefile("rb", buffering=0)
        self._count = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        read = self._source.readinto(buffer)
        if ongoing.exchange.is_late:  # bytes that arrived in time can still be read, which may take long
            raise TimeoutError
        self._count += read or 0
        return read

    def tell(self) -> int:
        return self._count

    def close(self) -> None:
        self._source.close()
        super().close()


class _Reader(io.BufferedReader):
    """A buffered reader of one answer. `close` runs before the connection goes back to the pool."""

    def __init__(self, source: _Source, ended: Callable[[bool], None]) -> None:
        super().__init__(source)
        self._ended = ended
        self._body_at: int | None = None

    def begin_body(self) -> None:
        self._body_at = self.tell()

    def close(self) -> None:
        if not self.closed and self._body_at is not None:
            # A body may still arrive after an answer without one, and must never be read as the next answer.
            has_body = self.tell() > self._body_at
            self._ended(has_body and self.raw.tell() == self.tell())
        super().close()


class _Readable:
    """The part of a socket that `http.client.HTTPResponse` uses: the method `makefile`."""

    def __init__(self, sock: socket.socket, ended: Callable[[bool], None]) -> None:
        self._sock = sock
        self._ended = ended

    def makefile(self, _mode: str) -> _Reader:
        return _Reader(_Source(self._sock), self._ended)


class _Response(http.client.HTTPResponse):
    def begin(self) -> None:
        """Read the head of the answer.

        All interim answers are skipped (RFC 9110, section 15.2), where http.client skips 100 alone.
        """
        super().begin()
        while 100 <= self.status < 200 and self.status != HTTPStatus.SWITCHING_PROTOCOLS:
            self.headers = None  # type: ignore[assignment]  # `begin` reads no head while `headers` is set
            super().begin()
        ongoing.exchange.reach(Stage.BODY)
        self.fp.begin_body()  # type: ignore[attr-defined]


class Connection(HTTPConnection):
    """A connection whose exchanges are watched. The exchange is the one of the calling thread (`ongoing`)."""

    _gathered: bytearray | None = None
    _is_clean = False
    _used_at_s = 0.0

    def _new_conn(self) -> socket.socket:
        exchange = ongoing.exchange
        sock = exchange.context.dial(exchange, self.socket_options or ())
        exchange.reach(Stage.TUNNEL if self.proxy_is_tunneling else Stage.TLS)
        sock.settimeout(None)  # the watchdog ends any wait on the socket
        return sock

    def connect(self) -> None:
        exchange = ongoing.exchange
        context = exchange.context
        until_s = exchange.until_s
        context.watchdog.watch(exchange, min(until_s, context.clock() + context.connect_timeout_s))
        super().connect()
        context.watchdog.watch(exchange, until_s)

    @property
    def is_connected(self) -> bool:
        """Whether the connection may carry another request.

        A connection that was idle for too long may not, and neither may one with unread bytes.
        """
        return (
            self._is_clean
            and ongoing.exchange.context.clock() - self._used_at_s < IDLE_LIMIT_S
            and super().is_connected
            # Other kinds of socket, such as TLS inside TLS, have buffers that can't be inspected.
            and (not self.sock.pending() if isinstance(self.sock, ssl.SSLSocket) else type(self.sock) is socket.socket)
        )

    def request(self, *arguments: Any, **options: Any) -> None:
        """Send the head and the body in one piece.

        So there is one point in time from which on the call is in doubt, and mostly one packet.
        """
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
        if isinstance(self.sock, socket.socket):  # for TLS inside TLS, the exchange has the outer socket
            exchange.sock = self.sock
        exchange.context.watchdog.begin_sending(exchange)
        try:
            count = self.sock.send(content)
        except OSError:
            # The kernel took no byte (POSIX, send), or for TLS a part of one record, which no peer can decrypt.
            exchange.is_sent = type(self.sock) is not socket.socket and len(content) > _RECORD_BYTES
            raise
        if count < len(content):
            super().send(content[count:])

    def send(self, data: Any) -> None:
        if self._gathered is None:  # bytes for the proxy, before the request
            super().send(data)
        else:
            self._gathered += data

    def response_class(self, sock: Any, *arguments: Any, **options: Any) -> _Response:  # type: ignore[override]
        return _Response(_Readable(sock, self._end), *arguments, **options)  # type: ignore[arg-type]

    def _end(self, is_clean: bool) -> None:
        """Take the connection out of the exchange, after the answer was read or given up."""
        exchange = ongoing.exchange
        self._is_clean = exchange.context.watchdog.leave(exchange) and is_clean
        self._used_at_s = exchange.context.clock()


class TlsConnection(Connection, HTTPSConnection):
    """The same over TLS. `Connection` comes first in the method resolution order, so that its methods apply."""


class Pool(HTTPConnectionPool):
    """The connections to one host."""

    ConnectionCls = Connection


class TlsPool(HTTPSConnectionPool):
    """The connections to one host over TLS."""

    ConnectionCls = TlsConnection
