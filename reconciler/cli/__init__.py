"""The command line: each command parses its words, calls a use case, prints the answer and exits."""

import importlib
import keyword
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn, cast

import click

from reconciler import __version__
from reconciler.cli.advice import variable_of
from reconciler.cli.groups import Suggesting
from reconciler.errors import ExitCode, Usage

_EXIT_CODES = """\b
Exit codes:
  0    done, or nothing to do
  1    an error before anything was done
  2    changes are pending (plan --detailed-exitcode), or jobs are not as recorded (drift)
  3    some actions failed; state holds the rest
  4    refused: a guard, a hold, a stale plan, a lock, no --yes
  5    some call is in doubt
  64   wrong usage
  130  interrupted (143 by SIGTERM or SIGHUP); state holds what was done"""

_COMMANDS = (
    "apply",
    "completion",
    "diff",
    "drift",
    "fmt",
    "history",
    "import",
    "init",
    "plan",
    "rerun",
    "resolve",
    "sandbox",
    "schema",
    "state",
    "status",
    "validate",
)
"""Each command is in the module of its name. Only the module of the command that was asked for is imported."""


def main() -> NoReturn:
    """Run the command line and exit with its code."""
    threading.excepthook = lambda ended: _fail(ended.exc_value)
    try:
        code = cli.main(prog_name="reconciler", standalone_mode=False)
    except click.UsageError as fault:
        code = _wrong_usage(fault)
    except click.ClickException as fault:
        fault.show()
        code = ExitCode.ERROR
    except (click.Abort, KeyboardInterrupt):
        code = ExitCode.INTERRUPTED
    except SystemExit:
        raise
    except OSError as fault:
        # A command reports its own errors. This is about text that no command prints, such as a help text.
        sys.stderr.write(f"error: stdout can't be written: {fault.strerror}\n")
        code = ExitCode.ERROR
    except BaseException as fault:  # noqa: BLE001  its message may hold anything
        code = _fail(fault)
    sys.exit(int(code or 0))


def _fail(fault: BaseException | None) -> ExitCode:
    """Report that reconciler itself failed, outside of any command or in a thread."""
    if fault is not None:
        from reconciler.cli.failure import HINT, traceback_of
        from reconciler.failure import said_of
        from reconciler.text import printable

        rest = traceback_of(fault) if "--verbose" in sys.argv else f"  {HINT}"
        sys.stderr.write(printable(f"error: {said_of(fault)}\n{rest}\n", color=False))
    return ExitCode.ERROR


def _wrong_usage(fault: click.UsageError) -> ExitCode:
    """Report wrong words on the command line. A command that needs arguments and was given none prints its help."""
    from reconciler.cli.shell import open_shell
    from reconciler.views import text
    from reconciler.views.answers import FailureAnswer
    from reconciler.wiring import Place

    command = fault.ctx.command_path if fault.ctx else _command_in(sys.argv[1:])
    is_of_a_value = isinstance(fault, click.BadParameter) and not isinstance(fault, click.MissingParameter)
    if isinstance(fault, click.BadParameter) and fault.ctx and fault.param:
        fault.param_hint = variable_of(fault.ctx, fault.param) or fault.param_hint
    if fault.ctx is not None and sys.argv[1:] == command.split()[1:] and not is_of_a_value:
        click.echo(fault.ctx.get_help())
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
    """The format that the words on the command line ask for, or the environment, though the words are wrong."""
    from reconciler.views.formats import find

    name = os.environ.get("_".join([*command.upper().split(), "FORMAT"]), "text")
    for word, following in zip(sys.argv, [*sys.argv[1:], ""], strict=True):
        if word == "--format" or word.startswith("--format="):
            name = following if word == "--format" else word.partition("=")[2]
    return "text" if find(name) is None else name


