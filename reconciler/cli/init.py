"""`reconciler init`."""

import os

import click

from reconciler.errors import ExitCode


@click.command()
@click.argument("path", default="jobs.yaml")
def init(path: str) -> ExitCode:
    """Write a first manifest.

    It validates, and runs on the embedded sandbox. Where there is none, a .gitattributes beside it tells git how to
    merge histories.
    """
    from reconciler.starter import ATTRIBUTES, MANIFEST
    from reconciler.state.history import ATTRIBUTE

    try:
        with open(path, "x", encoding="utf-8") as file:
            file.write(MANIFEST)
    except FileExistsError:
        click.echo(f"error: {path} is there already; name another place: reconciler init PATH", err=True)
        return ExitCode.ERROR
    except OSError as fault:
        click.echo(f"error: {path} can't be written: {fault.strerror}", err=True)
        return ExitCode.ERROR
    attributes = os.path.join(os.path.dirname(path), ".gitattributes")
    try:
        with open(attributes, "x", encoding="utf-8") as file:
            file.write(ATTRIBUTES)
    except OSError:  # mostly since it is there already
        click.echo(f"So that git merges histories, let {attributes} have the line: {ATTRIBUTE}", err=True)
    click.echo(f"Wrote {path}. Next: reconciler plan{'' if path == 'jobs.yaml' else f' {path}'}")
    return ExitCode.DONE
