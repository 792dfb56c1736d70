"""YAML, read strictly: bytes to plain values, each of which knows its place.

Scalars resolve by the core schema of YAML 1.2 (https://yaml.org/spec/1.2.2/#103-core-schema).
Refused is what another reader may read as something else, or a person may misread: duplicate keys,
anchors, aliases, merge keys, tags, directives, several documents, keys that are not text, and plain
scalars that YAML 1.1 (https://yaml.org/type/) takes for something else.
"""

import re
from array import array
from collections.abc import Callable
from typing import Any, Final, cast

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

from reconciler.manifest.document import Document, packed, position_of

LIBYAML: Final[bool] = yaml.__with_libyaml__
"""Whether libyaml parses; PyYAML's own parser does where it is missing, some ten times slower."""

MAX_DEPTH = 64
MAX_DIGITS = 4000
_MAX_HEX_DIGITS = 3000  # some 3600 decimal ones; Python prints no number of more than 4300

_WORDS: dict[str, Any] = {
    **dict.fromkeys(("~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **{sign + word: float(sign + "inf") for sign in ("", "+", "-") for word in (".inf", ".Inf", ".INF")},
    **dict.fromkeys((".nan", ".NaN", ".NAN"), float("nan")),
}
_TO_YAML_1_1 = {
    **dict.fromkeys(("y", "Y", "yes", "Yes", "YES", "on", "On", "ON"), ("true", "write true, or quote it")),
    **dict.fromkeys(("n", "N", "no", "No", "NO", "off", "Off", "OFF"), ("false", "write false, or quote it")),
    "=": ("a default value", "quote it"),
    "<<": ("a merge key", "quote it"),
}
_INT = re.compile(r"[-+]?(?:0|[1-9][0-9]*)")
_FLOAT = re.compile(r"(?:[-+]?(?:0|[1-9][0-9]*)\.[0-9]*|\.[0-9]+)(?:[eE][-+][0-9]+)?")
# These are seldom asked for, and compiled when they are.
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
_LINE_BREAK = r"\r\n?|\n"
# YAML 1.1 ends a line at U+0085, U+2028 and U+2029, YAML 1.2 does not; a BOM stands at the start alone.
_UNREADABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")
_DIRECTIVE = re.compile(r"(?:[ \t]*(?:#[^\r\n]*)?(?:\r\n?|\n))*%")
_CONFLICT = r"(?m)^(?:<{7}|>{7}) "
_SURROGATE = "[\ud800-\udfff]"
_PAIR = "[\ud800-\udbff][\udc00-\udfff]"
_ESCAPED_PAIR = r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
_TAB_OR_QUOTED = r'\t|"(?:[^"\\]|\\.)*"'
# What looks like a space, or like nothing, and is none to YAML: it would be part of a name or a word.
_ODD_SPACE = "[\xa0\xad\u1680\u2000-\u200b\u202f\u205f\u2060\u3000]"
_BAD_ESCAPE = "found invalid Unicode character escape code"
_INFINITY = float("inf")
_MISSING: Final = object()
_DROPPED: Final = object()


def read(source: bytes, file: str, libyaml: bool = LIBYAML) -> Document:
    """Read one file; what is wrong with it stands in the document's `faults`. Raises nothing.

    `libyaml` chooses the parser. What both read, they read alike. Each refuses a little that the other
    takes: PyYAML's own a tab between tokens, `|#` and `{a?}`, libyaml `{a:}`.
    """
    faults: dict[int, str] = {}
    try:
        text = str(source, "utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        before = str(source[: error.start], "utf-8").removeprefix("\ufeff")
        faults[_end_of(before)] = f"byte 0x{source[error.start]:02x} is no UTF-8: save the file as UTF-8"
        return Document.unread(file, faults)
    if unreadable := _UNREADABLE.search(text):
        code = f"{ord(unreadable[0]):04X}"
        faults[_end_of(text[: unreadable.start()])] = (
            f'the character U+{code} is not allowed: remove it, or write "\\u{code}" in double quotes'
        )
        return Document.unread(file, faults)
    if directive := _DIRECTIVE.match(text):
        faults[_end_of(directive[0][:-1])] = "a directive (%) is not read: remove the line"
        return Document.unread(file, faults)
    builder = _Builder(events_of(text, libyaml), file, faults)
    whole = True
    try:
        value = builder.stream()
    except yaml.MarkedYAMLError as error:
        value, whole = None, False
        for place, message in _syntax_faults(error, text):
            faults.setdefault(place, message)
    return Document(file, value, builder.positions, faults, whole=whole)


class _Builder:
    """Builds the value from the parser's events, and notes every position and fault on the way."""

    __slots__ = ("faults", "file", "next_event", "plain", "positions")

    def __init__(self, next_event: Callable[[], Any], file: str, faults: dict[int, str]) -> None:
        self.next_event = next_event
        self.file = file
        self.faults = faults
        self.positions: array[int] = array("Q")
        self.plain = dict(_WORDS)
        """What each plain scalar met so far means; it also makes equal texts one object."""

    def stream(self) -> Any:
        """The value of the first document; further ones are refused, and read for their faults."""
        value = None
        documents = 0
        while type(event := self.next_event()) is not StreamEndEvent:
            if type(event) is DocumentStartEvent:
                documents += 1
                if documents == 1:
                    value = self.node(self.next_event(), 0)
                else:
                    self.refuse(
                        _packed(event.start_mark), "a second document is not read: move it into a file of its own"
                    )
                    self.drop(self.next_event(), 0)
        return value

    def node(self, event: Any, depth: int) -> Any:
        """The value that begins with this event."""
        kind = type(event)
        if kind is ScalarEvent:
            return self.scalar(event)
        if kind is MappingStartEvent:
            return self.mapping(event, depth + 1)
        if kind is SequenceStartEvent:
            return self.sequence(event, depth + 1)
        assert kind is AliasEvent
        self.refuse(_packed(event.start_mark), f"an alias (*{_shown(event.anchor)}) is not read: write the value out")
        self.positions.append(_packed(event.start_mark))
        return None

    def mapping(self, start: Any, depth: int) -> dict[str, Any]:
        self.open(start, depth)
        next_event, scalar = self.next_event, self.scalar
        positions = self.positions
        built: dict[str, Any] = {}
        places: dict[str, int] = {}
        while type(event := next_event()) is not MappingEndEvent:
            key = scalar(event) if type(event) is ScalarEvent else _MISSING
            if type(key) is not str or key in places or key == "<<":
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
        """Note where a collection begins, and end the reading where it is too deep."""
        if depth > MAX_DEPTH:
            # No further: the time that parsers take grows with the square of the depth.
            problem = f"nested deeper than {MAX_DEPTH} levels: the file is not read any further"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=start.start_mark)
        if start.anchor is not None or start.tag is not None:
            self.refuse_properties(start)
        self.positions.append(_packed(start.start_mark))

    def scalar(self, event: Any) -> Any:
        """What a scalar means."""
        text: str = event.value
        mark = event.start_mark
        if event.anchor is not None or event.tag is not None:
            self.refuse_properties(event)
        if event.style:
            self.positions.append(mark.line << 32 | mark.column)
            if not text.isascii() and re.search(_SURROGATE, text):
                raise yaml.MarkedYAMLError(problem=_BAD_ESCAPE, problem_mark=mark)  # libyaml says so itself
            return text
        if not text:
            # The parsers disagree on where nothing stands.
            self.positions.append(self.positions[-1] if self.positions else 0)
            return None
        self.positions.append(mark.line << 32 | mark.column)
        value = self.plain.get(text, _MISSING)
        if value is _MISSING:
            value, fault = (text, _odd_space_at_an_end(text)) if not text.isascii() else ("", "")
            if not fault:
                value, fault = _resolve(text)
            if fault:
                self.refuse(_packed(event.start_mark), fault)
            else:
                self.plain[text] = value
        return value

    def odd_key(self, event: Any, key: Any, places: dict[str, int], depth: int) -> Any:
        """Refuse a key; what it stands as, or `_DROPPED` where its value is to go as well."""
        if key is _MISSING:
            self.refuse(_packed(event.start_mark), "a key must be text")
            self.drop(event, depth)
            return _DROPPED
        place = self.positions[-1]
        if key == "<<" and not event.style:
            # Both as a key and as a text it is refused; as a key there is more to say.
            self.faults[place] = "a merge key (<<) is not read: write the fields out"
        elif type(key) is not str:
            shown = _shown(event.value)
            self.refuse(place, f'a key must be text: write "{shown}" in quotes' if shown else "a key is missing")
        text: str = event.value
        if text in places:
            first = position_of(self.file, places[text])
            self.refuse(place, f'"{_shown(text)}" is already at {first}: remove one of the two')
            self.positions.pop()
            return _DROPPED
        return text

    def drop(self, event: Any, depth: int) -> None:
        """Read a value for its faults alone."""
        before = len(self.positions)
        self.node(event, depth)
        del self.positions[before:]

    def refuse_properties(self, event: Any) -> None:
        if event.anchor is not None:
            self.refuse(_packed(event.start_mark), f"an anchor (&{_shown(event.anchor)}) is not read: remove it")
        else:
            tag = event.tag.replace("tag:yaml.org,2002:", "!!")
            self.refuse(_packed(event.start_mark), f"a tag ({_shown(tag)}) is not read: remove it")

    def refuse(self, place: int, message: str) -> None:
        """Note a fault; the first one at a place stands."""
        self.faults.setdefault(place, message)


def _resolve(text: str) -> tuple[Any, str]:
    """What a plain scalar means, and why it is refused, or ""."""
    if text[0] in "0123456789+-.":
        if _INT.fullmatch(text):
            return (text, _too_long(MAX_DIGITS)) if len(text) > MAX_DIGITS else (int(text), "")
        if _FLOAT.fullmatch(text):
            return (text, _too_long(MAX_DIGITS)) if len(text) > MAX_DIGITS else _float(text)
        if re.fullmatch(_HEX, text):
            return (text, _too_long(_MAX_HEX_DIGITS)) if len(text) > _MAX_HEX_DIGITS else (int(text, 16), "")
        if re.fullmatch(_AMBIGUOUS_NUMBER, text):
            return text, (
                f"YAML 1.1 and 1.2 read {_shown(text)} differently: write a plain decimal number, or quote it"
            )
        if re.fullmatch(_BASE_60, text):
            return text, f"YAML 1.1 reads {_shown(text)} as a number in base 60, YAML 1.2 as text: quote it"
        if re.fullmatch(_DATE, text):
            return text, f"YAML 1.1 reads {_shown(text)} as a date, YAML 1.2 as text: quote it"
    elif text in _TO_YAML_1_1:
        meaning, remedy = _TO_YAML_1_1[text]
        return text, f"YAML 1.1 reads {text} as {meaning}, YAML 1.2 as text: {remedy}"
    return text, ""


def _odd_space_at_an_end(text: str) -> str:
    """What is wrong with a plain scalar that begins or ends with what only looks like a space; "" where none does."""
    found = re.match(_ODD_SPACE, text) or re.search(f"{_ODD_SPACE}$", text)
    return _odd_space(found[0]) if found else ""


def _odd_space(character: str) -> str:
    """The fault of a character that looks like a space, which does not show in a message."""
    from unicodedata import name

    return (
        f"{name(character).lower()} (U+{ord(character):04X}), which only looks like a space: "
        "write a plain space in its place, or quote the text that it is part of"
    )


def _float(text: str) -> tuple[Any, str]:
    """The value of a float, and why it is refused: one that comes out whole is to be just what is written.

    JSON Schema counts such a float as a whole number, and it would be sent as another one than the file says.
    """
    value = float(text)
    if value in (_INFINITY, -_INFINITY):
        return text, f"{_shown(text)} is larger than any number that is read"
    if value.is_integer():
        from decimal import Context, Decimal

        if Decimal(text, Context(traps=[])) != value:
            return text, f"{_shown(text)} can't be held exactly: write a whole number without a point"
    return value, ""


def _too_long(limit: int) -> str:
    return f"a number of more than {limit} digits is not read: quote it if it is text"


def meaning_of_plain(text: str) -> tuple[Any, str]:
    """What a plain scalar of this text means, and why it is refused, or ""."""
    return (_WORDS[text], "") if text in _WORDS else _resolve(text)


def events_of(text: str, libyaml: bool = LIBYAML) -> Callable[[], Any]:
    """What gives the next event of a text at each call; raises `yaml.MarkedYAMLError`.

    Two escapes that are the halves of one character, as JSON writes what lies beyond U+FFFF, are read as that.
    libyaml refuses these; PyYAML's own parser reads a text that has some.
    """
    has_pairs = "\\u" in text and re.search(_ESCAPED_PAIR, text) is not None
    if libyaml and not has_pairs:
        fast: Any = yaml.CLoader(text)
        return cast("Callable[[], Any]", fast.get_event)
    if has_pairs and re.match(r"\s*\{[^#']*\Z", text):
        # In JSON, which has neither of the two, a tab between tokens is white space; PyYAML's own parser refuses it.
        text = re.sub(_TAB_OR_QUOTED, lambda found: " " if found[0] == "\t" else found[0], text)
    parser: Any = yaml.Loader(text)

    def next_pure_event() -> Any:
        try:
            event = parser.get_event()
        except (ValueError, OverflowError) as error:  # what chr() says of an escape beyond U+10FFFF
            raise yaml.MarkedYAMLError(problem=_BAD_ESCAPE, problem_mark=parser.get_mark()) from error
        if has_pairs and type(event) is ScalarEvent and event.style == '"':
            event.value = re.sub(_PAIR, _joined, event.value)
        return event

    return next_pure_event


def _joined(pair: re.Match[str]) -> str:
    """The character that two surrogates stand for."""
    return pair[0].encode("utf-16", "surrogatepass").decode("utf-16")


def _syntax_faults(error: yaml.MarkedYAMLError, text: str) -> list[tuple[int, str]]:
    """What ended the reading and where; a tab and the marks of a conflict are called what they are.

    What a parser says from the first mark on comes of that.
    """
    # libyaml counts a line more where the last one has no end.
    place = min(_packed(error.problem_mark), _end_of(text))
    found = place, _syntax_fault(error)
    if (odd := _odd_indentation(text, place)) is not None:
        found = odd
    if mark := re.search(_CONFLICT, text):
        conflict = _end_of(text[: mark.start()])
        settle = conflict, "the marks of a git merge conflict; settle it first"
        return [settle] if conflict <= found[0] else [found, settle]
    return [found]


def _odd_indentation(text: str, place: int) -> tuple[int, str] | None:
    """The first character of a line's indentation that is no space, where the reading ended in or right after that."""
    line, column = place >> 32, place & 0xFFFFFFFF
    indentation = re.match(f"(?:[ \t]|{_ODD_SPACE})*", re.split(_LINE_BREAK, text)[line])
    assert indentation is not None
    odd = indentation[0].lstrip(" ")
    if not odd or column > indentation.end():
        return None
    fault = "a tab: indent with spaces" if odd[0] == "\t" else _odd_space(odd[0])
    return packed(line, len(indentation[0]) - len(odd)), fault


def _syntax_fault(error: yaml.MarkedYAMLError) -> str:
    """The parser's words on one line, and where the thing began that it was reading."""
    words = " ".join(f"{error.problem or ''} {error.context or ''}".split())
    if error.context_mark and _packed(error.context_mark) != _packed(error.problem_mark):
        words += f" that begins at {error.context_mark.line + 1}:{error.context_mark.column + 1}"
    return words


def _packed(mark: Any) -> int:
    return packed(mark.line, mark.column)


def _end_of(text: str) -> int:
    """The place just after a text."""
    lines = re.split(_LINE_BREAK, text)
    return packed(len(lines) - 1, len(lines[-1]))


def _shown(text: str) -> str:
    """A text of the file, short enough for a message."""
    return text if len(text) <= 40 else f"{text[:40]}…"
