"""From documents without a fault to a manifest: defaults are merged, and numbers and times become plain values."""

import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from reconciler.manifest.configs import JobConfigs
from reconciler.manifest.document import Document
from reconciler.manifest.model import DeclaredState, EngineReader, Manifest, TargetBlock
from reconciler.manifest.schema_parts import whole
from reconciler.model.jobs import EMPTY, Desired, Freeze, Job, OnConfigChange

SINGLE_BLOCKS = ("target", "state", "defaults", "guards")
"""The blocks that may stand once in the whole manifest, in any of its files."""

_DESIRED = {state.value: state for state in Desired}


def build(documents: Sequence[Document], engine: EngineReader, configs: JobConfigs) -> Manifest:
    """Return the manifest that these documents make. The documents must have no fault, neither alone nor together."""
    blocks = {name: (document, document.value[name]) for document in documents for name in document.value}
    target = block_of(blocks["target"][0])
    _, guards = blocks.get("guards", (None, {}))
    _, defaults = blocks.get("defaults", (None, {}))
    builder = _JobBuilder(defaults, configs)
    jobs: dict[str, Job] = {}
    homes: dict[str, Document] = {}
    for document in documents:
        homes.update(dict.fromkeys(document.jobs, document))
        for name, block in document.jobs.items():
            jobs[name] = builder.job(name, block)
    return Manifest(
        engine.target(target.fields, target.folder),
        {name: jobs[name] for name in sorted(jobs)},
        {name: whole(limit) if type(limit) is float else limit for name, limit in sorted(guards.items())},
        homes,
        block=target,
        state=declared_state_in(blocks["state"][0]) if "state" in blocks else None,
    )


def declared_state_in(document: Document) -> DeclaredState:
    """Return the place of the state that a document names. The `state:` of the document must have no fault."""
    return DeclaredState(document.value["state"], document.position(("state",)))


def block_of(document: Document) -> TargetBlock:
    """Return the `target:` block of a document."""
    return TargetBlock(document.value["target"], os.path.dirname(document.file))


def freeze_of(block: Mapping[str, str]) -> Freeze:
    """Return the freeze of a `freeze:` block. Raises `ValueError` if `until` is not a time of the calendar."""
    until = block.get("until", "")
    return Freeze(block["reason"], until, _seconds(until)) if until else Freeze(block["reason"])


class _JobBuilder:
    """Makes jobs of their blocks and the defaults of the manifest.

    Jobs with equal config or labels share one object.
    """

    def __init__(self, defaults: Mapping[str, Any], configs: JobConfigs) -> None:
        self._config_of = configs.of
        self._labels = defaults.get("labels", {})
        self._change = OnConfigChange(defaults.get("onConfigChange", OnConfigChange.RESTART))
        self._rerun_on = tuple(defaults.get("rerunOn", ()))
        self._labelings: dict[tuple[tuple[str, str], ...], Mapping[str, str]] = {}

    def job(self, name: str, block: Mapping[str, Any]) -> Job:
        field = block.get
        change = field("onConfigChange")
        job = Job(
            name,
            field("id", name),
            _DESIRED[block["state"]],
            self._config_of(field("config", EMPTY)),
            field("runToken"),
            OnConfigChange(change) if change else self._change,
            field("protect"),
            self._labelled(field("labels", EMPTY)),
        )
        if "after" in block or "freeze" in block or "ignore" in block:
            freeze = freeze_of(block["freeze"]) if "freeze" in block else None
            job = job._replace(freeze=freeze, ignore=tuple(field("ignore", ())), after=tuple(field("after", ())))
        rerun_on = tuple(field("rerunOn", self._rerun_on)) if job.on_config_change is OnConfigChange.RERUN else ()
        return job._replace(rerun_on=rerun_on) if rerun_on else job

    def _labelled(self, own: Mapping[str, str]) -> Mapping[str, str]:
        key = tuple(own.items())
        found = self._labelings.get(key)
        if found is None:
            found = self._labelings[key] = dict(sorted({**self._labels, **own}.items()))
        return found


def _seconds(until: str) -> float:
    """Return a date or an RFC 3339 time in seconds since 1970. Raises `ValueError`.

    A date stands for its first second in UTC.
    """
    when = datetime.fromisoformat(until)
    return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
