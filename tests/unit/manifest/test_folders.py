"""A config that names a folder: which files count, and that a digest of them stands for the folder everywhere."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from forge import WHO
from project import Project
from reconciler.manifest.committed import folder_at
from reconciler.manifest.folders import Named, Rules, digest_of, files_in, folder_beside
from reconciler.manifest.parse import parse
from reconciler.manifest.revisions import revision
from reconciler.model.errors import ReconcilerError
from reconciler.usecases.engines import plugin_named

MANIFEST = """\
apiVersion: reconciler/v1
target: {engine: ray, address: "http://127.0.0.1:9"}
jobs:
  train: {state: running, config: {command: [x], working_dir: %s}}
"""
RULES = Rules((".gitignore", ".rayignore"), ("venv",), 1 << 20)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A repository with a manifest and the folder `train`."""
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    write(tmp_path, {"jobs.yaml": MANIFEST % "train", "train/main.py": "print()", "train/lib/a.py": "a"})
    return tmp_path


def write(folder: Path, files: dict[str, str]) -> None:
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(content)


def names(home: Path, folder: str = "train", rules: Rules = RULES) -> list[str]:
    return [one.path for one in files_in(str(home / folder), str(home), rules)]


def digest(home: Path, folder: str = "train") -> str:
    return digest_of(files_in(str(home / folder), str(home), RULES))


def committed(home: Path, folder: str = "train") -> str:
    """Return the digest of a folder in a commit of all that is there now."""
    subprocess.run(["git", "-C", str(home), "add", "-A"], check=True)
    subprocess.run(["git", "-C", str(home), *WHO, "commit", "-q", "--allow-empty", "-m", "x"], check=True)
    at = revision(str(home), "HEAD")
    return digest_of(folder_at(at, Named("HEAD:jobs.yaml", folder, "HEAD:jobs.yaml"), RULES).files)


def fault(home: Path, folder: str = "train", rules: Rules = RULES) -> str:
    with pytest.raises(ReconcilerError) as caught:
        names(home, folder, rules)
    return caught.value.message


def test_all_files_count_in_the_order_of_their_paths(home: Path) -> None:
    write(home, {"train/Z": "", "train/.env": "x"})
    assert names(home) == [".env", "Z", "lib/a.py", "main.py"]


def test_ignored_files_are_left_out_wherever_they_are_named(home: Path) -> None:
    write(home, {".gitignore": "*.ckpt\n/train/data\n", "train/.rayignore": "notes\n!x.ckpt\n"})
    write(home, {"train/lib/.gitignore": "*.tmp\n!kept.ckpt\n", "train/lib/kept.ckpt": "", "train/lib/b.tmp": ""})
    write(home, {"train/x.ckpt": "", "train/data/big": "", "train/notes": "", "train/venv/bin/python": ""})
    assert names(home) == [".rayignore", "lib/.gitignore", "lib/a.py", "lib/kept.ckpt", "main.py"]


def test_a_folder_that_git_ignores_can_be_named(home: Path) -> None:
    """Somebody has built it, and does not commit it."""
    write(home, {".gitignore": "build/\n*.py\n", "build/main.py": "", "build/.gitignore": "log\n", "build/log": ""})
    assert names(home, "build") == [".gitignore", "main.py"]
    assert names(home, ".") == [".gitignore"]


def test_what_the_tool_writes_itself_is_no_part_of_the_folder(home: Path) -> None:
    """Otherwise each apply would change the folder that the manifest is in, and ask for a restart."""
    before = digest(home, ".")
    write(home, {"jobs.state.json": "{}", "jobs.history.jsonl": "", "jobs.state.json.journal": "", "more/b.yml": ""})
    write(
        home,
        {"jobs.state.json.lock": "", "jobs.state.json.lock.tmp": "", "plan.json": ' {"formatVersion": 2, "target": 1}'},
    )
    write(home, {"more/a.yaml": "# x\napiVersion: reconciler/v1\njobs: {}\n", "more/plan.json": "{}"})
    assert names(home, ".") == ["more/b.yml", "more/plan.json", "train/lib/a.py", "train/main.py"]
    os.remove(home / "more/b.yml")
    os.remove(home / "more/plan.json")
    assert digest(home, ".") == before


def test_the_digest_is_of_paths_contents_and_permission_alone(home: Path) -> None:
    before = digest(home)
    os.utime(home / "train/main.py", (1, 1))
    (home / "train/empty").mkdir()
    (home / "train/main.py").chmod(0o600)
    assert digest(home) == before
    digests = {before}
    for change in (
        lambda: (home / "train/main.py").chmod(0o755),
        lambda: (home / "train/main.py").write_text("print(1)"),
        lambda: (home / "train/main.py").rename(home / "train/main2.py"),
        (home / "train/lib/a.py").unlink,
    ):
        change()
        digests.add(digest(home))
    assert len(digests) == 5


