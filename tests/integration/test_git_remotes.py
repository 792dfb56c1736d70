"""Git remotes that a state is kept on: how they are named, how they say no, and what they never get to see."""

import base64
import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

import pytest

from git_crash import BRANCH, PATH, files_of, git, tip
from git_races import Machine, Team, applied, hook
from reconciler.model.errors import Usage
from reconciler.state.backends.git_url import BranchUrl, parse

ONE = "a: {state: running}"


# --- remotes that say no -----------------------------------------------------------------------------------------


def test_a_remote_that_takes_no_push_is_named_with_its_words_and_nothing_is_sent(group: Team) -> None:
    hook(group.remote, "update", "echo 'GH006: Protected branch update failed' >&2; exit 1")
    run = applied(group.machine(), ONE)
    assert run.code == 1, run.out + run.err
    assert "takes no push" in run.err
    assert "GH006: Protected branch update failed" in run.err
    assert group.executions() == []
    assert tip(group.remote) is None


def test_a_remote_that_is_not_there_is_an_error_in_one_line(group: Team) -> None:
    machine = group.machine("git+file:///nowhere/at/all.git")
    machine.write(ONE)
    for command in (["plan"], ["apply", "--yes"]):
        run = machine.run(*command)
        assert run.code == 1
        assert "branch reconciler-state of file:///nowhere/at/all.git: git " in run.err
    assert group.executions() == []


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
    before = group.executions()
    for command in (["plan"], ["apply", "--yes"], ["state", "forget", "a"]):
        run = machine.run(*command)
        assert run.code == 1, run.out
        assert "was rewritten: it does not hold commit" in run.err
        assert "state accept" in run.err
    assert group.executions() == before
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
    ("change", "message"),
    [
        (
            lambda text: f"<<<<<<< ours\n{text}=======\n{text}>>>>>>> theirs\n",
            "holds the marks of a git merge conflict",
        ),
        (lambda text: text[: len(text) // 2], "is damaged"),
    ],
)
def test_a_state_that_was_spoiled_on_the_branch_is_refused_by_the_branchs_name(
    group: Team, tmp_path: Path, change: "object", message: str
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
    before = group.executions()
    for command in (["plan"], ["apply", "--yes"]):
        run = machine.run(*command)
        assert run.code == 1
        assert message in run.err
        assert f"branch {BRANCH} of file://" in run.err
    assert group.executions() == before


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
    assert stale.code == 4
    assert "was rolled back" in stale.err
    Path(at_home).unlink()
    assert machine.run("state", "push", str(machine.folder / "pulled.json"), "--state", at_home).code == 0
    assert group.executions() == [("run", "a"), ("abort", "a")]


def test_an_import_into_a_state_on_a_branch_leaves_the_manifest_alone_to_commit(group: Team) -> None:
    machine = group.machine()
    assert applied(machine, ONE).code == 0
    machine.write("{}")
    assert machine.run("state", "forget", "a").code == 0
    run = machine.run("import", "mine=a")
    assert (run.code, run.err.splitlines()[-1]) == (0, "Nothing was sent. Review jobs.yaml, and commit it.")
    assert b'"mine"' in group.files["jobs.state.json"]


def test_a_state_of_another_lineage_or_without_a_call_in_doubt_is_not_pushed(group: Team) -> None:
    machine, other = group.machine(), group.machine()
    assert applied(machine, ONE).code == 0
    other.write(ONE)
    home = str(other.folder / "jobs.state.json")
    assert other.run("apply", "--yes", "--state", home).code == 0
    run = other.run("state", "push", home)
    assert run.code == 4
    assert "is of lineage" in run.err


def test_a_revision_of_the_branch_is_looked_at_from_a_machine_that_has_no_more_than_its_last_commit(
    group: Team,
) -> None:
    worker, machine, another = group.machine(), group.machine(), group.machine()
    assert applied(worker, "a: {state: running, config: {jobTimeout: 5000}}").code == 0
    first = git(group.remote, "rev-parse", BRANCH).decode().strip()
    assert applied(worker, "a: {state: aborted}\nb: {state: running}").code == 0

    def record_at(revision: str) -> dict[str, object]:
        run = another.run("state", "show", "a", "--at", revision, "--format", "json")
        assert run.code == 0, run.err
        return dict(run.json)

    for asked in (machine, another):
        asked.write("a: {state: running}")
    assert machine.run("plan").code == 0  # a copy of one commit
    since = [machine.run("history", "--since", name, "--format", "json") for name in (first[:9], f"{BRANCH}~3", "HEAD")]
    calls = [[(entry["job"], entry["verb"]) for entry in run.json["entries"]] for run in since]
    assert calls == [[("b", "run"), ("a", "abort")], [("b", "run"), ("a", "abort")], []]
    assert record_at("HEAD")["state"] == "aborted"
    assert record_at(first)["config"] == record_at("HEAD~3^{commit}")["config"] == {"jobTimeout": 5000}
    # While the first apply was at work there was no state, and a call that nobody knew the end of.
    doubt = record_at(f"{first}^")["inDoubt"]
    assert isinstance(doubt, dict)
    assert doubt["verb"] == "run"


def test_what_is_no_revision_of_the_branch_is_said_to_be_none(group: Team) -> None:
    machine = group.machine()
    assert applied(machine, ONE).code == 0
    tree = git(group.remote, "rev-parse", f"{BRANCH}^{{tree}}").decode().strip()
    foreign = git(group.remote, "-c", "user.name=a", "-c", "user.email=a@b.c", "commit-tree", "-m", "x", tree)
    git(group.remote, "update-ref", "refs/heads/main", foreign.decode().strip())
    for name in ("main", "@{1.day.ago}", "HEAD@{1}", "-q", "v1"):
        run = machine.run("history", f"--since={name}")
        assert (run.code, "is not understood as a revision of branch" in run.err) == (1, True), run.err
    for name in ("HEAD~9", "0123456789", foreign.decode().strip(), "HEAD~1..HEAD", f"HEAD^{{tree}}:{PATH}"):
        run = machine.run("state", "show", "a", "--at", name)
        assert (run.code, f"has no commit {name}" in run.err) == (1, True), run.err
    # Still in the machine's copy, and no longer part of the branch.
    before = git(group.remote, "rev-parse", BRANCH).decode().strip()
    git(group.remote, "update-ref", f"refs/heads/{BRANCH}", "refs/heads/main")
    gone = machine.run("history", "--since", before)
    assert (gone.code, f"has no commit {before}" in gone.err) == (1, True), gone.err
    nowhere = machine.run("history", "--since", "HEAD", "--state", f"git+file://{group.remote}#other")
    assert (nowhere.code, "branch other of" in nowhere.err, "is not there" in nowhere.err) == (1, True, True)
