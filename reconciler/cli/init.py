"""`reconciler init`."""

import os
from contextlib import suppress
from shlex import quote

import click

from reconciler.errors import ExitCode


@click.command()
@click.argument("path", default="jobs.yaml")
def init(path: str) -> ExitCode:
    """Write a first manifest.

    It validates, and runs on the embedded sandbox. Where there are none, a .gitattributes beside it tells git how to
    merge histories, and a .gitignore what is not to be committed.
    """
    from reconciler.starter import ATTRIBUTES, IGNORED, MANIFEST

    try:
        with open(path, "x", encoding="utf-8") as file:
            file.write(MANIFEST)
    except FileExistsError:
        click.echo(f"error: {path} is there already; name another place: reconciler init PATH", err=True)
        return ExitCode.ERROR
    except OSError as fault:
        click.echo(f"error: {path} can't be written: {fault.strerror}", err=True)
        return ExitCode.ERROR
    for name, content in ((".gitattributes", ATTRIBUTES), (".gitignore", IGNORED)):
        if missing := _lacking(os.path.join(os.path.dirname(path), name), content):
            click.echo(f"{name} is there already: let it have {missing}", err=True)
    click.echo(f"Wrote {path}. Next: reconciler plan{'' if path == 'jobs.yaml' else f' {quote(path)}'}")
    return ExitCode.DONE


def _lacking(path: str, content: str) -> str:
    """Write a file for git where there is none. Returns the lines that a file which is there already lacks."""
    try:
        with open(path, "x", encoding="utf-8") as file:
            file.write(content)
        return ""
    except OSError:  # mostly because it is there already
        there: list[str] = []
    with suppress(OSError, UnicodeDecodeError), open(path, encoding="utf-8") as file:
        there = file.read().splitlines()
    return ", ".join(line for line in content.splitlines() if not line.startswith("#") and line not in there)
