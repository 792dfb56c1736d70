"""`reconciler init`."""

import click

from reconciler.errors import ExitCode


@click.command()
@click.argument("path", default="jobs.yaml")
def init(path: str) -> ExitCode:
    """Write a first manifest.

    It validates, and runs on the embedded sandbox.
    """
    from reconciler.starter import MANIFEST

    try:
        with open(path, "x", encoding="utf-8") as file:
            file.write(MANIFEST)
    except FileExistsError:
        click.echo(f"error: {path} is there already; name another place: reconciler init PATH", err=True)
        return ExitCode.ERROR
    except OSError as fault:
        click.echo(f"error: {path} can't be written: {fault.strerror}", err=True)
        return ExitCode.ERROR
    click.echo(f"Wrote {path}. Next: reconciler plan{'' if path == 'jobs.yaml' else f' {path}'}")
    return ExitCode.DONE
