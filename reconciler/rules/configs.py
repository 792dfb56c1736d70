"""Configs: whether an observed config agrees with a wanted one, and differences in words.

Whether two values ask for the same is a question for the engine: a field that is left out may have a default value, at
any level. Differences are told by path (`model/config_paths`), down to the values that differ.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from functools import lru_cache
from itertools import chain
from typing import Any

from reconciler.model.config_paths import Path, part_at, path_of, path_text, value_at, without
from reconciler.model.jobs import Config
from reconciler.model.json_values import compact, same_json, value_of
from reconciler.model.plan import NULL, Change

SameConfig = Callable[[Config, Config], bool]
"""Returns whether two configs ask for the same. An engine has this function, since it knows the defaults of fields."""

MOST_SHOWN = 160
"""The most characters of a value that a message shows."""

_MOST_CHANGES = 20
"""The most changes that a message tells one by one."""

_ROOT = "config"


def agrees(wanted: Config, observed: Config | None, same: SameConfig, ignore: Collection[str] = ()) -> bool:
    """Whether an observed config has all wanted fields; True if no config was observed.

    The service chooses the fields that are not wanted. `ignore` holds the paths of values that are not compared, in the
    form that a manifest uses: `config.env` leaves out all of the field `env`.
    """
    return observed is None or not any(_drifted(wanted, observed, same, ignore))


def drifted_fields(
    wanted: Config, observed: Config, same: SameConfig, ignore: Collection[str] = ()
) -> tuple[Change, ...]:
    """The values in wanted fields that differ in the observed config, sorted by path. `ignore` is as in `agrees`."""
    return tuple(chain.from_iterable(_changes(*one, same) for one in _drifted(wanted, observed, same, ignore)))


def config_changes(before: Config, after: Config, same: SameConfig) -> tuple[Change, ...]:
    """The values that differ between two configs, sorted by path. Nothing is compared inside a field that one lacks."""
    if same(before, after):
        return ()
    parts = [(name, only(name, before), only(name, after)) for name in sorted({*before, *after})]
    differing = [one for one in parts if not same(*one[1:])]
    # An engine may take two configs for different, and each of their fields for the same.
    differing = differing or [one for one in parts if not same_json(*one[1:])]
    return tuple(chain.from_iterable(_changes(*one, same) for one in differing))


def only(field: str, config: Config) -> Config:
    """The part of a config that is about one field. It is empty if the config lacks the field."""
    return {field: config[field]} if field in config else {}


def show_changes(changes: Iterable[Change]) -> str:
    """Changes in one line: `config.jobTimeout 3600 → 7200`. Of many changes, the last are only counted."""
    return _listed(f"{_cut(c.path)} {quoted(c.before)} → {quoted(c.after)}" for c in changes)


def show_paths(changes: Iterable[Change]) -> str:
    """The paths of changes in one line. Of many changes, the last are only counted."""
    return _listed(_cut(change.path) for change in changes)


def shown(value: Any) -> str:
    """A value of a field as people read it: "–" if the field is not set, and `true` or `false` for a boolean.

    A mapping or a list is compact JSON. A value of more than `MOST_SHOWN` characters is cut.
    """
    if value is None:
        return "–"
    if isinstance(value, bool):
        return str(value).lower()
    return _cut(compact(value) if isinstance(value, Mapping | list | tuple) else str(value))


def quoted(value: Any) -> str:
    """A value as `shown` gives it, with quotes around a text. A word of an enumeration has no quotes."""
    return f'"{_cut(value)}"' if isinstance(value, str) and not isinstance(value, StrEnum) else shown(value)


def _listed(told: Iterable[str]) -> str:
    words = list(told)
    more = len(words) - _MOST_CHANGES
    return ", ".join([*words[:_MOST_CHANGES], f"and {more} more"] if more > 0 else words)


def _cut(text: str) -> str:
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}…"


def _drifted(
    wanted: Config, observed: Config, same: SameConfig, ignore: Collection[str]
) -> Iterator[tuple[str, Config, Config]]:
    """Yield each wanted field that has another value in the observed config, sorted by name.

    A field comes as its name, and the parts of both configs that are about it, without the values at ignored paths.
    """
    ignored = [path[1:] for path in map(path_of, ignore) if path[0] == _ROOT]
    if () in ignored:
        return
    for name in sorted(wanted):
        left, right = only(name, wanted), only(name, observed)
        for path in ignored:
            if path[0] == name:
                left, right = without(path, left), without(path, right)
        if (left or right) and not same(left, right):
            yield name, left, right


def _changes(name: str, before: Config, after: Config, same: SameConfig) -> Iterator[Change]:
    """Yield the values that differ between two configs that hold this one field at most, sorted by path."""
    if name not in before or name not in after or not _is_nested(before[name], after[name]):
        yield _change((name,), before, after)
        return
    paths = _differing(compact(before), compact(after)) or ((name,),)
    # A value that is at its default on one side, and left out on the other, is no difference for the engine.
    telling = [path for path in paths if not same(part_at(path, before), part_at(path, after))]
    yield from (_change(path, before, after) for path in telling or paths)


def _is_nested(one: Any, other: Any) -> bool:
    return any(isinstance(one, kind) and isinstance(other, kind) for kind in (Mapping, list))


def told(found: Sequence[Any]) -> Any:
    """What a change tells of a value: None if it is not set, and `NULL` for the null of JSON."""
    return None if not found else NULL if found[0] is None else found[0]


def _change(path: Path, before: Config, after: Config) -> Change:
    return Change(path_text((_ROOT, *path)), told(value_at(path, before)), told(value_at(path, after)))


def _outlines(before: Any, after: Any) -> tuple[Any, Any]:
    """Two values without what is the same in both, and with numbers in the place of other values that are no mappings
    and no lists. The values differ at the same paths as before, and long texts are not compared line by line.
    """
    if isinstance(before, dict) and isinstance(after, dict):
        both = {key: _outlines(before[key], after[key]) for key in before.keys() & after.keys()}
        apart = {key: pair for key, pair in both.items() if pair != _SAME}
        left, right = ({key: pair[side] for key, pair in apart.items()} for side in (0, 1))
        left |= dict.fromkeys(before.keys() - after.keys(), 0)
        right |= dict.fromkeys(after.keys() - before.keys(), 0)
        return (left, right) if left or right else _SAME
    if isinstance(before, list) and isinstance(after, list):
        pairs = [_outlines(*pair) for pair in zip(before, after, strict=False)]
        ours, theirs = (
            [pair[side] for pair in pairs] + [0] * (len(of) - len(pairs)) for side, of in enumerate((before, after))
        )
        return (ours, theirs) if ours != theirs else _SAME
    return _SAME if same_json(before, after) else _OTHER


_SAME = (0, 0)
_OTHER = (1, 2)


@lru_cache(maxsize=4096)
def _differing(before: str, after: str) -> tuple[Path, ...]:
    """The paths of the values that differ between two configs, sorted. The configs are texts of JSON, which a cache can
    hold, and which tell 1 from true.
    """
    from deepdiff import DeepDiff

    tree = DeepDiff(
        *_outlines(value_of(before), value_of(after)),
        view="tree",
        threshold_to_diff_deeper=0,
        zip_ordered_iterables=True,
        ignore_private_variables=False,
    )
    paths = [tuple(level.path(output_format="list")) for levels in tree.values() for level in levels]
    return tuple(sorted(paths, key=lambda path: [(0, step) if isinstance(step, int) else (1, step) for step in path]))
