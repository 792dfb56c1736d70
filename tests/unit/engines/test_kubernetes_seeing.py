"""Which run of a job an observation is of, and which pods are a run."""

from typing import Any

import pytest

from reconciler.engines.kubernetes.observations import observation
from reconciler.engines.kubernetes.pods import is_of_a_run
from reconciler.engines.kubernetes.reading import Seen
from reconciler.engines.kubernetes.seeing import observation_of
from reconciler.engines.port import Status


def job(name: str, lineage: str = "") -> dict[str, Any]:
    labels = {"reconciler/job": "a", **({"reconciler/lineage": lineage} if lineage else {})}
    return {"metadata": {"name": name, "uid": f"uid-{name}", "labels": labels}}


def pod(run: str, lineage: str) -> dict[str, Any]:
    made_by = {"job-name": run, "controller-uid": f"uid-{run}"}
    return {"metadata": {"name": f"{run}-x", "labels": {**job(run, lineage)["metadata"]["labels"], **made_by}}}


def test_a_label_without_a_lineage_makes_no_run_id() -> None:
    assert observation(job("a-1"), []).run_id == ""
    assert observation(job("a-1", "ours"), []).run_id == "a-1"


def test_pods_of_a_lineage_come_before_a_job_without_one() -> None:
    found = observation_of(Seen([job("a-9")], {}, strays=[pod("a-1", "ours")]))
    assert (found.status, found.run_id, found.marks.lineage) == (Status.ACTIVE, "a-1", "ours")


def test_a_job_without_a_lineage_that_executes_is_named_beside_a_run() -> None:
    found = observation_of(Seen([job("a-1", "ours"), job("a-9")], {}))
    assert (found.run_id, found.detail) == ("a-1", "something of a-9 executes too")


@pytest.mark.parametrize("missing", ["reconciler/job", "reconciler/lineage", "controller-uid"])
def test_a_pod_that_does_not_say_whose_it_is_is_of_no_run(missing: str) -> None:
    there = pod("a-1", "ours")
    assert is_of_a_run(there)
    del there["metadata"]["labels"][missing]
    assert not is_of_a_run(there)
