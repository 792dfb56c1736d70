"""What git knows of a manifest, a state and a history: revisions are read, and nothing is written."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from clone import GIT, Clone, served_clone
from project import Project


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Clone]:
    with served_clone(tmp_path) as clone:
        yield clone


def test_since_a_commit_is_what_the_file_did_not_tell_then_and_since_a_date_what_was_done_from_then_on(
    served: Clone,
) -> None:
    served.apply("a: {state: running}")
    before = served.commit()
    served.apply("a: {state: aborted}")
    assert served.outcomes("--since", before) == served.outcomes("--since", "main") == [("a", "abort", "succeeded")]
    assert len(served.outcomes("--since", "2020-01-01")) == 2
    assert len(served.outcomes("--since", served.history()[0]["at"])) == 2
    assert served.outcomes("--since", "2999-12-31T00:00:00+02:00") == []
    assert served.run("history", "--since", "2026-13-01").code == 64
    missing = served.run("history", "--since", "nowhere")
    assert (missing.code, "git has no commit nowhere here" in missing.err) == (1, True)
    assert served.run("history", "--since", "--output=x").code == 1


def test_a_record_is_shown_as_it_was_committed(served: Clone) -> None:
    served.apply("a: {state: running, config: {jobTimeout: 5000}}")
    served.commit()
    served.apply("a: {state: running, config: {jobTimeout: 9000}}")
    path = served.folder / "jobs.state.json"
    served.commit()
    path.write_text(path.read_text().replace("running", "aborted"))
    served.commit()
    shown = served.run("state", "show", "a", "--at", "HEAD~2", "--format", "json").json
    assert shown["config"] == {"jobTimeout": 5000}
    damaged = served.run("state", "show", "a", "--at", "HEAD")
    assert (damaged.code, "HEAD:jobs.state.json is damaged" in damaged.err) == (1, True)
    served.git("rm", "-q", "jobs.state.json")
    served.commit()
    gone = served.run("state", "show", "a", "--at", "HEAD")
    assert (gone.code, "jobs.state.json was not there at HEAD" in gone.err) == (1, True)


def test_a_shallow_clone_says_how_to_fetch_the_rest(served: Clone) -> None:
    served.apply("a: {state: running}")
    first = served.commit()
    served.apply("a: {state: aborted}")
    served.commit()
    clone = served.folder.parent / "clone"
    served.git("clone", "-q", "--depth", "1", f"file://{served.folder}", str(clone))
    there = Clone(clone, served.server)
    there.env |= served.env
    assert there.run("state", "show", "a", "--at", "HEAD").code == 0
    run = there.run("state", "show", "a", "--at", first)
    assert run.code == 1
    assert "this clone is shallow" in run.err
    assert "git fetch --unshallow" in run.err


def test_outside_of_git_it_is_said(tmp_path: Path) -> None:
    project = Project(tmp_path)
    project.env |= {**GIT, "GIT_CEILING_DIRECTORIES": str(tmp_path.parent)}
    project.write("a: {state: running}")
    for arguments, way_out in (
        (["diff", "HEAD~1", "HEAD"], "  run the command in a clone of the repository that holds the manifest\n"),
        (["history", "--since", "HEAD"], "; commit the state to git: each commit is a revision then\n"),
        (["state", "show", "a", "--at", "HEAD"], "  commit the state to git: each commit is a revision then\n"),
    ):
        run = project.run(*arguments)
        assert (run.code, "is in no git repository, so it has no revision HEAD" in run.err) == (1, True)
        assert run.err.endswith(way_out), run.err
    assert project.run("apply", "--yes").code == 0
    assert project.run("history", "--check").err == ""


def test_diff_plans_one_commit_over_another_and_reads_nothing_else(served: Clone) -> None:
    served.write("a: {state: running}\nb: {state: running}\nc: {state: running, runToken: one}\nd: {state: running}")
    served.commit()
    served.write(
        "a: {state: running, config: {jobTimeout: 9000}}\nb: {state: aborted}\n"
        'c: {state: running, runToken: "two"}\ne: {id: d, state: running}\nf: {state: running}'
    )
    served.commit()
    (served.folder / "jobs.yaml").write_text("nonsense")
    before = served.files
    run = served.run("diff", "HEAD~1", "HEAD", "--format", "json", BYTENITE_ACCESS_TOKEN="")
    assert run.code == 0, run.err
    assert [(a["job"], a["action"]) for a in run.json["actions"]] == [
        ("b", "abort"),
        ("a", "restart"),
        ("c", "restart"),
        ("f", "run"),
        ("e", "adopt"),
    ]
    assert not [action for action in run.json["actions"] if "runId" in action]  # no state says how often a job ran
    assert served.run("diff", "HEAD~1", "HEAD").out.startswith("Plan: 1 to abort, 1 to run, 2 to restart, 1 to adopt.")
    comment = served.run("diff", "HEAD~1", "HEAD", "--format", "markdown").out
    assert comment.startswith("### Plan: 1 to abort")
    assert "not read: HEAD as if HEAD~1 had been applied" in comment
    assert "<!-- reconciler:diff:" in comment
    back = served.run("diff", "HEAD", "HEAD~1", "--format", "json").json
    assert back["undeclared"] == ["f"]
    assert served.files == before


def test_a_diff_speaks_of_two_manifests_and_not_of_a_record(served: Clone) -> None:
    served.write("a: {state: running}\nb: {state: running}")
    served.commit()
    assert served.run("diff", "HEAD", "HEAD").out == "No changes: 2 jobs are the same in both.\n"
    served.write("a: {state: running}")
    served.commit()
    message = "No changes: 1 job is the same in both."
    run = served.run("diff", "HEAD~1", "HEAD")
    assert run.out == f"{message}\n\nNo longer declared in HEAD, and left alone: b\n"
    comment = served.run("diff", "HEAD~1", "HEAD", "--format", "markdown").out
    assert comment.startswith(f"### {message}\n")
    assert "- **left alone** `b`: no longer declared in HEAD\n" in comment


def test_diff_takes_the_files_that_there_were_then(served: Clone) -> None:
    served.write("a: {state: running}")
    first = served.commit()
    (served.folder / "jobs.yaml").unlink()
    folder = served.folder / "jobs"
    (folder / "deep").mkdir(parents=True)
    (folder / ".hidden").mkdir()
    served.write("a: {state: running}", name="jobs/one.yaml")
    (folder / "deep" / "two.yml").write_text("apiVersion: reconciler/v1\njobs:\n  b: {state: running}\n")
    (folder / ".hidden" / "x.yaml").write_text("nonsense")
    (folder / "notes.txt").write_text("nonsense")
    served.commit()
    served.git("mv", "jobs/deep/two.yml", "jobs/three.yaml")
    (folder / "three.yaml").write_text("apiVersion: reconciler/v1\njobs:\n  b: {state: aborted}\n")
    served.commit()
    added = served.run("diff", first, "HEAD~1").out
    assert added.startswith("Plan: 1 to run; 1 unchanged.\n")
    assert added.endswith("\n\n  + run      b  first run\n")
    assert served.run("diff", "HEAD~1", "HEAD").out.startswith("Plan: 1 to abort; 1 unchanged.")
    assert served.run("diff", "HEAD~1", "HEAD", "jobs/one.yaml").out.startswith("No changes")
    assert served.run("diff", "HEAD", first, "jobs.yaml", "jobs").code == 0
    gone = served.run("diff", first, "HEAD", "jobs.yaml")
    assert (gone.code, "there was no manifest at HEAD: no jobs.yaml" in gone.err) == (1, True)
    fault = served.folder / "jobs" / "one.yaml"
    fault.write_text("apiVersion: 3\n")
    served.commit()
    assert "HEAD:jobs/one.yaml:1:" in served.run("diff", "HEAD~1", "HEAD").err


def test_diff_from_within_a_folder_takes_paths_as_they_are_seen_there(served: Clone) -> None:
    (served.folder / "team").mkdir()
    served.write("a: {state: running}", name="team/jobs.yaml")
    served.commit()
    served.write("a: {state: aborted}", name="team/jobs.yaml")
    served.commit()
    within = Project(served.folder / "team", served.server)
    within.env |= served.env
    assert within.run("diff", "HEAD~1", "HEAD").out.startswith("Plan: 1 to abort.")
    assert within.run("diff", "HEAD~1", "HEAD", "../team/jobs.yaml").out.startswith("Plan: 1 to abort.")
    absolute = str(served.folder / "team" / "jobs.yaml")
    assert served.run("diff", "HEAD~1", "HEAD", absolute).out.startswith("Plan: 1 to abort.")
    outside = served.run("diff", "HEAD~1", "HEAD", "../jobs.yaml")
    assert (outside.code, "outside repository" in outside.err) == (1, True)


def test_diff_over_a_commit_without_a_manifest_is_all_first_runs(served: Clone) -> None:
    (served.folder / "readme").write_text("x")
    served.commit()
    served.write("a: {state: running}\nb: {state: absent}")
    served.commit()
    run = served.run("diff", "HEAD~1", "HEAD", "--format", "json")
    assert [(a["job"], a["action"]) for a in run.json["actions"]] == [("a", "run"), ("b", "delete")]


def test_diff_says_that_a_guard_would_have_refused(served: Clone) -> None:
    served.write("a: {state: running}\nb: {state: running}")
    served.commit()
    served.write("a: {state: absent}\nb: {state: absent}", more="guards: {maxDelete: 1}")
    served.commit()
    run = served.run("diff", "HEAD~1", "HEAD")
    assert run.code == 4
    assert run.out.startswith("Plan: 2 to delete.")
    assert "guards.maxDelete is 1" in run.err


def test_diff_between_two_targets_is_refused_as_an_apply_would_be(served: Clone) -> None:
    served.write("a: {state: running}")
    served.commit()
    (served.folder / "jobs.yaml").write_text(
        "apiVersion: reconciler/v1\ntarget: {engine: sandbox}\njobs:\n  a: {state: running}\n"
    )
    served.commit()
    run = served.run("diff", "HEAD~1", "HEAD")
    assert (run.code, "an apply refuses the state of another target" in run.err) == (1, True)


def test_a_link_in_a_revision_is_refused_not_followed(served: Clone) -> None:
    served.write("a: {state: running}", name="real.yaml")
    (served.folder / "jobs.yaml").symlink_to("real.yaml")
    served.commit()
    run = served.run("diff", "HEAD", "HEAD")
    assert (run.code, "HEAD:jobs.yaml is a symbolic link" in run.err) == (1, True)
