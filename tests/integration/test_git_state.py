"""State on a branch of a git remote: what is published when, who gets through, and what a remote may do to us."""

import json
import os
import random
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import git_crash
from checkout import CAMPAIGNS
from git_crash import BRANCH, files_of, git, open_intents
from git_races import WAIT_S, Team, applied, hook, one_round, resumed, rounds, stopped, team
from project import no_fault_in
from waits import until

ONE = "a: {state: running}"


@pytest.fixture
def quick(tmp_path: Path) -> Iterator[Team]:
    """A team whose jobs are over at once, so that nothing keeps a second run from being carried out."""
    with team(tmp_path) as made:
        yield made


def subjects(remote: Path, branch: str = BRANCH) -> list[str]:
    """The commits of a branch, oldest first, in their own words."""
    return git(remote, "log", "--reverse", "--format=%s", f"refs/heads/{branch}").decode().splitlines()


# --- what is where, and when -------------------------------------------------------------------------------------


def test_another_machine_sees_what_was_applied_and_the_checkout_stays_as_it_is(group: Team) -> None:
    first, second = group.machine(), group.machine()
    assert applied(first, ONE).code == 0
    second.write(ONE)
    assert second.run("plan", "--detailed-exitcode").code == 0
    assert second.run("apply", "--yes").out.startswith("Nothing to do")
    assert group.executions() == [("run", "a")]
    assert sorted(path.name for path in first.folder.iterdir() if path.name[0] != ".") == ["jobs.yaml"]
    assert set(group.files) == {"jobs.state.json", "jobs.history.jsonl"}
    assert len(subjects(group.remote)) == 2, "an apply that does nothing pushes nothing"


def test_a_commit_says_who_did_what_and_that_ci_is_not_to_run(group: Team) -> None:
    machine = group.machine()
    machine.env |= {"GITHUB_ACTIONS": "true", "GITHUB_ACTOR": "ada", "GITHUB_RUN_ID": "7"}
    assert applied(machine, ONE).code == 0
    assert subjects(group.remote) == ["reconciler apply, under way [skip ci]", "reconciler apply [skip ci]"]
    assert git(group.remote, "log", "-1", "--format=%an", BRANCH).decode().strip() == "ada, GitHub Actions run 7"
    assert "machine-1@" in git(group.remote, "log", "-1", "--format=%b", BRANCH).decode()


def test_two_hundred_runs_ten_at_once_take_one_push_before_and_one_after(group: Team) -> None:
    machine = group.machine(RENEW_AFTER_S=WAIT_S, SEND_WITHIN_S=WAIT_S, GATHER_S=WAIT_S)
    run = applied(machine, "\n".join(f"job-{n}: {{state: running}}" for n in range(200)), "--parallelism", "10")
    assert run.code == 0, run.err
    assert group.runs() == {f"job-{n}": 1 for n in range(200)}
    assert subjects(group.remote) == ["reconciler apply, under way [skip ci]", "reconciler apply [skip ci]"]


@pytest.mark.skipif(
    sys.platform != "linux" or len(os.sched_getaffinity(0)) < 2, reason="needs two cores to choose from"
)
def test_git_has_every_core_however_many_calls_are_sent_at_once(group: Team) -> None:
    hook(group.remote, "pre-receive", f"nproc >>'{group.folder}/cores'")
    jobs = "\n".join(f"job-{n}: {{state: running}}" for n in range(8))
    assert applied(group.machine(), jobs, "--parallelism", "8").code == 0
    lines = (group.folder / "cores").read_text().split()
    assert set(lines) == {str(len(os.sched_getaffinity(0)))}


def test_a_step_that_takes_long_renews_its_claim_and_publishes_its_results(group: Team) -> None:
    """At one request in 0.25 s, six runs take longer than a call may follow its push."""
    machine = group.machine(RENEW_AFTER_S=0.3, SEND_WITHIN_S=0.8)
    jobs = "\n".join(f"job-{n}: {{state: running}}" for n in range(6))
    run = applied(machine, jobs, "--max-rps", "4", "--parallelism", "1")
    assert run.code == 0, run.err
    assert set(group.runs().values()) == {1}
    assert len(subjects(group.remote)) > 3


# --- who gets through --------------------------------------------------------------------------------------------


def test_of_eight_machines_that_race_one_does_the_work_and_nothing_runs_twice(quick: Team) -> None:
    found = one_round(quick, 1, 8)
    assert (found.worked, found.refused + found.idle) == (1, 7)


def test_machines_that_are_killed_while_they_race_lose_nothing(tmp_path: Path) -> None:
    rounds(tmp_path, 1, 3, lambda number, found: None, random.Random(5))


