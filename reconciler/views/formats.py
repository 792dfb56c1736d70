"""The output formats, and the search for a format by its name.

A format is a module of this package that has a `FORMAT`. The name of the module is the name of the format. No list
names the formats, so a new format is one new file. A command imports only the format that the user asks for.
"""

import importlib
from collections.abc import Callable
from enum import StrEnum
from typing import Any, NamedTuple, TypeVar

_Answer = TypeVar("_Answer")


class Channel(StrEnum):
    """The way of a view's text to stdout.

    `TEXT`, `LINES` and `PAGES` are for people. The terminal escapes control characters in these texts, and completes
    each command in them with the paths and options that the user gave. At a terminal, `TEXT` is wrapped between words,
    `LINES` are not, and `PAGES` go to a pager.

    A `DOCUMENT` is written byte for byte, so its format must escape the values. `COMMANDS` are workflow commands, and
    the only lines that may begin with `::`.
    """

    TEXT = "text"
    LINES = "lines"
    PAGES = "pages"
    DOCUMENT = "document"
    COMMANDS = "commands"


class ViewContext(NamedTuple):
    """The facts about the command line and the machine that a view may use.

    `verbose` is True if each job is to be listed, with its requests. `complete` returns a text in which each command of
    this tool has the paths, the --state and the --endpoint that the user gave. `repository_path` turns a file name of
    the command line into a path in the repository. `columns` is the width of the terminal, or None if the text does not
    go to a terminal.
    """

    verbose: bool = False
    complete: Callable[[str], str] = str
    repository_path: Callable[[str], str] = str
    columns: int | None = None


View = Callable[[_Answer, ViewContext], str]


class Format:
    """One output format: a view for each kind of answer that the format can show.

    `channel` is the channel of each view that does not name another one.
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
        """Return whether the format has a view for each of these kinds of answer."""
        return self._views.keys() >= set(kinds)

    def render(self, answer: object, context: ViewContext) -> str:
        """Return the text of an answer. Raises `KeyError` if the format can't show the answer."""
        return self._views[type(answer)](answer, context)

    def channel_of(self, answer: object) -> Channel:
        """Return the channel of an answer's text. Raises `KeyError` if the format can't show the answer."""
        return self._channels[type(answer)]


def find(name: str) -> Format | None:
    """Return the format of this name, or None. Only the module of this name is imported."""
    module = f"{__package__}.{name}"
    try:
        found = importlib.import_module(module) if name.isidentifier() else None
    except ModuleNotFoundError as fault:
        if fault.name != module:
            raise
        return None
    return getattr(found, "FORMAT", None)


def names_for(*kinds: type) -> list[str]:
    """Return the names of all formats that can show each of these kinds of answer: `text` first, the others sorted.

    Every format is imported, so this function serves help texts, error messages and completion only.
    """
    import pkgutil

    from reconciler import views

    names = [module.name for module in pkgutil.iter_modules(views.__path__)]
    found = [name for name in names if (format_ := find(name)) is not None and format_.can_show(*kinds)]
    return sorted(found, key=lambda name: (name != "text", name))
