"""`reconciler validate`."""

from typing import TYPE_CHECKING

import click

from reconciler.cli.shell import Shell, options
from reconciler.errors import ExitCode, ManifestError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reconciler.diagnostics import Diagnostic


@click.command()
@options("json", "github", "junit", "sarif")
def validate(shell: Shell) -> ExitCode:
    """Check the manifest.

    Shows all faults at once, each with its place. Reads nothing else.
    """
    from reconciler import planning
    from reconciler.views import text

    try:
        manifest, files = planning.validate(shell.place, shell.world)
    except ManifestError as fault:
        if shell.form == "text":
            shell.terminal.answer(text.diagnostics(fault.diagnostics))
        else:
            _document(shell, fault.diagnostics, 0, 0, fault.more)
        if shell.form in ("text", "github"):
            shell.terminal.remark(text.error(fault))
        return ExitCode.ERROR
    if shell.form == "text":
        jobs = "1 job" if len(manifest.jobs) == 1 else f"{len(manifest.jobs)} jobs"
        shell.terminal.answer(f"Valid: {jobs} in {'1 file' if files == 1 else f'{files} files'}.")
    else:
        _document(shell, (), len(manifest.jobs), files)
    return ExitCode.DONE


def _document(shell: Shell, found: "Sequence[Diagnostic]", jobs: int, files: int, more: int = 0) -> None:
    """Print the check's result for a machine.

    `jobs` and `files` are those of a manifest without a fault, `more` counts the faults that are not among `found`.
    """
    match shell.form:
        case "json":
            from reconciler.views import json

            result = {"valid": not found, "diagnostics": json.diagnostics(found), **json.left_out(more)}
            shell.document(result if found else {**result, "jobs": jobs, "files": files})
        case "junit":
            from reconciler.views import junit

            shell.terminal.document(junit.report(found, jobs=jobs, more=more))
        case "sarif":
            from reconciler.views import sarif
            from reconciler.wiring import repository_path

            shell.document(sarif.report(found, lambda file: repository_path(file, shell.world.env), more=more))
        case "github":
            from reconciler.cli.forms import annotate
            from reconciler.views import github

            annotate(shell, github.diagnostics(found))
