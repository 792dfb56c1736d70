"""The workspace of a command: the manifest, the state and the engine, each found once."""

import subprocess
import sys
from pathlib import Path
from threading import Event

import pytest

from project import Project
from reconciler.model.errors import ManifestError
from reconciler.usecases.place import Place
from reconciler.usecases.workspace import Workspace
from reconciler.usecases.world import World

COUNTING = """\
import sys
count = 0
def hook(event, arguments):
    global count
    if event == "open" and str(arguments[0]).endswith("jobs.yaml"):
        count += 1
sys.addaudithook(hook)
from reconciler.cli import main
try:
    main()
finally:
    sys.stderr.write(f"{count} opens")
"""


@pytest.mark.parametrize(
    "command",
    [
        ["plan", "--verbose"],
        ["plan", "--format", "html"],
        ["apply", "--dry-run"],
        ["apply", "--yes"],
        ["history", "nightly"],
        ["state", "list"],
        ["state", "show", "nightly"],
        ["state", "forget", "nightly"],
        ["status"],
        ["drift", "--format", "markdown"],
    ],
    ids=" ".join,
)
def test_a_command_reads_a_manifest_file_once(tmp_path: Path, command: list[str]) -> None:
    project = Project(tmp_path)
    project.write("nightly: {state: running}")
    assert project.run("apply", "--yes").code == 0
    run = subprocess.run(
        [sys.executable, "-c", COUNTING, *command],
        cwd=tmp_path,
        env=project.env,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert run.returncode == 0, run.stderr
    assert run.stderr.endswith("1 opens"), run.stderr


def test_a_workspace_keeps_the_manifest_that_it_has_read(tmp_path: Path) -> None:
    manifest = tmp_path / "jobs.yaml"
    manifest.write_text("apiVersion: reconciler/v1\ntarget: {engine: sandbox}\njobs: {a: {state: running}}\n")
    workspace = Workspace(Place((str(manifest),)), World({}, Event()))
    assert list(workspace.manifest.jobs) == ["a"]
    manifest.write_text("no manifest any more")
    assert workspace.head.target == workspace.manifest.target
    assert workspace.declared_ids == {"a": "a"}
    assert workspace.home.url == str(tmp_path / "jobs.state.json")
    assert workspace.at(workspace.place) is workspace
    elsewhere = workspace.at(workspace.place._replace(state_url="other.json"))
    assert elsewhere.home.url == "other.json"
    with pytest.raises(ManifestError):
        elsewhere.check_manifest()


def test_a_faulty_job_hides_neither_the_home_nor_the_target_nor_the_names(tmp_path: Path) -> None:
    manifest = tmp_path / "jobs.yaml"
    manifest.write_text(
        "apiVersion: reconciler/v1\ntarget: {engine: sandbox}\nstate: kept.json\n"
        "jobs: {a: {state: running}, b: {state: wrong, id: b-1}}\n"
    )
    remarks: list[str] = []
    workspace = Workspace(Place((str(manifest),)), World({}, Event(), remarks.append))
    assert workspace.home.url.endswith("kept.json")
    assert workspace.head.target.engine == "sandbox"
    assert workspace.declared_ids == {"a": "a", "b": "b-1"}
    assert remarks == []
    with pytest.raises(ManifestError):
        workspace.check_manifest()
