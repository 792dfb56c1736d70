"""What a command has to work with: the place that it is about, the terminal, and the format of its answer."""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from typing import TYPE_CHECKING, Any, assert_never

import click

from reconciler.cli.advice import advise
from reconciler.cli.failure import HINT, SECRETS, traceback_of
from reconciler.commands import Given, command, with_place
from reconciler.errors import ExitCode, ManifestError, ReconcilerError
from reconciler.views.answers import FailureAnswer
from reconciler.views.formats import Channel, Format, ViewContext, find

if TYPE_CHECKING:
    from reconciler import wiring
    from reconciler.terminal import Terminal


class Shell:
    """The place that a command is about, the terminal, and the options of the command that concern its output."""

    def __init__(
        self,
        place: "wiring.Place",
        world: "wiring.World",
        terminal: "Terminal",
        *,
        format_name: str,
        verbose: bool,
        verb: str,
    ) -> None:
        """`verb` is the command as it is called, without the name of the program: "plan", "state show"."""
        self.place = place
        self.world = world
        self.terminal = terminal
        self.format_name = format_name
        self.verbose = verbose
        self.verb = verb

    def is_about(self, place: "wiring.Place", state_url: str | None = None) -> None:
        """Set the place of this command, and of the commands that its messages name.

        `state_url` is the --state of those commands. By default it is that of the place.
        """
        from reconciler.sources import DEFAULTS

        self.place = place
        by_default = next(filter(os.path.exists, DEFAULTS), "")
        paths = () if list(place.paths) == [by_default] else place.paths
        self.terminal.given = Given(paths, place.state_url if state_url is None else state_url, place.endpoint)

    @cached_property
    def format(self) -> Format:
        """The format of the answer."""
        found = find(self.format_name)
        assert found is not None, "the option takes no other name"
        return found

    @property
    def is_text(self) -> bool:
        """Whether the answer is text for people."""
        return self.format.channel in (Channel.TEXT, Channel.LINES, Channel.PAGES)

    def show(self, answer: object) -> None:
        """Print an answer to stdout. Its format must be able to show it."""
        text = self.format.render(answer, self._context)
        if not text:
            return
        channel = self.format.channel_of(answer)
        match channel:
            case Channel.TEXT:
                self.terminal.answer(text, is_prose=True)
            case Channel.LINES:
                self.terminal.answer(text)
            case Channel.PAGES:
                self.terminal.page(text)
            case Channel.DOCUMENT:
                self.terminal.document(text)
            case Channel.COMMANDS:
                self.terminal.commands(text.split("\n"))
            case _:
                assert_never(channel)

    def show_fault(self, fault: ReconcilerError) -> None:
        """Print an error to stdout, where the format can show errors. Text shows them on stderr alone."""
        if self.format.can_show(FailureAnswer):
            self.show(FailureAnswer(self.verb.capitalize(), fault, self._state_at))

    def complete(self, text: str) -> str:
        """The text, in which each command of this tool has the paths, the --state and the --endpoint of this one."""
        return with_place(text, self.terminal.given)

    @property
    def _context(self) -> ViewContext:
        from reconciler.wiring import repository_path

        return ViewContext(
            self.verbose,
            self.complete,
            lambda file: repository_path(file, self.world.env),
            self.terminal.columns(to_answer=True) if self.is_text else None,
        )

    def _state_at(self) -> str:
        """The address of the state, or "" where the manifest is missing or does not tell."""
        from reconciler.planning import at_home
        from reconciler.wiring import state_name

        try:
            return state_name(at_home(self.place, self.world))
        except ReconcilerError:
            return ""


def show_error(shell: Shell, fault: ReconcilerError) -> None:
    """Print an error to stderr, and to stdout in a format that can show errors."""
    from reconciler.views import text

    fault.message, fault.hint = shell.complete(fault.message), shell.complete(fault.hint)
    shell.show_fault(fault)
    if isinstance(fault, ManifestError):
        shell.terminal.remark(text.diagnostics(fault.diagnostics))
    shell.terminal.remark(text.error(fault))


def open_shell(place: "wiring.Place", *, no_color: bool, format_name: str, verbose: bool, verb: str) -> Shell:
    """The shell of a command that runs in this process, with its environment and its standard streams."""
    from reconciler.stop import Stop
    from reconciler.terminal import Terminal
    from reconciler.wiring import World

    terminal = Terminal(sys.stdout, sys.stderr, os.environ, no_color=no_color)
    world = World(os.environ, Stop(), terminal.remark, SECRETS.add)
    shell = Shell(place, world, terminal, format_name=format_name, verbose=verbose, verb=verb)
    shell.is_about(place)
    return shell


def run(shell: Shell, body: Callable[..., Any], arguments: Mapping[str, Any], *, has_paths: bool) -> ExitCode:
    """Run the body of a command with its arguments, and print the error that ends it. Returns the exit code.

    `has_paths` is whether the command line of the command ends in the paths of manifests.
    """
    terminal = shell.terminal
    try:
        _refuse_lost_folder()
        if has_paths and not (shell.place.paths or arguments.get("saved")):
            _say_what_is_passed_over(shell)
        if has_paths and shell.verbose:
            _say_where(shell)
        code = ExitCode(body(shell, **arguments))
        if terminal.trouble:
            terminal.remark(f"error: {terminal.trouble}\n  what was done is recorded: {command('history')}")
            return code or ExitCode.ERROR
        return code
    except ReconcilerError as fault:
        advise(shell, click.get_current_context(), fault, arguments)
        show_error(shell, fault)
        return fault.exit_code
    except (click.ClickException, click.exceptions.Exit, click.Abort, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as fault:  # noqa: BLE001  its message may hold anything
        from reconciler.failure import said_of

        show_error(shell, ReconcilerError(said_of(fault), HINT))
        if shell.verbose:
            terminal.remark(traceback_of(fault))
        return ExitCode.ERROR


def _refuse_lost_folder() -> None:
    """Raise `ReconcilerError` where the working directory was removed, since no relative path has a meaning then."""
    try:
        os.getcwd()
    except OSError as fault:
        raise ReconcilerError("the working directory is gone", "go to one that is there: cd FOLDER") from fault


def take_paths(shell: Shell, paths: Sequence[str]) -> None:
    """Set the paths of a command that finds them among its other words. Without any, those of the environment stay."""
    shell.is_about(shell.place._replace(paths=tuple(paths) or shell.place.paths))
    if not shell.place.paths:
        _say_what_is_passed_over(shell)


def _say_what_is_passed_over(shell: Shell) -> None:
    """Warn where no path was given and two manifests have a default name, since only one of them is read."""
    from reconciler.sources import DEFAULTS, passed_over

    if other := passed_over("."):
        shell.terminal.remark(
            f"warning: {DEFAULTS[0]} is read, and {other}/ beside it is not: name the paths that are meant"
        )


def _say_where(shell: Shell) -> None:
    """Remark which manifest and which state a command is about. Leaves out a state that can't be told."""
    from reconciler import wiring
    from reconciler.planning import at_home

    manifest = ", ".join(wiring.manifest_paths(shell.place))
    where = f"manifest: {manifest}"
    with suppress(ReconcilerError):  # a command that needs the state reports the fault itself
        where += f"; state: {wiring.state_name(at_home(shell.place, shell.world))}"
    shell.terminal.remark(where)
