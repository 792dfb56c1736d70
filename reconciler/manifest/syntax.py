"""The syntax tree of a YAML file: its nodes, their places in the text, and its comments.

The text must be one in which `yaml.read` finds no fault. A place is a number of characters from the start of the text.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from yaml.events import MappingEndEvent, MappingStartEvent, ScalarEvent, SequenceEndEvent

from reconciler.manifest.events import LIBYAML, events_of
from reconciler.manifest.scalars import meaning_of_plain

_COMMENT = re.compile(r"#[^\r\n]*")
_BLANK_LINE = re.compile(r"(?:\r\n?|\n)[ \t]*(?:\r\n?|\n)")
_BLOCK_SCALAR = re.compile(r"[|>]([^\s#]*)[ \t]*(#[^\r\n]*)?")


class Comment(NamedTuple):
    """One comment, from its "#" to its last character. `blank` is True if a blank line stands before the comment."""

    text: str
    start: int
    blank: bool

    @property
    def end(self) -> int:
        """The place just after the comment."""
        return self.start + len(self.text)


class Scalar(NamedTuple):
    """One scalar. `style` is "" for a plain scalar, else the sign that begins the scalar: ", ', | or >."""

    start: int
    end: int
    style: str
    value: Any


NOTHING = Scalar(0, 0, "", None)
"""The scalar of an empty value, and the value of an entry whose value is not read yet."""


@dataclass(slots=True)
class Collection:
    """A mapping (`keyed`) or a list, in flow style or as a block.

    `column` is the column of the keys or dashes of a block. `end` is the place just after a collection in flow style,
    and has no meaning for a block. `foot` holds the comments after the last entry.
    """

    start: int
    end: int
    keyed: bool
    flow: bool
    column: int
    entries: list["Entry"] = field(default_factory=list)
    foot: list[Comment] = field(default_factory=list)

    def find(self, key: str) -> "Entry | None":
        """Return the entry of a key, or None."""
        return next((entry for entry in self.entries if entry.key is not None and entry.key.value == key), None)


@dataclass(slots=True)
class Entry:
    """A key and its value. An item of a list and the whole document are entries without a key.

    `head` holds the comments on lines of their own before the entry, and `beside` the comments at the end of its line.
    `blank` is True if a blank line stands just before the entry.
    """

    key: Scalar | None
    value: "Scalar | Collection" = NOTHING
    blank: bool = False
    head: list[Comment] = field(default_factory=list)
    beside: list[Comment] = field(default_factory=list)


class Tree(NamedTuple):
    """A whole file.

    `marked` is True if the document begins with `---`, and `top` holds the comments before that line.
    """

    root: Entry
    marked: bool
    top: list[Comment]


def tree_of(text: str, libyaml: bool = LIBYAML) -> Tree:
    """Return the tree of a text that holds one document. The strict reader must find no fault in the text."""
    return _Reader(text, libyaml).tree()


def comments_of(node: Tree | Entry | Scalar | Collection) -> Iterator[str]:
    """Yield the text of every comment in a part of a file, in no particular order."""
    match node:
        case Tree():
            yield from (comment.text for comment in node.top)
            yield from comments_of(node.root)
        case Entry():
            yield from (comment.text for comment in (*node.head, *node.beside))
            yield from comments_of(node.value)
        case Collection():
            for entry in node.entries:
                yield from comments_of(entry)
            yield from (comment.text for comment in node.foot)


