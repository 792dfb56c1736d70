"""The clusters of the tests."""

import itertools
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack

import pytest

from reconciler.model.jobs import EMPTY
from slurm.cluster import Accounting, Cluster, missing

_numbers = itertools.count(1)

NewCluster = Callable[..., Cluster]


@pytest.fixture(scope="session")
def programs() -> None:
    """What a cluster needs. Without it, a test fails: whoever names this folder wants the cluster."""
    reason = missing() if sys.platform == "linux" else "the tests start Slurm on Linux alone"
    if reason:
        pytest.fail(reason)


@pytest.fixture(scope="session")
def accounting(programs: None) -> Iterator[Accounting]:
    """The service of accounting that the clusters of a session share."""
    with Accounting() as accounting:
        yield accounting


@pytest.fixture
def new_cluster(programs: None) -> Iterator[NewCluster]:
    """Start clusters that are empty, each of another name. They end with the test."""
    with ExitStack() as stack:

        def started(
            *, accounting: Accounting | None = None, min_job_age_s: int = 300, conf: Mapping[str, object] = EMPTY
        ) -> Cluster:
            name = f"ci{os.getpid()}x{next(_numbers)}"
            cluster = Cluster(name, accounting=accounting, min_job_age_s=min_job_age_s, conf=conf)
            return stack.enter_context(cluster)

        yield started
