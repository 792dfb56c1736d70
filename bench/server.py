"""A service that answers each call after a fixed latency, offers no reads, and costs almost no CPU time.

    python server.py LATENCY_S

The server prints its port. When its input ends, the server prints JSON with the number of calls and with the seconds
from the first call to the last answer.
"""

import asyncio
import json
import sys
import time

_DONE = b'{"ok":true,"requestId":"r-1"}'
_OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(_DONE), _DONE)
_NONE = b"HTTP/1.1 404 Not Found\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"


class Service:
    """Counts the calls that change a job, and notes the time of the first call and of the last answer."""

    def __init__(self, latency_s: float) -> None:
        self.latency_s = latency_s
        self.calls = 0
        self.first_s = self.last_s = 0.0


class Connection(asyncio.Protocol):
    """Answers the requests of one connection in turn. Asyncio's streams and tasks would cost twice as much."""

    transport: asyncio.Transport

    def __init__(self, service: Service) -> None:
        self._service = service
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, blank, rest = self._received.partition(b"\r\n\r\n")
        if not blank:
            return
        length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
        if len(rest) < int(length or 0):
            return
        self._received = b""
        is_read = head.startswith(b"GET")
        if not is_read:
            self._service.calls += 1
            self._service.first_s = self._service.first_s or time.monotonic()
        asyncio.get_running_loop().call_later(self._service.latency_s, self._answer, is_read)

    def _answer(self, is_read: bool) -> None:
        self.transport.write(_NONE if is_read else _OK)
        if not is_read:
            self._service.last_s = time.monotonic()


async def main() -> None:
    service = Service(float(sys.argv[1]))
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(service), "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    print(json.dumps({"calls": service.calls, "seconds": service.last_s - service.first_s}), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