def test_no_two_folders_of_other_files_have_one_digest(home: Path) -> None:
    write(home, {"one/ab": "c", "two/a": "bc", "three/a": "", "three/b": "c"})
    assert len({digest(home, folder) for folder in ("one", "two", "three")}) == 3


def test_a_link_counts_as_what_it_leads_to(home: Path) -> None:
    write(home, {"shared/b.py": "b", "shared/sub/c.py": "c"})
    (home / "train/shared").symlink_to("../shared")
    (home / "train/alias.py").symlink_to(home / "train/main.py")
    assert names(home) == ["alias.py", "lib/a.py", "main.py", "shared/b.py", "shared/sub/c.py"]


def test_a_folder_may_itself_be_a_link(home: Path) -> None:
    (home / "now").symlink_to("train")
    assert digest(home, "now") == digest(home)


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda path: path.symlink_to("/etc/hostname"), "leads out of the repository"),
        (lambda path: path.symlink_to("/etc"), "leads out of the repository"),
        (lambda path: path.symlink_to("nowhere"), "to what is not there"),
        (lambda path: path.symlink_to(path.name), "to what is not there"),
        (lambda path: path.symlink_to("."), "a folder that it is in"),
        (os.mkfifo, "no regular file"),
    ],
)
def test_what_can_t_be_a_part_of_a_folder_is_refused_unless_it_is_ignored(
    home: Path, make: Callable[[Path], None], why: str
) -> None:
    make(home / "train/odd")
    assert fault(home).startswith("train/odd is ")
    assert why in fault(home)
    assert ".rayignore" in fault(home)
    write(home, {"train/.rayignore": "odd\n"})
    assert "odd" not in names(home)


def link(path: Path, target: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target)


@pytest.mark.parametrize(
    ("target", "place", "why"),
    [
        ("../.git", ".git", ".git is always left out"),
        ("../.git/config", ".git/config", ".git is always left out"),
        ("../.git/info", ".git/info", ".git is always left out"),
        ("../step", ".git/config", ".git is always left out"),
        ("../sub/.git", "sub/.git", ".git is always left out"),
        ("../venv/bin/python", "venv/bin/python", "venv is always left out"),
        ("../jobs.state.json", "jobs.state.json", "jobs.state.json is always left out"),
        ("../jobs.state.json.journal", "jobs.state.json.journal", "jobs.state.json.journal is always left out"),
        ("../jobs.history.jsonl", "jobs.history.jsonl", "jobs.history.jsonl is always left out"),
        ("../jobs.local", "jobs.local", ".gitignore names jobs.local"),
        ("../jobs.local/a/log", "jobs.local/a/log", ".gitignore names jobs.local"),
        ("../jobs.yaml", "jobs.yaml", "a manifest or a saved plan is always left out"),
        ("../plan.json", "plan.json", "a manifest or a saved plan is always left out"),
        ("../data.csv", "data.csv", ".gitignore names data.csv"),
        ("../data", "data", ".gitignore names data"),
        ("../data/deep/x", "data/deep/x", ".gitignore names data"),
        ("main.log", "train/main.log", ".rayignore names train/main.log"),
    ],
)
def test_what_is_left_out_does_not_come_in_by_a_link(home: Path, target: str, place: str, why: str) -> None:
    """git stores a link to `.git`, in which actions/checkout keeps a token. See `folders.py`."""
    write(home, {".gitignore": "*.csv\n/data/\n/jobs.local\n", "train/.rayignore": "*.log\n", "sub/.git": "gitdir: x"})
    write(home, {"venv/bin/python": "", "jobs.state.json": "", "jobs.state.json.journal": "", "jobs.history.jsonl": ""})
    write(home, {"jobs.local/a/log": "", "data.csv": "", "data/deep/x": "", "train/main.log": ""})
    write(home, {"plan.json": '{"formatVersion": 2, "target": 1}'})
    link(home / "step", "train/../.git/config")
    link(home / "train/lib/odd", f"../{target}")
    told = (
        f"train/lib/odd is a link to {place}, and {why}: put there what the job needs, or name the link in .rayignore"
    )
    assert fault(home) == told
    write(home, {"train/.rayignore": "*.log\nodd\n"})
    assert names(home) == [".rayignore", "lib/a.py", "main.py"]


