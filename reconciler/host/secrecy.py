"""Credentials: where the environment holds them, and how they are taken out of texts, also out of an encoding."""

import re
from collections.abc import Iterable, Iterator, Mapping
from threading import Lock

REDACTED = "[redacted]"
CREDENTIAL_VARIABLES = ("BYTENITE_ACCESS_TOKEN", "BYTENITE_API_KEY")
"""The variables of the environment that hold a credential of the service."""

_NO_CHILDS = (*CREDENTIAL_VARIABLES, "RECONCILER_TOKEN")
"""What no child program has a need of; the last one is the Action's, for the forge."""

_PROXY_VARIABLES = ("http_proxy", "https_proxy", "all_proxy")
_SHORTEST_USER, _SHORTEST_PASSWORD, _SHORTEST_ENCODED = 8, 4, 8
"""What is shorter is a part of common words, and taking it out of texts would leave none of them readable."""

_DEEPEST = 6
"""Encodings within one another that are undone."""

_ESCAPES = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}


def without_credentials(env: Mapping[str, str]) -> dict[str, str]:
    """The environment for a child program, without the credentials that it has no need of."""
    return {name: value for name, value in env.items() if name not in _NO_CHILDS}


def proxy_secrets(env: Mapping[str, str]) -> Iterator[str]:
    """What the environment's proxies have of users and passwords."""
    for name in _PROXY_VARIABLES:
        for variable in (name, name.upper()):
            yield from secrets_in_url(env.get(variable, ""))


def secrets_in_url(url: str) -> tuple[str, ...]:
    """The user and password of a URL, and each alone where it is no common word; as written, and decoded."""
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
    """The credentials that no text may show; safe for use by many threads."""

    def __init__(self, known: Iterable[str | None] = ()) -> None:
        self._turn = Lock()
        self._known: list[str] = []
        self._encoded: list[str] = []
        for secret in known:
            if secret:
                self.add(secret)

    def add(self, secret: str) -> None:
        """Let no text show this one from now on."""
        with self._turn:
            known = sorted({*self._known, secret}, key=len, reverse=True)
            self._encoded = [form for each in known if len(each) >= _SHORTEST_ENCODED for form in _in_base64(each)]
            self._known = known

    def redact(self, text: str) -> str:
        """The text without any of them."""
        for secret in self._known:
            # The second form is how some services write a slash in JSON.
            text = text.replace(secret, REDACTED).replace(secret.replace("/", "\\/"), REDACTED)
        # In an encoding it has no place of its own that could be cut out, so all of the text goes.
        return REDACTED if any(map(self._shows_secret, _decoded(text))) else text

    def _shows_secret(self, text: str) -> bool:
        if any(secret in text for secret in self._known):
            return True
        # Base64 may be broken into lines, and have two other characters in URLs (RFC 4648, 5).
        packed = "".join(text.split()).replace("-", "+").replace("_", "/")
        return any(form in packed for form in self._encoded)


def _in_base64(secret: str) -> Iterator[str]:
    """The secret as base64 shows it within a longer text: by where it begins, without the characters at its edges."""
    from base64 import b64encode

    content = secret.encode()
    for before in range(3):
        begin, end = -(-8 * before // 6), 8 * (before + len(content)) // 6
        yield b64encode(b"\0" * before + content).decode()[begin:end]


def _decoded(text: str) -> Iterator[str]:
    """The text, and with the encodings undone that a service may echo in: of URLs, HTML and JSON, nested too."""
    yield text
    if not any(mark in text for mark in "%&\\"):
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
