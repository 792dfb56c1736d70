"""What a command has to work with: the place that it is about, the terminal, and the format of its answer."""

import os
import sys
from functools import cached_property
from typing import TYPE_CHECKING, assert_never

from reconciler.cli.failure import SECRETS
from reconciler.model.commands import Given, with_place
from reconciler.model.errors import ManifestError, ReconcilerError
from reconciler.views.answers import FailureAnswer
from reconciler.views.formats import Channel, Format, ViewContext, find

if TYPE_CHECKING:
    from reconciler.host.terminal import Terminal
    from reconciler.usecases import wiring


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
        from reconciler.manifest.files import DEFAULTS

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
        from reconciler.usecases.wiring import repository_path

        return ViewContext(
            self.verbose,
            self.complete,
            lambda file: repository_path(file, self.world.env),
            self.terminal.columns(to_answer=True) if self.is_text else None,
        )

    def _state_at(self) -> str:
        """The address of the state, or "" where the manifest is missing or does not tell."""
        from reconciler.usecases.planning import at_home
        from reconciler.usecases.wiring import state_name

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
    from reconciler.host.stop import Stop
    from reconciler.host.terminal import Terminal
    from reconciler.usecases.wiring import World

    terminal = Terminal(sys.stdout, sys.stderr, os.environ, no_color=no_color)
    world = World(os.environ, Stop(), terminal.remark, SECRETS.add)
    shell = Shell(place, world, terminal, format_name=format_name, verbose=verbose, verb=verb)
    shell.is_about(place)
    return shell
