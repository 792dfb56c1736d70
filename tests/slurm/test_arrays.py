"""Arrays: one job, whose tasks are counted, and of which the failed ones can be run once more."""

from pathlib import Path

import pytest

from slurm.cluster import Accounting
from slurm.cluster_folder import SlurmProject
from slurm.conftest import NewCluster

SCRIPT = """\
#!/bin/sh
#SBATCH --array=1-7%4
echo "$SLURM_JOB_NAME $SLURM_ARRAY_TASK_ID" >> ran
echo "task $SLURM_ARRAY_TASK_ID"
[ -e mended ] || [ $((SLURM_ARRAY_TASK_ID % 3)) -ne 0 ]
"""


@pytest.fixture(params=[False, True], ids=["without accounting", "with accounting"])
def project(
    request: pytest.FixtureRequest, tmp_path: Path, new_cluster: NewCluster, accounting: Accounting
) -> SlurmProject:
    return SlurmProject(tmp_path, new_cluster(accounting=accounting if request.param else None))


def test_the_failed_tasks_of_an_array_are_run_once_more_and_then_the_whole_array_again(project: SlurmProject) -> None:
    (project.folder / "part.sbatch").write_text(SCRIPT)
    project.declare(config={"batch": "part.sbatch"})
    project.applied()
    waited = project.run("wait", "a")
    assert waited.code == 3, waited
    assert "5 of 7 tasks complete, 2 failed" in project.run("status").out
    assert project.lines("ran") == [f"a-1 {task}" for task in range(1, 8)]

    asked = project.run("rerun", "a", "--tasks", "failed", "--token", "again")
    assert (asked.code, asked.out) == (0, 'jobs.yaml:7: a: runToken "again", for the tasks 3,6\n')
    plan = project.run("plan")
    assert "a: this run takes the tasks 3,6 of its array alone" in plan.out
    (project.folder / "mended").touch()
    project.applied("--wait", "60")
    assert project.run("wait", "a").code == 0
    assert "2 of 2 tasks complete" in project.run("status", "--format", "json").out
    assert [line for line in project.lines("ran") if "a-2" in line] == ["a-2 3", "a-2 6"]

    project.run("rerun", "a", "--token", "whole")
    assert "alone" not in project.run("plan").out
    project.applied("--wait", "60")
    assert project.run("wait", "a").code == 0
    assert len([line for line in project.lines("ran") if "a-3" in line]) == 7
    assert project.run("drift").code == 0


def test_a_run_without_failed_tasks_has_none_to_run_again(project: SlurmProject) -> None:
    project.declare(config={"command": ["true"], "array": "1-2"})
    refused = project.run("rerun", "a", "--tasks", "failed")
    assert (refused.code, refused.err.splitlines()[0]) == (
        4,
        "error: no run of a is recorded, so none of its tasks has failed",
    )
    project.applied("--wait", "60")
    assert project.run("wait", "a").code == 0
    before = project.files
    refused = project.run("rerun", "a", "--tasks", "failed")
    assert refused.code == 4
    assert "no task of a-1 is known to have failed (complete" in refused.err
    assert project.files == before


def test_the_tasks_of_an_array_that_is_not_over_may_still_fail(project: SlurmProject) -> None:
    script = '#!/bin/sh\necho x >> ran\n[ "$SLURM_ARRAY_TASK_ID" = 1 ] && exit 1\nuntil [ -e go ]; do sleep 0.1; done\n'
    project.declare(config={"script": script, "array": "1-2"})
    project.applied()
    refused = project.run("rerun", "a", "--tasks", "failed")
    (project.folder / "go").touch()
    assert refused.code == 4
    assert "a-1 is not over, and more of its tasks may fail" in refused.err
    project.run("wait", "a")
