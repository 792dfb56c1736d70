"""Run ids, ends and identity as a user meets them: an installed engine whose objects bear run ids."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster_project import ClusterProject, cluster_project
from reconciler.model.jobs import Marks, Status


@pytest.fixture
def project(tmp_path: Path) -> Iterator[ClusterProject]:
    with cluster_project(tmp_path, identity={"cluster": "one"}) as made:
        made.cluster.create("nightly")
        made.write("nightly: {state: running, config: {text: first}}")
        yield made


def test_a_plan_names_the_run_and_the_state_and_the_history_say_what_became_of_it(project: ClusterProject) -> None:
    planned = project.run("plan", "--verbose")
    assert "run nightly-1" in planned.out
    assert project.run("plan", "--verbose").out == planned.out
    assert project.run("apply", "--yes").code == 0
    project.cluster.end("nightly", Status.FAILED)
    project.write("nightly: {state: running, config: {text: second}}")
    assert "run nightly-2" in project.run("plan", "--verbose").out
    assert project.run("apply", "--yes").code == 0
    assert re.search(r" nightly-1 +ended +failed ", project.run("history").out)
    assert re.search(r" nightly-2 +run +succeeded ", project.run("history").out)
    assert "run: nightly-2" in project.run("state", "show", "nightly").out
    assert [run.run_id for run in project.cluster.runs()] == ["nightly-1", "nightly-2"]


def test_an_end_that_a_person_told_is_in_the_history_as_any_other(project: ClusterProject) -> None:
    assert project.run("apply", "--yes").code == 0
    project.cluster.forget("nightly")
    project.promises = project.promises._replace(creates_on_run=True)
    project.write("nightly: {state: running, config: {text: first}}")
    assert project.run("resolve", "nightly", "--ended", "failed").code == 0
    newest = project.run("history", "--format", "json").json["entries"][0]
    assert (newest["verb"], newest["runId"], newest["end"]) == ("ended", "nightly-1", "failed")
    assert re.search(r"nightly +running +running +forgotten, failed +nightly-1, failed", project.run("status").out)


def test_another_cluster_ends_a_command_with_one_message_and_is_accepted_by_name(project: ClusterProject) -> None:
    assert project.run("apply", "--yes").code == 0
    project.identity = {"cluster": "two"}
    project.write('nightly: {state: running, config: {text: first}, runToken: "2"}')
    for command in (["apply", "--yes"], ["plan", "--refresh"], ["drift"], ["status"]):
        run = project.run(*command)
        assert run.code == 1
        assert run.err.count("it is cluster two, and the state is for cluster one") == 1
    assert len(project.cluster.runs()) == 1
    accepted = project.run("state", "accept", "--identity")
    assert accepted.code == 0
    assert accepted.out == "Accepted: the state is for cluster two from now on, and was for cluster one.\n"
    again = project.run("state", "accept", "--identity")
    assert (again.code, again.out) == (0, "Nothing to accept: the state is for this service already.\n")
    assert project.run("apply", "--yes").code == 0
    both = project.run("state", "accept", "--identity", "--moved-to", "elsewhere")
    assert both.code == 64


def test_an_accepted_identity_is_told_by_what_is_other(project: ClusterProject) -> None:
    """A part that only one of the two has reads as a riddle: "is for restarts yes, session two"."""

    def accepted(**identity: str) -> str:
        project.identity = identity
        project.write("nightly: {state: running, config: {text: first}}")
        run = project.run("state", "accept", "--identity")
        assert run.code == 0, run
        return run.out

    assert project.run("apply", "--yes").code == 0
    accepted(session="one", node="first")
    assert accepted(session="two", node="first", restarts="once") == (
        "Accepted: the state is for session two from now on, and was for session one.\n"
    )
    assert project.state["identity"] == project.identity
    assert accepted(session="two", node="first", restarts="once", zone="z") == (
        "Accepted: the state is for node first, restarts once, session two, zone z from now on, "
        "and was for node first, restarts once, session two.\n"
    )


def test_an_import_brings_the_number_the_handle_and_the_end_of_the_run(project: ClusterProject) -> None:
    project.cluster.start("other", "other-5", Marks(), {"text": "theirs"})
    project.cluster.end("other")
    assert project.run("import", "other=other").code == 0
    record = project.state["jobs"]["other"]
    assert (record["run"], record["ref"], record["end"]) == (5, "uid-1", "complete")
    assert project.state["identity"] == {"cluster": "one"}
    project.write("other: {state: running, config: {text: changed}, runToken: t}")
    assert project.run("apply", "--yes", "--target", "other").code == 0
    assert [run.run_id for run in project.cluster.runs("other")] == ["other-5", "other-6"]
