"""Bugs at random places: what Cosmic Ray can change in a module, and statements that are left out.

Cosmic Ray (https://cosmic-ray.readthedocs.io) replaces operators, numbers, conditions, decorators and loops. It leaves
no statement out, so that is added here.
"""

import ast
import random
import warnings
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice, takewhile
from pathlib import Path
from typing import Any, NamedTuple

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator, operator_names

DROPPED = "dropped statement"
_STATEMENTS = ("expr_stmt", "atom_expr", "return_stmt", "raise_stmt", "del_stmt")
"""The names that parso, the parser of Cosmic Ray, has for the statements that are left out."""


class Bug(NamedTuple):
    """A change of one place: `text` stands for the characters from `start` up to `end` of the module.

    `path` is that of the module in the checkout. `way` is the operator of Cosmic Ray, or `DROPPED`.
    """

    path: str
    line: int
    way: str
    start: int
    end: int
    text: str

    def overlaps(self, other: "Bug") -> bool:
        """Return whether two bugs of one module have characters in common, or touch each other."""
        return self.start <= other.end and other.start <= self.end

    def __str__(self) -> str:
        return f"{self.path}:{self.line}  {self.way.removeprefix('core/')}"


class _Change(NamedTuple):
    """A way to change a place of a module. `number` counts the changes of this way in the module, from 0."""

    way: str
    number: int


def with_bugs(source: str, bugs: Iterable[Bug]) -> str:
    """Return the source of a module with bugs in it, none of which overlap."""
    for bug in sorted(bugs, key=lambda each: each.start, reverse=True):
        source = source[: bug.start] + bug.text + source[bug.end :]
    return source


def choose(root: Path, folders: Sequence[str], seed: int, count: int) -> list[Bug]:
    """Choose bugs in the modules of some folders of a checkout. Returns them by path and line.

    A module is chosen by its length, then a place in it, then a way to change that place. So a comparison, which can be
    changed in ten ways, is chosen no more often than a number.
    """
    modules = sorted(path for folder in folders for path in (root / folder).rglob("*.py"))
    lengths = [len(path.read_text().splitlines()) for path in modules]
    picked = random.Random(seed).choices(modules, lengths, k=count)
    bugs: list[Bug] = []
    for path in set(picked):
        name = path.relative_to(root).as_posix()
        bugs += islice(_by_chance(name, path.read_text(), random.Random(f"{seed} {name}")), picked.count(path))
    return sorted(bugs)


def _by_chance(path: str, source: str, chance: random.Random) -> Iterator[Bug]:
    """Yield bugs at places of a module, none of which overlap."""
    changes = _changes(source)
    before: list[Bug] = []
    places = sorted(changes)
    chance.shuffle(places)
    for line, column in places:
        ways = changes[line, column]
        chance.shuffle(ways)
        for change in ways:
            bug = _bug(path, source, line, change)
            if _is_another_program(source, with_bugs(source, [bug])) and not any(map(bug.overlaps, before)):
                before.append(bug)
                yield bug
                break


def _changes(source: str) -> dict[tuple[int, int], list[_Change]]:
    """Return what can be changed in a module by its place: the line, from 1, and the column, from 0."""
    found: dict[tuple[int, int], list[_Change]] = defaultdict(list)
    for number, statement in enumerate(_statements(source)):
        found[statement.start_pos].append(_Change(DROPPED, number))
    nodes = list(ast_nodes(get_ast(source)))
    for way in operator_names():
        if get_operator(way).arguments():
            continue  # It would have to be told the names of variables.
        operator = get_operator(way)()
        places = ((node, start) for node in nodes for start, _ in operator.mutation_positions(node))
        for number, (node, start) in enumerate(places):
            if not _is_in_annotation(node):
                found[start].append(_Change(way, number))
    return found


def _statements(source: str) -> list[Any]:
    """Return the statements of functions that may be left out, as nodes of parso."""
    return [
        node
        for node in ast_nodes(get_ast(source))
        if node.type in _STATEMENTS and node.parent.type == "simple_stmt" and node.search_ancestor("funcdef")
    ]


def _is_in_annotation(node: Any) -> bool:
    """Return whether a node of parso is in an annotation, which no test can find wrong."""
    while (parent := node.parent) is not None:
        if parent.type in ("tfpdef", "annassign") and node is parent.children[1 if parent.type == "annassign" else 2]:
            return True
        if parent.type == "funcdef" and node is parent.annotation:
            return True
        node = parent
    return False


def _bug(path: str, source: str, line: int, change: _Change) -> Bug:
    """Return a change as a bug."""
    if change.way == DROPPED:
        statement = _statements(source)[change.number]
        lines = source.splitlines(keepends=True)
        places = statement.start_pos, statement.end_pos
        start, end = (sum(map(len, lines[: number - 1])) + column for number, column in places)
        return Bug(path, line, DROPPED, start, end, "pass")
    changed = mutate_code(source, get_operator(change.way)(), change.number)
    start = _same(source, changed)
    same_end = _same(source[start:][::-1], changed[start:][::-1])
    return Bug(path, line, change.way, start, len(source) - same_end, changed[start : len(changed) - same_end])


def _same(first: str, second: str) -> int:
    """Return how many characters two texts have in common, from their beginning."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(first, second, strict=False)))


def _is_another_program(source: str, changed: str) -> bool:
    """Return whether a changed module is one that Python takes without a warning, and that differs from the first."""
    try:
        with warnings.catch_warnings(action="error"):
            compile(changed, "changed", "exec")
    except (SyntaxError, ValueError):
        return False
    return ast.dump(ast.parse(changed)) != ast.dump(ast.parse(source))
