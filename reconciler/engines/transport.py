"""One request, one reply: pooled connections, a total deadline, and certainty about what was sent.

Built on `requests`' transport adapter, whose `send` takes a prepared request: no environment, no
netrc, no cookies, no redirects, no retries. urllib3 keeps the connections and makes TLS, http.client
reads the bodies. What is added by subclassing: a connection notes that sending began, connecting is
bounded as a whole, and each wait gets only what is left of the deadline. Heads are written and read
here, and http.client's answer is taken as it is: what the libraries make of them costs more than the
exchange itself.
"""

import http.client
import io
import json
import socket
import ssl
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from http import HTTPStatus
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, NamedTuple, cast
from urllib.parse import urlsplit

import requests.utils
from requests import PreparedRequest, RequestException, Response
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.util.wait import wait_for_read, wait_for_write

from reconciler.engines.http import Reply

if TYPE_CHECKING:
    from requests.structures import CaseInsensitiveDict

BODY_LIMIT_BYTES = 1024 * 1024
IDLE_LIMIT_S = 1.5
"""A connection that idled for longer is not used again.

A server may be closing it at this moment, and a `run` on it would be in doubt. Common servers
close after two seconds or more.
"""

_LINE_LIMIT_BYTES = 65536
_HEADERS_LIMIT = 100
_KEPT_HEADERS = ("retry-after", "date", "location")


class _Exchange:
    """What is noted of the request that a thread is making; times are those of `clock`."""

    __slots__ = ("clock", "connect_until_s", "sent", "until_s")

    def __init__(self, clock: Callable[[], float], timeout_s: float, connect_timeout_s: float) -> None:
        self.clock = clock
        self.until_s = clock() + timeout_s
        self.connect_until_s = clock() + min(timeout_s, connect_timeout_s)
        self.sent = False

    def left_s(self) -> float:
        """What is left of the deadline, in seconds. Raises `TimeoutError` where nothing is."""
        left_s = self.until_s - self.clock()
        if left_s <= 0:
            raise TimeoutError
        return left_s


class _Ongoing(threading.local):
    exchange: _Exchange


_ongoing = _Ongoing()


class _TimedSource(io.RawIOBase):
    """The byte stream of a socket that does not block, each read of which waits for what is left of the deadline."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._source = sock.makefile("rb", buffering=0)
        self._exchange = _ongoing.exchange
        self._is_tls = isinstance(sock, ssl.SSLSocket)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if not self._is_tls:  # else there may be more of a record that was read before
            wait_for_read(self._sock, self._exchange.left_s())
        while (read := self._tried(buffer)) is None:
            wait_for_read(self._sock, self._exchange.left_s())
        return read

    def _tried(self, buffer: Any) -> int | None:
        """How many bytes were read; None where there are none yet."""
        try:
            return self._source.readinto(buffer)
        except ssl.SSLWantReadError:
            return None

    def close(self) -> None:
        self._source.close()
        super().close()


class _TimedSocket:
    """The one method that an `http.client.HTTPResponse` asks of its socket."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(_TimedSource(self._sock))


