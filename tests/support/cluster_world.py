"""Commands in this process on a pretend cluster: real files of a state, the real plugin by its name, and no faked part.

The manifest is given as a value.
"""

import time
from array import array
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from threading import Event
from typing import Any

import pytest

import cluster_plugin
from reconciler.engines.port import Promises
from reconciler.engines.sandbox.cluster import ATOMIC, Cluster
from reconciler.manifest import Manifest
from reconciler.manifest.document import Document
from reconciler.manifest.model import TargetBlock
from reconciler.model.jobs import Job, State
from reconciler.model.plan import Plan
from reconciler.state.codec import decode
from reconciler.usecases.apply import Applied, apply
from reconciler.usecases.apply_options import ApplyOptions, Interaction
from reconciler.usecases.manifest_files import ManifestFiles
from reconciler.usecases.place import Place
from reconciler.usecases.plan import plan
from reconciler.usecases.selection import Selection
from reconciler.usecases.workspace import Workspace
from reconciler.usecases.world import World

CREATED = ATOMIC._replace(creates_on_run=False)
"""The promises of an engine with an atomic guard whose jobs are there before their first run."""


class _GivenManifest(Workspace):
    """A workspace whose manifest is given, also for a saved plan."""

    def at(self, place: Place) -> Workspace:
        return self


class ClusterWorld:
    """One user's folder, and a cluster in it. `block` is the `target:` block of the manifest from now on."""

    def __init__(self, folder: Path, cluster: Cluster, promises: Promises, settings: Mapping[str, Any]) -> None:
        self.folder = folder
        self.cluster = cluster
        self.block = {
            "engine": "cluster",
            "path": str(folder / "cluster.db"),
            "promises": [*promises],
            **settings,
        }
        self.remarks: list[str] = []
        self.jobs: dict[str, Job] = {}
        self.state_url = ""

    def declare(self, *jobs: Job) -> None:
        """Write the manifest with these jobs."""
        self.jobs = {job.name: job for job in sorted(jobs)}

    @property
    def workspace(self) -> Workspace:
        """The workspace of the next command."""
        place = Place((str(self.folder / "jobs.yaml"),), state_url=self.state_url, state_from="--state")
        files = ManifestFiles(place)
        target = cluster_plugin.PLUGIN.target(self.block, "")
        document = Document("jobs.yaml", {"jobs": dict.fromkeys(self.jobs)}, array("Q"), {})
        documents = dict.fromkeys(self.jobs, document)
        files.parsed = Manifest(target, self.jobs, {}, documents, block=TargetBlock(self.block, ""))
        env = {"XDG_STATE_HOME": str(self.folder / "marks"), "USER": "ada"}
        return _GivenManifest(place, World(env, Event(), self.remarks.append), files=files)

    def plan(self, *, refresh: bool = False) -> Plan:
        return plan(self.workspace, Selection(), refresh=refresh).plan

    def apply(self, saved: Plan | None = None, *, settle_s: float = 0.0) -> Applied:
        interaction = Interaction(confirm=lambda plan: None, watch=lambda plan, event: None)
        return apply(self.workspace, Selection(), ApplyOptions(settle_s=settle_s), interaction, saved)

    @property
    def state(self) -> State:
        """The state in the file."""
        return decode((self.folder / "jobs.state.json").read_bytes(), "jobs.state.json")


@contextmanager
def cluster_world(
    folder: Path, monkeypatch: pytest.MonkeyPatch, promises: Promises = CREATED, **settings: Any
) -> Iterator[ClusterWorld]:
    """Yield a user's folder with a cluster, whose plugin is installed as that of any other package.

    `settings` are further fields of the target.
    """
    packages = folder / "packages"
    install_plugin(packages)
    monkeypatch.syspath_prepend(packages)
    with closing(Cluster(time.time, path=str(folder / "cluster.db"))) as cluster:
        yield ClusterWorld(folder, cluster, promises, settings)


def install_plugin(folder: Path) -> None:
    """Make the plugin known in this folder, as an installer would."""
    metadata = folder / "cluster_plugin-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: cluster-plugin\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[reconciler.engines]\ncluster = cluster_plugin:PLUGIN\n")
