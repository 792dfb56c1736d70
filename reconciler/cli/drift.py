"""`reconciler drift`."""

import click

from reconciler.cli.options import options, parallelism_option, picking
from reconciler.cli.shell import Shell
from reconciler.model.errors import ExitCode
from reconciler.views.answers import DriftAnswer


@click.command()
@parallelism_option("reads")
@picking
@options(DriftAnswer)
def drift(shell: Shell, parallelism: int, targets: tuple[str, ...], excludes: tuple[str, ...]) -> ExitCode:
    """Compare the jobs with what is recorded.

    Reads the jobs from the service, and changes nothing. The exit code is 2 if a job differs, else 3 if a job can't
    be read, else 5 if a call is in doubt, else 0.
    """
    from reconciler.usecases.drift import drift, review
    from reconciler.usecases.selection import Selection

    found = drift(shell.workspace, Selection(targets, excludes), parallelism)
    shell.show(DriftAnswer(found, lambda with_history=False: review(found, shell.workspace)))
    return found.exit_code
