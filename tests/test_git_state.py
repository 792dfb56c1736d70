"""State on a branch of a git remote: what is published when, who gets through, and what a remote may do to us."""

import base64
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

import pytest

import git_crash
from git_crash import BRANCH, PATH, files_of, git, open_intents, tip
from git_races import Machine, Team, one_round, rounds, team
from project import Run
from reconciler.errors import Usage
from reconciler.state.branch_url import BranchUrl, parse

TESTS = Path(__file__).parent
WAIT_S = 60.0
ONE = "a: {state: running}"


@pytest.fixture
def group(tmp_path: Path) -> Iterator[Team]:
    with team(tmp_path, job_seconds=10_000) as made:
        yield made


@pytest.fixture
def quick(tmp_path: Path) -> Iterator[Team]:
    """A team whose jobs are over at once, so that nothing keeps a second run from being carried out."""
    with team(tmp_path) as made:
        yield made


def applied(machine: Machine, jobs: str, *arguments: str) -> Run:
    machine.write(jobs)
    return machine.run("apply", "--yes", "--settle", "0.1", *arguments)


def subjects(remote: Path, branch: str = BRANCH) -> list[str]:
    """The commits of a branch, oldest first, in their own words."""
    return git(remote, "log", "--reverse", "--format=%s", f"refs/heads/{branch}").decode().splitlines()


def until(holds: "object", what: str) -> None:
    """Wait until something holds that another program brings about."""
    assert callable(holds)
    end_s = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < end_s, what
        time.sleep(0.02)


# --- what is where, and when -------------------------------------------------------------------------------------


def test_another_machine_sees_what_was_applied_and_the_checkout_stays_as_it_is(group: Team) -> None:
    first, second = group.machine(), group.machine()
    assert applied(first, ONE).code == 0
    second.write(ONE)
    assert second.run("plan", "--detailed-exitcode").code == 0
    assert second.run("apply", "--yes").out.startswith("Nothing to do")
    assert group.deeds() == [("run", "a")]
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
    loser.trick("stop", "fast-import", 1)
    loser.write("a: {state: running}\nb: {state: running}")
    child = loser.start("apply", "--yes")
    wait_until_stopped(child)
    assert applied(winner, "c: {state: running}").code == 0
    child.send_signal(signal.SIGCONT)
    out, err = child.communicate(timeout=WAIT_S)
    assert child.returncode == 4, out + err
    assert "someone else changed" in err
    assert "plan again, and apply" in err
    assert group.deeds() == [("run", "c")]
    group.rest("a: {state: running}\nb: {state: running}\nc: {state: running}")
    assert set(group.runs().values()) == {1}


def test_what_could_not_be_pushed_does_not_count_as_seen(group: Team) -> None:
    loser, winner = group.machine(), group.machine()
    assert applied(winner, ONE).code == 0
    loser.trick("stop", "fast-import", 1)
    loser.write(ONE)
    child = loser.start("state", "forget", "a")
    wait_until_stopped(child)
    assert applied(winner, "a: {state: aborted}").code == 0
    child.send_signal(signal.SIGCONT)
    _, err = child.communicate(timeout=WAIT_S)
    assert child.returncode == 4, err
    assert "someone else changed" in err
    assert loser.run("plan", GIT_TRICK_MODE="none").code == 0
    assert list(json.loads(group.files["jobs.state.json"])["jobs"]) == ["a"]


def test_a_machine_that_waits_keeps_its_claim(tmp_path: Path) -> None:
    """It waits between its two looks at a doubt, for longer than another would watch a branch that does not move."""
    with team(tmp_path, faults=["run:503:times=1"]) as group:
        waiting, other = group.machine(RENEW_AFTER_S=0.3), group.machine(TAKE_OVER_AFTER_S=1.5)
        assert applied(waiting, ONE).code == 5
        waiting.write("a: {state: running}\nb: {state: running}")
        child = waiting.start("apply", "--yes", "--settle", "5")
        until(lambda: ("run", "b") in group.deeds() and not group.intents, "it never told of its run of b")
        run = applied(other, "a: {state: running}\nb: {state: running}")
        assert run.code == 4, run.out + run.err
        assert "the state is locked" in run.err
        out, err = child.communicate(timeout=WAIT_S)
        assert child.returncode == 0, out + err
        assert sorted(group.deeds()) == [("run", "a"), ("run", "b")]


