"""The engines that ship keep the contract of `reconciler.testing`, with every promise in both values."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster_plugin import BLIND, FORGETFUL, PLAIN, ClusterService
from local_service import LocalService
from project import TOKEN
from reconciler.engines.sandbox.cluster import ATOMIC
from reconciler.engines.sandbox.server import SandboxServer
from reconciler.testing.amount import WHOLE, amount_in
from reconciler.testing.engines import EngineContract
from reconciler.testing.services import Service
from sandbox_service import EmbeddedSandboxService, SandboxService

IS_WHOLE = amount_in() is WHOLE
"""Whether `make contract` runs, and not `make test`, which takes a sample of the engines."""


def server_in(folder: Path, *, reads: bool = True) -> SandboxServer:
    """A server that knows no job, and whose jobs run longer than any test."""
    return SandboxServer(folder / "server.db", access_token=TOKEN, job_seconds=10_000, reads=reads)


class TestSandbox(EngineContract):
    """The sandbox with the server that it starts by itself."""

    @pytest.fixture
    def service(self, tmp_path: Path) -> Service:
        return EmbeddedSandboxService(tmp_path)


class TestBytenite(EngineContract):
    """The ByteNite engine at the server of the sandbox."""

    @pytest.fixture
    def service(self, tmp_path: Path) -> Iterator[Service]:
        with server_in(tmp_path) as server:
            yield SandboxService("bytenite", tmp_path / "server.db", server)


class TestByteniteWithoutReads(EngineContract):
    """The same at a server that has calls alone, as the published part of the API has."""

    @pytest.fixture
    def service(self, tmp_path: Path) -> Iterator[Service]:
        with server_in(tmp_path, reads=False) as server:
            service = SandboxService("bytenite", tmp_path / "server.db", server)
            service.reads = False
            yield service


class _ClusterContract(EngineContract):
    plugin = "cluster_plugin:PLUGIN"


class TestCluster(_ClusterContract):
    """A cluster that keeps every promise, and tells its name."""

    @pytest.fixture
    def service(self, tmp_path: Path) -> Service:
        return ClusterService(tmp_path, ATOMIC._replace(chains=True), identity={"cluster": "one"}, stages=True)


class TestForgetfulCluster(_ClusterContract):
    """A cluster that forgets runs that have ended."""

    __test__ = IS_WHOLE

    @pytest.fixture
    def service(self, tmp_path: Path) -> Service:
        return ClusterService(tmp_path, FORGETFUL)


class TestPlainCluster(_ClusterContract):
    """A cluster without run ids, lists and logs, whose jobs are there before they run."""

    __test__ = IS_WHOLE

    @pytest.fixture
    def service(self, tmp_path: Path) -> Service:
        return ClusterService(tmp_path, PLAIN)


class TestBlindCluster(_ClusterContract):
    """The same without reads."""

    __test__ = IS_WHOLE

    @pytest.fixture
    def service(self, tmp_path: Path) -> Service:
        service = ClusterService(tmp_path, BLIND)
        service.reads = False
        return service


class TestLocal(EngineContract):
    """Processes on this machine."""

    @pytest.fixture
    def service(self, tmp_path: Path) -> Iterator[Service]:
        service = LocalService(tmp_path)
        yield service
        service.close()
