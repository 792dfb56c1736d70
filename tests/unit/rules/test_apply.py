"""What an apply asks of the machine that it runs on."""

import os
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from reconciler.apply.execute import one_core

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux alone lets a thread choose its cores")


def test_many_threads_share_one_core_and_are_free_again_after() -> None:
    before = os.sched_getaffinity(0)
    with one_core(64), ThreadPoolExecutor(1) as pool:
        [core] = os.sched_getaffinity(0)
        assert core in before
        assert pool.submit(os.sched_getaffinity, 0).result() == {core}
    assert os.sched_getaffinity(0) == before


def test_the_cores_are_given_back_where_an_apply_fails() -> None:
    before = os.sched_getaffinity(0)
    with pytest.raises(OSError, match="broken"), one_core(64):
        raise OSError("broken")
    assert os.sched_getaffinity(0) == before


def test_a_few_threads_go_where_they_like() -> None:
    before = os.sched_getaffinity(0)
    with one_core(4):
        assert os.sched_getaffinity(0) == before
