"""Strict YAML: the values, the faults and their positions, with both parsers."""

import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from reconciler.manifest.document import Document
from reconciler.manifest.events import LIBYAML
from reconciler.manifest.yaml import read
from reconciler.model.places import Position

PARSERS = [pytest.param(True, id="libyaml", marks=pytest.mark.skipif(not LIBYAML, reason="no libyaml")), False]
ANOTHER = "write another one, or quote it"
INEXACT = "can't be held exactly: write a whole number without a point"
both_parsers = pytest.mark.parametrize("libyaml", PARSERS)
CHECK = "check the indentation of this line, and the quotes and brackets before it"
COLON = "a colon can't stand here: quote the text, or check the indentation of this line"


def faults(text: str | bytes, libyaml: bool = LIBYAML) -> list[str]:
    source = text.encode() if isinstance(text, str) else text
    return [str(fault) for fault in read(source, "f", libyaml).faults]


def value(text: str, libyaml: bool = LIBYAML) -> Any:
    document = read(text.encode(), "f", libyaml)
    assert document.faults == ()
    assert document.whole
    return document.value


@both_parsers
@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("null", None),
        ("~", None),
        ("", None),
        ("true", True),
        ("FALSE", False),
        ("0", 0),
        ("-0", 0),
        ("+12", 12),
        ("0x1F", 31),
        ("0.5", 0.5),
        (".5", 0.5),
        ("600.0", 600.0),
        ("1.5e+3", 1500.0),
        ("9007199254740992.0", 2.0**53),
        ("1.0e+22", 1e22),
        ("0.1", 0.1),
        ("-0.0", 0.0),
        ("1.0e+300", 1e300),
        ("-5.0e-324", -5e-324),
        ("tRUE", "tRUE"),
        ("yEs", "yEs"),
        ("7728ba38-f0a0-4319-ae28-07734448a334", "7728ba38-f0a0-4319-ae28-07734448a334"),
        ("1.2.3", "1.2.3"),
        ("12:99", "12:99"),
        ("10%", "10%"),
        ("+e5", "+e5"),
        ("2026-1-1", "2026-1-1"),
        ('"yes"', "yes"),
        ("'017'", "017"),
        ("|\n    2026-11-21", "2026-11-21"),
        ("two\n    words", "two words"),
    ],
)
def test_a_scalar_means_what_yaml_1_2_says(libyaml: bool, text: str, meaning: Any) -> None:
    read_back = value(f"k: {text}", libyaml)["k"]
    assert (type(read_back), read_back) == (type(meaning), meaning)


WORDS = ["y", "Y", "yes", "Yes", "YES", "n", "N", "no", "No", "NO", "on", "On", "ON", "off", "Off", "OFF", "=", "<<"]
BASES = ["1:30", "190:20:30.15", "-1:5", "017", "08", "00", "-01", "01.5", "0o17", "0b1", "-0x1F", "0x_1"]
NUMBERS = ["1_000", "1__", "1_0.5", "1e3", "1.5e3", "1E5", "0e5", "1e+3", "-.5", "+.5"]
DATES = ["2026-11-21", "2026-11-21T10:00:00Z", "2026-1-2 3:04:05", "2001-12-14t21:59:43.10-05:00"]


@both_parsers
@pytest.mark.parametrize("text", [*WORDS, *BASES, *NUMBERS, *DATES])
def test_a_plain_scalar_that_yaml_1_1_reads_differently_is_refused(libyaml: bool, text: str) -> None:
    document = read(f"k: {text}\n".encode(), "f", libyaml)
    assert [fault.position for fault in document.faults] == [Position("f", 1, 4)]
    assert document.value == {"k": text}
    assert value(f"k: '{text}'", libyaml) == {"k": text}


