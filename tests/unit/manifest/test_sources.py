"""The files of a folder that are read as its manifest. A file that looks like a manifest is never passed over."""

import os
import re
import socket
import subprocess
from pathlib import Path

import pytest

from project import Project, done
from reconciler.manifest import files as sources
from reconciler.manifest.files import read_sources
from reconciler.model.errors import ReconcilerError

HEAD = "apiVersion: reconciler/v1\n"
SECRET = "machine host.invalid password not-to-be-shown\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a manifest in jobs/, in no repository."""
    (tmp_path / "here" / "jobs").mkdir(parents=True)
    (tmp_path / "here" / "jobs" / "a.yaml").write_text(HEAD)
    (tmp_path / "secret").write_text(SECRET)
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def names() -> list[str]:
    return [name for name, _ in read_sources(["jobs"])]


def refusal() -> str:
    with pytest.raises(ReconcilerError) as caught:
        read_sources(["jobs"])
    assert caught.value.hint
    assert "not-to-be-shown" not in caught.value.message
    return caught.value.message


def test_an_ending_in_capitals_is_read_and_its_job_is_not_pruned(served: Project) -> None:
    (served.folder / "jobs").mkdir()
    served.write("a: {state: running}", name="jobs/a.yaml")
    (served.folder / "jobs" / "b.YAML").write_text(f"{HEAD}jobs:\n  b: {{state: running}}\n")
    (served.folder / "jobs" / "c.Yml").write_text(f"{HEAD}jobs:\n  c: {{state: running}}\n")
    assert served.run("apply", "--yes", "jobs").code == 0
    run = served.run("plan", "--prune", "jobs")
    assert run.out == "No changes: 3 jobs are as recorded.\n"
    assert len(done(served)) == 3


def test_the_state_of_a_file_whose_ending_is_in_capitals_stands_beside_it_as_of_any_other(served: Project) -> None:
    served.write("a: {state: running}", name="web.YML")
    assert served.run("apply", "--yes", "web.YML").code == 0
    assert (served.folder / "web.state.json").exists()


def test_a_revision_is_read_as_the_folder_is(served: Project) -> None:
    (served.folder / "jobs").mkdir()
    served.write("a: {state: running}", name="jobs/a.YAML")
    for words in (["init", "-q"], ["add", "jobs"], ["commit", "-qm", "one"]):
        subprocess.run(
            ["git", "-c", "user.name=a", "-c", "user.email=a@b.invalid", *words], cwd=served.folder, check=True
        )
    assert served.run("diff", "HEAD", "HEAD", "jobs").out.startswith("No changes")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("b.yaml.bak", "jobs: {}"),
        ("b.yaml~", "jobs: {}"),
        ("b.yml.disabled", "jobs: {}"),
        ("b.YAML.txt", "jobs: {}"),
        ("b.yaml ", "jobs: {}"),
        ("b.json", '{\n  "apiVersion": "reconciler/v1",\n  "jobs": {}\n}'),
        ("b.conf", "# the others\n\n---\napiVersion: reconciler/v1\njobs: {}"),
        ("b", "{apiVersion: reconciler/v1, jobs: {}}"),
        ("b.yam", "\ufeffapiVersion: 'reconciler/v1'"),
    ],
)
def test_what_looks_like_a_manifest_and_is_not_read_is_refused(folder: Path, name: str, content: str) -> None:
    (folder / "jobs" / name).write_text(content)
    assert refusal() == (
        f"jobs/{name} looks like a manifest, and only *.yaml and *.yml are read: its jobs would be left out"
    )


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.yaml.bak", HEAD),
        ("a.yaml~", HEAD),
        ("#a.yaml#", HEAD),
        (".b.yaml.swp", HEAD),
        (".b.yaml", HEAD),
        ("README.md", f"# Jobs\n\n```yaml\n{HEAD}```\n"),
        ("jobs.state.json", '{"digest": "sha256:", "jobs": {}}'),
        ("plan.json", '{"formatVersion": 1, "commit": "apiVersion: reconciler/v1"}'),
        ("manifest.schema.json", '{"properties": {"apiVersion": {"const": "reconciler/v1"}}}'),
        ("run.sh", "#!/bin/sh\nreconciler plan b.yaml\n"),
        ("empty", ""),
    ],
)
def test_what_is_no_manifest_or_a_copy_of_one_that_is_read_is_passed_over(
    folder: Path, name: str, content: str
) -> None:
    (folder / "jobs" / name).write_text(content)
    assert names() == ["jobs/a.yaml"]


def test_what_would_be_left_out_is_refused_before_prune_deletes_its_job(served: Project) -> None:
    (served.folder / "jobs").mkdir()
    served.write("a: {state: running}", name="jobs/a.yaml")
    (served.folder / "jobs" / "b.yaml").write_text(f"{HEAD}jobs:\n  b: {{state: running}}\n")
    assert served.run("apply", "--yes", "jobs").code == 0
    (served.folder / "jobs" / "b.yaml").rename(served.folder / "jobs" / "b.yaml.txt")
    run = served.run("apply", "--yes", "--prune", "jobs")
    assert (run.code, "jobs/b.yaml.txt looks like a manifest" in run.err) == (1, True)
    assert done(served) == [("run", "a"), ("run", "b")] or done(served) == [("run", "b"), ("run", "a")]


@pytest.mark.parametrize("name", ["b.yaml", "b"])
def test_a_link_to_what_is_not_there_is_refused_where_it_may_be_a_manifest(folder: Path, name: str) -> None:
    (folder / "jobs" / name).symlink_to("nowhere")
    assert refusal() == f"jobs/{name} is a link to what is not there"