def test_a_machine_that_stalls_after_its_push_sends_nothing_once_another_took_over(quick: Team) -> None:
    """The stalled one's intent is on the branch. Another waits, looks twice, and runs the job. Then it wakes."""
    group = quick
    stalled, other = group.machine(SEND_WITHIN_S=0.5), group.machine(TAKE_OVER_AFTER_S=1.5)
    stalled.trick("stop", "push", 1)
    stalled.write(ONE)
    child = stalled.start("apply", "--yes")
    wait_until_stopped(child)
    assert group.intents == {("a", "run")}
    run = applied(other, ONE)
    assert run.code == 0, run.err
    assert "has been running `apply` since" in run.err
    child.send_signal(signal.SIGCONT)
    out, err = child.communicate(timeout=WAIT_S)
    assert child.returncode in (4, 5), out + err
    assert "someone else changed" in out + err
    assert group.deeds() == [("run", "a")]
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
    machine.trick("stop", "push", 1)
    machine.write(ONE)
    child = machine.start("apply", "--yes")
    wait_until_stopped(child)
    run = machine.run("apply", "--yes", GIT_TRICK_MODE="none")
    assert run.code == 4
    assert "the state is locked" in run.err
    child.send_signal(signal.SIGCONT)
    assert child.wait(WAIT_S) == 0
    child.communicate()


def test_two_states_on_one_branch_do_not_get_in_each_others_way(group: Team) -> None:
    """One is stopped before its push; the other state moves the branch meanwhile; then it follows that commit."""
    east = group.machine(f"git+file://{group.remote}#{BRANCH}:east/jobs.state.json")
    west = group.machine(f"git+file://{group.remote}#{BRANCH}:west/jobs.state.json")
    east.trick("stop", "fast-import", 1)
    east.write("a: {state: running}")
    child = east.start("apply", "--yes")
    wait_until_stopped(child)
    assert applied(west, "b: {state: running}").code == 0
    child.send_signal(signal.SIGCONT)
    out, err = child.communicate(timeout=WAIT_S)
    assert child.returncode == 0, out + err
    assert sorted(group.deeds()) == [("run", "a"), ("run", "b")]
    for name in ("east", "west"):
        assert set(files_of(group.remote, path=f"{name}/x")) == {"jobs.state.json", "jobs.history.jsonl"}


def wait_until_stopped(child: "subprocess.Popen[str]") -> None:
    status = Path(f"/proc/{child.pid}/stat")
    until(lambda: status.read_text().rpartition(") ")[2].startswith(("T", "t")), "it was never stopped")


# --- what is lost on the way -------------------------------------------------------------------------------------


def test_a_push_whose_answer_is_lost_is_looked_for_on_the_branch(group: Team) -> None:
    machine = group.machine()
    machine.trick("lie", "push", "all")
    run = applied(machine, ONE)
    assert run.code == 0, run.err
    assert group.deeds() == [("run", "a")]
    assert set(group.files) == {"jobs.state.json", "jobs.history.jsonl"}


def test_a_push_that_never_left_is_sent_again(group: Team) -> None:
    machine = group.machine()
    machine.trick("drop", "push", 1)
    assert applied(machine, ONE).code == 0
    assert group.deeds() == [("run", "a")]


def test_where_nobody_can_tell_whether_a_push_arrived_nothing_is_sent(group: Team) -> None:
    machine = group.machine()
    machine.write(ONE)
    script = machine.folder / ".tools" / "git"
    lost = 'case " $* " in *" push "*) "$REAL_GIT" "$@" >/dev/null 2>&1; exit 128;; *" ls-remote "*) exit 128;; esac\n'
    script.write_text(script.read_text().replace("#!/bin/sh\n", f"#!/bin/sh\n{lost}"))
    run = machine.run("apply", "--yes")
    assert run.code == 1, run.out + run.err
    assert "nothing was sent: nobody knows whether a push" in run.err
    assert group.deeds() == []
    assert group.intents == {("a", "run")}
    group.rest(ONE)
    assert group.deeds() == [("run", "a")]


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
    assert "is in doubt there" in run.err
    assert group.deeds() == [("run", "a")]
    hook(group.remote, "post-receive", "true")
    group.rest(ONE)
    assert group.deeds() == [("run", "a")]


