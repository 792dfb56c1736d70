"""`reconciler schema`."""

import os
import sys

import click

from reconciler.cli import completing
from reconciler.model.errors import ExitCode, ReconcilerError

SCHEMAS = (
    "manifest",
    "plan",
    "outcome",
    "drift",
    "status",
    "runs",
    "wait",
    "logs",
    "state",
    "history",
    "history-check",
)


@click.command()
@click.argument("name", type=click.Choice(SCHEMAS), default="manifest")
@click.option(
    "--engine",
    metavar="NAME",
    shell_complete=completing.engines,
    help="The schema of manifests for this engine alone. Default: for all engines that come with reconciler.",
)
def schema(name: str, engine: str | None) -> ExitCode:
    """Print a JSON Schema.

    The schema of manifests, of state files, or of what a command prints with --format json.
    """
    if engine is None:
        from reconciler.manifest.schema import schema_text

        click.echo(schema_text(f"{name}.schema.json"), nl=False)
        return ExitCode.DONE
    if name != "manifest":
        raise click.UsageError(f"--engine is for the schema of manifests: leave out one of --engine and {name}")
    from reconciler.usecases.schema import manifest_schema

    try:
        click.echo(manifest_schema(engine), nl=False)
    except ReconcilerError as fault:
        from reconciler.host.terminal import Terminal
        from reconciler.views import text

        Terminal(sys.stdout, sys.stderr, os.environ, no_color=False).remark(text.error(fault))
        return fault.exit_code
    return ExitCode.DONE
