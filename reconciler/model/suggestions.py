"""What may have been meant by a name that there is not."""

from collections.abc import Iterable, Sequence

_COMPARISONS = 40_000
"""So many names are compared for one look through a document: about a second."""

_LONGEST = 200
"""A longer name is no misspelt one."""


class Suggestions:
    """The nearest names, as far as looking for them takes no longer than about a second in all.

    A document may hold a hundred thousand names that there are not, and each would be compared with a hundred
    thousand others. The first ones show what is wrong.
    """

    def __init__(self) -> None:
        self._left = _COMPARISONS

    def __call__(self, name: str, names: Iterable[str]) -> str:
        """How a message goes on: with the nearest of `names`, or "" where none is near or the time is spent."""
        near = self.nearest(name, names)
        return f'; did you mean "{near}"?' if near else ""

    def nearest(self, name: str, names: Iterable[str]) -> str:
        """The nearest of `names`, "" where none is near or the time is spent."""
        known: Sequence[str] = names if isinstance(names, Sequence) else list(names)
        if len(known) > self._left or len(name) > _LONGEST:
            return ""
        from difflib import get_close_matches

        self._left -= len(known)
        return next(iter(get_close_matches(name, known, n=1)), "")
