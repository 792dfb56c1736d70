"""`reconciler status`."""

import click

from reconciler.cli.options import options
from reconciler.cli.shell import Shell
from reconciler.model.errors import ExitCode
from reconciler.views.answers import StatusAnswer


@click.command()
@options(StatusAnswer)
def status(shell: Shell) -> ExitCode:
    """Show desired, recorded and observed side by side. Reads the service."""
    from reconciler.usecases.status import status

    shell.show(StatusAnswer(status(shell.workspace)))
    return ExitCode.DONE
