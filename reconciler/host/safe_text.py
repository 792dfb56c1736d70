"""Text that is safe to show, and marks for styles, which only the terminal turns into colours.

A view writes `styled(Style.RED, field(name))`. Text from a manifest or a server goes through `field`. It then stays on
its line, can't control a terminal, and can't look like a mark.
"""

import re
from enum import StrEnum

_BEGIN, _END = "\x01", "\x02"

# The patterns are strings, since most texts need none of them, and compiling them all takes several milliseconds.
# This one matches control characters, surrogates, noncharacters, invisible and bidirectional characters (Cf, Zl, Zp and
# plane 14), and characters that look like a space (Zs). It does not match U+200C and U+200D, which shape letters, the
# number and verse signs of Arabic, Syriac and Kaithi, and the space of ideographic scripts.
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
"""The width that is enough for the last column of a table, whose text may take several lines."""


class Style(StrEnum):
    """The styles of a view. The value is the letter in the mark."""

    RED = "r"
    GREEN = "g"
    YELLOW = "y"
    BLUE = "b"
    CYAN = "c"
    MAGENTA = "m"
    BOLD = "w"
    DIM = "d"


def field(text: str) -> str:
    """Untrusted text, on one line. Control, bidirectional and invisible characters are shown as escapes."""
    return text if text.isascii() and text.isprintable() else re.sub(_HARMFUL, _escape, text)


def styled(style: Style, text: str) -> str:
    """The text in a style, "" for an empty text. Styles do not nest."""
    return f"{_BEGIN}{style}{text}{_END}" if text else ""


def width(text: str) -> int:
    """An upper limit for the number of columns that the text takes. Marks take none."""
    bare = re.sub(_MARKS, "", text) if _BEGIN in text or _END in text else text
    return len(bare) if bare.isascii() else sum(map(_columns_of, bare))


def clip(text: str, columns: int) -> str:
    """The text, cut to a number of columns with an ellipsis at the end. A mark that is open at the cut is closed."""
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
    """The text, with each line broken between words so that no line takes more than a number of columns.

    The rest of a broken line is indented to the line's last column, or else a little deeper than the line. A command at
    the end of a line and text in backticks are never broken, because the user pastes them. A word that is longer than a
    line stays whole.
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
    """The indentation of the rest of a line: its last column, where enough of the width is left for it."""
    bare = re.sub(_MARKS, "", line)
    starts = [width(bare[: gap.end()]) for gap in re.finditer(r"(?<=\S)  +(?=\S)", bare)]
    fitting = [start for start in starts if start <= max(columns // 2, columns - LAST_COLUMN)]
    margin = len(bare) - len(bare.lstrip())
    return fitting[-1] if fitting else min(margin + 2 if margin else 4, columns // 2)


def _columns_of(character: str) -> int:
    """The number of columns that a character takes. Terminals differ; none takes more than this."""
    if character.isascii():
        return 1
    import unicodedata

    if character == "\ufe0f":  # It turns the character before it into an emoji, which may be one column wider.
        return 1
    if unicodedata.category(character) in ("Mn", "Me", "Cf") or "\u1160" <= character <= "\u11ff":
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def pad(text: str, columns: int) -> str:
    """The text with spaces after it, so that it takes at least this number of columns."""
    return text + " " * (columns - width(text))


def printable(text: str, *, color: bool) -> str:
    """Text for a terminal or a CI log. Marks become colours, or are dropped; other control characters become escapes.

    Line ends and tabs stay. A line that GitHub or Azure would take for a workflow command is changed so that it is
    none.
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
    # Commands are looked for last, since dropping a mark joins the texts on both sides of the mark.
    whole = _without_commands("".join(parts))
    return re.sub(_COMMAND_LINE, r"\1\\", whole) if "::" in whole else whole


def untrusted(text: str) -> str:
    """Untrusted text of several lines for a terminal or a CI log, as `printable` makes it. Marks become escapes too."""
    return printable(re.sub(f"[{_BEGIN}{_END}]", _escape, text), color=False)


def log_field(text: str) -> str:
    """`field`, changed so that no CI service finds a `##[` command in it."""
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