def test_what_is_left_out_does_not_come_in_by_a_link_to_a_folder_around_it(home: Path) -> None:
    """It is left out as it is in any other folder, without a word."""
    write(home, {".gitignore": "/shared/data\n/shared/*.csv\n", "shared/data/x": "", "shared/a.csv": ""})
    write(home, {"shared/deep/.gitignore": "x", "shared/deep/x": "", "shared/deep/.git/config": "", "sub/.git": ""})
    write(home, {"shared/jobs.state.json": "", "shared/jobs.yaml": MANIFEST % "train", "sub/c": "", "shared/b": ""})
    link(home / "train/all", "../shared")
    link(home / "train/sub", "../sub")
    assert names(home) == ["all/b", "all/deep/.gitignore", "lib/a.py", "main.py", "sub/c"]
    link(home / "shared/deep/odd", "../data")
    assert "train/all/deep/odd is a link to shared/data, and .gitignore names shared/data" in fault(home)


def test_a_manifest_that_is_a_link_is_left_out_without_a_word(home: Path) -> None:
    write(home, {"fleet/jobs.yaml": MANIFEST % "x"})
    link(home / "train/jobs.yaml", "../fleet/jobs.yaml")
    assert names(home) == ["lib/a.py", "main.py"]


def test_links_within_a_folder_that_git_ignores_are_followed(home: Path) -> None:
    write(home, {".gitignore": "build/\n", "build/app/main.py": "", "build/lib/a.py": "", "build/.gitignore": "*.log"})
    write(home, {"build/app/x.log": ""})
    link(home / "build/app/lib", "../lib")
    link(home / "build/app/again.py", "main.py")
    assert names(home, "build/app") == ["again.py", "lib/a.py", "main.py", "x.log"]
    assert names(home, "build") == [".gitignore", "app/again.py", "app/lib/a.py", "app/main.py", "lib/a.py"]


@pytest.mark.parametrize("folder", [".git", ".git/info", "now", ".GIT"])
def test_no_part_of_git_s_own_folder_is_a_folder_of_a_config(home: Path, folder: str) -> None:
    link(home / "now", ".git/info")
    write(home, {".GIT/config": ""})
    assert fault(home, folder) == f"{folder} is a part of .git, where git keeps tokens too: name another folder"


def test_a_link_to_what_a_commit_ignores_is_refused_there_too(home: Path) -> None:
    """A file may be committed although `.gitignore` names it."""
    write(home, {"data.csv": ""})
    subprocess.run(["git", "-C", str(home), "add", "-A"], check=True)
    write(home, {".gitignore": "*.csv\n"})
    link(home / "train/odd", "../data.csv")
    with pytest.raises(ReconcilerError, match=r"train/odd is a link to data.csv, and .gitignore names data.csv"):
        committed(home)


@pytest.mark.parametrize("name", ["a\\b", "c:x", "a\nb"])
def test_a_name_that_is_no_name_elsewhere_is_refused(home: Path, name: str) -> None:
    write(home, {f"train/{name}": ""})
    assert "can't be a path on another machine" in fault(home)


def test_a_name_that_is_not_utf_8_is_refused(home: Path) -> None:
    with open(os.path.join(os.fsencode(home / "train"), b"\xff"), "w", encoding="utf-8"):
        pass
    assert "not in UTF-8" in fault(home)


def test_a_folder_that_is_too_large_names_its_largest_file(home: Path) -> None:
    write(home, {"train/lib/data.bin": "x" * (1 << 20)})
    told = fault(home)
    assert "1 MiB" in told
    assert "lib/data.bin" in told


@pytest.mark.parametrize(
    ("folder", "why"),
    [("nowhere", "no such folder"), ("jobs.yaml", "no folder"), ("..", "outside of"), ("empty", "no file that counts")],
)
def test_a_folder_that_can_t_be_had(home: Path, folder: str, why: str) -> None:
    (home / "empty").mkdir()
    assert why in fault(home, folder)


def test_without_a_repository_a_folder_is_beside_the_manifest(tmp_path: Path) -> None:
    write(tmp_path, {"jobs/train/a": "", "other/a": ""})
    home = tmp_path / "jobs"
    assert names(home) == ["a"]
    assert "outside of" in fault(home, "../other")


def test_a_fault_stands_at_the_line_of_the_folder(home: Path) -> None:
    write(home, {"jobs.yaml": MANIFEST % "trian"})
    run = Project(home).run("validate")
    assert run.out + run.err == (
        "jobs.yaml:4:63: working_dir: trian: there is no such folder\nerror: the manifest has 1 fault\n"
    )