def test_a_remote_that_hangs_is_given_up_after_the_deadline(group: Team) -> None:
    machine = group.machine(COMMAND_WITHIN_S=0.5, _TRY_AGAIN_AFTER_S=[])
    machine.trick("hang", "push", "all")
    run = applied(machine, ONE)
    assert run.code == 1
    assert "no end within 0.5 s" in run.err
    assert group.deeds() == []


def test_a_first_interrupt_sends_nothing_more_and_records_what_was_done(tmp_path: Path) -> None:
    with team(tmp_path, latency_s=0.3) as group:
        machine = group.machine()
        machine.write("\n".join(f"job-{n}: {{state: running}}" for n in range(6)))
        child = machine.start("apply", "--yes", "--parallelism", "1")
        until(lambda: len(group.deeds()) >= 2, "nothing was run")
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=WAIT_S)
        assert child.returncode == 130, out + err
        assert group.intents == set()
        assert set(group.files) == {"jobs.state.json", "jobs.history.jsonl"}
        done = set(group.runs())
        assert 2 <= len(done) < 6
        assert set(json.loads(group.files["jobs.state.json"])["jobs"]) == done


# --- remotes that say no -----------------------------------------------------------------------------------------


def hook(remote: Path, name: str, body: str) -> None:
    path = remote / "hooks" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


@pytest.mark.parametrize("name", ["pre-receive", "update"])
def test_a_remote_that_takes_no_push_is_named_with_its_words_and_nothing_is_sent(group: Team, name: str) -> None:
    hook(group.remote, name, "echo 'GH006: Protected branch update failed' >&2; exit 1")
    run = applied(group.machine(), ONE)
    assert run.code == 1, run.out + run.err
    assert "takes no push" in run.err
    assert "GH006: Protected branch update failed" in run.err
    assert group.deeds() == []
    assert tip(group.remote) is None


def test_a_remote_that_is_not_there_is_an_error_in_one_line(group: Team) -> None:
    machine = group.machine("git+file:///nowhere/at/all.git")
    machine.write(ONE)
    for command in (["plan"], ["apply", "--yes"], ["state", "list"]):
        run = machine.run(*command)
        assert run.code == 1
        assert "branch reconciler-state of file:///nowhere/at/all.git: git " in run.err
    assert group.deeds() == []


def test_without_git_the_error_says_so(group: Team) -> None:
    machine = group.machine()
    machine.write(ONE)
    run = machine.run("plan", PATH=str(machine.folder / "empty"))
    assert run.code == 1
    assert "git is not installed" in run.err


def rewritten(group: Team) -> Machine:
    """A branch that was put back, by force, to before the last apply of this machine."""
    machine = group.machine()
    assert applied(machine, ONE).code == 0
    old = tip(group.remote)
    assert applied(machine, 'a: {state: running, runToken: "2"}').code == 0
    git(group.remote, "update-ref", f"refs/heads/{BRANCH}", str(old))
    return machine


def test_a_branch_that_was_rewritten_is_refused_until_someone_takes_it(group: Team) -> None:
    machine = rewritten(group)
    before = group.deeds()
    for command in (["plan"], ["apply", "--yes"], ["state", "forget", "a"]):
        run = machine.run(*command)
        assert run.code == 1, run.out
        assert "was rewritten: it does not hold commit" in run.err
        assert "state accept" in run.err
    assert group.deeds() == before
    taken = machine.run("state", "accept")
    assert taken.code == 0, taken.err
    assert "was rewritten" in taken.err
    assert machine.run("plan").code == 0


def test_a_branch_that_was_rewritten_is_refused_by_a_machine_that_lost_its_cache(group: Team) -> None:
    machine = rewritten(group)
    subprocess.run(["rm", "-rf", str(machine.folder / ".cache")], check=True, timeout=60)
    run = machine.run("apply", "--yes")
    assert run.code == 1
    assert "was rewritten" in run.err


def test_a_machine_that_lost_its_cache_finds_a_branch_that_grew_to_be_as_it_should(group: Team) -> None:
    machine = group.machine()
    assert applied(machine, ONE).code == 0
    assert applied(group.machine(), 'a: {state: running, runToken: "2"}').code == 0
    subprocess.run(["rm", "-rf", str(machine.folder / ".cache")], check=True, timeout=60)
    machine.write('a: {state: running, runToken: "2"}')
    assert machine.run("plan", "--detailed-exitcode").code == 0


