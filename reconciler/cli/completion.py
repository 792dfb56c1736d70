"""`reconciler completion`."""

import click

from reconciler.model.errors import ExitCode


@click.command()
@click.argument("shell_name", metavar="bash|zsh|fish", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell_name: str) -> ExitCode:
    """Print a shell's completion script.

    To use it: eval "$(reconciler completion bash)"
    """
    from click.shell_completion import get_completion_class

    found = get_completion_class(shell_name)
    assert found is not None
    root = click.get_current_context().find_root().command
    click.echo(found(root, {}, "reconciler", "_RECONCILER_COMPLETE").source())
    return ExitCode.DONE
