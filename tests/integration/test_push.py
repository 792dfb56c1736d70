"""`apply --push`: what is announced before the first call, what is pushed at the end, and what is refused before."""

import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from forge import Checkout, Forge, forge, git
from project import TOKEN
from reconciler.model.errors import Usage
from reconciler.state.backends.checkout import PushTo, parse_push

TWO = "a: {state: running}\nb: {state: running}"
APPLY = ("apply", "--yes", "--settle", "0.1", "--push", "main")


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Forge]:
    with forge(tmp_path, jobs=TWO) as made:
        yield made


def refused(made: Forge, checkout: Checkout, *words: str) -> str:
    """Apply, and see that it ends with exit 1, that nothing was sent, and that the remote is as before."""
    before = git(made.remote, "for-each-ref")
    run = checkout.run(*APPLY)
    assert run.code == 1, run.out + run.err
    for word in words:
        assert word in run.err
    assert made.calls == 0
    assert git(made.remote, "for-each-ref") == before
    return run.err


# --- what is pushed ----------------------------------------------------------------------------------------------


def test_each_call_is_announced_on_the_branch_before_the_first_is_sent(place: Forge) -> None:
    checkout = place.checkout()
    seen = place.folder / "seen"
    place.hook("pre-receive", f"test -e {seen} || cat > {seen}")
    assert checkout.run(*APPLY).code == 0
    assert sorted(place.done) == [("run", "a"), ("run", "b")]
    assert place.subjects == [
        "State after an apply [skip ci]",
        "An apply begins: 2 calls announced [skip ci]",
        "Jobs",
    ]
    assert "jobs.state.json.journal" not in place.files
    old, new, _ = seen.read_text().split()
    assert git(place.remote, "diff", "--name-only", old, new) == "jobs.state.json.journal"


