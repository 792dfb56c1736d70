"""What came back of one request, as a value, and the port to whatever carries requests."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back of one request.

    `sent` is False only where it is certain that no byte of the request left. `status` is None
    where no whole head was read. `headers` holds the few that are read, by lower-case name.
    `text` is the body as far as it was read, undecodable bytes replaced. `document` is the same
    as JSON (`json_document`), None where it is none. `fault` says what went wrong on the way, "" where the body was
    read to its end; `remedy` says what to do about it, "" where nothing is known to help.
    `is_exhausted` is whether this machine has no room for another connection.
    """

    sent: bool
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    text: str = ""
    document: object = None
    fault: str = ""
    remedy: str = ""
    is_exhausted: bool = False


def json_document(content: bytes | str) -> object:
    """The document in a body; None where it is no JSON, or is JSON that can be read in more than one way.

    A name that stands twice in one object has no meaning that two readers agree on (RFC 8259, 4), and neither
    has a number that JSON does not know.
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
    """Whatever carries requests to a service: `Transport` over the network, or one in memory."""

    def exchange(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None) -> Reply:
        """Send one request once, and read what comes back. Never raises for what the network does."""

    def close(self) -> None:
        """Drop the connections."""
