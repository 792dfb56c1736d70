"""A TCP proxy that breaks connections, for homes of state and engines that are reached over a network."""

import contextlib
import random
import socket
import threading
import time
from collections.abc import Callable
from enum import StrEnum
from types import TracebackType
from typing import Self

_PIECE_BYTES = 1 << 16


class Fault(StrEnum):
    """What happens to a piece of a request.

    UNSENT     the connection is cut before the piece reaches the server
    LOST       the piece reaches the server, and the connection is cut before an answer comes back
    HALF_OPEN  the connection stays open, and nothing passes any more in either direction
    SLOW       the piece is late
    """

    UNSENT = "unsent"
    LOST = "lost"
    HALF_OPEN = "half-open"
    SLOW = "slow"


class FaultProxy:
    """A proxy in front of a server, in threads of this process. It is closed when the block ends.

    A piece is what one read from the client brings. Each piece after the first `spared` ones of a connection meets the
    `fault` with the given `chance`, drawn from a generator with the `seed`. `fault` may be changed at any time; without
    one, all pieces pass. `LOST` gives the server `work_s` seconds for the piece before the connection is cut.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        fault: Fault | None = None,
        chance: float = 1.0,
        seed: int = 0,
        spared: int = 0,
        work_s: float = 0.3,
    ) -> None:
        self._server = host, port
        self._chance, self._spared, self._work_s = chance, spared, work_s
        self._random = random.Random(seed)  # noqa: S311  a test has to be repeatable
        self._turn = threading.Lock()
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.fault = fault
        self.broken = 0
        """How many pieces met a fault."""

    @property
    def port(self) -> int:
        """The port of the proxy, on 127.0.0.1."""
        port: int = self._listener.getsockname()[1]
        return port

    def __enter__(self) -> Self:
        self._threads.append(threading.Thread(target=self._accept, name="fault-proxy", daemon=True))
        self._threads[0].start()
        return self

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, at: TracebackType | None) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        for thread in self._threads:
            thread.join()

    def cut(self) -> None:
        """Cut every connection that is open now."""
        with self._turn:
            ends = list(self._open)
        _cut(*ends)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(self._server, timeout=10)
            except OSError:
                client.close()
                continue
            server.settimeout(None)
            with self._turn:
                self._open |= {client, server}
            link = _Link(self, client, server)
            self._threads += link.start()

    def meets(self, count: int) -> Fault | None:
        """Return the fault that the `count`-th piece of a connection meets, None if it passes."""
        with self._turn:
            if self.fault is None or count <= self._spared or self._random.random() >= self._chance:
                return None
            self.broken += 1
            return self.fault

    def forget(self, *ends: socket.socket) -> None:
        """Close the ends of a connection."""
        with self._turn:
            self._open -= set(ends)
        for end in ends:
            end.close()

    @property
    def work_s(self) -> float:
        """The seconds that the server has for a piece whose answer is lost."""
        return self._work_s


class _Link:
    """One connection through the proxy."""

    def __init__(self, proxy: FaultProxy, client: socket.socket, server: socket.socket) -> None:
        self._proxy, self._client, self._server = proxy, client, server
        self._is_mute = False
        self._turn = threading.Lock()
        self._ended = 0

    def start(self) -> list[threading.Thread]:
        """Start carrying both ways, in two threads. The later one closes the sockets."""
        pumps = (self._carry_requests, self._carry_answers)
        threads = [threading.Thread(target=self._until_end, args=(pump,), daemon=True) for pump in pumps]
        for thread in threads:
            thread.start()
        return threads

    def _until_end(self, pump: Callable[[], None]) -> None:
        with contextlib.suppress(OSError):
            pump()
        with self._turn:
            self._ended += 1
            is_last = self._ended == 2
        if is_last:
            self._proxy.forget(self._client, self._server)

    def _carry_requests(self) -> None:
        count = 0
        while piece := self._client.recv(_PIECE_BYTES):
            count += 1
            if not self._passes(piece, self._proxy.meets(count)):
                return
        self._server.shutdown(socket.SHUT_WR)

    def _passes(self, piece: bytes, fault: Fault | None) -> bool:
        """Pass a piece on under a fault. Returns False if the connection is over."""
        match fault:
            case Fault.UNSENT:
                _cut(self._client, self._server)
                return False
            case Fault.HALF_OPEN:
                self._is_mute = True
                return False
            case Fault.LOST:
                self._is_mute = True
                self._server.sendall(piece)
                time.sleep(self._proxy.work_s)
                _cut(self._client, self._server)
                return False
            case Fault.SLOW:
                time.sleep(self._proxy.work_s)
        self._server.sendall(piece)
        return True

    def _carry_answers(self) -> None:
        while piece := self._server.recv(_PIECE_BYTES):
            if not self._is_mute:
                self._client.sendall(piece)
        if not self._is_mute:
            _cut(self._client)


def _cut(*ends: socket.socket) -> None:
    for end in ends:
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
