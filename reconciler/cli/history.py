"""`reconciler history`."""

import click

from reconciler.cli import completing
from reconciler.cli.options import options
from reconciler.cli.run import take_paths
from reconciler.cli.shell import Shell
from reconciler.manifest.files import is_manifest_name
from reconciler.model.errors import ExitCode, Usage
from reconciler.views.answers import HistoryAnswer, HistoryCheckAnswer


@click.command()
@click.argument("words", nargs=-1, metavar="[JOB] [PATH]...", shell_complete=completing.known_jobs_or_paths)
@click.option(
    "--since",
    metavar="REV|DATE",
    default="",
    help="Only what was done after a revision, such as a commit, or from a date (UTC) on.",
)
@click.option(
    "--check", is_flag=True, help="Look for missing, repeated and damaged entries; exit 1 where there are any."
)
@options(HistoryAnswer, HistoryCheckAnswer, paths=False)
def history(shell: Shell, words: tuple[str, ...], since: str, check: bool) -> ExitCode:
    """Show what was done, by whom and when.

    The newest entry comes first. Each entry has the commit and the answer of the service. JOB is a name or the
    service's id; entries under former names of the job are included. A first word that ends in .yaml, .yml or / is a
    PATH.
    """
    from reconciler.usecases import history as usecase

    job = words[0] if words and not (is_manifest_name(words[0]) or words[0].endswith(("/", "."))) else ""
    paths = words[1:] if job else words
    take_paths(shell, paths)
    if not check:
        shell.show(HistoryAnswer(usecase.history(shell.workspace, job, since)))
        return ExitCode.DONE
    if job or since:
        raise Usage("--check looks through all of the history: give no JOB and no --since with it")
    found = usecase.check(shell.workspace)
    shell.show(HistoryCheckAnswer(*found))
    for remark in found.remarks:
        shell.terminal.remark(remark)
    if not found.faults:
        return ExitCode.DONE
    shell.terminal.remark("git log -p shows what was there; put back what is missing as it was, in any order")
    return ExitCode.ERROR
