"""The events of a YAML parser, and its errors in words.

The parser is libyaml, or PyYAML's own parser without libyaml.
"""

import re
from collections.abc import Callable
from typing import Any, Final, cast

import yaml
from yaml.events import ScalarEvent

from reconciler.manifest.document import packed
from reconciler.manifest.scalars import ODD_SPACE, odd_space_fault

LIBYAML: Final[bool] = yaml.__with_libyaml__
"""Whether PyYAML comes with libyaml. PyYAML's own parser takes about ten times as long."""

BAD_ESCAPE = "found invalid Unicode character escape code"
"""The message of libyaml for an escape that stands for no character."""

_CHECK = "check the indentation of this line, and the quotes and brackets before it"
_PLAIN_WORDS = (
    ("cannot start any token", "", "a text can't begin with this character: quote the text"),
    ("", "scanning an alias", "a text can't begin with *, which begins an alias: quote the text"),
    ("", "scanning an anchor", "a text can't begin with &, which begins an anchor: quote the text"),
    ("", "scanning a tag$", "a text can't begin with !, which begins a tag: quote the text"),
    (
        "mapping values are not allowed",
        "",
        "a colon can't stand here: quote the text, or check the indentation of this line",
    ),
    (
        "expected key|expected <block end>",
        "parsing a block mapping",
        f"expected the next key of the mapping{{}}: {_CHECK}",
    ),
    (
        "'-' indicator|expected <block end>",
        "block (collection|sequence)",
        f"expected the next item of the list{{}}: {_CHECK}",
    ),
    ("end of stream", "quoted scalar", "the text in quotes{} is not closed"),
    ("expected ',' or", "flow sequence", "a comma or ] is missing in the list{}"),
    ("expected ',' or", "flow mapping", "a comma or } is missing in the mapping{}"),
    ("expected (the )?node content", "flow node", "a value is missing, or a bracket before this place is not closed"),
    ("unknown escape", "", "unknown escape: write \\\\ for a backslash, or use single quotes"),
)
"""Plain words for messages of both parsers: patterns of the problem and of the context, and the words."""

_LINE_BREAK = r"\r\n?|\n"
_CONFLICT = r"(?m)^(?:<{7}|>{7}) "
_PAIR = "[\ud800-\udbff][\udc00-\udfff]"
_ESCAPED_PAIR = r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
_TAB_OR_QUOTED = r'\t|"(?:[^"\\]|\\.)*"'


def events_of(text: str, libyaml: bool = LIBYAML) -> Callable[[], Any]:
    """Return a function that returns the next event of a text at each call, and raises `yaml.MarkedYAMLError`.

    `libyaml` chooses the parser. Both parsers give the same events for a text that both accept. JSON writes a character
    beyond U+FFFF as two escapes, the halves of a surrogate pair, which libyaml refuses. PyYAML's own parser reads a
    text with such escapes, and the halves become one character.
    """
    has_pairs = "\\u" in text and re.search(_ESCAPED_PAIR, text) is not None
    if libyaml and not has_pairs:
        fast: Any = yaml.CLoader(text)
        return cast("Callable[[], Any]", fast.get_event)
    if has_pairs and re.match(r"\s*\{[^#']*\Z", text):
        # The text is JSON, which allows tabs between tokens. PyYAML's own parser refuses such tabs.
        text = re.sub(_TAB_OR_QUOTED, lambda found: " " if found[0] == "\t" else found[0], text)
    parser: Any = yaml.Loader(text)

    def next_pure_event() -> Any:
        try:
            event = parser.get_event()
        except (ValueError, OverflowError) as error:  # chr() raises these errors for an escape beyond U+10FFFF
            raise yaml.MarkedYAMLError(problem=BAD_ESCAPE, problem_mark=parser.get_mark()) from error
        if has_pairs and type(event) is ScalarEvent and event.style == '"':
            event.value = re.sub(_PAIR, _joined, event.value)
        return event

    return next_pure_event


def place_of(mark: Any) -> int:
    """Return the packed place of a mark of PyYAML."""
    return packed(mark.line, mark.column)


def end_of(text: str) -> int:
    """Return the packed place just after a text."""
    lines = re.split(_LINE_BREAK, text)
    return packed(len(lines) - 1, len(lines[-1]))


def faults_of(error: yaml.MarkedYAMLError, text: str) -> list[tuple[int, str]]:
    """Return the packed place and the words of each fault that an error of the parser stands for.

    A tab in the indentation and the marks of a merge conflict get messages of their own. If a mark of a conflict stands
    before the place of the error, the message of the parser is left out.
    """
    # libyaml counts one line too many if the last line of the text has no line end.
    place = min(place_of(error.problem_mark), end_of(text))
    found = _odd_indentation(text, place) or (place, _words_of(error))
    if mark := re.search(_CONFLICT, text):
        conflict = end_of(text[: mark.start()])
        settle = conflict, "the marks of a git merge conflict; settle it first"
        return [settle] if conflict <= found[0] else [found, settle]
    return [found]


def _joined(pair: re.Match[str]) -> str:
    """Return the character that two surrogates stand for."""
    return pair[0].encode("utf-16", "surrogatepass").decode("utf-16")


def _odd_indentation(text: str, place: int) -> tuple[int, str] | None:
    """Return the place and the fault of the first character that is not a space in the indentation of a line.

    Return None if there is no such character, or if `place` lies further right than just after the indentation.
    """
    line, column = place >> 32, place & 0xFFFFFFFF
    indentation = re.match(f"(?:[ \t]|{ODD_SPACE})*", re.split(_LINE_BREAK, text)[line])
    assert indentation is not None
    odd = indentation[0].lstrip(" ")
    if not odd or column > indentation.end():
        return None
    fault = "a tab: indent with spaces" if odd[0] == "\t" else odd_space_fault(odd[0])
    return packed(line, len(indentation[0]) - len(odd)), fault


def _words_of(error: yaml.MarkedYAMLError) -> str:
    """Return the message of the parser in plain words, with the place at which the parser began to read the part.

    A message without plain words stays as it is, on one line.
    """
    problem, context, begins = error.problem or "", error.context or "", ""
    if error.context_mark and place_of(error.context_mark) != place_of(error.problem_mark):
        begins = f" that begins at {error.context_mark.line + 1}:{error.context_mark.column + 1}"
    for about, within, words in _PLAIN_WORDS:
        if re.search(about, problem) and re.search(within, context):
            return words.replace("{}", begins)
    return " ".join(f"{problem} {context}".split()) + begins
