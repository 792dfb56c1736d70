"""A config that names a file: the content counts, in plans, in digests and between two commits."""

import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from forge import WHO
from project import Project
from reconciler.manifest.parse import parse
from reconciler.model.errors import ManifestError
from reconciler.usecases.engines import plugin_named


def manifest(*jobs: str, more: str = "") -> bytes:
    lines = "".join(f"  {job}\n" for job in jobs)
    return f"apiVersion: reconciler/v1\ntarget: {{engine: local}}\n{more}jobs:\n{lines}".encode()


BATCH = manifest("a: {state: running, config: {batch: run.sh, workdir: .}}")


def parsed(content: bytes, files: Mapping[str, bytes]) -> list[Mapping[str, object]]:
    """The configs of a manifest whose files are in a mapping."""
    found = parse([("jobs.yaml", content)], plugin_named, read=lambda file, path: files[path])
    return [job.config for job in found.jobs.values()]


def faults(project: Project) -> str:
    run = project.run("validate")
    assert run.code == 1, run
    return run.out + run.err


@pytest.fixture
def project(tmp_path: Path) -> Project:
    project = Project(tmp_path)
    (tmp_path / "jobs.yaml").write_bytes(BATCH)
    return project


def test_the_content_stands_for_the_script() -> None:
    assert parsed(BATCH, {"run.sh": b"echo x\n"}) == [{"script": "echo x\n", "workdir": "."}]


def test_a_default_may_name_a_file_and_a_job_another_one() -> None:
    content = manifest(
        "a: {state: running}",
        "b: {state: running, config: {batch: b.sh}}",
        more="defaults: {config: {batch: all.sh}}\n",
    )
    assert parsed(content, {"all.sh": b"all", "b.sh": b"b"}) == [{"script": "all"}, {"script": "b"}]


def test_a_file_is_relative_to_the_file_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "jobs" / "media").mkdir(parents=True)
    (tmp_path / "jobs" / "media" / "a.yaml").write_bytes(BATCH)
    (tmp_path / "jobs" / "media" / "run.sh").write_text("echo x")
    assert Project(tmp_path).run("validate", "jobs").out == "Valid: 1 job in 1 file.\n"


def test_a_file_that_can_not_be_taken_is_a_fault_at_the_place_of_its_name(project: Project) -> None:
    assert "jobs.yaml:4:39: batch: run.sh: can't be read: No such file or directory" in faults(project)
    script = project.folder / "run.sh"
    script.write_bytes(b"\xff")
    assert "jobs.yaml:4:39: batch: run.sh is not text in UTF-8" in faults(project)
    script.write_bytes(b"")
    assert "jobs.yaml:4:39: script:" in faults(project)
    script.write_text("x" * 100_001)
    assert "jobs.yaml:4:39: script:" in faults(project)
    script.unlink()
    script.mkdir()
    assert "jobs.yaml:4:39: batch: run.sh" in faults(project)


def test_a_file_outside_of_the_repository_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "inside").mkdir()
    (tmp_path / "secret").write_text("echo secret")
    project = Project(tmp_path / "inside")
    (project.folder / "jobs.yaml").write_bytes(BATCH)
    (project.folder / "run.sh").symlink_to("../secret")
    assert "batch: run.sh is outside of" in faults(project)
    for path in ("../secret", str(tmp_path / "secret")):
        (project.folder / "jobs.yaml").write_bytes(BATCH.replace(b"run.sh", path.encode()))
        assert "is outside of" in faults(project)


@pytest.mark.parametrize("named", ["run.sh", ".git/config", "now/config"])
def test_no_file_of_git_s_own_folder_is_read(project: Project, named: str) -> None:
    """A token in `.git/config` would be the script of a job, and a plan would show it."""
    subprocess.run(["git", "init", "-q"], cwd=project.folder, check=True)
    (project.folder / "run.sh").symlink_to(".git/config")
    (project.folder / "now").symlink_to(".git")
    (project.folder / "jobs.yaml").write_bytes(BATCH.replace(b"run.sh", named.encode()))
    assert f"jobs.yaml:4:39: batch: {named} leads into .git, where git keeps tokens too, and is not read" in faults(
        project
    )


def test_a_script_and_a_file_for_it_are_one_too_many() -> None:
    content = manifest("a: {state: running, config: {batch: run.sh, script: echo x}}")
    with pytest.raises(ManifestError) as refused:
        parsed(content, {"run.sh": b"echo x"})
    (fault,) = refused.value.diagnostics
    assert (fault.position.column, "which is given too" in fault.message) == (39, True)


