"""A home of state of another package raises, or returns, what its port does not permit. The real program names it.

No call is sent without an intent that is known to be there, and what was sent is not sent again.
"""

import json
import os
from pathlib import Path

import pytest

import adverse_home
import directory_home
from project import Project, done, served_project

BLAME = "the home of states at adverse:// (package adverse-home 3.0) failed: "


def with_home(project: Project) -> Project:
    adverse_home.install(project.folder / ".site")
    paths = [directory_home.path_with(str(project.folder / ".site")), project.env.get("PYTHONPATH", "")]
    project.env["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    project.write("a: {state: running}", more="state: 'adverse://states'")
    return project


@pytest.mark.parametrize("raised", ["KeyError", "SystemExit"])
@pytest.mark.parametrize(
    "method", ["plugin.prefix", "plugin.fault_of", "plugin.open", "where", "fetch", "probe", "pace"]
)
def test_a_home_that_raises_before_a_call_ends_the_apply_and_is_named(tmp_path: Path, method: str, raised: str) -> None:
    with served_project(tmp_path) as served:
        project = with_home(served)
        run = project.run("apply", "--yes", ADVERSE_HOME=f"{method}={raised}")
        assert run.code == 1, run
        assert BLAME in run.err + run.out, run
        where = {"where": "open"}.get(method, method.removeprefix("plugin."))  # a store asks where its remote is
        assert f" in {where}; report it to that package" in run.err + run.out, run
        assert done(project) == []
        assert project.run("apply", "--yes").code == 0
        assert done(project) == [("run", "a")]


@pytest.mark.parametrize("value", ["number", "snapshot-of-texts"])
def test_a_snapshot_that_the_port_does_not_permit_is_refused(tmp_path: Path, value: str) -> None:
    with served_project(tmp_path) as served:
        project = with_home(served)
        run = project.run("plan", ADVERSE_HOME=f"fetch={value}")
        assert (run.code, f"{BLAME}fetch returned a " in run.err) == (1, True), run


@pytest.mark.parametrize("behaviour", ["KeyError", "nothing"])
def test_a_publish_that_fails_is_one_of_which_nobody_knows_whether_it_arrived(tmp_path: Path, behaviour: str) -> None:
    with served_project(tmp_path) as served:
        project = with_home(served)
        run = project.run("apply", "--yes", ADVERSE_HOME=f"publish={behaviour}", ADVERSE_HOME_AFTER="1")
        assert run.code == 5, run
        assert BLAME in run.err + run.out, run
        assert "reconciler itself failed" not in run.err + run.out
        assert done(project) == [("run", "a")]
        assert json.loads(project.run("state", "show", "a", "--format", "json").out)["inDoubt"]["verb"] == "run"


@pytest.mark.parametrize(
    ("url", "meant"), [("adverse:states", "adverse://states"), ("adverse:/srv/s", "adverse:///srv/s")]
)
def test_a_path_with_the_scheme_of_an_installed_home_is_asked_about(tmp_path: Path, url: str, meant: str) -> None:
    with served_project(tmp_path) as served:
        project = with_home(served)
        project.write("a: {state: running}", more=f"state: '{url}'")
        run = project.run("plan")
        assert run.code == 1, run
        assert f"did you mean {meant}?" in run.err + run.out, run
        project.write("a: {state: running}")
        given = project.run("plan", "--state", url)
        assert (given.code, f"did you mean {meant}?" in given.err) == (64, True), given
        other = project.run("plan", "--state", "./adverse:states.json")
        assert other.code == 0, other
        for path in ("unheard:states.json", "states.json"):
            assert project.run("plan", "--state", path).code == 0
