"""The one canonical layout of a manifest file. Comments are kept.

- Fields stand in the order of the schema. Jobs and labels stay in the order of the file, since people group them.
- Each level is indented by two spaces.
- A collection in flow style stays in flow style if it fits on its line. A block stays a block, and `jobs` is a block.
- Text stands in double quotes if a reader would take the plain text for something else, and else without quotes.
- A number without a fraction has no point where the schema asks for a whole number, and keeps it elsewhere.
- Several blank lines become one.
- Comments at the ends of consecutive lines are aligned.

A file in this layout stays as it is.
"""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from reconciler.manifest.scalars import meaning_of_plain
from reconciler.manifest.schema_parts import Schema, fields_of, inside, with_whole_numbers
from reconciler.manifest.syntax import Collection, Comment, Entry, Scalar, Tree, comments_of, tree_of
from reconciler.manifest.yaml import read
from reconciler.model.errors import ReconcilerError
from reconciler.model.json_values import compact

WIDTH = 100
"""The most columns of a key and its collection in flow style. A comment after them does not count."""

INDENT = 2

_COMMENT_GAP = 2
_NO_START = frozenset("-?:,[]{}#&*!|>'\"%@`=<~")
_FLOW_SIGNS = frozenset(",[]{}")


class _Line(NamedTuple):
    code: str
    comment: str = ""


def canonical(source: bytes, file: str, schema: Schema) -> bytes:
    """Return the file in the canonical layout, with the line ends that most of its lines have.

    The file must be valid under the schema. Raises `ReconcilerError` if the new text would have another meaning, or
    would lack one of the comments.
    """
    text = source.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    comments = sorted(comments_of(tree_of(text)))
    lines = _Writer(schema).file(tree_of(text))
    made = "".join(f"{line}\n" for line in lines).encode()
    again = read(made, file)
    before, after = (with_whole_numbers(one.value, schema, schema) for one in (read(source, file), again))
    if again.faults or meaning(before) != meaning(after):
        why = again.faults[0].message if again.faults else ""
        raise ReconcilerError(f"{file} can't be laid out so that it says the same: left as it is", why)
    if lost := Counter(comments) - Counter(comments_of(tree_of(made.decode()))):
        raise ReconcilerError(f"{file} can't be laid out with this comment: {next(iter(lost))}", "move it")
    return made.replace(b"\n", b"\r\n") if has_crlf(source) else made


def has_crlf(source: bytes) -> bool:
    """Return whether most lines of a file have the line ends of Windows."""
    return 2 * source.count(b"\r\n") > source.count(b"\n")


def meaning(value: Any) -> str:
    """Return the meaning of a value as text. The text is equal for values that differ only in the order of fields."""
    return compact(value)


def scalar(value: Any) -> str:
    """Return a scalar on one line.

    Text is plain if every reader takes it for the same text, and else in double quotes.
    """
    match value:
        case str():
            return value if _is_plain(value) else quoted(value)
        case float():
            digits, exponent, power = repr(value).partition("e")
            # Without a point, readers of YAML 1.1 and 1.2 differ in what a number with an exponent is.
            return f"{digits}{'' if '.' in digits else '.0'}{exponent}{power}"
        case _:
            return json.dumps(value)


def flow(value: Any) -> str:
    """Return a value on one line, in flow style. Mappings keep their order."""
    match value:
        case dict():
            return "{" + ", ".join(f"{scalar(key)}: {flow(inner)}" for key, inner in value.items()) + "}"
        case list():
            return "[" + ", ".join(map(flow, value)) + "]"
        case _:
            return scalar(value)


def quoted(text: str) -> str:
    """Return text in double quotes. Invisible characters become escapes."""
    return f'"{"".join(map(_escaped, text))}"'


