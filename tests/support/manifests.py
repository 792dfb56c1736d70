"""Manifests as people write them: a hypothesis strategy for files with known meaning and any layout.

Every comment holds a unique mark, so that a test can find the comment again.
"""

import json
import re
from collections.abc import Mapping
from itertools import count
from typing import Any, NamedTuple

from hypothesis import strategies as st

MARK = re.compile(r"№[0-9]+№")

_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_./-]*")
_WORDS = {"y", "n", "yes", "no", "on", "off", "true", "false", "null"}
_NAMES = st.one_of(
    st.sampled_from(
        ["nightly", "a-b", "Räksmörgås", "two words", "n", "on", "017", "2026-11-21", "a: b", "x #y", "{a}", "~"]
    ),
    st.text("ab0-_.:#'\"\\{}[],é猫 \u00a0\u2003🙂", min_size=1, max_size=6).filter(lambda text: text == text.strip()),
)
_IDS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,12}", fullmatch=True)
_COMMENTS = st.text("ab #:{}'\"é猫-&%\t", max_size=8)
_CONFIGS = st.fixed_dictionaries(
    {}, optional={"isTestJob": st.booleans(), "jobTimeout": st.integers(1, 10**6), "taskTimeout": st.integers(1, 9)}
)
_LABELS = st.dictionaries(
    _NAMES, _NAMES | st.sampled_from(["", "two\nlines", "x\n  y\nz\n", " odd\nlines ", "tab\t\x01"]), max_size=3
)
_FIELDS: Mapping[str, st.SearchStrategy[Any]] = {
    "labels": _LABELS,
    "onConfigChange": st.sampled_from(["restart", "next-run", "hold"]),
    "protect": st.booleans(),
    "runToken": _NAMES,
}


class Written(NamedTuple):
    """A file, and the jobs that it declares."""

    source: bytes
    value: Mapping[str, Any]


@st.composite
def manifests(
    draw: st.DrawFn,
    target: Mapping[str, str] = {"engine": "sandbox"},
    configs: st.SearchStrategy[Any] = _CONFIGS,
) -> Written:
    """A valid manifest in one file, for an engine that takes all of `configs`."""
    ignored = ["config.taskTimeout", "config.jobTimeout"]
    fields_of_jobs = st.fixed_dictionaries(
        {"state": st.sampled_from(["running", "aborted", "absent"])},
        optional={**_FIELDS, "config": configs, "ignore": st.lists(st.sampled_from(ignored), min_size=1, max_size=3)},
    )
    names = draw(st.lists(_NAMES, min_size=1, max_size=4, unique=True))
    if draw(st.booleans()):
        names.sort()
    ranked = draw(st.permutations(names))  # A job comes only after jobs that rank before it, so there is no circle.
    jobs = {}
    for number, name in enumerate(names):
        fields = {"id": f"{draw(_IDS)}-{number}", **draw(fields_of_jobs)}
        before = ranked[: ranked.index(name)]
        if draw(st.booleans()) and before:
            fields["after"] = draw(st.lists(st.sampled_from(before), min_size=1, max_size=3))
        jobs[name] = {field: fields[field] for field in draw(st.permutations(sorted(fields)))}
    blocks: dict[str, Any] = {"apiVersion": "reconciler/v1", "target": dict(target), "jobs": jobs}
    if draw(st.booleans()):
        blocks["defaults"] = {"config": draw(configs), "labels": draw(_LABELS)}
    if draw(st.booleans()):
        blocks["guards"] = {"maxRun": 5, "maxDelete": "10%"}
    value = {block: blocks[block] for block in draw(st.permutations(sorted(blocks)))}
    return Written(_Hand(draw).file(value), value)


