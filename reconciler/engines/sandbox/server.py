"""The embedded server: HTTP/1.1 on loopback, and the faults that happen on the network."""

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
from reconciler.engines.sandbox.life import Database
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
    """A server that speaks the jobs API on 127.0.0.1, and simulates the jobs.

        db_path         the SQLite file that keeps everything; created if it does not exist
        port            0 takes a free port
        access_token    the required value of the header `Authorization`
        api_key         buys further access tokens, each valid for `token_seconds`; "" for none
        latency_s       the delay of each response
        job_seconds     the time that a run takes until it completes
        create_missing  an unknown id counts as a draft
        reads           False leaves only run, abort and delete

    The server serves from `start` to `stop`, once. Raises `ValueError` for an empty token, and `EngineError` if the
    port or the database can't be used.
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
        self._database = Database(db_path)
        options = Options(access_token, api_key, token_seconds, job_seconds, create_missing, reads)
        service = Service(self._database, Faults(faults), options, clock, randbytes)
        try:
            self._listener = _Listener(port, service, latency_s, clock)
        except (OSError, OverflowError) as error:
            self._database.close()
            raise EngineError(
                f"can't listen on {HOST}:{port}: {error}", "Give another port, or 0 for a free one."
            ) from error

    @property
    def endpoint(self) -> str:
        """The base URL of the jobs API, without a slash at the end."""
        return f"http://{HOST}:{self._listener.server_address[1]}/v1/customer"

    @property
    def banner(self) -> str:
        """The text for the person who starts the server: what it simulates, its address and its files."""
        return (
            f"reconciler sandbox at {self.endpoint}\n"
            "It simulates the jobs API: no job is real, no work is done, nothing costs money.\n"
            f"Its jobs and its ledger are kept in {os.fspath(self._db_path)}"
        )

    def start(self) -> None:
        """Serve requests in a thread of its own."""
        self._thread = threading.Thread(
            target=self._listener.serve_forever, args=(_POLL_S,), name="sandbox", daemon=True
        )
        self._thread.start()

    def serve_forever(self) -> None:
        """Serve until `ask_to_stop` is called, or until another thread calls `stop`."""
        try:
            self.start()
            self._listener.stopping.wait()
        finally:
            self.stop()

    def ask_to_stop(self) -> None:
        """Make `serve_forever` return. A signal handler and any thread may call this method."""
        self._listener.stopping.set()

    def stop(self) -> None:
        """Close every connection and the database.

        A request that is being carried out is completed and stored first.
        """
        if self._thread is not None:
            self._listener.stop()
            self._thread.join()
        self._listener.server_close()
        self._database.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()


class _Listener(socketserver.ThreadingMixIn, socketserver.TCPServer):
    """Accepts connections, and serves each in a thread. `http.server.HTTPServer` would look up the host's own name."""

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
        """Whether the thread that accepts connections is serving one."""
        super().__init__((HOST, port), _Connection)

    def process_request(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request(request, client_address)
        except RuntimeError:
            # No thread can be started. This thread answers one request, and closes the connection.
            self.is_alone = True
            try:
                super().process_request_thread(request, client_address)
            finally:
                self.is_alone = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        # The exception goes to the hook of the thread. `socketserver` would print the error with the request's content.
        raise  # noqa: PLE0704  socketserver calls this method inside an `except` block

    def stop(self) -> None:
        """Accept no more connections, close all open ones, and wait for their threads."""
        self.stopping.set()
        self.shutdown()
        threads = self.connections.copy()
        for connection in threads.values():
            with suppress(OSError):  # the socket is closed already
                connection.shutdown(socket.SHUT_RDWR)
        deadline = time.monotonic() + _STOP_S
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))


class _Connection(socketserver.StreamRequestHandler):
    """One connection: reads requests, passes them to the service, and sends the responses.

    A fault decides how a response is sent, or that none is sent. The class parses HTTP itself. The parser of
    `http.server` takes half of the time of a call, and accepts malformed requests.
    """

    disable_nagle_algorithm = True

    def setup(self) -> None:
        super().setup()
        self._listener = cast(_Listener, self.server)
        self._listener.connections[threading.current_thread()] = self.connection
        self._is_alone = self._listener.is_alone

    def handle(self) -> None:
        # `setup` has registered the connection before this check, so that `stop` closes it or this check sees the stop.
        self._closing = self._listener.stopping.is_set()
        with suppress(OSError):  # the client left, or the server stops
            while not self._closing:
                self._serve_one()

    def finish(self) -> None:
        self._listener.connections.pop(threading.current_thread(), None)
        super().finish()

    def _serve_one(self) -> None:
        """Read one request and answer it. `_closing` is True afterwards if the connection is to be closed."""
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
        """Read the next request with its whole body.

        Raises `Rejection` for a malformed request (RFC 9112), and `ConnectionError` if the client leaves.
        """
        line = self._read_line(414)
        if line in (b"\r\n", b"\n"):  # RFC 9112, section 2.2: ignore one empty line
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
        """Read the headers. Names are in lower case, and the values of a repeated header are joined by a comma."""
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
        """Read one line with its line end. A line that is too long raises `Rejection` with `status`."""
        line = self.rfile.readline(MAX_LINE_BYTES)
        if len(line) == MAX_LINE_BYTES:
            raise Rejection(status, reason(status), f"A line of a request may have {MAX_LINE_BYTES} bytes.")
        if not line.endswith(b"\n"):
            raise ConnectionError("the client left")
        return line

    def _refuse(self, rejection: Rejection) -> None:
        """Send a failure and close the connection.

        Bytes that still arrive are read first, since a reset could overtake the response.
        """
        self._closing = True
        reply = self._listener.service.reject(Request(self._method, self._target), rejection)
        self.connection.sendall(self._raw(reply))
        self.connection.shutdown(socket.SHUT_WR)
        self.connection.settimeout(_DRAIN_S)
        for _ in range(64 * MAX_BODY_BYTES // MAX_LINE_BYTES):
            if not self.connection.recv(MAX_LINE_BYTES):
                break

    def _misbehave(self, fault: Fault, reply: Response) -> None:
        """Send the response in the way that the fault demands."""
        match fault.kind:
            case Kind.RESET:
                self._closing = True
                # With a linger of zero, `close` sends RST. The socket closes once `rfile` no longer refers to it.
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
        """Wait. Raises `ConnectionAbortedError` if the server stops meanwhile."""
        if seconds and self._listener.stopping.wait(None if seconds == math.inf else seconds):
            raise ConnectionAbortedError("the server stops")

    def _raw(self, reply: Response) -> bytes:
        """Return the bytes of a response: head and body."""
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
