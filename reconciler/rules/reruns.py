"""Reruns: whether a new config asks for one more run, under `onConfigChange: rerun`.

A config that has run is consumed, like a run token: a manifest that goes back to it runs nothing. `rerunOn` names the
values that count; without it, all of the config does. Values that count are consumed with the config that had them.

The record keeps each config that has run as a whole, under any policy. So a later change of `rerunOn` or of
`onConfigChange` is judged by the configs that really ran: it never makes one of them run again, and it never keeps a
config from running that has not run.
"""

from collections.abc import Mapping
from typing import Any

from reconciler.model.config_paths import part_at, path_of
from reconciler.model.jobs import Config, Job, Observation, Record
from reconciler.model.json_values import compact, value_of
from reconciler.rules.configs import SameConfig, agrees

LONGEST_TEXT = 64
"""The most characters of a text that `text_of` keeps. A longer text, such as a script, is replaced by its digest."""

_DIGEST = "sha256:"
_DIGITS = 32


def is_asked(job: Job, record: Record, same: SameConfig) -> bool:
    """Whether the values that count differ from the record, and have not run yet.

    `same` is that of the engine.
    """
    return counts(job, record, same) and not has_run(job, record, same)


def counts(job: Job, record: Record, same: SameConfig) -> bool:
    """Whether any of the values that count differs from the record."""
    return not _same_parts(job.config, record.config, job.rerun_on, same)


def has_run(job: Job, record: Record, same: SameConfig) -> bool:
    """Whether a run of the job had its config, or had the same values at all paths of `rerunOn`."""
    if has_run_whole(job, record, same):
        return True
    return any(_same_parts(wanted, ran, job.rerun_on, same) for wanted, ran in _pairs(job, record))


def has_run_whole(job: Job, record: Record, same: SameConfig) -> bool:
    """Whether a run of the job had its config, whatever `rerunOn` names."""
    is_recorded = text_of(job.config) in record.ran_configs
    return is_recorded or any(same(wanted, ran) for wanted, ran in _pairs(job, record))


def text_of(config: Config) -> str:
    """The text of a config that has run, as `Record.ran_configs` holds it: JSON on one line, with sorted keys.

    A long text within the config is replaced by its digest, which tells it from other texts.
    """
    return compact(_shortened(config))


def config_of_run(job: Job, observed: Observation, same: SameConfig) -> Config:
    """The config that an observed run of the job had: that of the job, unless another one is observed.

    If the engine does not tell the config, the run counts as one with the config of the job, so that this config is not
    run a second time.
    """
    if observed.config is None or agrees(job.config, observed.config, same):
        return job.config
    return observed.config


def with_ran(record: Record | None, ran: Config | None) -> frozenset[str]:
    """The consumed configs of a record after a run with the config `ran`; None if there was no run."""
    before = record.ran_configs if record else frozenset[str]()
    return before if ran is None else before | {text_of(ran)}


def _pairs(job: Job, record: Record) -> list[tuple[Config, Config]]:
    """The config of the job with each config that has run. Both have digests in the place of long texts."""
    wanted = value_of(text_of(job.config))
    return [(wanted, value_of(one)) for one in sorted(record.ran_configs)]


def _same_parts(one: Config, other: Config, rerun_on: tuple[str, ...], same: SameConfig) -> bool:
    """Whether two configs have the same values at all of these paths; as a whole if there are none."""
    paths = [path_of(path)[1:] for path in rerun_on or ("config",)]
    return all(same(*((part_at(path, config) if path else config) for config in (one, other))) for path in paths)


def _shortened(value: Any) -> Any:
    """A JSON value with the digest of each long text in its place.

    A text that looks like such a digest is replaced as well, so that no two texts become one.
    """
    if isinstance(value, str):
        if len(value) <= LONGEST_TEXT and not value.startswith(_DIGEST):
            return value
        from reconciler.model.digests import sha256

        return _DIGEST + sha256(value.encode("utf-8", "surrogatepass"))[:_DIGITS]
    if isinstance(value, Mapping):
        return {key: _shortened(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_shortened(inner) for inner in value]
    return value