@both_parsers
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("k: yes", ["f:1:4: YAML 1.1 reads yes as true, YAML 1.2 as text: write true, or quote it"]),
        ("k: Off", ["f:1:4: YAML 1.1 reads Off as false, YAML 1.2 as text: write false, or quote it"]),
        ("k: =", ["f:1:4: YAML 1.1 reads = as a default value, YAML 1.2 as text: quote it"]),
        ("k: 017", ["f:1:4: YAML 1.1 and 1.2 read 017 differently: write a plain decimal number, or quote it"]),
        ("k: 1:30", ["f:1:4: YAML 1.1 reads 1:30 as a number in base 60, YAML 1.2 as text: quote it"]),
        ("k: 2026-11-21", ["f:1:4: YAML 1.1 reads 2026-11-21 as a date, YAML 1.2 as text: quote it"]),
        ("017: 1", ['f:1:1: a key must be text: write "017" in quotes']),
        ("a: 1\nb: 2\na: 3", ['f:3:1: "a" is already at f:1:1: remove one of the two']),
        ('a: 1\n"a": 3', ['f:2:1: "a" is already at f:1:1: remove one of the two']),
        ("a: &x 1", ["f:1:4: an anchor (&x) is not read: remove it"]),
        ("a: &x {}", ["f:1:4: an anchor (&x) is not read: remove it"]),
        ("&x a: 1", ["f:1:1: an anchor (&x) is not read: remove it"]),
        ("a: *x", ["f:1:4: an alias (*x) is not read: write the value out"]),
        ("*x : 1", ["f:1:1: a key must be text"]),
        ("<<: {a: 1}", ["f:1:1: a merge key (<<) is not read: write the fields out"]),
        ("a: !!int 1", ["f:1:4: a tag (!!int) is not read: remove it"]),
        ("a: ! 1", ["f:1:4: a tag (!) is not read: remove it"]),
        ("a: !x [1]", ["f:1:4: a tag (!x) is not read: remove it"]),
        ("a: 1\n---\nb: 1", ["f:2:1: a second document is not read: move it into a file of its own"]),
        ("5: 1", ['f:1:1: a key must be text: write "5" in quotes']),
        ("null: 1", ['f:1:1: a key must be text: write "null" in quotes']),
        ("true: 1", ['f:1:1: a key must be text: write "true" in quotes']),
        ("? \n: 1", ["f:1:1: a key is missing"]),
        ("{[a]: 1}", ["f:1:2: a key must be text"]),
        ("on: 1", ['f:1:1: a key must be text: write "on" in quotes']),
        ("%YAML 1.2\n---\na: 1", ["f:1:1: a directive (%) is not read: remove the line"]),
        ("# c\n\n%TAG ! x\n---\na: 1", ["f:3:1: a directive (%) is not read: remove the line"]),
        (
            "a: 1\nb: \x07",
            [r'f:2:4: the character U+0007 is not allowed: remove it, or write "\u0007" in double quotes'],
        ),
        ("a: x\u2028", [r'f:1:5: the character U+2028 is not allowed: remove it, or write "\u2028" in double quotes']),
        ("a: " + "9" * 4001, ["f:1:4: a number of more than 4000 digits is not read: quote it if it is text"]),
        ("a: 0x" + "f" * 3000, ["f:1:4: a number of more than 3000 digits is not read: quote it if it is text"]),
        ("a: 1." + "0" * 4000, ["f:1:4: a number of more than 4000 digits is not read: quote it if it is text"]),
        ("a: 9007199254740993.0", [f"f:1:4: 9007199254740993.0 {INEXACT}"]),
        ("a: 9007199254740992.5", [f"f:1:4: 9007199254740992.5 {INEXACT}"]),
        ("a: 1.00000000000000000001", [f"f:1:4: 1.00000000000000000001 {INEXACT}"]),
        ("a: 9223372036854775807.0", [f"f:1:4: 9223372036854775807.0 {INEXACT}"]),
        *(
            (f"a: [{number}]", [f"f:1:5: YAML reads {number} as a number that JSON does not have: {ANOTHER}"])
            for number in (".inf", "+.Inf", "-.INF", ".nan", ".NaN", ".NAN")
        ),
        ("a: 12345678901234567890123.0", [f"f:1:4: 12345678901234567890123.0 {INEXACT}"]),
        ("a: 1.0e-400", [f"f:1:4: 1.0e-400 {INEXACT}"]),
        ("a: 1.0e+400", ["f:1:4: 1.0e+400 is larger than any number that is read"]),
        ("a: 1.0e-99999999999999999999", [f"f:1:4: 1.0e-99999999999999999999 {INEXACT}"]),
        ("a: " + "[" * 64, ["f:1:67: nested deeper than 64 levels: the file is not read any further"]),
        ("\n\na: b: c", [f"f:3:5: {COLON}"]),
    ],
)
def test_what_is_refused_and_where(libyaml: bool, text: str, expected: list[str]) -> None:
    assert faults(text, libyaml) == expected


