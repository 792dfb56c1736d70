"""Strict YAML: the bytes of a file become plain values with known positions.

The reader refuses everything that another reader may interpret differently, or that a person may misread. These are
duplicate keys, anchors, aliases, merge keys, tags, directives, several documents, keys that are not text, and the plain
scalars that `scalars` refuses.
"""

import re
from array import array
from collections.abc import Callable
from typing import Any, Final

import yaml
from yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
    StreamEndEvent,
)

from reconciler.manifest.document import Document, position_of
from reconciler.manifest.events import BAD_ESCAPE, LIBYAML, end_of, events_of, faults_of, place_of
from reconciler.manifest.scalars import meaning_of_plain, shown

MAX_DEPTH = 64
"""The most levels of nested collections. The time that parsers take grows with the square of the depth."""

# YAML 1.1 ends a line at U+0085, U+2028 and U+2029; YAML 1.2 does not. A byte order mark is allowed only at the start.
_UNREADABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")
_DIRECTIVE = re.compile(r"(?:[ \t]*(?:#[^\r\n]*)?(?:\r\n?|\n))*%")
_SURROGATE = "[\ud800-\udfff]"
_MISSING: Final = object()
_DROPPED: Final = object()


def read(source: bytes, file: str, libyaml: bool = LIBYAML) -> Document:
    """Return the document of one file. Its `faults` hold the faults of the file; no error is raised.

    `libyaml` chooses the parser. Both parsers give the same document for a file that both accept. Only PyYAML's own
    parser refuses a tab between tokens, `|#` and `{a?}`; only libyaml refuses `{a:}`.
    """
    faults: dict[int, str] = {}
    try:
        text = str(source, "utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        before = str(source[: error.start], "utf-8").removeprefix("\ufeff")
        faults[end_of(before)] = f"byte 0x{source[error.start]:02x} is no UTF-8: save the file as UTF-8"
        return Document.unread(file, faults)
    if unreadable := _UNREADABLE.search(text):
        code = f"{ord(unreadable[0]):04X}"
        faults[end_of(text[: unreadable.start()])] = (
            f'the character U+{code} is not allowed: remove it, or write "\\u{code}" in double quotes'
        )
        return Document.unread(file, faults)
    if directive := _DIRECTIVE.match(text):
        faults[end_of(directive[0][:-1])] = "a directive (%) is not read: remove the line"
        return Document.unread(file, faults)
    builder = _Builder(events_of(text, libyaml), file, faults)
    whole = True
    try:
        value = builder.stream()
    except yaml.MarkedYAMLError as error:
        value, whole = None, False
        for place, message in faults_of(error, text):
            faults.setdefault(place, message)
    return Document(file, value, builder.positions, faults, whole=whole)


class _Builder:
    """Builds the value from the events of the parser, and records the place of every key and value, and every fault."""

    __slots__ = ("faults", "file", "next_event", "plain", "positions")

    def __init__(self, next_event: Callable[[], Any], file: str, faults: dict[int, str]) -> None:
        self.next_event = next_event
        self.file = file
        self.faults = faults
        self.positions: array[int] = array("Q")
        self.plain: dict[str, Any] = {}
        """The meaning of each plain scalar so far, so that equal texts become one object."""

    def stream(self) -> Any:
        """Return the value of the first document. Further documents are refused, and read for their faults only."""
        value = None
        documents = 0
        while type(event := self.next_event()) is not StreamEndEvent:
            if type(event) is DocumentStartEvent:
                documents += 1
                if documents == 1:
                    value = self.node(self.next_event(), 0)
                else:
                    self.refuse(
                        place_of(event.start_mark), "a second document is not read: move it into a file of its own"
                    )
                    self.drop(self.next_event(), 0)
        return value

    def node(self, event: Any, depth: int) -> Any:
        """Return the value that begins with this event."""
        kind = type(event)
        if kind is ScalarEvent:
            return self.scalar(event)
        if kind is MappingStartEvent:
            return self.mapping(event, depth + 1)
        if kind is SequenceStartEvent:
            return self.sequence(event, depth + 1)
        assert kind is AliasEvent
        self.refuse(place_of(event.start_mark), f"an alias (*{shown(event.anchor)}) is not read: write the value out")
        self.positions.append(place_of(event.start_mark))
        return None

    def mapping(self, start: Any, depth: int) -> dict[str, Any]:
        self.open(start, depth)
        next_event, scalar = self.next_event, self.scalar
        positions, faults = self.positions, self.faults
        built: dict[str, Any] = {}
        places: dict[str, int] = {}
        while type(event := next_event()) is not MappingEndEvent:
            key = scalar(event) if type(event) is ScalarEvent else _MISSING
            if type(key) is not str or key in places or key == "<<" or (faults and positions[-1] in faults):
                key = self.odd_key(event, key, places, depth)
            event = next_event()
            if key is _DROPPED:
                self.drop(event, depth)
                continue
            places[key] = positions[-1]
            if type(event) is ScalarEvent:
                built[key] = scalar(event)
            else:
                built[key] = self.node(event, depth)
        return built

    def sequence(self, start: Any, depth: int) -> list[Any]:
        self.open(start, depth)
        built = []
        while type(event := self.next_event()) is not SequenceEndEvent:
            built.append(self.node(event, depth))
        return built

    def open(self, start: Any, depth: int) -> None:
        """Record the place of a collection. Raises `yaml.MarkedYAMLError` if the collection is nested too deep."""
        if depth > MAX_DEPTH:
            problem = f"nested deeper than {MAX_DEPTH} levels: the file is not read any further"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=start.start_mark)
        if start.anchor is not None or start.tag is not None:
            self.refuse_properties(start)
        self.positions.append(place_of(start.start_mark))

    def scalar(self, event: Any) -> Any:
        """Return the value of a scalar. The value of a refused plain scalar is its text."""
        text: str = event.value
        mark = event.start_mark
        if event.anchor is not None or event.tag is not None:
            self.refuse_properties(event)
        if event.style:
            self.positions.append(place_of(mark))
            if not text.isascii() and re.search(_SURROGATE, text):
                raise yaml.MarkedYAMLError(problem=BAD_ESCAPE, problem_mark=mark)  # libyaml raises the same error
            return text
        if not text:
            # The parsers do not agree on the place of an empty scalar.
            self.positions.append(self.positions[-1] if self.positions else 0)
            return None
        self.positions.append(place_of(mark))
        value = self.plain.get(text, _MISSING)
        if value is _MISSING:
            value, fault = meaning_of_plain(text)
            if fault:
                self.refuse(place_of(mark), fault)
            else:
                self.plain[text] = value
        return value

    def odd_key(self, event: Any, key: Any, places: dict[str, int], depth: int) -> Any:
        """Refuse a key. Return the text that stands for the key, or `_DROPPED` if the value is to be dropped too."""
        if key is _MISSING:
            self.refuse(place_of(event.start_mark), "a key must be text")
            self.drop(event, depth)
            return _DROPPED
        place = self.positions[-1]
        if key == "<<" and not event.style:
            # `<<` was refused as a scalar already. The message about a key says more.
            self.faults[place] = "a merge key (<<) is not read: write the fields out"
        elif type(key) is not str:
            self.refuse(place, _quote_key(event.value) if event.value else "a key is missing")
        elif not event.style and event.value.isascii() and self.faults.get(place) == meaning_of_plain(event.value)[1]:
            # The message about a value offers a boolean or a number too, and a key can't be one. A character that only
            # looks like a space has a message of its own.
            self.faults[place] = _quote_key(event.value)
        text: str = event.value
        if text in places:
            first = position_of(self.file, places[text])
            self.refuse(place, f'"{shown(text)}" is already at {first}: remove one of the two')
            self.positions.pop()
            return _DROPPED
        return text

    def drop(self, event: Any, depth: int) -> None:
        """Read a value for its faults only, and forget the places in the value."""
        before = len(self.positions)
        self.node(event, depth)
        del self.positions[before:]

    def refuse_properties(self, event: Any) -> None:
        if event.anchor is not None:
            self.refuse(place_of(event.start_mark), f"an anchor (&{shown(event.anchor)}) is not read: remove it")
        else:
            tag = event.tag.replace("tag:yaml.org,2002:", "!!")
            self.refuse(place_of(event.start_mark), f"a tag ({shown(tag)}) is not read: remove it")

    def refuse(self, place: int, message: str) -> None:
        """Record a fault. Only the first fault at a place counts."""
        self.faults.setdefault(place, message)


def _quote_key(text: str) -> str:
    return f'a key must be text: write "{shown(text)}" in quotes'
