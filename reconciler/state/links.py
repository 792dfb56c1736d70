"""The chain of a history: each line names the checksums of the lines before it.

A history that one machine writes is one chain. Where git has united the lines of two branches, the chain has two ends,
until the next line names both of them.
"""

import json
import re
from collections.abc import Sequence
from typing import NamedTuple

from reconciler.model.digests import checksum

LATEST_BYTES = 1 << 22
"""The size of the part of a history that is looked at: about ten thousand lines."""

MOST_ENDS = 32
"""The most lines that one line names. Only a file whose lines were changed has more ends."""

_AFTER = re.compile(rb'\{"after":\[((?:"[0-9a-f]{16}"(?:,"[0-9a-f]{16}")*)?)\],')
"""The beginning of a line as `history.encode` writes it."""


class _Link(NamedTuple):
    """The checksum of a line, and the checksums that the line names."""

    checksum: str
    after: Sequence[str]


def latest_lines(content: bytes) -> list[bytes]:
    """The latest lines of a history in the order of the file, without line ends and without empty lines."""
    cut = max(0, len(content) - LATEST_BYTES)
    lines = (line.rstrip(b"\r") for line in content[cut and content.find(b"\n", cut) + 1 :].split(b"\n"))
    return [line for line in lines if line]


def checksum_of(line: bytes) -> str:
    """The checksum of a line without its line end: 16 hexadecimal digits."""
    return checksum(line, size_bytes=8).hex()


def is_canonical(line: bytes) -> bool:
    """Whether a line begins and ends as `history.encode` writes it. Another program may have written other lines."""
    return line.startswith(b'{"after":[') and line.endswith(b"}")


def ends_of(lines: Sequence[bytes]) -> list[str]:
    """The checksums of the lines that no other line names, in the order of the file.

    Lines that can't be read have no checksum here.
    """
    links = [link for line in lines if (link := _link_of(line)) is not None]
    followed = {checksum for link in links for checksum in link.after}
    return list(dict.fromkeys(link.checksum for link in links if link.checksum not in followed))


def _link_of(line: bytes) -> _Link | None:
    """The link of a line; None for a line that can't be read."""
    match = _AFTER.match(line) if line.endswith(b"}") else None
    if match:
        return _Link(checksum_of(line), match[1].decode().replace('"', "").split(",") if match[1] else ())
    try:
        document = json.loads(line)
    except (ValueError, RecursionError):
        return None
    after = document.get("after") if isinstance(document, dict) else None
    if not isinstance(after, list) or not all(isinstance(one, str) for one in after):
        return None
    return _Link(checksum_of(line), after)