class _Reader:
    """Reads the events of the parser, and looks for comments between one token and the next.

    Between two tokens there are only white space, comments and the signs of YAML, so any "#" there begins a comment.
    """

    def __init__(self, text: str, libyaml: bool) -> None:
        self._text = text
        self._next: Callable[[], Any] = events_of(text, libyaml)
        self._at = 0  # the end of the last token
        self._owner: Entry | None = None  # the entry of the last token
        self._pending: list[tuple[Comment, int]] = []  # comments on lines of their own, and their columns
        self._closed: list[Collection] = []  # the blocks that ended since the last token, inner ones first

    def tree(self) -> Tree:
        self._next()  # the start of the stream
        opening = self._next()
        top: list[Comment] = []
        if opening.explicit:
            self._token(opening)
            top = self._claim()
        root = Entry(None)
        root.value = self._node(self._next(), root, -1)
        ending = self._next()
        if ending.explicit:
            self._token(ending)
            self._owner = None
        self._gap(len(self._text))
        left = self._claim()
        (root.value.foot if isinstance(root.value, Collection) else root.beside).extend(left)
        return Tree(root, opening.explicit, top)

    def _node(self, event: Any, entry: Entry, outer: int) -> Scalar | Collection:
        """Return the value that begins with this event. `outer` is the column of the block around the value."""
        if type(event) is ScalarEvent:
            self._token(event)
            entry.head += self._claim()
            self._owner = entry
            return self._scalar(event, entry)
        keyed = type(event) is MappingStartEvent
        start: Any = event.start_mark
        made = Collection(start.index, event.end_mark.index, keyed, event.flow_style is True, start.column)
        if made.flow:
            self._token(event)
            entry.head += self._claim()
            self._owner = entry
        elif start.column <= outer:
            made.column = (
                outer + 1
            )  # the dashes are below their key, and a comment in that column is not about the list
        ending = MappingEndEvent if keyed else SequenceEndEvent
        while type(event := self._next()) is not ending:
            made.entries.append(self._entry(event, made))
        if made.flow:
            self._token(event)
            made.foot += self._claim()
            made.end = self._at
            self._owner = entry
        else:
            self._closed.append(made)
        return made

    def _entry(self, event: Any, around: Collection) -> Entry:
        key = None
        if around.keyed:
            made = Entry(None, blank=self._token(event), head=self._claim())
            self._owner = made
            key = self._scalar(event, made)
            event = self._next()
        else:
            made = Entry(None, blank=self._gap(event.start_mark.index), head=self._claim())
        made.key = key
        made.value = self._node(event, made, around.column)
        return made

    def _scalar(self, event: Any, entry: Entry) -> Scalar:
        start, end, style = event.start_mark.index, event.end_mark.index, event.style or ""
        if not style:
            return Scalar(start, end, "", meaning_of_plain(event.value)[0] if event.value else None)
        if style in "|>":
            written = self._text[start:end]
            header = _BLOCK_SCALAR.match(written)
            assert header is not None
            if header[2]:
                entry.beside.append(Comment(header[2].rstrip(), start + header.start(2), blank=False))
            if "+" not in header[1]:
                end = self._at = start + len(written.rstrip())
        return Scalar(start, end, style, event.value)

    def _token(self, event: Any) -> bool:
        """Move past a token. Return whether a blank line stands before the token."""
        blank = self._gap(event.start_mark.index)
        self._at = event.end_mark.index
        return blank

    def _gap(self, start: int) -> bool:
        """Collect the comments before a token. Return whether a blank line stands just before the token."""
        text, token_end = self._text, self._at
        at = token_end
        for found in _COMMENT.finditer(text, at, start):
            comment = Comment(found[0].rstrip(), found.start(), _BLANK_LINE.search(text, at, found.start()) is not None)
            line = max(text.rfind("\n", 0, found.start()), text.rfind("\r", 0, found.start())) + 1
            if self._owner is None or token_end <= line:
                self._pending.append((comment, found.start() - line))
            else:
                self._owner.beside.append(comment)
            at = found.end()
        self._at = start
        return _BLANK_LINE.search(text, at, start) is not None

    def _claim(self) -> list[Comment]:
        """Return the pending comments that belong to the next token.

        Each other comment goes to the foot of a block that has ended: of the innermost block whose column is not to the
        right of the comment.
        """
        level = 0
        left = []
        for comment, column in self._pending:
            while level < len(self._closed) and self._closed[level].column > column:
                level += 1
            if level < len(self._closed):
                self._closed[level].foot.append(comment)
            else:
                left.append(comment)
        self._pending, self._closed = [], []
        return left
