"""`reconciler fmt`."""

import click

from reconciler.cli.shell import Shell, options
from reconciler.errors import ExitCode


@click.command()
@click.option("--check", is_flag=True, help="Write nothing; exit 1 where a file is not in canonical form.")
@click.option("--diff", "with_diff", is_flag=True, help="Show what changes, too; with --check, without writing it.")
@options()
def fmt(shell: Shell, check: bool, with_diff: bool) -> ExitCode:
    """Lay out manifest files in the one canonical form.

    Comments, and the order of the jobs, stay. What the manifest means does not change: that is checked. Prints
    the files that change.
    """
    from reconciler import authoring
    from reconciler.render import edits
    from reconciler.text import field

    changed, faults = authoring.lay_out(shell.place, write=not check)
    for file, before, after in changed:
        shell.terminal.answer(field(file))
        if with_diff:
            shell.terminal.answer(edits.diff(file, before, after))
    if faults is not None:
        raise faults
    return ExitCode.ERROR if check and changed else ExitCode.DONE
