"""`reconciler resolve`."""

import click

from reconciler.cli.shell import Shell, lock_timeout, options
from reconciler.errors import ExitCode, Usage


@click.command()
@click.argument("job")
@click.option("--applied/--not-applied", "was_applied", default=None, help="What you found out about the call.")
@click.option(
    "--reason", "why", default="", metavar="TEXT", help="How you know; kept in the record and in the history."
)
@lock_timeout
@options()
def resolve(shell: Shell, job: str, was_applied: bool | None, why: str, lock_timeout: float) -> ExitCode:
    """Settle a call in doubt yourself.

    Say whether JOB's last call was applied, once you have found that out at the service.
    """
    from reconciler import app

    if was_applied is None:
        raise Usage("say --applied or --not-applied")
    shell.terminal.answer(app.resolve(shell.place, shell.world, job, was_applied, why, lock_timeout))
    return ExitCode.DONE