def test_a_link_to_itself_is_refused(folder: Path) -> None:
    (folder / "jobs" / "b.yaml").symlink_to("b.yaml")
    assert re.fullmatch(r"jobs/b\.yaml: can't be read: .*[Ll]inks.*", refusal())


@pytest.mark.parametrize("name", ["b.yaml", "b.yml", "more"])
@pytest.mark.parametrize("git", [True, False])
def test_a_link_that_leads_out_is_refused_without_a_word_of_what_it_leads_to(
    folder: Path, name: str, git: bool
) -> None:
    if git:
        subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    target = folder.parent / "secret"
    if name == "more":
        target = folder.parent / "secrets"
        target.mkdir()
        (target / "x.yaml").write_text(SECRET)
    (folder / "jobs" / name).symlink_to(target)
    assert refusal() == f"jobs/{name} is a link that leads out of its repository, and is not followed"


@pytest.mark.parametrize("named", ["jobs.yaml", "more"])
def test_a_named_path_of_a_repository_does_not_lead_out_of_it_either(folder: Path, named: str) -> None:
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    (folder / "jobs.yaml").symlink_to(folder.parent / "secret")
    (folder / "more").symlink_to(folder.parent)
    with pytest.raises(ReconcilerError, match="leads out of its repository"):
        read_sources([named])


@pytest.mark.parametrize("target", ["../.git/config", "../.git", "../.git/info"])
def test_a_link_into_git_s_own_folder_is_refused_without_a_word_of_what_it_leads_to(folder: Path, target: str) -> None:
    """A fault of YAML would quote a line of `.git/config`, in which actions/checkout keeps a token."""
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    (folder / "jobs" / "b.yaml").symlink_to(target)
    assert refusal() == "jobs/b.yaml leads into .git, where git keeps tokens too, and is not read"
    with pytest.raises(ReconcilerError, match=r"jobs/b.yaml leads into .git"):
        read_sources(["jobs/b.yaml"])


def test_links_within_the_repository_are_followed(folder: Path) -> None:
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    (folder / "shared").mkdir()
    (folder / "shared" / "s.yaml").write_text(HEAD)
    (folder / "jobs" / "team").symlink_to("../shared")
    (folder / "jobs" / "t.yaml").symlink_to("../shared/s.yaml")
    assert names() == ["jobs/a.yaml", "jobs/t.yaml"]


def test_a_link_that_is_named_outside_of_any_repository_is_followed(folder: Path) -> None:
    (folder / "current").symlink_to("jobs")
    (folder / "jobs.yaml").symlink_to("../here/jobs/a.yaml")
    assert [name for name, _ in read_sources(["current", "jobs.yaml"])] == ["current/a.yaml"]


def test_links_do_not_multiply_what_is_walked(folder: Path) -> None:
    """Thirty folders with two links each to the next one have 2**30 paths."""
    for number in range(30):
        (folder / "jobs" / f"d{number}").mkdir()
        for name in ("x", "y"):
            (folder / "jobs" / f"d{number}" / name).symlink_to(f"../d{(number + 1) % 30}")
    assert names() == ["jobs/a.yaml"]


@pytest.mark.parametrize("kind", ["pipe", "socket"])
def test_a_pipe_or_a_socket_in_a_folder_is_refused_and_not_waited_for(folder: Path, kind: str) -> None:
    path = folder / "jobs" / "b.yaml"
    if kind == "pipe":
        os.mkfifo(path)
    else:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind("jobs/b.yaml")
    assert refusal() == "jobs/b.yaml is no regular file, and is not read"


def test_a_pipe_of_another_name_is_no_matter(folder: Path) -> None:
    os.mkfifo(folder / "jobs" / "b")
    assert names() == ["jobs/a.yaml"]


def test_a_folder_that_is_named_as_a_file_is_a_folder(folder: Path) -> None:
    (folder / "jobs" / "b.yaml").mkdir()
    (folder / "jobs" / "b.yaml" / "c.yaml").write_text(HEAD)
    assert names() == ["jobs/a.yaml", "jobs/b.yaml/c.yaml"]
    assert len(read_sources(["jobs/b.yaml"])) == 1


def test_a_manifest_may_come_through_a_pipe_that_is_named(served: Project) -> None:
    served.write("a: {state: running}")
    command = " ".join(served.command("plan", "<(cat jobs.yaml)", "--state", "jobs.state.json"))
    bash = ["bash", "-c", command]
    run = subprocess.run(bash, cwd=served.folder, env=served.env, capture_output=True, text=True, check=False)
    assert run.stdout.startswith("Plan: 1 to run.\n"), run.stderr


def test_a_file_that_is_too_long_is_not_read(folder: Path) -> None:
    path = folder / "jobs" / "b.yaml"
    with path.open("wb") as file:
        file.truncate(sources.LIMIT_BYTES + 1)
    assert refusal() == "jobs/b.yaml: can't be read: it is longer than 256 MiB"


def test_a_device_without_an_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "LIMIT_BYTES", 1 << 22)
    with pytest.raises(ReconcilerError, match="it is longer than 4 MiB"):
        read_sources(["/dev/zero"])


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
@pytest.mark.parametrize("mode", [0, 0o400, 0o100])
def test_a_folder_that_can_not_be_looked_through_is_an_error(folder: Path, mode: int) -> None:
    inner = folder / "jobs" / "inner"
    inner.mkdir()
    (inner / "b.yaml").write_text(HEAD)
    inner.chmod(mode)
    try:
        assert "can't be read: Permission denied" in refusal()
    finally:
        inner.chmod(0o700)
