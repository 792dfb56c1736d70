"""The texts of a config: what neither a program nor a service can be given.

An argument and a variable of a program end at a NUL (execve(2)), and have a bounded length. Half of a surrogate pair is
no character of UTF-8, and a service may store another character in its place.
"""

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote

from reconciler.model.config_paths import Path, path_text
from reconciler.model.jobs import Config

LONGEST_ARGUMENT_BYTES = (1 << 17) - 1
"""The longest argument or variable that Linux lets a program have (execve(2), MAX_ARG_STRLEN)."""


def field_text(*path: str | int) -> str:
    """Return the path of a field of a config, with which a fault of that field begins (`EnginePlugin.job_fault`)."""
    return path_text(("config", *path))


def argument_fault(config: Mapping[str, Any]) -> str:
    """Return which argument of `command` or which variable of `env` is too long for Linux; "" if none is.

    The value of a secret is known to nobody here.
    """
    env = config.get("env", {})
    given = {field_text("env", name): f"{name}={text}" for name, text in env.items() if isinstance(text, str)}
    given |= {field_text("command", number): text for number, text in enumerate(config.get("command", ()))}
    sizes_bytes = {where: len(text.encode("utf-8", "surrogatepass")) for where, text in given.items()}
    long = next((where for where, size_bytes in sizes_bytes.items() if size_bytes > LONGEST_ARGUMENT_BYTES), "")
    most = f"{LONGEST_ARGUMENT_BYTES:,} bytes"
    return f"{long} is longer than the {most} that Linux lets a program have in one: put it into a file" if long else ""


def text_fault(config: Config) -> str:
    """Return which text of a config can't be passed on, and why; "" if all of them can. Names of fields count too."""
    found = ((where, unfit(text)) for where, text in _texts(("config",), config))
    return next((f"{where} holds {fault}" for where, fault in found if fault), "")


def unquoted(text: str) -> str:
    """Return a percent-encoded text as it was (RFC 3986, section 2.1); "" for bytes that are no text.

    What stands at a service may be of anybody. Halves of surrogate pairs come back.
    """
    try:
        return unquote(text, errors="surrogatepass")
    except UnicodeDecodeError:
        return ""


def unfit(text: str, errors: str = "strict") -> str:
    """Return the kind of character in a text that can't be passed on; "" for none.

    `errors` is that of `str.encode`. A variable of this program may hold bytes that are no UTF-8, which Python keeps
    as halves of surrogate pairs: "surrogateescape" lets these pass.
    """
    if "\0" in text:
        return "a NUL character"
    try:
        text.encode("utf-8", errors)
    except UnicodeEncodeError:
        return "half of a surrogate pair, which is no character"
    return ""


def _texts(path: Path, value: object) -> Iterator[tuple[str, str]]:
    """Yield each text at and below a path, as (what it is, the text)."""
    if isinstance(value, str):
        yield path_text(path), value
    elif isinstance(value, Mapping):
        for name, each in value.items():
            yield f"the name of a field in {path_text(path)}", name
            yield from _texts((*path, name), each)
    elif isinstance(value, list | tuple):
        for number, each in enumerate(value):
            yield from _texts((*path, number), each)
