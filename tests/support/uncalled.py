"""A port on loopback that a test expects nobody to connect to."""

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def serving_nothing() -> Iterator[tuple[int, Callable[[], int]]]:
    """Return a port on loopback, and a function that returns the number of connections to the port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.2)

        def connections() -> int:
            try:
                listener.accept()[0].close()
            except TimeoutError:
                return 0
            return 1

        yield listener.getsockname()[1], connections
