"""The contract of an engine, on a real head."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from ray.cluster import Cluster
from ray.service import RayService
from reconciler.testing.amount import Amount, amount_in
from reconciler.testing.engines import EngineContract
from reconciler.testing.services import Service

MOST_JOBS = 24
"""A job of Ray has a process of its own beside its entrypoint, of 70 MB, which takes a second of a CPU to start."""


class TestRay(EngineContract):
    """The engine, whose jobs are executed by the head itself."""

    plugin = "reconciler.engines.ray.plugin:PLUGIN"

    @pytest.fixture
    def amount(self) -> Amount:
        amount = amount_in()
        return amount._replace(jobs=min(amount.jobs, MOST_JOBS))

    @pytest.fixture
    def service(self, cluster: Cluster, tmp_path: Path) -> Iterator[Service]:
        service = RayService(cluster, tmp_path)
        yield service
        service.close()
