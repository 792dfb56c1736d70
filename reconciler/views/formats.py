"""The output formats, and how a command finds one by its name.

A format is a module of this package that has a `FORMAT`. Its name is the name of the module. Nothing lists the
formats: to add one, add its file. A command imports the one format that was asked for, and no other.
"""

import importlib
from collections.abc import Callable
from enum import StrEnum
from typing import Any, NamedTuple, TypeVar

_Answer = TypeVar("_Answer")


class Channel(StrEnum):
    """How the text of a view reaches stdout.

    The first three are for people: the terminal makes the text harmless, and completes each command in it with the
    paths and the options that were given. At a terminal it breaks lines of `TEXT` between words, and leaves `LINES`
    whole. It shows `PAGES` in a pager. A `DOCUMENT` is written byte for byte, so its format must escape what it holds.
    `COMMANDS` are workflow commands, the only lines that may begin with `::`.
    """

    TEXT = "text"
    LINES = "lines"
    PAGES = "pages"
    DOCUMENT = "document"
    COMMANDS = "commands"


class ViewContext(NamedTuple):
    """What a view may ask about the command line and about the machine.

    `verbose` is whether each job is to be listed, with its requests. `complete` returns a text in which each command
    of this tool has the paths, the --state and the --endpoint that were given. `repository_path` turns a file as the
    command line names it into its path in the repository. `columns` is the width of the terminal that shows the text,
    and None where no terminal does.
    """

    verbose: bool = False
    complete: Callable[[str], str] = str
    repository_path: Callable[[str], str] = str
    columns: int | None = None


View = Callable[[_Answer, ViewContext], str]


class Format:
    """One output format: a view for each kind of answer that the format can show.

    `channel` is that of the views which name no other.
    """

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self._views: dict[type, View[Any]] = {}
        self._channels: dict[type, Channel] = {}

    def shows(self, kind: type[_Answer], channel: Channel | None = None) -> Callable[[View[_Answer]], View[_Answer]]:
        """Register the decorated function as the view of this kind of answer."""

        def register(view: View[_Answer]) -> View[_Answer]:
            self._views[kind] = view
            self._channels[kind] = channel or self.channel
            return view

        return register

    def can_show(self, *kinds: type) -> bool:
        """Whether the format has a view for each of these kinds of answer."""
        return self._views.keys() >= set(kinds)

    def render(self, answer: object, context: ViewContext) -> str:
        """The text of an answer. Raises `KeyError` where `can_show` is false."""
        return self._views[type(answer)](answer, context)

    def channel_of(self, answer: object) -> Channel:
        """The channel of the text of an answer. Raises `KeyError` where `can_show` is false."""
        return self._channels[type(answer)]


def find(name: str) -> Format | None:
    """The format of this name, or None. Imports the module of that name and no other."""
    module = f"{__package__}.{name}"
    try:
        found = importlib.import_module(module) if name.isidentifier() else None
    except ModuleNotFoundError as fault:
        if fault.name != module:
            raise
        return None
    return getattr(found, "FORMAT", None)


def names_for(*kinds: type) -> list[str]:
    """The names of all formats that can show each of these kinds: `text` first, the others sorted.

    Imports every format, so this is for help texts, messages and completions.
    """
    import pkgutil

    from reconciler import views

    names = [module.name for module in pkgutil.iter_modules(views.__path__)]
    found = [name for name in names if (format_ := find(name)) is not None and format_.can_show(*kinds)]
    return sorted(found, key=lambda name: (name != "text", name))
