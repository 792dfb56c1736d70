"""The embedded server without its sockets: a transport that asks the service in the same program.

Given to an engine in place of the network it makes the same answers and the same faults, at once:
where the wire would make one wait, `pause` is called, which may be a clock that is put forward.
"""

from collections.abc import Callable, Mapping
from email.utils import formatdate

from reconciler.engines.http.reply import Reply, json_document
from reconciler.engines.sandbox.answers import Response
from reconciler.engines.sandbox.faults import Fault, Kind
from reconciler.engines.sandbox.service import Request, Service

BODY_LIMIT_BYTES = 1024 * 1024
"""As much of an answer as the transport over the network reads."""

_KEPT_HEADERS = ("retry-after", "location")


class DirectTransport:
    """Carries requests to a `Service` as `engines.http.transport.Transport` would over loopback.

    `clock` gives the seconds since 1970 of the answers' `Date`. `pause` takes the seconds that an
    answer is late. An answer that takes `timeout_s` or longer is lost as a whole; of one in drops
    the network may have read the head by then.
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
        """Send one request once; whatever becomes of it, it was sent."""
        target = "/" + url.partition("://")[2].partition("/")[2]
        authorization, content_type = headers.get("Authorization", ""), headers.get("Content-Type", "")
        answer, fault = self._service.answer(Request(method, target, authorization, content_type, body or b""))
        return self._whole(answer) if fault is None else self._under(fault, answer)

    def close(self) -> None:
        """Nothing to drop; the database is its owner's to close."""

    def _under(self, fault: Fault, answer: Response) -> Reply:
        """The answer as it arrives under a fault; the server's `_misbehave` does the same on the wire."""
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
            text=content.decode(errors="replace"),
            document=None if fault else json_document(content),
            fault=fault,
        )


def _lost(fault: str) -> Reply:
    return Reply(sent=True, fault=fault)
