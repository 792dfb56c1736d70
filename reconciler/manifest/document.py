"""One file of a manifest as a value whose keys and values have known positions."""

from array import array
from collections.abc import Mapping, Sequence
from typing import Any

from reconciler.model.places import Diagnostic, Position

Path = Sequence[str | int]
"""The keys and list indices that lead from the top of a document to a value."""


class Document:
    """The content of one file.

    `value` is built of dict, list, str, int, float, bool and None; an empty file has the value None. If the strict
    reader refuses a scalar, the value holds the text of the scalar; for a refused alias, the value holds None. The
    second of two equal keys is left out.

    `faults` are the faults that the strict reader found, at most one for each position, in the order of lines. `whole`
    is False for a file that could not be read to its end. The value of such a file is None.
    """

    __slots__ = ("_children", "_places", "faults", "file", "value", "whole")

    def __init__(
        self, file: str, value: Any, places: "array[int]", faults: Mapping[int, str], *, whole: bool = True
    ) -> None:
        """`places` holds the packed place of each key and value in document order, or nothing if the places are not
        known.
        """
        self.file = file
        self.value: Any = value if whole else None
        self.whole = whole
        self.faults = tuple(Diagnostic(position_of(file, place), faults[place]) for place in sorted(faults))
        self._places = places
        self._children: dict[tuple[str | int, ...], dict[str | int, int]] = {}

    @classmethod
    def unread(cls, file: str, faults: Mapping[int, str]) -> "Document":
        """Return the document of a file whose content is not known."""
        return cls(file, None, array("Q"), faults, whole=False)

    @property
    def jobs(self) -> Mapping[str, Any]:
        """The block of each job by name; empty if there are no jobs, or if `jobs` is not a mapping."""
        return self.block("jobs")

    def block(self, name: str) -> Mapping[str, Any]:
        """Return the mapping of this name at the top of the file, or an empty mapping."""
        block = self.value.get(name) if type(self.value) is dict else None
        return block if type(block) is dict else {}

    def position(self, path: Path, of_key: bool = False) -> Position:
        """Return the position of the value at `path`, or of its key. An empty value has the position of its key.

        The first call for a collection takes time that grows with the size of the document. Later calls for the same
        collection are quick. Raises `KeyError` for a path that leads to nothing.
        """
        index = self._index(tuple(path))
        if of_key and path and isinstance(path[-1], str):
            index -= 1
        return position_of(self.file, self._places[index] if self._places else 0)

    def replace(self, path: Path, name: str, new_name: str, value: Any) -> None:
        """Put a value, under a new key, in the place of the entry `name` of the mapping at `path`.

        The key keeps its position, and everything in the new value has the position of the old value.
        """
        mapping = self.value
        for step in path:
            mapping = mapping[step]
        if self._places:
            start = self._index((*path, name))
            stop = start + _count(mapping[name])
            self._places[start:stop] = array("Q", [self._places[start]] * _count(value))
            self._children.clear()
        entries = [(new_name, value) if key == name else (key, old) for key, old in mapping.items()]
        mapping.clear()
        mapping.update(entries)

    def _index(self, path: tuple[str | int, ...]) -> int:
        """Return the index of a value in document order."""
        if not path:
            return 0
        *parent, last = path
        return self._indices(tuple(parent))[last]

    def _indices(self, path: tuple[str | int, ...]) -> dict[str | int, int]:
        """Return the index in document order of each value of the collection at `path`, by key or list index."""
        if path not in self._children:
            indices: dict[str | int, int] = {}
            index = self._index(path) + 1
            collection = self.value
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
    """Return a line and a column, both counted from 0, as one number. Packed places compare as places do."""
    return line << 32 | column


def position_of(file: str, place: int) -> Position:
    """Return a packed place as a position, whose line and column count from 1."""
    return Position(file, (place >> 32) + 1, (place & 0xFFFFFFFF) + 1)


def _count(value: Any) -> int:
    """Return the number of keys and values that a value consists of, the value included."""
    if type(value) is dict:
        return 1 + len(value) + sum(map(_count, value.values()))
    if type(value) is list:
        return 1 + sum(map(_count, value))
    return 1