class _Hand:
    """The writer of one file."""

    def __init__(self, draw: st.DrawFn) -> None:
        self._draw = draw
        self._step = draw(st.sampled_from([2, 2, 4, 1, 3]))
        self._commented = draw(st.booleans())
        self._numbers = count()

    def file(self, value: Mapping[str, Any]) -> bytes:
        lines = ["---"] if self._chance() else []
        lines = [*self._above(0), *lines, *self._block(value, self._draw(st.sampled_from([0, 0, 0, 2])))]
        if self._chance():
            lines += ["...", *self._above(0)]
        line_break = self._draw(st.sampled_from(["\n", "\n", "\r\n", "\r"]))
        text = "\n".join(lines).replace("\n", line_break)
        mark = "\ufeff" if self._chance() else ""
        return f"{mark}{text}{'' if self._chance() else line_break}".encode()

    def _block(self, value: Mapping[str, Any], indent: int) -> list[str]:
        lines: list[str] = []
        for key, inner in value.items():
            lines += self._above(indent)
            start = f"{' ' * indent}{self._scalar(key)}{self._draw(st.sampled_from([':', ':', ' :']))}"
            step = self._draw(st.sampled_from([self._step, self._step, self._step + 1]))
            if isinstance(inner, dict) and inner and self._draw(st.integers(0, 2)):
                lines += [start + self._beside(), *self._block(inner, indent + step)]
            elif isinstance(inner, list) and inner and self._draw(st.booleans()):
                lines += [start + self._beside(), *self._items(inner, indent + self._draw(st.sampled_from([0, step])))]
            elif isinstance(inner, dict | list):
                lines.append(f"{start} {self._flow(inner, indent + 1)}{self._beside()}")
            elif isinstance(inner, str) and "\n" in inner and self._fits_literal(inner):
                sign = "|" if inner.endswith("\n") else "|-"
                body = [" " * (indent + step) + line for line in inner.removesuffix("\n").split("\n")]
                lines += [f"{start} {sign}{self._beside()}", *body]
            else:
                lines.append(
                    f"{start}{self._draw(st.sampled_from([' ', '  ', ' ']))}{self._scalar(inner)}{self._beside()}"
                )
        return [*lines, *self._above(self._draw(st.sampled_from([0, indent, indent + self._step])))]

    def _items(self, value: list[Any], indent: int) -> list[str]:
        lines: list[str] = []
        for item in value:
            dash = f"{' ' * indent}-{self._draw(st.sampled_from([' ', ' ', '   ']))}"
            lines += [*self._above(indent), f"{dash}{self._flow(item, indent + 2)}{self._beside()}"]
        return lines

    def _flow(self, value: Any, indent: int) -> str:
        match value:
            case dict():
                entries = [f"{self._scalar(key)}: {self._flow(inner, indent + 1)}" for key, inner in value.items()]
                opening, closing = "{", "}"
            case list():
                entries = [self._flow(item, indent + 1) for item in value]
                opening, closing = "[", "]"
            case _:
                return self._scalar(value)
        comma = "," if entries and self._chance() else ""
        if self._draw(st.integers(0, 2)):
            space = self._draw(st.sampled_from(["", " "]))
            return opening + space + ", ".join(entries) + comma + space + closing
        margin = "\n" + " " * indent
        lines = [f"{entry}," for entry in entries[:-1]] + [f"{entry}{comma}" for entry in entries[-1:]]
        first = opening + self._beside()
        return first + "".join(f"{margin}{line}{self._beside()}" for line in lines) + margin + closing

    def _scalar(self, value: Any) -> str:
        if isinstance(value, float):
            digits, exponent, power = repr(value).partition("e")
            return f"{digits}{'' if '.' in digits else '.0'}{exponent}{power}"
        if not isinstance(value, str):
            return json.dumps(value)
        styles = ["double"]
        if value.isprintable():
            styles.append("single")
        if _PLAIN.fullmatch(value) and value.lower() not in _WORDS:
            styles += ["plain", "plain"]
        match self._draw(st.sampled_from(styles)):
            case "single":
                return "'" + value.replace("'", "''") + "'"
            case "plain":
                return value
            case _:
                return '"' + "".join(map(self._escaped, value)) + '"'

    def _above(self, indent: int) -> list[str]:
        if not self._commented:
            return [""] * self._draw(st.sampled_from([0, 0, 0, 1, 2]))
        return self._draw(
            st.lists(st.sampled_from(["", "#"]), max_size=2).map(
                lambda lines: [f"{' ' * indent}{self._comment()}" if line else line for line in lines]
            )
        )

    def _beside(self) -> str:
        if not self._commented or self._draw(st.integers(0, 3)):
            return ""
        return self._draw(st.sampled_from([" ", "   "])) + self._comment()

    def _comment(self) -> str:
        return f"# №{next(self._numbers)}№{self._draw(_COMMENTS)}"

    def _chance(self) -> bool:
        return self._draw(st.integers(0, 4)) == 0

    @staticmethod
    def _escaped(character: str) -> str:
        if character in '"\\':
            return f"\\{character}"
        return character if character.isprintable() else f"\\U{ord(character):08x}"

    @staticmethod
    def _fits_literal(text: str) -> bool:
        is_clean = text.replace("\n", "").isprintable()  # YAML has no control characters but in double quotes
        return is_clean and text[0] not in " \n" and not text.endswith(" ")
