"""Each row of the table that leaves a job to a person: the case is built on an engine, and its way out leads out.

Each test builds the case with the real program on a pretend cluster, reads the way out that the plan prints, does what
it says, and sees that the job goes on from there.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from project import done, served_project
from reconciler.engines.sandbox.cluster import ATOMIC, Lost
from reconciler.model.jobs import EMPTY, Marks, Status
from ways_out import PersonsProject, persons_project

CREATED = ATOMIC._replace(creates_on_run=False)
FORGETFUL = ATOMIC._replace(keeps_ended_s=1.0)
RUN = "a: {state: running}"
AGAIN = "a: {state: running, runToken: again}"
ABORTED = "a: {state: aborted}"
CHANGED = "a: {state: running, config: {text: new}}"


@pytest.fixture
def project(tmp_path: Path) -> Iterator[PersonsProject]:
    """On a cluster whose run creates the job, and that forgets nothing by itself."""
    with persons_project(tmp_path) as made:
        yield made


@pytest.fixture
def created(tmp_path: Path) -> Iterator[PersonsProject]:
    """On a cluster on which a job has to be there before its first run. The job `a` is there."""
    with persons_project(tmp_path, CREATED) as made:
        made.cluster.create("a")
        yield made


def holds(project: PersonsProject, words: str) -> str:
    """The reason of the hold of `a`, which an apply leaves alone as well."""
    kind, reason = project.reasons()["a"]
    assert (kind, words in reason) == ("hold", True), reason
    before = project.run_ids
    run = project.apply()
    assert run.code in (0, 3, 4), run.out + run.err  # an apply does not read a job that nobody asks anything of
    assert project.run_ids == before
    return reason


# --- a run creates the job


def test_a_job_that_is_not_there_yet_is_run_which_creates_it(project: PersonsProject) -> None:
    project.write(RUN)
    assert project.reasons()["a"] == ("run", "first run; the job is not there")
    project.is_at_rest(RUN, ["a-1"])


@pytest.mark.parametrize("asked", ["aborted", "absent"])
def test_a_job_that_is_not_there_and_is_not_to_be_needs_no_call(asked: str, project: PersonsProject) -> None:
    project.write(f"a: {{state: {asked}}}")
    assert project.reasons()["a"][0] == "adopt"
    project.is_at_rest(f"a: {{state: {asked}}}", [])


def taken_away(project: PersonsProject) -> str:
    """Take away a run that is under way. Returns the reason of the hold."""
    project.begin(RUN)
    project.cluster.forget("a")
    assert project.run("drift").code == 2
    return holds(project, "gone: the job is recorded as running, and is not there, although no end of its run is")


def test_a_run_that_was_taken_away_runs_again_with_a_new_token(project: PersonsProject) -> None:
    assert "a new runToken runs it again" in taken_away(project)
    project.is_at_rest(AGAIN, ["a-1", "a-2"])


def test_a_run_that_was_taken_away_is_accepted_as_aborted(project: PersonsProject) -> None:
    assert "`state: aborted` accepts it" in taken_away(project)
    project.is_at_rest(ABORTED, ["a-1"])


@pytest.mark.parametrize(("end", "code"), [("complete", 0), ("failed", 2)])
def test_a_run_that_was_taken_away_had_ended_on_a_persons_word(end: str, code: int, project: PersonsProject) -> None:
    assert "`--ended failed`" in taken_away(project)
    (command,) = project.commands("a")
    assert command == ["resolve", "a", "--ended", "complete"]
    told = project.follow([*command[:-1], end]).out
    assert re.match(rf"a: its run a-1 ended: {end}, says ada", told)
    assert project.reasons()["a"][0] == "noop"
    assert project.run("drift").code == code
    again = project.run(*command)
    assert (again.code, "nobody has to say how the run of a ended" in again.err) == (1, True)


def ended(project: PersonsProject, end: Status) -> None:
    """Run `a`, let an apply see its end, and take the run away."""
    project.begin(RUN)
    project.cluster.end("a", end)
    project.apply()
    assert project.state["jobs"]["a"]["end"] == end
    project.cluster.forget("a")


def test_a_completed_run_that_is_forgotten_is_as_recorded(project: PersonsProject) -> None:
    ended(project, Status.COMPLETE)
    row = project.run("status").out.splitlines()[1]
    assert re.split("  +", row) == ["a", "running", "running", "forgotten, complete", "a-1, complete"]
    project.is_at_rest(RUN, ["a-1"])
    project.write(CHANGED)
    assert project.reasons()["a"][0] == "adopt"
    project.is_at_rest(CHANGED, ["a-1"])
    assert project.run("apply", "--yes").out.startswith("Nothing to do")


@pytest.mark.parametrize(("jobs", "runs"), [(AGAIN, 2), (CHANGED, 2), (ABORTED, 1)])
def test_a_failed_run_that_is_forgotten_is_drift_until_somebody_acts(
    jobs: str, runs: int, project: PersonsProject
) -> None:
    ended(project, Status.FAILED)
    drift = project.run("drift")
    assert (drift.code, "a new runToken or config runs it again, `state: aborted` accepts it" in drift.out) == (2, True)
    project.is_at_rest(jobs, ["a-1", "a-2"][:runs])


@pytest.mark.parametrize(("jobs", "runs"), [(AGAIN, 2), (ABORTED, 1)])
def test_a_run_that_someone_aborted_and_that_is_forgotten_is_held(
    jobs: str, runs: int, project: PersonsProject
) -> None:
    ended(project, Status.ABORTED)
    reason = holds(project, "aborted by someone else (forgotten by the engine (someone else had aborted it))")
    assert "a new runToken runs it again, `state: aborted` accepts it" in reason
    project.is_at_rest(jobs, ["a-1", "a-2"][:runs])


@pytest.fixture
def unseen(tmp_path: Path) -> Iterator[PersonsProject]:
    """A run that the engine has forgotten by itself, while nobody looked."""
    with persons_project(tmp_path, FORGETFUL) as made:
        made.begin(RUN)
        made.cluster.end("a")
        while "forgotten" not in made.reasons()["a"][1]:
            pass
        yield made


def test_a_run_whose_end_nobody_saw_is_as_recorded(unseen: PersonsProject) -> None:
    unseen.is_at_rest(RUN, ["a-1"])


@pytest.mark.parametrize(("end", "runs"), [("complete", 1), ("failed", 2)])
def test_a_new_config_after_an_end_that_nobody_saw_waits_for_a_persons_word(
    end: str, runs: int, unseen: PersonsProject
) -> None:
    unseen.write(CHANGED)
    holds(unseen, "so it is not known whether the new config is to run now")
    (command,) = unseen.commands("a")
    unseen.follow([*command[:-1], end])
    unseen.is_at_rest(CHANGED, ["a-1", "a-2"][:runs])


def test_a_new_config_after_an_end_that_nobody_saw_runs_with_a_new_token(unseen: PersonsProject) -> None:
    unseen.write(CHANGED)
    assert "a new runToken runs it" in holds(unseen, "so it is not known")
    unseen.is_at_rest(CHANGED.replace("}}", "}, runToken: t}"), ["a-1", "a-2"])


def test_what_comes_after_an_end_that_nobody_saw_goes_on_with_a_persons_word(unseen: PersonsProject) -> None:
    later = f"{RUN}\nb: {{state: running, after: [a]}}"
    unseen.write(later)
    kind, reason = unseen.reasons()["b"]
    assert (kind, "comes after a, which is forgotten by the engine" in reason) == ("hold", True)
    (command,) = unseen.commands("b")
    assert command == ["resolve", "a", "--ended", "complete"]
    unseen.follow(command)
    unseen.is_at_rest(later, ["a-1", "b-1"])


# --- another owner


def foreign(project: PersonsProject) -> str:
    """Make a job whose object bears the lineage of another state. Returns the reason of the hold."""
    project.cluster.start("a", "a-1", Marks(lineage="the-other-team"), EMPTY)
    project.write(RUN)
    drift = project.run("drift")
    assert (drift.code, "1 another owner's" in drift.out) == (2, True)
    return holds(project, "another owner's: it bears the lineage the-other-team")


@pytest.mark.parametrize("jobs", [RUN, ABORTED, "a: {state: absent}"])
def test_a_job_of_another_owner_is_held_whatever_is_asked(jobs: str, project: PersonsProject) -> None:
    foreign(project)
    project.write(jobs)
    holds(project, "another owner's")


def test_a_job_of_another_owner_gives_way_to_another_id(project: PersonsProject) -> None:
    assert "give it another `id:`" in foreign(project)
    project.is_at_rest("a: {id: a2, state: running}", ["a-1", "a2-1"])


def test_a_job_of_another_owner_is_taken_over_by_an_import(project: PersonsProject) -> None:
    assert "take it out of the manifest and take the run over" in foreign(project)
    (command,) = project.commands("a")
    project.write("b: {state: running}")
    project.follow(command)
    assert "a:" in (project.folder / "jobs.yaml").read_text()
    assert project.reasons()["a"][0] == "noop"
    assert project.run("drift", "--target", "a").code == 0


@pytest.mark.parametrize("state", ["aborted", "absent"])
def test_a_job_that_was_taken_over_obeys_its_new_manifest(state: str, project: PersonsProject) -> None:
    foreign(project)
    (command,) = project.commands("a")
    project.write("b: {state: running}")
    project.follow(command)
    text = (project.folder / "jobs.yaml").read_text()
    head, _, entry = text.partition("  a:")
    (project.folder / "jobs.yaml").write_text(f"{head}  a:{entry.replace('running', state)}")
    done = project.run("apply", "--yes", "--target", "a")
    assert (done.code, "another owner" in done.out + done.err) == (0, False), done
    assert [run.status for run in project.cluster.runs("a")] == [Status.ABORTED]
    assert [run.forgotten for run in project.cluster.runs("a")] == [state == "absent"]
    assert project.reasons()["a"][0] == "noop"


# --- a job has to be there before its first run


def test_a_job_that_nobody_created_is_an_error_until_it_is_there(created: PersonsProject) -> None:
    jobs = "a: {id: nowhere, state: running}"
    created.write(jobs)
    assert "create it there, or correct its id" in holds(created, "no such job")
    created.cluster.create("nowhere")
    created.is_at_rest(jobs, ["nowhere-1"])


def test_a_job_that_is_gone_gets_a_new_id_or_is_declared_absent(created: PersonsProject) -> None:
    created.begin(RUN)
    created.cluster.forget("a")
    assert "give the job a new id, or declare it absent" in holds(created, "gone: the job is recorded as running")
    created.cluster.create("a2")
    created.write("a: {id: a2, state: running}")
    assert created.apply().code == 0
    assert created.run_ids == ["a-1", "a2-1"]


def test_a_gone_job_with_a_new_token_needs_a_new_id(created: PersonsProject) -> None:
    created.begin(RUN)
    created.cluster.forget("a")
    created.write(AGAIN)
    assert "create a job there and give its id" in holds(created, "needs a new id")
    created.cluster.create("a2")
    created.write("a: {id: a2, state: running, runToken: again}")
    assert created.apply().code == 0
    assert created.run_ids == ["a-1", "a2-1"]


def test_a_lost_run_runs_with_a_new_token(created: PersonsProject) -> None:
    created.begin(RUN)
    created.cluster.forget("a")
    created.cluster.create("a")
    assert holds(created, "lost run").endswith("a new runToken runs it")
    created.is_at_rest(AGAIN, ["a-1", "a-2"])


# --- aborted, waiting, in doubt, left to a person by the manifest


@pytest.mark.parametrize(("jobs", "runs"), [(AGAIN, 2), (ABORTED, 1)])
def test_a_run_that_someone_aborted_runs_again_or_is_accepted(jobs: str, runs: int, project: PersonsProject) -> None:
    project.begin(RUN)
    project.cluster.end("a", Status.ABORTED)
    assert "a new runToken runs it again, `state: aborted` accepts it" in holds(project, "aborted by someone else")
    project.is_at_rest(jobs, ["a-1", "a-2"][:runs])


def test_a_job_that_was_aborted_before_it_is_recorded_runs_after_one_apply_as_aborted(project: PersonsProject) -> None:
    project.cluster.start("a", "by-hand", Marks(), EMPTY)
    project.cluster.end("a", Status.ABORTED)
    project.write(RUN)
    assert "apply it once as `state: aborted`" in holds(project, "aborted by someone else")
    project.is_at_rest(ABORTED, ["by-hand"])
    project.is_at_rest(RUN, ["by-hand", "a-1"])


def test_a_run_that_waits_for_another_runs_within_apply_wait(project: PersonsProject) -> None:
    jobs = "a: {state: running, after: [b]}\nb: {state: running}"
    project.begin(jobs)
    kind, reason = project.reasons()["a"]
    assert (kind, reason.endswith("waits for it")) == ("wait", True)
    (command,) = project.commands("a")
    assert command == ["apply", "--wait", "3600"]
    assert project.apply().code == 0
    project.cluster.end("b")
    project.follow([*command, "--yes"])
    assert project.run_ids == ["b-1", "a-1"]


def test_a_rerun_follows_the_end_of_the_active_run_within_apply_wait(project: PersonsProject) -> None:
    project.begin("a: {state: running, onConfigChange: rerun, config: {text: old}}")
    project.write("a: {state: running, onConfigChange: rerun, config: {text: new}}")
    kind, reason = project.reasons()["a"]
    assert (kind, "waiting for the end of the run before, which is active" in reason) == ("wait", True)
    assert (project.apply().code, project.run_ids) == (0, ["a-1"])
    project.cluster.end("a")
    assert (project.run("apply", "--yes", "--wait", "60").code, project.run_ids) == (0, ["a-1", "a-2"])


RERUN = "a: {state: running, onConfigChange: rerun, config: {text: old}}"
RERUN_NEW = RERUN.replace("old", "new")


@pytest.fixture
def unread(tmp_path: Path) -> Iterator[PersonsProject]:
    """At an engine without reads: a run is active, and the manifest asks for one more run once that has ended."""
    with persons_project(tmp_path, ATOMIC._replace(reads=False, lists=False)) as made:
        made.begin(RERUN)
        made.write(RERUN_NEW)
        reason = holds(made, "the service offers no reads, so it is not known whether the run before has ended")
        assert reason == made.reasons_offline()["a"][1]
        waited = made.run("apply", "--yes", "--wait", "1")
        assert (waited.code, "not known whether the run before has ended" in waited.out) == (4, True), waited.out
        yield made


def is_done(project: PersonsProject, jobs: str, runs: list[str]) -> None:
    """Apply a manifest where `drift` can read nothing, and expect these runs and that nothing is left to do."""
    project.write(jobs)
    run = project.apply()
    assert (run.code, project.run_ids) == (0, runs), run.out + run.err
    assert project.run("plan", "--refresh", "--detailed-exitcode").code == 0


@pytest.mark.parametrize("end", ["complete", "failed"])
def test_a_rerun_at_an_engine_without_reads_follows_an_end_that_a_person_states(
    end: str, unread: PersonsProject
) -> None:
    (command,) = unread.commands("a")
    assert command == ["resolve", "a", "--ended", "complete"]
    unread.cluster.end("a", Status(end))
    assert f"a: its run a-1 ended: {end}, says ada" in unread.follow([*command[:-1], end]).out
    again = unread.run(*command[:-1], end)
    assert (again.code, f"nobody has to say how the run of a ended: the job is recorded as {end}" in again.err) == (
        1,
        True,
    ), again.err
    for word in ("failed" if end == "complete" else "complete", end):  # a word is taken back by another one
        assert f"a: its run a-1 ended: {word}, says ada" in unread.follow([*command[:-1], word]).out
    is_done(unread, RERUN_NEW, ["a-1", "a-2"])
    unread.write(RERUN.replace("old", "third"))
    holds(unread, "not known whether the run before has ended")


def test_a_rerun_at_an_engine_without_reads_takes_the_place_of_the_run_before_with_a_token(
    unread: PersonsProject,
) -> None:
    assert "a new runToken runs it at once, in the place of the run before" in unread.reasons()["a"][1]
    is_done(unread, RERUN_NEW.replace("}}", "}, runToken: t}"), ["a-1", "a-2"])
    assert [run.status for run in unread.cluster.runs("a")] == [Status.ABORTED, Status.ACTIVE]


def test_a_saved_plan_starts_no_second_run_at_a_service_that_turns_out_to_offer_no_reads(tmp_path: Path) -> None:
    with served_project(tmp_path, "read:404", "list:404") as project:
        old = "a: {state: running, onConfigChange: rerun, config: {jobTimeout: 8}}"
        project.write(old)
        assert project.run("apply", "--yes").code == 0
        project.write(old.replace("8", "9"))
        planned = project.run("plan", "--out", "plan.json")
        assert "once the run before has ended" in planned.out
        for command in (["apply", "--plan", "plan.json", "--yes"], ["apply", "--yes"]):
            run = project.run(*command)
            assert (run.code, "`reconciler resolve a --ended complete`" in run.out) == (4, True), run.out + run.err
        assert done(project) == [("run", "a")]
        assert project.run("resolve", "a", "--ended", "complete").code == 0
        project.run("apply", "--yes")
        # The engine itself refuses the second run of an active job; the person was wrong.
        assert done(project) == [("run", "a")]


def test_what_comes_after_at_an_engine_without_reads_goes_on_with_a_persons_word(tmp_path: Path) -> None:
    with persons_project(tmp_path, ATOMIC._replace(reads=False, lists=False)) as project:
        project.begin(RUN)
        later = f"{RUN}\nb: {{state: running, after: [a]}}"
        project.write(later)
        assert project.apply().code == 4
        assert project.run_ids == ["a-1"]
        (command,) = project.commands("b")
        assert command == ["resolve", "a", "--ended", "complete"]
        project.follow(command)
        is_done(project, later, ["a-1", "b-1"])


def test_a_new_config_that_is_held_runs_with_a_token_or_another_mode(project: PersonsProject) -> None:
    project.begin("a: {state: running, onConfigChange: hold, config: {text: old}}")
    project.cluster.end("a")
    project.write("a: {state: running, onConfigChange: hold, config: {text: new}}")
    assert "onConfigChange: restart, rerun or next-run lets it through" in holds(project, "onConfigChange is hold")
    project.is_at_rest("a: {state: running, onConfigChange: rerun, config: {text: new}}", ["a-1", "a-2"])


def test_a_protected_job_is_aborted_once_the_manifest_lifts_it(project: PersonsProject) -> None:
    project.begin("a: {state: running, protect: true}")
    project.write("a: {state: aborted, protect: true}")
    assert "`protect: false` in the manifest lifts it" in holds(project, "protected, so no abort")
    project.is_at_rest("a: {state: aborted, protect: false}", ["a-1"])
    assert [run.status for run in project.cluster.runs()] == [Status.ABORTED]


@pytest.mark.parametrize(("word", "runs"), [("--applied", 1), ("--not-applied", 2)])
def test_a_call_in_doubt_is_settled_on_a_persons_word(word: str, runs: int, tmp_path: Path) -> None:
    plain = ATOMIC._replace(atomic_run=False, reads=False, lists=False)
    with persons_project(tmp_path, plain) as project:
        project.lost = Lost.AFTER
        project.write(RUN)
        assert project.apply().code == 5
        project.lost = None
        project.write(RUN)
        _, reason = project.reasons()["a"]
        assert "in doubt" in reason
        (command,) = project.commands("a")
        assert command == ["resolve", "a", "--applied"]
        project.follow([*command[:-1], word])
        assert project.apply().code == 0
        assert len(project.run_ids) == runs


def test_a_job_that_can_not_be_read_is_left_alone_until_it_can(tmp_path: Path) -> None:
    with served_project(tmp_path, "read:wrong-type:job=a") as project:
        project.write(RUN)
        refused = project.run("apply", "--yes")
        assert (refused.code, "left alone until it can be read" in refused.out + refused.err) == (3, True)
    with served_project(tmp_path) as project:
        project.write(RUN)
        assert project.run("apply", "--yes").code == 0


# --- another identity


def test_another_service_ends_each_command_with_one_message_until_it_is_accepted(tmp_path: Path) -> None:
    with persons_project(tmp_path, identity={"cluster": "one"}) as project:
        project.begin(f"{RUN}\nb: {{state: running}}")
        project.identity = {"cluster": "other"}
        project.write(f"{AGAIN}\nb: {{state: running, runToken: again}}")
        for command in (["plan", "--refresh"], ["apply", "--yes"], ["drift"]):
            run = project.run(*command)
            assert (run.code, run.err.count("cluster other")) == (1, 1), run.err
        assert project.run_ids == ["a-1", "b-1"]
        (accept,) = re.findall(r"reconciler (state accept --identity.*)", run.err)
        project.follow(accept.split())
        assert project.apply().code == 0


# --- ours


@pytest.mark.parametrize("has_handle", [True, False])
def test_a_job_of_ours_that_is_no_longer_declared_is_pruned(project: PersonsProject, has_handle: bool) -> None:
    project.begin(f"{RUN}\n  b: {{state: running}}")
    if not has_handle:  # Without the handle of the run, its lineage alone tells that it is ours.
        path = project.folder / "jobs.state.json"
        path.write_text(re.sub(r'"ref": "uid-[12]"', '"ref": ""', path.read_text()))
        project.follow(["state", "accept"])
    project.write("b: {state: running}")
    pruned = project.run("apply", "--yes", "--prune")
    assert (pruned.code, pruned.out.splitlines()[-1]) == (0, "Applied: 1 succeeded."), pruned.out
    assert [run.status for run in project.cluster.runs("a")] == [Status.ABORTED]
    assert "a" not in project.state["jobs"]
