"""What is large, or lies outside of all reason, takes a bounded time, prints a bounded text, and is said as such."""

import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest

from project import Project
from reconciler.manifest.parse import parse
from reconciler.model.errors import MOST_DIAGNOSTICS, ManifestError
from reconciler.usecases.engines import plugin_named

HEAD = "apiVersion: reconciler/v1\ntarget: {engine: sandbox}\njobs:\n"

Jobs = Callable[[int], str]


def refused(text: str) -> ManifestError:
    with pytest.raises(ManifestError) as caught:
        parse([("jobs.yaml", text.encode())], plugin_named)
    return caught.value


def test_two_thousand_undeclared_names_beside_ten_thousand_declared_ones_take_seconds() -> None:
    jobs = "".join(f"  job-{n:05}: {{state: running}}\n" for n in range(10_000))
    after = ", ".join(f"jab-{n:05}" for n in range(2_000))
    took_s = -time.process_time()
    fault = refused(f"{HEAD}{jobs}  z: {{state: running, after: [{after}]}}\n")
    assert took_s + time.process_time() < 20
    assert fault.diagnostics[0].message == 'no job "jab-00000" is declared; did you mean "job-00000"?'
    assert fault.message == "the manifest has at least 2000 faults, of which the first 1000 are shown"


@pytest.mark.parametrize(
    "jobs",
    [
        lambda n: "".join(f"  j{k}: {{state: running, confg{k}: 1}}\n" for k in range(n)),
        lambda n: "  a:\n    state: running\n" + "".join(f"    f{k}: 1\n" for k in range(n)),
        lambda n: "".join(f"  j{k}: {{state: runing{k}}}\n" for k in range(n)),
        lambda n: "  a: {state: running}\n" * (n + 1),
        lambda n: "".join(f"  j{k}: {{state: running, id: x}}\n" for k in range(n + 1)),
        lambda n: "".join(f"  j{k}: {{state: running, runToken: yes}}\n" for k in range(n)),
        lambda n: "  a: {state: running, labels: {" + ", ".join(f"f{k}: 1" for k in range(n)) + "}}\n",
        lambda n: "".join(f"  j{k}: {{state: running, after: [j{k}x]}}\n" for k in range(n)),
    ],
    ids=["fields", "fields of one", "states", "names twice", "ids twice", "yaml", "labels", "after"],
)
def test_many_faults_take_a_time_in_their_number_and_the_first_are_shown(jobs: Jobs) -> None:
    for number in (2_000, 8_000):
        took_s = -time.process_time()
        fault = refused(HEAD + jobs(number))
        assert took_s + time.process_time() < number / 200
        assert fault.message == f"the manifest has at least {number} faults, of which the first 1000 are shown"
        assert len(fault.diagnostics) == MOST_DIAGNOSTICS
        assert fault.more == number - MOST_DIAGNOSTICS
        assert fault.diagnostics == tuple(sorted(fault.diagnostics))


