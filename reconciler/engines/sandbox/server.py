"""The embedded server: HTTP/1.1 on loopback, and all that faults do on the wire."""

import math
import os
import re
import socket
import socketserver
import struct
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from email.utils import formatdate
from typing import Any, Self, cast

from reconciler.engines.sandbox.answers import Rejection, Response, reason
from reconciler.engines.sandbox.faults import Fault, Faults, Kind
from reconciler.engines.sandbox.life import Book
from reconciler.engines.sandbox.service import Options, Request, Service
from reconciler.host.stop import Stop
from reconciler.model.errors import EngineError

SERVER_NAME = "reconciler-sandbox (simulated)"
HOST = "127.0.0.1"
MAX_BODY_BYTES = 1024 * 1024
MAX_LINE_BYTES = 65536
MAX_HEADERS = 100
_DRAIN_S = 1.0
_STOP_S = 5.0
_POLL_S = 0.05

_TOKEN = rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+)"
_REQUEST_LINE = re.compile(_TOKEN + rb" ([!-~\x80-\xff]+) HTTP/([0-9])\.([0-9])\r?\n")
_HEADER_LINE = re.compile(_TOKEN + rb":[ \t]*([\t -~\x80-\xff]*?)[ \t]*\r?\n")


class SandboxServer:
    """A server that speaks the jobs API on 127.0.0.1 and simulates the jobs.

    db_path         the SQLite file that keeps everything; made where it is not there
    port            0 takes a free one
    access_token    what `Authorization` must carry; `api_key`, where given, buys further tokens, each
                    good for `token_seconds`
    latency_s       every answer is this late
    job_seconds     how long a run takes until it completes
    create_missing  an id that was never heard of counts as a draft
    reads           False leaves part 1 of the API only: run, abort and delete

    It serves from `start` to `stop`, once. Raises `ValueError` for an empty token, and `EngineError`
    where the port or the database can't be had.
    """

    def __init__(
        self,
        db_path: str | os.PathLike[str],
        *,
        port: int = 0,
        access_token: str,
        api_key: str = "",
        latency_s: float = 0.0,
        job_seconds: float = 5.0,
        faults: Iterable[Fault] = (),
        create_missing: bool = False,
        reads: bool = True,
        token_seconds: float = 3600,
        clock: Callable[[], float] = time.time,
        randbytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        if not access_token:
            raise ValueError("the sandbox needs an access token, or anyone could call it")
        self._db_path = db_path
        self._thread: threading.Thread | None = None
        self._book = Book(db_path)
        options = Options(access_token, api_key, token_seconds, job_seconds, create_missing, reads)
        service = Service(self._book, Faults(faults), options, clock, randbytes)
        try:
            self._listener = _Listener(port, service, latency_s, clock)
        except (OSError, OverflowError) as error:
            self._book.close()
            raise EngineError(
                f"can't listen on {HOST}:{port}: {error}", "Give another port, or 0 for a free one."
            ) from error

    @property
    def endpoint(self) -> str:
        """The base URL of the jobs API, without a slash at its end."""
        return f"http://{HOST}:{self._listener.server_address[1]}/v1/customer"

    @property
    def banner(self) -> str:
        """What to tell people who start it: that it simulates, where it listens, where it keeps things."""
        return (
            f"reconciler sandbox at {self.endpoint}\n"
            "It simulates the jobs API: no job is real, no work is done, nothing costs money.\n"
            f"Its jobs and its ledger are kept in {os.fspath(self._db_path)}"
        )

    def start(self) -> None:
        """Listen in a thread of its own; calls are answered from now on."""
        self._thread = threading.Thread(
            target=self._listener.serve_forever, args=(_POLL_S,), name="sandbox", daemon=True
        )
        self._thread.start()

    def serve_forever(self) -> None:
        """Serve until `ask_to_stop` is called, or `stop` from another thread."""
        try:
            self.start()
            self._listener.stopping.wait()
        finally:
            self.stop()

    def ask_to_stop(self) -> None:
        """Have `serve_forever` end. A signal handler may call this, and any thread."""
        self._listener.stopping.set()

    def stop(self) -> None:
        """Drop every connection and close the database; a call at work is finished and kept first."""
        if self._thread is not None:
            self._listener.stop()
            self._thread.join()
        self._listener.server_close()
        self._book.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()


class _Listener(socketserver.ThreadingMixIn, socketserver.TCPServer):
    """Accepts connections, a thread each. (`http.server.HTTPServer` would ask DNS for its own name.)"""

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 1024

    def __init__(self, port: int, service: Service, latency_s: float, clock: Callable[[], float]) -> None:
        self.service = service
        self.latency_s = latency_s
        self.clock = clock
        self.stopping = Stop()
        self.connections: dict[threading.Thread, socket.socket] = {}
        self.is_alone = False
        """Whether the thread that accepts connections is answering on one."""
        super().__init__((HOST, port), _Connection)

    def process_request(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request(request, client_address)
        except RuntimeError:
            # No thread can be had: one request is answered here, and the connection closed.
            self.is_alone = True
            try:
                super().process_request_thread(request, client_address)
            finally:
                self.is_alone = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        # To the thread's hook: what `socketserver` would print quotes the error, and so what a request held.
        raise  # noqa: PLE0704  it is called while an error is dealt with

    def stop(self) -> None:
        """Accept no more, cut every connection, and wait for the threads behind them."""
        self.stopping.set()
        self.shutdown()
        threads = self.connections.copy()
        for connection in threads.values():
            with suppress(OSError):  # closed already
                connection.shutdown(socket.SHUT_RDWR)
        deadline = time.monotonic() + _STOP_S
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))