def _command_in(words: Sequence[str]) -> str:
    """The command that the words of a command line begin with, as its help calls it."""
    ctx = click.Context(cli, info_name="reconciler")
    found, group = ["reconciler"], cast("click.Group", cli)
    for word in words:
        inner = None if word.startswith("-") else group.get_command(ctx, word)
        if inner is None:
            break
        found.append(word)
        if not isinstance(inner, click.Group):
            break
        group = inner
    return " ".join(found)


class _Words(click.types.StringParamType):
    """Text. An environment variable holds several texts as a shell does: white space divides them, quotes hold."""

    def split_envvar_value(self, rv: str) -> list[str]:
        import shlex

        try:
            return shlex.split(rv)
        except ValueError as fault:
            raise click.BadParameter(f"{rv!r}: {fault}") from fault


_SHARED = ("STATE", "ENDPOINT", "PATHS")
"""The variables of this prefix that hold for all commands."""

_OF_CI = ("ARGS", "COMMAND", "PUSH_TOKEN", "PYTHON", "REF", "SOURCE", "TOKEN")
"""Those that the GitHub Action and the GitLab component give to their own steps."""

_PREFIX = "RECONCILER_"


def _warn_of_unknown_variables(group: "_Commands", ctx: click.Context) -> None:
    """Warn of each variable that looks like one of this tool's, and that no command reads."""
    from reconciler.terminal import Terminal

    quick = {f"{_PREFIX}{name}" for name in (*_SHARED, *_OF_CI)}
    unknown = sorted(name for name in os.environ if name.startswith(_PREFIX) and name not in quick)
    if not any(os.environ[name] for name in unknown):
        return
    from reconciler.suggestions import Suggestions

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
    """The environment variables of all options of all commands below a group."""
    for name in group.list_commands(ctx):
        command = group.get_command(ctx, name)
        if isinstance(command, click.Group):
            yield from _variables_of(command, ctx)
        for parameter in command.params if command else ():
            yield from [parameter.envvar] if isinstance(parameter.envvar, str) else parameter.envvar or ()


class _Commands(Suggesting):
    def invoke(self, ctx: click.Context) -> Any:
        _warn_of_unknown_variables(self, ctx)
        return super().invoke(ctx)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        name = f"{cmd_name}_" if keyword.iskeyword(cmd_name) else cmd_name
        command: click.Command = getattr(importlib.import_module(f"reconciler.cli.{name}"), name)
        _read_variables(command, f"{_PREFIX}{cmd_name.upper()}")
        return command


def _read_variables(command: click.Command, prefix: str) -> None:
    """Give each option of a command its environment variable, `RECONCILER_<COMMAND>_<OPTION>`.

    --state, --endpoint and the paths also have a variable for all commands. An empty variable counts as not set. Where
    an option may be repeated, white space divides the values in its variable, and quotes hold one value together.
    """
    for parameter in command.params:
        if isinstance(parameter.type, click.types.StringParamType):
            parameter.type = _Words()
        if isinstance(parameter, click.Option):
            option = max(parameter.opts, key=len)
            name = option.lstrip("-").upper().replace("-", "_")
            shared = [f"{_PREFIX}{name}"] if name in _SHARED else []
            parameter.envvar = [f"{prefix}_{name}", *shared]
        elif parameter.name == "paths":
            parameter.envvar = f"{_PREFIX}PATHS"
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
            _read_variables(inner, f"{prefix}_{name.upper()}")


@click.command(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=_EXIT_CODES,
)
@click.version_option(__version__, prog_name="reconciler")
def cli() -> None:
    """Declare in YAML what each batch job should be, see the plan, apply it.

    PATH is a manifest file or a folder of them; without one, jobs.yaml, then jobs/.

    RECONCILER_STATE, RECONCILER_ENDPOINT and RECONCILER_PATHS stand for --state, --endpoint and PATH of all commands,
    RECONCILER_<COMMAND>_<OPTION> for any option of one, such as RECONCILER_APPLY_LOCK_TIMEOUT.
    """
