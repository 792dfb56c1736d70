"""What is installed, what ships, and what the locks promise."""

import importlib.metadata
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import reconciler
from checkout import ROOT
from wheels import build

LOCKS = sorted((ROOT / "requirements").glob("*.txt"))
NAME = "job-reconciler"
"""The name of the distribution. The distribution `reconciler` on the package index belongs to another project."""
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


FOR_READERS = ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "Containerfile", "action.yml", ".pre-commit-hooks.yaml"]
FOLDERS_FOR_READERS = ["docs", "examples", "ci", "reconciler"]
WRONG_INSTALL = re.compile(
    r"\b(?:pip\d?|pipx|uv|uvx|poetry)\b[^\n|&;#]*?(?<![-/\w.])reconciler(?=[\s'\"`\[=<>~!@,;)]|$)", re.MULTILINE
)
"""A command that installs the distribution `reconciler`, with or without extras and a version."""


def pins(lock: str) -> dict[str, str]:
    """Package name to version, as the lock has them."""
    return dict(re.findall(r"^([a-z0-9.-]+)==([^ ]+)", (ROOT / "requirements" / lock).read_text(), re.MULTILINE))


def shipped() -> dict[str, bytes]:
    """What belongs into the wheel: its path there, and its bytes in the checkout."""
    modules = [path for path in (ROOT / "reconciler").rglob("*") if path.is_file() and path.suffix != ".pyc"]
    schemas = [path for path in (ROOT / "schemas").rglob("*") if path.is_file()]
    return {str(path.relative_to(ROOT)): path.read_bytes() for path in modules} | {
        f"reconciler/{path.relative_to(ROOT)}": path.read_bytes() for path in schemas
    }


def test_the_installed_package_is_what_is_tested() -> None:
    assert reconciler.__file__ is not None
    assert Path(reconciler.__file__).parent.parent.name == "site-packages"


def test_a_program_started_by_a_test_gets_the_installed_package_too() -> None:
    command = [sys.executable, "-c", "import reconciler; print(reconciler.__file__)"]
    found = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()
    assert found == reconciler.__file__


def test_the_installed_files_are_those_of_the_checkout() -> None:
    files = importlib.metadata.files(NAME) or []
    installed = {
        str(path): path.read_binary() for path in files if path.parts[0] == "reconciler" and path.suffix != ".pyc"
    }
    assert "reconciler/py.typed" in installed
    assert any(path.startswith("reconciler/schemas/") for path in installed)
    assert installed == shipped()


def test_the_sdist_makes_the_same_wheel(tmp_path: Path) -> None:
    with tarfile.open(build(ROOT, "sdist", tmp_path / "sdist")) as archive:
        # The first releases of Python 3.11 have no filters, and later ones warn of those who name none.
        filters = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
        archive.extractall(tmp_path / "tree", **filters)  # type: ignore[arg-type]
    (tree,) = (tmp_path / "tree").iterdir()
    with zipfile.ZipFile(build(tree, "wheel", tmp_path / "wheel")) as wheel:
        held = {name: wheel.read(name) for name in wheel.namelist() if name.startswith("reconciler/")}
    assert held == shipped()


def test_the_metadata_name_the_package_the_licence_the_version_and_the_command() -> None:
    metadata = importlib.metadata.metadata(NAME)
    assert metadata["Name"] == NAME
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Version"] == reconciler.__version__
    (command,) = importlib.metadata.distribution(NAME).entry_points
    assert (command.name, command.value) == ("reconciler", "reconciler.__main__:main")


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_a_lock_holds_hashes_and_no_address(lock: Path) -> None:
    requirements = re.split(r"\n(?=[a-z0-9])", re.sub(r"^ *#.*\n", "", lock.read_text(), flags=re.MULTILINE))
    assert requirements
    for requirement in requirements:
        assert re.fullmatch(r"[a-z0-9.-]+==\S+( ; [^\\]+)?( \\\n    --hash=sha256:[0-9a-f]{64})+\n?", requirement)
    assert re.findall(r"://|file:|(?:^|\s)/|--(?!hash)", lock.read_text(), re.MULTILINE) == []


@pytest.mark.parametrize(
    ("lock", "wanted"),
    [
        ("run.txt", PYPROJECT["project"]["dependencies"]),
        ("build.txt", PYPROJECT["dependency-groups"]["build"]),
        ("dev.txt", [entry for entry in PYPROJECT["dependency-groups"]["dev"] if isinstance(entry, str)]),
    ],
)
def test_a_lock_meets_the_bounds_of_the_project(lock: str, wanted: list[str]) -> None:
    found = pins(lock)
    for requirement in map(Requirement, wanted):
        assert requirement.specifier.contains(found[requirement.name.lower()]), requirement


def test_the_locks_agree() -> None:
    dev = pins("dev.txt")
    assert len(dev) > 20
    assert pins("run.txt").items() | pins("build.txt").items() <= dev.items()


def for_readers() -> list[Path]:
    """Return the files that may tell a reader, or a machine, what to install."""
    found = [ROOT / name for name in FOR_READERS]
    for folder in FOLDERS_FOR_READERS:
        found += [path for path in (ROOT / folder).rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    return [path for path in found if path.suffix not in {".png", ".svg", ".pyc"}]


def test_nothing_tells_anybody_to_install_the_package_of_another_project() -> None:
    wrong = {
        str(path.relative_to(ROOT)): found
        for path in for_readers()
        if (found := WRONG_INSTALL.findall(path.read_text(encoding="utf-8")))
    }
    assert wrong == {}


@pytest.mark.parametrize(
    ("text", "is_wrong"),
    [
        ("run `pip install reconciler`", True),
        ("pip install 'reconciler[socks]'", True),
        ("python -m pip install -U reconciler==0.1.0 && reconciler plan", True),
        ("pipx install reconciler", True),
        ("uvx reconciler plan", True),
        ("uv tool install reconciler", True),
        ("pip install job-reconciler", False),
        ("pip install 'job-reconciler[socks]' && reconciler plan", False),
        ("pip install -q pre-commit && reconciler plan", False),
        ("pip install /opt/reconciler", False),
        ("pip install ./dist/job_reconciler-0.1.0-py3-none-any.whl", False),
    ],
)
def test_an_install_of_the_package_of_another_project_is_found(text: str, is_wrong: bool) -> None:
    assert bool(WRONG_INSTALL.search(text)) is is_wrong
