"""Builds packages, and installs them into new environments, without a network."""

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

from checkout import ROOT

EXAMPLE = ROOT / "examples" / "plugin"
"""The example of a package with plugins."""


def build(source: Path, kind: str, folder: Path) -> Path:
    """Build a "wheel" or an "sdist" of the source tree and return the one file made."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", str(folder)]
    subprocess.run(command, cwd=source, check=True, capture_output=True)
    (made,) = folder.iterdir()
    return made


def environment_with(folder: Path, *wheels: Path) -> Path:
    """Make a virtual environment with these packages; return the folder of its programs.

    The environment finds everything else, such as what the packages depend on, in the one that runs the tests. The
    packages of its own come first.
    """
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    interpreter = folder / "bin" / "python"
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "others.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q", "--python", str(interpreter)]
    subprocess.run(
        [*command, "install", "--no-index", "--no-deps", "--ignore-installed", *map(str, wheels)],
        check=True,
        env={**os.environ, "PYTHONPATH": ""},
    )
    return interpreter.parent
