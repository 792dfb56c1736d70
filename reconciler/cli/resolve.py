"""`reconciler resolve`."""

import click

from reconciler.cli import completing
from reconciler.cli.options import lock_timeout, options
from reconciler.cli.shell import Shell
from reconciler.model.errors import ExitCode, Usage


@click.command()
@click.argument("job", shell_complete=completing.known_jobs)
@click.option("--applied/--not-applied", "words", multiple=True, help="What you found out about the call.")
@click.option("--ended", "end", type=click.Choice(["complete", "failed"]),
              help="How the last run ended, where the engine has forgotten it or offers no reads.")  # fmt: skip
@click.option(
    "--reason", "why", default="", metavar="TEXT", help="How you know; kept in the record and in the history."
)
@lock_timeout
@options()
def resolve(
    shell: Shell, job: str, words: tuple[bool, ...], end: str | None, why: str, lock_timeout: float
) -> ExitCode:
    """Settle a call in doubt yourself, or say how a run ended.

    First find out at the service whether JOB's last call was applied, or how its last run ended. Then say
    so with this command.
    """
    from reconciler.model.jobs import Status
    from reconciler.usecases.resolve import resolve, resolve_end

    if end is not None:
        if words:
            raise Usage("--ended is about a run, and --applied and --not-applied are about a call: say one of them")
        shell.terminal.answer(resolve_end(shell.workspace, job, Status(end), why, lock_timeout))
        return ExitCode.DONE
    if not words:
        raise click.MissingParameter(
            "Say what became of the call, or how the run ended.",
            param_hint="'--applied' / '--not-applied' / '--ended'",
            param_type="option",
        )
    if len(set(words)) > 1:
        raise Usage("--applied and --not-applied contradict each other: say one of them")
    was_applied = words[0]
    shell.terminal.answer(resolve(shell.workspace, job, was_applied, why, lock_timeout))
    return ExitCode.DONE
