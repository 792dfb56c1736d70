"""What was read before is remembered, and nothing that is wrong, old or someone else's is taken."""

import marshal
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from project import Project
from reconciler.cache import FolderCache

JOBS = "a: {state: running, config: {jobTimeout: 5}}\nb: {state: absent}"
CONTENT = b"jobs: {}"
VALUE = {"jobs": {"a": {"state": "running", "config": {"taskTimeout": 600, "isTestJob": False}}}, "n": None}


def cache(tmp_path: Path) -> FolderCache:
    return FolderCache(str(tmp_path / "cache"), str(tmp_path / "state" / "cache-key"))


def entry(tmp_path: Path) -> Path:
    [path] = (tmp_path / "cache").iterdir()
    return path


def test_what_was_remembered_is_recalled_by_its_content_alone(tmp_path: Path) -> None:
    assert cache(tmp_path).recall("manifest", CONTENT) is None
    cache(tmp_path).remember("manifest", CONTENT, VALUE)
    assert cache(tmp_path).recall("manifest", CONTENT) == VALUE
    assert cache(tmp_path).recall("manifest", CONTENT + b" ") is None
    assert cache(tmp_path).recall("state", CONTENT) is None


def flip(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


def test_an_entry_that_is_damaged_anywhere_is_a_miss(tmp_path: Path) -> None:
    cache(tmp_path).remember("manifest", CONTENT, VALUE)
    whole = entry(tmp_path).read_bytes()
    for damaged in [*(flip(whole, at) for at in range(len(whole))), *(whole[:end] for end in range(len(whole)))]:
        entry(tmp_path).write_bytes(damaged)
        assert cache(tmp_path).recall("manifest", CONTENT) is None


def test_an_entry_of_another_content_or_another_key_is_a_miss(tmp_path: Path) -> None:
    cache(tmp_path).remember("manifest", CONTENT, VALUE)
    first = entry(tmp_path)
    whole = first.read_bytes()
    first.unlink()
    cache(tmp_path).remember("manifest", b"other", VALUE)
    entry(tmp_path).write_bytes(whole)
    assert cache(tmp_path).recall("manifest", b"other") is None
    entry(tmp_path).rename(first)
    assert cache(tmp_path).recall("manifest", CONTENT) == VALUE
    (tmp_path / "state" / "cache-key").write_bytes(bytes(32))
    assert cache(tmp_path).recall("manifest", CONTENT) is None


def test_another_version_takes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache(tmp_path).remember("manifest", CONTENT, VALUE)
    monkeypatch.setattr("reconciler.cache.__version__", "0.0.1")
    assert cache(tmp_path).recall("manifest", CONTENT) is None


def readable_by_all(tmp_path: Path) -> None:
    (tmp_path / "state" / "cache-key").chmod(0o644)


def a_link_to_the_key(tmp_path: Path) -> None:
    key = tmp_path / "state" / "cache-key"
    key.rename(tmp_path / "elsewhere")
    key.symlink_to(tmp_path / "elsewhere")


def a_link_to_the_entry(tmp_path: Path) -> None:
    path = entry(tmp_path)
    path.rename(tmp_path / "moved")
    path.symlink_to(tmp_path / "moved")


def a_pipe_for_an_entry(tmp_path: Path) -> None:
    path = entry(tmp_path)
    path.unlink()
    os.mkfifo(path, 0o600)


@pytest.mark.parametrize("spoil", [readable_by_all, a_link_to_the_key, a_link_to_the_entry, a_pipe_for_an_entry])
def test_a_file_that_is_not_this_users_own_plain_one_is_not_read(tmp_path: Path, spoil: Callable[[Path], None]) -> None:
    cache(tmp_path).remember("manifest", CONTENT, VALUE)
    spoil(tmp_path)
    assert cache(tmp_path).recall("manifest", CONTENT) is None


def test_it_does_not_grow_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reconciler.cache._MAX_ENTRIES", 8)
    for number in range(40):
        cache(tmp_path).remember("manifest", b"%d" % number, VALUE)
        assert len(list((tmp_path / "cache").iterdir())) <= 8
    assert cache(tmp_path).recall("manifest", b"39") == VALUE


def test_programs_that_read_and_write_at_once_see_whole_entries_or_none(tmp_path: Path) -> None:
    program = f"""
from reconciler.cache import FolderCache
cache = FolderCache({str(tmp_path / "cache")!r}, {str(tmp_path / "state" / "cache-key")!r})
value = {{str(n): "x" * 100 for n in range(500)}}
for n in range(200):
    cache.remember("manifest", b"same", value)
    assert cache.recall("manifest", b"same") in (None, value)
"""
    programs = [subprocess.Popen([sys.executable, "-c", program]) for _ in range(4)]
    assert [one.wait(60) for one in programs] == [0] * 4


# Whole commands


@pytest.fixture
def project(tmp_path: Path) -> Project:
    project = Project(tmp_path)
    project.write(JOBS)
    return project


def entries(project: Project) -> list[Path]:
    return sorted((project.folder / ".cache" / "reconciler").glob("*"))


def test_a_plan_is_the_same_bytes_with_the_cache_cold_warm_hostile_and_off(project: Project) -> None:
    commands = (["plan"], ["plan", "--format", "json"], ["validate"])
    cold = [project.run(*command).out for command in commands]
    [path] = entries(project)
    assert [project.run(*command).out for command in commands] == cold
    assert [project.run(*command, "--no-cache").out for command in commands] == cold
    forged = marshal.dumps({"apiVersion": "reconciler/v1", "target": {"engine": "sandbox"}, "jobs": {"evil": {}}})
    for content in (b"", b"rubbish", forged, bytes(32) + forged, path.read_bytes()[:32] + forged):
        path.write_bytes(content)
        path.chmod(0o600)
        assert [project.run(*command).out for command in commands] == cold


def test_without_the_cache_nothing_is_remembered(project: Project) -> None:
    assert project.run("plan", "--no-cache").code == 0
    assert entries(project) == []


def test_a_file_with_a_fault_is_not_remembered(project: Project) -> None:
    project.write("a: {state: runing}")
    assert project.run("validate").code == 1
    assert entries(project) == []


def test_a_warm_plan_still_knows_where_things_stand(project: Project) -> None:
    assert project.run("validate").code == 0
    (project.folder / "more.yaml").write_text("apiVersion: reconciler/v1\njobs:\n  a: {state: absent}\n")
    run = project.run("validate", "jobs.yaml", "more.yaml")
    assert run.code == 1
    assert 'more.yaml:3:3: the job "a" is already declared at jobs.yaml:' in run.out


@pytest.mark.parametrize("variable", ["XDG_CACHE_HOME", "XDG_STATE_HOME"])
def test_a_folder_that_cannot_be_made_is_no_error(project: Project, variable: str) -> None:
    (project.folder / "file").write_text("")
    project.env[variable] = str(project.folder / "file")
    assert project.run("plan").code == 0
    assert project.run("plan").code == 0


def test_a_state_that_is_remembered_is_still_refused_once_it_changes(project: Project) -> None:
    project.write("a: {state: running}")
    assert project.run("apply", "--yes").code == 0
    for _ in range(2):
        assert project.run("plan").out == "No changes: 1 job is as recorded.\n"
    path = project.folder / "jobs.state.json"
    path.write_text(path.read_text().replace('"running"', '"aborted"'))
    assert project.run("plan").code == 1
    path.write_text(path.read_text().replace('"aborted"', '"running"'))
    assert project.run("plan").code == 0


def test_a_warm_plan_imports_no_yaml(project: Project) -> None:
    program = "import sys; from reconciler.cli import main\ntry: main()\nfinally: print('yaml' in sys.modules)"
    shown = []
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", program, "plan"],
            cwd=project.folder,
            env=project.env,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        shown.append(done.stdout.splitlines()[-1])
    assert shown == ["True", "False"]
