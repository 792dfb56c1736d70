"""Requests to an API server, and what its answers mean for a call.

The documents of errors are of the kind Status (https://kubernetes.io/docs/reference/using-api/api-concepts/). Their
`reason` says more than the HTTP status: 409 is AlreadyExists for a name that is taken, and Conflict for a precondition.
"""

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from random import Random
from typing import Any, NamedTuple, Protocol
from urllib.parse import quote, urlencode

from reconciler.engines.http.rate import RateLimiter, Slots
from reconciler.engines.http.reply import BaseTransport, Reply
from reconciler.engines.http.retries import send_with_retries
from reconciler.engines.kubernetes.credentials import Credential, Credentials
from reconciler.engines.kubernetes.fields import items, text
from reconciler.engines.port import (
    AnswerClass,
    CredentialsError,
    EngineError,
    ListIncomplete,
    Reason,
    Result,
    Surroundings,
    always,
)

PAGE_SIZE = 1000
"""The objects of one page of a list."""

JSON = "application/json"
MERGE_PATCH = "application/merge-patch+json"
"""A merge patch (RFC 7386)."""

_LONGEST_MESSAGE = 600
_REASONS: Mapping[int, Reason] = {
    400: Reason.INVALID,
    401: Reason.NOT_AUTHENTICATED,
    403: Reason.NOT_PERMITTED,
    404: Reason.NO_SUCH_JOB,
    405: Reason.INVALID,
    409: Reason.OTHER,
    413: Reason.INVALID,
    415: Reason.INVALID,
    422: Reason.INVALID,
    429: Reason.BUSY,
}
"""The reason of a rejected call by its HTTP status. Each of them proves that the server did nothing."""


class Request(NamedTuple):
    """One request: the method, the path below the server with its query, and the body as a JSON document."""

    method: str
    path: str
    body: Mapping[str, Any] | None = None
    content_type: str = JSON


class TransportSource(Protocol):
    """Where an `Api` gets its connections, such as `Transports`."""

    def of(self, credential: Credential) -> BaseTransport:
        """Return the transport for requests with a credential. Raises `EngineError` if there can be none."""

    def close(self) -> None:
        """Close the connections."""


