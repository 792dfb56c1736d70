"""Credentials taken out of texts that others wrote, also where they come back in an encoding."""

import re
from collections.abc import Iterable, Iterator
from threading import Lock

REDACTED = "[redacted]"


class Secrets:
    """The credentials that no text may show; safe for use by many threads."""

    def __init__(self, known: Iterable[str | None] = ()) -> None:
        self._turn = Lock()
        self._known = sorted((secret for secret in known if secret), key=len, reverse=True)

    def add(self, secret: str) -> None:
        """Let no text show this one from now on."""
        with self._turn:
            self._known = sorted({*self._known, secret}, key=len, reverse=True)

    def redact(self, text: str) -> str:
        """The text without any of them."""
        for secret in self._known:
            # The second form is how some services write a slash in JSON.
            text = text.replace(secret, REDACTED).replace(secret.replace("/", "\\/"), REDACTED)
        # In an encoding it has no place of its own that could be cut out, so all of the text goes.
        is_told = any(secret in form for form in _decoded(text) for secret in self._known)
        return REDACTED if is_told else text


def _decoded(text: str) -> Iterator[str]:
    """The text with the encodings undone that a service may echo in: of URLs, HTML and JSON, one in another too."""
    if not any(mark in text for mark in "%&\\"):
        return
    from html import unescape
    from urllib.parse import unquote

    for _ in range(2):
        for undo in (unquote, unescape, _without_json_escapes):
            text = undo(text)
            yield text


def _without_json_escapes(text: str) -> str:
    return re.sub(r"\\(?:u([0-9A-Fa-f]{4})|/)", lambda found: chr(int(found[1] or "2f", 16)), text)
