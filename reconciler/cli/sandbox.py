"""`reconciler sandbox`: the embedded server by itself."""

import errno
import os
import signal
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import click

from reconciler.cli import completing
from reconciler.cli.interrupts import heeded
from reconciler.cli.options import SECONDS
from reconciler.model.errors import ExitCode, ReconcilerError

if TYPE_CHECKING:
    from reconciler.engines.sandbox.server import SandboxServer

_CREDENTIALS = {"BYTENITE_ACCESS_TOKEN": "sandbox-token", "BYTENITE_API_KEY": "sandbox-key"}
"""The variables for the credentials that the server accepts, and the credentials for variables that are not set."""


def _takes(env: Mapping[str, str]) -> str:
    """A sentence about the credentials that the server accepts. The value of a variable is not shown."""
    token, key = (
        f"of {name}" if env.get(name, "").strip() else f"{word} ({name}={word})" for name, word in _CREDENTIALS.items()
    )
    return f"It takes the access token {token}, or the API key {key}"


class _Sandbox(click.Command):
    """A command whose help ends with the grammar of --fault."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        from textwrap import fill, indent

        from reconciler.engines.sandbox import faults

        kinds = ", ".join(kind for kind in faults.Kind if kind is not faults.Kind.STATUS)
        words = fill(kinds, 96, initial_indent=" " * 36, subsequent_indent=" " * 7).strip()
        _, _, grammar = (faults.__doc__ or "").partition("\n\n")
        grammar = grammar.replace("a word of `Kind`", words).replace("`", "")
        formatter.write(f"\nRules:\n{indent(grammar.strip(), '  ')}\n")


_HELP = """\
Run the embedded server by itself.

It simulates: no job really runs.

It takes the token in BYTENITE_ACCESS_TOKEN and the key in BYTENITE_API_KEY, else the words
sandbox-token and sandbox-key.

\b
--fault RULE, for example:
  run:503               a 503 to every run, which is not done
  run:503:after         a 503 to every run, which is done
  run:reset:times=2     a reset connection for the first two runs
  any:slow:seconds=5    every answer five seconds late
  delete:429:retry-after=3:job=nightly-*
"""


@click.command(cls=_Sandbox, help=_HELP)
@click.option("--port", type=click.IntRange(0, 65535), default=0, metavar="N", help="Port on 127.0.0.1 [a free one].")
@click.option(
    "--db",
    metavar="FILE",
    shell_complete=completing.paths,
    default="sandbox.db",
    show_default=True,
    help="The SQLite file that its jobs are kept in.",
)
@click.option("--latency", type=SECONDS, default=0.0, metavar="SECONDS", help="Delay of every answer.")
@click.option("--job-seconds", type=SECONDS, default=30.0, show_default=True, metavar="SECONDS",
              help="How long a job is active.")  # fmt: skip
@click.option(
    "--fault", "faults", multiple=True, metavar="RULE", help="A fault to simulate; may be given several times."
)
@click.option("--create-missing", is_flag=True, help="Create a draft for an id that is not known.")
@click.option("--no-color", is_flag=True, hidden=True)
def sandbox(
    port: int,
    db: str,
    latency: float,
    job_seconds: float,
    faults: tuple[str, ...],
    create_missing: bool,
    no_color: bool,
) -> ExitCode:
    from reconciler.engines.sandbox.faults import parse_fault
    from reconciler.engines.sandbox.server import SandboxServer
    from reconciler.manifest.kinds import FileKind, kind_at

    try:
        rules = [parse_fault(fault) for fault in faults]
    except ValueError as fault:
        raise click.UsageError(f"--fault: {fault}") from fault

    token, key = (os.environ.get(variable, "").strip() or word for variable, word in _CREDENTIALS.items())

    def server() -> SandboxServer:
        if (kind := kind_at(db)) not in (None, FileKind.DATABASE):
            raise ReconcilerError(
                f"--db {db} is {kind}, not a database", "name a file that is not there yet, such as sandbox.db"
            )
        return SandboxServer(
            db,
            port=port,
            access_token=token,
            api_key=key,
            latency_s=latency,
            job_seconds=job_seconds,
            faults=rules,
            create_missing=create_missing,
        )

    return _serve(server, port, no_color=no_color)


def _serve(make_server: "Callable[[], SandboxServer]", port: int, *, no_color: bool) -> ExitCode:
    """Serve until a signal ends the server. Prints the error of a server that can't start."""
    from reconciler.host.terminal import Terminal
    from reconciler.views import text

    terminal = Terminal(sys.stdout, sys.stderr, os.environ, no_color=no_color)
    try:
        server = make_server()
        for number in heeded(signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            # An exception from a handler is lost if it is raised within a callback of the garbage collector.
            signal.signal(number, lambda *_: server.ask_to_stop())
        terminal.answer(f"{server.banner}\n{_takes(os.environ)}")
        server.serve_forever()
    except KeyboardInterrupt:
        return ExitCode.DONE
    except ReconcilerError as fault:
        cause = fault.__cause__
        if isinstance(cause, OSError) and cause.errno == errno.EADDRINUSE:
            fault = ReconcilerError(
                f"can't listen on 127.0.0.1:{port}: the port is taken", "give another --port, or 0 for a free one"
            )
        terminal.remark(text.error(fault))
        return fault.exit_code
    except OSError as fault:
        terminal.remark(f"error: the server can't start: {fault.strerror or fault}")
        return ExitCode.ERROR
    return ExitCode.DONE