class Api:
    """The requests to one API server. Several threads may call any method at the same time."""

    def __init__(
        self,
        server: str,
        transports: TransportSource,
        credentials: Credentials,
        surroundings: Surroundings,
    ) -> None:
        self.server = server
        self._transports = transports
        self._credentials = credentials
        self._slots = Slots(surroundings.parallelism)
        self._limiter = RateLimiter(surroundings.max_rps, clock=surroundings.boot_s, wait=surroundings.pause)
        self._retrying = partial(
            send_with_retries,
            wait=surroundings.pause,
            random=Random(),  # noqa: S311  jitter needs no cryptography
            wall_clock=surroundings.wall_s,
        )
        self._secrets: set[str] = set()
        self._lock = threading.Lock()

    def read(self, path: str) -> Reply:
        """Return the reply to a GET. Raises `CredentialsError` for a 401, and `EngineError` if no answer came."""
        reply = self._ask(Request("GET", path), may_repeat=_is_worth_another_read)
        if reply.status == 401:
            raise CredentialsError(
                f"{self.server} does not accept the credentials (401): {self.message(reply)}",
                "have the credentials of the kubeconfig renewed",
            )
        if reply.status is None or reply.fault:
            raise EngineError(
                f"{self.server}: {reply.fault or 'no answer'}", reply.remedy or "check the network, then try again"
            )
        return reply

    def document(self, path: str) -> Mapping[str, Any]:
        """Return the document of a GET. Raises the errors of `read`, and `EngineError` if there is none."""
        reply = self.read(path)
        if reply.status != 200 or not isinstance(reply.document, Mapping):
            raise EngineError(f"{self.server}{path.partition('?')[0]}: {reply.status}: {self.message(reply)}")
        return reply.document

    def listed(self, path: str, selector: str, fields: str = "") -> Iterator[Mapping[str, Any]]:
        """Yield the objects of a list that have the labels and the fields, page by page.

        Raises the errors of `document`, and `ListIncomplete` if the server gave up between two pages.
        """
        query = {"limit": str(PAGE_SIZE), "labelSelector": selector, "fieldSelector": fields}
        while True:
            asked = urlencode({name: value for name, value in query.items() if value}, quote_via=quote)
            reply = self.read(f"{path}?{asked}")
            if reply.status == 410 and "continue" in query:
                raise ListIncomplete(
                    f"{self.server}{path}: the list took so long that the server forgot where it stood", "try again"
                )
            if reply.status != 200 or not isinstance(reply.document, Mapping):
                raise EngineError(f"{self.server}{path}: {reply.status}: {self.message(reply)}")
            yield from items(reply.document, "items")
            more = text(reply.document, "metadata", "continue")
            if not more:
                return
            query["continue"] = more

    def call(self, request: Request, may_be_sent: Callable[[], bool] = always) -> Reply:
        """Send a request that changes something, and return the last reply.

        It is sent again after a reply that proves that the server did nothing, and once with a new token after a 401.
        """
        return self._ask(request, may_be_sent, may_repeat=lambda reply: not reply.sent or reply.status == 429)

    def message(self, reply: Reply) -> str:
        """Return what a reply says, without secrets, cut to a bounded length."""
        said = text(reply.document, "message") or " ".join(reply.text.split())
        words = "; ".join(filter(None, (reply.fault, reply.remedy, said))) or "no answer"
        with self._lock:
            for secret in self._secrets:
                words = words.replace(secret, "…")
        return words if len(words) <= _LONGEST_MESSAGE else f"{words[:_LONGEST_MESSAGE]}…"

    def result(self, reply: Reply) -> Result:
        """Return what a reply to a call means. A 2xx without a document of JSON is in doubt."""
        code = "" if reply.status is None else str(reply.status)
        message = self.message(reply)
        if not reply.sent:
            return Result(AnswerClass.NOT_SENT, message=message, code=code)
        if (reason := _REASONS.get(reply.status or 0)) is not None:
            return Result(AnswerClass.REJECTED, reason, message, code)
        document = reply.document
        if reply.status in (200, 201, 202) and not reply.fault and isinstance(document, Mapping):
            return Result(AnswerClass.APPLIED, code=code)
        return Result(AnswerClass.IN_DOUBT, message=message, code=code)

    def close(self) -> None:
        """Close the connections."""
        self._transports.close()

    def _ask(
        self, request: Request, may_be_sent: Callable[[], bool] = always, *, may_repeat: Callable[[Reply], bool]
    ) -> Reply:
        content = None if request.body is None else json.dumps(request.body, separators=(",", ":")).encode()

        def attempt() -> Reply:
            credential = self._credentials.current()
            reply = self._exchange(request, content, credential, may_be_sent)
            if reply.status != 401:
                return reply
            try:
                newer = self._credentials.renewed(credential)
            except CredentialsError as error:
                return replace(reply, fault=f"the credentials could not be renewed: {error.message}")
            return reply if newer is None else self._exchange(request, content, newer, may_be_sent)

        return self._retrying(attempt, may_repeat)

    def _exchange(
        self, request: Request, content: bytes | None, credential: Credential, may_be_sent: Callable[[], bool]
    ) -> Reply:
        transport = self._transports.of(credential)
        headers = {"Accept": JSON}
        if credential.token:
            headers["Authorization"] = f"Bearer {credential.token}"
            with self._lock:
                self._secrets.add(credential.token)
        if content is not None:
            headers["Content-Type"] = request.content_type
        while True:
            reply = Reply(sent=False, fault="stopped before it was sent")
            self._slots.take()
            try:
                started_s = self._limiter.started_s()
                if may_be_sent() and started_s is not None:
                    reply = transport.exchange(request.method, self.server + request.path, headers, content)
                    self._limiter.note(reply, started_s)
            finally:
                is_fewer = self._slots.give_back(is_exhausted=reply.is_exhausted)
            if not is_fewer:
                return reply


def reason_of(reply: Reply) -> str:
    """Return the `reason` of a Status, such as AlreadyExists; "" if the reply has none."""
    return text(reply.document, "reason")


def _is_worth_another_read(reply: Reply) -> bool:
    return not reply.sent or bool(reply.fault) or reply.status in (429, 500, 502, 503, 504)
