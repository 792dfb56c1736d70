"""`reconciler init`: a first manifest, and the files for git beside its state."""

import os
from contextlib import suppress

from reconciler.model.commands import command
from reconciler.model.errors import ReconcilerError, Usage

_ELSEWHERE = "name another place: reconciler init PATH"

ATTRIBUTES = """\
# What reconciler keeps beside a manifest. Of two histories git takes the lines of both; a state is taken whole.
*.history.jsonl merge=union -text
*.state.json -text
*.state.json.journal binary
"""

IGNORED = """\
# What reconciler keeps for itself: locks, the journal of an apply that is under way, the jobs of the sandbox; and
# saved plans, which hold for one state alone, and rehearsals, which have a state of their own.
*.state.json.lock
*.state.json.journal
*.sandbox.db*
sandbox.db*
plan.json
rehearsal.*
"""

MANIFEST = """\
# What each batch job should be. `reconciler plan` shows what is to be done, `reconciler apply` does it.
# Completion in editors: reconciler schema > manifest.schema.json, then
# yaml-language-server: $schema=manifest.schema.json
apiVersion: reconciler/v1

target:
  engine: local  # real processes on this machine; others: kubernetes, slurm, ray
# state: git+origin  # where the state lives; by default in a file beside this one. With such a state, `target` also
#                      needs `root: ~/runs`, the folder of the runs on this machine

defaults:
  config: {jobTimeout: 3600}  # seconds

jobs:
  count-words:  # the name that people use
    state: running  # running | aborted | absent
    config:
      script: |
        echo "counting at level $LEVEL"
        sleep 1
        echo "$((LEVEL * 1000)) words"
      env: {LEVEL: "3"}
    # runToken: "1"  # a new value asks for one more run
  report:
    state: running
    config: {script: echo the report is done}
    after: [count-words]  # it is run once that has completed
"""


def write_first_manifest(path: str) -> tuple[list[str], list[str]]:
    """Write a first manifest at a path, and the files for git beside its state. Overwrites nothing.

    Returns the files that were written, and a remark on each file for git that was there already and lacks a line.
    Raises `Usage` for a name that no manifest has, and `ReconcilerError` if there is a manifest already, or if it can't
    be written.
    """
    from reconciler.state.homes import default_state_path

    file = _file_of(path)
    _refuse_beside_default(file)
    try:
        os.makedirs(os.path.dirname(file) or ".", exist_ok=True)
        with open(file, "x", encoding="utf-8") as opened:
            opened.write(MANIFEST)
    except FileExistsError as fault:
        # The existing file may also have the name of a folder that would be made.
        there = file if os.path.lexists(file) else fault.filename
        raise ReconcilerError(f"{there} is there already", _ELSEWHERE) from fault
    except OSError as fault:
        raise ReconcilerError(f"{file} can't be written: {fault.strerror}", _ELSEWHERE) from fault
    written, remarks = [file], []
    for name, content in ((".gitattributes", ATTRIBUTES), (".gitignore", IGNORED)):
        for_git = os.path.join(os.path.dirname(default_state_path(path)), name)
        if _create(for_git, content):
            written.append(for_git)
        elif missing := _missing_lines(for_git, content):
            remarks.append(f"{for_git} is there already: let it have {missing}")
    return written, remarks


def plan_command(path: str) -> str:
    """The command that plans a first manifest.

    It names the state if the folder has one of another manifest. The new manifest could be that one renamed, so a plan
    would ask which state is meant.
    """
    from reconciler.state.homes import default_state_path
    from reconciler.state.paths import STATE_SUFFIX

    state = default_state_path(path)
    others = [name for name in os.listdir(os.path.dirname(state) or ".") if name.endswith(STATE_SUFFIX)]
    is_default = os.path.normpath(path) in ("jobs.yaml", "jobs")
    return command("plan", *([] if is_default else [path]), options=["--state", state] if others else [])


def _file_of(path: str) -> str:
    """The file of a first manifest at a path. Raises `Usage` for a name that no manifest has."""
    from reconciler.manifest.files import files_at, is_manifest_name

    if path.endswith("/") or os.path.isdir(path):
        there = files_at(path) if os.path.isdir(path) else []
        if there:
            raise ReconcilerError(f"{there[0]} is there already: {path} holds a manifest", _ELSEWHERE)
        return os.path.join(path, "jobs.yaml")
    if is_manifest_name(path):
        return path
    stem = os.path.splitext(path)[0]
    raise Usage(
        f"the name of a manifest ends in .yaml or .yml, and {path} does not",
        f"for a file: {command('init', f'{stem}.yaml')}; for a folder: {command('init', f'{path}/')}",
    )


def _refuse_beside_default(file: str) -> None:
    """Raise `ReconcilerError` if one default manifest is there and the file would be the other.

    Without a path, commands read only one of the two: they would pass over the new manifest, or over the old one.
    """
    from reconciler.manifest.files import DEFAULTS, files_at

    single, folder = (os.path.realpath(name) for name in DEFAULTS)
    real = os.path.realpath(file)
    if real == single and os.path.isdir(folder) and (there := files_at(DEFAULTS[1])):
        raise ReconcilerError(
            f"{there[0]} is there already, and commands without a path would read {DEFAULTS[0]} in its place",
            f"go on with the manifest that is there: {command('plan')}; or {_ELSEWHERE}",
        )
    if os.path.dirname(real) == folder and os.path.lexists(DEFAULTS[0]):
        raise ReconcilerError(
            f"{DEFAULTS[0]} is there already, and commands without a path would read it in place of {file}",
            f"go on with the manifest that is there: {command('plan')}; or {_ELSEWHERE}",
        )


def _create(path: str, content: str) -> bool:
    """Write a file if there is none. Returns whether it was written."""
    try:
        with open(path, "x", encoding="utf-8") as file:
            file.write(content)
    except OSError:  # in most cases the file exists
        return False
    return True


def _missing_lines(path: str, content: str) -> str:
    """The lines of `content`, without comments, that a file lacks."""
    there: list[str] = []
    with suppress(OSError, UnicodeDecodeError), open(path, encoding="utf-8") as file:
        there = file.read().splitlines()
    lines = [line for line in content.splitlines() if not line.startswith("#")]
    return ", ".join(line for line in lines if line not in there)