MARKS_LEFT = "the marks of a git merge conflict; settle it first"
TAB = "a tab: indent with spaces"


@both_parsers
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a:\n  b: 1\n<<<<<<< HEAD\n  c: 1\n=======\n  c: 2\n>>>>>>> ours\n", [f"f:3:1: {MARKS_LEFT}"]),
        ("a: {\n  b: 1,\n<<<<<<< HEAD\n  c: 1\n=======\n  c: 2\n>>>>>>> ours\n}\n", [f"f:3:1: {MARKS_LEFT}"]),
        ("<<<<<<< HEAD\r\na: 1\r\n=======\r\na: 2\r\n>>>>>>> ours\r\n", [f"f:1:1: {MARKS_LEFT}"]),
        ("a: 1\n>>>>>>> ours\nb: 2\n", [f"f:2:1: {MARKS_LEFT}"]),
        ("a:\n\tb: 1\nc: 2\n<<<<<<< HEAD\nb: 2\n=======\n", [f"f:2:1: {TAB}", f"f:4:1: {MARKS_LEFT}"]),
        ("\ta: 1\n", [f"f:1:1: {TAB}"]),
        ("a:\n\tb: 1\n", [f"f:2:1: {TAB}"]),
        ("a:\n  b:\n  \tc: 1\n", [f"f:3:3: {TAB}"]),
        ("a:\n  b: c\n\td: 1\n", [f"f:3:1: {TAB}"]),
        ("a:\n  b: 1\n \tc: 1\n", [f"f:3:2: {TAB}"]),
    ],
)
def test_marks_of_a_conflict_and_tabs_are_called_what_they_are(libyaml: bool, text: str, expected: list[str]) -> None:
    assert faults(text, libyaml) == expected


@both_parsers
def test_a_text_that_holds_such_marks_or_tabs_is_a_text(libyaml: bool) -> None:
    assert value("a: |\n  <<<<<<< HEAD\n  \tx\nb: 1\n", libyaml) == {"a": "<<<<<<< HEAD\n\tx\n", "b": 1}


@both_parsers
def test_all_faults_of_a_file_are_told_at_once(libyaml: bool) -> None:
    text = "a: &x yes\nb: {c: 1_0, c: 017, d: *x}\n? [on]\n: off\n---\ne: [2026-11-21, {f: 1, f: !t 1}]\n"
    found = [(fault.position.line, fault.position.column) for fault in read(text.encode(), "f", libyaml).faults]
    assert found == [
        (1, 4),  # the anchor; `yes` stands at the same place
        (2, 8),
        (2, 13),  # the second c, and what is wrong with its value
        (2, 16),
        (2, 24),
        (3, 3),  # the list as a key, and what is wrong inside
        (3, 4),
        (4, 3),
        (5, 1),  # the second document, and what is wrong inside
        (6, 5),
        (6, 24),
        (6, 27),
    ]


@both_parsers
@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("a: %x\n", "f:1:4: a text can't begin with this character: quote the text"),
        ("a: [@x]\n", "f:1:5: a text can't begin with this character: quote the text"),
        ("a: *.py\n", "f:1:5: a text can't begin with *, which begins an alias: quote the text"),
        ("a: &.b\n", "f:1:5: a text can't begin with &, which begins an anchor: quote the text"),
        ("a: b: c\n", f"f:1:5: {COLON}"),
        ("a:\n   b: 1\n  c: 2\n", f"f:3:3: expected the next key of the mapping that begins at 1:1: {CHECK}"),
        ("- a\nb: 1\n", f"f:2:1: expected the next item of the list that begins at 1:1: {CHECK}"),
        ("a: 'x\n", "f:2:1: the text in quotes that begins at 1:4 is not closed"),
        ("a: [x\nb: 1\n", "f:2:2: a comma or ] is missing in the list that begins at 1:4"),
        ("a: {b: 1\nc: 2\n", "f:2:2: a comma or } is missing in the mapping that begins at 1:4"),
    ],
)
def test_a_syntax_error_is_told_in_plain_words(text: str, fault: str, libyaml: bool) -> None:
    assert faults(text, libyaml) == [fault]


