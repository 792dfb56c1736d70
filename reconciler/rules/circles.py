"""The graph of `after`: its circles, which a manifest must not have, and all jobs that come before a job."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence


def circles_in(after: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, ...]]:
    """The circles in a graph, in the order of a depth-first search. `after` maps each job to the jobs that come before.

    In a circle each name comes after the next name, and the last name comes after the first. The graph has no circle
    left once one step is taken out of each circle that is found. A name that is no key of `after` comes after nothing.
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
    """All jobs that come before one of the given jobs, at any distance."""
    found: set[str] = set()
    left = list(names)
    while left:
        for other in after_of(left.pop()):
            if other not in found:
                found.add(other)
                left.append(other)
    return found
