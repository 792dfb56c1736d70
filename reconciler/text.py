"""Text that is safe to show, and marks for style that only the terminal turns into colours.

A view writes `styled(Style.RED, field(name))`. What came from a manifest or a server goes through
`field`, so that it stays on its line and can neither act on a terminal nor pose as a mark.
"""

import re
from enum import StrEnum

_BEGIN, _END = "\x01", "\x02"

_HARMFUL = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]"
)
_COMMAND = re.compile(r"##(?=\w*\[)")
_COMMAND_LINE = re.compile(r"^(\s*)(?=::)", re.MULTILINE)
_MARKS = re.compile(f"{_BEGIN}(.)|{_END}")
_ANSI = {"r": "31", "g": "32", "y": "33", "b": "34", "c": "36", "m": "35", "w": "1", "d": "2"}


class Style(StrEnum):
    """The styles that a view may ask for, by the letter that marks them."""

    RED = "r"
    GREEN = "g"
    YELLOW = "y"
    BLUE = "b"
    CYAN = "c"
    MAGENTA = "m"
    BOLD = "w"
    DIM = "d"


def field(text: str) -> str:
    """Untrusted text on one line: control, bidi and invisible characters as visible escapes."""
    return _HARMFUL.sub(_escape, text)


def styled(style: Style, text: str) -> str:
    """Text in a style; styles do not nest."""
    return f"{_BEGIN}{style}{text}{_END}" if text else ""


def width(text: str) -> int:
    """How many columns the text takes, marks not counted."""
    bare = _MARKS.sub("", text)
    if bare.isascii():
        return len(bare)
    import unicodedata

    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in bare)


def pad(text: str, columns: int) -> str:
    """The text with spaces after it, up to a width."""
    return text + " " * (columns - width(text))


def printable(text: str, *, color: bool) -> str:
    """What may go to a terminal or a CI log: marks as colours or dropped, all else harmless.

    Line ends and tabs stay. A line that GitHub or Azure would take for a command is broken up.
    """
    parts: list[str] = []
    at = 0
    for mark in _MARKS.finditer(text):
        parts.append(_harmless(text[at : mark.start()]))
        at = mark.end()
        if color:
            code = _ANSI.get(mark.group(1) or "", "0")
            parts.append(f"\x1b[{code}m")
    parts.append(_harmless(text[at:]))
    return _COMMAND_LINE.sub(r"\1\\", "".join(parts))


def _harmless(text: str) -> str:
    kept = _HARMFUL.sub(lambda found: found[0] if found[0] in "\n\t" else _escape(found), text)
    return _COMMAND.sub("# #", kept)


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    short = {9: "\\t", 10: "\\n", 13: "\\r"}.get(code)
    return short or (f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}" if code < 65536 else f"\\U{code:08x}")
