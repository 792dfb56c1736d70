"""The contract of an engine, on a real API server."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from kubernetes.cluster import Cluster
from kubernetes.service import KubernetesService
from reconciler.testing.engines import EngineContract
from reconciler.testing.services import Service


class TestKubernetes(EngineContract):
    """The engine, whose Jobs run as processes of the kubelet stand-in."""

    plugin = "reconciler.engines.kubernetes.plugin:PLUGIN"

    @pytest.fixture
    def service(self, cluster: Cluster, tmp_path: Path) -> Iterator[Service]:
        service = KubernetesService(cluster, tmp_path)
        yield service
        service.close()
