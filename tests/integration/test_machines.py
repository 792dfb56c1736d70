"""Machines as they are: odd homes, odd gits, odd mounts, and files that belong to somebody."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from clone import Clone
from git_crash import git, tip
from git_races import Team, applied
from project import Project

ONE = "a: {state: running}"


def homeless(project: Project, **env: str) -> Project:
    """The project of a user whose environment names no folder but these."""
    kept = {name: value for name, value in project.env.items() if name not in ("HOME", "XDG_STATE_HOME")}
    project.env = {name: value for name, value in kept.items() if name != "XDG_CACHE_HOME"} | env
    return project


# --- homes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "env",
    [
        {"HOME": "relative"},
        {"HOME": "~"},
        {"HOME": "/dev/null", "XDG_STATE_HOME": "relative", "XDG_CACHE_HOME": "./relative"},
    ],
    ids=["home", "tilde", "xdg"],
)
def test_a_home_that_is_relative_makes_no_folder_in_the_working_directory(tmp_path: Path, env: dict[str, str]) -> None:
    project = homeless(Project(tmp_path), **env)
    project.write(ONE)
    there = {path.name for path in tmp_path.iterdir()}
    run = project.run("plan")
    assert (run.code, run.err) == (0, "")
    assert {path.name for path in tmp_path.iterdir()} == there


@pytest.mark.parametrize("variable", ["XDG_CACHE_HOME", "XDG_STATE_HOME"])
def test_a_plan_needs_no_folder_of_its_own(tmp_path: Path, variable: str) -> None:
    project = Project(tmp_path)
    project.write(ONE)
    (tmp_path / "file").write_text("")
    project.env[variable] = str(tmp_path / "file")
    assert [project.run("plan").code for _ in range(2)] == [0, 0]


@pytest.mark.skipif(os.getuid() != 0, reason="only root can run a program as another user")
def test_a_user_without_a_home_or_an_account_makes_no_folder_in_the_working_directory(tmp_path: Path) -> None:
    project = homeless(Project(tmp_path))
    project.write(ONE)
    program = (
        "import os, runpy, sys\n"
        "sys.path[:0] = [path for path in os.environ['LIBRARIES'].split(os.pathsep) if path]\n"
        "from reconciler.usecases.world import World\n"
        "from threading import Event\n"
        "import pwd\n"
        "os.setgroups([]); os.setgid(54321); os.setuid(54321)\n"
        "world = World(os.environ, Event())\n"
        "print([world.state_folder, world.cache_folder])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env=project.env | {"LIBRARIES": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("['', '']\n", "")


def test_state_in_git_without_a_home_names_what_is_missing_and_not_the_state(group: Team) -> None:
    machine = group.machine()
    machine.write(ONE)
    homeless(machine, HOME="/dev/null")
    for command in (["plan"], ["apply", "--yes"]):
        run = machine.run(*command)
        assert run.code == 1
        assert "can't be made: Not a directory\n  set XDG_" in run.err
        assert "_HOME to a folder that can be written\n" in run.err
        assert "state accept" not in run.err
    assert group.executions() == []


# --- gits --------------------------------------------------------------------------------------------------------


def test_the_commit_on_record_is_that_of_the_manifest_whatever_git_dir_says(clone: Clone, tmp_path: Path) -> None:
    clone.write(ONE)
    commit = clone.commit()
    other = tmp_path / "other"
    subprocess.run(["git", "init", "-q", str(other)], env=clone.env, check=True)
    git(other, "-c", "user.name=a", "-c", "user.email=a@example.org", "commit", "--allow-empty", "-qm", "one")
    clone.env |= {
        "GIT_DIR": str(other / ".git"),
        "GIT_WORK_TREE": str(other),
        "GIT_INDEX_FILE": str(other / ".git" / "index"),
    }
    assert clone.run("plan", "--format", "json").json["commit"] == commit
    assert clone.run("diff", "HEAD", "HEAD", "--format", "json").json["commit"] == commit
    assert clone.run("apply", "--yes").code == 0
    entry = clone.history()[-1]
    assert (entry["commit"], entry["who"]) == (commit, "Ada <ada@example.org>")


def test_a_repository_that_git_distrusts_is_named_with_the_words_of_git(clone: Clone) -> None:
    clone.write(ONE)
    clone.commit()
    clone.env["GIT_TEST_ASSUME_DIFFERENT_OWNER"] = "1"
    message = "fatal: detected dubious ownership in repository at "
    plan = clone.run("plan", "--format", "json")
    assert (plan.code, plan.json["commit"]) == (0, None)
    assert plan.err.startswith(
        f"warning: the commit is not recorded, since git can't read the repository of .: {message}"
    )
    assert "git config --global --add safe.directory" in plan.err
    applied = clone.run("apply", "--yes")
    assert applied.code == 0
    assert applied.err.count(message) == 1
    diff = clone.run("diff", "HEAD", "HEAD")
    assert diff.code == 1
    assert diff.err.startswith(f"error: git can't read the repository of the working directory: {message}")


def test_outside_of_git_nothing_is_said_of_a_commit(tmp_path: Path) -> None:
    project = Project(tmp_path)
    project.env["GIT_CEILING_DIRECTORIES"] = str(tmp_path.parent)
    project.write(ONE)
    run = project.run("plan", "--format", "json")
    assert (run.code, run.json["commit"], run.err) == (0, None, "")


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("safe.bareRepository", "explicit"),
        ("push.pushOption", "ci.skip"),
        ("push.negotiate", "true"),
        ("push.gpgSign", "true"),
        ("push.useForceIfIncludes", "true"),
        ("fetch.prune", "true"),
        ("core.ignoreCase", "true"),
    ],
)
def test_state_in_git_is_kept_whatever_the_user_has_configured(group: Team, setting: str, value: str) -> None:
    machine = group.machine()
    config = machine.folder / ".gitconfig"
    subprocess.run(["git", "config", "--file", str(config), setting, value], check=True)
    machine.env["GIT_CONFIG_GLOBAL"] = str(config)
    run = applied(machine, ONE)
    assert run.code == 0, run.err
    assert machine.run("plan").out == "No changes: 1 job is as recorded.\n"
    assert group.executions() == [("run", "a")]


@pytest.mark.parametrize("remote", ["sha1", "sha256"])
@pytest.mark.parametrize("ours", ["", "sha1", "sha256"])
def test_state_in_git_is_kept_by_the_hash_of_the_remote(group: Team, remote: str, ours: str) -> None:
    bare = group.remote.with_name("hashed.git")
    subprocess.run(["git", "init", "-q", "--bare", f"--object-format={remote}", str(bare)], check=True)
    machines = [group.machine(f"git+file://{bare}") for _ in range(2)]
    for machine in machines:
        machine.env |= {"GIT_DEFAULT_HASH": ours} if ours else {}
    run = applied(machines[0], ONE)
    assert run.code == 0, run.err
    assert len(str(tip(bare, "reconciler-state"))) == (40 if remote == "sha1" else 64)
    again = applied(machines[1], ONE)
    assert (again.code, again.out) == (0, "Nothing to do: 1 job is as recorded.\n"), again.err
    shown = machines[1].run("state", "show", "a", "--at", "HEAD", "--format", "json")
    assert (shown.code, shown.json["state"]) == (0, "running")


# --- mounts ------------------------------------------------------------------------------------------------------


def mounted(project: Project, name: str, *commands: str) -> "subprocess.CompletedProcess[str]":
    """Run commands where a file of the project is a mount of its own, as `docker run -v FILE:FILE` makes one."""
    (project.folder / "volume").write_bytes((project.folder / name).read_bytes())
    script = " ".join(("set -e; mount --bind volume", name, "\n", *commands))
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script],
        cwd=project.folder,
        env=project.env | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path), "PYTHONSAFEPATH": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if "unshare" in done.stderr or "mount:" in done.stderr:
        pytest.skip(f"no mount can be made here: {done.stderr}")
    return done


def test_a_state_that_is_a_mount_of_its_own_is_refused_before_anything_is_sent(clone: Clone) -> None:
    assert clone.apply(ONE).code == 0
    clone.write("a: {state: running}\nb: {state: running}")
    before = clone.files
    done = mounted(clone, "jobs.state.json", sys.executable, "-m", "reconciler apply --yes")
    assert done.returncode == 1
    assert done.stderr == (
        "error: jobs.state.json is a mount of its own (a container's volume, as it seems), so it can't be replaced\n"
        "  mount the folder that it lies in, and not the file; or name another place with --state\n"
    )
    assert {name: content for name, content in clone.files.items() if name != "volume"} == before
    assert clone.run("plan").out.startswith("Plan: 1 to run; 1 unchanged.\n")


def test_a_manifest_that_is_a_mount_of_its_own_is_named_as_that_and_leaves_nothing_behind(clone: Clone) -> None:
    clone.write(ONE)
    there = sorted(path.name for path in clone.folder.iterdir())
    done = mounted(clone, "jobs.yaml", sys.executable, "-m", "reconciler rerun a")
    assert done.returncode == 1
    assert done.stderr.startswith(
        "error: jobs.yaml can't be written: Device or resource busy\n  it is a mount of its own"
    )
    assert sorted(path.name for path in clone.folder.iterdir() if path.name != "volume") == there


# --- files that belong to somebody -------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [["rerun", "a"], ["fmt"]], ids=["rerun", "fmt"])
def test_a_file_of_the_user_s_beside_the_manifest_is_left_alone(clone: Clone, command: list[str]) -> None:
    clone.write(ONE)
    mine = clone.folder / "jobs.yaml.tmp"
    mine.write_text("mine")
    before = (clone.folder / "jobs.yaml").read_text()
    assert clone.run(*command).code == 0
    assert (clone.folder / "jobs.yaml").read_text() != before
    assert mine.read_text() == "mine"
    assert [path.name for path in clone.folder.iterdir() if path.name.endswith(".tmp")] == ["jobs.yaml.tmp"]


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a file away")
def test_files_keep_their_owner_and_their_permissions_where_root_replaces_them(clone: Clone) -> None:
    clone.env["GIT_CONFIG_COUNT"] = "0"
    assert clone.apply(ONE).code == 0
    for name, mode in (("jobs.yaml", 0o664), ("jobs.state.json", 0o640), ("jobs.history.jsonl", 0o640)):
        os.chown(clone.folder / name, 4321, 5432)
        (clone.folder / name).chmod(mode)
    assert clone.run("fmt").out == "jobs.yaml\n"
    assert clone.run("rerun", "a").code == 0
    assert clone.run("apply", "--yes").code == 0
    found = {name: (clone.folder / name).stat() for name in ("jobs.yaml", "jobs.state.json", "jobs.history.jsonl")}
    assert {name: (s.st_uid, s.st_gid, oct(s.st_mode & 0o777)) for name, s in found.items()} == {
        "jobs.yaml": (4321, 5432, "0o664"),
        "jobs.state.json": (4321, 5432, "0o640"),
        "jobs.history.jsonl": (4321, 5432, "0o640"),
    }


# --- manifests from elsewhere ------------------------------------------------------------------------------------


NO_BREAK = (
    "no-break space (U+00A0), which only looks like a space: "
    "write a plain space in its place, or quote the text that it is part of"
)


@pytest.mark.parametrize(
    ("lines", "place", "message"),
    [
        ("jobs:\n\xa0\xa0a: {state: running}", "3:1", NO_BREAK),
        ("jobs:\n  a:\n    state: running\n\xa0   id: b", "5:1", NO_BREAK),
        ("jobs:\n  a:\n  \xa0 state: running", "4:3", NO_BREAK),
        ("jobs:\n  a: {state: running\xa0}", "3:14", NO_BREAK),
        ("jobs:\n  a: {state:\xa0running}", "3:7", "state:\\xa0running"),
        ("jobs:\n  a:\n    state: \u3000running", "4:12", "ideographic space (U+3000)"),
        ("jobs:\n  a\u200b: {state: running}", "3:3", "zero width space (U+200B)"),
        ("jobs:\n\ta: {state: running}", "3:1", "a tab: indent with spaces"),
    ],
)
def test_what_only_looks_like_a_space_is_called_by_its_name(
    tmp_path: Path, lines: str, place: str, message: str
) -> None:
    project = Project(tmp_path)
    (tmp_path / "jobs.yaml").write_text(f"{{HEAD}}{lines}\n".replace("{HEAD}", "apiVersion: reconciler/v1\n"))
    run = project.run("validate")
    assert run.code == 1
    assert f"jobs.yaml:{place}: " in run.out
    assert message in run.out


def test_what_only_looks_like_a_space_may_stand_within_a_text(tmp_path: Path) -> None:
    project = Project(tmp_path)
    project.write('a: {state: running, labels: {cost: 50\xa0000 EUR, note: "\xa0x\xa0"}}')
    assert project.run("validate").code == 0


CRLF = b"apiVersion: reconciler/v1\r\ntarget: {engine: sandbox}\r\njobs:\r\n  a:\r\n    state: running # x\r\n"


def test_a_file_with_the_line_ends_of_windows_keeps_them_and_fmt_says_so(tmp_path: Path) -> None:
    project = Project(tmp_path)
    path = tmp_path / "jobs.yaml"
    path.write_bytes(CRLF)
    message = "jobs.yaml: the lines end in CRLF, and are left so\n"
    run = project.run("fmt")
    assert (run.code, run.out, run.err) == (0, "jobs.yaml\n", message)
    laid_out = CRLF.replace(b" # x", b"  # x")
    assert path.read_bytes() == laid_out
    assert project.run("fmt", "--check") == (0, "", message)
    assert project.run("rerun", "a", "--token", "2").code == 0
    assert path.read_bytes() == laid_out + b'    runToken: "2"\r\n'


@pytest.mark.parametrize("indent", [None, 2, "\t"])
def test_json_with_the_halves_of_an_emoji_is_read_as_that_emoji(tmp_path: Path, indent: int | str | None) -> None:
    project = Project(tmp_path)
    jobs = {"a": {"state": "running", "labels": {"mood": "\U0001f600 \U0001f680", "path": "\\ud83d\\ude00"}}}
    document = {"apiVersion": "reconciler/v1", "target": {"engine": "sandbox"}, "jobs": jobs}
    path = tmp_path / "jobs.yaml"
    path.write_text(json.dumps(document, indent=indent))
    assert "\\ud83d\\ude00 " in path.read_text()
    assert project.run("validate").out == "Valid: 1 job in 1 file.\n"
    assert project.run("rerun", "a", "--token", "2").code == 0
    assert project.run("fmt").code == 0
    laid_out = path.read_text()
    assert 'mood: "\U0001f600 \U0001f680"' in laid_out or "mood: \U0001f600 \U0001f680" in laid_out
    assert '"\\\\ud83d\\\\ude00"' in laid_out or "path: \\ud83d\\ude00" in laid_out
    assert project.run("fmt", "--check").code == 0


def test_faults_beside_an_emoji_of_json_stand_where_they_are(tmp_path: Path) -> None:
    project = Project(tmp_path)
    text = r'{"apiVersion": "reconciler/v1", "jobs": {"\ud83d\ude00": {"state": "wrong"}, "b": {"id": "\ud83d"}}}'
    (tmp_path / "jobs.yaml").write_text(text)
    run = project.run("validate")
    assert run.code == 1
    column = text.rindex('"\\ud83d"') + 1
    assert f"jobs.yaml:1:{column}: " in run.out


# --- folders that can't be written to ----------------------------------------------------------------------------

BOUND = ["setpriv", "--bounding-set=-dac_override,-dac_read_search,-fowner", "--inh-caps=-all"]
"""What starts a program so that permissions hold for root too."""

needs_setpriv = pytest.mark.skipif(shutil.which("setpriv") is None, reason="root writes everywhere without setpriv")


def bound(project: Project, *arguments: str) -> "subprocess.CompletedProcess[str]":
    before = BOUND if os.getuid() == 0 else []
    return subprocess.run(
        [*before, *project.command(*arguments)],
        cwd=project.folder,
        env=project.env,
        capture_output=True,
        text=True,
        check=False,
    )


@needs_setpriv
def test_in_a_folder_that_can_t_be_written_to_the_embedded_sandbox_says_what_it_lacks(tmp_path: Path) -> None:
    folder = tmp_path / "checkout"
    folder.mkdir()
    project = Project(folder)
    project.env["XDG_STATE_HOME"] = str(tmp_path / "marks")
    project.write(ONE)
    folder.chmod(0o555)
    try:
        assert bound(project, "plan").returncode == 0
        for command in (["status"], ["drift"], ["plan", "--refresh"]):
            run = bound(project, *command)
            assert run.returncode == 1
            assert run.stderr == (
                "error: the embedded sandbox keeps its jobs in jobs.sandbox.db, and the folder . can't be written to\n"
                "  let it be written to, or name a state in another folder with --state: "
                "the file stands beside the state\n"
            )
        assert bound(project, "status", "--state", str(tmp_path / "x.state.json")).returncode == 0
    finally:
        folder.chmod(0o755)


@needs_setpriv
def test_an_apply_says_that_a_state_that_is_rolled_back_will_not_be_noticed(tmp_path: Path) -> None:
    project = Project(tmp_path)
    project.write(ONE)
    marks = tmp_path / "marks"
    marks.mkdir()
    project.env["XDG_STATE_HOME"] = str(marks)
    assert "XDG_STATE_HOME" not in bound(project, "apply", "--yes").stderr
    marks.chmod(0o555)
    shutil.rmtree(marks / "reconciler")
    run = bound(project, "apply", "--yes")
    assert run.returncode == 0
    assert run.stderr == (
        f"warning: {marks} can't be written to, so that this machine will not notice it if the state is rolled back: "
        "set XDG_STATE_HOME to a folder that can be written to\n"
    )
    assert "XDG_STATE_HOME" not in bound(project, "plan").stderr
