"""The base of the test servers on 127.0.0.1: accept connections, and serve each in a thread of its own."""

import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress


class Listener:
    """Accepts connections, over TLS if a context is given. A subclass defines `serve`.

    `__init__` starts the threads, so a subclass sets its own attributes before it calls `super().__init__`. `closing`
    is set once the server is to end.
    """

    def __init__(self, tls: ssl.SSLContext | None = None, port: int = 0) -> None:
        self._tls = tls
        self._listener = socket.create_server(("127.0.0.1", port), backlog=128)
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self.closing = threading.Event()
        self.connections = 0
        self.port: int = self._listener.getsockname()[1]
        self._start(self._accept)

    def serve(self, connection: socket.socket) -> None:
        """Serve one connection, which is closed afterwards. `OSError` and `ValueError` end the connection silently."""
        raise NotImplementedError

    def close(self) -> None:
        """Stop accepting, and close every connection."""
        self.closing.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._threads[0].join()
        for connection in self._open:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _start(self, run: Callable[[], None]) -> None:
        thread = threading.Thread(target=run, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._open.append(connection)
            self._start(lambda connection=connection: self._serve(connection))  # type: ignore[misc]

    def _serve(self, connection: socket.socket) -> None:
        try:
            if self._tls:
                connection = self._tls.wrap_socket(connection, server_side=True)
                self._open.append(connection)
            self.serve(connection)
        except (OSError, ValueError):
            pass  # The client or the server closed the connection; many of these tests do this on purpose.
        finally:
            connection.close()