class _Connection(socketserver.StreamRequestHandler):
    """One connection: reads requests, hands them to the service, and sends, or fails to as told.

    It reads HTTP itself: the parser of `http.server` takes half of the time that a call costs, and
    lets through what is no HTTP.
    """

    disable_nagle_algorithm = True

    def setup(self) -> None:
        super().setup()
        self._listener = cast(_Listener, self.server)
        self._listener.connections[threading.current_thread()] = self.connection
        self._is_alone = self._listener.is_alone

    def handle(self) -> None:
        # Looked at after `setup` has made the connection known: `stop` cuts it, or this sees it.
        self._closing = self._listener.stopping.is_set()
        with suppress(OSError):  # the client is gone, or the server stops
            while not self._closing:
                self._serve_one()

    def finish(self) -> None:
        self._listener.connections.pop(threading.current_thread(), None)
        super().finish()

    def _serve_one(self) -> None:
        """Read one request and answer it; `_closing` says whether it was the last."""
        self._closing = True
        self._method, self._target = "", ""
        try:
            request = self._read_request()
        except Rejection as rejection:
            self._refuse(rejection)
            return
        reply, fault = self._listener.service.answer(request)
        self._pause(self._listener.latency_s)
        if fault is None:
            self.connection.sendall(self._raw(reply))
        else:
            self._misbehave(fault, reply)

    def _read_request(self) -> Request:
        """The next request with its whole body, so that the one after it starts where this one ends.

        Raises `Rejection` for what is no HTTP/1 (RFC 9112), `ConnectionError` where the client leaves.
        """
        line = self._read_line(414)
        if line in (b"\r\n", b"\n"):  # a stray one is to be ignored: section 2.2
            line = self._read_line(414)
        if (start := _REQUEST_LINE.fullmatch(line)) is None:
            raise _malformed("The first line is no HTTP request.")
        self._method, self._target = start[1].decode(), start[2].decode("latin-1")
        if start[3] != b"1":
            raise Rejection(505, "version not supported", "The sandbox speaks HTTP/1.1.")
        headers = self._read_headers()
        is_old = start[4] == b"0"
        if not is_old and ("host" not in headers or "," in headers["host"]):
            raise _malformed("HTTP/1.1 takes exactly one Host header.")
        if "transfer-encoding" in headers:
            raise Rejection(411, "length required", "Send the body with a Content-Length; the sandbox takes no chunks.")
        length = headers.get("content-length", "0")
        if not re.fullmatch("[0-9]{1,19}", length):
            raise _malformed("Content-Length must be one whole number.")
        if int(length) > MAX_BODY_BYTES:
            raise Rejection(413, "body too large", f"A body may have {MAX_BODY_BYTES} bytes.")
        if not is_old and headers.get("expect", "").lower() == "100-continue":
            self.connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = self.rfile.read(int(length))
        if len(body) < int(length):
            raise ConnectionError("the client left in the middle of its body")
        options = headers.get("connection", "").lower().replace(" ", "").split(",")
        self._closing = is_old or "close" in options or self._is_alone
        authorization, content_type = headers.get("authorization", ""), headers.get("content-type", "")
        return Request(self._method, self._target, authorization, content_type, body)

    def _read_headers(self) -> dict[str, str]:
        """The headers, names in small letters, those given twice joined by a comma."""
        headers: dict[str, str] = {}
        for _ in range(MAX_HEADERS + 1):
            line = self._read_line(431)
            if line in (b"\r\n", b"\n"):
                return headers
            if (field := _HEADER_LINE.fullmatch(line)) is None:
                raise _malformed("A header line is no HTTP.")
            name, value = field[1].decode().lower(), field[2].decode("latin-1")
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        raise Rejection(431, "too many headers", f"A request may have {MAX_HEADERS} headers.")

    def _read_line(self, status: int) -> bytes:
        """One line with its end; `status` is what one that is too long is answered with."""
        line = self.rfile.readline(MAX_LINE_BYTES)
        if len(line) == MAX_LINE_BYTES:
            raise Rejection(status, reason(status), f"A line of a request may have {MAX_LINE_BYTES} bytes.")
        if not line.endswith(b"\n"):
            raise ConnectionError("the client left")
        return line

    def _refuse(self, rejection: Rejection) -> None:
        """Answer, then close; what still comes is read first, or a reset could overtake the answer."""
        self._closing = True
        reply = self._listener.service.reject(Request(self._method, self._target), rejection)
        self.connection.sendall(self._raw(reply))
        self.connection.shutdown(socket.SHUT_WR)
        self.connection.settimeout(_DRAIN_S)
        for _ in range(64 * MAX_BODY_BYTES // MAX_LINE_BYTES):
            if not self.connection.recv(MAX_LINE_BYTES):
                break

    def _misbehave(self, fault: Fault, reply: Response) -> None:
        """Send the reply of a fault in the way that the fault says."""
        match fault.kind:
            case Kind.RESET:
                self._closing = True
                # With a linger of zero, close sends RST; it is real once nothing reads from the socket.
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.rfile.close()
                self.connection.close()
            case Kind.CLOSE:
                self._closing = True
            case Kind.HANG:
                self._closing = True
                self._pause(fault.seconds)
            case Kind.SLOW:
                self._pause(fault.seconds)
                self.connection.sendall(self._raw(reply))
            case Kind.TRUNCATED:
                self._closing = True
                self.connection.sendall(self._raw(reply)[: -((len(reply.body) + 1) // 2)])
            case Kind.DRIP:
                raw = self._raw(reply)
                for at in range(len(raw)):
                    self.connection.sendall(raw[at : at + 1])
                    self._pause(fault.seconds / len(raw))
            case _:
                self.connection.sendall(self._raw(reply))

    def _pause(self, seconds: float) -> None:
        """Wait; `stop` cuts it short with `ConnectionAbortedError`."""
        if seconds and self._listener.stopping.wait(None if seconds == math.inf else seconds):
            raise ConnectionAbortedError("the server stops")

    def _raw(self, reply: Response) -> bytes:
        """The answer's bytes, head and body in one."""
        lines = [
            f"HTTP/1.1 {reply.status} {reason(reply.status)}",
            f"Server: {SERVER_NAME}",
            f"Date: {formatdate(self._listener.clock(), usegmt=True)}",
            *(f"{name}: {value}" for name, value in reply.headers.items()),
        ]
        if reply.body:
            lines.append(f"Content-Type: {reply.content_type}")
        if reply.status not in (204, 304):
            lines.append(f"Content-Length: {len(reply.body)}")
        if self._closing:
            lines.append("Connection: close")
        head = "\r\n".join([*lines, "", ""]).encode("latin-1")
        return head if self._method == "HEAD" else head + reply.body


def _malformed(description: str) -> Rejection:
    return Rejection(400, "malformed request", description)
