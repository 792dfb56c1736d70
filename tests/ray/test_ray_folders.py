"""The folder of a job on a real head: what the job finds, and what becomes of files that change."""

import subprocess
from pathlib import Path

import pytest

from forge import WHO
from ray.cluster import Cluster
from ray.service import await_end
from ray.test_ray_scenes import RayProject, project

__all__ = ["project"]

LIST = "find . -type f -o -type l | sort; ./run.sh; cat shared/data.txt"
"""What the job does in its folder."""


@pytest.fixture
def folders(project: RayProject) -> RayProject:
    """A repository with a folder that has what a folder can have."""
    home = project.folder
    subprocess.run(["git", "init", "-q", str(home)], check=True)
    for path, content in {
        ".gitignore": "*.ckpt\n",
        "shared/data.txt": "shared data\n",
        "train/.rayignore": "notes\n",
        "train/notes": "n",
        "train/x.ckpt": "x",
        "train/__pycache__/a.pyc": "x",
        "train/run.sh": "#!/bin/sh\necho executed\n",
    }.items():
        (home / path).parent.mkdir(parents=True, exist_ok=True)
        (home / path).write_text(content)
    (home / "train/run.sh").chmod(0o755)
    (home / "train/shared").symlink_to("../shared")
    declare(project)
    return project


def declare(project: RayProject, more: str = "") -> None:
    job = f"state: running, {more} config: {{script: '{LIST}', working_dir: train, jobTimeout: 300}}"
    project.write(f"{project.name('a')}: {{{job}}}")


def test_a_job_finds_the_files_that_count(folders: RayProject) -> None:
    folders.applied()
    await_end(folders.cluster, [f"{folders.name('a')}-1"])
    log = folders.run("logs", folders.name("a"), "--tail", "5").out.splitlines()
    assert log == ["./.rayignore", "./run.sh", "./shared/data.txt", "executed", "shared data"]


def test_a_saved_plan_is_about_the_files_of_its_time(folders: RayProject) -> None:
    folders.applied()
    await_end(folders.cluster, [f"{folders.name('a')}-1"])
    assert folders.run("apply", "--yes").code == 0
    declare(folders, "onConfigChange: rerun,")
    (folders.folder / "shared/data.txt").write_text("other data\n")
    assert folders.run("plan", "--out", "plan.json").code == 0
    (folders.folder / "shared/data.txt").write_text("later data\n")
    refused = folders.run("apply", "--plan", "plan.json", "--yes")
    assert refused.code == 4, refused
    assert folders.jobs() == {"a-1": "SUCCEEDED"}
    (folders.folder / "shared/data.txt").write_text("other data\n")
    assert folders.run("apply", "--plan", "plan.json", "--yes").code == 0
    await_end(folders.cluster, [f"{folders.name('a')}-2"])
    assert folders.run("logs", folders.name("a"), "--tail", "1").out == "other data\n"


def test_files_that_are_back_as_they_were_run_nothing(folders: RayProject) -> None:
    declare(folders, "onConfigChange: rerun,")
    folders.applied()
    await_end(folders.cluster, [f"{folders.name('a')}-1"])
    assert folders.run("apply", "--yes").code == 0
    data = folders.folder / "shared/data.txt"
    data.write_text("other data\n")
    assert "1 to run" in folders.run("plan").out
    data.write_text("shared data\n")
    assert "Nothing to do" in folders.run("apply", "--yes").out
    subprocess.run(["git", "-C", str(folders.folder), "add", "."], check=True)
    subprocess.run(["git", "-C", str(folders.folder), *WHO, "commit", "-q", "-m", "x"], check=True)
    assert "No changes" in folders.run("diff", "HEAD", "HEAD").out
    assert list(folders.jobs()) == ["a-1"]


def test_a_folder_that_is_gone_stops_the_run_before_anything_is_sent(
    folders: RayProject, cluster: Cluster, tmp_path: Path
) -> None:
    (tmp_path / "train").rename(tmp_path / "elsewhere")
    run = folders.run("apply", "--yes")
    assert run.code == 1, run
    assert "train: there is no such folder" in run.out + run.err
    assert folders.jobs() == {}
