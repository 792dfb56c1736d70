"""Completion, as a shell asks for it: in a real bash, through the script that the program prints."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from project import Project

PATH = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
_ASK = """
compopt() {{ printf 'shell: %s %s\n' "$@"; }}
source "{script}"
COMP_WORDS=({words})
COMP_CWORD=$(( ${{#COMP_WORDS[@]}} - 1 ))
_reconciler_completion reconciler
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


@pytest.fixture
def project(tmp_path: Path) -> Project:
    project = Project(tmp_path)
    project.write("nightly-report: {state: running}\nnightly-sums: {state: running}\nweekly: {state: running}")
    (tmp_path / "completion.bash").write_text(project.run("completion", "bash").out)
    return project


def completed(project: Project, words: str) -> list[str]:
    """What bash offers for the last of these words; "shell: -o default" where it completes a path by itself."""
    script = _ASK.format(script=project.folder / "completion.bash", words=words)
    done = subprocess.run(
        ["bash", "--norc", "-c", script],
        cwd=project.folder, env=project.env | {"PATH": PATH}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.stderr == ""
    return done.stdout.split("\n")[:-1] if done.stdout.strip() else []


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("reconciler rerun night", ["nightly-report", "nightly-sums"]),
        ("reconciler resolve week", ["weekly"]),
        ("reconciler plan --target night", ["nightly-report", "nightly-sums"]),
        ("reconciler apply --exclude week", ["weekly"]),
        ("reconciler drift --target weekly", ["weekly"]),
        ("reconciler state show week", ["weekly"]),
        ("reconciler state forget week", ["weekly"]),
        ("reconciler state mv week", ["weekly"]),
        ("reconciler history week", ["weekly"]),
        ("reconciler plan other.yaml --target m", ["mine"]),
        ("reconciler vali", ["validate"]),
    ],
)
def test_a_job_is_completed_with_the_names_in_the_manifest(project: Project, words: str, expected: list[str]) -> None:
    project.write("mine: {state: running}", name="other.yaml")
    assert completed(project, words) == expected


@pytest.mark.parametrize(
    "words",
    [
        "reconciler plan jo",
        "reconciler validate ''",
        "reconciler rerun weekly jo",
        "reconciler history weekly jo",
        "reconciler history jo",
        "reconciler import jo",
        "reconciler apply --plan pl",
        "reconciler plan --out pl",
        "reconciler plan --state jo",
        "reconciler state push jo",
        "reconciler init jo",
        "reconciler sandbox --db sa",
    ],
)
def test_a_path_is_completed_by_the_shell(project: Project, words: str) -> None:
    assert completed(project, words)[0] == "shell: -o default"


def test_a_record_that_is_not_declared_any_more_is_completed_where_records_are_meant(project: Project) -> None:
    assert project.run("apply", "--yes").code == 0
    project.write("weekly: {state: running}")
    assert completed(project, "reconciler state forget night") == ["nightly-report", "nightly-sums"]
    assert completed(project, "reconciler rerun night") == []


def test_a_name_with_a_space_is_completed_as_one_word(project: Project) -> None:
    project.write("'two words': {id: two, state: running}")
    assert completed(project, "reconciler rerun tw") == [r"two\ words"]


def test_completion_is_silent_where_the_manifest_can_t_be_read(project: Project) -> None:
    for text in ("", "jobs: [", "apiVersion: reconciler/v1\njobs: {a: {state: x}}\n"):
        (project.folder / "jobs.yaml").write_text(text)
        assert completed(project, "reconciler plan --target z") == []
    (project.folder / "jobs.yaml").write_text("apiVersion: reconciler/v1\njobs: {abc: {state: x}}\n")
    assert completed(project, "reconciler rerun a") == ["abc"], "a job with a fault has its name"
    (project.folder / "jobs.yaml").unlink()
    assert completed(project, "reconciler plan --target z") == []
    project.env["RECONCILER_STAT"] = "x"
    assert completed(project, "reconciler plan --target z") == []


def test_ten_thousand_jobs_are_completed_in_no_time_once_they_were_read(project: Project) -> None:
    project.write("\n".join(f"job-{number:05}: {{state: running}}" for number in range(10_000)))
    assert project.run("validate").code == 0
    start_s = time.monotonic()
    assert completed(project, "reconciler rerun job-0999") == [f"job-0999{digit}" for digit in range(10)]
    spent_s = time.monotonic() - start_s
    start_s = time.monotonic()
    assert completed(project, "reconciler rerun --no-col") == ["--no-color"]
    assert spent_s < 4 * (time.monotonic() - start_s) + 1.0


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_the_other_shells_get_names_and_paths_in_their_own_form(project: Project, shell: str) -> None:
    words = {"COMP_WORDS": "reconciler rerun night", "COMP_CWORD": "night" if shell == "fish" else "2"}
    run = project.run(**words, _RECONCILER_COMPLETE=f"{shell}_complete")
    assert "nightly-report" in run.out
    words = {"COMP_WORDS": "reconciler plan jo", "COMP_CWORD": "jo" if shell == "fish" else "2"}
    run = project.run(**words, _RECONCILER_COMPLETE=f"{shell}_complete")
    assert run.out.startswith("file")
