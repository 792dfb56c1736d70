"""The cluster that the tests of a session share."""

import sys
from collections.abc import Iterator

import pytest

from ray.cluster import Cluster, missing


@pytest.fixture(scope="session")
def programs() -> None:
    """What a head needs. Without it, a test fails: whoever names this folder wants the head."""
    reason = missing() if sys.platform == "linux" else "processes of jobs are found in /proc, which Linux alone has"
    if reason:
        pytest.fail(reason)


@pytest.fixture(scope="session")
def cluster(programs: None) -> Iterator[Cluster]:
    """A head that has no jobs at first. A test removes those that it has submitted."""
    with Cluster() as cluster:
        yield cluster
