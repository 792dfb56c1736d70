"""The embedded server without sockets: a transport that calls the service in the same process.

An engine that gets this transport in place of the network receives the same responses and the same faults, at once. For
each time that the network would take, the transport calls `pause`, which may put a simulated clock forward.
"""

from collections.abc import Callable, Mapping
from email.utils import formatdate

from reconciler.engines.http.reply import Reply, json_document
from reconciler.engines.sandbox.answers import Response
from reconciler.engines.sandbox.faults import Fault, Kind
from reconciler.engines.sandbox.service import Request, Service

BODY_LIMIT_BYTES = 1024 * 1024
"""The most bytes of a response that are read, as in the transport over the network."""

_KEPT_HEADERS = ("retry-after", "location")


class DirectTransport:
    """Carries requests to a `Service`, as `engines.http.transport.Transport` does over loopback.

    `clock` returns the seconds since 1970 for the header `Date`. `pause` is called with the seconds by which a response
    is late. A response that takes `timeout_s` seconds or longer is lost as a whole. Over the network, the head of a
    response that comes byte by byte may be read by then.
    """

    def __init__(
        self,
        service: Service,
        *,
        clock: Callable[[], float],
        pause: Callable[[float], object],
        timeout_s: float = 30.0,
    ) -> None:
        self._service = service
        self._clock = clock
        self._pause = pause
        self._timeout_s = timeout_s

    def exchange(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None) -> Reply:
        """Send one request once, and return the reply. The request always counts as sent."""
        target = "/" + url.partition("://")[2].partition("/")[2]
        authorization, content_type = headers.get("Authorization", ""), headers.get("Content-Type", "")
        answer, fault = self._service.answer(Request(method, target, authorization, content_type, body or b""))
        return self._whole(answer) if fault is None else self._under(fault, answer)

    def close(self) -> None:
        """Do nothing. The owner of the database closes the database."""

    def _under(self, fault: Fault, answer: Response) -> Reply:
        """Return the reply to a response under a fault.

        `server._Connection._misbehave` does the same over the network.
        """
        match fault.kind:
            case Kind.RESET:
                return _lost("the connection was reset before the whole answer came")
            case Kind.CLOSE:
                return _lost("the connection was closed before an answer came")
            case Kind.HANG | Kind.SLOW | Kind.DRIP:
                self._pause(min(fault.seconds, self._timeout_s))
                if fault.seconds >= self._timeout_s:
                    return _lost(f"no whole answer within {self._timeout_s:g} s: its head did not end")
                if fault.kind is Kind.HANG:
                    return _lost("the connection was closed before an answer came")
                return self._whole(answer)
            case Kind.TRUNCATED:
                half = answer.body[: len(answer.body) // 2]
                return self._reply(answer, half, "the answer broke off before its end")
            case _:
                return self._whole(answer)

    def _whole(self, answer: Response) -> Reply:
        too_long = len(answer.body) > BODY_LIMIT_BYTES
        fault = f"the answer is longer than {BODY_LIMIT_BYTES // 1024} KiB" if too_long else ""
        return self._reply(answer, answer.body[:BODY_LIMIT_BYTES], fault)

    def _reply(self, answer: Response, content: bytes, fault: str) -> Reply:
        headers = {name.lower(): value for name, value in answer.headers.items() if name.lower() in _KEPT_HEADERS}
        return Reply(
            sent=True,
            status=answer.status,
            headers={**headers, "date": formatdate(self._clock(), usegmt=True)},
            content=content,
            text=content.decode(errors="replace"),
            document=None if fault else json_document(content),
            fault=fault,
        )


def _lost(fault: str) -> Reply:
    return Reply(sent=True, fault=fault)
