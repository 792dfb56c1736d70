"""What commands say where something is amiss: in words of ours, once, and with a next step that can be taken."""

import socket
from pathlib import Path

import pytest

from clone import served_clone
from project import Project, served_project
from reconciler.engines.sandbox.faults import VERBS, Kind, parse_fault


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "error: --plan p.json can't be read: there is no such file\n"),
        (b"", "error: --plan p.json is no saved plan: it is empty\n"),
        (b"\xff", "error: --plan p.json is no saved plan: it is not UTF-8\n"),
    ],
    ids=["missing", "empty", "binary"],
)
def test_a_saved_plan_that_is_none_is_called_what_it_is(tmp_path: Path, content: bytes | None, said: str) -> None:
    if content is not None:
        (tmp_path / "p.json").write_bytes(content)
    run = Project(tmp_path).run("apply", "--plan", "p.json")
    assert (run.code, run.err) == (1, f"{said}  make one: reconciler plan --out FILE\n")


@pytest.mark.parametrize(
    ("arguments", "said", "command"),
    [
        (["nope"], "No such command 'nope'", "reconciler"),
        (["plan", "--nope"], "No such option '--nope'", "reconciler plan"),
        (["state", "show"], "Missing argument 'JOB'", "reconciler state show"),
    ],
)
def test_wrong_usage_is_an_error_like_all_others(tmp_path: Path, arguments: list[str], said: str, command: str) -> None:
    run = Project(tmp_path).run(*arguments)
    assert (run.code, run.out) == (64, "")
    assert run.err.startswith(f"error: {said}")
    assert run.err.endswith(f"\n  {command} --help shows how it is used\n")


def test_the_sandbox_says_which_faults_there_are(tmp_path: Path) -> None:
    shown = Project(tmp_path).run("sandbox", "--help").out
    kinds = [kind.value for kind in Kind if kind is not Kind.STATUS]
    keys = ["times=", "skip=", "job=", "p=", "seed=", "seconds=", "retry-after=", "location="]
    assert [word for word in (*VERBS, "any", *kinds, "after", *keys) if word not in shown.partition("Rules:")[2]] == []
    assert "`" not in shown


def test_a_port_that_is_taken_is_said_to_be(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        run = Project(tmp_path).run("sandbox", "--port", str(port))
    assert run.code == 1
    assert run.err == (
        f"error: can't listen on 127.0.0.1:{port}: the port is taken\n  give another --port, or 0 for a free one\n"
    )


def test_what_is_skipped_says_so_once(tmp_path: Path) -> None:
    with served_project(tmp_path, "run:403:job=bad") as project:
        project.write("old: {state: running}")
        assert project.run("apply", "--yes").code == 0
        project.write("old: {state: absent}\nbad: {state: running}")
        run = project.run("apply", "--yes")
        assert run.code == 3
        assert "skipped             nothing is deleted after something before it failed\n" in run.out


@pytest.mark.parametrize("command", ["plan", "drift"])
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--exclude", "a", "--exclude", "b*"], "--exclude a --exclude b* leaves no job"),
        (["--target", "x"], "--target x matches no job"),
    ],
)
def test_a_choice_that_leaves_no_job_is_an_error(tmp_path: Path, command: str, arguments: list[str], said: str) -> None:
    project = Project(tmp_path)
    project.write("a: {state: running}\nb: {state: running}")
    run = project.run(command, *arguments)
    assert (run.code, run.err) == (1, f"error: {said}\n  reconciler plan --format json names all jobs\n")


def test_a_saved_plan_that_a_guard_refuses_says_how_it_can_be_applied(tmp_path: Path) -> None:
    project = Project(tmp_path)
    project.write("a: {state: running}\nb: {state: running}", more="guards: {maxRun: 1}")
    run = project.run("plan", "--out", "plan.json")
    assert run.code == 4
    said = "Saved. To do exactly this: reconciler apply --plan plan.json --allow run=2\n"
    assert said in run.err
    words = said.split(": reconciler ")[1].split()
    assert project.run(*words, "--yes").code == 0


def test_faults_of_a_manifest_are_under_a_title_of_their_own_and_are_no_jobs(tmp_path: Path) -> None:
    project = Project(tmp_path)
    project.write("a: {state: wrong}\nb: {}")
    comment, page = (project.run("plan", "--format", form).out for form in ("markdown", "html"))
    assert "\n#### Faults (2)\n" in comment
    assert "Held" not in comment
    assert "<h2>Faults</h2>" in page
    assert "<dt>jobs.yaml:5:14</dt><dd>state: expected running" in page
    assert '<table id="jobs">' not in page


def test_a_person_who_resolves_is_the_one_that_the_history_names(tmp_path: Path) -> None:
    with served_clone(tmp_path, parse_fault("run:503:times=1")) as clone:
        assert clone.apply("a: {state: running}").code == 5
        assert clone.run("resolve", "a", "--applied").out.endswith(" was applied, says Ada <ada@example.org>\n")
        assert clone.told()[-1]["who"] == "Ada <ada@example.org>"
