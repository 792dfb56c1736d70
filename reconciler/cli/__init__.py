"""The command line: parse, call, print, exit."""

import importlib
import keyword
import os
import sys
import threading
from typing import NoReturn

import click

from reconciler import __version__
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
"""Each is in the module of its name; a command does not pay for the others' options."""


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
        # The commands see to all others; what is printed without one, such as a help text, comes here.
        sys.stderr.write(f"error: stdout can't be written: {fault.strerror}\n")
        code = ExitCode.ERROR
    except BaseException as fault:  # noqa: BLE001  its own words may hold anything
        code = _fail(fault)
    sys.exit(int(code or 0))


def _fail(fault: BaseException | None) -> ExitCode:
    """Say that reconciler itself failed, outside of any command or in a thread."""
    if fault is not None:
        from reconciler.cli.failure import HINT, traceback_of
        from reconciler.failure import said_of
        from reconciler.text import printable

        rest = traceback_of(fault) if "--verbose" in sys.argv else f"  {HINT}"
        sys.stderr.write(printable(f"error: {said_of(fault)}\n{rest}\n", color=False))
    return ExitCode.ERROR


def _wrong_usage(fault: click.UsageError) -> ExitCode:
    from reconciler.terminal import Terminal
    from reconciler.views import text

    command = fault.ctx.command_path if fault.ctx else "reconciler"
    is_of_a_variable = isinstance(fault, click.BadParameter) and not isinstance(fault, click.MissingParameter)
    if fault.ctx is not None and sys.argv[1:] == command.split()[1:] and not is_of_a_variable:
        # A command that needs arguments, and was given none: its help says which.
        click.echo(fault.ctx.get_help())
        return ExitCode.USAGE
    error = Usage(fault.format_message(), f"{command} --help shows how it is used")
    if "json" in sys.argv or "--format=json" in sys.argv:
        from reconciler.views import json

        sys.stdout.write(json.dumps(json.error(error, ())))
    Terminal(sys.stdout, sys.stderr, os.environ, no_color="--no-color" in sys.argv).remark(text.error(error))
    return ExitCode.USAGE


class _Words(click.types.StringParamType):
    """Text, of which a variable holds several as a shell has them: white space divides, quotes hold together."""

    def split_envvar_value(self, rv: str) -> list[str]:
        import shlex

        try:
            return shlex.split(rv)
        except ValueError as fault:
            raise click.BadParameter(f"{rv!r}, from the environment: {fault}") from fault


class _Commands(Suggesting):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        name = f"{cmd_name}_" if keyword.iskeyword(cmd_name) else cmd_name
        command: click.Command = getattr(importlib.import_module(f"reconciler.cli.{name}"), name)
        _read_variables(command, f"RECONCILER_{cmd_name.upper()}")
        return command


def _read_variables(command: click.Command, prefix: str) -> None:
    """Give each option of a command its environment variable, `RECONCILER_<COMMAND>_<OPTION>`.

    --state, --endpoint and the paths have one beside it that holds for all commands. An empty variable counts for
    nothing; where an option may be repeated, white space divides its values, and quotes hold one together.
    """
    for parameter in command.params:
        if isinstance(parameter.type, click.types.StringParamType):
            parameter.type = _Words()
        if isinstance(parameter, click.Option):
            option = max(parameter.opts, key=len)
            name = option.lstrip("-").upper().replace("-", "_")
            shared = [f"RECONCILER_{name}"] if name in ("STATE", "ENDPOINT") else []
            parameter.envvar = [f"{prefix}_{name}", *shared]
        elif parameter.name == "paths":
            parameter.envvar = "RECONCILER_PATHS"
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
