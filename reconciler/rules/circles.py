"""What comes after what: circles that can't be, and all that comes before."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence


def circles_in(after: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, ...]]:
    """Each circle that a walk in the given order closes: every name comes after the next, the last after the first.

    Taking one step out of each leaves no circle. Names that `after` lacks come after nothing.
    """
    done: set[str] = set()
    for start in after:
        path: dict[str, Iterator[str]] = {}  # from the start to where the walk is, each with the steps left
        if start not in done:
            path[start] = iter(after[start])
        while path:
            name = next(reversed(path))
            step = next(path[name], None)
            if step is None:
                done.add(name)
                del path[name]
            elif step in path:
                names = list(path)
                yield tuple(names[names.index(step) :])
            elif step not in done:
                path[step] = iter(after.get(step, ()))


def all_before(names: Iterable[str], after_of: Callable[[str], Sequence[str]]) -> set[str]:
    """Every job that one of these comes after, at any distance."""
    found: set[str] = set()
    left = list(names)
    while left:
        for other in after_of(left.pop()):
            if other not in found:
                found.add(other)
                left.append(other)
    return found
