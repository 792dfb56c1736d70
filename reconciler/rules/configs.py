"""Configs: whether two of them ask for the same, whether an observed config agrees, and differences in words.

A boolean that is left out means false. A field that the service leaves out has its default value, as in the JSON
mapping of Protocol Buffers.
"""

from collections.abc import Collection, Iterable
from enum import StrEnum
from functools import lru_cache
from typing import Any

from reconciler.model.jobs import Config
from reconciler.model.plan import Change


def same_config(left: Config, right: Config) -> bool:
    """Whether two configs ask for the same values."""
    return left == right or _explicit(left) == _explicit(right)


def agrees(wanted: Config, observed: Config | None, ignore: Collection[str] = ()) -> bool:
    """Whether an observed config has all wanted fields; True if no config was observed.

    The service chooses the fields that are not wanted. `ignore` names fields that are not compared, in the form that
    a manifest uses: `config.jobTimeout`.
    """
    return observed is None or not drifted_fields(wanted, observed, ignore)


def drifted_fields(wanted: Config, observed: Config, ignore: Collection[str] = ()) -> tuple[Change, ...]:
    """The wanted fields that have another value in the observed config, sorted by name. `ignore` is as in `agrees`."""
    return tuple(
        Change(f"config.{field}", value, observed.get(field))
        for field, value in sorted(wanted.items())
        if observed.get(field, type(value)()) != value and f"config.{field}" not in ignore
    )


def config_changes(before: Config, after: Config) -> tuple[Change, ...]:
    """The fields that differ between two configs, sorted by path."""
    if same_config(before, after):
        return ()
    if not before:
        return tuple(Change(f"config.{field}", None, value) for field, value in sorted(_explicit(after).items()))
    return _diff(tuple(sorted(_explicit(before).items())), tuple(sorted(_explicit(after).items())))


def show_changes(changes: Iterable[Change]) -> str:
    """Changes in one line: `config.jobTimeout 3600 → 7200`."""
    return ", ".join(f"{c.path} {quoted(c.before)} → {quoted(c.after)}" for c in changes)


def shown(value: Any) -> str:
    """A value of a field as people read it: "–" if the field is not set, and `true` or `false` for a boolean."""
    if value is None:
        return "–"
    return str(value).lower() if isinstance(value, bool) else str(value)


def quoted(value: Any) -> str:
    """A value as `shown` gives it, with quotes around a text. A word of an enumeration has no quotes."""
    return f'"{value}"' if isinstance(value, str) and not isinstance(value, StrEnum) else shown(value)


@lru_cache(maxsize=4096)
def _diff(before: tuple[tuple[str, Any], ...], after: tuple[tuple[str, Any], ...]) -> tuple[Change, ...]:
    """The differences between two configs, which are given as sorted pairs so that the cache can hold them."""
    from deepdiff import DeepDiff

    tree = DeepDiff({"config": dict(before)}, {"config": dict(after)}, view="tree", threshold_to_diff_deeper=0)
    missing = type(DeepDiff({}, {"a": 1}, view="tree")["dictionary_item_added"][0].t1)
    changes = [
        Change(
            ".".join(map(str, level.path(output_format="list"))),
            None if isinstance(level.t1, missing) else level.t1,
            None if isinstance(level.t2, missing) else level.t2,
        )
        for levels in tree.values()
        for level in levels
    ]
    return tuple(sorted(changes, key=lambda change: change.path))


def _explicit(config: Config) -> dict[str, int | bool]:
    """The config without its false fields, because a false field means the same as a field that is left out."""
    return {field: value for field, value in config.items() if value is not False}
