"""A file or a word in the place of another one: the message names its kind and its right place."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from project import Project, served_project

JOBS = "nightly-report: {state: running}\nweekly-report: {state: running}"
FILES = {
    "jobs.yaml": "a manifest",
    "jobs.json": "a manifest",
    "jobs.state.json": "a state",
    "edited.state.json": "a state",
    "jobs.state.json.journal": "the journal of a state",
    "jobs.history.jsonl": "a history",
    "plan.json": "a saved plan",
    "jobs.sandbox.db": "a database",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a file of each kind that the tool reads or writes."""
    folder = tmp_path_factory.mktemp("kinds")
    project = Project(folder)
    project.write(JOBS)
    assert project.run("apply", "--yes").code == 0
    assert project.run("plan", "--out", "plan.json").code == 0
    state = (folder / "jobs.state.json").read_text()
    (folder / "edited.state.json").write_text("{\n" + state.partition(",\n")[2])
    (folder / "jobs.json").write_text('{"apiVersion": "reconciler/v1", "target": {"engine": "sandbox"}, "jobs": {}}')
    record = '{"n":0,"flushed":0}'
    (folder / "jobs.state.json.journal").write_text(f"0123456789abcdef {len(record)} {record}\n\n")
    return folder


@pytest.fixture
def project(folder: Path, tmp_path: Path) -> Project:
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    (tmp_path / "jobs.state.json.journal").rename(tmp_path / "old.journal")
    return Project(tmp_path)


def named(file: str) -> str:
    return "old.journal" if file.endswith(".journal") else file


@pytest.mark.parametrize("file", [file for file, kind in FILES.items() if kind != "a manifest"])
def test_a_file_of_another_kind_that_is_given_as_a_manifest_is_said_to_be_what_it_is(
    project: Project, file: str
) -> None:
    for command in (["validate"], ["plan"], ["fmt", "--check"], ["state", "list"], ["apply", "--yes"]):
        run = project.run(*command, named(file))
        message = f"{named(file)}:1:1: this is {FILES[file]}, not a manifest; "
        assert (run.code, message in run.out + run.err) == (1, True), run
        assert run.err.endswith("error: the manifest has 1 fault\n")


@pytest.mark.parametrize("file", [file for file, kind in FILES.items() if kind != "a state"])
def test_a_file_of_another_kind_is_not_taken_for_a_state_and_stays_as_it_is(project: Project, file: str) -> None:
    before = (project.folder / named(file)).read_bytes()
    for command in (["plan"], ["apply", "--yes"], ["state", "accept"], ["state", "list"]):
        run = project.run(*command, "--state", named(file))
        assert run.code == 1
        assert run.err.startswith(f"error: --state: {named(file)} is {FILES[file]}, not a state\n")
        assert "damaged" not in run.err
    assert (project.folder / named(file)).read_bytes() == before
    pushed = project.run("state", "push", named(file))
    assert (pushed.code, pushed.err.splitlines()[0]) == (1, f"error: {named(file)} is {FILES[file]}, not a state")


def test_a_missing_file_is_no_state_and_the_error_says_which_file_is_meant(project: Project) -> None:
    run = project.run("state", "push", "none.json")
    hint = "name a file that `reconciler state pull --out FILE` wrote"
    assert (run.code, run.err) == (1, f"error: none.json can't be read: No such file or directory\n  {hint}\n")


@pytest.mark.parametrize("file", [file for file, kind in FILES.items() if kind != "a saved plan"])
def test_a_file_of_another_kind_is_no_saved_plan_and_is_not_replaced_by_one(project: Project, file: str) -> None:
    run = project.run("apply", "--plan", named(file))
    assert run.code == 1
    assert run.err.startswith(f"error: --plan {named(file)} is {FILES[file]}, not a saved plan\n")
    before = (project.folder / named(file)).read_bytes()
    out = project.run("plan", "--out", named(file))
    assert out.code == 4
    assert f"{FILES[file]} is there" in out.err or FILES[file] == "a state", out.err
    assert (project.folder / named(file)).read_bytes() == before


