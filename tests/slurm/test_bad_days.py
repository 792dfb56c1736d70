"""Bad days of a cluster: nothing runs twice, and nothing is taken for what it is not."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from reconciler.engines.port import AnswerClass, Engine, EngineError, Reason, Result, Status, Step, Verb
from reconciler.engines.slurm.marks import Mark
from reconciler.engines.slurm.plugin import PLUGIN
from reconciler.testing.engine_base import await_status, run, send
from reconciler.testing.services import opened, step
from slurm.cluster import CPUS, Accounting, Cluster
from slurm.cluster_folder import SlurmProject
from slurm.conftest import NewCluster
from slurm.service import SlurmService

WITHIN_S = 60.0


def until(is_so: Callable[[], object], what: str) -> None:
    end_s = time.monotonic() + WITHIN_S
    while not is_so():
        assert time.monotonic() < end_s, f"it is not so that {what}"
        time.sleep(0.05)


@contextmanager
def engine_of(service: SlurmService) -> Iterator[Engine]:
    with opened(PLUGIN, service) as engine:
        yield engine


def run_step(service: SlurmService, job_id: str = "nightly", number: int = 1, **marks: str) -> Step:
    return step(Verb.RUN, job_id, number, service.config(), **marks)


def sent_when(engine: Engine, wanted: Step, happens: Callable[[], None]) -> Result:
    """Send a call, and let something happen right before it leaves."""
    wanted = wanted._replace(staged=engine.stage(wanted))
    asked: list[bool] = []

    def may_be_sent() -> bool:
        asked.append(True)
        if len(asked) == 2:  # the first time is before anything is read
            happens()
        return True

    return engine.send(wanted, may_be_sent)


# --- the controller ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_down", [False, True], ids=["it does not answer", "it is down"])
def test_a_release_without_an_answer_is_in_doubt_and_settled_by_asking_again(
    new_cluster: NewCluster, tmp_path: Path, is_down: bool
) -> None:
    cluster = new_cluster(conf={"MessageTimeout": 2})
    service = SlurmService(cluster, tmp_path, new_cluster)
    with engine_of(service) as engine:
        lose = cluster.terminate if is_down else cluster.pause
        result = sent_when(engine, run_step(service), lambda: lose("slurmctld"))
        # `scontrol release` says the same in both cases.
        assert (result.kind, "Unexpected message" in result.message) == (AnswerClass.IN_DOUBT, True), result
        if is_down:
            with pytest.raises(EngineError, match="connect failure"):
                engine.observe("nightly")
            down = send(engine, run_step(service))
            assert (down.kind, "connect failure" in down.message) == (AnswerClass.NOT_SENT, True), down
            cluster.start_controller()
        else:
            cluster.resume("slurmctld")
        again = send(engine, run_step(service))
        assert again.kind is AnswerClass.APPLIED or again.reason is Reason.WAS_THERE, again
        assert await_status(engine, "nightly", {Status.ACTIVE}).status is Status.ACTIVE
    assert service.runs("nightly") == 1
    service.close()


def test_a_submission_without_an_answer_leaves_one_run(new_cluster: NewCluster, tmp_path: Path) -> None:
    """What a person sees as `Socket timed out`: the submission arrives, and nobody says so."""
    cluster = new_cluster(conf={"MessageTimeout": 2})
    service = SlurmService(cluster, tmp_path, new_cluster)
    with engine_of(service) as engine:
        cluster.pause("slurmctld")
        assert engine.stage(run_step(service)) == ""
        cluster.resume("slurmctld")
        until(lambda: "nightly-1" in cluster.command("squeue", "-h", "-o", "%j"), "the submission arrives")
        result = send(engine, run_step(service))
        assert result.kind is AnswerClass.APPLIED, result
    assert service.runs("nightly") == 1
    service.close()


def test_a_cold_start_of_the_controller_is_no_reason_to_run_again(new_cluster: NewCluster, tmp_path: Path) -> None:
    cluster = new_cluster()
    project = SlurmProject(tmp_path, cluster)
    project.declare(config={"script": "#!/bin/sh\necho x >> ran\nsleep 600\n"})
    project.applied()
    until(lambda: project.lines("ran"), "the job runs")
    cluster.kill("slurmctld")
    cluster.start_controller(cold=True)
    assert "gone" in project.run("plan", "--refresh").out
    held = project.run("apply", "--yes")
    assert (held.code, "gone" in held.out) == (4, True), held
    assert "a start without its state (slurmctld -c) takes all jobs away" in held.out
    assert project.lines("ran") == ["x"]


def test_accounting_tells_what_a_cold_start_has_ended(
    new_cluster: NewCluster, accounting: Accounting, tmp_path: Path
) -> None:
    """A controller that starts tells accounting to end what it does not know, as cancelled."""
    cluster = new_cluster(accounting=accounting)
    service = SlurmService(cluster, tmp_path, new_cluster)
    with engine_of(service) as engine:
        run(engine, service, "nightly")
        assert service.runs("nightly") == 1
        until(lambda: "RUNNING" in cluster.command("sacct", "-n", "-X", "-o", "state"), "accounting has the start")
        cluster.kill("slurmctld")
        cluster.start_controller(cold=True)
        assert await_status(engine, "nightly", {Status.ABORTED}).status is Status.ABORTED
        again = send(engine, run_step(service))
        assert (again.kind, again.reason) == (AnswerClass.REJECTED, Reason.WAS_THERE), again
    assert service.runs("nightly") == 1
    service.close()


@pytest.mark.parametrize("has_accounting", [False, True], ids=["without accounting", "with accounting"])
def test_an_id_that_was_given_again_is_not_taken_for_the_run_of_before(
    new_cluster: NewCluster, accounting: Accounting, tmp_path: Path, has_accounting: bool
) -> None:
    cluster = new_cluster(accounting=accounting if has_accounting else None)
    service = SlurmService(cluster, tmp_path, new_cluster)
    with engine_of(service) as engine:
        ran = run(engine, service, "nightly")
        ref = engine.observe("nightly").ref
        service.runs("nightly")
        if has_accounting:
            until(lambda: "RUNNING" in cluster.command("sacct", "-n", "-X", "-o", "state"), "accounting has the start")
        cluster.kill("slurmctld")
        cluster.start_controller(lost=True)
        until(lambda: engine.observe("nightly").status is not Status.UNREADABLE, "accounting has its end")
        before = engine.observe("nightly")
        assert before.status is (Status.ABORTED if has_accounting else Status.MISSING)
        other = cluster.command("sbatch", "--parsable", "-J", "somebodys", "-o", "/dev/null", "--wrap", "sleep 60")
        assert other.strip() == ref.partition("@")[0]
        result = engine.send(Step(Verb.ABORT, "nightly", "nightly-1", seen=ref, marks=ran.marks))
        assert result.kind is AnswerClass.REJECTED, result
        assert result.reason in (Reason.NO_SUCH_JOB, Reason.NOT_RUNNING), result
        assert engine.observe("nightly").status is before.status
        # A node that still executes the job of before fails another one of its id.
        assert await_status(engine, "somebodys", {Status.ACTIVE, Status.FAILED}).status is not Status.ABORTED
    service.close()


# --- accounting ----------------------------------------------------------------------------------------------------


def test_while_accounting_is_down_nothing_that_it_may_know_is_run_again(
    new_cluster: NewCluster, tmp_path: Path
) -> None:
    with Accounting() as accounting:
        cluster = new_cluster(accounting=accounting, min_job_age_s=3)
        service = SlurmService(cluster, tmp_path, new_cluster)
        with engine_of(service) as engine:
            run(engine, service, "nightly")
            service.end("nightly")
            service.forget("nightly")
            assert await_status(engine, "nightly", {Status.COMPLETE}).status is Status.COMPLETE
            accounting.terminate("slurmdbd")
            assert engine.observe("nightly").status is Status.UNREADABLE
            result = send(engine, run_step(service))
            assert result.kind is AnswerClass.NOT_SENT, result
            assert service.runs("nightly") == 1
            accounting.start_service()
            result = send(engine, run_step(service))
            assert (result.kind, result.reason) == (AnswerClass.REJECTED, Reason.WAS_THERE), result
        service.close()


# --- people --------------------------------------------------------------------------------------------------------


@pytest.fixture
def full(new_cluster: NewCluster) -> Cluster:
    """A cluster whose node is taken by one job."""
    cluster = new_cluster()
    cluster.command("sbatch", "-J", "big", "-n", str(CPUS), "-o", "/dev/null", "--wrap", "sleep 600")
    until(lambda: "RUNNING" in cluster.command("squeue", "-h", "-o", "%T"), "the big job runs")
    return cluster


def test_a_run_that_waits_says_where_and_why_and_one_that_a_person_holds_is_active(
    full: Cluster, tmp_path: Path
) -> None:
    project = SlurmProject(tmp_path, full)
    project.declare(config={"script": "#!/bin/sh\necho x >> ran\n", "partition": "main"})
    project.applied()
    until(lambda: "Resources" in project.run("status").out, "the reason is shown")
    row = project.run("status").out
    assert "active (pending)" in row
    assert "in main" in row
    number = next(line.split()[0] for line in full.command("squeue", "-h", "-n", "a-1", "-o", "%i").splitlines())
    full.command("scontrol", "hold", number)
    assert "active (held)" in project.run("status").out
    assert project.run("apply", "--yes").out.startswith("Nothing to do")
    full.command("scontrol", "release", number)
    full.command("scancel", "--name=big")
    assert project.run("wait", "a").code == 0
    assert project.lines("ran") == ["x"]


def test_what_another_state_has_staged_is_left_alone(new_cluster: NewCluster, tmp_path: Path) -> None:
    cluster = new_cluster()
    service = SlurmService(cluster, tmp_path, new_cluster)
    with engine_of(service) as engine:
        theirs = engine.stage(run_step(service, lineage="theirs"))
        ours = engine.stage(run_step(service, op="killed"))
        assert send(engine, run_step(service)).reason in (Reason.OTHER, Reason.WAS_THERE)
        until(lambda: _state(cluster, theirs) == "PENDING", "theirs stays held")
        until(
            lambda: _state(cluster, ours) in ("CANCELLED", "RUNNING"),
            "what the killed program left is used or cancelled",
        )
    assert service.runs("nightly") == 1
    service.close()


def test_a_late_duplicate_is_cancelled_and_never_starts(new_cluster: NewCluster, tmp_path: Path) -> None:
    cluster = new_cluster()
    service = SlurmService(cluster, tmp_path, new_cluster)
    with engine_of(service) as engine:
        run(engine, service, "nightly")
        late = engine.stage(run_step(service))
        assert _state(cluster, late) == "PENDING"
        assert engine.observe("nightly").status is Status.ACTIVE
        assert send(engine, run_step(service)).reason is Reason.WAS_THERE
        until(lambda: _state(cluster, late) == "CANCELLED", "the duplicate is cancelled")
    assert service.runs("nightly") == 1
    service.close()


def test_a_requeue_is_an_attempt_of_the_same_run(new_cluster: NewCluster, tmp_path: Path) -> None:
    cluster = new_cluster()
    project = SlurmProject(tmp_path, cluster)
    script = "#!/bin/sh\necho x >> ran\nuntil [ -e go ]; do sleep 0.1; done\n"
    project.declare(config={"script": script, "onDisruption": "continue"})
    project.applied()
    until(lambda: project.lines("ran") == ["x"], "the job runs")
    number = cluster.command("squeue", "-h", "-n", "a-1", "-o", "%i").strip()
    until_s = time.monotonic() + 3
    until(lambda: time.monotonic() > until_s, "the new time of submission is another one")
    cluster.command("scontrol", "requeue", number)
    # Slurm lets a job that was put back wait for some time.
    assert project.run("drift").code == 0
    assert project.run("apply", "--yes").out.startswith("Nothing to do")
    # A node that still ends the first attempt may remove the script of the second one.
    until(lambda: set(cluster.command("sinfo", "-h", "-o", "%T").split()) == {"idle"}, "the first attempt has ended")
    cluster.command("scontrol", "update", f"JobId={number}", "StartTime=now")
    (tmp_path / "go").touch()
    assert project.run("wait", "a").code == 0
    assert len(project.lines("ran")) == 2
    (told,) = project.run("runs", "a", "--format", "json").json["runs"]
    assert (told["runId"], told["execution"]["attempts"]) == ("a-1", 2)


def _state(cluster: Cluster, number: str) -> str:
    return cluster.command("squeue", "-h", "-t", "all", "-j", number, "-o", "%T").strip()


def test_marks_of_any_length_that_slurm_takes_come_back(new_cluster: NewCluster) -> None:
    cluster = new_cluster()
    mark = Mark("nightly", "nightly-1", step(Verb.RUN, "nightly", op="x" * 5000).marks, "2026-01-02T03:04:05Z")
    assert mark.fits
    number = cluster.command("sbatch", "--parsable", "-H", f"--comment={mark.comment}", "--wrap", "true").strip()
    said = cluster.command("squeue", "-h", "-j", number, "-o", "%k").strip()
    assert said == mark.comment
