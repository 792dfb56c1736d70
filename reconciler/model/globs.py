"""Globs over names, of which some may be meant as they stand."""

import re
from collections.abc import Callable, Collection, Sequence
from fnmatch import translate


def matcher(globs: Sequence[str], names: Collection[str]) -> Callable[[str], bool]:
    """What tells whether one of these globs matches a name, case and all.

    A glob that is one of the `names` itself means that name alone: `nightly[1]` is no pattern where there is a job of
    that name. Telling of many names by many globs takes time in their product only for globs that are patterns.
    """
    exact = frozenset(glob for glob in globs if glob in names)
    patterns = [translate(glob) for glob in dict.fromkeys(globs) if glob not in exact]
    if not patterns:
        return exact.__contains__
    match = re.compile("|".join(patterns)).match
    return lambda name: name in exact or match(name) is not None
