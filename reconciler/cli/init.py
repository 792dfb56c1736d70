"""`reconciler init`."""

import os
import sys
from contextlib import suppress

import click

from reconciler.cli import completing
from reconciler.model.commands import command
from reconciler.model.errors import ExitCode, ReconcilerError, Usage


@click.command()
@click.argument("path", default="jobs.yaml", shell_complete=completing.paths)
def init(path: str) -> ExitCode:
    """Write a first manifest.

    PATH is a file that ends in .yaml or .yml, or a folder, which gets a jobs.yaml; a folder that is not there is made.
    The manifest validates, and runs on the embedded sandbox. Nothing is overwritten.

    A .gitattributes where the state will stand tells git how to merge histories, and a .gitignore what is not to be
    committed.
    """
    from reconciler.host.terminal import Terminal
    from reconciler.views import text

    terminal = Terminal(sys.stdout, sys.stderr, os.environ, no_color=False)
    try:
        made, lacking = _start(path)
    except ReconcilerError as fault:
        terminal.remark(text.error(fault))
        return fault.exit_code
    for line in lacking:
        terminal.remark(line)
    listed = f"{', '.join(made[:-1])} and {made[-1]}" if len(made) > 1 else made[0]
    is_default = os.path.normpath(path) in ("jobs.yaml", "jobs") and not os.path.dirname(os.path.normpath(path))
    terminal.answer(f"Wrote {listed}. Next: {command('plan', *([] if is_default else [path]))}")
    return ExitCode.DONE


def _start(path: str) -> tuple[list[str], list[str]]:
    """Write a first manifest, and the files for git where its state will stand.

    Returns the files that were written, and a line for each file for git that was there and lacks something. Raises
    `Usage` for a name that no manifest has, `ReconcilerError` where a manifest is there already or can't be written.
    """
    from reconciler.state.homes import default_state_path
    from reconciler.usecases.starter import ATTRIBUTES, IGNORED, MANIFEST

    file = _file_of(path)
    try:
        os.makedirs(os.path.dirname(file) or ".", exist_ok=True)
        with open(file, "x", encoding="utf-8") as opened:
            opened.write(MANIFEST)
    except FileExistsError as fault:
        # Also where a file stands in the place of a folder that would be made.
        there = file if os.path.lexists(file) else fault.filename
        raise ReconcilerError(f"{there} is there already", "name another place: reconciler init PATH") from fault
    except OSError as fault:
        raise ReconcilerError(
            f"{file} can't be written: {fault.strerror}", "name another place: reconciler init PATH"
        ) from fault
    made, lacking = [file], []
    for name, content in ((".gitattributes", ATTRIBUTES), (".gitignore", IGNORED)):
        for_git = os.path.join(os.path.dirname(default_state_path(path)), name)
        written, missing = _written(for_git, content)
        made += [for_git] if written else []
        lacking += [f"{for_git} is there already: let it have {missing}"] if missing else []
    return made, lacking


def _file_of(path: str) -> str:
    """The file that a first manifest at a path is written to. Raises `Usage` for a name that no manifest has."""
    from reconciler.manifest.files import files_at, is_manifest_name

    if path.endswith("/") or os.path.isdir(path):
        there = files_at(path) if os.path.isdir(path) else []
        if there:
            raise ReconcilerError(
                f"{there[0]} is there already: {path} holds a manifest", "name another place: reconciler init PATH"
            )
        return os.path.join(path, "jobs.yaml")
    if is_manifest_name(path):
        return path
    stem = os.path.splitext(path)[0]
    raise Usage(
        f"the name of a manifest ends in .yaml or .yml, and {path} does not",
        f"for a file: {command('init', f'{stem}.yaml')}; for a folder: {command('init', f'{path}/')}",
    )


def _written(path: str, content: str) -> tuple[bool, str]:
    """Write a file for git where there is none. Returns whether it did, and the lines that one which is there lacks."""
    try:
        with open(path, "x", encoding="utf-8") as file:
            file.write(content)
        return True, ""
    except OSError:  # mostly since it is there already
        there: list[str] = []
    with suppress(OSError, UnicodeDecodeError), open(path, encoding="utf-8") as file:
        there = file.read().splitlines()
    lines = [line for line in content.splitlines() if not line.startswith("#")]
    return False, ", ".join(line for line in lines if line not in there)
