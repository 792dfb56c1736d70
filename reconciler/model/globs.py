"""Globs over job names. A glob that is itself the name of a job matches that job alone."""

import re
from collections.abc import Callable, Collection, Sequence
from fnmatch import translate


def matcher(globs: Sequence[str], names: Collection[str]) -> Callable[[str], bool]:
    """A function that returns whether one of the globs matches a name. Upper and lower case differ.

    A glob that is one of the `names` matches that name alone: `nightly[1]` is no pattern if a job has that name. Only
    the globs that are patterns cost time for each name.
    """
    exact = frozenset(glob for glob in globs if glob in names)
    patterns = [translate(glob) for glob in dict.fromkeys(globs) if glob not in exact]
    if not patterns:
        return exact.__contains__
    match = re.compile("|".join(patterns)).match
    return lambda name: name in exact or match(name) is not None
