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
    as JSON, None where it is none. `fault` says what went wrong on the way, "" where the body was
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


class BaseTransport(Protocol):
    """Whatever carries requests to a service: `Transport` over the network, or one in memory."""

    def exchange(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None) -> Reply:
        """Send one request once, and read what comes back. Never raises for what the network does."""

    def close(self) -> None:
        """Drop the connections."""
