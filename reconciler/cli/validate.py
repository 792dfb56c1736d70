"""`reconciler validate`."""

import click

from reconciler.cli.shell import Shell, options
from reconciler.errors import ExitCode, ManifestError


@click.command()
@options("json")
def validate(shell: Shell) -> ExitCode:
    """Check the manifest.

    Shows all faults at once, each with its place. Reads nothing else.
    """
    from reconciler import app
    from reconciler.render import json, text

    try:
        manifest, files = app.validate(shell.place)
    except ManifestError as fault:
        if shell.form == "json":
            shell.document({"valid": False, "diagnostics": json.diagnostics(fault.diagnostics)})
        else:
            shell.terminal.answer(text.diagnostics(fault.diagnostics))
            shell.terminal.remark(text.error(fault))
        return ExitCode.ERROR
    if shell.form == "json":
        shell.document({"valid": True, "diagnostics": [], "jobs": len(manifest.jobs), "files": files})
    else:
        jobs = "1 job" if len(manifest.jobs) == 1 else f"{len(manifest.jobs)} jobs"
        shell.terminal.answer(f"Valid: {jobs} in {'1 file' if files == 1 else f'{files} files'}.")
    return ExitCode.DONE
