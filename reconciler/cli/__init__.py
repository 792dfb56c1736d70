"""The command line. The module of each command parses its words, calls a use case, prints the answer and exits."""

import importlib
import keyword
import sys
import threading
from typing import Any, NoReturn, cast

import click

from reconciler import __version__
from reconciler.cli.groups import Suggesting
from reconciler.cli.variables import read_variables, warn_of_unknown_variables
from reconciler.model.errors import ExitCode

_EXIT_CODES = """\b
Exit codes:
  0    done, nothing to do, or only waiting for jobs that have yet to complete
  1    an error before anything was done, or a fault that a --check found
  2    changes are pending (plan --detailed-exitcode), jobs are not as recorded (drift), or go on (wait --timeout)
  3    some actions failed; state holds the rest; a job could not be read (drift, import --all); a run failed (wait)
  4    refused: a guard, a hold, a stale plan, a lock, no --yes
  5    some call is in doubt
  64   wrong usage
  130  interrupted by Ctrl-C; state holds what was done
  143  the same by SIGTERM or SIGHUP"""

_COMMANDS = (
    "apply",
    "completion",
    "diff",
    "drift",
    "fmt",
    "history",
    "import",
    "init",
    "logs",
    "plan",
    "rerun",
    "resolve",
    "runs",
    "sandbox",
    "schema",
    "state",
    "status",
    "validate",
    "wait",
)
"""The names of the commands, which are the names of their modules. A command imports no other command's module."""


def main() -> NoReturn:
    """Run the command line and exit with its code."""
    threading.excepthook = lambda ended: _fail(ended.exc_value)
    try:
        code = cli.main(prog_name="reconciler", standalone_mode=False)
    except click.UsageError as fault:
        from reconciler.cli.usage import report_usage

        code = report_usage(fault, cast("click.Group", cli))
    except click.ClickException as fault:
        fault.show()
        code = ExitCode.ERROR
    except (click.Abort, KeyboardInterrupt):
        code = ExitCode.INTERRUPTED
    except SystemExit:
        raise
    except OSError as fault:
        # A command reports its own errors. This error is about a text that click prints, such as a help text.
        from reconciler.host.terminal import drop_rest

        drop_rest(sys.stdout)
        sys.stderr.write(f"error: stdout can't be written: {fault.strerror}\n")
        code = ExitCode.ERROR
    except BaseException as fault:  # noqa: BLE001  its message may hold anything
        code = _fail(fault)
    sys.exit(int(code or 0))


def _fail(fault: BaseException | None) -> ExitCode:
    """Report that reconciler itself failed, outside of any command or in a thread."""
    if fault is not None:
        from reconciler.cli.failure import HINT, traceback_of
        from reconciler.host.crash_report import error_line
        from reconciler.host.safe_text import printable

        rest = traceback_of(fault) if "--verbose" in sys.argv else f"  {HINT}"
        sys.stderr.write(printable(f"error: {error_line(fault)}\n{rest}\n", color=False))
    return ExitCode.ERROR


class _Commands(Suggesting):
    def invoke(self, ctx: click.Context) -> Any:
        warn_of_unknown_variables(self, ctx)
        return super().invoke(ctx)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        name = f"{cmd_name}_" if keyword.iskeyword(cmd_name) else cmd_name
        command: click.Command = getattr(importlib.import_module(f"reconciler.cli.{name}"), name)
        read_variables(command, cmd_name)
        return command


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
