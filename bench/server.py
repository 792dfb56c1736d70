"""A service that answers each call after so many seconds, offers no reads, and costs next to nothing itself.

It prints its port, and at the end of its input, as JSON, how many calls there were and the seconds from
the first of them to the last answer. `python server.py LATENCY_S`
"""

import asyncio
import json
import sys
import time

_DONE = b'{"ok":true,"requestId":"r-1"}'
_OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(_DONE), _DONE)
_NONE = b"HTTP/1.1 404 Not Found\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"


class Service:
    """Counts the calls that change a job, and notes when they came and went."""

    def __init__(self, latency_s: float) -> None:
        self._latency_s = latency_s
        self.calls = 0
        self.first_s = self.last_s = 0.0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one connection's requests, one after another."""
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                name = b"content-length:"
                lengths = [line[len(name) :] for line in head.lower().split(b"\r\n") if line.startswith(name)]
                if lengths:
                    await reader.readexactly(int(lengths[0]))
                is_read = head.startswith(b"GET")
                if not is_read:
                    self.calls += 1
                    self.first_s = self.first_s or time.monotonic()
                await asyncio.sleep(self._latency_s)
                writer.write(_NONE if is_read else _OK)
                if not is_read:
                    self.last_s = time.monotonic()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()


async def main() -> None:
    service = Service(float(sys.argv[1]))
    server = await asyncio.start_server(service.serve, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    print(json.dumps({"calls": service.calls, "seconds": service.last_s - service.first_s}), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