def test_who_loses_the_push_sends_nothing_and_is_refused(group: Team) -> None:
    """The loser is stopped just before its first push, and goes on once the other is done."""
    loser, winner = group.machine(), group.machine()
    child = stopped(loser, "fast-import", "a: {state: running}\nb: {state: running}")
    assert applied(winner, "c: {state: running}").code == 0
    lost = resumed(child)
    assert lost.code == 4, lost
    assert "someone else changed" in lost.err
    assert "plan again, and apply" in lost.err
    assert group.executions() == [("run", "c")]
    group.rest("a: {state: running}\nb: {state: running}\nc: {state: running}")
    assert set(group.runs().values()) == {1}


def test_what_could_not_be_pushed_does_not_count_as_seen(group: Team) -> None:
    loser, winner = group.machine(), group.machine()
    assert applied(winner, ONE).code == 0
    child = stopped(loser, "fast-import", ONE, "state", "forget", "a")
    assert applied(winner, "a: {state: aborted}").code == 0
    lost = resumed(child)
    assert lost.code == 4, lost
    assert "someone else changed" in lost.err
    assert loser.run("plan", GIT_TRICK_MODE="none").code == 0
    assert list(json.loads(group.files["jobs.state.json"])["jobs"]) == ["a"]


def test_a_machine_that_waits_keeps_its_claim(tmp_path: Path) -> None:
    """It waits between its two looks at a doubt, for longer than another would watch a branch that does not move."""
    with team(tmp_path, faults=["run:503:times=1"]) as group:
        waiting, other = group.machine(RENEW_AFTER_S=0.3), group.machine(TAKE_OVER_AFTER_S=1.5)
        assert applied(waiting, ONE).code == 5
        waiting.write("a: {state: running}\nb: {state: running}")
        child = waiting.start("apply", "--yes", "--settle", "5")
        until(lambda: ("run", "b") in group.executions() and not group.intents, "it never told of its run of b")
        run = applied(other, "a: {state: running}\nb: {state: running}")
        assert run.code == 4, run.out + run.err
        assert "the state is locked" in run.err
        out, err = child.communicate(timeout=WAIT_S)
        assert child.returncode == 0, out + err
        assert sorted(group.executions()) == [("run", "a"), ("run", "b")]


def test_a_machine_that_stalls_after_its_push_sends_nothing_once_another_took_over(quick: Team) -> None:
    """The stalled one's intent is on the branch. Another waits, looks twice, and runs the job. Then it wakes."""
    group = quick
    stalled, other = group.machine(SEND_WITHIN_S=0.5), group.machine(TAKE_OVER_AFTER_S=1.5)
    child = stopped(stalled, "push", ONE)
    assert group.intents == {("a", "run")}
    run = applied(other, ONE)
    assert run.code == 0, run.err
    assert "has been running `apply` since" in run.err
    late = resumed(child)
    assert late.code == 4, late
    assert "someone else changed" in late.out + late.err
    assert group.executions() == [("run", "a")]
    assert set(group.files) == {"jobs.state.json", "jobs.history.jsonl"}


def test_a_machine_at_work_is_not_taken_over_and_says_who_it_is(group: Team) -> None:
    busy, other = group.machine(), group.machine(TAKE_OVER_AFTER_S=WAIT_S)
    busy.write("\n".join(f"job-{n}: {{state: running}}" for n in range(6)))
    child = busy.start("apply", "--yes", "--max-rps", "3")
    until(lambda: group.intents, "the busy one never began")
    run = applied(other, "x: {state: running}")
    assert run.code == 4, run.out + run.err
    assert "the state is locked: machine-1@" in run.err
    assert "has been running `apply` since 2" in run.err
    assert "--lock-timeout" in run.err
    waited = applied(other, "\n".join(f"job-{n}: {{state: running}}" for n in range(6)), "--lock-timeout", "60")
    assert waited.out.startswith("Nothing to do"), waited.out + waited.err
    assert child.wait(WAIT_S) == 0
    assert set(group.runs().values()) == {1}
    child.communicate()


def test_two_applies_on_one_machine_take_the_local_lock(group: Team) -> None:
    machine = group.machine()
    child = stopped(machine, "push", ONE)
    run = machine.run("apply", "--yes", GIT_TRICK_MODE="none")
    assert run.code == 4
    assert "the state is locked" in run.err
    assert resumed(child).code == 0


def test_two_states_on_one_branch_do_not_get_in_each_others_way(group: Team) -> None:
    """One is stopped before its push; the other state moves the branch meanwhile; then it follows that commit."""
    east = group.machine(f"git+file://{group.remote}#{BRANCH}:east/jobs.state.json")
    west = group.machine(f"git+file://{group.remote}#{BRANCH}:west/jobs.state.json")
    child = stopped(east, "fast-import", "a: {state: running}")
    assert applied(west, "b: {state: running}").code == 0
    run = resumed(child)
    assert run.code == 0, run
    assert sorted(group.executions()) == [("run", "a"), ("run", "b")]
    for name in ("east", "west"):
        assert set(files_of(group.remote, path=f"{name}/x")) == {"jobs.state.json", "jobs.history.jsonl"}


# --- what is lost on the way -------------------------------------------------------------------------------------