@pytest.mark.parametrize("file", [file for file, kind in FILES.items() if kind != "a database"])
def test_a_file_of_another_kind_is_no_database_of_the_sandbox(project: Project, file: str) -> None:
    run = project.run("sandbox", "--db", named(file))
    assert (run.code, run.out) == (1, "")
    assert run.err.startswith(f"error: --db {named(file)} is {FILES[file]}, not a database\n")


def test_a_manifest_s_own_word_for_its_state_is_judged_like_the_option(project: Project) -> None:
    project.write(JOBS, more="state: plan.json")
    run = project.run("plan")
    assert run.code == 1
    assert run.err.startswith("error: jobs.yaml:3:8: plan.json is a saved plan, not a state\n")


def test_a_state_in_a_folder_that_is_not_there_is_refused_when_it_is_planned(project: Project) -> None:
    for command in (["plan"], ["apply", "--yes"], ["state", "list"]):
        run = project.run(*command, "--state", "no folder/x.state.json")
        assert run.code == 1
        assert run.err == (
            "error: --state: no folder/x.state.json can't be a state: there is no folder no folder\n"
            "  check the path, or make the folder: mkdir -p 'no folder'\n"
        )


def test_a_folder_of_other_tools_files_has_one_fault_for_each(tmp_path: Path) -> None:
    project = Project(tmp_path)
    (tmp_path / "all").mkdir()
    workflow = "name: CI\non: [push]\njobs:\n  plan:\n    runs-on: linux\n    steps: [{run: make}]\n"
    (tmp_path / "all/ci.yml").write_text(workflow)
    (tmp_path / "all/pipeline.yml").write_text("include: [{local: other.yml}]\n")
    (tmp_path / "all/k8s.yaml").write_text("apiVersion: batch/v1\nkind: Job\nmetadata: {name: a}\n")
    project.write("a: {state: running}", name="all/jobs.yaml")
    run = project.run("validate", "all")
    assert run.code == 1
    assert [line.partition(": ")[0] for line in run.out.splitlines()] == [
        "all/ci.yml:1:1",
        "all/k8s.yaml:1:1",
        "all/pipeline.yml:1:1",
    ]
    assert "this is a file of another tool, not a manifest" in run.out
    assert run.err == "error: the manifest has 3 faults\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("target: {engine: sandbox}\njobs: {a: {state: running}}\n", '"apiVersion" is missing'),
        ("job: {a: {state: running}}\n", 'unknown field "job"; did you mean "jobs"?'),
        ("apiVersion: reconciler/v1\nname: x\njobs: {a: {state: running}}\n", 'unknown field "name"'),
        ("apiVersion: reconciler/v9\ntarget: {engine: sandbox}\njobs: {}\n", 'did you mean "reconciler/v1"'),
    ],
)
def test_a_manifest_with_faults_is_not_taken_for_another_tool_s_file(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "jobs.yaml").write_text(text)
    run = Project(tmp_path).run("validate")
    assert message in run.out
    assert "another tool" not in run.out


def test_a_folder_of_several_whole_manifests_is_said_to_be_that(tmp_path: Path) -> None:
    project = Project(tmp_path)
    (tmp_path / "all").mkdir()
    for name in ("film", "media", "news"):
        project.write(f"{name}: {{state: running}}", name=f"all/{name}.yaml")
    run = project.run("validate", "all")
    assert run.code == 1
    assert run.err == (
        "error: the manifest has 2 faults\n"
        "  3 of these files each have a target, as a whole manifest has: name one, such as all/film.yaml\n"
    )