def test_a_branch_that_is_gone_is_refused(group: Team) -> None:
    machine = group.machine()
    assert applied(machine, ONE).code == 0
    git(group.remote, "update-ref", "-d", f"refs/heads/{BRANCH}")
    run = machine.run("apply", "--yes")
    assert run.code == 1
    assert "is gone: it does not hold commit" in run.err


def test_a_cache_that_a_killed_command_left_damaged_is_made_anew(group: Team) -> None:
    machine = group.machine()
    assert applied(machine, ONE).code == 0
    assert applied(group.machine(), 'a: {state: running, runToken: "2"}').code == 0
    (cache,) = (machine.folder / ".cache" / "reconciler").glob("git-*[0-9a-f]")
    (cache / "shallow.lock").write_text("")
    (cache / "refs" / "reconciler" / "tip.lock").write_text("")
    machine.write('a: {state: running, runToken: "2"}')
    assert machine.run("plan", "--detailed-exitcode").code == 0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda text: f"<<<<<<< ours\n{text}=======\n{text}>>>>>>> theirs\n",
            "holds the marks of a git merge conflict",
        ),
        (lambda text: text[: len(text) // 2], "is damaged"),
    ],
)
def test_a_state_that_was_spoiled_on_the_branch_is_refused_by_the_branchs_name(
    group: Team, tmp_path: Path, change: "object", said: str
) -> None:
    machine = group.machine()
    assert applied(machine, ONE).code == 0
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", "-b", BRANCH, str(group.remote), str(clone)], check=True, timeout=60)
    assert callable(change)
    (clone / PATH).write_text(change((clone / PATH).read_text()))
    who = ["-c", "user.name=ada", "-c", "user.email=ada@example.org", "-c", "commit.gpgsign=false"]
    git(clone, *who, "commit", "-q", "-a", "-m", "merged by hand")
    git(clone, "push", "-q")
    before = group.deeds()
    for command in (["plan"], ["apply", "--yes"]):
        run = machine.run(*command)
        assert run.code == 1
        assert said in run.err
        assert f"branch {BRANCH} of file://" in run.err
    assert group.deeds() == before


# --- where the remote is named -----------------------------------------------------------------------------------


def test_a_shallow_checkout_serves_and_its_remote_goes_by_its_name(group: Team, tmp_path: Path) -> None:
    source = tmp_path / "source"
    subprocess.run(["git", "clone", "-q", str(group.remote), str(source)], check=True, timeout=60)
    for number in range(3):
        who = ["-c", "user.name=ada", "-c", "user.email=ada@example.org", "-c", "commit.gpgsign=false"]
        git(source, *who, "commit", "-q", "--allow-empty", "-m", f"change {number}")
    git(source, "push", "-q", "origin", "HEAD:main")
    machine = group.machine("git+origin")
    git(machine.folder, "init", "-q")
    git(machine.folder, "remote", "add", "origin", f"file://{group.remote}")
    git(machine.folder, "fetch", "-q", "--depth=1", "origin", "main")
    git(machine.folder, "checkout", "-q", "FETCH_HEAD")
    assert git(machine.folder, "rev-parse", "--is-shallow-repository").strip() == b"true"
    assert applied(machine, ONE).code == 0
    assert set(files_of(group.remote, "reconciler-state", "jobs.state.json")) == {
        "jobs.state.json",
        "jobs.history.jsonl",
    }
    assert git(machine.folder, "branch", "--all").strip().startswith(b"* (HEAD detached")
    other = group.machine(f"git+{group.remote}")
    other.write(ONE)
    assert other.run("plan", "--detailed-exitcode").code == 0


def test_hooks_of_the_user_and_a_repository_around_us_have_no_part_in_it(group: Team, tmp_path: Path) -> None:
    machine = group.machine()
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    for name in ("pre-push", "reference-transaction", "post-checkout"):
        # The remote's own side runs as the same user here, with the same configuration.
        (hooks / name).write_text(f"#!/bin/sh\ncase $PWD in *.cache*) touch '{tmp_path}/ran'; exit 1;; esac\n")
        (hooks / name).chmod(0o755)
    config = tmp_path / "config"
    config.write_text(f"[core]\n\thooksPath = {hooks}\n")
    machine.env |= {"GIT_CONFIG_GLOBAL": str(config), "GIT_DIR": "/nowhere", "GIT_INDEX_FILE": "/nowhere/index"}
    assert applied(machine, ONE).code == 0
    assert not (tmp_path / "ran").exists()


SECRET = "hunter2-not-a-real-one"


