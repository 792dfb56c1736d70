"""Paths to the values of a config, as plans show them and as `ignore` takes them: `config.env.LEVEL`.

A key that is not made of letters, digits, "_" and "-" stands in brackets and quotes, as in JSON: `config.env["a.b"]`.
The items of a list are counted from 0: `config.command[1]`. So no two values of a config have the same path.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Path = tuple[str | int, ...]
"""The keys and list indices that lead to a value, from the outermost key on."""

_BARE = r'[^.\[\]"\u0000-\u0020\u007f-\u00a0]+'
_QUOTED = r'"(?:[^"\\\u0000-\u001f]|\\.)*"'

FORM = rf"{_BARE}(?:\.{_BARE}|\[(?:0|[1-9][0-9]{{0,8}})\]|\[{_QUOTED}\])*"
"""A pattern for the text of a path, in the syntax that Python and ECMAScript share."""

_PLAIN = r"[A-Za-z0-9_-]+"
_SEGMENT = rf"\.?({_BARE})|\[([0-9]+)\]|\[({_QUOTED})\]"


def path_text(path: Sequence[str | int]) -> str:
    """Return the text of a path."""
    return "".join(_segment(step, first=number == 0) for number, step in enumerate(path))


def path_of(text: str) -> Path:
    """Return the path that a text names. A key outside of brackets may have any characters but `.`, `[`, `]`, `"`,
    white space and control characters. Raises `ValueError` for a text of another form.
    """
    if re.fullmatch(FORM, text) is None:
        raise ValueError(f"{text[:80]} is no path of a field")
    return tuple(_step(found) for found in re.finditer(_SEGMENT, text))


def path_at_start(text: str) -> Path:
    """Return the path with which a text begins, in the form that `path_text` gives it; () if it begins with none."""
    found = re.match(rf"{_PLAIN}(?:\.{_PLAIN}|\[[0-9]+\]|\[{_QUOTED}\])*", text)
    try:
        return path_of(found[0]) if found else ()
    except ValueError:  # an index such as [01], or a text in quotes that is not JSON's
        return ()


def covers(outer: Path, inner: Path) -> bool:
    """Return whether `inner` is `outer`, or a path of something inside it. Only whole segments count."""
    return inner[: len(outer)] == outer


def value_at(path: Path, value: Any) -> tuple[Any, ...]:
    """Return the value at a path inside a mapping or a list, as a tuple of one; an empty tuple if there is none."""
    for step in path:
        inner = _inside(value, step)
        if not inner:
            return ()
        [value] = inner
    return (value,)


def part_at(path: Path, value: Any) -> Any:
    """Return the part of a mapping or a list that is about the value at a path: the mappings and lists around the value
    with nothing beside it. The part ends where there is no next step.
    """
    first, *rest = path
    inner = _inside(value, first)
    if not inner:
        return [] if isinstance(value, list) else {}
    part = part_at(tuple(rest), inner[0]) if rest and isinstance(inner[0], Mapping | list) else inner[0]
    return [part] if isinstance(value, list) else {first: part}


def without(path: Path, value: Any) -> Any:
    """Return a copy of a mapping or a list without the value at a path inside it.

    An item of a list becomes null, so that the other items keep their numbers. Two values that differ at the path alone
    become equal. So the mappings and lists around the value are made where there are none, and a list that ends just
    before the item gets the null.
    """
    first, *rest = path
    inner: Any = None
    if rest:
        [inner] = _inside(value, first) or ([] if isinstance(rest[0], int) else {},)
        inner = without(tuple(rest), inner)
    if isinstance(value, Mapping) and isinstance(first, str):
        others = {name: each for name, each in value.items() if name != first}
        return {**others, first: inner} if rest else others
    if isinstance(value, list) and isinstance(first, int) and first <= len(value):
        return [*value[:first], inner, *value[first + 1 :]]
    return value


def leaves(values: Sequence[Any]) -> Iterator[Path]:
    """Yield the paths at which any of these mappings has a value that is no mapping, sorted by their keys.

    A list is one value, and so is a mapping that has no keys in any of `values`.
    """
    for key in sorted({key for value in values for key in value}):
        inner = [value[key] for value in values if key in value]
        if any(inner) and all(isinstance(each, Mapping) for each in inner):
            yield from ((key, *path) for path in leaves(inner))
        else:
            yield (key,)


def _inside(value: Any, step: str | int) -> tuple[Any, ...]:
    """Return the value of a key or an index as a tuple of one; an empty tuple if there is none."""
    if isinstance(value, Mapping):
        return (value[step],) if step in value else ()
    is_index = isinstance(value, list) and isinstance(step, int) and step < len(value)
    return (value[step],) if is_index else ()


def _segment(step: str | int, *, first: bool) -> str:
    if isinstance(step, int):
        return f"[{step}]"
    if re.fullmatch(_PLAIN, step):
        return step if first else f".{step}"
    import json

    return f"[{json.dumps(step, ensure_ascii=False)}]"


def _step(found: re.Match[str]) -> str | int:
    if found[1] is not None:
        return found[1]
    if found[2] is not None:
        return int(found[2])
    import json

    key: str = json.loads(found[3])
    return key
