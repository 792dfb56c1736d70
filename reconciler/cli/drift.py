"""`reconciler drift`."""

import click

from reconciler.cli.shell import Shell, options, picking
from reconciler.errors import ExitCode


@click.command()
@click.option(
    "--parallelism",
    type=click.IntRange(1, 256),
    default=10,
    show_default=True,
    metavar="N",
    help="How many reads to have under way at a time.",
)
@picking
@options("json", "markdown", "html", "github")
def drift(shell: Shell, parallelism: int, targets: tuple[str, ...], excludes: tuple[str, ...]) -> ExitCode:
    """Compare what the service says of the jobs with what is recorded.

    Changes nothing. Exits 2 where any differs and 0 where none does; 3 where some can't be read and no
    other differs, 5 where some call is in doubt and that is all.
    """
    from reconciler import app
    from reconciler.planning import Selection
    from reconciler.render.drift import document, text

    found, manifest = app.drift(shell.place, shell.world, Selection(targets, excludes), parallelism)
    match shell.form:
        case "text":
            shell.terminal.answer(text(found, whole=shell.verbose))
        case "json":
            shell.document(document(found))
        case _:
            from reconciler.cli.forms import show_review

            show_review(shell, app.review_of_drift(found, manifest, shell.place))
    return found.exit_code
