"""The meaning of a plain scalar of YAML, by the core schema of YAML 1.2.

The core schema is https://yaml.org/spec/1.2.2/#103-core-schema. A scalar is refused if YAML 1.1
(https://yaml.org/type/) gives the scalar another meaning, or if a person may misread the scalar.
"""

import re
from typing import Any

MAX_DIGITS = 4000
_MAX_HEX_DIGITS = 3000  # some 3600 decimal digits; Python converts no number of more than 4300 digits to text

ODD_SPACE = "[\xa0\xad\u1680\u2000-\u200b\u202f\u205f\u2060\u3000]"
"""A pattern for characters that look like a space or like nothing, and that YAML takes for a part of a text."""

_WORDS: dict[str, Any] = {
    **dict.fromkeys(("~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_NO_NUMBERS = frozenset(
    (*(sign + word for sign in ("", "+", "-") for word in (".inf", ".Inf", ".INF")), ".nan", ".NaN", ".NAN")
)
_TO_YAML_1_1 = {
    **dict.fromkeys(("y", "Y", "yes", "Yes", "YES", "on", "On", "ON"), ("true", "write true, or quote it")),
    **dict.fromkeys(("n", "N", "no", "No", "NO", "off", "Off", "OFF"), ("false", "write false, or quote it")),
    "=": ("a default value", "quote it"),
    "<<": ("a merge key", "quote it"),
}
_INT = re.compile(r"[-+]?(?:0|[1-9][0-9]*)")
_FLOAT = re.compile(r"(?:[-+]?(?:0|[1-9][0-9]*)\.[0-9]*|\.[0-9]+)(?:[eE][-+][0-9]+)?")
# Few files need these patterns, so the first use compiles each.
_HEX = r"0x[0-9a-fA-F]+"
_AMBIGUOUS_NUMBER = (
    r"[-+]?(?:(?:[0-9][0-9_]*(?:\.[0-9_]*)?|\.[0-9][0-9_]*)(?:[eE][-+]?[0-9]+)?|0o[0-7_]+|0b[01_]+|0x[0-9a-fA-F_]+)"
)
_BASE_60 = r"[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?"
_DATE = (
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
    r"|[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}(?:[Tt]|[ \t]+)[0-9]{1,2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]*)?"
    r"(?:[ \t]*(?:Z|[-+][0-9]{1,2}(?::?[0-9]{2})?))?"
)
_INFINITY = float("inf")


def meaning_of_plain(text: str) -> tuple[Any, str]:
    """Return the value of a plain scalar, and the reason why the scalar is refused, or ""."""
    if text in _WORDS:
        return _WORDS[text], ""
    if not text.isascii() and (fault := _odd_space_at_an_end(text)):
        return text, fault
    return _resolve(text)


def odd_space_fault(character: str) -> str:
    """Return the fault of a character that looks like a space.

    The message names the character, since it is invisible.
    """
    from unicodedata import name

    return (
        f"{name(character).lower()} (U+{ord(character):04X}), which only looks like a space: "
        "write a plain space in its place, or quote the text that it is part of"
    )


def shown(text: str) -> str:
    """Return a text of the file, cut to 40 characters."""
    return text if len(text) <= 40 else f"{text[:40]}…"


def _resolve(text: str) -> tuple[Any, str]:
    """Return the value of a scalar that is not a word such as `true`, and the reason why the scalar is refused,
    or "".
    """
    if text[0] in "0123456789+-.":
        if text in _NO_NUMBERS:
            return text, f"YAML reads {text} as a number that JSON does not have: write another one, or quote it"
        if _INT.fullmatch(text):
            return (text, _too_long(MAX_DIGITS)) if len(text) > MAX_DIGITS else (int(text), "")
        if _FLOAT.fullmatch(text):
            return (text, _too_long(MAX_DIGITS)) if len(text) > MAX_DIGITS else _float(text)
        if re.fullmatch(_HEX, text):
            return (text, _too_long(_MAX_HEX_DIGITS)) if len(text) > _MAX_HEX_DIGITS else (int(text, 16), "")
        if re.fullmatch(_AMBIGUOUS_NUMBER, text):
            return text, (f"YAML 1.1 and 1.2 read {shown(text)} differently: write a plain decimal number, or quote it")
        if re.fullmatch(_BASE_60, text):
            return text, f"YAML 1.1 reads {shown(text)} as a number in base 60, YAML 1.2 as text: quote it"
        if re.fullmatch(_DATE, text):
            return text, f"YAML 1.1 reads {shown(text)} as a date, YAML 1.2 as text: quote it"
    elif text in _TO_YAML_1_1:
        meaning, remedy = _TO_YAML_1_1[text]
        return text, f"YAML 1.1 reads {text} as {meaning}, YAML 1.2 as text: {remedy}"
    return text, ""


def _odd_space_at_an_end(text: str) -> str:
    """Return the fault of a scalar that begins or ends with a character that looks like a space, or ""."""
    found = re.match(ODD_SPACE, text) or re.search(f"{ODD_SPACE}$", text)
    return odd_space_fault(found[0]) if found else ""


def _float(text: str) -> tuple[Any, str]:
    """Return the value of a float, and the reason why the float is refused, or "".

    JSON Schema accepts a float without a fraction, such as 3600.0, as a whole number. A float can tell only some of the
    large whole numbers apart. A number whose float is written with other digits is refused, because the service would
    get another number than the file holds.
    """
    value = float(text)
    if value in (_INFINITY, -_INFINITY):
        return text, f"{shown(text)} is larger than any number that is read"
    if value.is_integer():
        from decimal import Context, Decimal

        if Decimal(text, Context(traps=[])) != Decimal(repr(value)):
            return text, f"{shown(text)} can't be held exactly: write a whole number without a point"
    return value, ""


def _too_long(limit: int) -> str:
    return f"a number of more than {limit} digits is not read: quote it if it is text"
