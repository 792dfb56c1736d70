"""What every command shares: its options, where it is about, how it speaks."""

import math
import os
import re
import shlex
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from reconciler.cli.advice import advise, variable_of
from reconciler.cli.failure import HINT, SECRETS, traceback_of
from reconciler.commands import Given, command, with_place
from reconciler.errors import ExitCode, ManifestError, ReconcilerError

if TYPE_CHECKING:
    from reconciler import wiring
    from reconciler.terminal import Terminal

_Command = TypeVar("_Command", bound=Callable[..., Any])


class Shell:
    """What every command shares: where it is about, and how it speaks."""

    def __init__(
        self,
        place: "wiring.Place",
        world: "wiring.World",
        terminal: "Terminal",
        form: str,
        verbose: bool,
        command: str,
        verb: str,
    ) -> None:
        """`command` is the name of the command's function, `verb` its words on the command line: "state show"."""
        self.place = place
        self.world = world
        self.terminal = terminal
        self.form = form
        self.verbose = verbose
        self.command = command
        self.verb = verb

    def is_about(self, place: "wiring.Place", state_url: str | None = None) -> None:
        """Take this for what the command is about; the commands that its messages name are about the same.

        `state_url` is what those commands name as --state, by default that of the place.
        """
        from reconciler.sources import DEFAULTS

        self.place = place
        by_default = next(filter(os.path.exists, DEFAULTS), "")
        paths = () if list(place.paths) == [by_default] else place.paths
        self.terminal.given = Given(paths, place.state_url if state_url is None else state_url, place.endpoint)

    def document(self, document: object, *, is_plan: bool = False) -> None:
        """Print a document for a machine. A plan holds the bare commands, so that it can be applied."""
        from reconciler.views import json

        self.terminal.document(json.dumps(document if is_plan else self._placed(document)))

    def text(self, text: str) -> str:
        """The text, each command in it with what was given of where this one is about."""
        return with_place(text, self.terminal.given)

    def _placed(self, document: object) -> object:
        match document:
            case str():
                return self.text(document)
            case dict():
                return {key: self._placed(value) for key, value in document.items()}
            case list() | tuple():
                return [self._placed(value) for value in document]
        return document


class Number(click.FloatRange):
    """A float within a range, and a number: `nan` and `inf` lie within any."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if not math.isfinite(click.FLOAT.convert(value, param, ctx)):
            self.fail(f"{value} is not a finite number", param, ctx)
        number: float = super().convert(value, param, ctx)
        return number


def _seconds_of(value: Any) -> str:
    """The seconds of a time that was written with a unit, such as 90s, 1h or 1h30m; "" for any other text."""
    if not isinstance(value, str) or not re.fullmatch(r"(?:[0-9]+(?:\.[0-9]+)?(?:ms|s|m|h|d))+", value):
        return ""
    units = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
    parts = re.findall(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)", value)
    return f"{sum(float(number) * units[unit] for number, unit in parts):g}"


class Seconds(Number):
    """A number of seconds; for a time with a unit the message says the number."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if seconds := _seconds_of(value):
            self.fail(f"{value!r} has a unit, and this is a number of seconds: give {seconds}", param, ctx)
        return super().convert(value, param, ctx)


SECONDS = Seconds(min=0, max=31_536_000)
"""A time in seconds, a year at most: no wait of the operating system takes much longer ones."""


def _paths_of_environment() -> tuple[str, ...]:
    """The paths that `RECONCILER_PATHS` names, for a command that tells paths from other words by itself."""
    words = os.environ.get("RECONCILER_PATHS", "")
    try:
        return tuple(shlex.split(words))
    except ValueError as fault:
        raise click.BadParameter(f"{words!r}: {fault}", param_hint="RECONCILER_PATHS") from fault


def is_given(parameter: str) -> bool:
    """Whether a parameter stands on the command line, rather than in the environment or nowhere."""
    return click.get_current_context().get_parameter_source(parameter) is click.core.ParameterSource.COMMANDLINE


