"""What a connection is made with, and what is left once it is closed."""

import socket
import threading
import time

from reconciler.engines.http.dial import Dialer
from reconciler.engines.http.exchange import _LOOK_AGAIN_S, Exchange, TransportContext, Watchdog
from waits import until


def watchdogs() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "watchdog"]


def test_the_options_of_a_connection_are_set_and_its_watchdog_ends_with_it() -> None:
    before = set(watchdogs())
    watchdog = Watchdog(time.monotonic)
    with socket.create_server(("127.0.0.1", 0)) as server:
        host, port = server.getsockname()
        dialer = Dialer(host, port, time.monotonic)
        exchange = Exchange(TransportContext(dialer.dial, watchdog, time.monotonic, 30.0))
        watchdog.watch(exchange, time.monotonic() + 3600)
        options = [(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1), (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]
        with dialer.dial(exchange, options) as connection:
            assert [connection.getsockopt(level, name) for level, name, _ in options] == [1, 1]
        assert watchdog.leave(exchange)
    assert set(watchdogs()) > before
    time.sleep(2 * _LOOK_AGAIN_S)  # it then waits for the next exchange, however long that takes
    watchdog.close()
    until(lambda: set(watchdogs()) <= before)
