"""Find the modules that a command imports."""

import os
import subprocess
import sys
from pathlib import Path

PROGRAM = """
import atexit, sys
atexit.register(lambda: print(*sys.modules, sep="\\n", file=sys.stderr))
from reconciler.__main__ import main
main()
"""


def imported_by(arguments: list[str], folder: Path) -> set[str]:
    """Return the modules that are imported when a command ends; the command must exit with 0."""
    env = {**os.environ, "XDG_STATE_HOME": str(folder / "marks"), "XDG_CACHE_HOME": str(folder / "cache")}
    command = [sys.executable, "-c", PROGRAM, *arguments]
    run = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return set(run.stderr.splitlines())