@pytest.mark.parametrize(
    "remote",
    [
        f"https://ada:{SECRET}@host.example/org/repo.git",
        f"https://{SECRET}@host.example/org/repo.git",
        f"ssh://git:{SECRET}@host.example/org/repo.git",
        f"https://host.example/org/repo.git?private_token={SECRET}",
    ],
)
def test_credentials_in_the_url_are_refused_and_not_printed(group: Team, remote: str) -> None:
    machine = group.machine(f"git+{remote}#state")
    machine.write(ONE)
    for more in ([], ["--verbose"], ["--format", "json"]):
        run = machine.run("plan", *more)
        assert run.code == 64
        assert "holds credentials" in run.err + run.out
        assert SECRET not in run.err + run.out


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("git+https://h/o/r.git#state:prod/jobs.state.json", ("https://h/o/r.git", "state", "prod/jobs.state.json")),
        ("git+ssh://git@h/o/r.git#state", ("ssh://git@h/o/r.git", "state", "jobs.state.json")),
        ("git+git@host:o/r.git", ("git@host:o/r.git", "reconciler-state", "jobs.state.json")),
        ("git+origin#:a b/c.json", ("origin", "reconciler-state", "a b/c.json")),
        ("git+file:///srv/r.git#x/y", ("file:///srv/r.git", "x/y", "jobs.state.json")),
    ],
)
def test_the_parts_of_a_url(url: str, parts: tuple[str, str, str]) -> None:
    assert parse(url) == BranchUrl(*parts)


@pytest.mark.parametrize(
    "url",
    [
        "git+",
        "git+#b",
        "git+ext::sh -c true",
        "git+--upload-pack=true",
        "git+http://host.example/r.git",
        "git+git://host.example/r.git",
        "git+ftp://host.example/r.git",
        "git+https://[::1/r.git",
        "git+r.git#a..b",
        "git+r.git#-b",
        "git+r.git#a b",
        "git+r.git#b.lock",
        "git+r.git#b:/etc/passwd",
        "git+r.git#b:../x",
        "git+r.git#b:.git/config",
        "git+r.git#b:a//b",
        "git+r.git#b:a\nb",
    ],
)
def test_what_is_no_url_of_a_branch_is_refused(url: str) -> None:
    with pytest.raises(Usage) as refusal:
        parse(url)
    assert refusal.value.hint


