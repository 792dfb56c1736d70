"""A cluster that the tests of a session share."""

import sys
from collections.abc import Iterator

import pytest

from kubernetes.cluster import Cluster, missing


@pytest.fixture(scope="session")
def programs() -> None:
    """What a cluster needs. Without it, a test fails: whoever names this folder wants the cluster."""
    reason = missing() if sys.platform == "linux" else "processes of pods are found in /proc, which Linux alone has"
    if reason:
        pytest.fail(reason)


@pytest.fixture(scope="session")
def cluster(programs: None) -> Iterator[Cluster]:
    """A cluster that is empty at first. A test makes a namespace of its own."""
    with Cluster() as cluster:
        yield cluster
