"""Requests to the head of a Ray cluster, and what its answers mean.

The Jobs API answers a fault with text, as a rule with a traceback, and with 500 whatever the fault is. The agent of the
head does the work, and the head wraps the answer of the agent: a job that the agent refuses with 400 is a 500 as well,
whose text names the 400.
"""

import json
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from reconciler.engines.http.client import (
    REASONS,
    STOPPED,
    client_in,
    is_worth_another_read,
    result_of,
    was_not_done,
    with_credential,
)
from reconciler.engines.http.reply import Reply
from reconciler.engines.http.transport import Transport
from reconciler.engines.port import (
    AnswerClass,
    CredentialsError,
    EngineError,
    Reason,
    Result,
    Surroundings,
    always,
)
from reconciler.engines.ray.connecting import Way, headers_in, secrets_of_header

_TIMEOUT_S, _CONNECT_TIMEOUT_S = 60.0, 10.0
_UPLOADED_EACH_S = 1 << 20
"""The bytes of a package that a slow network carries in a second. An upload has that long, and `_TIMEOUT_S` more."""

_LONGEST_ANSWER_BYTES = 256 << 20
"""The list of all jobs has no pages, and a log comes whole."""

_REFUSED_BY_AGENT = "Request failed with status code 400"
_BAD_TOKEN = "Invalid authentication token"
_UNKNOWN_JOB = re.compile(r"Job .* does not exist", re.DOTALL)
_HINT = "check the address and the network, then try again"
VERSION = "/api/version"
_FRESH_S = 5.0
"""The seconds for which the session of a head counts. Another head needs longer than that until it takes jobs."""


class OtherSession(Exception):
    """The head has another session than the one that a request is for. Nothing was sent."""


class Request(NamedTuple):
    """One request: the method, the path below the address, and the body.

    With a `session`, it is sent to a head of that session alone, which is asked for right before.
    """

    method: str
    path: str
    body: bytes | None = None
    content_type: str = "application/json"
    session: str = ""


def json_request(method: str, path: str, body: Mapping[str, Any] | None = None, session: str = "") -> Request:
    """Return a request whose body is a JSON document."""
    content = None if body is None else json.dumps(body, separators=(",", ":")).encode()
    return Request(method, path, content, session=session)


