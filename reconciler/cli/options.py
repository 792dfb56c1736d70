"""The options and arguments that several commands share."""

import math
import os
import re
import shlex
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any, TypeVar

import click

from reconciler.cli import completing
from reconciler.cli.advice import variable_of
from reconciler.cli.run import run
from reconciler.cli.shell import open_shell
from reconciler.model.errors import ExitCode
from reconciler.views import formats

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from reconciler.usecases.place import Place

_Command = TypeVar("_Command", bound=Callable[..., Any])


class Number(click.FloatRange):
    """A finite number within a range. `click.FloatRange` also takes `nan`, and `inf` where the range has no end."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if not math.isfinite(click.FLOAT.convert(value, param, ctx)):
            self.fail(f"{value} is not a finite number", param, ctx)
        number: float = super().convert(value, param, ctx)
        return number


class Seconds(Number):
    """A number of seconds. For a time with a unit, the error message names the number."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if seconds := _seconds_of(value):
            self.fail(f"{value!r} has a unit, and this is a number of seconds: give {seconds}", param, ctx)
        return super().convert(value, param, ctx)


def _seconds_of(value: Any) -> str:
    """The number of seconds in a time with a unit, such as 90s, 1h or 1h30m; "" for any other text."""
    if not isinstance(value, str) or not re.fullmatch(r"(?:[0-9]+(?:\.[0-9]+)?(?:ms|s|m|h|d))+", value):
        return ""
    units = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
    parts = re.findall(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)", value)
    return f"{sum(float(number) * units[unit] for number, unit in parts):g}"


SECONDS = Seconds(min=0, max=31_536_000)
"""A time in seconds, a year at most. The waits of the operating system do not support much longer times."""


class FormatName(click.ParamType):  # type: ignore[type-arg]  # generic in later versions of click alone
    """The name of a format that can show certain kinds of answer.

    A valid name imports only its own format. Help, completion and error messages import all formats for their names.
    """

    name = "format"

    def __init__(self, *answers: type) -> None:
        self._answers = answers

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        found = formats.find(str(value))
        if found is None or not found.can_show(*self._answers):
            self.fail(f"{value!r} is not one of {', '.join(map(repr, self._names))}.", param, ctx)
        return str(value)

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        return f"[{'|'.join(self._names)}]"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> "list[CompletionItem]":
        from click.shell_completion import CompletionItem

        return [CompletionItem(name) for name in self._names if name.startswith(incomplete)]

    @property
    def _names(self) -> list[str]:
        return formats.names_for(*self._answers)


def is_given(parameter: str) -> bool:
    """Whether the value of a parameter is from the command line, and not from the environment or a default."""
    return click.get_current_context().get_parameter_source(parameter) is click.core.ParameterSource.COMMANDLINE


def options(*answers: type, paths: bool = True, unused: Collection[str] = ()) -> Callable[[_Command], _Command]:
    """Add the options of every command. The decorated function gets a `Shell` first.

    `answers` are the kinds of answer that the command gives. With any, the command has --format, which offers the
    formats that can show all of them. With `paths`, the last arguments are paths of manifests. The command accepts the
    `unused` options and ignores them, so that the same words can follow each command; its help omits them.
    """
    has_paths = paths

    def wrap(body: _Command) -> _Command:
        def command(
            state_url: str,
            endpoint: str,
            no_color: bool,
            verbose: bool,
            paths: tuple[str, ...] = (),
            format_name: str = "text",
            **rest: Any,
        ) -> ExitCode:
            place = _place(paths if has_paths else _paths_of_environment(), state_url, endpoint)
            verb = click.get_current_context().command_path.partition(" ")[2]
            shell = open_shell(place, no_color=no_color, format_name=format_name, verbose=verbose, verb=verb)
            return run(shell, body, rest, has_paths=has_paths)

        command.__name__, command.__doc__ = body.__name__, body.__doc__
        wrapped: Any = command
        for decorator in _decorators(answers, has_paths, unused):
            wrapped = decorator(wrapped)
        # Click reads this list from its end, so the options of the command itself come first in its help.
        wrapped.__click_params__ += getattr(body, "__click_params__", [])
        return wrapped  # type: ignore[no-any-return]

    return wrap


def _decorators(answers: tuple[type, ...], has_paths: bool, unused: Collection[str]) -> "list[Callable[[Any], Any]]":
    """The decorators for the parameters of every command, in the order in which they are applied."""
    decorators = [
        click.option(
            "--state",
            "state_url",
            metavar="PATH|URL",
            default="",
            help="The state: a file, or git+REMOTE#BRANCH:PATH [a file beside the manifest].",
            hidden="--state" in unused,
            shell_complete=completing.paths,
        ),
        click.option(
            "--endpoint",
            metavar="URL",
            default="",
            help="The address of the service, in place of the manifest's.",
            hidden="--endpoint" in unused,
        ),
        click.option("--no-color", is_flag=True, help="No colours (as with NO_COLOR)."),
        click.option("--verbose", is_flag=True, help="Show where manifest and state are, each job, and its calls."),
    ]
    if answers:
        decorators.append(
            click.option("--format", "format_name", type=FormatName(*answers), default="text", show_default=True)
        )
    if has_paths:
        decorators.append(click.argument("paths", nargs=-1, metavar="[PATH]...", shell_complete=completing.paths))
    return decorators


def _place(paths: tuple[str, ...], state_url: str, endpoint: str) -> "Place":
    """The place that the command line or the environment names, with the source of each address."""
    from reconciler.usecases.place import Place

    ctx = click.get_current_context()
    parameters = {parameter.name: parameter for parameter in ctx.command.params}
    state_from = variable_of(ctx, parameters["state_url"]) or "--state"
    endpoint_from = variable_of(ctx, parameters["endpoint"]) or "--endpoint"
    return Place(paths, state_url, endpoint, state_from, endpoint_from=endpoint_from)


def _paths_of_environment() -> tuple[str, ...]:
    """The paths in `RECONCILER_PATHS`, for a command whose paths are among other words."""
    words = os.environ.get("RECONCILER_PATHS", "")
    try:
        return tuple(shlex.split(words))
    except ValueError as fault:
        raise click.BadParameter(f"{words!r}: {fault}", param_hint="RECONCILER_PATHS") from fault


def selection(body: _Command) -> _Command:
    """Add --target, --exclude and --prune."""
    prune = click.option("--prune", is_flag=True, help="Treat recorded jobs that are no longer declared as absent.")
    return picking(prune(body))


def picking(body: _Command) -> _Command:
    """Add --target and --exclude."""
    for decorator in (
        click.option(
            "--exclude",
            "excludes",
            multiple=True,
            metavar="GLOB",
            help="Leave out jobs whose names match.",
            shell_complete=completing.declared_jobs,
        ),
        click.option(
            "--target",
            "targets",
            multiple=True,
            metavar="GLOB",
            help="Only jobs whose names match.",
            shell_complete=completing.declared_jobs,
        ),
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


def parallelism_option(of: str) -> Callable[[_Command], _Command]:
    """Add --parallelism. `of` names what may be under way at a time, such as "calls"."""
    return click.option(
        "--parallelism",
        type=click.IntRange(1, 256),
        default=10,
        show_default=True,
        metavar="N",
        help=f"How many {of} to have under way at a time.",
    )


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
