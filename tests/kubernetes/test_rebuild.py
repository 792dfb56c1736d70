"""A state that was lost is made anew from the labels and annotations of Jobs, on a real API server."""

from kubernetes.cluster import Cluster
from kubernetes.test_scenes import KubernetesProject, project
from waits import until

__all__ = ["project"]


def _lose(project: KubernetesProject) -> None:
    for name in ("jobs.state.json", "jobs.history.jsonl"):
        (project.folder / name).unlink()
    for mark in (project.folder / ".marks").rglob("*"):
        if mark.is_file():
            mark.unlink()


def test_a_lost_state_goes_on_under_its_lineage_and_nothing_runs_twice(
    project: KubernetesProject, cluster: Cluster
) -> None:
    for image in ("v1", "v2"):
        project.declare(image, more="onConfigChange: rerun, runToken: 'x',")
        project.applied("--wait", "60")
        assert project.run("wait", "a").code == 0
    before = project.state
    _lose(project)
    _, there = cluster.request("GET", f"/apis/batch/v1/namespaces/{project.namespace}/jobs")
    held = project.run("plan", "--refresh")
    assert "Plan: 1 held." in held.out
    assert "reconciler state rebuild" in held.out
    assert project.run("apply", "--yes").code == 4
    assert project.run("state", "rebuild").code == 4
    rebuilt = project.run("state", "rebuild", "--yes")
    assert (rebuilt.code, rebuilt.err) == (0, ""), rebuilt
    after = project.state
    assert (after["lineage"], after["identity"]) == (before["lineage"], before["identity"])
    for field in ("id", "state", "config", "run", "ref", "runTokens", "ranConfigs", "end"):
        assert after["jobs"]["a"].get(field) == before["jobs"]["a"].get(field), field
    assert project.run("plan", "--refresh").out == "No changes: 1 job is as recorded.\n"
    assert project.applied() == "Nothing to do: 1 job is as recorded.\n"
    _, since = cluster.request("GET", f"/apis/batch/v1/namespaces/{project.namespace}/jobs")
    assert since["items"] == there["items"]
    project.declare("v1", more="onConfigChange: rerun, runToken: 'x',")
    assert "this config has run before, and is not run again" in project.applied()
    project.declare("v1", more="onConfigChange: rerun, runToken: 'y',")
    project.applied()
    until(lambda: project.ran == ["a-1", "a-2", "a-3"])
