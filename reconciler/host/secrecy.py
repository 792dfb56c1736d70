"""Credentials: where the environment holds them, and how they are removed from texts, even from encoded texts."""

import re
from collections.abc import Iterable, Iterator, Mapping
from threading import Lock

REDACTED = "[redacted]"
BYTENITE_VARIABLES = ("BYTENITE_ACCESS_TOKEN", "BYTENITE_API_KEY")
RAY_VARIABLES = ("RAY_AUTH_TOKEN", "RAY_JOB_HEADERS")
CREDENTIAL_VARIABLES = (*BYTENITE_VARIABLES, *RAY_VARIABLES)
"""The environment variables that hold a credential of a service."""

_NOT_FOR_CHILDREN = (*CREDENTIAL_VARIABLES, "RECONCILER_TOKEN")
"""The variables that no child program needs. The last one is the Action's token for the forge."""

_PROXY_VARIABLES = ("http_proxy", "https_proxy", "all_proxy")
_SHORTEST_USER, _SHORTEST_PASSWORD, _SHORTEST_ENCODED = 8, 4, 8
"""Shorter texts are part of common words. Removing them would make every message unreadable."""

_DEEPEST = 6
"""The number of nested encodings that are undone."""

_ESCAPES = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}


def without_credentials(env: Mapping[str, str]) -> dict[str, str]:
    """The environment for a child program, without the credentials that the child does not need."""
    return {name: value for name, value in env.items() if name not in _NOT_FOR_CHILDREN}


def proxy_secrets(env: Mapping[str, str]) -> Iterator[str]:
    """The users and passwords in the proxy variables of the environment."""
    for name in _PROXY_VARIABLES:
        for variable in (name, name.upper()):
            yield from secrets_in_url(env.get(variable, ""))


def secrets_in_url(url: str) -> tuple[str, ...]:
    """The user and password of a URL, as written and decoded: as one text, and separately.

    A user or a password that is short enough to be a common word is left out of the separate ones.
    """
    userinfo, separator, _ = url.partition("://")[2].partition("/")[0].rpartition("@")
    if not separator:
        userinfo = url.partition("/")[0].rpartition("@")[0]
    if not userinfo:
        return ()
    from urllib.parse import unquote

    user, _, password = userinfo.partition(":")
    texts = [userinfo, f"{unquote(user)}:{unquote(password)}"]
    texts += [text for text in (user, unquote(user)) if len(text) >= _SHORTEST_USER]
    texts += [text for text in (password, unquote(password)) if len(text) >= _SHORTEST_PASSWORD]
    return tuple(texts)


class Secrets:
    """The credentials that no text may show. Many threads may use one object."""

    def __init__(self, known: Iterable[str | None] = ()) -> None:
        self._turn = Lock()
        self._known: list[tuple[str, str]] = []
        self._encoded: list[str] = []
        self._shortest_encoded = 0
        for secret in known:
            if secret:
                self.add(secret)

    def add(self, secret: str) -> None:
        """Add a credential, which `redact` then removes."""
        with self._turn:
            known = sorted({*(each for each, _ in self._known), secret}, key=len, reverse=True)
            encoded = [form for each in known if len(each) >= _SHORTEST_ENCODED for form in _in_base64(each)]
            self._shortest_encoded = min(map(len, encoded), default=0)
            self._encoded = encoded
            # Some services write a slash in JSON as `\/`.
            self._known = [(each, each.replace("/", "\\/")) for each in known]

    def redact(self, text: str) -> str:
        """The text with each credential replaced by `REDACTED`. A text with an encoded credential is replaced as a
        whole.
        """
        for secret, escaped in self._known:
            text = text.replace(secret, REDACTED)
            if escaped is not secret:
                text = text.replace(escaped, REDACTED)
        # The place of a secret in an encoded text is unknown, so the whole text is removed.
        return REDACTED if any(map(self._shows_secret, _decoded(text))) else text

    def _shows_secret(self, text: str) -> bool:
        for secret, _ in self._known:
            if secret in text:
                return True
        if len(text) < self._shortest_encoded:  # most texts of a service: ids, words and times
            return False
        # Base64 may be broken into lines. In URLs, `-` and `_` stand for `+` and `/` (RFC 4648, section 5).
        packed = "".join(text.split()).replace("-", "+").replace("_", "/")
        return any(form in packed for form in self._encoded)


def _in_base64(secret: str) -> Iterator[str]:
    """The three forms of a secret in the base64 of a longer text, which depend on the secret's offset modulo 3.

    Characters that also depend on the text around the secret are left out.
    """
    from base64 import b64encode

    content = secret.encode()
    for before in range(3):
        begin, end = -(-8 * before // 6), 8 * (before + len(content)) // 6
        yield b64encode(b"\0" * before + content).decode()[begin:end]


def _decoded(text: str) -> Iterator[str]:
    """The text, and the text with encodings undone: percent encoding, HTML entities and JSON escapes, also nested.

    A service may repeat a credential in one of these encodings.
    """
    yield text
    if "%" not in text and "&" not in text and "\\" not in text:
        return
    from html import unescape
    from urllib.parse import unquote

    for _ in range(_DEEPEST):
        before = text
        for undo in (unquote, unescape, _without_json_escapes):
            text = undo(text)
            yield text
        if text == before:
            return


def _without_json_escapes(text: str) -> str:
    return re.sub(r"\\(?:u([0-9A-Fa-f]{4})|(.))", _unescaped, text, flags=re.DOTALL)


def _unescaped(found: re.Match[str]) -> str:
    return chr(int(found[1], 16)) if found[1] else _ESCAPES.get(found[2], found[2])
