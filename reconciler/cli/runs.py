"""`reconciler runs`."""

import click

from reconciler.cli import completing
from reconciler.cli.options import options
from reconciler.cli.shell import Shell
from reconciler.model.errors import ExitCode
from reconciler.views.answers import RunsAnswer


@click.command()
@click.argument("job", shell_complete=completing.known_jobs)
@click.option(
    "--last", type=click.IntRange(1, 10_000), default=20, show_default=True, metavar="N", help="Only so many runs."
)
@options(RunsAnswer)
def runs(shell: Shell, job: str, last: int) -> ExitCode:
    """Show each run of JOB: when and why it was asked for, and how it ended.

    The newest run comes first. What is known of a run comes from the service, the state and the history.
    """
    from reconciler.usecases.runs import runs

    shell.show(RunsAnswer(*runs(shell.workspace, job, last)))
    return ExitCode.DONE