def options(*forms: str, paths: bool = True) -> Callable[[_Command], _Command]:
    """The options of every command; with `forms`, also --format. The command gets a `Shell` first."""
    has_paths = paths

    def wrap(body: _Command) -> _Command:
        def run(
            state_url: str,
            endpoint: str,
            no_color: bool,
            verbose: bool,
            paths: tuple[str, ...] = (),
            form: str = "text",
            **rest: Any,
        ) -> ExitCode:
            from reconciler import wiring
            from reconciler.stop import Stop
            from reconciler.terminal import Terminal

            ctx = click.get_current_context()
            state_option, endpoint_option = (
                next(one for one in ctx.command.params if one.name == name) for name in ("state_url", "endpoint")
            )
            state_from = variable_of(ctx, state_option) or "--state"
            paths = paths if has_paths else _paths_of_environment()
            endpoint_from = variable_of(ctx, endpoint_option) or "--endpoint"
            place = wiring.Place(paths, state_url, endpoint, state_from, endpoint_from=endpoint_from)
            terminal = Terminal(sys.stdout, sys.stderr, os.environ, no_color=no_color)
            world = wiring.World(os.environ, Stop(), terminal.remark, SECRETS.add)
            shell = Shell(place, world, terminal, form, verbose, body.__name__, ctx.command_path.partition(" ")[2])
            shell.is_about(place)
            try:
                _refuse_lost_folder()
                if has_paths and not (paths or rest.get("saved")):
                    say_what_is_passed_over(shell)
                if verbose and has_paths:
                    _say_where(shell)
                code = ExitCode(body(shell, **rest))
                if terminal.trouble:
                    terminal.remark(f"error: {terminal.trouble}\n  what was done is recorded: {command('history')}")
                    return code or ExitCode.ERROR
                return code
            except ReconcilerError as fault:
                advise(shell, ctx, fault, rest)
                show_error(shell, fault)
                return fault.exit_code
            except (click.ClickException, click.exceptions.Exit, click.Abort, KeyboardInterrupt, SystemExit):
                raise
            except BaseException as fault:  # noqa: BLE001  its own words may hold anything
                from reconciler.failure import said_of

                show_error(shell, ReconcilerError(said_of(fault), HINT))
                if verbose:
                    terminal.remark(traceback_of(fault))
                return ExitCode.ERROR

        run.__name__, run.__doc__ = body.__name__, body.__doc__
        decorators = [
            click.option(
                "--state", "state_url", metavar="URL", default="", help="Where the state is kept [beside the manifest]."
            ),
            click.option(
                "--endpoint", metavar="URL", default="", help="The address of the service, in place of the manifest's."
            ),
            click.option("--no-color", is_flag=True, help="No colours (as with NO_COLOR)."),
            click.option("--verbose", is_flag=True, help="Show where manifest and state are, each job, and its calls."),
        ]
        if forms:
            decorators.append(
                click.option("--format", "form", type=click.Choice(["text", *forms]), default="text", show_default=True)
            )
        if paths:
            decorators.append(click.argument("paths", nargs=-1, metavar="[PATH]..."))
        wrapped: Any = run
        for decorator in decorators:
            wrapped = decorator(wrapped)
        # Click reads this list from its end: what is the command's own comes first in its help.
        wrapped.__click_params__ += getattr(body, "__click_params__", [])
        return wrapped  # type: ignore[no-any-return]

    return wrap


def _refuse_lost_folder() -> None:
    """Raise `ReconcilerError` where the working directory was removed: nothing can be told relative to it."""
    try:
        os.getcwd()
    except OSError as fault:
        raise ReconcilerError("the working directory is gone", "go to one that is there: cd FOLDER") from fault


def say_what_is_passed_over(shell: Shell) -> None:
    """Remark that a second manifest lies where no path was given, and is not read."""
    from reconciler.sources import DEFAULTS, passed_over

    if other := passed_over("."):
        shell.terminal.remark(
            f"warning: {DEFAULTS[0]} is read, and {other}/ beside it is not: name the paths that are meant"
        )


def _say_where(shell: Shell) -> None:
    """Remark which manifest and which state a command is about, as far as that can be told without a fault."""
    from contextlib import suppress

    from reconciler import wiring
    from reconciler.planning import at_home

    manifest = ", ".join(wiring.manifest_paths(shell.place))
    where = f"manifest: {manifest}"
    with suppress(ReconcilerError):  # the command says so itself, where it needs the state
        where += f"; state: {wiring.state_name(at_home(shell.place, shell.world))}"
    shell.terminal.remark(where)


def selection(body: _Command) -> _Command:
    """--target, --exclude and --prune."""
    prune = click.option("--prune", is_flag=True, help="Treat recorded jobs that are no longer declared as absent.")
    return picking(prune(body))


def picking(body: _Command) -> _Command:
    """--target and --exclude."""
    for decorator in (
        click.option("--exclude", "excludes", multiple=True, metavar="GLOB", help="Leave out jobs whose names match."),
        click.option("--target", "targets", multiple=True, metavar="GLOB", help="Only jobs whose names match."),
    ):
        body = decorator(body)
    return body


def _allowances(ctx: click.Context, param: click.Parameter, given: tuple[str, ...]) -> dict[str, int]:
    found: dict[str, int] = {}
    for text in given:
        kind, _, number = text.partition("=")
        if kind not in ("run", "abort", "restart", "delete") or not re.fullmatch("[0-9]{1,9}", number):
            raise click.BadParameter(f"{text!r} is not run=N, abort=N, restart=N or delete=N", ctx, param)
        found[kind] = max(int(number), found.get(kind, 0))
    return found


allow = click.option(
    "--allow",
    "allowed",
    multiple=True,
    callback=_allowances,
    metavar="KIND=N",
    help="Let so many go past a guard, this once: run=N, abort=N, restart=N or delete=N.",
)

lock_timeout = click.option(
    "--lock-timeout",
    type=SECONDS,
    default=0.0,
    metavar="SECONDS",
    help="How long to wait for the lock [0].",
)


def show_error(shell: Shell, fault: ReconcilerError) -> None:
    """Print an error: to stderr, and to stdout where that holds a document."""
    from reconciler.views import text

    fault.message, fault.hint = shell.text(fault.message), shell.text(fault.hint)
    found = fault.diagnostics if isinstance(fault, ManifestError) else ()
    if shell.form != "text":
        from reconciler.cli.forms import show_fault

        show_fault(shell, fault, found)
    if found:
        shell.terminal.remark(text.diagnostics(found))
    shell.terminal.remark(text.error(fault))