def test_a_changed_content_is_a_change_of_the_config(project: Project) -> None:
    script = project.folder / "run.sh"
    script.write_text("echo 1")
    assert project.run("plan", "--out", "plan.json").code == 0
    script.write_text("echo 2")
    stale = project.run("apply", "--yes", "--plan", "plan.json")
    assert (stale.code, project.folder.joinpath("jobs.local").exists()) == (4, False), stale


def test_the_difference_of_two_commits_has_the_contents_of_each(project: Project) -> None:
    def git(*words: str) -> None:
        command = ["git", *WHO, "-C", str(project.folder), *words]
        subprocess.run(command, check=True, env=project.env, capture_output=True)

    script = project.folder / "run.sh"
    git("init", "-q")
    for text in ("echo 1", "echo 2"):
        script.write_text(text)
        git("add", ".")
        git("commit", "-q", "-m", text)
    script.unlink()
    between = project.run("diff", "HEAD~1", "HEAD")
    assert (between.code, 'config.script "echo 1" → "echo 2"' in between.out) == (0, True), between


# --- one document of a file --------------------------------------------------------------------------------------

CHART = b"""\
# Source: shop/templates/config.yaml
apiVersion: v1
kind: ConfigMap
metadata: {name: migrate}
data: {text: &anchor odd, same: *anchor}
---
# Source: shop/templates/jobs.yaml
apiVersion: batch/v1
kind: Job
metadata: {name: migrate}
spec: {template: {spec: {containers: [{name: main, image: "shop:1"}]}}}
--- # a comment
apiVersion: batch/v1
kind: Job
metadata: {name: seed}
spec: {template: {spec: {containers: [{name: main, image: "seed:1", command: ["yes"]}]}}}
"""


def with_manifest(named: str, *, more: str = "") -> bytes:
    job = f"a: {{state: running, config: {{manifest: {named}}}}}"
    return manifest(job, more=more).replace(b"engine: local", b"engine: kubernetes")


def chosen(named: str, chart: bytes = CHART) -> str:
    (config,) = parsed(with_manifest(named), {"chart.yaml": chart})
    job = config["job"]
    assert isinstance(job, dict)
    return str(job["metadata"]["name"])


def test_one_job_of_a_file_is_taken_by_its_name() -> None:
    assert chosen("{file: chart.yaml, name: seed}") == "seed"
    assert chosen("{file: chart.yaml}", CHART.partition(b"--- # a comment")[0]) == "migrate"


@pytest.mark.parametrize(
    ("named", "fault"),
    [
        ("{file: chart.yaml}", "chart.yaml has more than one Job: migrate, seed: name one of them"),
        (
            "{file: chart.yaml, name: sead}",
            'chart.yaml has no Job sead: it has migrate, seed; did you mean "seed"?',
        ),
        ("{file: chart.yaml, nmae: seed}", "nmae"),
        ("chart.yaml", "manifest"),
    ],
)
def test_a_job_that_can_not_be_chosen_is_a_fault(named: str, fault: str) -> None:
    with pytest.raises(ManifestError) as refused:
        chosen(named)
    assert any(fault in each.message for each in refused.value.diagnostics), refused.value.diagnostics


@pytest.mark.parametrize(
    ("chart", "fault"),
    [
        (b"kind: ConfigMap", "chart.yaml has no Job seed"),
        (b"kind: [", "chart.yaml has no Job seed; chart.yaml:1:8: "),
        (CHART.replace(b'["yes"]', b"[yes]"), "chart.yaml:16:"),
        (CHART.replace(b'["yes"]', b"*anchor"), "chart.yaml:16:"),
    ],
)
def test_a_fault_of_a_document_has_its_line_in_the_file(chart: bytes, fault: str) -> None:
    with pytest.raises(ManifestError) as refused:
        chosen("{file: chart.yaml, name: seed}", chart)
    (found,) = refused.value.diagnostics
    assert (found.position.line, found.message.startswith("manifest: ")) == (4, True)
    assert fault in found.message


def test_what_follows_a_document_keeps_its_place() -> None:
    content = with_manifest("{file: chart.yaml, name: seed}").replace(b"}}}", b"}, keepFor: x}}")
    with pytest.raises(ManifestError) as refused:
        parsed(content, {"chart.yaml": CHART})
    (fault,) = refused.value.diagnostics
    line = content.decode().splitlines()[3]
    assert fault.position.column == line.index("keepFor: x") + len("keepFor: ") + 1
