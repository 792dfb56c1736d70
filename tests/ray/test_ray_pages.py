"""The pages about Ray: what they show is what is printed on a real head."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import pytest

from pages import LONGEST_S, ON_RAY, Around, wrong_outputs
from ray.cluster import STARTS_WITHIN_S, Cluster

RESTART = "ray stop && ray start --head"
"""How a reader restarts the head of this machine. A test restarts its own head instead."""

ADDRESS = "http://localhost:8265"
"""The address on the pages."""

_LOOK_EVERY_S = 0.05
_Value = TypeVar("_Value")


def followed(cluster: Cluster, folder: Path, follow: Callable[[Around], _Value]) -> _Value:
    """Return what `follow` returns for what the reader of such a page has. It is called in another thread.

    This thread has started the head, which ends with it, and so it is this thread that restarts the head.
    """
    asked, done, program = folder / "asked", folder / "done", folder / "restart-the-head"
    program.write_text(f"#!/bin/sh\ntouch {asked}\nwhile [ ! -e {done} ]; do sleep 0.1; done\nrm {done}\n")
    program.chmod(0o755)
    env, typed = {"RAY_ADDRESS": cluster.address}, {RESTART: program.name, ADDRESS: cluster.address}
    around = Around(env, str(folder), typed, STARTS_WITHIN_S + LONGEST_S)
    with ThreadPoolExecutor(1) as threads:
        following = threads.submit(follow, around)
        while not following.done():
            if asked.exists():
                asked.unlink()
                cluster.restart()
                done.touch()
            time.sleep(_LOOK_EVERY_S)
        return following.result()


def free(cluster: Cluster) -> None:
    """Stop the jobs that a page has left, and delete them."""
    for job in cluster.jobs():
        cluster.request("POST", f"/api/jobs/{job['submission_id']}/stop")


@pytest.mark.parametrize("page", ON_RAY)
def test_what_a_page_about_ray_shows_is_what_is_printed(page: str, tmp_path: Path, cluster: Cluster) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    try:
        wrong = followed(cluster, programs, lambda around: wrong_outputs(page, ON_RAY[page], tmp_path, around))
    finally:
        free(cluster)
    advice = f"Read it, and if it is meant: make pages ARGS={page}"
    assert not wrong, "\n\n".join([*wrong, advice])
