"""Environment variables in place of options and paths."""

import os
import sys
from collections.abc import Iterator

import click

_SHARED = ("STATE", "ENDPOINT", "PATHS")
"""The variables for all commands, without the prefix."""

_OF_CI = ("ARGS", "COMMAND", "PUSH_TOKEN", "PYTHON", "REF", "SOURCE", "TOKEN")
"""The variables that the GitHub Action and the GitLab component set for their steps, without the prefix."""

_OF_RUNS = ("RUN",)
"""The variable that the engine `local` sets for the processes of a run, without the prefix."""

_PREFIX = "RECONCILER_"


class _Words(click.types.StringParamType):
    """A text. If an option is repeated, the texts in its variable are separated and quoted as in a shell."""

    def split_envvar_value(self, rv: str) -> list[str]:
        import shlex

        try:
            return shlex.split(rv)
        except ValueError as fault:
            raise click.BadParameter(f"{rv!r}: {fault}") from fault


def read_variables(command: click.Command, name: str) -> None:
    """Give each option of the command called `name` its environment variable, `RECONCILER_<COMMAND>_<OPTION>`.

    --state, --endpoint and the paths also have a variable for all commands. An empty variable counts as not set. The
    values of an option that may be repeated are separated and quoted in its variable as in a shell.
    """
    for parameter in command.params:
        if isinstance(parameter.type, click.types.StringParamType):
            parameter.type = _Words()
        if isinstance(parameter, click.Option):
            option = max(parameter.opts, key=len)
            word = option.lstrip("-").upper().replace("-", "_")
            shared = [f"{_PREFIX}{word}"] if word in _SHARED else []
            parameter.envvar = [f"{_PREFIX}{name.upper()}_{word}", *shared]
        elif parameter.name == "paths":
            parameter.envvar = f"{_PREFIX}PATHS"
    if isinstance(command, click.Group):
        for inner_name, inner in command.commands.items():
            read_variables(inner, f"{name}_{inner_name}")


def warn_of_unknown_variables(group: click.Group, ctx: click.Context) -> None:
    """Warn of each variable with the prefix and a value that no command reads."""
    from reconciler.host.terminal import Terminal

    quick = {f"{_PREFIX}{name}" for name in (*_SHARED, *_OF_CI, *_OF_RUNS)}
    unknown = sorted(name for name in os.environ if name.startswith(_PREFIX) and name not in quick)
    if not any(os.environ[name] for name in unknown):
        return
    from reconciler.model.suggestions import Suggestions

    known = sorted({name.removeprefix(_PREFIX) for name in _variables_of(group, ctx)} | {*_SHARED})
    terminal = Terminal(sys.stdout, sys.stderr, os.environ, no_color="--no-color" in sys.argv)
    suggestion = Suggestions()
    for name in unknown:
        word = name.removeprefix(_PREFIX)
        if os.environ[name] and word not in known:
            meant = suggestion.nearest(word, known)
            rest = f"did you mean {_PREFIX}{meant}?" if meant else f"the variables are {_PREFIX}<COMMAND>_<OPTION>"
            terminal.remark(f"warning: {name} has no effect: no command reads it; {rest}")


def _variables_of(group: click.Group, ctx: click.Context) -> Iterator[str]:
    """The environment variables of all options of all commands in a group."""
    for name in group.list_commands(ctx):
        command = group.get_command(ctx, name)
        if isinstance(command, click.Group):
            yield from _variables_of(command, ctx)
        for parameter in command.params if command else ():
            yield from [parameter.envvar] if isinstance(parameter.envvar, str) else parameter.envvar or ()
