"""One exchange as it goes: how far it has come, whether its request left, and the watchdog that ends it."""

import math
import socket
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from enum import StrEnum
from typing import Any, NamedTuple

_LOOK_AGAIN_S = 1.0
"""The watchdog never sleeps longer while it watches, as its clock may run on while the machine is suspended."""


class Stage(StrEnum):
    """How far an exchange has come, in order."""

    LOOK_UP = "name look-up"
    CONNECT = "connect"
    PROXY_TLS = "TLS handshake with the proxy"
    TUNNEL = "CONNECT at the proxy"
    TLS = "TLS handshake"
    HEAD = "head"
    BODY = "body"


class Watchdog:
    """Shuts the socket of each exchange that outlives its deadline, whatever the exchange is doing.

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
        """Give an exchange a deadline, or another one. Raises `RuntimeError` where no thread can be started."""
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
        """Note that the request leaves now. Raises `TimeoutError`, and nothing leaves, where the deadline is over."""
        with self._turn:
            if exchange.is_late or self._clock() >= exchange.until_s:
                raise TimeoutError
            exchange.is_sent = True
            exchange.reach(Stage.HEAD)

    def leave(self, exchange: "Exchange") -> bool:
        """Watch an exchange no more; its socket is not touched from here on. Returns whether it was in time."""
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
                            # Not the method of a TLS socket: that would let the reader go on without TLS.
                            socket.socket.shutdown(exchange.sock, socket.SHUT_RDWR)
                self._wakes_s = min((each.until_s for each in self._watched), default=math.inf)
                self._turn.wait(min(self._wakes_s - now_s, _LOOK_AGAIN_S) if self._watched else None)


class Means(NamedTuple):
    """What the exchanges of one transport share."""

    dial: "Callable[[Exchange, Iterable[tuple[Any, ...]]], socket.socket]"
    watchdog: Watchdog
    clock: Callable[[], float]
    connect_timeout_s: float


class Exchange:
    """One request and its answer, as far as they have come.

    `until_s` is the deadline, by the transport's clock. `sock` is the socket from before it connects. `is_sent`
    is False only while no byte of the request itself can have left. `is_late` is whether the watchdog ended it.
    `is_new_tls_1_3` is whether its connection was made for it, over TLS 1.3.
    """

    __slots__ = ("is_late", "is_new_tls_1_3", "is_sent", "means", "sock", "stage", "until_s")

    def __init__(self, means: Means) -> None:
        self.means = means
        self.until_s = math.inf
        self.stage = Stage.LOOK_UP
        self.sock: socket.socket | None = None
        self.is_sent = False
        self.is_late = False
        self.is_new_tls_1_3 = False

    def reach(self, stage: Stage) -> None:
        """Note how far it has come. Once it is late, that stays where it was: what is cut off can look complete."""
        if not self.is_late:
            self.stage = stage


class Ongoing(threading.local):
    """The exchange that a thread is about: what the libraries call back into has no other way to it."""

    exchange: Exchange


ongoing = Ongoing()