def test_the_same_faults_are_shown_each_time(tmp_path: Path) -> None:
    """Also where Python's hashes of text differ."""
    jobs = "".join(f"  j{k}: {{state: running, confg{k % 9}: 1, runToke{k}: 1}}\n" for k in range(3_000))
    (tmp_path / "jobs.yaml").write_text(HEAD + jobs)
    project = Project(tmp_path)
    shown = {
        subprocess.run(
            project.command("validate"), cwd=tmp_path, env={**project.env, "PYTHONHASHSEED": seed},
            capture_output=True, check=False,
        ).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    assert len(shown) == 1


def test_many_circles_and_long_ones_are_shown_in_part() -> None:
    count = 2_000
    jobs = "".join(f"  j{n}: {{state: running, after: [j{(n + 1) % count}, j0]}}\n" for n in range(count))
    fault = refused(HEAD + jobs)
    assert len(fault.diagnostics) <= 101
    assert all(len(one.message) < 600 for one in fault.diagnostics)
    assert any("… 1990 more …" in one.message for one in fault.diagnostics)
    assert any(
        one.message == "there are more circles than are shown: take those out first" for one in fault.diagnostics
    )


@pytest.fixture
def faulty(project: Project) -> Project:
    """A manifest with 5,000 faults."""
    jobs = "".join(f"  j{k}: {{state: running, confg{k}: 1}}\n" for k in range(5_000))
    (project.folder / "jobs.yaml").write_text(HEAD + jobs)
    return project


def test_each_form_of_a_check_is_bounded_and_says_how_many_more_there_are(faulty: Project) -> None:
    text = faulty.run("validate")
    assert (text.out.count("\n"), len(text.out) < 300_000) == (1_000, True)
    assert text.err == "error: the manifest has at least 5000 faults, of which the first 1000 are shown\n"
    document = faulty.run("validate", "--format", "json").json
    assert (len(document["diagnostics"]), document["more"]) == (1_000, 4_000)
    junit = ElementTree.fromstring(faulty.run("validate", "--format", "junit").out)
    cases = junit.findall(".//testcase")
    assert (len(cases), cases[-1].get("name"), junit.get("failures")) == (
        1_001,
        "4000 more faults are not shown",
        "1001",
    )
    [run] = faulty.run("validate", "--format", "sarif").json["runs"]
    [notification] = run["invocations"][0]["toolExecutionNotifications"]
    assert (len(run["results"]), notification["message"]["text"]) == (1_000, "4000 more faults are not shown")
    github = faulty.run("validate", "--format", "github")
    assert github.out.count("::error") == 10
    assert "of which the first 1000 are shown" in github.err


@pytest.mark.parametrize("form", ["text", "json", "markdown", "html", "github"])
def test_each_form_of_a_plan_of_such_a_manifest_is_bounded_too(faulty: Project, form: str) -> None:
    run = faulty.run("plan", "--format", form)
    assert run.code == 1
    assert len(run.out) < 400_000
    assert "at least 5000 faults" in run.out + run.err
    if form == "json":
        error = json.loads(run.out)["error"]
        assert (len(error["diagnostics"]), error["more"]) == (1_000, 4_000)


@pytest.mark.parametrize(
    ("command", "option", "value"),
    [
        *(
            ("apply", option, value)
            for option in ("--max-rps", "--settle", "--wait", "--lock-timeout")
            for value in ("1e-400" if option == "--max-rps" else "-1", "nan", "inf", "-inf", "1e10", "1e300")
        ),
        ("apply", "--max-rps", "1e-300"),
        ("apply", "--max-rps", "0"),
        *(("apply", "--parallelism", value) for value in ("0", "-1", "1000000000", "1.5", "9" * 5000)),
        *(("drift", "--parallelism", value) for value in ("0", "1000000000")),
        *(("sandbox", option, value) for option in ("--latency", "--job-seconds") for value in ("-1", "nan", "1e10")),
        *(("sandbox", "--port", value) for value in ("-1", "65536")),
        ("sandbox", "--fault", "run:slow:seconds=1e10"),
        ("apply", "--allow", "delete=1e9"),
        ("resolve", "--lock-timeout", "1e10"),
        ("import", "--lock-timeout", "1e10"),
    ],
)
def test_a_number_beyond_reason_is_wrong_usage(project: Project, command: str, option: str, value: str) -> None:
    project.write("a: {state: running}")
    words = {"resolve": ["a", "--applied"], "import": ["a=a"]}.get(command, [])
    run = project.run(command, *words, option, value)
    assert run.code == 64, run
    assert option in run.err
    assert len(run.err) < 1_000 or "9" * 5000 in value


@pytest.mark.parametrize(
    ("option", "value"),
    [("--max-rps", "0.001"), ("--settle", "31536000"), ("--wait", "31536000"), ("--lock-timeout", "31536000")],
)
def test_the_largest_numbers_are_taken(project: Project, option: str, value: str) -> None:
    project.write("a: {state: running}")
    assert project.run("apply", "--dry-run", option, value).code == 0


@pytest.mark.parametrize(
    "command", [["plan"], ["validate"], ["apply", "--yes"], ["state", "list"], ["history"], ["fmt"], ["diff", "a", "b"]]
)
def test_a_working_directory_that_is_gone_is_said_to_be(project: Project, command: list[str]) -> None:
    project.write("a: {state: running}")
    gone = project.folder / "gone"
    for paths in ([], [str(project.folder / "jobs.yaml")]):
        gone.mkdir()
        words = " ".join(project.command(*command, *paths))
        run = subprocess.run(
            ["sh", "-c", f"rmdir ../gone && exec {words}"],
            cwd=gone, env=project.env, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert (run.returncode, run.stderr) == (
            1,
            "error: the working directory is gone\n  go to one that is there: cd FOLDER\n",
        )


def test_a_plan_that_has_no_end_is_given_up(project: Project) -> None:
    project.write("a: {state: running}")
    run = project.run("apply", "--yes", "--plan", "/dev/zero")
    assert (run.code, "can't be read: it is longer than 256 MiB" in run.err) == (1, True)


def test_a_plan_may_come_through_a_pipe(project: Project) -> None:
    project.write("a: {state: running}")
    assert project.run("plan", "--out", "plan.json").code == 0
    words = " ".join(project.command("apply", "--yes", "--plan", "<(cat plan.json)"))
    run = subprocess.run(
        ["bash", "-c", words], cwd=project.folder, env=project.env, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr


def test_a_state_that_is_a_pipe_is_refused_and_not_waited_for(project: Project) -> None:
    project.write("a: {state: running}")
    os.mkfifo(project.folder / "pipe")
    for command in (["plan"], ["apply", "--yes"], ["state", "list"]):
        run = project.run(*command, "--state", "pipe")
        assert (run.code, run.err.splitlines()[0]) == (1, "error: pipe is no regular file")
