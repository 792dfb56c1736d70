"""Which files a .gitignore, or a file like it, names: the patterns of gitignore(5).

Names and patterns are bytes, as in git: `?` stands for one byte. Upper and lower case differ.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

_CLASSES = {
    b"alnum": rb"0-9A-Za-z",
    b"alpha": rb"A-Za-z",
    b"blank": rb" \t",
    b"cntrl": rb"\x00-\x1f\x7f",
    b"digit": rb"0-9",
    b"graph": rb"!-~",
    b"lower": rb"a-z",
    b"print": rb" -~",
    b"punct": rb"!-/:-@\[-`{-~",
    b"space": rb"\t-\r ",
    b"upper": rb"A-Z",
    b"xdigit": rb"0-9A-Fa-f",
}

_STAR = rb"[^/]*"


class Pattern(NamedTuple):
    """One line of an ignore file. `of_path` says that it is about the whole path, and not about the last name in it."""

    expression: re.Pattern[bytes]
    is_negated: bool
    only_folders: bool
    of_path: bool


class Patterns(NamedTuple):
    """The lines of one ignore file, in their order. The last one that matches counts."""

    lines: tuple[Pattern, ...]

    def verdict(self, path: bytes, *, is_folder: bool) -> bool | None:
        """Return whether a path is ignored, or None if no line is about it.

        The path is relative to the folder of the ignore file. A folder that is ignored is not entered: nothing below it
        can be named again.
        """
        name = path.rpartition(b"/")[2]
        for line in reversed(self.lines):
            if line.only_folders and not is_folder:
                continue
            if line.expression.fullmatch(path if line.of_path else name):
                return not line.is_negated
        return None


def patterns_of(content: bytes) -> Patterns:
    """Return the patterns of an ignore file."""
    return Patterns(tuple(_patterns(content.removeprefix(b"\xef\xbb\xbf"))))


def _patterns(content: bytes) -> Iterator[Pattern]:
    for line in content.split(b"\n"):
        text = _without_spaces(line.removesuffix(b"\r"))
        if not text or text.startswith(b"#"):
            continue
        is_negated = text.startswith(b"!")
        text = text.removeprefix(b"!")
        only_folders = text.endswith(b"/")
        text = text.removesuffix(b"/")
        of_path = b"/" in text
        expression = _expression(text.removeprefix(b"/")) if text else None
        if expression is not None:
            yield Pattern(re.compile(expression, re.DOTALL), is_negated, only_folders, of_path)


def _without_spaces(line: bytes) -> bytes:
    """Return a line without the spaces at its end. A backslash before a space keeps it."""
    stripped = line.rstrip(b" ")
    backslashes = len(stripped) - len(stripped.rstrip(b"\\"))
    return line[: len(stripped) + 1] if backslashes % 2 and len(stripped) < len(line) else stripped


def _expression(glob: bytes) -> bytes | None:
    """Return the regular expression of a pattern; None for one that is malformed, which matches nothing.

    A name that a star can end at is never given back for a later star: the first place that fits is the best one. So no
    pattern takes longer than its length times that of the path, between two slashes.
    """
    made, waiting = b"", b""
    at = 0
    while at < len(glob):
        one = glob[at : at + 1]
        if one == b"*":
            part, at = _of_stars(glob, at)
            if part == _STAR:
                made, waiting = made + _atomic(waiting), _STAR
                continue
        elif one == b"?":
            part, at = rb"[^/]", at + 1
        elif one == b"[":
            found = _bracket(glob, at + 1)
            if found is None:
                return None
            part, at = found
        elif one == b"\\":
            if at + 1 == len(glob):
                return None
            part, at = re.escape(glob[at + 1 : at + 2]), at + 2
        else:
            part, at = re.escape(one), at + 1
        waiting += part
        if part == b"/":
            made, waiting = made + waiting, b""
    return made + waiting


def _atomic(part: bytes) -> bytes:
    """Return what stands before a star in one name. If it begins with a star, the first place that fits is taken."""
    return rb"(?>" + _STAR + rb"?" + part.removeprefix(_STAR) + rb")" if part.startswith(_STAR) else part


def _of_stars(glob: bytes, start: int) -> tuple[bytes, int]:
    """Return the expression of the stars at a place, such as `**` between slashes, and where the pattern goes on."""
    stop = start + len(glob[start:]) - len(glob[start:].lstrip(b"*"))
    is_between = (start == 0 or glob[start - 1 : start] == b"/") and glob[stop : stop + 1] in (b"", b"/")
    if stop - start < 2 or not is_between:
        return _STAR, stop
    if stop == len(glob):
        return rb".*", stop
    return rb"(?:.*/)?", stop + 1


def _bracket(glob: bytes, at: int) -> tuple[bytes, int] | None:
    """Return the expression of a bracket whose content begins at `at`, and where the pattern goes on.

    No bracket matches a slash. Returns None for a bracket that does not end, or that names an unknown class.
    """
    is_negated = glob[at : at + 1] in (b"!", b"^")
    at += is_negated
    ranges: list[bytes] = []
    is_first = True
    while at < len(glob) and (is_first or glob[at : at + 1] != b"]"):
        is_first = False
        if glob[at : at + 2] == b"[:":
            end = glob.find(b":]", at + 2)
            if end < 0 or glob[at + 2 : end] not in _CLASSES:
                return None
            ranges.append(_CLASSES[glob[at + 2 : end]])
            at = end + 2
            continue
        low, at = _character(glob, at)
        if glob[at : at + 1] == b"-" and glob[at + 1 : at + 2] not in (b"]", b""):
            high, at = _character(glob, at + 1)
        else:
            high = low
        if not low or not high:
            return None
        # As in git: the first character of a range always counts, that of an empty range too.
        ranges.append(re.escape(low) + b"-" + re.escape(high if low <= high else low))
    if at >= len(glob):
        return None
    content = b"".join(ranges)
    if is_negated:
        return rb"(?!/)[^" + content + rb"]" if content else rb"[^/]", at + 1
    return rb"(?!/)[" + content + rb"]" if content else rb"(?!)", at + 1


def _character(glob: bytes, at: int) -> tuple[bytes, int]:
    """Return the character of a bracket at a place, with a backslash before it or not, and where the bracket goes on.

    The character is "" at the end of the pattern.
    """
    at += glob[at : at + 1] == b"\\"
    return glob[at : at + 1], at + 1
