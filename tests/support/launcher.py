"""The command `reconciler` for programs that look it up on the PATH."""

import sys
from pathlib import Path


def launcher_in(binaries: Path) -> Path:
    """Put a program `reconciler` into a folder, which is made if it does not exist. Return the folder."""
    binaries.mkdir(parents=True, exist_ok=True)
    program = binaries / "reconciler"
    if not program.exists():  # a shell may be running the script, and reads it as it goes
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m reconciler "$@"\n')
        program.chmod(0o755)
    return binaries
