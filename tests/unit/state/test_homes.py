"""Where a state lives: named, declared or by default, and an empty place that is not the right one."""

import json
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from project import Project, Run, done, served_project
from reconciler.manifest.parse import parse
from reconciler.manifest.salvage import head_of
from reconciler.model.errors import ManifestError
from reconciler.usecases.engines import plugin_named

ONE = "a: {state: running}"
READING = (["plan"], ["status"], ["drift"], ["state", "list"], ["apply", "--dry-run"])


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Project]:
    """On a server that offers no reads: what is not on record is run."""
    with served_project(tmp_path, "read:404", "list:404") as project:
        yield project


def pasted(project: Project, run: Run, about: str) -> Run:
    """Run the command of a refusal's hint that names `about`."""
    hints = run.err.replace("`", "\n").replace("; ", "\n").replace(": reconciler", "\nreconciler").splitlines()
    command = next(line for line in hints if line.startswith("reconciler ") and about in line)
    return project.run(*shlex.split(command)[1:])


def part(project: Project, jobs: str, name: str) -> None:
    """Write a file of a manifest that says nothing of the target."""
    path = project.folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"apiVersion: reconciler/v1\njobs:\n  {jobs}\n")


# --- by default ------------------------------------------------------------------------------------------------------


def test_a_file_that_sorts_first_does_not_begin_another_state(served: Project) -> None:
    served.write(ONE, name="b.yaml")
    assert served.run("apply", "--yes", "b.yaml").code == 0
    part(served, "z: {state: running}", "a.yaml")
    for command in (["apply", "--yes"], *READING):
        run = served.run(*command, "a.yaml", "b.yaml")
        assert run.code == 4, run
        assert "2 paths are given, and nothing says where their state lives; b.state.json is there" in run.err
        assert "--state b.state.json" in run.err
    assert done(served) == [("run", "a")]
    plan = pasted(served, run, "--state b.state.json")
    assert plan.out.startswith("Plan: 1 to run; 1 unchanged.\n")


def test_several_paths_with_a_named_state_are_one_manifest_whatever_their_order(served: Project) -> None:
    served.write(ONE, name="b.yaml")
    part(served, "z: {state: running}", "a.yaml")
    assert served.run("apply", "--yes", "--state", "both.state.json", "b.yaml", "a.yaml").code == 0
    run = served.run("plan", "a.yaml", "b.yaml", RECONCILER_STATE="both.state.json")
    assert run.out == "No changes: 2 jobs are as recorded.\n"


def test_one_path_that_is_given_twice_is_one(served: Project) -> None:
    served.write(ONE)
    assert served.run("plan", "jobs.yaml", "./jobs.yaml").code == 0


def test_several_paths_are_checked_without_a_state(served: Project) -> None:
    served.write(ONE, name="b.yaml")
    part(served, "z: {state: running}", "a.yaml")
    assert served.run("validate", "a.yaml", "b.yaml", "--verbose").code == 0
    assert served.run("fmt", "--check", "a.yaml", "b.yaml").code == 1


def test_an_empty_state_beside_one_of_the_same_target_is_refused_unless_it_is_named(served: Project) -> None:
    served.write(ONE, name="old.yaml")
    assert served.run("apply", "--yes", "old.yaml").code == 0
    (served.folder / "old.yaml").rename(served.folder / "new.yaml")
    for command in (["apply", "--yes"], *READING, ["import", "a=a"], ["resolve", "a", "--applied"]):
        run = served.run(*command, "new.yaml")
        assert run.code == 4, run
        assert "nothing is recorded in new.state.json, and beside it old.state.json records 1 job" in run.err
    assert done(served) == [("run", "a")]
    run = served.run("plan", "new.yaml")
    assert pasted(served, run, "--state old.state.json").out == "No changes: 1 job is as recorded.\n"
    apart = pasted(served, run, "--state new.state.json")
    assert (apart.code, apart.out.startswith("Plan: 1 to run.\n")) == (0, True)