def test_a_config_has_the_folder_relative_to_the_file_with_the_target(home: Path) -> None:
    write(home, {"more/a.yaml": MANIFEST.replace("train:", "more:") % "src", "more/src/a": "x"})
    more = (home / "more/a.yaml").read_text()
    more = more.replace('target: {engine: ray, address: "http://127.0.0.1:9"}\n', "")
    paths = [(str(home / "jobs.yaml"), (MANIFEST % "./train").encode()), (str(home / "more/a.yaml"), more.encode())]
    jobs = parse(paths, plugin_named).jobs
    assert jobs["train"].config["working_dir"] == {"folder": "train", "content": digest(home)}
    assert jobs["more"].config["working_dir"] == {"folder": "more/src", "content": digest(home, "more/src")}
    # The same of a commit.
    subprocess.run(["git", "-C", str(home), "add", "-A"], check=True)
    subprocess.run(["git", "-C", str(home), *WHO, "commit", "-q", "-m", "x"], check=True)
    (home / "more/a.yaml").write_text(more)
    at = revision(str(home), "HEAD")
    found = folder_at(at, Named("HEAD:more/a.yaml", "src", "HEAD:jobs.yaml"), RULES)
    beside = folder_beside(Named(str(home / "more/a.yaml"), "src", str(home / "jobs.yaml")), RULES)
    assert (found.path, digest_of(found.files)) == (beside.path, digest_of(beside.files))


def test_a_uri_is_no_folder(home: Path) -> None:
    [job] = parse([(str(home / "jobs.yaml"), (MANIFEST % '"s3://b/x.zip"').encode())], plugin_named).jobs.values()
    assert job.config["working_dir"] == "s3://b/x.zip"


def test_jobs_that_share_a_folder_read_it_once(home: Path) -> None:
    jobs = "".join(f"  j{at}: {{state: running, config: {{command: [x], working_dir: train}}}}\n" for at in range(5))
    content = f"apiVersion: reconciler/v1\ntarget: {{engine: ray}}\njobs:\n{jobs}".encode()
    read: list[str] = []

    def reader(named: Named, rules: Rules) -> object:
        read.append(named.path)
        return folder_beside(named, rules)

    made = parse([(str(home / "jobs.yaml"), content)], plugin_named, read_folder=reader)  # type: ignore[arg-type]
    assert len({str(job.config) for job in made.jobs.values()}) == 1
    assert read == ["train"]


def test_a_commit_has_the_digest_of_its_checkout(home: Path) -> None:
    write(home, {".gitignore": "*.ckpt\n", "train/.rayignore": "notes\n", "train/notes": "n", "shared/b.py": "b"})
    (home / "train/shared").symlink_to("../shared")
    (home / "train/alias").symlink_to("shared/b.py")
    (home / "train/main.py").chmod(0o755)
    write(home, {"train/x.ckpt": "never committed"})
    assert committed(home) == digest(home)
    assert committed(home, ".") == digest(home, ".")


@pytest.mark.parametrize(
    ("link", "why"),
    [
        ("/etc", "leads out"),
        ("../../x", "leads out"),
        ("nowhere", "not there"),
        (".", "it is in"),
        ("odd", "not there"),
    ],
)
def test_a_link_of_a_commit_is_judged_as_one_of_the_disk(home: Path, link: str, why: str) -> None:
    (home / "train/odd").symlink_to(link)
    with pytest.raises(ReconcilerError, match=why):
        committed(home)
    with pytest.raises(ReconcilerError, match=why):
        names(home)


@pytest.mark.parametrize(
    ("folder", "why"), [("nowhere", "no such folder"), ("jobs.yaml", "no folder"), ("../x", "outside")]
)
def test_a_folder_that_a_commit_lacks(home: Path, folder: str, why: str) -> None:
    with pytest.raises(ReconcilerError, match=why):
        committed(home, folder)


def test_a_submodule_of_a_commit_has_no_files_here(home: Path) -> None:
    other = home / "other"
    subprocess.run(["git", "init", "-q", str(other)], check=True)
    write(other, {"a": ""})
    subprocess.run(["git", "-C", str(other), "add", "-A"], check=True)
    subprocess.run(["git", "-C", str(other), *WHO, "commit", "-q", "-m", "x"], check=True)
    other.rename(home / "train/sub")
    with pytest.raises(ReconcilerError, match="train/sub is no regular file"):
        committed(home)


def test_a_changed_file_is_a_change_between_two_commits(home: Path) -> None:
    project = Project(home)
    committed(home)
    (home / "train/lib/a.py").write_text("b")
    committed(home)
    assert "config.working_dir.content" in project.run("diff", "HEAD~", "HEAD").out
    assert "No changes" in project.run("diff", "HEAD", "HEAD").out