class _Smart(BaseHTTPRequestHandler):
    """A git server over HTTP that wants a password: `git http-backend` behind a few lines of CGI."""

    root: Path
    seen: list[str]

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def _serve(self) -> None:
        wanted = "Basic " + base64.b64encode(f"ada:{SECRET}".encode()).decode()
        body = self._body()
        self.seen.append(self.path)
        if self.headers.get("Authorization") != wanted:
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="git"')
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        path, _, query = self.path.partition("?")
        env = os.environ | {
            "GIT_PROJECT_ROOT": str(self.root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "REMOTE_USER": "ada",
            "PATH_INFO": unquote(path),
            "QUERY_STRING": query,
            "REQUEST_METHOD": self.command,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
            "CONTENT_LENGTH": str(len(body)),
        }
        done = subprocess.run(["git", "http-backend"], input=body, env=env, capture_output=True, check=True, timeout=60)
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
        self.send_response(int(headers.pop("Status", "200").split()[0]))
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        pieces = []
        while size := int(self.rfile.readline(), 16):
            pieces.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(pieces)

    def log_message(self, format: str, *args: object) -> None:
        return


@contextmanager
def smart_server(root: Path) -> Iterator[str]:
    handler = type("_Here", (_Smart,), {"root": root, "seen": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


def everything(folder: Path) -> bytes:
    """Every byte below a folder, but of git's own configuration in the checkout."""
    paths = [path for path in folder.rglob("*") if path.is_file() and path != folder / ".git" / "config"]
    return b"".join(path.read_bytes() for path in paths)


@pytest.mark.parametrize("way", ["a header in the checkout's configuration", "a helper", "the remote's own URL"])
def test_over_http_git_finds_its_own_credentials_and_they_are_nowhere_else(
    group: Team, tmp_path: Path, way: str
) -> None:
    git(group.remote, "config", "http.receivepack", "true")
    with smart_server(tmp_path) as host:
        url = f"http://{host}/the%20remote.git"
        machine = group.machine("git+origin#state")
        git(machine.folder, "init", "-q")
        token = base64.b64encode(f"ada:{SECRET}".encode()).decode()
        if way == "a helper":
            helper = tmp_path / "helper"
            helper.write_text(f"#!/bin/sh\necho username=ada\necho password={SECRET}\n")
            helper.chmod(0o755)
            git(machine.folder, "config", "credential.helper", str(helper))
        elif way == "the remote's own URL":
            url = url.replace("://", f"://ada:{SECRET}@")
        else:
            git(machine.folder, "config", f"http.http://{host}/.extraheader", f"Authorization: Basic {token}")
        git(machine.folder, "remote", "add", "origin", url)
        run = applied(machine, ONE, "--verbose")
        assert run.code == 0, run.out + run.err
        hook(group.remote, "pre-receive", "exit 1")
        refused = applied(machine, "b: {state: running}")
        git(machine.folder, "config", "--unset-all", "credential.helper")
        git(machine.folder, "config", "--unset-all", f"http.http://{host}/.extraheader")
        git(machine.folder, "remote", "set-url", "origin", f"http://{host}/the%20remote.git")
        locked_out = machine.run("plan")
    assert refused.code == 1
    assert locked_out.code == 1
    assert "credential helper" in locked_out.err
    printed = "".join(done.out + done.err for done in (run, refused, locked_out))
    for secret in (SECRET, token):
        assert secret not in printed
        assert secret.encode() not in everything(machine.folder)


# --- the state, here and there -----------------------------------------------------------------------------------


def test_a_state_moves_from_a_file_to_a_branch_and_back(group: Team) -> None:
    machine = group.machine()
    machine.write(ONE)
    at_home = str(machine.folder / "jobs.state.json")
    assert machine.run("apply", "--yes", "--state", at_home).code == 0
    assert machine.run("state", "push", at_home).out == "Pushed: 1 job, serial 1.\n"
    assert machine.run("state", "push", at_home).out.startswith("Nothing to push")
    assert machine.run("plan", "--detailed-exitcode").code == 0
    assert applied(machine, "a: {state: aborted}").code == 0
    refused = machine.run("state", "push", at_home)
    assert refused.code == 4
    assert "is at serial 2, and the state to push at 1: not newer" in refused.err
    assert machine.run("state", "pull", "--out", str(machine.folder / "pulled.json")).code == 0
    assert machine.run("state", "pull", "--out", str(machine.folder / "pulled.json")).code == 1, "a file is overwritten"
    assert machine.run("state", "pull").out.encode() == group.files["jobs.state.json"]
    assert (machine.folder / "pulled.json").read_bytes() == group.files["jobs.state.json"]
    stale = machine.run("plan", "--state", at_home)
    assert stale.code == 1
    assert "was rolled back" in stale.err
    Path(at_home).unlink()
    assert machine.run("state", "push", str(machine.folder / "pulled.json"), "--state", at_home).code == 0
    assert group.deeds() == [("run", "a"), ("abort", "a")]


def test_a_state_of_another_lineage_or_without_a_call_in_doubt_is_not_pushed(group: Team) -> None:
    machine, other = group.machine(), group.machine()
    assert applied(machine, ONE).code == 0
    other.write(ONE)
    home = str(other.folder / "jobs.state.json")
    assert other.run("apply", "--yes", "--state", home).code == 0
    run = other.run("state", "push", home)
    assert run.code == 4
    assert "is of lineage" in run.err


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
    assert group.deeds() == [("run", "a")]


# --- killed anywhere ---------------------------------------------------------------------------------------------


def crashed(*arguments: str) -> None:
    command = [sys.executable, str(TESTS / "git_crash.py"), *arguments]
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600, env=env)
    if done.stdout.startswith("skipped"):
        pytest.skip(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr


def test_killed_anywhere_nothing_runs_twice_and_nothing_is_lost() -> None:
    crashed("--scenario", "mixed", "--scenario", "parallel", "--sample", "2", "--workers", "2")


def test_an_intent_is_read_from_the_branch_without_our_help(group: Team) -> None:
    """What the crash harness judges by does find an intent, and finds it closed."""
    machine = group.machine()
    machine.trick("after", "push", 1)
    machine.write(ONE)
    machine.run("apply", "--yes")
    assert open_intents(group.remote) == {("a", "run")}
    assert git_crash.files_of(group.remote).keys() == {"jobs.state.json.journal", "jobs.state.json.lock"}