def test_a_first_manifest_beside_an_applied_one_is_planned_by_the_command_that_init_names(served: Project) -> None:
    served.write(ONE, name="old.yaml")
    assert served.run("init", "new.yaml").out.endswith("Next: reconciler plan new.yaml\n")
    assert served.run("apply", "--yes", "old.yaml").code == 0
    (served.folder / "new.yaml").unlink()
    said = served.run("init", "new.yaml").out
    assert said.endswith("Next: reconciler plan new.yaml --state new.state.json\n")
    text = (served.folder / "old.yaml").read_text()
    (served.folder / "new.yaml").write_text(text)  # of the same target, as a second manifest of a team is
    planned = served.run(*shlex.split(said.rpartition("reconciler ")[2]))
    assert (planned.code, planned.out.startswith("Plan: 1 to run.\n")) == (0, True)


@pytest.mark.parametrize("is_repository", [False, True], ids=["no repository", "a repository"])
@pytest.mark.parametrize(
    ("before", "after"),
    [("team", "team/deep/sub"), ("team/sub", "team"), (".", "sub")],
    ids=["into a folder", "out of a folder", "from the top"],
)
def test_a_manifest_that_was_moved_is_refused_until_its_state_is_named(
    served: Project, before: str, after: str, is_repository: bool
) -> None:
    if is_repository:
        subprocess.run(["git", "init", "-q", str(served.folder)], check=True)
    for folder in (before, after):
        (served.folder / folder).mkdir(parents=True, exist_ok=True)
    served.write(ONE, name=f"{before}/jobs.yaml")
    assert served.run("apply", "--yes", f"{before}/jobs.yaml").code == 0
    (served.folder / before / "jobs.yaml").rename(served.folder / after / "jobs.yaml")
    run = served.run("apply", "--yes", f"{after}/jobs.yaml")
    assert run.code == 4, run
    assert done(served) == [("run", "a")]
    on = pasted(served, run, f"--state {before}/jobs.state.json")
    assert on.out == "No changes: 1 job is as recorded.\n"
    assert pasted(served, run, f"--state {after}/jobs.state.json").out.startswith("Plan: 1 to run.\n")


def test_a_state_above_whose_manifest_is_there_is_that_of_another_one(served: Project) -> None:
    served.write(ONE, name="jobs.yaml")
    assert served.run("apply", "--yes", "jobs.yaml").code == 0
    (served.folder / "sub").mkdir()
    served.write("b: {state: running}", name="sub/other.yaml")
    assert served.run("apply", "--yes", "sub/other.yaml").code == 0
    assert done(served) == [("run", "a"), ("run", "b")]


def test_a_copy_that_went_on_is_named_where_the_original_is_refused(served: Project) -> None:
    served.write(ONE)
    assert served.run("apply", "--yes").code == 0
    copy = Project(served.folder / "copy", served.server)
    copy.folder.mkdir()
    for name in ("jobs.yaml", "jobs.state.json", "jobs.history.jsonl"):
        shutil.copy(served.folder / name, copy.folder)
    copy.env["XDG_STATE_HOME"] = served.env["XDG_STATE_HOME"]
    copy.write("a: {state: running, runToken: again}")
    assert copy.run("apply", "--yes").code == 0
    run = served.run("status")
    assert run.code == 4
    newer = copy.folder / "jobs.state.json"
    assert f"serial 2 was written from this machine before, to {newer}" in run.err
    assert f"or go on with {newer}; if the older one is meant" in run.err
    newer.unlink()
    assert "jobs.state.json was rolled back" in served.run("status").err


def test_a_state_of_another_target_beside_it_is_no_matter(served: Project) -> None:
    served.write(ONE, name="old.yaml")
    assert served.run("apply", "--yes", "old.yaml").code == 0
    text = (served.folder / "old.yaml").read_text()
    (served.folder / "new.yaml").write_text(text.replace(f"{served.target}", "{engine: sandbox}"))
    assert served.run("plan", "new.yaml").code == 0