@both_parsers
def test_faults_before_a_syntax_error_are_told_with_it(libyaml: bool) -> None:
    assert faults("a: yes\nb: 1\n- c\n", libyaml) == [
        "f:1:4: YAML 1.1 reads yes as true, YAML 1.2 as text: write true, or quote it",
        f"f:3:1: expected the next key of the mapping that begins at 1:1: {CHECK}",
    ]


@both_parsers
@pytest.mark.parametrize(
    "escape",
    [r'"\ud800"', r'"\ude00\ud83d"', r'"\ud83d\ude00 \ude00"', r'"\U00110000"', r'"\UFFFFFFFF"'],
    ids=["half", "turned", "pair and half", "beyond", "huge"],
)
def test_an_escape_that_names_no_character_is_refused(libyaml: bool, escape: str) -> None:
    document = read(f"a: {escape}".encode(), "f", libyaml)
    assert "found invalid Unicode character escape code" in document.faults[0].message
    assert not document.whole


@both_parsers
def test_two_escapes_for_the_halves_of_a_character_are_that_character_in_double_quotes_alone(libyaml: bool) -> None:
    pair = r"\ud83d\ude00"
    twice = pair.replace("\\", "\\\\")
    text = f'a: "{pair} {pair}"\nb: \'{pair}\'\nc: {pair}\nd: "{twice}"\ne: |\n  {pair}\n'
    document = read(text.encode(), "f", libyaml)
    assert document.faults == ()
    assert document.value == {
        "a": "\U0001f600 \U0001f600",
        "b": pair,
        "c": pair,
        "d": r"\ud83d\ude00",
        "e": f"{pair}\n",
    }


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (b"a: 1\nb: \xff", ["f:2:4: byte 0xff is no UTF-8: save the file as UTF-8"]),
        ("é: 1".encode("latin-1"), ["f:1:1: byte 0xe9 is no UTF-8: save the file as UTF-8"]),
        ("a: 1".encode("utf-16"), ["f:1:1: byte 0xff is no UTF-8: save the file as UTF-8"]),
        (b"\xef\xbb\xbfa: 1", []),
        (
            b"\xef\xbb\xbf\xef\xbb\xbfa: 1",
            ['f:1:1: the character U+FEFF is not allowed: remove it, or write "\\uFEFF" in double quotes'],
        ),
    ],
)
def test_a_file_is_utf_8_with_or_without_a_mark_that_says_so(source: bytes, expected: list[str]) -> None:
    assert faults(source) == expected


@both_parsers
@pytest.mark.parametrize("text", ["", "\n\n", "# only a comment\n", "---\n", "null\n"])
def test_an_empty_file_has_no_value_and_no_fault(libyaml: bool, text: str) -> None:
    assert value(text, libyaml) is None


@both_parsers
def test_64_levels_are_not_too_deep(libyaml: bool) -> None:
    assert value("a: " + "[" * 63 + "]" * 63, libyaml)


def test_a_file_that_was_not_read_to_its_end_has_no_value() -> None:
    document = read(b"a: 1\nb: [", "f")
    assert (document.value, document.whole) == (None, False)


@both_parsers
def test_a_quoted_merge_key_is_a_key_like_any_other(libyaml: bool) -> None:
    assert value("'<<': 1", libyaml) == {"<<": 1}


