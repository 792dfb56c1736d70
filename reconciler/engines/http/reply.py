"""The reply to one request as a value, and the port to the transports that carry requests."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Reply:
    """The reply to one request.

    `sent` is False only if certainly no byte of the request left. `status` is None if no complete head was read.
    `headers` holds the headers that engines read, by lower-case name. `content` is the body as far as the body was
    read, and `text` is the same with a replacement character for each undecodable byte. `document` is the body as JSON
    (see `json_document`), or None. `fault` describes a failure on the way, and is "" if the body was read to its end.
    `remedy` is the advice for the fault, or "". `is_exhausted` is True if this machine can't open another connection.
    """

    sent: bool
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes = field(default=b"", repr=False)
    text: str = ""
    document: object = None
    fault: str = ""
    remedy: str = ""
    is_exhausted: bool = False


def json_document(content: bytes | str) -> object:
    """Return the JSON document in a body, or None if the body is not JSON or is ambiguous.

    Readers do not agree on an object in which one name stands twice (RFC 8259, section 4), nor on NaN and Infinity.
    """
    import json

    try:
        return json.loads(content, object_pairs_hook=_object, parse_constant=_no_number)
    except (ValueError, RecursionError):
        return None


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice in one object")
    return found


def _no_number(word: str) -> object:
    raise ValueError(f"{word} is no JSON")


class BaseTransport(Protocol):
    """A transport of requests to a service: `Transport` over the network, or a transport in memory."""

    def exchange(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None) -> Reply:
        """Send one request once, and return the reply. A failure of the network is a reply, not an exception."""

    def close(self) -> None:
        """Close the connections."""
