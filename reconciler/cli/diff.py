"""`reconciler diff`."""

import click

from reconciler.cli.shell import Shell, options
from reconciler.errors import ExitCode


@click.command()
@click.argument("before", metavar="REV1")
@click.argument("after", metavar="REV2")
@options("json", "markdown")
def diff(shell: Shell, before: str, after: str) -> ExitCode:
    """Compare the manifests of two revisions.

    Shows the plan that an apply of the manifest at REV2 has where the manifest at REV1 was applied. Reads git
    alone: neither the state nor the service.
    """
    from reconciler import audit

    compared = audit.diff(shell.place, before, after)
    match shell.form:
        case "text":
            from reconciler.views import text

            shell.terminal.answer(text.plan(compared.plan, calls=shell.verbose, at=after))
        case "json":
            from reconciler.plan import plan_to_json

            shell.document(plan_to_json(compared.plan))
        case _:
            from reconciler.cli.forms import show_review

            show_review(shell, audit.review_diff(compared, shell.place))
    if compared.refusal is not None:
        from reconciler.views import text

        shell.terminal.remark(text.error(compared.refusal))
        return compared.refusal.exit_code
    return ExitCode.DONE