@both_parsers
def test_every_key_and_value_knows_its_place(libyaml: bool) -> None:
    text = "# c\njobs:\n  é: {x: 'y', z: }\n  b:\n    - 1\n    - {k: [v, w]}\nlast: !t |\n  text\nlast: 1\nend: 2\n"
    document = read(text.encode(), "f.yaml", libyaml)
    places = {
        (): (2, 1),
        ("jobs",): (3, 3),
        ("jobs", "é"): (3, 6),
        ("jobs", "é", "x"): (3, 10),
        ("jobs", "é", "z"): (3, 15),  # an empty value has the place of its key
        ("jobs", "b"): (5, 5),
        ("jobs", "b", 0): (5, 7),
        ("jobs", "b", 1): (6, 7),
        ("jobs", "b", 1, "k", 1): (6, 15),
        ("last",): (7, 7),
        ("end",): (10, 6),
    }
    assert {path: document.position(path) for path in places} == {
        path: Position("f.yaml", line, column) for path, (line, column) in places.items()
    }
    keys = {("jobs",): (2, 1), ("jobs", "b"): (4, 3), ("jobs", "b", 1, "k"): (6, 8), ("end",): (10, 1)}
    assert {path: document.position(path, of_key=True) for path in keys} == {
        path: Position("f.yaml", line, column) for path, (line, column) in keys.items()
    }
    with pytest.raises(KeyError):
        document.position(("jobs", "c"))


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_may_end_as_they_do_anywhere(end: str) -> None:
    assert read(end.join(["a: 1", "b: yes", ""]).encode(), "f").faults[0].position == Position("f", 2, 4)
    assert read(end.join(["a: 1", "b: \x01", ""]).encode(), "f").faults[0].position == Position("f", 2, 4)


GLUE = ["\n", "\n  ", "\n    ", "  ", " \n", "\r\n", "\r", " # c\n", "- ", ": ", "? ", ", ", "---\n", "...\n"]
MARKS = [
    *"{}[]:'\"#,-@`%=\\~",
    "&a ",
    "*a",
    "!t ",
    "!!str ",
    "! ",
    "<<: ",
    "\\u00e9",
    "\\ud800",
    "\\U00110000",
    "\u2028",
]
SCALARS = [
    "a",
    "é",
    "😀",
    "yes",
    "017",
    "1_0",
    "5",
    ".5",
    "1e3",
    "null",
    "2026-11-21",
    ">-\n x\n",
    "| \n  x\n",
    "|2\n   y\n",
]
PIECES = [*GLUE, *MARKS, *SCALARS, "b: ", "a: 1\n", "b: {c: [d, e]}\n"]


def plain(document: Document) -> tuple[str, bool]:
    return repr(document.value), document.whole


def places(document: Document) -> list[Position]:
    found = []

    def walk(value: Any, path: tuple[str | int, ...]) -> None:
        found.append(document.position(path))
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if type(value) is list else ():
            found.append(document.position((*path, key), of_key=True))
            walk(inner, (*path, key))

    walk(document.value, ())
    return found


@pytest.mark.skipif(not LIBYAML, reason="there is nothing to compare")
@settings(max_examples=400, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=14).map("".join))
@example("a: 1\nb: {c: , d: [x, {e: f}]}\n- yes")
@example("? a\n? b\n: - c\n  - \n  - d: &x\n")
def test_both_parsers_give_the_same_answers(text: str) -> None:
    # The parsers differ in the words of syntax errors. PyYAML's parser alone refuses a tab between tokens and `|#`.
    by_c, by_python = read(text.encode(), "f", libyaml=True), read(text.encode(), "f", libyaml=False)
    assert plain(by_c) == plain(by_python)
    if by_c.whole:
        assert by_c.faults == by_python.faults
        assert places(by_c) == places(by_python)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=40) | st.text(max_size=40).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_no_bytes_at_all_make_it_fail(source: bytes) -> None:
    for libyaml in {LIBYAML, False}:
        document = read(source, "f", libyaml)
        assert document.whole or document.faults


texts = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\u2028\u2029\ufeff"), max_size=8)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(-1e15, 1e15).filter(lambda x: "e" not in repr(x)) | texts,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(texts.filter(lambda key: key != "<<"), inner, max_size=3)
    ),
    max_leaves=8,
)


@settings(max_examples=300, deadline=None)
@given(values)
def test_json_without_exponents_means_what_it_says(written: Any) -> None:
    assert repr(value(json.dumps(written, ensure_ascii=False))) == repr(written)
