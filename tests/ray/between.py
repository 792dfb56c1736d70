"""A proxy before a head that loses what changes something, or refuses it. What only reads passes.

UNSENT  the connection is cut, and the head gets nothing
LOST    the head gets the request, and the connection is cut without its answer
SLOW    the head gets the request late
LATE    the connection is cut, and the head gets the request some time after that
DENIED  the proxy answers 403
"""

import http.client
import random
import socket
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from enum import StrEnum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, NamedTuple, Self

_SLOW_S = 0.5
_LATE_S = (0.1, 1.5)
_OF_A_CONNECTION = frozenset(("connection", "keep-alive", "transfer-encoding"))


class Loss(StrEnum):
    """What becomes of a request that changes something."""

    UNSENT = "unsent"
    LOST = "lost"
    SLOW = "slow"
    LATE = "late"
    DENIED = "denied"


class _Request(NamedTuple):
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


class Between:
    """A proxy in threads of this process. It is closed when the block ends, once all late requests have arrived.

    Each request that changes something is lost with the given `chance`, drawn from a generator with the `seed`.
    """

    def __init__(self, host: str, port: int, loss: Loss | None, chance: float = 1.0, seed: int | str = 0) -> None:
        self._server = host, port
        self.loss = loss
        self._chance = chance
        self._random = random.Random(seed)
        self._turn = threading.Lock()
        self._late: list[threading.Thread] = []
        self.lost = 0
        """How many requests were lost."""
        self.asked: list[str] = []
        """The method and the path of each request."""
        between = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                between._meet(self)

            do_POST = do_PUT = do_DELETE = do_GET

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._listener = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._listener.daemon_threads = True
        self._listener.block_on_close = False
        self._thread = threading.Thread(target=self._listener.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, at: TracebackType | None) -> None:
        self._listener.shutdown()
        self._listener.server_close()
        self._thread.join()
        for late in self._late:
            late.join()

    @property
    def port(self) -> int:
        """The port of the proxy, on 127.0.0.1."""
        return self._listener.server_port

    @property
    def address(self) -> str:
        """The URL of the proxy."""
        return f"http://127.0.0.1:{self.port}"

    def _meet(self, handler: BaseHTTPRequestHandler) -> None:
        length = int(handler.headers.get("Content-Length") or 0)
        request = _Request(handler.command, handler.path, dict(handler.headers.items()), handler.rfile.read(length))
        self.asked.append(f"{request.method} {request.path}")
        loss = self._loss_of(request)
        if loss is Loss.LATE:
            late = threading.Thread(target=self._forward_late, args=(request, self._wait_s()))
            late.start()
            self._late.append(late)
        if loss is Loss.SLOW:
            time.sleep(_SLOW_S)
        status, headers, body = 403, {"Content-Type": "text/plain"}, b"no right to do that"
        try:
            if loss in (None, Loss.LOST, Loss.SLOW):
                status, headers, body = self._forward(request)
        except OSError:
            loss = Loss.LOST
        if loss in (Loss.UNSENT, Loss.LOST, Loss.LATE):
            handler.close_connection = True
            with suppress(OSError):
                handler.connection.shutdown(socket.SHUT_RDWR)
            return
        with suppress(OSError):
            handler.send_response_only(status)
            for name, value in headers.items():
                if name.lower() not in _OF_A_CONNECTION and name.lower() != "content-length":
                    handler.send_header(name, value)
            handler.send_header("Content-Length", str(len(body)))
            handler.end_headers()
            handler.wfile.write(body)

    def _loss_of(self, request: _Request) -> Loss | None:
        if request.method == "GET":
            return None
        with self._turn:
            loss = self.loss if self._random.random() < self._chance else None
            self.lost += loss is not None
        return loss

    def _wait_s(self) -> float:
        with self._turn:
            return self._random.uniform(*_LATE_S)

    def _forward_late(self, request: _Request, wait_s: float) -> None:
        time.sleep(wait_s)
        with suppress(OSError):
            self._forward(request)

    def _forward(self, request: _Request) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection(*self._server, timeout=60)
        try:
            headers = {name: value for name, value in request.headers.items() if name.lower() not in _OF_A_CONNECTION}
            connection.request(request.method, request.path, request.body or None, headers)
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()
        except http.client.HTTPException as fault:
            raise OSError(str(fault)) from fault
        finally:
            connection.close()
