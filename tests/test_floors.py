"""Each module imports only from floors below its own, and only the shell speaks and exits."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted((ROOT / "reconciler").rglob("*.py"))
}

# From the ground up. A name stands for its module and all below it; names on one row know nothing of each other.
ROWS = [
    re.findall(r"`([\w.]+)`", row.split("|")[2])
    for row in (ROOT / "CONTRIBUTING.md").read_text().splitlines()
    if row.startswith("| ") and "`" in row
]
ROW_OF = {f"reconciler.{name}": row for row, names in enumerate(ROWS) for name in names} | {"reconciler": -1}
SHELL = ("reconciler.cli", "reconciler.terminal")
NOT_NAMES = {"sync", "process", "handle", "data", "info", "manager", "util", "utils", "helper", "helpers", "misc"}


def unit(module: str) -> str:
    """The longest name of the table that the module belongs to; the package's root is for `__version__` alone."""
    return max((name for name in ROW_OF if f"{module}.".startswith(f"{name}.")), key=len)


def imports(tree: ast.AST, modules: set[str]) -> Iterator[tuple[int, str]]:
    """(line, module) of every import of our own, those inside functions and under TYPE_CHECKING too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names if alias.name.startswith("reconciler."))
        elif isinstance(node, ast.ImportFrom) and node.level:
            raise AssertionError(f"line {node.lineno}: a relative import")
        elif isinstance(node, ast.ImportFrom) and f"{node.module}.".startswith("reconciler."):
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                yield node.lineno, name if name in modules else str(node.module)


def wrong_imports(module: str, source: str) -> list[str]:
    """What the module may not import, a line each."""
    own = unit(module)
    return [
        f"{module}:{line} imports {other}"
        for line, other in imports(ast.parse(source), set(MODULES) | {module})
        if unit(other) != own and ROW_OF[unit(other)] >= ROW_OF[own]
    ]


def speech(source: str) -> list[str]:
    """Each place that prints, asks, exits or reaches for the terminal's streams."""
    found = []
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Name(id="print" | "input" | "exit" | "quit" | "SystemExit" as word):
                found.append(f"{node.lineno} {word}")
            case ast.Attribute(value=ast.Name(id="sys" | "os"), attr="stdout" | "stderr" | "exit" | "_exit" as word):
                found.append(f"{node.lineno} {word}")
            case ast.ImportFrom(module="sys" | "os", names=names):
                words = {"stdout", "stderr", "exit", "_exit"} & {alias.name for alias in names}
                found.extend(f"{node.lineno} {word}" for word in sorted(words))
    return found


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_from_below(module: str) -> None:
    assert wrong_imports(module, MODULES[module].read_text()) == []


def test_every_module_has_a_floor_and_every_floor_its_modules() -> None:
    bare = {"reconciler", "reconciler.engines"}  # these two stand for themselves alone
    assert [module for module in MODULES if module not in bare and unit(module) in bare] == []
    assert set(ROW_OF) - {unit(module) for module in MODULES} == set()


@pytest.mark.parametrize(
    "module", [module for module in MODULES if not f"{module}.".startswith(tuple(f"{name}." for name in SHELL))]
)
def test_only_the_shell_prints_and_exits(module: str) -> None:
    assert speech(MODULES[module].read_text()) == []


def test_no_module_has_a_name_that_says_nothing() -> None:
    assert [module for module in MODULES if NOT_NAMES & set(module.replace("_", ".").split("."))] == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("reconciler.planner", "from reconciler.apply import apply"),
        ("reconciler.planner", "def plan():\n    import reconciler.state.file"),
        ("reconciler.jobs", "from reconciler import plan"),
        ("reconciler.engines.bytenite.client", "from reconciler.engines.sandbox import server"),
        ("reconciler.state.file", "from reconciler.engines import base"),
        ("reconciler.views.text", "from reconciler.app import plan"),
    ],
)
def test_an_import_from_above_or_beside_is_found(module: str, source: str) -> None:
    assert len(wrong_imports(module, source)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("reconciler.engines.bytenite.client", "from reconciler.engines.base import Engine"),
        ("reconciler.engines.bytenite.client", "from reconciler.engines.bytenite.wire import job"),
        ("reconciler.cli", "from reconciler import __version__"),
    ],
)
def test_an_import_from_below_or_from_the_same_package_is_fine(module: str, source: str) -> None:
    assert wrong_imports(module, source) == []


@pytest.mark.parametrize(
    "source",
    ["print(1)", "import sys\nsys.exit(1)", "raise SystemExit", "from sys import stdout", "sys.stderr.flush()"],
)
def test_speech_is_found(source: str) -> None:
    assert len(speech(source)) == 1