class Head:
    """The requests to one head. Several threads may call any method at the same time."""

    def __init__(self, way: Way, surroundings: Surroundings) -> None:
        """Raises `EngineError` for certificates that can't be used, and the errors of `headers_in`."""
        self.address = way.address
        self._way = way
        self._surroundings = surroundings
        self._lock = threading.Lock()
        self._client = client_in(surroundings)
        self._headers = self._read_headers()
        self._transport = self._opened(_TIMEOUT_S)

    def read(self, path: str) -> Reply:
        """Return the reply to a GET.

        Raises `CredentialsError` if the head does not accept the token, and `EngineError` if no answer came.
        """
        reply = self._ask(Request("GET", path), may_repeat=is_worth_another_read)
        if _is_unauthenticated(reply):
            raise CredentialsError(
                f"{self.address} does not accept the token ({reply.status}): {self.message(reply)}",
                "set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH to the token of the cluster; "
                "or RAY_JOB_HEADERS to the headers that a proxy before it wants",
            )
        if reply.status is None or reply.fault:
            raise EngineError(f"{self.address}: {reply.fault or 'no answer'}", reply.remedy or _HINT)
        return reply

    def document(self, path: str) -> Any:
        """Return the document of a GET. Raises the errors of `read`, and `EngineError` if there is none."""
        reply = self.read(path)
        if reply.status != 200 or reply.document is None:
            raise self.fault(path, reply)
        return reply.document

    def session(self) -> str:
        """Return the name of the session of the head. Raises the errors of `document`."""
        name = _session_in(self.document(VERSION))
        if not name:
            raise EngineError(
                f"{self.address} does not tell the name of its session, without which nobody can know whether it was "
                "restarted",
                "see that the address is that of the head's dashboard, and that Ray is not older than 2.3",
            )
        return name

    def fault(self, path: str, reply: Reply) -> EngineError:
        """Return the error about an answer that is none of a Jobs API."""
        what = f"{self.address}{path}: {reply.status}: {self.message(reply)}"
        return EngineError(what, "see that the address is that of the head's dashboard, and that Ray is well")

    def call(self, request: Request, may_be_sent: Callable[[], bool] = always) -> Reply:
        """Send a request that changes something, and return the last reply.

        It is sent again after a reply that proves that the head did nothing, and once with a new token after a 401.
        Raises `OtherSession` if the request is for another session than that of the head.
        """
        return self._ask(request, may_be_sent, may_repeat=was_not_done)

    def upload(self, path: str, content: bytes) -> Reply:
        """Put a package, and return the last reply. To put it twice does no harm."""
        transport = self._opened(_TIMEOUT_S + len(content) / _UPLOADED_EACH_S)
        try:
            request = Request("PUT", path, content, "application/octet-stream")
            return self._ask(request, may_repeat=is_worth_another_read, transport=transport)
        finally:
            transport.close()

    def message(self, reply: Reply) -> str:
        """Return what a reply says, without secrets, cut to a bounded length. Of a traceback, that is its end."""
        return self._client.message(reply, _said(reply.text))

    def result(self, reply: Reply) -> Result:
        """Return what a reply to a call means. A 2xx without a document of JSON is in doubt."""
        message = self.message(reply)
        if reply.sent and _is_unauthenticated(reply):
            return Result(AnswerClass.REJECTED, Reason.NOT_AUTHENTICATED, message, str(reply.status))
        return result_of(reply, message, REASONS, applied=(200,))

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    def _opened(self, timeout_s: float) -> Transport:
        return Transport(
            self.address,
            pool_size=self._surroundings.parallelism,
            timeout_s=timeout_s,
            connect_timeout_s=_CONNECT_TIMEOUT_S,
            clock=self._surroundings.boot_s,
            network=self._way.network,
            body_limit_bytes=_LONGEST_ANSWER_BYTES,
        )

    def _read_headers(self) -> Mapping[str, str]:
        headers = headers_in(self._surroundings.env)
        for value in headers.values():
            for secret in secrets_of_header(value):
                self._surroundings.note_credential(secret)
                self._client.withhold(secret)
        return headers

    def _ask(
        self,
        request: Request,
        may_be_sent: Callable[[], bool] = always,
        *,
        may_repeat: Callable[[Reply], bool],
        transport: Transport | None = None,
    ) -> Reply:
        used = transport or self._transport

        def attempt() -> Reply:
            with self._lock:
                headers = self._headers
            return with_credential(send, headers, lambda: self._renewed(headers), _is_unauthenticated)

        def send(headers: Mapping[str, str]) -> Reply:
            return self._client.in_turn(lambda: self._sent(request, headers, may_be_sent, used))

        return self._client.repeated(attempt, may_repeat)

    def _renewed(self, refused: Mapping[str, str]) -> Mapping[str, str] | None:
        """Return the headers with what the file of a token holds by now; None if that was refused.

        Raises the errors of `headers_in`.
        """
        newer = self._read_headers()
        if newer == refused:
            return None
        with self._lock:
            self._headers = newer
        return newer

    def _sent(
        self, request: Request, headers: Mapping[str, str], may_be_sent: Callable[[], bool], transport: Transport
    ) -> Reply:
        """Send a request, unless it is for another session or is held back. Raises `OtherSession`."""
        whole = {"Accept": "application/json", **headers}
        asked_s = self._surroundings.boot_s()
        if request.session:
            if not self._client.is_next():
                return STOPPED
            found = transport.exchange("GET", self.address + VERSION, whole, None)
            if _is_unauthenticated(found):
                return found
            if not (name := _session_in(found.document)):
                return replace(found, sent=False, fault=found.fault or "the head did not tell its session")
            if name != request.session:
                raise OtherSession(f"{self.address} was restarted: its session was {request.session}, and is {name}")
        if not may_be_sent():
            return STOPPED
        if request.session and self._surroundings.boot_s() - asked_s > _FRESH_S:
            # This program may have been stopped meanwhile, for any time.
            return replace(STOPPED, fault="the head took too long to tell its session")
        if request.body is not None:
            whole["Content-Type"] = request.content_type
        return transport.exchange(request.method, self.address + request.path, whole, request.body)


def is_unknown_job(reply: Reply) -> bool:
    """Whether the head says that it knows no such job. A 404 of a proxy does not say that."""
    return reply.status == 404 and _UNKNOWN_JOB.search(reply.text) is not None


def was_refused_by_agent(reply: Reply) -> bool:
    """Whether the agent of the head has refused a job, also because its id is taken."""
    return reply.status == 500 and not reply.fault and _REFUSED_BY_AGENT in reply.text


def _said(text: str) -> str:
    """Return a text as one line; of a traceback, or of one within another, its last line, which names the cause."""
    lines = [line.strip() for line in text.splitlines() if line.strip(" .")]
    if not any("Traceback (most recent call last)" in line for line in lines):
        return " ".join(lines)
    return lines[-1]


def _session_in(document: object) -> str:
    """Return the name of a session in the answer of `VERSION`; "" if there is none."""
    name = document.get("session_name") if isinstance(document, Mapping) else None
    return name if isinstance(name, str) and name.isprintable() else ""


def _is_unauthenticated(reply: Reply) -> bool:
    return reply.status == 401 or (reply.status == 403 and _BAD_TOKEN in reply.text)
