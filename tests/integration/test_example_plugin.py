"""The package in `examples/plugin` is built, installed and used as a stranger would use a package of their own."""

import ast
import importlib
import re
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from checkout import ROOT
from wheels import EXAMPLE, build, environment_with

PAGE = ROOT / "docs" / "how-to" / "write-a-plugin.md"


def public_names() -> dict[str, set[str]]:
    """Return what the page declares public: the names of each module."""
    found: dict[str, set[str]] = {}
    for module, names in re.findall(r"^\| `(reconciler\.[\w.]+)` \| ([^|]*)\|", PAGE.read_text(), re.MULTILINE):
        listed = set(re.findall(r"`(\w+)`", names))
        found[module] = set(importlib.import_module(module).__all__) if "__all__" in listed else listed
    return found


def names_used(source: str) -> Iterator[tuple[str, str]]:
    """Yield each name of `reconciler` that a module uses, as (module, name)."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names if alias.name.partition(".")[0] == "reconciler")
        elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "reconciler":
            yield from ((node.module or "", alias.name) for alias in node.names)


def private(source: str, public: dict[str, set[str]]) -> list[str]:
    return [f"{module} {name}" for module, name in names_used(source) if name not in public.get(module, set())]


def test_the_example_uses_public_names_alone() -> None:
    public = public_names()
    assert {"reconciler.engines.port", "reconciler.state.port"} <= public.keys()
    sources = {path.relative_to(EXAMPLE): path.read_text() for path in sorted(EXAMPLE.rglob("*.py"))}
    assert len(sources) > 4
    assert {str(path): found for path, source in sources.items() if (found := private(source, public))} == {}
    assert [name for source in sources.values() for name in re.findall(r"import_module|\b__import__", source)] == []


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("from reconciler.engines.port import Step", []),
        ("from reconciler.engines.port import Protocol", ["reconciler.engines.port Protocol"]),
        ("from reconciler.model.jobs import Verb", ["reconciler.model.jobs Verb"]),
        ("def f():\n    import reconciler.host.git", ["reconciler.host.git "]),
        ("from reconciler_scripts.runs import Run", []),
    ],
)
def test_a_name_that_is_not_public_is_found(source: str, found: list[str]) -> None:
    assert private(source, public_names()) == found


@pytest.mark.parametrize("module", ["reconciler.engines.port", "reconciler.state.port"])
def test_every_public_name_exists(module: str) -> None:
    imported = importlib.import_module(module)
    assert [name for name in imported.__all__ if not hasattr(imported, name)] == []


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment that has both packages, each from its wheel."""
    folder = tmp_path_factory.mktemp("packages")
    wheels = [build(ROOT, "wheel", folder / "tool"), build(EXAMPLE, "wheel", folder / "example")]
    with zipfile.ZipFile(wheels[1]) as wheel:
        held = {name for name in wheel.namelist() if not name.partition("/")[0].endswith(".dist-info")}
    shipped = (EXAMPLE / "reconciler_scripts").iterdir()
    assert held == {f"reconciler_scripts/{path.name}" for path in shipped if path.is_file()}
    return environment_with(folder / "venv", *wheels)


def test_the_program_finds_the_plugins_of_the_package_that_is_installed_beside_it(programs: Path) -> None:
    program = (
        "import reconciler, reconciler_scripts\n"
        "from reconciler.engines.registry import plugin\nfrom reconciler.state.registry import plugin_of\n"
        "print(plugin('scripts').name, plugin_of('dir://x').prefix)\n"
        "print(reconciler.__file__, reconciler_scripts.__file__)\n"
    )
    done = subprocess.run([programs / "python", "-c", program], capture_output=True, text=True, check=True)
    names, files = done.stdout.splitlines()
    assert names == "scripts dir://"
    assert all(path.startswith(str(programs.parent)) for path in files.split())
