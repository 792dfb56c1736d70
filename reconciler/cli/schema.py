"""`reconciler schema`."""

import click

from reconciler.errors import ExitCode


@click.command()
@click.argument("name", type=click.Choice(["manifest", "plan", "outcome", "drift"]), default="manifest")
def schema(name: str) -> ExitCode:
    """Print a JSON Schema: manifest, plan, outcome or drift."""
    from reconciler.schemas import schema_text

    click.echo(schema_text(f"{name}.schema.json"), nl=False)
    return ExitCode.DONE
