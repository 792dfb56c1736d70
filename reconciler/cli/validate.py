"""`reconciler validate`."""

import click

from reconciler.cli.options import options
from reconciler.cli.shell import Shell
from reconciler.model.errors import ExitCode, ManifestError
from reconciler.views.answers import ValidationAnswer
from reconciler.views.formats import Channel


@click.command()
@options(ValidationAnswer, unused=("--state",))
def validate(shell: Shell) -> ExitCode:
    """Check the manifest.

    Shows all faults at once, each with its place. Reads only the manifest.
    """
    from reconciler.usecases.validate import validate

    try:
        manifest, files = validate(shell.workspace)
    except ManifestError as fault:
        shell.show(ValidationAnswer(fault))
        if shell.format.channel is not Channel.DOCUMENT:  # a document includes the number of faults
            from reconciler.views import text

            shell.terminal.remark(text.error(fault))
        return ExitCode.ERROR
    shell.show(ValidationAnswer(None, len(manifest.jobs), files))
    return ExitCode.DONE
