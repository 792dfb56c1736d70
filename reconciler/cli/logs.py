"""`reconciler logs`."""

import click

from reconciler.cli import completing
from reconciler.cli.options import options
from reconciler.cli.shell import Shell
from reconciler.model.errors import ExitCode, Usage
from reconciler.views.answers import LogAnswer


@click.command()
@click.argument("job", shell_complete=completing.known_jobs)
@click.option("-f", "--follow", is_flag=True, help="Go on until the run is over.")
@click.option("--run", type=click.IntRange(min=1), metavar="N", help="The number of the run [the last one].")
@click.option("--tail", type=click.IntRange(min=0), metavar="LINES", help="Only so many lines at the end.")
@click.option("--raw", is_flag=True, help="Each byte as it was printed. For a pipe or a file, and not for a terminal.")
@options(LogAnswer)
def logs(shell: Shell, job: str, follow: bool, run: int | None, tail: int | None, raw: bool) -> ExitCode:
    """Show what a run of JOB has printed.

    Characters that could control a terminal, or that a CI service would take for a command, are shown as escapes.
    """
    from reconciler.usecases.logs import Wanted, logs

    if raw and shell.terminal.is_terminal:
        raise Usage("--raw writes each byte as it was printed, and a terminal could obey them: add | less, or > FILE")
    if not shell.is_text and (raw or follow):
        raise Usage("--raw and --follow are for text: leave out --format")
    with logs(shell.workspace, Wanted(job, run, tail, follow)) as log:
        if raw:
            shell.terminal.raw(log.pieces)
        elif shell.is_text:
            shell.terminal.lines(log.pieces)
        else:
            shell.show(LogAnswer(log.name, log.run_id, b"".join(log.pieces).decode(errors="replace")))
    return ExitCode.DONE