def test_a_state_beside_it_that_can_not_be_read_may_be_the_one(served: Project) -> None:
    served.write(ONE, name="new.yaml")
    (served.folder / "old.state.json").write_text("<<<<<<< ours\n")
    run = served.run("plan", "new.yaml")
    assert run.code == 4
    assert "old.state.json is a state that can't be read: old.state.json holds the marks of a git merge" in run.err


def test_an_empty_state_beside_a_history_without_its_state_is_refused(served: Project) -> None:
    served.write(ONE, name="old.yaml")
    assert served.run("apply", "--yes", "old.yaml").code == 0
    (served.folder / "old.yaml").rename(served.folder / "new.yaml")
    (served.folder / "old.state.json").unlink()
    run = served.run("apply", "--yes", "new.yaml")
    assert run.code == 4
    assert "old.history.jsonl is the history of a state that is gone" in run.err
    assert done(served) == [("run", "a")]


@pytest.mark.parametrize("git", [True, False])
def test_one_path_of_a_manifest_that_was_applied_as_a_folder_is_said_to_be_that(served: Project, git: bool) -> None:
    if git:
        subprocess.run(["git", "init", "-q", served.folder], check=True)
    (served.folder / "jobs").mkdir()
    served.write(ONE, name="jobs/a.yaml")
    part(served, "b: {state: running}", "jobs/b.yaml")
    assert served.run("apply", "--yes", "jobs").code == 0
    for command in (["apply", "--yes"], *READING):
        run = served.run(*command, "jobs/a.yaml")
        assert run.code == 4, run
        assert "jobs/a.yaml by itself, and it lies in jobs/, whose state may hold its jobs: jobs.state.json" in run.err
    assert pasted(served, run, "plan jobs/").out == "No changes: 2 jobs are as recorded.\n"
    assert len(done(served)) == 2


def test_a_folder_one_file_of_which_was_applied_is_refused(served: Project) -> None:
    (served.folder / "jobs").mkdir()
    served.write(ONE, name="jobs/a.yaml")
    assert served.run("apply", "--yes", "jobs/a.yaml").code == 0
    run = served.run("plan", "jobs")
    assert run.code == 4
    assert "jobs/a.state.json records 1 job of the same service" in run.err


# --- gone ------------------------------------------------------------------------------------------------------------


def test_a_state_that_is_gone_is_said_to_be_before_a_first_run_is(served: Project) -> None:
    served.write(ONE)
    assert served.run("apply", "--yes").code == 0
    (served.folder / "jobs.state.json").unlink()
    for command in (["apply", "--yes"], *READING):
        run = served.run(*command)
        assert run.code == 4, run
        loss = "the state is gone: jobs.state.json is not there, and jobs.history.jsonl has entries up to serial 1"
        assert loss in run.err
    assert done(served) == [("run", "a")]
    plan = pasted(served, run, "plan --refresh --state jobs.state.json")
    assert plan.out.startswith("Warning: the state is gone: jobs.state.json is not there")
    assert "first run" in plan.out


