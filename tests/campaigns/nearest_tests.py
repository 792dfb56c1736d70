"""Which test files are nearest to a module: those that import it through the fewest others."""

import ast
from collections.abc import Iterable, Mapping
from pathlib import Path


class Imports:
    """The imports between the modules of a checkout: the package, the CI scripts, the tests and what they share."""

    def __init__(self, root: Path) -> None:
        self._root = root
        paths = [path for folder in ("reconciler", "ci", "tests", "examples") for path in (root / folder).rglob("*.py")]
        names = {_name(path.relative_to(root)): path for path in paths}
        self._imported = {path: {names[name] for name in _imported(path) if name in names} for path in paths}

    def nearest(self, path: Path, count: int) -> list[Path]:
        """Return the test files that are nearest to a module, the nearest one first.

        Of files at one distance, the first is the one that imports the fewest modules.
        """
        distances = self._distances(path)
        tests = [each for each in distances if each.name.startswith("test_")]
        return sorted(tests, key=lambda each: (distances[each], len(self._imported[each]), each))[:count]

    def _distances(self, path: Path) -> Mapping[Path, int]:
        """Return how many imports lead to a module, for each module from which some do."""
        distances = {path: 0}
        edge = [path]
        while edge:
            edge = [
                importer
                for importer, imported in self._imported.items()
                if importer not in distances and not imported.isdisjoint(edge)
            ]
            distance = max(distances.values()) + 1
            distances.update(dict.fromkeys(edge, distance))
        return distances


def _name(path: Path) -> str:
    """Return the name by which a module is imported. What is in no package goes by the name of its file."""
    parts = path.with_suffix("").parts
    if parts[0] != "reconciler":
        return parts[-1]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imported(path: Path) -> Iterable[str]:
    """Yield what a module imports, or names as a file: the CI scripts are started by their paths."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.endswith(".py"):
            yield Path(node.value).stem
