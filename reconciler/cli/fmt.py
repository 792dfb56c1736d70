"""`reconciler fmt`."""

import click

from reconciler.cli.options import options
from reconciler.cli.shell import Shell
from reconciler.model.errors import ExitCode


@click.command()
@click.option("--check", is_flag=True, help="Write nothing; exit 1 where a file is not in canonical form.")
@click.option("--diff", "with_diff", is_flag=True, help="Show what would change, and write nothing.")
@options(unused=("--state", "--endpoint"))
def fmt(shell: Shell, check: bool, with_diff: bool) -> ExitCode:
    """Lay out manifest files in the canonical form.

    Keeps comments, the order of the jobs and line ends. Checks that the manifest means the same as before. Prints
    the names of the files that change.
    """
    from reconciler.host.safe_text import field
    from reconciler.usecases.fmt import lay_out
    from reconciler.views import edits

    laid_out = lay_out(shell.workspace, write=not (check or with_diff))
    for file, before, after in laid_out.changed:
        shell.terminal.answer(field(file))
        if with_diff:
            shell.terminal.answer(edits.diff(file, before, after))
    for file in laid_out.with_crlf:
        shell.terminal.remark(f"{field(file)}: the lines end in CRLF, and are left so")
    if laid_out.faults is not None:
        raise laid_out.faults
    return ExitCode.ERROR if check and laid_out.changed else ExitCode.DONE
