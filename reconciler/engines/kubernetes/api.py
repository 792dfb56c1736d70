"""Requests to an API server, and what its answers mean for a call.

The documents of errors are of the kind Status (https://kubernetes.io/docs/reference/using-api/api-concepts/). Their
`reason` says more than the HTTP status: 409 is AlreadyExists for a name that is taken, and Conflict for a precondition.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, Protocol
from urllib.parse import quote, urlencode, urlsplit

from reconciler.engines.http.client import (
    REASONS,
    client_in,
    is_worth_another_read,
    result_of,
    was_not_done,
    with_credential,
)
from reconciler.engines.http.reply import BaseTransport, Reply
from reconciler.engines.kubernetes.credentials import Credential, Credentials
from reconciler.engines.kubernetes.fields import items, text
from reconciler.engines.port import (
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

_REASONS = {**REASONS, 409: Reason.OTHER, 422: Reason.INVALID}


class Request(NamedTuple):
    """One request: the method, the path below the server with its query, and the body as a JSON document."""

    method: str
    path: str
    body: Mapping[str, Any] | None = None
    content_type: str = JSON


def segment(text: str) -> str:
    """Return a name as one segment of a path. Raises `EngineError` for a name that would lead to another path.

    What sends a request takes "." and ".." out of its path, also where their dots are escaped.
    """
    if text in ("", ".", ".."):
        raise EngineError(f"no object of a cluster has the name {text!r}", "look for that name in the manifest")
    return quote(text, safe="")


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
        self._client = client_in(surroundings)

    def read(self, path: str) -> Reply:
        """Return the reply to a GET. Raises `CredentialsError` for a 401, and `EngineError` if no answer came."""
        reply = self._ask(Request("GET", path), may_repeat=is_worth_another_read)
        if reply.status == 401:
            raise CredentialsError(
                f"{self.server} does not accept the credentials (401): {self.message(reply)}",
                "have the credentials of the kubeconfig renewed",
            )
        if reply.status is None or reply.fault:
            words = reply.fault or "no answer"
            # What fails before a request leaves names the host itself.
            shown = words if words.startswith(urlsplit(self.server).netloc) else f"{self.server}: {words}"
            raise EngineError(shown, reply.remedy or "check the network, then try again")
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
        return self._ask(request, may_be_sent, may_repeat=was_not_done)

    def message(self, reply: Reply) -> str:
        """Return what a reply says, without secrets, cut to a bounded length."""
        return self._client.message(reply, text(reply.document, "message") or " ".join(reply.text.split()))

    def result(self, reply: Reply) -> Result:
        """Return what a reply to a call means. A 2xx without a document of JSON is in doubt."""
        return result_of(reply, self.message(reply), _REASONS, applied=(200, 201, 202))

    def close(self) -> None:
        """Close the connections."""
        self._transports.close()

    def _ask(
        self, request: Request, may_be_sent: Callable[[], bool] = always, *, may_repeat: Callable[[Reply], bool]
    ) -> Reply:
        content = None if request.body is None else json.dumps(request.body, separators=(",", ":")).encode()

        def attempt() -> Reply:
            current = self._credentials.current()
            return with_credential(send, current, lambda: self._credentials.renewed(current), _is_unauthenticated)

        def send(credential: Credential) -> Reply:
            return self._exchange(request, content, credential, may_be_sent)

        return self._client.repeated(attempt, may_repeat)

    def _exchange(
        self, request: Request, content: bytes | None, credential: Credential, may_be_sent: Callable[[], bool]
    ) -> Reply:
        transport = self._transports.of(credential)
        headers = {"Accept": JSON}
        if credential.token:
            headers["Authorization"] = f"Bearer {credential.token}"
            self._client.withhold(credential.token)
        if content is not None:
            headers["Content-Type"] = request.content_type
        url = self.server + request.path
        return self._client.in_turn(lambda: transport.exchange(request.method, url, headers, content), may_be_sent)


def reason_of(reply: Reply) -> str:
    """Return the `reason` of a Status, such as AlreadyExists; "" if the reply has none."""
    return text(reply.document, "reason")


def _is_unauthenticated(reply: Reply) -> bool:
    return reply.status == 401