class _TimedResponse(http.client.HTTPResponse):
    def __init__(self, sock: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(_TimedSocket(sock), *args, **kwargs)  # type: ignore[arg-type]

    def begin(self) -> None:
        """Read the head of the answer, as http.client does but for its e-mail parser, which costs a third of it all.

        `headers` is a dict by lower-case name. Interim answers are passed over (RFC 9110, 15.2).
        """
        own: Any = self
        while True:
            version, own.status, own.reason = own._read_status()
            own.headers = headers = _headers(self.fp)
            if not 100 <= own.status < 200 or own.status == HTTPStatus.SWITCHING_PROTOCOLS:
                break
        if not version.startswith("HTTP/1."):
            raise http.client.UnknownProtocol(version)
        own.version = 10 if version == "HTTP/1.0" else 11
        own.chunked = headers.get("transfer-encoding", "").lower() == "chunked"
        own.chunk_left = None
        length = headers.get("content-length", "").partition(",")[0].strip()
        own.length = int(length) if length.isascii() and length.isdigit() and not own.chunked else None
        if own.status in (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED, HTTPStatus.SWITCHING_PROTOCOLS):
            own.length = 0
        own.will_close = own._check_close() or (own.length is None and not own.chunked)


def _headers(source: Any) -> dict[str, str]:
    """The headers of a head, by lower-case name; of several with one name, joined by commas.

    Raises `http.client.HTTPException` where they are too long or too many.
    """
    found: dict[str, str] = {}
    last = ""
    for _ in range(_HEADERS_LIMIT + 1):
        line = source.readline(_LINE_LIMIT_BYTES + 1)
        if len(line) > _LINE_LIMIT_BYTES:
            raise http.client.LineTooLong("header line")
        if line in (b"\r\n", b"\n", b""):
            return found
        name, colon, value = line.decode("iso-8859-1").partition(":")
        if line[:1] in b" \t":  # the line before goes on (RFC 9112, 5.2)
            found[last] = f"{found.get(last, '')} {line.decode('iso-8859-1').strip()}"
        elif colon:
            last = name.lower()
            found[last] = f"{found[last]}, {value.strip()}" if last in found else value.strip()
    raise http.client.HTTPException(f"more than {_HEADERS_LIMIT} headers")


class _Connection(HTTPConnection):
    _used_at_s = 0.0

    @property
    def is_connected(self) -> bool:
        return _ongoing.exchange.clock() - self._used_at_s < IDLE_LIMIT_S and super().is_connected

    def connect(self) -> None:
        exchange = _ongoing.exchange
        self.timeout = exchange.connect_until_s - exchange.clock()
        _connect_within(self.timeout, super().connect, self.close)
        # Each wait has its own limit from here on, and to set that on the socket would cost a system call.
        self.sock.setblocking(False)

    def request(self, method: str, url: str, body: Any = None, headers: Any = None, **_options: Any) -> None:
        """Send head and body in one piece: mostly one packet, and one point after which all is in doubt."""
        content = _head(method, url, headers) + (body or b"")
        exchange = _ongoing.exchange
        if self.sock is None:
            self.connect()
        assert self.sock is not None
        exchange.left_s()
        exchange.sent = True
        _send(self.sock, content, exchange)

    def getresponse(self) -> Any:
        response = _TimedResponse(self.sock)
        try:
            response.begin()
        except BaseException:
            response.close()
            raise
        if response.will_close:
            self.close()
        self._used_at_s = _ongoing.exchange.clock()
        return response


class _TlsConnection(_Connection, HTTPSConnection):
    """The same over TLS: `_Connection` stands before the TLS connection in the order of calls."""


def _head(method: str, url: str, headers: Mapping[str, str]) -> bytes:
    """The head of a request (RFC 9112, 2.1). Raises `ValueError` for what could end a line of it."""
    lines = [f"{method} {url} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    if not all(line.isascii() and line.isprintable() for line in lines):
        raise ValueError("a character that no head can hold")
    return "\r\n".join((*lines, "", "")).encode()


def _send(sock: socket.socket, content: bytes, exchange: _Exchange) -> None:
    """Send it all on a socket that does not block. Raises `OSError`, a `TimeoutError` where the deadline passes."""
    left = memoryview(content)
    while left:
        with suppress(BlockingIOError, ssl.SSLWantWriteError):
            left = left[sock.send(left) :]
            continue
        wait_for_write(sock, exchange.left_s())


def _connect_within(timeout_s: float, connect: Callable[[], None], close: Callable[[], None]) -> None:
    """Run `connect`, but wait for it no longer than `timeout_s`.

    In a thread of its own, as a name look-up knows no timeout, and each of a host's addresses
    gets the whole timeout anew. Connecting sends no byte of the request, so it may be abandoned.
    """
    ended: SimpleQueue[Exception | None] = SimpleQueue()
    abandoned = threading.Event()

    def run() -> None:
        try:
            connect()
        except Exception as error:  # noqa: BLE001  raised again below, in the thread that waits
            ended.put(error)
        else:
            ended.put(None)
        if abandoned.is_set():
            close()

    threading.Thread(target=run, name="connect", daemon=True).start()
    try:
        error = ended.get(timeout=max(0.0, timeout_s))
    except Empty:
        abandoned.set()
        raise TimeoutError from None
    if error is not None:
        raise error


class _Answer(NamedTuple):
    """An answer whose body is yet to be read, and the connection that it comes on."""

    response: http.client.HTTPResponse
    connection: HTTPConnection
    pool: HTTPConnectionPool

    def read(self, limit_bytes: int) -> bytes:
        """The body, up to one byte more than the limit. Raises `IncompleteRead` where it breaks off."""
        pieces: list[bytes] = []
        left_bytes = limit_bytes + 1
        while left_bytes and (piece := self.response.read(left_bytes)):
            pieces.append(piece)
            left_bytes -= len(piece)
        if left_bytes and self.response.length:
            raise http.client.IncompleteRead(b"".join(pieces), self.response.length)
        return b"".join(pieces)

    def end(self, *, reuse: bool) -> None:
        """Give the connection back, or close it."""
        self.response.close()
        if not reuse:
            self.connection.close()
        self.pool._put_conn(self.connection)


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection

    def urlopen(  # type: ignore[override]
        self, method: str, url: str, body: bytes | None, headers: Mapping[str, str], **_options: Any
    ) -> _Answer:
        """Send once on a connection of the pool."""
        connection = self._get_conn()
        try:
            connection.request(method, url, body, headers)
            response = connection.getresponse()
        except BaseException:
            connection.close()
            # Never again this one: an attempt to connect that was given up may yet give it a socket.
            self._put_conn(None)
            raise
        return _Answer(cast("http.client.HTTPResponse", response), cast("HTTPConnection", connection), self)


class _TlsPool(_Pool, HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


class _Adapter(HTTPAdapter):
    """The adapter of `requests` over one pool of the connections above, without what would look at the environment.

    Its own default is not to retry.
    """

    def __init__(self, pool: HTTPConnectionPool, origin: str) -> None:
        super().__init__()
        self._pool = pool
        self._origin = origin

    def get_connection_with_tls_context(self, *_args: Any, **_kwargs: Any) -> HTTPConnectionPool:
        return self._pool

    def cert_verify(self, *_args: Any, **_kwargs: Any) -> None:
        """Leave the pool alone: its context has the certificates and demands one."""

    def request_url(self, request: PreparedRequest, _proxies: Any) -> str:
        assert request.url is not None
        return request.url.removeprefix(self._origin)

    def build_response(self, _request: PreparedRequest, raw: Any) -> Response:
        """The answer as it came: its cookies are not kept, and its body is read elsewhere."""
        return cast("Response", raw)

    def close(self) -> None:
        super().close()
        self._pool.close()


class Transport:
    """Sends requests below one endpoint. Every method may be called from several threads at once.

    `timeout_s` bounds each request as a whole, `connect_timeout_s` the part of it before the
    first byte. Proxies, netrc and the environment's certificates are ignored.
    """

    def __init__(
        self,
        endpoint: str,
        *,
        pool_size: int,
        timeout_s: float,
        connect_timeout_s: float,
        clock: Callable[[], float],
    ) -> None:
        parts = urlsplit(endpoint)
        self._host = parts.netloc
        self._timeout_s = timeout_s
        self._connect_timeout_s = connect_timeout_s
        self._clock = clock
        assert parts.hostname
        if parts.scheme == "https":
            # One context for all connections, as reading the bundle of certificates takes 20 ms.
            tls = ssl.create_default_context(cafile=requests.utils.DEFAULT_CA_BUNDLE_PATH)
            pool: HTTPConnectionPool = _TlsPool(parts.hostname, parts.port, maxsize=pool_size, ssl_context=tls)
        else:
            pool = _Pool(parts.hostname, parts.port, maxsize=pool_size)
        self._adapter = _Adapter(pool, f"{parts.scheme}://{parts.netloc}")

    def exchange(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None) -> Reply:
        """Send one request once, and read what comes back. Never raises for what the network does."""
        exchange = _ongoing.exchange = _Exchange(self._clock, self._timeout_s, self._connect_timeout_s)
        try:
            answer = cast(
                "_Answer", self._adapter.send(self._prepared(method, url, headers, body), timeout=self._timeout_s)
            )
        except Exception as error:  # noqa: BLE001  an odd answer can make the libraries raise anything
            return Reply(exchange.sent, fault=self._fault(exchange, error))
        told: Mapping[str, str] = cast("Any", answer.response.headers)
        content = b""
        fault = ""
        try:
            if len({length.strip() for length in told.get("content-length", "").split(",")}) > 1:
                raise http.client.HTTPException("lengths that differ")
            content = answer.read(BODY_LIMIT_BYTES)
            if len(content) > BODY_LIMIT_BYTES:
                fault = f"the answer is longer than {BODY_LIMIT_BYTES // 1024} KiB"
        except Exception as error:  # noqa: BLE001  as above
            content = error.partial if isinstance(error, http.client.IncompleteRead) else b""
            fault = self._fault(exchange, error)
        encoding = told.get("content-encoding", "identity")
        if not fault and encoding.lower() != "identity":
            fault = f"the answer came as {encoding}, which was not asked for"
        # After a fault, or an empty body, more may come, and must never be read as the answer to the next request.
        answer.end(reuse=bool(content) and not fault)
        text = content[:BODY_LIMIT_BYTES].decode(errors="replace")
        return Reply(
            sent=True,
            status=answer.response.status,
            headers={name: value for name in _KEPT_HEADERS if (value := told.get(name)) is not None},
            text=text,
            document=_json(content),
            fault=fault,
        )

    def close(self) -> None:
        """Drop the connections."""
        self._adapter.close()

    def _prepared(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None) -> PreparedRequest:
        # `PreparedRequest.prepare` would rewrite the URL, which is percent-encoded already, and cost more than to send.
        request = PreparedRequest()
        request.method = method
        request.url = url
        request.body = body
        # A POST without a body says so (RFC 9110, 8.6).
        framing = {"Content-Length": str(len(body or b""))} if body is not None or method == "POST" else {}
        own = {"Host": self._host, "User-Agent": "reconciler", "Accept-Encoding": "identity"}
        # A plain mapping serves as well, and spares two copies of the other.
        request.headers = cast("CaseInsensitiveDict[str]", {**own, **headers, **framing})
        return request

    def _fault(self, exchange: _Exchange, error: Exception) -> str:
        cause = _cause(error)
        if exchange.sent:
            return self._fault_after_sending(cause)
        return f"{self._host}: {_fault_before_sending(cause)}"

    def _fault_after_sending(self, cause: BaseException) -> str:
        match cause:
            case TimeoutError():
                return f"no whole answer within {self._timeout_s:g} s"
            case http.client.RemoteDisconnected():
                return "the connection was closed before an answer came"
            case ConnectionError():
                return "the connection was reset before the whole answer came"
            case http.client.IncompleteRead():
                return "the answer broke off before its end"
            case _:
                return f"what came back is no readable HTTP answer ({type(cause).__name__})"


def _fault_before_sending(cause: BaseException) -> str:
    match cause:
        case socket.gaierror():
            return "the host name does not resolve"
        case TimeoutError():
            return "no connection in time"
        case ConnectionRefusedError():
            return "the host refused the connection"
        case ssl.SSLCertVerificationError():
            return f"TLS failed: the certificate is not accepted ({cause.verify_message})"
        case ssl.SSLError():
            return f"TLS failed ({cause.reason or cause})"
        case OSError():
            return f"no connection ({cause.strerror or type(cause).__name__})"
        case _:
            return f"the request could not be made ({type(cause).__name__})"


def _cause(error: BaseException) -> BaseException:
    """The innermost error of the network or of HTTP, below what the libraries wrap around it."""
    cause, step = error, error.__cause__ or error.__context__
    while step:
        if isinstance(step, (OSError, http.client.HTTPException)) and not isinstance(step, RequestException):
            cause = step
        step = step.__cause__ or step.__context__
    return cause


def _json(content: bytes) -> object:
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None
