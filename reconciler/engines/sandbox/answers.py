"""Responses of the embedded server as values, in the form that the contract of the API gives."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

JSON = "application/json"

CONTRACT_ERRORS = (400, 401, 403, 404, 500, 503)
"""The failures that the contract names. A response with any other failure holds an `rpcStatus`."""

_RPC_CODES = {405: 12, 429: 8, 501: 12, 504: 4, 505: 12}
"""The gRPC code for an HTTP status: 4 deadline exceeded, 8 resource exhausted, 12 unimplemented."""
_RPC_INVALID = 3
_RPC_UNKNOWN = 2


@dataclass(frozen=True, slots=True)
class Response:
    """One response. Header values are printable, and hold no line break."""

    status: int
    body: bytes
    content_type: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)


class Rejection(Exception):
    """A request that gets a failure as its response.

    `message` is short, and `description` says what the client can do.
    """

    def __init__(
        self, status: int, message: str, description: str = "", headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.description = description or message
        self.headers = headers or {}


def json_response(document: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return a response with a JSON document and a line end, so that the prompt of a shell starts on its own line."""
    return Response(status, f"{json.dumps(document)}\n".encode(), headers=headers or {})


def done(request_id: str, message: str) -> Response:
    """Return the `commonGenericResponse` of a call that was carried out."""
    return json_response({"ok": True, "requestId": request_id, "message": message})


def failure(request_id: str, rejection: Rejection) -> Response:
    """Return the response to a rejected request.

    The document is a `commonError` if the contract names the status, and else an `rpcStatus`.
    """
    status = rejection.status
    document: dict[str, Any]
    if status in CONTRACT_ERRORS:
        error = {"code": status, "message": rejection.message, "description": rejection.description}
        document = {"ok": False, "requestId": request_id, "error": error}
    else:
        code = _RPC_CODES.get(status, _RPC_INVALID if 400 <= status < 500 else _RPC_UNKNOWN)
        document = {"code": code, "message": rejection.description, "details": []}
    return json_response(document, status, rejection.headers)


def reason(status: int) -> str:
    """Return the reason phrase of a status, or "Unknown"."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"