def test_a_push_whose_answer_is_lost_is_looked_for_on_the_branch(group: Team) -> None:
    machine = group.machine()
    machine.trick("lie", "push", "all")
    run = applied(machine, ONE)
    assert run.code == 0, run.err
    assert group.executions() == [("run", "a")]
    assert set(group.files) == {"jobs.state.json", "jobs.history.jsonl"}


def test_a_push_that_never_left_is_sent_again(group: Team) -> None:
    machine = group.machine()
    machine.trick("drop", "push", 1)
    assert applied(machine, ONE).code == 0
    assert group.executions() == [("run", "a")]


def test_where_nobody_can_tell_whether_a_push_arrived_nothing_is_sent(group: Team) -> None:
    machine = group.machine()
    machine.write(ONE)
    script = machine.folder / ".tools" / "git"
    lost = 'case " $* " in *" push "*) "$REAL_GIT" "$@" >/dev/null 2>&1; exit 128;; *" ls-remote "*) exit 128;; esac\n'
    script.write_text(script.read_text().replace("#!/bin/sh\n", f"#!/bin/sh\n{lost}"))
    run = machine.run("apply", "--yes")
    assert run.code == 1, run.out + run.err
    assert "nothing was sent: it is not known whether a push" in run.err
    assert group.executions() == []
    assert group.intents == {("a", "run")}
    group.rest(ONE)
    assert group.executions() == [("run", "a")]


def test_results_that_can_no_longer_be_pushed_are_a_doubt_that_is_named_and_the_next_apply_settles_it(
    group: Team,
) -> None:
    machine = group.machine()
    machine.write(ONE)
    script = machine.folder / ".tools" / "git"
    broken = f'[ -e "{group.folder}/gone" ] && exit 128\n'
    script.write_text(script.read_text().replace("#!/bin/sh\n", f"#!/bin/sh\n{broken}"))
    hook(group.remote, "post-receive", f"touch '{group.folder}/gone'")
    run = machine.run("apply", "--yes")
    assert run.code == 5, run.out + run.err
    assert "is in doubt there, and is looked at when you apply again: a\n" in run.err
    assert group.executions() == [("run", "a")]
    hook(group.remote, "post-receive", "true")
    group.rest(ONE)
    assert group.executions() == [("run", "a")]


def test_a_remote_that_hangs_is_given_up_after_the_deadline(group: Team) -> None:
    machine = group.machine(COMMAND_WITHIN_S=0.5, TRY_AGAIN_AFTER_S=[])
    machine.trick("hang", "push", "all")
    run = applied(machine, ONE)
    assert run.code == 1
    assert "no end within 0.5 s" in run.err
    assert group.executions() == []


def test_a_first_interrupt_sends_nothing_more_and_records_what_was_done(tmp_path: Path) -> None:
    with team(tmp_path, latency_s=0.3) as group:
        machine = group.machine()
        machine.write("\n".join(f"job-{n}: {{state: running}}" for n in range(6)))
        child = machine.start("apply", "--yes", "--parallelism", "1")
        until(lambda: len(group.executions()) >= 2, "nothing was run")
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=WAIT_S)
        assert child.returncode == 130, out + err
        assert group.intents == set()
        assert set(group.files) == {"jobs.state.json", "jobs.history.jsonl"}
        done = set(group.runs())
        assert 2 <= len(done) < 6
        assert set(json.loads(group.files["jobs.state.json"])["jobs"]) == done


def test_what_a_killed_apply_left_is_settled_by_a_person_on_another_machine(group: Team) -> None:
    machine, other = group.machine(), group.machine(TAKE_OVER_AFTER_S=0.3)
    machine.trick("after", "push", 1)
    machine.write(ONE)
    assert machine.run("apply", "--yes").code == -signal.SIGKILL
    assert group.intents == {("a", "run")}
    other.write(ONE)
    shown = other.run("state", "show", "a", "--format", "json")
    assert shown.json["inDoubt"]["verb"] == "run"
    assert other.run("resolve", "a", "--not-applied").code == 0
    assert applied(other, ONE).code == 0
    assert group.executions() == [("run", "a")]


# --- killed anywhere ---------------------------------------------------------------------------------------------


def test_killed_anywhere_nothing_runs_twice_and_nothing_is_lost() -> None:
    """Before 4 of some 200 calls; `make crash` takes all, of every scenario."""
    no_fault_in(CAMPAIGNS / "git_crash.py", "--scenario", "mixed", "--sample", "4", "--workers", "2")


def test_an_intent_is_read_from_the_branch_without_our_help(group: Team) -> None:
    """What the crash harness judges by does find an intent, and finds it closed."""
    machine = group.machine()
    machine.trick("after", "push", 1)
    machine.write(ONE)
    machine.run("apply", "--yes")
    assert open_intents(group.remote) == {("a", "run")}
    assert git_crash.files_of(group.remote).keys() == {"jobs.state.json.journal", "jobs.state.json.lock"}
