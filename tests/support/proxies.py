"""Proxies on 127.0.0.1: HTTP proxies that forward or tunnel, and SOCKS5. Each can fail at any stage.

A proxy connects every name to one port of this machine, so that a test can use a service name that no name server
knows.
"""

import select
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from listener import Listener
from raw_server import reset

DRIP_S = 0.02


class Proxy(Listener):
    """A proxy's address, and the request heads that the proxy received.

    `stage` is the stage at which the proxy fails, "" for none:

    "accept"      it closes each connection at once
    "silent"      it reads the request and never answers
    "drip"        it answers a CONNECT one byte at a time, without end
    "garbage"     its answer is not HTTP
    "half"        it closes in the middle of the head of its answer
    "407" "502"   it answers with this status
    "opened"      it closes once the tunnel is open, before it forwards any byte
    "handshake"   it closes after the server's first bytes
    "stalled"     it forwards the server's first bytes, and then nothing more
    "unforwarded" it reads a request that it should forward, and closes
    "forwarded"   it forwards a request, and closes once the service has answered
    """

    def __init__(self, port: int, stage: str = "", tls: ssl.SSLContext | None = None) -> None:
        self._to = ("127.0.0.1", port)
        self.stage = stage
        self.heads: list[str] = []
        super().__init__(tls)

    def serve(self, connection: socket.socket) -> None:
        if self.stage != "accept":
            self.answer(connection)

    def answer(self, connection: socket.socket) -> None:
        head = _head(connection)
        self.heads.append(head)
        method, target, _ = head.split(" ", 2)
        if self.stage == "silent":
            self.closing.wait()
        elif self.stage == "garbage":
            connection.sendall(b"SSH-2.0-OpenSSH_9.9\r\n")
        elif self.stage == "half":
            connection.sendall(b"HTTP/1.1 200 Conn")
        elif self.stage.isdigit():
            connection.sendall(f"HTTP/1.1 {self.stage} No way\r\nContent-Length: 0\r\n\r\n".encode())
        elif self.stage == "drip":
            connection.sendall(b"HTTP/1.1 200 OK\r\nX-")
            while not self.closing.wait(DRIP_S):
                connection.sendall(b"x")
        elif method == "CONNECT":
            connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            self.tunnel(connection)
        else:
            self._forward(connection, method, target, head)

    def tunnel(self, connection: socket.socket) -> None:
        """Copy bytes in both directions, as far as the stage allows."""
        if self.stage == "opened":
            return
        with socket.create_connection(self._to) as server:
            self._open.append(server)
            while True:
                pending = isinstance(connection, ssl.SSLSocket) and connection.pending()
                ready = [connection] if pending else select.select([connection, server], [], [])[0]
                for source in ready:
                    data = source.recv(65536)
                    if not data:
                        return
                    if source is server and self.stage in ("handshake", "stalled"):
                        connection.sendall(data[:60])
                        if self.stage == "stalled":
                            self.closing.wait()
                        return
                    (server if source is connection else connection).sendall(data)

    def _forward(self, connection: socket.socket, method: str, target: str, head: str) -> None:
        """Forward one request with its path only and without the proxy's own headers, then close."""
        lines = [line for line in head.split("\r\n")[1:] if not line.lower().startswith("proxy-")]
        length = next((int(line[15:]) for line in lines if line.lower().startswith("content-length:")), 0)
        body = b""
        while len(body) < length:
            body += connection.recv(65536)
        if self.stage == "unforwarded":
            return
        parts = urlsplit(target)
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        with socket.create_connection(self._to) as server:
            server.sendall(f"{method} {path} HTTP/1.1\r\n".encode() + "\r\n".join(lines).encode() + body)
            answer = server.recv(65536)
        if self.stage == "forwarded":
            reset(connection)
            return
        connection.sendall(answer)


class SocksProxy(Proxy):
    """SOCKS5, with a user and a password if these are set. `asked` lists the addresses that clients asked for."""

    def __init__(self, port: int, stage: str = "", credentials: tuple[str, str] | None = None) -> None:
        self._credentials = credentials
        self.asked: list[str] = []
        super().__init__(port, stage)

    def answer(self, connection: socket.socket) -> None:
        _, count = _exactly(connection, 2)
        methods = _exactly(connection, count)
        if self.stage == "silent":
            self.closing.wait()
        if self.stage == "half":
            connection.sendall(b"\x05")
            return
        wanted = 2 if self._credentials else 0
        connection.sendall(bytes([5, wanted if wanted in methods else 0xFF]))
        if self._credentials:
            user = _exactly(connection, _exactly(connection, 2)[1]).decode()
            password = _exactly(connection, _exactly(connection, 1)[0]).decode()
            connection.sendall(bytes([1, 0 if (user, password) == self._credentials else 1]))
        kind = _exactly(connection, 4)[3]
        if kind == 3:
            host = _exactly(connection, _exactly(connection, 1)[0]).decode()
        else:
            host = socket.inet_ntoa(_exactly(connection, 4))
        port = int.from_bytes(_exactly(connection, 2), "big")
        self.asked.append(f"{host}:{port}")
        connection.sendall(bytes([5, 5 if self.stage == "502" else 0, 0, 1, 0, 0, 0, 0, 0, 0]))
        if self.stage != "502":
            self.tunnel(connection)


@contextmanager
def running(proxy: Proxy) -> Iterator[Proxy]:
    """Run a proxy for the length of the block."""
    try:
        yield proxy
    finally:
        proxy.close()


def dripping(source: bytes) -> Callable[[socket.socket], None]:
    """Send bytes over and over, one at a time, for at most half a minute."""

    def drip(connection: socket.socket) -> None:
        ends_s = time.monotonic() + 30
        while time.monotonic() < ends_s:
            for byte in source:
                connection.sendall(bytes([byte]))
                time.sleep(DRIP_S)

    return drip


def _head(connection: socket.socket) -> str:
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = connection.recv(1)
        if not byte:
            raise OSError
        head += byte
    return head.decode()


def _exactly(connection: socket.socket, count: int) -> bytes:
    found = b""
    while len(found) < count:
        more = connection.recv(count - len(found))
        if not more:
            raise OSError
        found += more
    return found
