"""The bounds of counts, and what is said of a state file that holds something else than a state."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from reconciler.engines.sandbox.cluster import ATOMIC
from reconciler.model.jobs import EMPTY, Marks
from reconciler.rules.runs import MAX_RUN
from ways_out import PersonsProject, persons_project

RUN = "a: {state: running, config: {text: A}, runToken: t1}"


@pytest.fixture
def project(tmp_path: Path) -> Iterator[PersonsProject]:
    with persons_project(tmp_path) as made:
        made.begin(RUN)
        yield made


def accepted(project: PersonsProject, change: Callable[[Any], Any]) -> tuple[int, str]:
    """Edit the state, and accept it. Returns the exit code, and what was said."""
    state = project.folder / "jobs.state.json"
    document = json.loads(state.read_text())
    replaced = change(document)
    state.write_text(json.dumps(document if replaced is None else replaced, indent=2, sort_keys=True) + "\n")
    run = project.run("state", "accept")
    return run.code, run.out + run.err


def test_no_run_is_sent_under_a_number_that_could_not_be_read_again(project: PersonsProject) -> None:
    project.cluster.end("a")
    assert accepted(project, lambda state: state["last"].update(a=MAX_RUN))[0] == 0
    project.write(RUN.replace("t1", "t2"))
    words = f"the last run of a has the number {MAX_RUN}, and no run can follow it: give the job a new `id:`"
    assert project.reasons()["a"][0] == "hold"
    assert words in project.reasons()["a"][1]
    refused = project.apply()
    assert (refused.code, words in refused.out, project.run_ids) == (4, True, ["a-1"]), refused.out
    project.is_at_rest(RUN.replace("a: {", "a: {id: a2, ").replace("t1", "t2"), ["a-1", "a2-1"])


def test_a_run_with_the_greatest_number_is_not_imported(tmp_path: Path) -> None:
    with persons_project(tmp_path, ATOMIC) as project:
        project.cluster.start("big", f"big-{MAX_RUN}", Marks(), EMPTY)
        project.write("b: {state: running}")
        run = project.run("import", "big=big")
        assert run.code != 0
        assert "the greatest number that a run can have" in run.out + run.err


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda state: state["last"].update(a=10**30), f"where the number of a run is to be, and {MAX_RUN} is"),
        (lambda state: state["last"].update(a=10**50), "a number of more than 40 digits stands where the number of"),
        (lambda state: state["jobs"]["a"].update(run=10**10), f"where the number of a run is to be, and {MAX_RUN} is"),
        (lambda state: state.update(serial=10**20), "stands where a serial is to be, and 9007199254740992 is"),
        (lambda state: state.update(serial=-3), "-3 stands where a count is to be"),
        (lambda state: state.update(last=[]), "a list stands where an object is to be"),
        (lambda state: state.__delitem__("last"), 'the field "last" is missing'),
        (lambda state: state.update(identity=None), "null stands where an object is to be"),
        (lambda state: state.update(jobs=5), "5 stands where an object is to be"),
        (lambda state: state["jobs"].update(a=None), "null stands where an object is to be"),
        (lambda state: state["jobs"]["a"].update(runTokens="t1"), '"t1" stands where a list is to be'),
        (lambda state: state["jobs"]["a"].update(state="gone"), '"gone" stands where one of running, aborted, absent'),
        (lambda state: state["jobs"]["a"].update(end="wat"), '"wat" stands where one of '),
        (lambda state: state["jobs"]["a"].update(inDoubt={}), 'the field "before" is missing'),
        (lambda state: state.update(target=[]), "a list stands where an object is to be"),
        (lambda state: [], "a list stands where an object is to be"),
    ],
)
def test_a_state_that_is_none_says_so_in_the_words_of_its_format(
    change: Callable[[Any], Any], words: str, project: PersonsProject
) -> None:
    code, told = accepted(project, change)
    assert (code, "is no state file" in told) == (1, True), told
    assert words in told
    for of_python in ("object has no attribute", "not iterable", "is not a valid", "NoneType", "Error"):
        assert of_python not in told


def test_a_damaged_file_that_is_pushed_names_no_command_about_another_file(project: PersonsProject) -> None:
    state = project.folder / "jobs.state.json"
    (project.folder / "S.json").write_text(state.read_text().replace('"serial": 1', '"serial": 3'))
    run = project.run("state", "push", "S.json")
    assert (run.code, "S.json is damaged" in run.err) == (1, True), run.err
    assert "give a copy of that file that is whole" in run.err
    assert "accept" not in run.err
    assert "git checkout" not in run.err


def test_a_saved_plan_says_that_its_paths_are_those_of_another_folder(project: PersonsProject) -> None:
    project.write(RUN.replace("t1", "t2"))
    project.cluster.end("a")
    assert project.run("plan", "--out", "plan.json").code == 0
    inner = project.folder / "inner"
    inner.mkdir()
    shutil.copy(project.folder / "plan.json", inner)
    moved = PersonsProject(inner, project.cluster, ATOMIC, {})
    run = moved.run("apply", "--plan", "plan.json", "--yes")
    assert run.code == 1
    assert "the saved plan was made from it, and names it as seen from the folder where `plan` was run" in run.err
    assert "go to that folder" in run.err


def test_a_plan_is_not_saved_to_a_file_called_like_the_standard_output(project: PersonsProject) -> None:
    run = project.run("plan", "--out", "-")
    assert (run.code, "`reconciler plan --format json`" in run.err) == (64, True), run.err
    assert not (project.folder / "-").exists()
