"""A state that was lost, and is made anew from what the objects of the engine bear."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster_project import ClusterProject, cluster_project
from reconciler.model.jobs import Marks, Status
from reconciler.rules.runs import digests

NIGHTLY = "nightly: {state: running, config: {text: first}, runToken: '1'}"
OTHER = "weekly: {id: week, state: running, config: {text: second}}"


@pytest.fixture
def project(tmp_path: Path) -> Iterator[ClusterProject]:
    with cluster_project(tmp_path, identity={"cluster": "one"}) as made:
        made.promises = made.promises._replace(creates_on_run=True)
        made.write(f"{NIGHTLY}\n{OTHER}")
        assert made.run("apply", "--yes").code == 0
        made.cluster.end("nightly")
        yield made


def lose(project: ClusterProject, *, with_history: bool = True) -> dict[str, Any]:
    """Take the state away, and with it the history and what this machine knows. Returns the state."""
    state: dict[str, Any] = project.state
    (project.folder / "jobs.state.json").unlink()
    if with_history:
        (project.folder / "jobs.history.jsonl").unlink()
        for mark in (project.folder / ".marks").rglob("*"):
            if mark.is_file():
                mark.unlink()
    return state


def runs(project: ClusterProject) -> list[str]:
    return [run.run_id for run in project.cluster.runs()]


def test_a_lost_state_is_rebuilt_under_its_lineage_without_a_call(project: ClusterProject) -> None:
    before = lose(project)
    held = project.run("plan", "--refresh")
    assert "Plan: 2 held.\n" in held.out
    assert "if that state was lost, `reconciler state rebuild` makes its records anew" in " ".join(held.out.split())
    done = project.run("state", "rebuild", "--yes")
    assert done.code == 0, done
    assert "nightly  nightly-1, complete  complete" in done.out
    assert f"To rebuild: 2 records of the lineage {before['lineage']}, in jobs.state.json." in done.out
    assert done.out.endswith("Rebuilt: 2 jobs, serial 1. Nothing was sent.\n")
    after = project.state
    assert (after["lineage"], after["identity"]) == (before["lineage"], {"cluster": "one"})
    assert {name: record["run"] for name, record in after["jobs"].items()} == {"nightly": 1, "weekly": 1}
    assert after["jobs"]["nightly"]["runTokens"] == ["1"]
    assert after["jobs"]["weekly"]["ref"] == before["jobs"]["weekly"]["ref"]
    assert project.run("plan", "--refresh").out == "No changes: 2 jobs are as recorded.\n"
    assert project.run("apply", "--yes").code == 0
    assert runs(project) == ["nightly-1", "week-1"]
    project.write(f"{NIGHTLY.replace('1', '2')}\n{OTHER}")
    assert project.run("apply", "--yes").code == 0
    assert runs(project) == ["nightly-1", "week-1", "nightly-2"]


def test_the_history_says_that_the_records_were_rebuilt_and_by_which_command(project: ClusterProject) -> None:
    lose(project)
    assert project.run("state", "rebuild", "--yes").code == 0
    entries = project.run("history", "--format", "json").json["entries"]
    rebuilt = [entry for entry in entries if entry["verb"] == "rebuild"]
    assert {(entry["job"], entry["runId"], entry["command"]) for entry in rebuilt} == {
        ("nightly", "nightly-1", "state rebuild"),
        ("weekly", "week-1", "state rebuild"),
    }
    assert rebuilt[0]["reason"] == "the state was lost, and this is what the object of the run bears"
    assert project.run("history", "--check").code == 0


def test_with_the_history_that_is_left_no_run_token_and_no_number_comes_twice(project: ClusterProject) -> None:
    project.write(f"{NIGHTLY.replace('1', '2')}\n{OTHER}")
    assert project.run("apply", "--yes").code == 0
    project.cluster.end("nightly")
    project.cluster.forget("nightly", "uid-1")
    before = lose(project, with_history=False)
    project.write(f"{NIGHTLY}\n{OTHER}")  # The run token of the first run, which is used.
    assert project.run("plan").code == 4
    done = project.run("state", "rebuild", "--yes")
    assert done.code == 0, done
    assert "nothing tells" not in done.err
    assert project.state["serial"] > before["serial"]
    assert sorted(project.state["jobs"]["nightly"]["runTokens"]) == ["1", "2"]
    assert project.run("plan", "--refresh").out == "No changes: 2 jobs are as recorded.\n"
    assert runs(project) == ["nightly-1", "week-1", "nightly-2"]


def test_a_run_token_of_which_nothing_tells_counts_as_used(project: ClusterProject) -> None:
    lose(project)
    project.write(f"{NIGHTLY.replace('1', 'x')}\n{OTHER}")
    done = project.run("state", "rebuild", "--yes")
    said = 'nightly: nothing tells whether its runToken "x" has run, so it counts as used: a new runToken runs the job'
    assert said in done.err
    assert "the run token of nightly-1 is not known any more: a manifest that goes back to it runs the job" in done.err
    assert project.run("apply", "--yes").code == 0
    assert runs(project) == ["nightly-1", "week-1"]
    project.write(f"{NIGHTLY.replace('1', 'y')}\n{OTHER}")
    assert project.run("apply", "--yes").code == 0
    assert runs(project) == ["nightly-1", "week-1", "nightly-2"]


def test_the_run_tokens_of_earlier_runs_are_named_though_that_of_the_manifest_is_known(project: ClusterProject) -> None:
    project.write(f"{NIGHTLY.replace('1', '2')}\n{OTHER}")
    assert project.run("apply", "--yes").code == 0
    lose(project)
    done = project.run("state", "rebuild", "--yes")
    assert done.err.count("warning: ") == 1
    assert "the run token of nightly-1 is not known any more: a manifest that goes back to it runs the job" in done.err
    assert project.state["jobs"]["nightly"]["runTokens"] == ["2"]


def test_a_config_that_an_earlier_run_had_is_not_run_again_after_a_revert(project: ClusterProject) -> None:
    rerun = "nightly: {state: running, onConfigChange: rerun, config: {text: TEXT}}"
    for text in ("first", "second"):
        project.write(f"{rerun.replace('TEXT', text)}\n{OTHER}")
        assert project.run("apply", "--yes").code == 0
        project.cluster.end("nightly")
    assert runs(project) == ["nightly-1", "week-1", "nightly-2"]
    lose(project)
    project.write(f"{rerun.replace('TEXT', 'first')}\n{OTHER}")
    done = project.run("state", "rebuild", "--yes")
    assert done.code == 0
    assert "counts as run" not in done.err  # The object of the first run tells its config, but not its run token.
    assert done.err.count("warning: ") == done.err.count("the run token of nightly-1 is not known any more") == 1
    assert "this config has run before, and is not run again" in project.run("apply", "--yes").out
    lose(project)
    project.cluster.forget("nightly", "uid-1")
    done = project.run("state", "rebuild", "--yes")
    assert "nightly: nothing tells whether its config has run, so it counts as run" in done.err
    assert project.run("apply", "--yes").code == 0
    assert runs(project) == ["nightly-1", "week-1", "nightly-2"]


def test_a_run_that_was_aborted_is_held_and_not_run_again(project: ClusterProject) -> None:
    project.cluster.end("week", Status.ABORTED)
    lose(project)
    assert project.run("state", "rebuild", "--yes").code == 0
    planned = project.run("plan", "--refresh")
    assert "hold" in planned.out
    project.run("apply", "--yes")
    assert runs(project) == ["nightly-1", "week-1"]
    project.write(f"{NIGHTLY}\n{OTHER.replace('running', 'aborted')}")
    assert project.run("apply", "--yes").code == 0


def test_where_nobody_can_answer_nothing_is_recorded_without_yes(project: ClusterProject) -> None:
    lose(project)
    before = project.files
    run = project.run("state", "rebuild")
    assert (run.code, project.files) == (4, before)
    assert "nobody can be asked, and --yes was not given" in run.err


def test_a_state_that_records_these_jobs_is_left_as_it_is(project: ClusterProject) -> None:
    before = project.files
    run = project.run("state", "rebuild", "--yes")
    assert (run.code, project.files) == (4, before)
    assert "jobs.state.json records these jobs, so there is nothing to rebuild" in run.err


def test_a_state_of_another_lineage_is_left_as_it_is(project: ClusterProject) -> None:
    lose(project)
    project.write("mine: {state: running, config: {text: mine}}")
    assert project.run("apply", "--yes").code == 0
    project.write(f"{NIGHTLY}\n{OTHER}")
    before = project.files
    run = project.run("state", "rebuild", "--yes")
    assert (run.code, project.files) == (4, before)
    assert "import NAME=ID" in run.err
    project.write("mine: {state: running, config: {text: mine}}")
    assert project.run("import", "nightly=nightly").code == 0
    assert project.run("plan", "--refresh").out == "No changes: 2 jobs are as recorded.\n"


def test_two_lineages_are_refused_and_named(project: ClusterProject) -> None:
    state = lose(project)
    project.cluster.start("other", "other-1", Marks("another-lineage", "op"), {})
    project.write(f"{NIGHTLY}\nother: {{state: running, config: {{}}}}")
    run = project.run("state", "rebuild", "--yes")
    assert run.code == 4
    assert f"bear two lineages: {state['lineage']} (nightly) and another-lineage (other)" in run.err
    assert not (project.folder / "jobs.state.json").exists()
    # What is not declared belongs to whom it belongs to.
    project.write(NIGHTLY)
    done = project.run("state", "rebuild", "--yes")
    assert done.code == 0, done
    assert set(project.state["jobs"]) == {"nightly", "week"}


def test_without_any_lineage_there_is_nothing_to_rebuild(project: ClusterProject) -> None:
    lose(project)
    project.cluster.start("theirs", "theirs-1", Marks(), {})
    project.write("theirs: {state: running, config: {}}\nnew: {state: running, config: {}}")
    run = project.run("state", "rebuild", "--yes")
    assert run.code == 4
    assert "no object of a declared job bears the lineage of a state" in run.err


def test_an_engine_without_lists_is_asked_for_the_declared_jobs(project: ClusterProject) -> None:
    lose(project)
    project.promises = project.promises._replace(lists=False)
    project.write(NIGHTLY)
    assert project.run("state", "rebuild", "--yes").code == 0
    assert set(project.state["jobs"]) == {"nightly"}


def test_an_engine_without_reads_is_refused(project: ClusterProject) -> None:
    lose(project)
    project.promises = project.promises._replace(reads=False)
    project.write(NIGHTLY)
    run = project.run("state", "rebuild", "--yes")
    assert run.code == 4
    assert "offers no reads" in run.err


def test_a_document_is_the_state_as_it_is_then(project: ClusterProject) -> None:
    lineage = lose(project)["lineage"]
    run = project.run("state", "rebuild", "--yes", "--format", "json")
    assert run.code == 0
    assert (run.json["lineage"], sorted(run.json["jobs"])) == (lineage, ["nightly", "weekly"])
    assert run.json["serial"] == project.state["serial"]


def test_a_job_that_the_engine_forgot_keeps_the_number_of_its_run_from_the_history(project: ClusterProject) -> None:
    project.cluster.forget("nightly")
    lose(project, with_history=False)
    done = project.run("state", "rebuild", "--yes")
    assert "nightly: the service has no object of it, and the history tells of its run 1" in done.err
    assert project.state["jobs"]["nightly"]["run"] == 1
    project.run("apply", "--yes")
    assert runs(project) == ["nightly-1", "week-1"]


def test_the_number_of_the_newest_run_counts_and_its_config_is_that_of_the_object(project: ClusterProject) -> None:
    lineage = lose(project)["lineage"]
    marks = digests({"text": "later"}, None)._replace(lineage=lineage, op="op")
    project.cluster.start("nightly", "nightly-7", marks, {"text": "later"})
    project.write(f"nightly: {{state: running, config: {{text: first}}}}\n{OTHER}")
    assert project.run("state", "rebuild", "--yes").code == 0
    record = project.state["jobs"]["nightly"]
    assert (record["run"], record["config"]) == (7, {"text": "later"})
    assert "run nightly-8" in project.run("plan", "--verbose").out


def test_a_job_that_is_not_declared_gets_a_record_that_no_declared_name_clashes_with(project: ClusterProject) -> None:
    lose(project)
    project.write("week: {id: nightly, state: running, config: {text: first}, runToken: '1'}")
    assert project.run("state", "rebuild", "--yes").code == 0
    assert {key: record["id"] for key, record in project.state["jobs"].items()} == {
        "week": "nightly",
        " week@week": "week",
    }
    planned = project.run("plan", "--refresh")
    assert planned.out.startswith("No changes: 1 job is as recorded.\n")
    assert "Recorded but no longer declared, and left alone: week (id week)" in planned.out


def test_a_state_of_the_same_lineage_that_lacks_a_job_gets_its_record(project: ClusterProject) -> None:
    lineage = lose(project)["lineage"]
    project.promises = project.promises._replace(lists=False)
    project.write(NIGHTLY)
    assert project.run("state", "rebuild", "--yes").code == 0
    project.write(f"{NIGHTLY}\n{OTHER}")
    before = project.state
    done = project.run("state", "rebuild", "--yes")
    assert done.code == 0, done
    assert "To rebuild: 1 record of the lineage" in done.out
    after = project.state
    assert (after["lineage"], set(after["jobs"])) == (lineage, {"nightly", "weekly"})
    assert after["serial"] == before["serial"] + 1
    assert after["jobs"]["nightly"] == before["jobs"]["nightly"]


def test_a_job_that_was_forgotten_or_deleted_before_the_loss_gets_no_record(project: ClusterProject) -> None:
    project.write(f"{NIGHTLY}\n{OTHER}\nold: {{state: running, config: {{text: old}}}}")
    assert project.run("apply", "--yes").code == 0
    project.write(f"{NIGHTLY}\n{OTHER}\nold: {{state: absent}}")
    assert project.run("apply", "--yes", "--settle", "0").code == 0
    assert project.run("state", "forget", "weekly").code == 0
    project.cluster.forget("week")
    project.cluster.forget("old")
    lose(project, with_history=False)
    project.write(NIGHTLY)
    done = project.run("state", "rebuild", "--yes")
    assert (done.code, done.err) == (0, ""), done
    assert set(project.state["jobs"]) == {"nightly"}
    project.write(f"{NIGHTLY}\n{OTHER}")
    assert "week-2" in project.run("plan", "--verbose").out
