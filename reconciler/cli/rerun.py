"""`reconciler rerun`."""

import click

from reconciler.cli.shell import Shell, options
from reconciler.errors import ExitCode


@click.command()
@click.argument("job")
@click.option("--token", metavar="TEXT", help="The runToken to write [today's date in UTC].")
@options()
def rerun(shell: Shell, job: str, token: str | None) -> ExitCode:
    """Ask in the manifest for one more run of JOB.

    Writes a new runToken where the job is declared, and sends nothing: review it, commit it, apply it.
    """
    from reconciler import authoring, wiring
    from reconciler.plan import ActionKind
    from reconciler.text import field

    asked = authoring.rerun(shell.place, shell.world, job, token, wiring.now()[:10])
    before = "" if asked.before is None else f'"{asked.before}" → '
    place = f"{asked.position.file}:{asked.position.line}"
    shell.terminal.answer(field(f'{place}: {job}: runToken {before}"{asked.token}"'))
    if asked.decision.kind is ActionKind.HOLD:
        shell.terminal.remark(field(f"As it is recorded now, an apply holds it: {asked.decision.reason}"))
    else:
        shell.terminal.remark("Nothing was sent. Review it, commit it, then: reconciler apply")
    return ExitCode.DONE
