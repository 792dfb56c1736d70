"""`reconciler status`."""

import click

from reconciler.cli.shell import Shell, options
from reconciler.errors import ExitCode


@click.command()
@options("json")
def status(shell: Shell) -> ExitCode:
    """Show desired, recorded and observed side by side. Reads the service."""
    from reconciler import app

    rows = app.status(shell.place, shell.world)
    if shell.form == "json":
        from reconciler.views import json

        shell.document(json.status(rows))
    else:
        from reconciler.views import text

        shell.terminal.answer(text.status(rows))
    return ExitCode.DONE
