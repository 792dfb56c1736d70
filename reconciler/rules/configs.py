"""Configs: whether an observed config agrees with a wanted one, and differences in words.

Whether two values ask for the same is a question for the engine: a field that is left out may have a default value.
"""

from collections.abc import Callable, Collection, Iterable
from enum import StrEnum
from functools import lru_cache
from typing import Any

from reconciler.model.jobs import Config
from reconciler.model.plan import Change

SameConfig = Callable[[Config, Config], bool]
"""Returns whether two configs ask for the same. An engine has this function, since it knows the defaults of fields."""


def agrees(wanted: Config, observed: Config | None, same: SameConfig, ignore: Collection[str] = ()) -> bool:
    """Whether an observed config has all wanted fields; True if no config was observed.

    The service chooses the fields that are not wanted. `ignore` names fields that are not compared, in the form that
    a manifest uses: `config.jobTimeout`.
    """
    return observed is None or not drifted_fields(wanted, observed, same, ignore)


def drifted_fields(
    wanted: Config, observed: Config, same: SameConfig, ignore: Collection[str] = ()
) -> tuple[Change, ...]:
    """The wanted fields that have another value in the observed config, sorted by name. `ignore` is as in `agrees`."""
    return tuple(
        Change(f"config.{field}", value, observed.get(field))
        for field, value in sorted(wanted.items())
        if f"config.{field}" not in ignore and not same({field: value}, only(field, observed))
    )


def config_changes(before: Config, after: Config, same: SameConfig) -> tuple[Change, ...]:
    """The fields that differ between two configs, sorted by path."""
    if same(before, after):
        return ()
    fields = [field for field in sorted({*before, *after}) if not same(only(field, before), only(field, after))]
    if not before:
        return tuple([Change(f"config.{field}", None, after[field]) for field in fields])
    left, right = (tuple([(field, config[field]) for field in fields if field in config]) for config in (before, after))
    return _diff(left, right)


def only(field: str, config: Config) -> Config:
    """The part of a config that is about one field. It is empty if the config lacks the field."""
    return {field: config[field]} if field in config else {}


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
