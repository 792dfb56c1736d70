"""A folder with a manifest for the pretend cluster, in which the real program runs as a child."""

import math
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import yaml

import cluster_plugin
from cluster_world import CREATED, install_plugin
from project import Project
from reconciler.engines.port import Promises
from reconciler.engines.sandbox.cluster import Cluster

_FOR_EVER_S = 1e12


class ClusterProject(Project):
    """One user's folder, and the cluster in it. `identity` is what the cluster tells of itself from now on."""

    def __init__(self, folder: Path, cluster: Cluster, promises: Promises, identity: Mapping[str, str]) -> None:
        super().__init__(folder)
        self.cluster = cluster
        self.promises = promises
        self.identity = identity
        self.owned: Mapping[str, str] = {}
        """The owners of the jobs that another program owns, by engine job id."""
        packages = folder / ".packages"
        install_plugin(packages)
        # What is inherited comes first: a copy of the code with a seeded bug may stand there.
        before = [self.env["PYTHONPATH"]] if self.env.get("PYTHONPATH") else []
        self.env["PYTHONPATH"] = os.pathsep.join([*before, str(packages), os.path.dirname(cluster_plugin.__file__)])

    @property
    def target(self) -> str:
        promises = [value if value != math.inf else _FOR_EVER_S for value in self.promises]  # JSON has no infinity
        block: dict[str, Any] = {"engine": "cluster", "path": "cluster.db", "promises": promises}
        block["identity"] = dict(self.identity)
        if self.owned:
            block["owned"] = dict(self.owned)
        return yaml.safe_dump(block, default_flow_style=True, width=1000).strip()


@contextmanager
def cluster_project(
    folder: Path, promises: Promises = CREATED, identity: Mapping[str, str] | None = None
) -> Iterator[ClusterProject]:
    """Yield a user's folder with a cluster, whose plugin is installed as that of any other package."""
    with closing(Cluster(time.time, path=str(folder / "cluster.db"))) as cluster:
        yield ClusterProject(folder, cluster, promises, identity or {})
