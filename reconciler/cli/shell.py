"""The shell of a command: its workspace, the terminal, and the format of its answer."""

import os
import sys
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, assert_never

from reconciler.cli.failure import SECRETS
from reconciler.model.commands import Given, with_place
from reconciler.model.errors import ManifestError, ReconcilerError
from reconciler.views.answers import FailureAnswer
from reconciler.views.formats import Channel, Format, ViewContext, find

if TYPE_CHECKING:
    from reconciler.host.terminal import Terminal
    from reconciler.usecases.place import Place
    from reconciler.usecases.workspace import Workspace
    from reconciler.usecases.world import World


class Shell:
    """The workspace of a command, the terminal, and the options about its output."""

    def __init__(
        self,
        workspace: "Workspace",
        terminal: "Terminal",
        *,
        format_name: str,
        verbose: bool,
        verb: str,
    ) -> None:
        """`verb` is the command without the name of the program, such as "plan" or "state show"."""
        self.workspace = workspace
        self.terminal = terminal
        self.format_name = format_name
        self.verbose = verbose
        self.verb = verb
        self.work_in(workspace)

    @property
    def place(self) -> "Place":
        """What the user named: the manifest, the state and the service."""
        return self.workspace.place

    @property
    def world(self) -> "World":
        """What comes from outside of the command."""
        return self.workspace.world

    def work_at(self, place: "Place") -> None:
        """Work at another place."""
        self.work_in(self.workspace.at(place))

    def work_in(self, workspace: "Workspace", state_url: str | None = None) -> None:
        """Work in another workspace. Messages then name commands that are about the same place.

        `state_url` is the --state of these commands. By default it is the --state of the workspace.
        """
        from reconciler.manifest.files import DEFAULTS

        self.workspace, place = workspace, workspace.place
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
        """Print an error to stdout if the format can show errors. The text format shows errors on stderr only."""
        if self.format.can_show(FailureAnswer):
            self.show(FailureAnswer(self.verb.capitalize(), fault, self._state_at))

    def complete(self, text: str) -> str:
        """The text. Each command of this tool in it gets the paths, the --state and the --endpoint of this command."""
        return with_place(text, self.terminal.given)

    @property
    def _context(self) -> ViewContext:
        return ViewContext(
            self.verbose,
            self.complete,
            lambda file: _repository_path(file, self.world.env),
            self.terminal.columns(to_answer=True) if self.is_text else None,
        )

    def _state_at(self) -> str:
        """The address of the state; "" if it can't be found."""
        try:
            return self.workspace.state_name
        except ReconcilerError:
            return ""


def show_error(shell: Shell, fault: ReconcilerError) -> None:
    """Print an error to stderr, and also to stdout if the format can show errors."""
    from reconciler.views import text

    fault.message, fault.hint = shell.complete(fault.message), shell.complete(fault.hint)
    shell.show_fault(fault)
    if isinstance(fault, ManifestError):
        shell.terminal.remark(text.diagnostics(fault.diagnostics))
    shell.terminal.remark(text.error(fault))


def open_shell(place: "Place", *, no_color: bool, format_name: str, verbose: bool, verb: str) -> Shell:
    """The shell of a command that runs in this process, with its environment and its standard streams."""
    from reconciler.host.stop import Stop
    from reconciler.host.terminal import Terminal
    from reconciler.usecases.workspace import Workspace
    from reconciler.usecases.world import World

    terminal = Terminal(sys.stdout, sys.stderr, os.environ, no_color=no_color)
    world = World(os.environ, Stop(), terminal.remark, SECRETS.add)
    return Shell(Workspace(place, world), terminal, format_name=format_name, verbose=verbose, verb=verb)


def _repository_path(file: str, env: Mapping[str, str]) -> str:
    """The path of a file in its repository if a CI run names the folder of the repository; else the path as given."""
    root = env.get("GITHUB_WORKSPACE")
    if not root:
        return file
    path = os.path.relpath(os.path.realpath(file), os.path.realpath(root))
    return file if path.split(os.sep)[0] == os.pardir else path.replace(os.sep, "/")
