"""Jobs that come after others, on an engine that begins a run once other runs of it have completed."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.engines.sandbox.cluster import ATOMIC, Lost
from reconciler.model.jobs import Status
from ways_out import PersonsProject, persons_project

CHAINS = ATOMIC._replace(chains=True)
A = "a: {state: running}"
B = "b: {state: running, after: [a]}"
C = "c: {state: running, after: [a, b]}"
ALL = f"{A}\n  {B}\n  {C}"
AGAIN = ALL.replace("a: {state: running}", "a: {state: running, runToken: again}")


@pytest.fixture
def project(tmp_path: Path) -> Iterator[PersonsProject]:
    with persons_project(tmp_path, CHAINS) as made:
        yield made


def runs(project: PersonsProject) -> dict[str, tuple[str, bool]]:
    """The status of each run, and whether it has executed anything."""
    return {run.run_id: (run.status.value, run.executes_from is not None) for run in project.cluster.runs()}


def test_one_apply_sends_all_runs_and_the_engine_begins_each_in_its_turn(project: PersonsProject) -> None:
    project.begin(ALL)
    assert runs(project) == {"a-1": ("active", True), "b-1": ("active", False), "c-1": ("active", False)}
    first, second, third = project.cluster.runs()
    assert (second.after, third.after) == ((first.ref,), (first.ref, second.ref))
    project.is_at_rest(ALL, ["a-1", "b-1", "c-1"])
    for job in "abc":
        project.cluster.end(job)
    assert set(runs(project).values()) == {("complete", True)}
    project.is_at_rest(ALL, ["a-1", "b-1", "c-1"])


def test_a_plan_says_what_is_sent_and_when_it_begins(project: PersonsProject) -> None:
    project.write(ALL)
    kinds = project.reasons()
    assert (kinds["a"][0], kinds["b"][0], kinds["c"][0]) == ("run", "wait", "wait")
    in_turn = "the apply sends it right after that, and the engine begins it once that has completed"
    assert kinds["b"][1] == f"waiting for a (to be run first): {in_turn}"
    assert kinds["c"][1] == f"waiting for a (to be run first), b (which is itself waiting): {in_turn}"
    project.begin(A)
    project.write(ALL)
    kind, reason = project.reasons()["b"]
    assert (kind, reason) == ("run", "first run; the job is not there; it begins once a has completed")


def test_what_comes_after_a_run_that_fails_is_withdrawn_and_runs_with_the_next_one(project: PersonsProject) -> None:
    project.begin(ALL)
    project.cluster.end("a", Status.FAILED)
    withdrawn = ("withdrawn", False)
    assert runs(project) == {"a-1": ("failed", True), "b-1": withdrawn, "c-1": withdrawn}
    kind, (wait,) = project.found("b")
    assert (kind, wait) == ("withdrawn", ["apply", "--wait", "3600"])
    for _ in range(2):
        run = project.apply()
        assert (run.code, "comes after a, which is failed" in run.out) == (4, True), run.out + run.err
        assert project.run_ids == ["a-1", "b-1", "c-1"]
    told = next(line for line in project.run("history", "b").out.splitlines() if "withdrawn by the engine" in line)
    assert told.split()[3:5] == ["ended", "withdrawn"], told
    project.begin(AGAIN)
    assert project.run_ids[3:] == ["a-2", "b-2", "c-2"]
    for job in "abc":
        project.cluster.end(job)
    project.is_at_rest(AGAIN, ["a-1", "b-1", "c-1", "a-2", "b-2", "c-2"])


def test_a_run_that_waits_is_aborted_without_having_executed_anything(project: PersonsProject) -> None:
    project.begin(ALL)
    project.begin(f"{A}\n  b: {{state: aborted}}")
    assert runs(project)["b-1"] == ("aborted", False)
    assert runs(project)["c-1"] == ("withdrawn", False)


def test_a_first_run_whose_answer_is_lost_lets_nothing_else_begin(project: PersonsProject) -> None:
    project.lost, project.times_lost = Lost.BEFORE, 20
    project.write(ALL)
    assert project.apply().code == 5
    assert project.run_ids == []
    project.lost = None
    project.write(ALL)
    assert (project.apply().code, project.run_ids) == (4, ["a-1"])
    project.begin(ALL)
    assert project.run_ids == ["a-1", "b-1", "c-1"]
    assert project.cluster.runs()[1].after == (project.cluster.runs()[0].ref,)


def test_an_engine_that_does_not_chain_is_waited_for(tmp_path: Path) -> None:
    with persons_project(tmp_path) as project:
        project.begin(ALL)
        assert project.run_ids == ["a-1"]
        project.cluster.end("a")
        project.begin(ALL)
        assert project.run_ids == ["a-1", "b-1"]
