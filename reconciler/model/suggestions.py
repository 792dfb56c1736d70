"""Suggestions: the known name that is nearest to an unknown name."""

from collections.abc import Iterable, Sequence

_COMPARISONS = 40_000
"""The number of names that one `Suggestions` compares in all. That takes about a second."""

_LONGEST = 200
"""The length from which on a name gets no suggestion, in characters. Comparisons of long names are slow."""


class Suggestions:
    """Finds the nearest known names, within about a second for all names of a document.

    A document may hold a hundred thousand unknown names, and a comparison of each with all known names would take
    hours. The suggestions for the first names are enough to show what is wrong.
    """

    def __init__(self) -> None:
        self._left = _COMPARISONS

    def __call__(self, name: str, names: Iterable[str]) -> str:
        """The end of a message that suggests the nearest of `names`; "" if none is near, or if the time is up."""
        near = self.nearest(name, names)
        return f'; did you mean "{near}"?' if near else ""

    def nearest(self, name: str, names: Iterable[str]) -> str:
        """The nearest of `names`; "" if none is near, or if the time is up."""
        known: Sequence[str] = names if isinstance(names, Sequence) else list(names)
        if len(known) > self._left or len(name) > _LONGEST:
            return ""
        from difflib import get_close_matches

        self._left -= len(known)
        return next(iter(get_close_matches(name, known, n=1)), "")
