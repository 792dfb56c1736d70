"""The pages about Slurm: what they show is what is printed on a real cluster."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from pages import ON_SLURM, Around, wrong_outputs
from slurm.cluster import PATH, Cluster

NAME = "fleet"
"""The name of the cluster on the pages. Each page has one of its own, so that its jobs are counted from 1."""

_NODE = "node07"


@pytest.fixture
def cluster(programs: None) -> Iterator[Cluster]:
    with Cluster(NAME) as cluster:
        yield cluster


def around(cluster: Cluster) -> Around:
    """Return what the reader of such a page has: the commands of Slurm, and the cluster that they find."""
    return Around({"SLURM_CONF": str(cluster.conf)}, PATH, {_NODE: socket.gethostname().partition(".")[0]})


@pytest.mark.parametrize("page", ON_SLURM)
def test_what_a_page_about_slurm_shows_is_what_is_printed(page: str, tmp_path: Path, cluster: Cluster) -> None:
    wrong = wrong_outputs(page, ON_SLURM[page], tmp_path, around(cluster))
    advice = f"Read it, and if it is meant: make pages ARGS={page}"
    assert not wrong, "\n\n".join([*wrong, advice])
