"""A server on 127.0.0.1 that answers with a test's own bytes, and records the requests."""

import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import BinaryIO, NamedTuple

from listener import Listener

Answering = Callable[["Request", socket.socket], bytes | None]
"""Answers one request with these bytes; None means that the function used the socket itself and wants it closed."""


class Request(NamedTuple):
    """One request as it came, with its header names in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


class Pauses(list[float]):
    """A substitute for `wait` that returns at once. It records the seconds, and returns whether a stop is requested."""

    def __init__(self, *, stop: bool = False) -> None:
        super().__init__()
        self._stop = stop

    def __call__(self, seconds: float) -> bool:
        self.append(seconds)
        return self._stop


class RawServer(Listener):
    """A server's address, and the requests that it received, in order of arrival."""

    def __init__(self, answering: Answering, tls: ssl.SSLContext | None = None, port: int = 0) -> None:
        self._answering = answering
        self.requests: list[Request] = []
        super().__init__(tls, port)
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}/v1/customer"

    def serve(self, connection: socket.socket) -> None:
        with connection.makefile("rb") as source:
            while request := _read(source):
                self.requests.append(request)
                answer = self._answering(request, connection)
                if answer is None:
                    break
                connection.sendall(answer)

    def close(self) -> None:
        """Close every connection, and wait for the threads."""
        super().close()
        for connection in self._open:
            connection.close()
        for thread in self._threads[1:]:
            thread.join(5)


def _read(source: BinaryIO) -> Request | None:
    first = source.readline().decode()
    if not first:
        return None
    method, path, _ = first.split()
    headers: dict[str, str] = {}
    while line := source.readline().decode().strip():
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    body = source.read(int(headers.get("content-length", "0")))
    return Request(method, path, headers, body)


@contextmanager
def raw_server(answering: Answering, tls: ssl.SSLContext | None = None) -> Iterator[RawServer]:
    """Run a server for the length of the block."""
    server = RawServer(answering, tls)
    try:
        yield server
    finally:
        server.close()


def answer(status: int, body: bytes | str = b"", *headers: str) -> bytes:
    """Return a complete HTTP answer."""
    content = body.encode() if isinstance(body, str) else body
    lines = [f"HTTP/1.1 {status} Words", f"Content-Length: {len(content)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + content


def always(*answers: bytes) -> Answering:
    """Return the answers in turn, then the last answer forever."""
    left = list(answers)
    lock = threading.Lock()

    def answering(_request: Request, _connection: socket.socket) -> bytes:
        with lock:
            return left.pop(0) if len(left) > 1 else left[0]

    return answering


def reset(connection: socket.socket) -> None:
    """Close a connection with a TCP reset, as a server that crashes does."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    connection.close()
