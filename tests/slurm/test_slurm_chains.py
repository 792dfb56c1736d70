"""Jobs that come after others: one apply sends all of them, and Slurm begins each in its turn."""

from pathlib import Path

import pytest

from reconciler.engines.port import Marks, Step, Verb
from reconciler.engines.slurm.plugin import PLUGIN
from reconciler.testing.services import opened
from slurm.cluster import Accounting
from slurm.cluster_folder import SlurmProject
from slurm.conftest import NewCluster
from slurm.service import SlurmService
from waits import until

NOTES = "#!/bin/sh\\necho $SLURM_JOB_NAME >> ran\\n"
WAITS = f"{NOTES}while [ ! -e go ]; do sleep 0.1; done\\n"
FAILS = f"{WAITS}[ -e mended ]\\n"


@pytest.fixture(params=[False, True], ids=["without accounting", "with accounting"])
def project(
    request: pytest.FixtureRequest, tmp_path: Path, new_cluster: NewCluster, accounting: Accounting
) -> SlurmProject:
    return SlurmProject(tmp_path, new_cluster(accounting=accounting if request.param else None, min_job_age_s=5))


def pipeline(project: SlurmProject, script: str, more: str = "") -> None:
    project.write(
        f'extract: {{state: running, config: {{script: "{script}"}}{more}}}\n'
        f'  load: {{state: running, after: [extract], config: {{script: "{NOTES}"}}}}\n'
        f'  report: {{state: running, after: [load], config: {{array: 1-2, script: "{NOTES}"}}}}'
    )


def test_one_apply_sends_a_pipeline_that_slurm_carries_out_by_itself(project: SlurmProject) -> None:
    pipeline(project, WAITS)
    project.applied()
    until(lambda: project.run("status").out.count("Dependency") == 2)
    assert "Nothing to do" in project.applied().out
    (project.folder / "go").touch()
    assert project.run("wait").code == 0
    assert project.lines("ran") == ["extract-1", "load-1", "report-1", "report-1"]
    assert project.run("drift").code == 0


def test_what_comes_after_a_failed_run_is_withdrawn_and_runs_after_the_next_one(project: SlurmProject) -> None:
    pipeline(project, FAILS)
    project.applied()
    (project.folder / "go").touch()
    assert project.run("wait").code == 3
    found = project.run("status").out
    assert found.count("withdrawn") == 2
    assert "it never began, since a job that it comes after did not complete" in found
    held = project.run("apply", "--yes")
    assert (held.code, "comes after extract, which is failed" in held.out) == (4, True)
    SlurmService(project.cluster, project.folder, lambda: project.cluster).forget("load")
    assert project.run("apply", "--yes").code in (0, 4)
    assert project.lines("ran") == ["extract-1"]
    (project.folder / "mended").touch()
    (project.folder / "go").unlink()
    pipeline(project, FAILS, ", runToken: mended")
    project.applied()
    (project.folder / "go").touch()
    assert project.run("wait").code == 0
    assert project.lines("ran") == ["extract-1", "extract-2", "load-2", "report-2", "report-2"]


def test_a_job_is_not_released_that_comes_after_one_that_slurm_has_dropped(project: SlurmProject) -> None:
    """Slurm takes the id of a job that it has dropped for one that has ended well."""
    pipeline(project, FAILS)
    (project.folder / "go").touch()
    project.applied("--target", "extract")
    assert project.run("wait").code == 3
    gone = project.state["jobs"]["extract"]["ref"]
    service = SlurmService(project.cluster, project.folder, lambda: project.cluster)
    service.forget("extract")
    step = Step(Verb.RUN, "load", "load-1", {"script": "#!/bin/sh\\ntrue\\n"}, marks=Marks("ours", "op"), after=(gone,))
    with opened(PLUGIN, service) as engine:
        sent = engine.send(step._replace(staged=engine.stage(step)))
    assert sent.reason == "other"
    assert "which does not go on and is not known to have completed" in sent.message
    states = project.cluster.command("squeue", "-h", "-t", "all", "-o", "%j %T").splitlines()
    assert states == ["load-1 CANCELLED"]


def test_a_dependency_of_its_own_counts_too(project: SlurmProject) -> None:
    other = project.cluster.command("sbatch", "--parsable", "-H", "-o", "/dev/null", "--wrap", "true").strip()
    script = f"#SBATCH --dependency=afterany:{other}\\n{NOTES.removeprefix('#!/bin/sh')}"
    project.write(
        f'extract: {{state: running, config: {{script: "{WAITS}"}}}}\n'
        f'  load: {{state: running, after: [extract], config: {{script: "#!/bin/sh\\n{script}"}}}}'
    )
    project.applied()
    shown = project.cluster.command("squeue", "-h", "-o", "%j %E")
    (line,) = [line for line in shown.splitlines() if line.startswith("load-1 ")]
    assert f"afterany:{other}" in line
    assert "afterok" in line
    (project.folder / "go").touch()
    until(lambda: project.lines("ran") == ["extract-1"])
    project.cluster.command("scontrol", "release", other)
    until(lambda: project.lines("ran") == ["extract-1", "load-1"])