def test_what_a_killed_runner_announced_is_in_doubt_and_settled_by_the_next(place: Forge) -> None:
    checkout = place.checkout()
    pid = place.folder / "pid"
    hook = place.hook("post-receive", f"kill -KILL $(cat {pid})")
    child = subprocess.Popen(
        ["sh", "-c", f'echo $$ > {pid}; exec "$@"', "sh", *checkout.command(*APPLY)],
        cwd=checkout.folder, env=checkout.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    assert child.wait(60) == -9
    hook.unlink()
    assert place.calls == 0
    state = place.state()
    assert state is not None
    assert {name: record.doubt.verb for name, record in state.jobs.items() if record.doubt} == {"a": "run", "b": "run"}
    run = place.checkout().run(*APPLY)
    assert run.code == 0, run.out + run.err
    assert "2 in doubt: checking again" in run.err
    assert sorted(place.done) == [("run", "a"), ("run", "b")]
    assert place.files == ["jobs.history.jsonl", "jobs.state.json", "jobs.yaml"]
    assert place.checkout().run("plan", "--detailed-exitcode").code == 0


def test_a_restart_that_was_cut_off_after_its_abort_is_named_beside_what_went_on(place: Forge) -> None:
    """Nothing tells whether its run was sent too, so that a person settles it; the others are not held up."""
    first = place.checkout()
    assert first.run(*APPLY).code == 0
    git(first.folder, "pull", "-q", "--ff-only")
    first.write('a: {state: running, runToken: "2"}\nb: {state: running, runToken: "2"}')
    first.commit("Again")
    checkout, pid = place.checkout(), place.folder / "pid"
    hook = place.hook("post-receive", f"kill -KILL $(cat {pid})")
    words = ["sh", "-c", f'echo $$ > {pid}; exec "$@"', "sh", *checkout.command(*APPLY)]
    child = subprocess.Popen(words, cwd=checkout.folder, env=checkout.env, stdout=subprocess.DEVNULL)
    assert child.wait(60) == -9
    hook.unlink()
    # What the apply would have sent next, had it lived a moment longer.
    headers = {"Authorization": TOKEN}
    assert requests.post(f"{place.server.endpoint}/jobs/a/abort", headers=headers, timeout=10).ok
    following = place.checkout()
    run = following.run(*APPLY)
    assert run.code == 5, run.out + run.err
    assert "reconciler resolve a --applied" in run.out
    assert place.done.count(("run", "b")) == 2
    assert following.run("resolve", "a", "--not-applied").code == 0
    assert following.run(*APPLY).code == 0
    assert place.done.count(("run", "a")) == 2


def test_a_runner_that_goes_on_where_it_was_killed_right_after_its_push_is_not_refused(place: Forge) -> None:
    """As on a machine that keeps its checkout: what was pushed could not be noted, and is what lies there."""
    checkout = place.checkout()
    pid = place.folder / "pid"
    hook = place.hook("post-receive", f"kill -KILL $(cat {pid})")
    words = ["sh", "-c", f'echo $$ > {pid}; exec "$@"', "sh", *checkout.command(*APPLY)]
    child = subprocess.Popen(words, cwd=checkout.folder, env=checkout.env, stdout=subprocess.DEVNULL)
    assert child.wait(60) == -9
    hook.unlink()
    run = checkout.run(*APPLY)
    assert run.code == 0, run.out + run.err
    assert sorted(place.done) == [("run", "a"), ("run", "b")]
    assert place.files == ["jobs.history.jsonl", "jobs.state.json", "jobs.yaml"]


def test_an_announcement_is_over_once_it_is_pushed_so_that_a_kill_later_leaves_only_what_was_sent(
    tmp_path: Path,
) -> None:
    with forge(tmp_path, "run:hang:times=1", jobs=TWO) as place:
        checkout = place.checkout()
        child = checkout.start(*APPLY, "--parallelism", "1")
        for _ in iter(lambda: place.calls, 1):
            threading.Event().wait(0.01)
        child.kill()
        child.communicate()
        listed = checkout.run("state", "list", "--format", "json").json
        assert list(listed["jobs"]) == ["a"]


def test_an_apply_with_nothing_to_do_pushes_nothing_also_where_it_could_not(place: Forge) -> None:
    assert place.checkout().run(*APPLY).code == 0
    tip = place.tip
    place.hook("pre-receive", "exit 1")
    run = place.checkout().run(*APPLY)
    assert run.code == 0, run.err
    assert place.tip == tip


def test_commits_of_others_are_kept_and_need_no_merge(place: Forge) -> None:
    checkout, other = place.checkout(), place.checkout()
    (other.folder / "notes.md").write_text("meanwhile\n")
    other.commit("Notes")
    assert checkout.run(*APPLY).code == 0
    assert place.show("notes.md") == "meanwhile"
    assert '"running"' in place.show("jobs.state.json")


def test_a_push_that_loses_a_race_is_made_again_on_top(place: Forge) -> None:
    checkout, other = place.checkout(), place.checkout()
    (other.folder / "notes.md").write_text("meanwhile\n")
    git(other.folder, "add", "--all")
    git(other.folder, "-c", "user.name=ada", "-c", "user.email=a@example.com", "commit", "-q", "-m", "Notes")
    once = place.folder / "once"
    # Another push arrives while the first one of the apply is looked at.
    place.hook(
        "pre-receive",
        f"test -e {once} && exit 0; touch {once}; unset $(git rev-parse --local-env-vars) GIT_QUARANTINE_PATH; "
        f"git -C {other.folder} push -q origin HEAD:main",
    )
    run = checkout.run(*APPLY)
    assert run.code == 0, run.err
    assert place.subjects[-3:] == ["An apply begins: 2 calls announced [skip ci]", "Notes", "Jobs"]


def test_the_checkout_is_left_so_that_a_pull_takes_what_was_pushed(place: Forge) -> None:
    checkout, other = place.checkout(), place.checkout()
    (other.folder / "notes.md").write_text("meanwhile\n")
    other.commit("Notes")
    for _ in range(2):
        assert checkout.run(*APPLY).code == 0
        git(checkout.folder, "pull", "-q", "--ff-only")
        assert git(checkout.folder, "status", "--porcelain") == ""
        checkout.write(f"{TWO}\nc: {{state: running}}")
        git(checkout.folder, "checkout", "-q", "--", "jobs.yaml")


def test_a_saved_plan_is_pushed_to_where_its_own_paths_say(place: Forge) -> None:
    checkout = place.checkout()
    (checkout.folder / "fleets").mkdir()
    (checkout.folder / "jobs.yaml").rename(checkout.folder / "fleets" / "one.yaml")
    checkout.commit("Moved")
    assert checkout.run("plan", "--out", "plan.json", "fleets/one.yaml").code == 0
    assert checkout.run(*APPLY, "--plan", "plan.json").code == 0
    assert "fleets/one.state.json" in place.files


def test_state_on_a_branch_of_a_remote_leaves_nothing_to_push(place: Forge) -> None:
    tip = place.tip
    run = place.checkout().run(*APPLY, "--state", "git+origin")
    assert run.code == 0, run.err
    assert place.tip == tip
    assert place.branches == ["main", "reconciler-state"]


def test_a_state_that_others_changed_while_it_was_applied_is_kept_on_a_branch_of_its_own(tmp_path: Path) -> None:
    with forge(tmp_path, "run:slow:seconds=2", jobs="a: {state: running}") as place:
        checkout, other = place.checkout(), place.checkout()
        child = checkout.start(*APPLY)
        for _ in iter(lambda: place.calls, 1):
            threading.Event().wait(0.01)
        (other.folder / "jobs.state.json").write_text("{}\n")
        git(other.folder, "fetch", "-q")
        git(other.folder, "reset", "-q", "--soft", "origin/main")
        other.commit("By hand")
        _, err = child.communicate(timeout=60)
        assert child.returncode == 3
        assert "the state was changed elsewhere meanwhile" in err
        assert "branch reconciler-rescue" in err
        assert place.show("jobs.state.json") == "{}"
        assert '"running"' in git(place.remote, "show", "reconciler-rescue:jobs.state.json")


def test_a_push_that_fails_at_the_end_says_so_and_names_the_files(place: Forge) -> None:
    checkout = place.checkout()
    place.hook("pre-receive", f"test -e {place.folder}/once && exit 1; touch {place.folder}/once")
    run = checkout.run(*APPLY, "--format", "github")
    assert run.code == 3
    assert "the state could not be pushed" in run.err
    assert "jobs.state.json" in run.err
    assert "::error title=reconciler::the state could not be pushed" in run.out
    assert sorted(place.done) == [("run", "a"), ("run", "b")]
    # The announcement still stands: nobody runs them again.
    assert place.checkout().run(*APPLY, "--format", "text").code == 3
    assert sorted(place.done) == [("run", "a"), ("run", "b")]


# --- what is refused before anything is done -----------------------------------------------------------------------


def test_a_branch_that_takes_no_push_is_told_before_the_first_call(place: Forge) -> None:
    place.hook("pre-receive", "echo 'GH006: Protected branch update failed' >&2; exit 1")
    message = refused(place, place.checkout(), "nothing was sent", "GH006: Protected branch update failed")
    assert "--state" in message


@pytest.mark.parametrize("ref", ["v1", "7/merge", "refs/tags/v1", "refs/pull/7/merge", "gh-readonly-queue/main/pr-7"])
def test_what_is_no_branch_is_not_made_one(place: Forge, ref: str) -> None:
    checkout = place.checkout()
    run = checkout.run("apply", "--yes", "--push", ref)
    assert run.code == 1, run.out
    assert place.calls == 0
    assert place.branches == ["main"]
    assert "--push takes a branch" in run.err or "is no branch that the state can be pushed to" in run.err


def test_an_older_commit_is_not_applied(place: Forge) -> None:
    checkout, other = place.checkout(), place.checkout()
    other.write("a: {state: absent}")
    other.commit("Another")
    refused(place, checkout, "jobs.yaml on branch main", "an older commit, or another branch, is checked out")


def test_an_older_state_is_not_applied_from(place: Forge) -> None:
    checkout, other = place.checkout(), place.checkout()
    assert other.run(*APPLY).code == 0
    calls = place.calls
    run = checkout.run(*APPLY)
    assert run.code == 1
    assert "the state was changed elsewhere meanwhile" in run.err
    assert place.calls == calls


def test_a_state_that_a_sparse_checkout_leaves_out_is_not_taken_for_none(place: Forge) -> None:
    first = place.checkout()
    (first.folder / "fleets").mkdir()
    (first.folder / "jobs.yaml").rename(first.folder / "fleets" / "one.yaml")
    first.commit("Moved")
    assert first.run(*APPLY, "fleets/one.yaml").code == 0
    calls = place.calls
    sparse = place.checkout("--sparse")
    git(sparse.folder, "sparse-checkout", "set", "--no-cone", "/fleets/*.yaml")
    assert not (sparse.folder / "fleets" / "one.state.json").exists()
    run = sparse.run(*APPLY, "fleets/one.yaml")
    assert run.code == 1
    assert "left out of this checkout (sparse checkout" in run.err
    assert place.calls == calls


def test_a_state_that_someone_removed_is_not_taken_for_none(place: Forge) -> None:
    assert place.checkout().run(*APPLY).code == 0
    calls = place.calls
    checkout = place.checkout()
    (checkout.folder / "jobs.state.json").unlink()
    run = checkout.run(*APPLY)
    assert run.code == 1
    assert "jobs.state.json is committed, but not in this checkout" in run.err
    assert place.calls == calls


def test_a_checkout_of_another_user_is_refused_in_git_s_words(place: Forge) -> None:
    checkout = place.checkout()
    message = run_as_other(place, checkout)
    assert "dubious ownership" in message
    assert "safe.directory" in message


def run_as_other(place: Forge, checkout: Checkout) -> str:
    checkout.env["GIT_TEST_ASSUME_DIFFERENT_OWNER"] = "1"
    return refused(place, checkout)


def test_a_submodule_is_refused(place: Forge) -> None:
    outer = place.folder / "outer"
    git(place.folder, "init", "-q", str(outer))
    git(outer, "submodule", "add", "-q", f"file://{place.remote}", "jobs")
    inner = Checkout(outer / "jobs", place.server)
    refused(place, inner, "lies in the submodule")


def test_signing_and_hooks_of_the_checkout_play_no_part(place: Forge) -> None:
    checkout = place.checkout()
    git(checkout.folder, "config", "commit.gpgSign", "true")
    git(checkout.folder, "config", "gpg.program", "/nonexistent")
    for name in ("pre-commit", "pre-push", "commit-msg", "reference-transaction"):
        hook = checkout.folder / ".git" / "hooks" / name
        hook.parent.mkdir(exist_ok=True)
        hook.write_text("#!/bin/sh\nexit 1\n")
        hook.chmod(0o755)
    run = checkout.run(*APPLY)
    assert run.code == 0, run.err
    assert '"running"' in place.show("jobs.state.json")


def test_a_detached_head_and_a_gitignored_journal_play_no_part(place: Forge) -> None:
    first = place.checkout()
    (first.folder / ".gitignore").write_text("*.state.json*\n*.history.jsonl\n")
    first.commit("Ignored")
    checkout = place.checkout()
    git(checkout.folder, "checkout", "-q", "--detach")
    assert checkout.run(*APPLY).code == 0
    assert "jobs.state.json" in place.files


def test_outside_of_a_checkout_it_is_refused(place: Forge, tmp_path: Path) -> None:
    checkout = place.checkout()
    run = checkout.run(*APPLY, "--state", str(tmp_path / "elsewhere.state.json"))
    assert run.code == 1
    assert "can't be used as a git checkout" in run.err
    assert place.calls == 0


def test_a_remote_that_is_not_there_is_an_error_in_one_line(place: Forge) -> None:
    checkout = place.checkout()
    run = checkout.run("apply", "--yes", "--push", "upstream:main")
    assert run.code == 1
    assert "there is no git remote named upstream here" in run.err
    git(checkout.folder, "remote", "set-url", "origin", "file:///nowhere/at/all.git")
    refused(place, checkout, "git fetch failed")


def test_what_push_takes() -> None:
    assert parse_push("main") == PushTo("origin", "main")
    assert parse_push("refs/heads/main") == PushTo("origin", "main")
    assert parse_push("upstream:release/1") == PushTo("upstream", "release/1")
    for wrong in (":main", "a b", "--force", "main~1", "-x:main", "x:"):
        with pytest.raises(Usage):
            parse_push(wrong)
