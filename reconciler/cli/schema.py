"""`reconciler schema`."""

import click

from reconciler.model.errors import ExitCode

SCHEMAS = ("manifest", "plan", "outcome", "drift", "status", "state", "history", "history-check")


@click.command()
@click.argument("name", type=click.Choice(SCHEMAS), default="manifest")
def schema(name: str) -> ExitCode:
    """Print a JSON Schema.

    The schema of manifests, of state files, or of what a command prints with --format json.
    """
    from reconciler.manifest.schema import schema_text

    click.echo(schema_text(f"{name}.schema.json"), nl=False)
    return ExitCode.DONE
