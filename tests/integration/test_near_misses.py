"""Command lines and manifests that are nearly right: the error names what the user probably wanted."""

import subprocess
from pathlib import Path

import pytest

from forge import forge, git
from project import TOKEN, Project
from reconciler.engines.sandbox.server import SandboxServer

ONE = "nightly: {state: running}"


# --- a branch of --push ------------------------------------------------------------------------------------------


def test_a_branch_of_push_that_is_misspelt_is_answered_with_a_branch_of_the_remote(tmp_path: Path) -> None:
    with forge(tmp_path, jobs=ONE) as made:
        checkout = made.checkout()
        run = checkout.run("apply", "--yes", "--push", "mian")
        assert run.code == 1
        assert "mian of " in run.err
        assert "did you mean --push main? " in run.err
        assert "did you mean" not in checkout.run("apply", "--yes", "--push", "release-2026").err
        git(checkout.folder, "remote", "rename", "origin", "upstream")
        assert "did you mean --push upstream:main? " in checkout.run("apply", "--yes", "--push", "upstream:mian").err
        assert made.calls == 0


# --- the order of words ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["jobs.yaml", "team/", "team"])
def test_a_path_before_the_job_of_history_is_answered_with_the_words_in_order(tmp_path: Path, path: str) -> None:
    project = Project(tmp_path)
    (tmp_path / "team").mkdir()
    project.write(ONE, name="team/jobs.yaml" if path.startswith("team") else path)
    assert project.run("apply", "--yes", path).code == 0
    run = project.run("history", path, "nightly")
    advice = f"reconciler history nightly {path}"
    assert run.code == 1
    assert run.err.endswith(f"\n  the job comes before the path: {advice}\n")
    assert " run " in project.run(*advice.split()[1:]).out


def test_a_missing_manifest_after_another_is_not_taken_for_a_job_of_history(tmp_path: Path) -> None:
    project = Project(tmp_path)
    project.write(ONE)
    run = project.run("history", "jobs.yaml", "gone.yaml")
    assert run.code == 1
    assert "the job comes before the path" not in run.err


# --- a state without git+ ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "origin",
        "origin#main",
        "origin#states:prod.state.json",
        "git@example.org:team/jobs.git",
        "https://example.org/team/jobs.git#states",
    ],
)
def test_a_remote_without_its_scheme_is_no_file(tmp_path: Path, url: str) -> None:
    project = Project(tmp_path)
    checkout = tmp_path / "checkout"
    subprocess.run(["git", "init", "-q", str(checkout)], check=True)
    git(checkout, "remote", "add", "origin", "https://example.org/team/jobs.git")
    manifest = "checkout/jobs.yaml"
    project.write(ONE, name=manifest)
    run = project.run("plan", "--state", url, manifest)
    assert (run.code, run.out) == (64, "")
    assert f"--state: {url} names a git remote, and no file\n  did you mean git+{url}?" in run.err
    project.write(ONE, more=f"state: '{url}'", name=manifest)
    run = project.run("plan", manifest)
    assert (run.code, run.out) == (1, "")
    assert f"{manifest}:3:8: state: {url} names a git remote, and no file: did you mean git+{url}?" in run.err
    assert not list(tmp_path.rglob("*.journal"))


def test_a_state_file_may_have_the_name_of_a_remote_where_it_is_written_as_a_path(tmp_path: Path) -> None:
    project = Project(tmp_path)
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    git(tmp_path, "remote", "add", "origin", "https://example.org/team/jobs.git")
    project.write(ONE)
    assert project.run("apply", "--yes", "--state", "./origin").code == 0
    assert (tmp_path / "origin").is_file()
    assert project.run("plan", "--state", "origin").out.startswith("No changes"), "the file is there by now"


# --- a second default manifest -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("there", "path"), [("jobs/a.yaml", "jobs.yaml"), ("jobs.yaml", "jobs/")])
def test_init_does_not_make_a_second_default_manifest(tmp_path: Path, there: str, path: str) -> None:
    project = Project(tmp_path)
    (tmp_path / "jobs").mkdir()
    project.write(ONE, name=there)
    before = project.files
    run = project.run("init", path)
    assert (run.code, run.out) == (1, "")
    assert run.err.startswith(f"error: {there} is there already, and commands without a path would read ")
    assert "go on with the manifest that is there: `reconciler plan`" in run.err
    assert project.files == before
    assert project.run("init", "other.yaml").code == 0


# --- accepting a state that is gone ------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [[], ["--moved-to", "sandbox"]])
def test_accept_does_not_begin_anew_where_a_history_shows_that_there_was_a_state(
    tmp_path: Path, words: list[str]
) -> None:
    project = Project(tmp_path)
    project.write(ONE)
    assert project.run("apply", "--yes").code == 0
    (tmp_path / "jobs.state.json").unlink()
    before = project.files
    run = project.run("state", "accept", *words)
    assert (run.code, run.out) == (4, "")
    assert run.err.startswith("error: the state is gone: jobs.state.json is not there, and jobs.history.jsonl ")
    assert "reconciler state push FILE" in run.err
    assert project.files == before


# --- one word for a hold -----------------------------------------------------------------------------------------


def test_a_job_that_can_not_be_acted_on_is_held_in_the_plan_and_in_the_apply(tmp_path: Path) -> None:
    with SandboxServer(tmp_path / "server.db", access_token=TOKEN) as server:
        project = Project(tmp_path, server)
        project.write(f"{ONE}\nother: {{state: running}}")
        assert project.run("plan", "--refresh").out.startswith("Plan: 2 held.\n")
        run = project.run("apply", "--yes")
        assert run.out.splitlines()[0] == "Plan: 2 held."
        assert run.out.splitlines()[-1] == "Applied: 2 held."
        assert run.code == 3
        outcomes = project.run("apply", "--yes", "--format", "json").json["actions"]
        assert [outcome["outcome"] for outcome in outcomes] == ["failed", "failed"]


def test_a_state_that_so_far_has_only_a_journal_is_a_file(tmp_path: Path) -> None:
    project = Project(tmp_path)
    project.write(ONE)
    assert project.run("apply", "--yes", "--state", "./prod#1").code == 0
    (tmp_path / "prod#1").rename(tmp_path / "prod#1.journal")  # no journal: what it holds is refused, as a file
    run = project.run("plan", "--state", "prod#1")
    assert (run.code, "did you mean" in run.err, "prod#1.journal" in run.err) == (1, False, True)


def test_the_command_that_a_lost_state_names_works_as_printed(tmp_path: Path) -> None:
    project = Project(tmp_path)
    project.write(ONE, more="state: './prod#1'")
    assert project.run("apply", "--yes").code == 0
    (tmp_path / "prod#1").unlink()
    run = project.run("plan")
    assert "reconciler plan --refresh --state 'prod#1'" in run.err
    again = project.run("plan", "--refresh", "--state", "prod#1")
    assert (again.code, "did you mean" in again.err) == (0, False)
