"""Reruns: whether a new config asks for one more run, under `onConfigChange: rerun`.

`rerunOn` names the values that count; without it, all of the config does. Values that have run are consumed, like a run
token: a manifest that goes back to them runs nothing. The record keeps a digest of each consumed set of values.
"""

from reconciler.model.config_paths import part_at, path_of
from reconciler.model.jobs import MAX_RAN_CONFIGS, Config, Desired, Job, OnConfigChange, Record
from reconciler.rules.configs import SameConfig

_DIGITS = 16
"""The hexadecimal digits that are kept of a digest. Two of a hundred configs share them once in 10^15 jobs."""

_HAS_RUN = frozenset({Desired.RUNNING, Desired.ABORTED})
"""The recorded states of a job whose recorded config may have run."""


def is_asked(job: Job, record: Record, same: SameConfig) -> bool:
    """Whether the values that count differ from the record, and have not run yet.

    `same` is that of the engine.
    """
    return counts(job, record, same) and digest_of(job.config, job.rerun_on, same) not in record.ran_configs


def counts(job: Job, record: Record, same: SameConfig) -> bool:
    """Whether any of the values that count differs from the record."""
    wanted, recorded = (_parts(config, job.rerun_on) for config in (job.config, record.config))
    return not all(same(part, recorded[path]) for path, part in wanted.items())


def digest_of(config: Config, rerun_on: tuple[str, ...], same: SameConfig) -> str:
    """The digest of the values that count. A field that is the same for the engine as no field does not count."""
    from reconciler.model.json_values import config_digest

    parts = {
        path: {name: value for name, value in part.items() if not same({name: value}, {})}
        for path, part in _parts(config, rerun_on).items()
    }
    return config_digest(parts).removeprefix("sha256:")[:_DIGITS]


def consumed_by_run(job: Job, record: Record | None, same: SameConfig) -> tuple[str, ...]:
    """The digests that a run of the job consumes; none unless the manifest has `onConfigChange: rerun`.

    The recorded config is consumed too if it has run, since it may have run before the manifest had `rerun`.
    """
    if job.on_config_change is not OnConfigChange.RERUN:
        return ()
    has_run = record is not None and record.state in _HAS_RUN and record.submitted_at != ""
    ran = [record.config] if record is not None and has_run else []
    return tuple(dict.fromkeys(digest_of(config, job.rerun_on, same) for config in (*ran, job.config)))


def consumed(record: Record | None, digests: tuple[str, ...]) -> tuple[str, ...]:
    """The consumed values of a record after a run that consumes these digests, the oldest first."""
    before = record.ran_configs if record else ()
    return (*(one for one in before if one not in digests), *digests)[-MAX_RAN_CONFIGS:]


def _parts(config: Config, rerun_on: tuple[str, ...]) -> dict[str, Config]:
    """The part of a config that each path is about, such as `config.env.LEVEL`; all of the config without paths."""
    steps = {path: path_of(path)[1:] for path in rerun_on or ("config",)}
    return {path: part_at(inner, config) if inner else config for path, inner in steps.items()}
