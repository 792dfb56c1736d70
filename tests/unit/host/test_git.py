"""The one runner of git: its deadline, and what it says where git can't be started."""

import os
import threading
import time
from pathlib import Path

import pytest

from checkout import ROOT
from reconciler.host import git
from reconciler.host.git import Unrunnable, git_environment, run_git
from reconciler.manifest.revisions import Revision, commit_at, file_at, revision
from reconciler.model.errors import ReconcilerError

WITHIN_S = 0.5


@pytest.fixture
def hanging(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A git that never ends, and that starts a program which would outlive it; the file will hold that one's id."""
    child = tmp_path / "child"
    program = tmp_path / "bin" / "git"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\necho 'asking the remote' >&2\nsleep 60 & echo $! > {child}\nwait\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(git, "COMMAND_WITHIN_S", WITHIN_S)
    return child


def is_gone(pid: int) -> bool:
    """Whether a program has ended, also where nobody has asked for its exit code yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_a_git_that_hangs_is_ended_with_all_that_it_started(hanging: Path) -> None:
    began_s = time.monotonic()
    ended = run_git(["fetch"], git_environment(os.environ))
    assert time.monotonic() - began_s < 20
    assert (ended.code, ended.is_late) == (-1, True)
    assert ended.err.split("\n") == ["asking the remote", "", "no end within 0.5 s"]
    until_s = time.monotonic() + 10
    while not is_gone(int(hanging.read_text())):
        assert time.monotonic() < until_s
        time.sleep(0.01)


@pytest.mark.usefixtures("hanging")
def test_a_git_that_hangs_ends_each_question_about_revisions(tmp_path: Path) -> None:
    for ask in (lambda: revision(str(tmp_path), "HEAD"), lambda: file_at(git_revision(tmp_path), "jobs.yaml")):
        with pytest.raises(ReconcilerError) as raised:
            ask()
        assert "no end within 0.5 s" in raised.value.message
        assert raised.value.hint
    assert commit_at(str(tmp_path)) == (None, "")


def git_revision(folder: Path) -> Revision:
    return Revision("HEAD", "0" * 40, str(folder))


@pytest.mark.usefixtures("hanging")
def test_a_git_that_hangs_does_not_hang_the_watch_of_a_ci_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "ci"))
    import at_work

    found: list[float] = []
    asking = threading.Thread(
        target=lambda: found.append(at_work._committed_at_s(str(tmp_path), os.environ)), daemon=True
    )
    asking.start()
    asking.join(20)
    assert found == [0.0]


def test_without_git_the_error_says_so(tmp_path: Path) -> None:
    with pytest.raises(Unrunnable) as raised:
        run_git(["status"], {"PATH": str(tmp_path)})
    assert (raised.value.message, raised.value.hint) == ("git is not installed", "install git 2.31 or later")