def test_the_way_back_from_git_is_named_and_works(served: Project) -> None:
    def git(*words: str) -> str:
        return subprocess.run(
            ["git", "-c", "user.name=a", "-c", "user.email=a@b.invalid", *words],
            cwd=served.folder, capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip

    git("init", "-q")
    served.write(ONE)
    assert served.run("apply", "--yes").code == 0
    git("add", "jobs.yaml", "jobs.state.json", "jobs.history.jsonl")
    git("commit", "-qm", "one")
    git("rm", "-q", "jobs.state.json")
    git("commit", "-qm", "two")
    run = served.run("plan")
    assert run.code == 4
    assert "`git log -- jobs.state.json`" in run.err
    commit = git("log", "--format=%H", "--", "jobs.state.json").split()[-1]
    assert "git checkout COMMIT -- jobs.state.json" in run.err
    git("checkout", commit, "--", "jobs.state.json")
    assert served.run("plan").out == "No changes: 1 job is as recorded.\n"


def test_a_copy_can_be_pushed_where_the_state_is_gone(served: Project) -> None:
    served.write(ONE)
    assert served.run("apply", "--yes").code == 0
    (served.folder / "jobs.state.json").rename(served.folder / "copy.json")
    run = served.run("plan")
    assert "`reconciler state push FILE` takes a copy of it" in run.err
    assert served.run("state", "push", "copy.json").code == 0
    assert served.run("plan").out == "No changes: 1 job is as recorded.\n"


def test_a_declared_state_that_is_gone_is_refused_until_the_command_names_it(served: Project) -> None:
    served.write(ONE, more="state: all.state.json")
    assert served.run("apply", "--yes").code == 0
    (served.folder / "all.state.json").unlink()
    assert served.run("apply", "--yes").code == 4
    assert served.run("apply", "--yes", RECONCILER_STATE="all.state.json").code == 4
    assert done(served) == [("run", "a")]
    run = served.run("apply", "--yes", "--state", "all.state.json")
    assert "run was rejected" in run.out
    assert "Warning: the state is gone" in run.err


def test_a_state_that_was_never_written_is_not_gone(tmp_path: Path) -> None:
    with served_project(tmp_path, "run:403:times=1") as project:
        project.write(ONE)
        assert project.run("apply", "--yes").code == 3
        assert (project.folder / "jobs.history.jsonl").exists()
        assert project.run("apply", "--yes").code == 0


# --- declared --------------------------------------------------------------------------------------------------------


def test_a_manifest_says_where_its_state_lives_relative_to_its_file(served: Project) -> None:
    subprocess.run(["git", "init", "-q", served.folder], check=True)
    (served.folder / "jobs").mkdir()
    (served.folder / "state").mkdir()
    served.write(ONE, more="state: ../state/all.json", name="jobs/a.yaml")
    part(served, "b: {state: running}", "jobs/b.yaml")
    assert served.run("apply", "--yes", "jobs/a.yaml", "jobs/b.yaml").code == 0
    assert set(json.loads((served.folder / "state" / "all.json").read_text())["jobs"]) == {"a", "b"}
    for paths in (["jobs"], ["jobs/b.yaml", "jobs/a.yaml"]):
        for _ in range(2):  # the second is remembered
            assert served.run("plan", *paths).out == "No changes: 2 jobs are as recorded.\n"
    run = served.run("plan", "--verbose", "jobs")
    assert "state: state/all.json" in run.err
    other = served.run("plan", "--state", "other.state.json", "jobs")
    assert other.out.startswith("Plan: 2 to run.")
    assert len(served.run("history", "a", "jobs").out.splitlines()) >= 1
    assert "a" in served.run("state", "list", "jobs").out


def test_a_declared_remote_is_that_of_the_files_checkout(served: Project) -> None:
    remote = served.folder / "remote.git"
    checkout = served.folder / "checkout"
    subprocess.run(["git", "init", "-q", "--bare", remote], check=True)
    subprocess.run(["git", "init", "-q", checkout], check=True)
    subprocess.run(["git", "-C", checkout, "remote", "add", "origin", remote], check=True)
    served.write(ONE, more="state: 'git+origin#states:prod.json'", name="checkout/jobs.yaml")
    run = served.run("apply", "--yes", "checkout/jobs.yaml")
    assert run.code == 0, run.err
    branches = subprocess.run(["git", "-C", remote, "branch"], capture_output=True, text=True, check=True).stdout
    assert branches.split() == ["states"]
    assert served.run("plan", "checkout/jobs.yaml").out == "No changes: 1 job is as recorded.\n"
    assert not (checkout / "jobs.state.json").exists()


@pytest.mark.parametrize(
    ("state", "fault"),
    [
        ("../beside.json", "state: expected a file within the repository of this manifest"),
        ("/etc/state.json", "state: expected a file within the repository of this manifest"),
        ("out/state.json", "state: expected a file within the repository of this manifest"),
        (".git/config", "state: a state can't be kept in the folder where git keeps its own files"),
        ("s3://bucket/state", "state: expected a path, or git+REMOTE#BRANCH:PATH"),
        ("git+https://ada:secret-word@host.invalid/r.git", "state: the remote's URL holds credentials"),
        ("7", "state: expected text, found 7: put it in quotes"),
        ("''", "state: expected 1 character or more, found 0 characters"),
    ],
)
def test_a_declared_state_that_can_not_be_is_refused_at_its_place(served: Project, state: str, fault: str) -> None:
    checkout = served.folder / "checkout"
    subprocess.run(["git", "init", "-q", checkout], check=True)
    (checkout / "out").symlink_to("..")
    served.write(ONE, more=f"state: {state}", name="checkout/jobs.yaml")
    for command in (["validate"], ["plan"], ["apply", "--yes"], ["state", "list"]):
        run = served.run(*command, "checkout/jobs.yaml")
        assert run.code == 1, run
        assert f"checkout/jobs.yaml:3:8: {fault}" in run.out + run.err
        assert "secret-word" not in run.out + run.err
    assert done(served) == []


def test_a_state_is_declared_once(served: Project) -> None:
    served.write(ONE, more="state: one.json", name="a.yaml")
    (served.folder / "b.yaml").write_text("apiVersion: reconciler/v1\nstate: two.json\n")
    run = served.run("plan", "a.yaml", "b.yaml")
    assert run.code == 1
    assert 'b.yaml:2:1: "state" stands once in the whole manifest: it is already at a.yaml:3:1' in run.err


def test_outside_of_a_repository_a_declared_state_stays_in_its_folder(served: Project) -> None:
    (served.folder / "jobs").mkdir()
    served.write(ONE, more="state: ../all.json", name="jobs/a.yaml")
    run = served.run("plan", "jobs")
    assert run.code == 1
    assert "jobs/a.yaml:3:8: state: expected a file within the folder of this manifest" in run.err


def test_a_saved_plan_is_bound_to_the_state_that_the_manifest_declares(served: Project) -> None:
    served.write(ONE, more="state: one.json")
    assert served.run("plan", "--out", "plan.json").code == 0
    served.write(ONE, more="state: two.json")
    run = served.run("apply", "--yes", "--plan", "plan.json")
    assert run.code == 4
    assert done(served) == []


def test_fmt_puts_the_state_beside_the_target_and_an_import_leaves_it(served: Project) -> None:
    served.write("z: {state: aborted}")
    text = (served.folder / "jobs.yaml").read_text() + "state: all.json\n"
    (served.folder / "jobs.yaml").write_text(text)
    assert served.run("fmt").code == 0
    lines = (served.folder / "jobs.yaml").read_text().splitlines()
    assert lines.index("state: all.json") < lines.index("jobs:")


# --- in spite of faults ----------------------------------------------------------------------------------------------


def broken_in(jobs: str) -> bytes:
    return f"apiVersion: reconciler/v1\ntarget: {{engine: sandbox}}\nstate: all.json\n{jobs}".encode()


@pytest.mark.parametrize(
    "jobs",
    [
        "jobs:\n  a: {state: runing}\n",
        "jobs:\n  a: {state: running}\n  a: {state: absent}\n",
        "jobs: [\n",
        "jobs:\n<<<<<<< ours\n  a: {state: running}\n=======\n  a: {state: absent}\n>>>>>>> theirs\n",
        "jobs:\n\ta: {state: running}\n",
        "guards: {maxRun: lots}\njobs: {}\n",
        "jobs: &a {}\n",
    ],
    ids=["schema", "twice", "yaml", "conflict", "tab", "guards", "anchor"],
)
def test_the_head_is_read_in_spite_of_other_faults(jobs: str) -> None:
    source = ("jobs.yaml", broken_in(jobs))
    if jobs != "guards: {}":
        with pytest.raises(ManifestError):
            parse([source], plugin_named)
    head = head_of([source], plugin_named)
    assert head.target.engine == "sandbox"
    assert head.state is not None
    assert (head.state.url, str(head.state.position)) == ("all.json", "jobs.yaml:3:8")


@pytest.mark.parametrize(
    "text",
    [
        "target: {engine: sandbx}\nstate: all.json\njobs: {}\n",
        "target: {engine: sandbox}\nstate: [all.json]\njobs: {}\n",
        "target: {engine: sandbox}\nstate: yes\njobs: {}\n",
        "target: {engine: sandbox}\nstate: &x all.json\njobs: {}\n",
        "target: {engine: sandbox}\nstate: one.json\nstate: two.json\njobs: {}\n",
        "target: {engine: sandbox}\n<<<<<<< ours\nstate: one.json\n=======\nstate: two.json\n>>>>>>> theirs\n",
        "target: {engine: sandbox}\n<<<<<<< ours\nstate: one.json\n=======\n>>>>>>> theirs\njobs: {}\n",
        'target: {engine: sandbox}\n"state": one.json\njobs: [\n',
        "  target: {engine: sandbox}\n  state: one.json\n  jobs: [\n",
        "{target: {engine: sandbox}, state: one.json, jobs: [\n",
        "state: one.json\njobs: [\n",
    ],
    ids=lambda text: text[:60],
)
def test_a_head_that_a_fault_leaves_open_is_not_guessed(text: str) -> None:
    with pytest.raises(ManifestError):
        head_of([("jobs.yaml", f"apiVersion: reconciler/v1\n{text}".encode())], plugin_named)


def test_state_commands_work_while_the_manifest_has_a_conflict(served: Project) -> None:
    served.write(ONE, more="state: all.json")
    assert served.run("apply", "--yes").code == 0
    text = (served.folder / "jobs.yaml").read_text()
    conflict = "<<<<<<< ours\n  b: {state: running}\n=======\n  b: {state: absent}\n>>>>>>> theirs\n"
    (served.folder / "jobs.yaml").write_text(text + conflict)
    assert served.run("plan").code == 1
    assert "a" in served.run("state", "list").out
    assert served.run("history").out.count("\n") >= 1
    assert served.run("state", "pull").code == 0
    assert served.run("state", "forget", "a").code == 0
    assert served.run("state", "list").out == "Nothing is recorded.\n"


def test_a_call_in_doubt_is_resolved_while_the_manifest_has_a_fault(tmp_path: Path) -> None:
    with served_project(tmp_path, "run:503:after:times=1", "read:404", "list:404") as project:
        project.write(ONE, more="state: all.json")
        assert project.run("apply", "--yes").code == 5
        project.write("a: {state: runing}", more="state: all.json")
        run = project.run("resolve", "a", "--applied")
        assert run.code == 0, run.err


# --- environment -----------------------------------------------------------------------------------------------------


def test_the_variables_stand_for_state_endpoint_and_paths_of_all_commands(served: Project) -> None:
    served.write(ONE, name="b.yaml")
    part(served, "z: {state: running}", "a.yaml")
    env = {"RECONCILER_PATHS": "a.yaml b.yaml", "RECONCILER_STATE": "both.state.json"}
    assert served.run("apply", "--yes", **env).code == 0
    assert served.run("plan", **env).out == "No changes: 2 jobs are as recorded.\n"
    assert served.run("state", "list", **env).out.count("running") == 2
    assert served.run("history", **env).out.count("first run") == 2
    assert served.run("history", "z", **env).out.count("first run") == 1
    assert served.run("validate", **env).out == "Valid: 2 jobs in 2 files.\n"
    endpoint = {"RECONCILER_ENDPOINT": "http://127.0.0.1:9/v1/customer"}
    assert "and the manifest for bytenite at http://127.0.0.1:9/" in served.run("plan", **env, **endpoint).err
    # The command line has the last word, and a variable that is empty has none.
    assert served.run("plan", "b.yaml", "--state", "other.state.json", **env).out.startswith("Plan: 1 to run.")
    assert served.run("plan", "b.yaml", RECONCILER_STATE="", RECONCILER_PATHS="").code == 4


@pytest.mark.parametrize(
    ("arguments", "env", "code", "message"),
    [
        (["plan"], {"RECONCILER_PLAN_DETAILED_EXITCODE": "1"}, 2, "Plan: 2 to run"),
        (["plan"], {"RECONCILER_PLAN_FORMAT": "json"}, 0, '"actions": ['),
        (["plan"], {"RECONCILER_PLAN_TARGET": "a zz*"}, 1, "--target zz* matches no job"),
        (["plan"], {"RECONCILER_PLAN_EXCLUDE": "a"}, 0, "Plan: 1 to run"),
        (["plan"], {"RECONCILER_APPLY_EXCLUDE": "a"}, 0, "Plan: 2 to run"),
        (["plan"], {"RECONCILER_PLAN_STATE": "s3://x"}, 64, "state is kept in a file"),
        (["apply", "--yes"], {"RECONCILER_APPLY_LOCK_TIMEOUT": "soon"}, 64, "is not a valid float"),
        (["apply"], {"RECONCILER_APPLY_YES": "true"}, 0, "Applied: 2 succeeded."),
        (["state", "list"], {"RECONCILER_STATE_LIST_FORMAT": "json"}, 0, '"lineage": ""'),
    ],
)
def test_every_option_has_a_variable(
    served: Project, arguments: list[str], env: dict[str, str], code: int, message: str
) -> None:
    served.write("a: {state: running}\nb: {state: running}")
    run = served.run(*arguments, **env)
    assert (run.code, message in run.out + run.err) == (code, True), run


def test_a_variable_holds_several_words_as_a_shell_has_them(served: Project) -> None:
    served.write("a b: {id: ab, state: running}\nc: {state: running}", name="my jobs.yaml")
    run = served.run("plan", RECONCILER_PATHS="'my jobs.yaml'", RECONCILER_PLAN_TARGET="'a b'")
    assert run.out.startswith("Plan: 1 to run.")
    assert served.run("history", RECONCILER_PATHS="'my jobs.yaml'").code == 0
    for command in ("plan", "history"):
        torn = served.run(command, RECONCILER_PATHS="'my jobs.yaml")
        assert torn.code == 64
        assert torn.err.startswith('error: Invalid value for RECONCILER_PATHS: "\'my jobs.yaml": No closing quotation')
    assert "is not one of" in served.run("plan", RECONCILER_PLAN_FORMAT="bogus").err


def test_a_saved_plan_of_a_named_empty_state_is_carried_out_as_it_was_made(served: Project) -> None:
    served.write("z: {id: other, state: running}", name="old.yaml")
    assert served.run("apply", "--yes", "old.yaml").code == 0
    served.write(ONE, name="new.yaml")
    made = served.run("plan", "new.yaml", "--state", "new.state.json", "--out", "plan.json")
    assert made.code == 0, made.err
    run = served.run("apply", "--yes", "--plan", "plan.json")
    assert run.code == 0, run.err
    assert (served.folder / "new.state.json").exists()


def test_a_saved_plan_is_not_narrowed_by_the_environment(served: Project) -> None:
    served.write("a: {state: running}\nb: {state: running}")
    assert served.run("plan", "--out", "plan.json").code == 0
    run = served.run("apply", "--yes", "--plan", "plan.json", RECONCILER_APPLY_TARGET="a", RECONCILER_PATHS="other")
    assert run.code == 0, run.err
    assert len(done(served)) == 2
