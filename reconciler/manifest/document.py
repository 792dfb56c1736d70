"""What one file of a manifest says, every value knowing its place."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from reconciler.diagnostics import Diagnostic, Position

if TYPE_CHECKING:
    from array import array

Path = Sequence[str | int]
"""Keys and list indices from the top of a document to a value."""


class Content(NamedTuple):
    """A document's value, and the place of each key and value, in document order (`packed`)."""

    value: Any
    places: "array[int]"


class Document:
    """What one file says.

    `value` is built of dict, list, str, int, float, bool and None; it is None for an empty file.
    A refused scalar stands in it as its text, an alias as None; the second of two equal keys does
    not. `faults` are in line order, one for each place. `whole` is False where the text could not
    be read to its end; `value` is None then.
    """

    __slots__ = ("_children", "_content", "_read", "faults", "file", "value", "whole")

    def __init__(
        self, file: str, value: Any, faults: Mapping[int, str], read: Callable[[], Content], whole: bool = True
    ) -> None:
        """`read` gives the content again; it is called when a place is first asked for."""
        self.file = file
        self.value: Any = value if whole else None
        self.whole = whole
        self.faults = tuple(Diagnostic(position_of(file, place), faults[place]) for place in sorted(faults))
        self._read = read
        self._content: Content | None = None
        self._children: dict[tuple[str | int, ...], dict[str | int, int]] = {}

    def let_go(self, read: Callable[[], Content]) -> None:
        """Keep neither value nor places, which `read` gives again where a place is asked for."""
        self.value, self._content, self._read = None, None, read
        self._children.clear()

    @property
    def content(self) -> Content:
        """The value with all its places."""
        if self._content is None:
            self._content = self._read()
        return self._content

    @property
    def jobs(self) -> Mapping[str, Any]:
        """The block of each job by name; empty where there are no jobs, or where `jobs` is no mapping."""
        return self.block("jobs")

    def block(self, name: str) -> Mapping[str, Any]:
        """A mapping at the top of the file; empty where there is none of this name."""
        block = self.value.get(name) if type(self.value) is dict else None
        return block if type(block) is dict else {}

    def position(self, path: Path, of_key: bool = False) -> Position:
        """The place of the value at `path`, or of its key. Raises `KeyError` where there is none.

        The first question about a collection takes time in its size, all later ones do not. An
        empty value stands where its key stands.
        """
        value, places = self.content
        index = self._index(tuple(path), value)
        if of_key and path and isinstance(path[-1], str):
            index -= 1
        return position_of(self.file, places[index] if places else 0)

    def _index(self, path: tuple[str | int, ...], value: Any) -> int:
        """The index of a value in document order."""
        if not path:
            return 0
        *parent, last = path
        return self._indices(tuple(parent), value)[last]

    def _indices(self, path: tuple[str | int, ...], collection: Any) -> dict[str | int, int]:
        """The index of each value of the collection at `path`."""
        if path not in self._children:
            indices: dict[str | int, int] = {}
            index = self._index(path, collection) + 1
            for step in path:
                collection = collection[step]
            keyed = isinstance(collection, dict)
            for key, value in collection.items() if keyed else enumerate(collection):
                index += keyed
                indices[key] = index
                index += _count(value)
            self._children[path] = indices
        return self._children[path]


def packed(line: int, column: int) -> int:
    """A place, both counted from 0, in one number; places compare as their numbers do."""
    return line << 32 | column


def position_of(file: str, place: int) -> Position:
    """A packed place in words, counted from 1."""
    return Position(file, (place >> 32) + 1, (place & 0xFFFFFFFF) + 1)


def _count(value: Any) -> int:
    """How many keys and values a value is made of, itself included."""
    if type(value) is dict:
        return 1 + len(value) + sum(map(_count, value.values()))
    if type(value) is list:
        return 1 + sum(map(_count, value))
    return 1
