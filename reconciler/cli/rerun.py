"""`reconciler rerun`."""

import click

from reconciler.cli import completing
from reconciler.cli.options import options
from reconciler.cli.shell import Shell
from reconciler.model.commands import command
from reconciler.model.errors import ExitCode


@click.command()
@click.argument("job", shell_complete=completing.declared_jobs)
@click.option("--token", metavar="TEXT", help="The runToken to write [today's date in UTC].")
@click.option(
    "--tasks", type=click.Choice(["failed"]), help="Run those tasks of an array alone that failed in the last run."
)
@options()
def rerun(shell: Shell, job: str, token: str | None, tasks: str | None) -> ExitCode:
    """Ask in the manifest for one more run of JOB.

    Writes a new runToken where the job is declared, and sends nothing. Review the change, commit it, and apply it.
    """
    from reconciler.host.safe_text import field
    from reconciler.model.plan import ActionKind
    from reconciler.usecases.rerun import rerun
    from reconciler.usecases.world import now

    asked = rerun(shell.workspace, job, token, now()[:10], failed_tasks=tasks is not None)
    before, after = "" if asked.before is None else f'"{asked.before}" → ', f'"{asked.token}"'
    place = f"{asked.position.file}:{asked.position.line}"
    is_asked = asked.before == asked.token
    message = f"the manifest asks for runToken {after} already" if is_asked else f"runToken {before}{after}"
    if asked.tasks:
        message = f"{message}, for the tasks {asked.tasks}"
    shell.terminal.answer(field(f"{place}: {job}: {message}"))
    if asked.decision.kind in (ActionKind.HOLD, ActionKind.NOOP):
        shell.terminal.remark(field(f"An apply would not run it yet: {asked.decision.reason}"))
    elif is_asked:
        shell.terminal.remark(f"Nothing was written. {command('apply')} runs it.")
    else:
        shell.terminal.remark(f"Nothing was sent. Review it, commit it, then: {command('apply')}")
    return ExitCode.DONE
