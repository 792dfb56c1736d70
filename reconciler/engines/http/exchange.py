"""The state of one exchange: its stage, whether its request left, and the watchdog that ends a late exchange."""

import math
import socket
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from enum import StrEnum
from typing import Any, NamedTuple

_LOOK_AGAIN_S = 1.0
"""The longest sleep of the watchdog in seconds.

The clock may go on while the machine is suspended, and the sleep does not.
"""


class Stage(StrEnum):
    """The stages of an exchange, in order."""

    LOOK_UP = "name look-up"
    CONNECT = "connect"
    PROXY_TLS = "TLS handshake with the proxy"
    TUNNEL = "CONNECT at the proxy"
    TLS = "TLS handshake"
    HEAD = "head"
    BODY = "body"


class Watchdog:
    """Shuts down the socket of each exchange that exceeds its deadline, at any stage.

    One thread watches all exchanges. The thread starts with the first exchange, and ends with `close`.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._turn = threading.Condition()
        self._watched: set[Exchange] = set()
        self._wakes_s = math.inf
        self._thread: threading.Thread | None = None
        self._is_closed = False

    def watch(self, exchange: "Exchange", until_s: float) -> None:
        """Set or replace the deadline of an exchange. Raises `RuntimeError` if no thread can be started."""
        with self._turn:
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="watchdog", daemon=True)
                thread.start()
                self._thread = thread
            exchange.until_s = until_s
            if not exchange.is_late:
                self._watched.add(exchange)
            if until_s < self._wakes_s:
                self._turn.notify()

    def begin_sending(self, exchange: "Exchange") -> None:
        """Record that the request leaves now.

        Raises `TimeoutError` if the deadline is over; then the caller must send nothing.
        """
        with self._turn:
            if exchange.is_late or self._clock() >= exchange.until_s:
                raise TimeoutError
            exchange.is_sent = True
            exchange.reach(Stage.HEAD)

    def leave(self, exchange: "Exchange") -> bool:
        """Stop watching an exchange, and return whether the exchange ended in time.

        The watchdog no longer touches the socket.
        """
        with self._turn:
            self._watched.discard(exchange)
            exchange.sock = None
            return not exchange.is_late

    def close(self) -> None:
        """End the thread."""
        with self._turn:
            self._is_closed = True
            self._turn.notify()

    def _run(self) -> None:
        with self._turn:
            while not self._is_closed:
                now_s = self._clock()
                for exchange in [each for each in self._watched if each.until_s <= now_s]:
                    self._watched.discard(exchange)
                    exchange.is_late = True
                    if exchange.sock is not None:
                        with suppress(OSError):
                            # The method of a TLS socket would remove TLS, and the reader would go on in clear text.
                            socket.socket.shutdown(exchange.sock, socket.SHUT_RDWR)
                self._wakes_s = min((each.until_s for each in self._watched), default=math.inf)
                self._turn.wait(min(self._wakes_s - now_s, _LOOK_AGAIN_S) if self._watched else None)


class TransportContext(NamedTuple):
    """The parts that all exchanges of one transport share."""

    dial: "Callable[[Exchange, Iterable[tuple[Any, ...]]], socket.socket]"
    watchdog: Watchdog
    clock: Callable[[], float]
    connect_timeout_s: float


class Exchange:
    """One request and its answer, as far as both have come.

    `until_s` is the deadline, in seconds of the transport's clock. `sock` is set from before the socket connects.
    `is_sent` is False only while no byte of the request can have left. `is_late` is True if the watchdog ended the
    exchange. `is_new_tls_1_3` is True if the connection was made for this exchange, over TLS 1.3.
    """

    __slots__ = ("context", "is_late", "is_new_tls_1_3", "is_sent", "sock", "stage", "until_s")

    def __init__(self, context: TransportContext) -> None:
        self.context = context
        self.until_s = math.inf
        self.stage = Stage.LOOK_UP
        self.sock: socket.socket | None = None
        self.is_sent = False
        self.is_late = False
        self.is_new_tls_1_3 = False

    def reach(self, stage: Stage) -> None:
        """Record the stage that the exchange has reached.

        A late exchange keeps its stage, since an answer that is cut off can look complete.
        """
        if not self.is_late:
            self.stage = stage


class Ongoing(threading.local):
    """The exchange of the calling thread.

    The libraries call methods of ours without an argument that could carry the exchange.
    """

    exchange: Exchange


ongoing = Ongoing()