@pytest.mark.parametrize("command", [["plan"], ["history"], ["validate"], ["state", "list"], ["apply", "--yes"]])
def test_a_second_default_manifest_that_is_not_read_is_named(project: Project, command: list[str]) -> None:
    message = "warning: jobs.yaml is read, and jobs/ beside it is not: name the paths that are meant\n"
    (project.folder / "jobs/deep").mkdir(parents=True)
    (project.folder / "jobs/readme.yaml").write_text("kind: of another tool\n")
    assert message not in project.run(*command).err
    project.write("more: {state: running}", name="jobs/deep/more.yaml")
    assert message in project.run(*command).err
    assert message not in project.run(*command, "jobs.yaml").err


def test_where_there_is_no_default_manifest_one_of_another_name_is_named(tmp_path: Path) -> None:
    project = Project(tmp_path)
    project.write("a: {state: running}", name="web.yml")
    run = project.run("plan")
    assert run.err == (
        "error: found neither jobs.yaml nor jobs/ here\n"
        "  web.yml looks like a manifest: name its path; or run `reconciler init` to start another one\n"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rerun", "jobs.yaml", "nightly-report"], "reconciler rerun nightly-report jobs.yaml"),
        (["state", "show", "jobs.yaml", "nightly-report"], "reconciler state show nightly-report jobs.yaml"),
        (["state", "forget", "jobs.yaml"], "reconciler state forget JOB jobs.yaml"),
        (["resolve", "jobs.yaml", "--applied"], "reconciler resolve JOB jobs.yaml --applied"),
        (["plan", "nightly-report"], "reconciler plan --target nightly-report"),
        (["apply", "nightly-report"], "reconciler apply --target nightly-report"),
        (["status", "nightly-report"], "reconciler plan --target nightly-report"),
        (["plan", "job.yaml"], "did you mean jobs.yaml?"),
    ],
)
def test_words_in_the_wrong_order_are_answered_with_the_right_one(
    project: Project, arguments: list[str], message: str
) -> None:
    run = project.run(*arguments)
    assert run.code == 1
    assert run.err.endswith(f"{message}\n"), run.err
    if "reconciler" in message and "JOB" not in message:
        words = message.split()[1:]
        assert project.run(*words, *(["--yes"] if "apply" in words else [])).code == 0


@pytest.mark.parametrize("word", ["--applied", "--not-applied"])
def test_the_flags_that_were_given_stand_in_the_advice_too(project: Project, word: str) -> None:
    run = project.run("resolve", "jobs.yaml", "nightly-report", word)
    assert run.err.endswith(f"reconciler resolve nightly-report jobs.yaml {word}\n"), run.err


@pytest.mark.parametrize(
    "arguments",
    [
        ["plan", "--target", "nightly-reprot"],
        ["drift", "--target", "nightly-reprot"],
        ["rerun", "nightly-reprot"],
        ["resolve", "nightly-reprot", "--applied"],
        ["state", "show", "nightly-reprot"],
        ["state", "forget", "nightly-reprot"],
        ["state", "mv", "nightly-reprot", "x"],
        ["history", "nightly-reprot"],
    ],
)
def test_a_misspelt_job_gets_a_suggestion(project: Project, arguments: list[str]) -> None:
    run = project.run(*arguments)
    assert (run.code, "did you mean" in run.err, "nightly-report" in run.err) == (1, True, True), run.err


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Project]:
    with served_project(tmp_path) as project:
        project.write("a: {state: running}")
        yield project


def test_a_rehearsal_that_forgets_its_service_is_told_which_one(served: Project) -> None:
    assert served.server is not None
    (served.folder / "jobs.yaml").write_text(
        "apiVersion: reconciler/v1\ntarget: {engine: bytenite}\njobs: {a: {state: running}}\n"
    )
    words = ("--state", "rehearsal.state.json")
    assert served.run("apply", "--yes", *words, "--endpoint", served.server.endpoint).code == 0
    for command in (["plan"], ["apply", "--yes"], ["drift"]):
        run = served.run(*command, *words)
        assert run.code == 1
        assert run.err.splitlines()[1] == (
            f"  add the service that this state is for: --endpoint {served.server.endpoint}; or name another --state"
        )
        assert "add --state" not in run.err
