"""The proxy of the contract suites breaks connections as it says."""

import socket
import threading
from collections.abc import Iterator

import pytest

from reconciler.testing.proxy import Fault, FaultProxy


@pytest.fixture
def requests() -> list[bytes]:
    """What the server got."""
    return []


@pytest.fixture
def server(requests: list[bytes]) -> Iterator[tuple[str, int]]:
    """A server that answers each piece with `done`."""
    listener = socket.create_server(("127.0.0.1", 0))
    threads = []

    def answer(connection: socket.socket) -> None:
        with connection:
            while piece := connection.recv(1024):
                requests.append(piece)
                connection.sendall(b"done")

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threads.append(threading.Thread(target=answer, args=(connection,)))
            threads[-1].start()

    threads.append(threading.Thread(target=accept))
    threads[0].start()
    yield listener.getsockname()
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    for thread in threads:
        thread.join()


def ask(proxy: FaultProxy) -> bytes:
    """Send one piece. Return the answer, b"" if the connection was cut, b"?" if nothing came for a second."""
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=1) as client:
        client.sendall(b"run")
        try:
            return client.recv(1024)
        except TimeoutError:
            return b"?"
        except ConnectionError:
            return b""


@pytest.mark.parametrize(
    ("fault", "answer", "arrives"),
    [
        (None, b"done", True),
        (Fault.UNSENT, b"", False),
        (Fault.LOST, b"", True),
        (Fault.HALF_OPEN, b"?", False),
        (Fault.SLOW, b"done", True),
    ],
)
def test_a_fault_meets_the_request_or_its_answer(
    server: tuple[str, int], requests: list[bytes], fault: Fault | None, answer: bytes, arrives: bool
) -> None:
    with FaultProxy(*server, fault=fault) as proxy:
        assert ask(proxy) == answer
        assert proxy.broken == (0 if fault is None else 1)
    assert requests == ([b"run"] if arrives else [])


def test_the_first_pieces_of_a_connection_may_be_spared(server: tuple[str, int], requests: list[bytes]) -> None:
    with FaultProxy(*server, fault=Fault.UNSENT, spared=1) as proxy:
        assert ask(proxy) == b"done"
        with socket.create_connection(("127.0.0.1", proxy.port), timeout=5) as client:
            client.sendall(b"first")
            assert client.recv(1024) == b"done"
            client.sendall(b"second")
            assert client.recv(1024) == b""
    assert requests == [b"run", b"first"]


def test_open_connections_can_be_cut(server: tuple[str, int]) -> None:
    with FaultProxy(*server) as proxy, socket.create_connection(("127.0.0.1", proxy.port), timeout=5) as client:
        client.sendall(b"run")
        assert client.recv(1024) == b"done"
        proxy.cut()
        assert client.recv(1024) == b""