class _Writer:
    """Writes the tree of a file line by line."""

    def __init__(self, schema: Schema) -> None:
        self._root = schema
        self._lines: list[_Line] = []

    def file(self, tree: Tree) -> Iterator[str]:
        """Return the lines of the file, without line ends."""
        self._comments(tree.top, "")
        if tree.marked:
            self._lines.append(_Line("---"))
        root = tree.root
        self._comments([*root.head, *root.beside], "")
        assert isinstance(root.value, Collection)
        first = root.value.entries[0]
        # A comment above the first field, with a blank line between the two, is about the file.
        apart = [at for at, blank in enumerate([*(c.blank for c in first.head), first.blank]) if blank and at]
        if apart:
            self._comments(first.head[: apart[-1]], "")
            self._lines.append(_Line(""))
            first.head = [comment._replace(blank=False) for comment in first.head[apart[-1] :]]
            first.blank = first.blank and bool(first.head)
        self._entries(root.value, self._root, "")
        return _aligned(self._lines)

    def _entries(self, block: Collection, schema: Schema, margin: str) -> None:
        """Write a block: its entries, then the comments at its foot. No blank line begins a block."""
        first = len(self._lines)
        for at, entry in enumerate(self._sorted(block, schema)):
            self._entry(entry, schema, margin, at)
        self._comments(block.foot, margin)
        while not self._lines[first].code:
            del self._lines[first]

    def _entry(self, entry: Entry, around: Schema, margin: str, at: int) -> None:
        value, schema = entry.value, self._inside(entry, around, at)
        start = margin + ("-" if entry.key is None else f"{scalar(entry.key.value)}:")
        written = self._inline(value, schema, WIDTH - len(start) - 1, margin)
        if entry.key is not None and entry.key.value == "jobs" and around is self._root:
            written = written[:0] if isinstance(value, Collection) and value.entries else written
        # A line has room for one comment. An item that is a block has no line of its own.
        beside = entry.beside[-1:] if written or entry.key is not None else []
        self._comments([*entry.head, *entry.beside[: len(entry.beside) - len(beside)]], margin)
        if isinstance(value, Collection) and not value.entries:
            self._comments(value.foot, margin)
        if entry.blank:
            self._blank()
        comment = beside[0].text if beside else ""
        if written:
            self._lines.append(_Line(f"{start} {written[0]}", comment))
            self._lines += map(_Line, written[1:])
            return
        assert isinstance(value, Collection)
        deeper = margin + " " * INDENT
        if entry.key is not None:
            self._lines.append(_Line(start, comment))
            self._entries(value, schema, deeper)
            return
        first = len(self._lines)
        self._entries(value, schema, deeper)
        while self._lines[first].code.lstrip().startswith("#"):
            self._lines[first] = _Line(margin + self._lines[first].code.lstrip())
            first += 1
        code, comment = self._lines[first]
        self._lines[first] = _Line(f"{start} {code.removeprefix(deeper)}", comment)

    def _inline(self, value: Scalar | Collection, schema: Schema, room: int, margin: str) -> list[str]:
        """Return the text after the key or dash of an entry, and further lines; empty if the value is to be a block."""
        if isinstance(value, Scalar):
            text = value.value
            if value.style in ("|", ">") and _is_literal(text):
                header = "|" if text.endswith("\n") else "|-"
                deeper = margin + " " * INDENT
                return [header, *(deeper + line if line else "" for line in text.removesuffix("\n").split("\n"))]
            return [scalar(with_whole_numbers(text, schema, self._root))]
        if not value.entries:
            return ["{}" if value.keyed else "[]"]
        if not value.flow or any(comments_of(value)):
            return []
        text = flow(self._value(value, schema))
        return [text] if len(text) <= room else []

    def _value(self, node: Scalar | Collection, schema: Schema) -> Any:
        """Return the plain value of a node, with its fields in the order of the schema."""
        if isinstance(node, Scalar):
            return with_whole_numbers(node.value, schema, self._root)
        values = [
            (entry.key, self._value(entry.value, self._inside(entry, schema, at)))
            for at, entry in enumerate(self._sorted(node, schema))
        ]
        return {key.value: value for key, value in values if key} if node.keyed else [value for _, value in values]

    def _sorted(self, block: Collection, schema: Schema) -> list[Entry]:
        """Return the entries. The fields that the schema names come first, in the order of the schema."""
        ranks = {name: rank for rank, name in enumerate(fields_of(schema, self._root))}
        return sorted(block.entries, key=lambda entry: ranks.get(entry.key.value, len(ranks)) if entry.key else 0)

    def _inside(self, entry: Entry, around: Schema, at: int) -> Schema:
        """Return the schema of an entry's value, empty for an unknown field.

        `around` is the schema of the collection, and `at` the number of an item of a list.
        """
        return inside(around, at if entry.key is None else entry.key.value, self._root)

    def _comments(self, comments: Sequence[Comment], margin: str) -> None:
        """Write comments on lines of their own."""
        for comment in comments:
            if comment.blank:
                self._blank()
            self._lines.append(_Line(margin + comment.text))

    def _blank(self) -> None:
        if self._lines and self._lines[-1].code:
            self._lines.append(_Line(""))


def _aligned(lines: Sequence[_Line]) -> Iterator[str]:
    """Yield the lines as text. Comments at the ends of consecutive lines stand in one column."""
    at = 0
    while at < len(lines):
        end = at + 1
        while (
            end < len(lines)
            and _is_row(lines[at])
            and _is_row(lines[end])
            and _margin(lines[at]) == _margin(lines[end])
        ):
            end += 1
        column = max(len(line.code) for line in lines[at:end]) + _COMMENT_GAP
        yield from (f"{code:{column}}{comment}" if comment else code for code, comment in lines[at:end])
        at = end


def _is_row(line: _Line) -> bool:
    """Return whether a line is a row of a table of comments: it has a comment at its end, and opens no block."""
    return bool(line.comment) and not line.code.endswith(":")


def _margin(line: _Line) -> int:
    return len(line.code) - len(line.code.lstrip(" "))


def _is_plain(text: str) -> bool:
    """Return whether all readers of YAML 1.1 and 1.2 take the unquoted text for that text, in blocks and in
    flow style.
    """
    if not text or text[0] in _NO_START or text[0] == " " or text[-1] in " :" or text.startswith("..."):
        return False
    if ": " in text or " #" in text or not text.isprintable() or not _FLOW_SIGNS.isdisjoint(text):
        return False
    meant, fault = meaning_of_plain(text)
    return isinstance(meant, str) and not fault


def _is_literal(text: str) -> bool:
    """Return whether text of several lines can stand in a literal block (`|`) without a number for its indentation."""
    first, *others = text.removesuffix("\n").split("\n")
    shows = all(line.isprintable() and not line.endswith(" ") for line in (first, *others))
    return shows and bool(others) and bool(others[-1]) and bool(first) and first[0] != " "


def _escaped(character: str) -> str:
    if character in '"\\':
        return f"\\{character}"
    if character.isprintable():
        return character
    code = ord(character)
    short = {9: "\\t", 10: "\\n", 13: "\\r"}.get(code)
    return short or (f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}" if code < 65536 else f"\\U{code:08x}")
