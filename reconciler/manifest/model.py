"""A manifest as a value: the desired states of all jobs of one target."""

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, NamedTuple, Protocol

from reconciler.manifest.document import Document
from reconciler.model.jobs import EMPTY, Job, Target
from reconciler.model.places import Position


class DeclaredState(NamedTuple):
    """The place of the state that a manifest names: the text of `state:`, and the position of that text."""

    url: str
    position: Position


class EngineReader(Protocol):
    """What an engine says of a manifest. `EnginePlugin` describes the members."""

    @property
    def name(self) -> str: ...
    @property
    def target_schema(self) -> Mapping[str, Any]: ...
    @property
    def config_schema(self) -> Mapping[str, Any]: ...
    def target(self, block: Mapping[str, Any], folder: str) -> Target: ...
    def target_faults(self, block: Mapping[str, Any]) -> Iterator[tuple[str, str]]: ...
    def job_fault(self, job: Job) -> str: ...


EngineLookup = Callable[[str], EngineReader]
"""Takes the name of an engine, and returns what the engine says of manifests.

Raises `EngineError` if no such engine is installed, with a hint that says which there are.
"""


class TargetBlock(NamedTuple):
    """A `target:` block as it was written, and the folder of its file."""

    fields: Mapping[str, Any] = EMPTY
    folder: str = ""

    def read_by(self, engine_of: EngineLookup) -> Target:
        """Return the target that the block names. The block must have no fault."""
        return engine_of(self.fields["engine"]).target(self.fields, self.folder)


class Head(NamedTuple):
    """The part of a manifest that is not about jobs: the target with its block, and the place of the state."""

    target: Target
    block: TargetBlock
    state: DeclaredState | None


class Manifest(NamedTuple):
    """The desired states of all jobs of one target.

    `jobs` is sorted by name, and jobs of equal config share one object. `guards` holds the limits that the manifest
    sets; a limit is a whole number or a percentage such as "10%". `documents` holds the file of each job. `over` names
    the jobs whose freeze has ended. `block` is the target as it was written, and does not count for the digest.
    `state` is None if the manifest does not name a place for the state.
    """

    target: Target
    jobs: Mapping[str, Job]
    guards: Mapping[str, int | str]
    documents: Mapping[str, Document]
    over: Collection[str] = ()
    block: TargetBlock = TargetBlock()
    state: DeclaredState | None = None

    @property
    def digest(self) -> str:
        """The digest of the manifest's meaning: "sha256:" and a hexadecimal number.

        Comments, the order of fields and the division into files do not change the digest. Every field counts, with its
        default if a file leaves the field out. `state:` counts as written, even if `--state` takes its place.
        """
        import json

        from reconciler.model.digests import sha256

        jobs = [_meaning(job) for job in self.jobs.values()]
        content: list[object] = [[self.target.engine, self.target.address], self.guards, jobs]
        if self.state is not None:
            content.append(self.state.url)
        text = json.dumps(content, sort_keys=True, separators=(",", ":"))
        return f"sha256:{sha256(text.encode())}"

    @property
    def head(self) -> Head:
        """The part that is not about jobs."""
        return Head(self.target, self.block, self.state)

    def position(self, job: str) -> Position:
        """Return the position at which a job is declared.

        Raises `KeyError` for a name that the manifest does not have.
        """
        return self.documents[job].position(("jobs", job), of_key=True)


def _meaning(job: Job) -> list[object]:
    """Return the fields of a job that the digest covers."""
    config, labels = dict(job.config), dict(job.labels)
    meaning: list[object] = [
        *(job.name, job.id, job.state, config),
        *(job.run_token, job.on_config_change, job.protect, labels),
    ]
    if job.freeze or job.ignore or job.after or job.rerun_on:
        freeze = [job.freeze.reason, job.freeze.until] if job.freeze else []
        meaning += [freeze, sorted(set(job.ignore)), sorted(set(job.after)), sorted(set(job.rerun_on))]
    return meaning
