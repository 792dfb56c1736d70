"""The report on a command line with an error."""

import os
import sys
from collections.abc import Sequence

import click

from reconciler.cli.advice import variable_of
from reconciler.cli.shell import open_shell
from reconciler.model.errors import ExitCode, Usage
from reconciler.usecases.place import Place
from reconciler.views import text
from reconciler.views.answers import FailureAnswer
from reconciler.views.formats import find


def report_usage(fault: click.UsageError, root: click.Group) -> ExitCode:
    """Print the error to stderr, and also to stdout if the format can show errors. Returns the exit code.

    For a command that needs arguments and was given none, its help is printed too, and comes first. `root` is the group
    of all commands.
    """
    command = fault.ctx.command_path if fault.ctx else _command_in(sys.argv[1:], root)
    is_of_a_value = isinstance(fault, click.BadParameter) and not isinstance(fault, click.MissingParameter)
    if isinstance(fault, click.BadParameter) and fault.ctx and fault.param:
        fault.param_hint = variable_of(fault.ctx, fault.param) or fault.param_hint
    if fault.ctx is not None and sys.argv[1:] == command.split()[1:] and not is_of_a_value:
        click.echo(fault.ctx.get_help())
        if not isinstance(fault, click.MissingParameter):
            return ExitCode.USAGE
    error = Usage(fault.format_message(), f"{command} --help shows how it is used")
    verb = command.partition(" ")[2]
    shell = open_shell(
        Place(), no_color="--no-color" in sys.argv, format_name=_format_name(command), verbose=False, verb=verb
    )
    param = fault.param if isinstance(fault, click.BadParameter) else None
    is_of_the_format = param is not None and param.name == "format_name"
    if shell.format.can_show(FailureAnswer) and not is_of_the_format:
        shell.show(FailureAnswer(verb.capitalize(), error))
    shell.terminal.remark(text.error(error))
    return ExitCode.USAGE


def _format_name(command: str) -> str:
    """The format that the command line names, else the environment; "text" if there is no such format."""
    name = os.environ.get("_".join([*command.upper().split(), "FORMAT"]), "text")
    for word, following in zip(sys.argv, [*sys.argv[1:], ""], strict=True):
        if word == "--format" or word.startswith("--format="):
            name = following if word == "--format" else word.partition("=")[2]
    return "text" if find(name) is None else name


def _command_in(words: Sequence[str], root: click.Group) -> str:
    """The command at the beginning of the words, with the name of the program: "reconciler state show"."""
    ctx = click.Context(root, info_name="reconciler")
    found, group = ["reconciler"], root
    for word in words:
        inner = None if word.startswith("-") else group.get_command(ctx, word)
        if inner is None:
            break
        found.append(word)
        if not isinstance(inner, click.Group):
            break
        group = inner
    return " ".join(found)
