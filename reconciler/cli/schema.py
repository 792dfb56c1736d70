"""`reconciler schema`."""

import click

from reconciler.cli import completing
from reconciler.model.errors import ExitCode, Usage

SCHEMAS = ("manifest", "plan", "outcome", "drift", "status", "state", "history", "history-check")


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
        raise Usage(f"--engine is about the schema of manifests, and {name} is another one", "leave one of the two out")
    from reconciler.usecases.schema import manifest_schema

    click.echo(manifest_schema(engine), nl=False)
    return ExitCode.DONE
