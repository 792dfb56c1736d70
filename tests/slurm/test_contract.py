"""The contract of an engine, on a real cluster: without accounting, and with it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.testing.engines import EngineContract
from reconciler.testing.services import Service
from slurm.cluster import Accounting
from slurm.conftest import NewCluster
from slurm.service import SlurmService


class _SlurmContract(EngineContract):
    plugin = "reconciler.engines.slurm.plugin:PLUGIN"


class TestSlurm(_SlurmContract):
    """A controller alone, which soon forgets the jobs that have ended."""

    @pytest.fixture
    def service(self, new_cluster: NewCluster, tmp_path: Path) -> Iterator[Service]:
        service = SlurmService(new_cluster(min_job_age_s=5), tmp_path, new_cluster)
        yield service
        service.close()


class TestSlurmWithAccounting(_SlurmContract):
    """A controller that forgets at once, and accounting, which forgets nothing."""

    @pytest.fixture
    def service(self, new_cluster: NewCluster, accounting: Accounting, tmp_path: Path) -> Iterator[Service]:
        service = SlurmService(new_cluster(accounting=accounting, min_job_age_s=5), tmp_path, new_cluster)
        yield service
        service.close()
