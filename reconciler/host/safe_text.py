"""Text that is safe to show, and marks for style that only the terminal turns into colours.

A view writes `styled(Style.RED, field(name))`. What came from a manifest or a server goes through
`field`, so that it stays on its line and can neither act on a terminal nor pose as a mark.
"""

import re
from enum import StrEnum

_BEGIN, _END = "\x01", "\x02"

# Patterns are compiled when first needed: most texts are plain, and these take as long as a small plan.
# Controls, halves, what is no character, what is not seen or turns text round (Cf, Zl, Zp and plane 14), and what
# looks like a space and is none (Zs); not U+200C and U+200D, which shape letters, nor the number and verse signs
# of Arabic, Syriac and Kaithi, nor the space of ideographic scripts.
_HARMFUL = (
    "[\x00-\x1f\x7f-\xa0\xad\u061c\u1680\u180e\u2000-\u200b\u200e\u200f\u2028-\u202f\u205f-\u206f\ud800-\udfff"
    "\ufdd0-\ufdef\ufeff\ufff9-\ufffb\ufffe\uffff\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
_COMMAND = r"##(?=\w*\[)"
_COMMAND_LINE = r"(?m)^(\s*)(?=::)"
_MARKS = f"{_BEGIN}(.)|{_END}"
_UNBROKEN = r"([ ]*)((?:(?<=[:?] )|(?<=^ )|(?<=^  ))reconciler .*|(?:`[^`]*`|[^ `]|`)+)"
_ANSI = {"r": "31", "g": "32", "y": "33", "b": "34", "c": "36", "m": "35", "w": "1", "d": "2"}


LAST_COLUMN = 40
"""So many columns are enough for the last one of a table, whose text is broken into several lines."""


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
    return text if text.isascii() and text.isprintable() else re.sub(_HARMFUL, _escape, text)


def styled(style: Style, text: str) -> str:
    """Text in a style; styles do not nest."""
    return f"{_BEGIN}{style}{text}{_END}" if text else ""


def width(text: str) -> int:
    """How many columns the text takes at most, marks not counted."""
    bare = re.sub(_MARKS, "", text) if _BEGIN in text or _END in text else text
    return len(bare) if bare.isascii() else sum(map(_columns_of, bare))


def clip(text: str, columns: int) -> str:
    """The text, with an ellipsis in the place of what goes beyond so many columns; a mark that is open is closed."""
    if width(text) <= columns:
        return text
    parts: list[str] = []
    left, is_open = columns - 1, False
    for found in re.finditer(f"(?s){_MARKS}|.", text):
        piece = found[0]
        if piece[0] in (_BEGIN, _END):
            is_open = piece[0] == _BEGIN
        else:
            left -= _columns_of(piece)
            if left < 0:
                break
        parts.append(piece)
    return "".join(parts) + "…" + (_END if is_open else "")


def wrapped(text: str, columns: int) -> str:
    """The text with each line broken between words, so that no line takes more than so many columns.

    What follows a break is indented to where the last column of the line begins, or else a little deeper than the line.
    A command that ends a line, and what stands in backticks, is never broken: it has to work where it is pasted. A word
    that is longer than a line stays whole.
    """
    return "\n".join(_wrapped_line(line, columns) if width(line) > columns else line for line in text.split("\n"))


def _wrapped_line(line: str, columns: int) -> str:
    words = re.findall(_UNBROKEN, line)
    indent = " " * _hang_of(line, columns)
    lines, left = [""], columns
    for space, word in words:
        needed = width(space) + width(word)
        if needed <= left or not lines[-1].strip():
            lines[-1] += space + word
            left -= needed
        else:
            lines.append(indent + word)
            left = columns - len(indent) - width(word)
    return "\n".join(lines)


def _hang_of(line: str, columns: int) -> int:
    """How far the rest of a line is indented: to its last column, where half of the width or enough is left for it."""
    bare = re.sub(_MARKS, "", line)
    starts = [width(bare[: gap.end()]) for gap in re.finditer(r"(?<=\S)  +(?=\S)", bare)]
    fitting = [start for start in starts if start <= max(columns // 2, columns - LAST_COLUMN)]
    margin = len(bare) - len(bare.lstrip())
    return fitting[-1] if fitting else min(margin + 2 if margin else 4, columns // 2)


def _columns_of(character: str) -> int:
    """How many columns a character takes; terminals differ on some, and none takes more."""
    if character.isascii():
        return 1
    import unicodedata

    if character == "\ufe0f":  # makes an emoji of the character before it, which may then be wide
        return 1
    if unicodedata.category(character) in ("Mn", "Me", "Cf") or "\u1160" <= character <= "\u11ff":
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def pad(text: str, columns: int) -> str:
    """The text with spaces after it, up to a width."""
    return text + " " * (columns - width(text))


def printable(text: str, *, color: bool) -> str:
    """What may go to a terminal or a CI log: marks as colours or dropped, all else harmless.

    Line ends and tabs stay. A line that GitHub or Azure would take for a command is broken up.
    """
    parts: list[str] = []
    at = 0
    for mark in re.finditer(_MARKS, text) if _BEGIN in text or _END in text else ():
        parts.append(_harmless(text[at : mark.start()]))
        at = mark.end()
        if color:
            code = _ANSI.get(mark.group(1) or "", "0")
            parts.append(f"\x1b[{code}m")
    parts.append(_harmless(text[at:]))
    # Only now: what stands on two sides of a mark is one text once the mark is dropped.
    whole = _without_commands("".join(parts))
    return re.sub(_COMMAND_LINE, r"\1\\", whole) if "::" in whole else whole


def log_field(text: str) -> str:
    """`field`, and no CI log finds a `##[` command in it."""
    return _without_commands(field(text))


def _without_commands(text: str) -> str:
    return re.sub(_COMMAND, "# #", text) if "##" in text else text


def _harmless(text: str) -> str:
    bare = text.replace("\n", "").replace("\t", "")
    if bare.isascii() and bare.isprintable():
        return text
    return re.sub(_HARMFUL, lambda found: found[0] if found[0] in "\n\t" else _escape(found), text)


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    short = {9: "\\t", 10: "\\n", 13: "\\r"}.get(code)
    return short or (f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}" if code < 65536 else f"\\U{code:08x}")
