"""`reconciler init`."""

import os
import sys

import click

from reconciler.cli import completing
from reconciler.model.errors import ExitCode, ReconcilerError


@click.command()
@click.argument("path", default="jobs.yaml", shell_complete=completing.paths)
def init(path: str) -> ExitCode:
    """Write a first manifest.

    PATH is a file that ends in .yaml or .yml, or a folder, which gets a jobs.yaml; a folder that is not there is made.
    The manifest validates, and its jobs run as processes of this machine. Nothing is overwritten.

    Two files for git are written where the state will be. The .gitattributes tells git how to merge histories, and
    the .gitignore names the files that are not to be committed.
    """
    from reconciler.host.terminal import Terminal
    from reconciler.usecases.init import plan_command, write_first_manifest
    from reconciler.views import text

    terminal = Terminal(sys.stdout, sys.stderr, os.environ, no_color=False)
    try:
        written, remarks = write_first_manifest(path)
    except ReconcilerError as fault:
        terminal.remark(text.error(fault))
        return fault.exit_code
    for remark in remarks:
        terminal.remark(remark)
    listed = f"{', '.join(written[:-1])} and {written[-1]}" if len(written) > 1 else written[0]
    terminal.answer(f"Wrote {listed}. Next: {plan_command(path)}")
    return ExitCode.DONE
