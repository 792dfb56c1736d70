"""`reconciler diff`."""

import click

from reconciler.cli.options import options
from reconciler.cli.shell import Shell
from reconciler.model.errors import ExitCode
from reconciler.views.answers import DiffAnswer


@click.command()
@click.argument("before", metavar="REV1")
@click.argument("after", metavar="REV2")
@options(DiffAnswer, unused=("--state",))
def diff(shell: Shell, before: str, after: str) -> ExitCode:
    """Compare the manifests of two revisions.

    Shows what an apply of the manifest at REV2 would do after an apply of the manifest at REV1. Reads only git,
    and neither the state nor the service.
    """
    from reconciler.usecases.diff import diff, review

    compared = diff(shell.place, before, after)
    shell.show(DiffAnswer(compared.plan, after, lambda with_history=False: review(compared)))
    if compared.refusal is not None:
        from reconciler.views import text

        shell.terminal.remark(text.error(compared.refusal))
        return compared.refusal.exit_code
    return ExitCode.DONE
