"""What comes after what: runs that wait for others, and what holds them."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from project import Project, done, served_project
from reconciler.apply.context import is_stale
from reconciler.engines.bytenite.plugin import PLUGIN
from reconciler.manifest.parse import parse
from reconciler.model.errors import ManifestError
from reconciler.model.jobs import Desired, Doubt, Job, Observation, OnConfigChange, Record, Status, Verb
from reconciler.model.promises import NO_PROMISES
from reconciler.rules.decide import decide
from reconciler.rules.decisions import Decision
from reconciler.rules.matching import Subject, Terms
from reconciler.rules.order import Order
from reconciler.usecases.engines import plugin_named

RECORDED = Record("extract", Desired.RUNNING, {}, submitted_at="2026-11-21T02:00:00Z")
EXTRACT = Job("extract", "extract", Desired.RUNNING, {})
LOAD = Job("load", "load", Desired.RUNNING, {}, after=("extract",))


def seen(status: Status, submitted_at: str | None = "2026-11-21T02:00:00Z") -> Observation:
    return Observation(status, f"JOB_STATE_{status.name}", submitted_at=submitted_at)


ANY = Terms()
UNREAD = Terms(NO_PROMISES._replace(reads=False))


def load_after(
    job: Job, record: Record | None, observed: Observation | None, *, acts: bool = True, terms: Terms = ANY
) -> Decision:
    """What is decided about `load`, which is to be run for the first time, given the job that it comes after."""
    load = Subject(LOAD, None, PLUGIN.same_config, terms=terms)
    read = {} if observed is None else {job.id: observed}
    order = Order([Subject(job, record, PLUGIN.same_config, terms=terms), load], read, lambda name: acts)
    return order.defer(decide(load, seen(Status.DRAFT, None)), load)


def test_a_job_is_run_once_what_it_comes_after_has_completed() -> None:
    decision = load_after(EXTRACT, RECORDED, seen(Status.COMPLETE))
    assert (decision.kind, decision.verbs) == ("run", (Verb.RUN,))


def test_a_job_waits_for_one_that_is_active() -> None:
    decision = load_after(EXTRACT, RECORDED, seen(Status.ACTIVE))
    assert (decision.kind, decision.verbs) == ("wait", (Verb.RUN,))
    assert decision.reason.startswith("waiting for extract (active (JOB_STATE_ACTIVE)): ")
    assert (
        decision.way_out
        == "the next apply goes on once that has completed, `reconciler apply --wait 3600` waits for it"
    )


@pytest.mark.parametrize(
    ("job", "record", "observed"),
    [
        (EXTRACT, None, seen(Status.DRAFT, None)),
        (EXTRACT._replace(run_token="again"), RECORDED, seen(Status.COMPLETE)),
        (EXTRACT._replace(config={"jobTimeout": 9}), RECORDED, seen(Status.ACTIVE)),
    ],
    ids=["first run", "a new runToken", "a restart"],
)
def test_a_job_waits_for_one_that_is_to_be_run_first(job: Job, record: Record | None, observed: Observation) -> None:
    decision = load_after(job, record, observed)
    assert decision.kind == "wait"
    assert "waiting for extract (to be run first)" in decision.reason


def test_one_that_is_to_be_run_first_and_is_not_selected_is_not_waited_for() -> None:
    decision = load_after(EXTRACT, None, seen(Status.DRAFT, None), acts=False)
    assert decision.kind == "hold"
    assert "comes after extract, which has to be run first, and this plan does not include it" in decision.reason


@pytest.mark.parametrize(
    ("record", "observed", "words"),
    [
        (RECORDED, seen(Status.FAILED), "is failed (JOB_STATE_FAILED)"),
        (RECORDED, seen(Status.ABORTED), "is aborted (JOB_STATE_ABORTED)"),
        (RECORDED, seen(Status.MISSING), "is missing"),
        (RECORDED, seen(Status.DRAFT, None), "was not run (draft"),
        (RECORDED, Observation(Status.UNREADABLE, detail="HTTP 500"), "can't be read: HTTP 500"),
        (RECORDED, Observation(Status.NOT_OBSERVED), "can't be read, because the service offers no reads"),
        (
            RECORDED._replace(doubt=Doubt("op", Verb.RUN, {}, None, None, "then", "HTTP 503")),
            seen(Status.COMPLETE),
            "has a call in doubt (`reconciler resolve extract --applied`, or the same with `--not-applied`)",
        ),
    ],
    ids=["failed", "aborted", "missing", "draft", "unreadable", "no reads", "in doubt"],
)
def test_what_does_not_complete_by_itself_holds_what_comes_after(
    record: Record, observed: Observation, words: str
) -> None:
    decision = load_after(EXTRACT, record, observed)
    assert decision.kind == "hold"
    assert f"comes after extract, which {words}" in decision.reason
    assert decision.way_out == "this goes on once extract has completed, or is taken out of `after`"


@pytest.mark.parametrize(
    ("end", "kind", "words"),
    [
        (Status.COMPLETE, "run", "first run"),
        (Status.FAILED, "hold", "comes after extract, which is recorded as failed: "),
        (None, "hold", "(`reconciler resolve extract --ended complete` settles that)"),
    ],
)
def test_what_comes_after_at_an_engine_without_reads_follows_the_recorded_end(
    end: Status | None, kind: str, words: str
) -> None:
    for observed in (Observation(Status.NOT_OBSERVED), None):  # a plan that asks nobody says what an apply will do
        decision = load_after(EXTRACT, RECORDED._replace(end=end), observed, terms=UNREAD)
        assert (decision.kind, words in decision.reason) == (kind, True), decision.reason


@pytest.mark.parametrize("state", [Desired.ABORTED, Desired.ABSENT])
def test_an_active_job_that_is_to_be_stopped_is_not_waited_for(state: Desired) -> None:
    decision = load_after(EXTRACT._replace(state=state), RECORDED, seen(Status.ACTIVE))
    assert decision.kind == "hold"
    assert f"is declared {state}" in decision.reason


CHAINS = Terms(NO_PROMISES._replace(creates_on_run=True, chains=True))
STARTED = RECORDED._replace(ref="uid-1")
HELD = EXTRACT._replace(config={"jobTimeout": 9}, on_config_change=OnConfigChange.HOLD)


@pytest.mark.parametrize(
    ("record", "observed", "job", "kind"),
    [
        (STARTED, seen(Status.ACTIVE)._replace(ref="uid-1"), EXTRACT, "run"),
        (STARTED, seen(Status.ACTIVE)._replace(ref="uid-2"), EXTRACT, "wait"),
        (RECORDED, seen(Status.ACTIVE), EXTRACT, "wait"),
        (STARTED, seen(Status.ACTIVE)._replace(ref="uid-1"), EXTRACT._replace(config={"jobTimeout": 9}), "wait"),
        (STARTED, seen(Status.ACTIVE)._replace(ref="uid-1"), EXTRACT._replace(state=Desired.ABORTED), "hold"),
        (STARTED, seen(Status.ACTIVE)._replace(ref="uid-1"), HELD, "wait"),
        (STARTED, seen(Status.COMPLETE)._replace(ref="uid-1"), EXTRACT, "run"),
        (STARTED, seen(Status.WITHDRAWN)._replace(ref="uid-1"), EXTRACT, "wait"),
    ],
    ids=["recorded", "another run", "no handle", "to be restarted", "to be aborted", "held", "complete", "withdrawn"],
)
def test_the_engine_can_wait_for_the_recorded_run_that_is_left_alone(
    record: Record, observed: Observation, job: Job, kind: str
) -> None:
    decision = load_after(job, record, observed, terms=CHAINS)
    assert decision.kind == kind
    waits = observed.status is Status.ACTIVE and kind == "run"
    assert decision.after == (("extract",) if waits else ())
    assert decision.reason.endswith("it begins once extract has completed") == waits


def test_a_run_that_completed_before_the_recorded_one_began_does_not_count() -> None:
    decision = load_after(EXTRACT, RECORDED, seen(Status.COMPLETE, "2026-11-20T02:00:00Z"))
    assert decision.kind == "wait"
    assert "as read of an earlier run" in decision.reason


def test_a_run_by_someone_else_that_completed_later_counts() -> None:
    assert load_after(EXTRACT, RECORDED, seen(Status.COMPLETE, "2026-11-21T09:30:00+02:00")).kind == "run"


def test_what_was_run_by_this_apply_counts_once_its_new_run_is_seen() -> None:
    runs = {"extract": ("extract", seen(Status.COMPLETE).evidence)}
    assert is_stale(runs, "extract", seen(Status.COMPLETE))
    assert not is_stale(runs, "extract", seen(Status.COMPLETE, "2026-11-21T05:00:00Z"))
    assert not is_stale({}, "extract", seen(Status.COMPLETE))
    load = Subject(LOAD, None, PLUGIN.same_config)
    just_run = Subject(EXTRACT, RECORDED._replace(submitted_at=None), PLUGIN.same_config)
    order = Order([just_run, load], {"extract": seen(Status.COMPLETE)}, lambda name: True, partial(is_stale, runs))
    decision = order.defer(decide(load, seen(Status.DRAFT, None)), load)
    assert decision.kind == "wait"


def test_a_run_of_this_apply_counts_once_its_number_is_seen_where_no_run_was_seen_before() -> None:
    """An engine whose run creates the job has nothing to show before the run, and so no time to compare with."""
    runs = {"extract": ("extract", seen(Status.MISSING, None).evidence)}
    load = Subject(LOAD, None, PLUGIN.same_config)
    just_run = Subject(EXTRACT, RECORDED._replace(submitted_at=None, run=2), PLUGIN.same_config)
    for run_id, kind in (("extract-2", "run"), ("extract-1", "wait"), ("", "wait")):
        seen_now = seen(Status.COMPLETE)._replace(run_id=run_id)
        order = Order([just_run, load], {"extract": seen_now}, lambda name: True, partial(is_stale, runs))
        assert order.defer(decide(load, seen(Status.DRAFT, None)), load).kind == kind, run_id


def test_times_that_can_not_be_compared_count_only_where_they_are_the_same() -> None:
    record = RECORDED._replace(submitted_at="run 7")
    assert load_after(EXTRACT, record, seen(Status.COMPLETE, "run 7")).kind == "run"
    assert load_after(EXTRACT, record, seen(Status.COMPLETE, "run 8")).kind == "wait"


def test_a_completed_job_that_holds_a_rerun_holds_what_comes_after() -> None:
    wanted = EXTRACT._replace(run_token="again")
    decision = load_after(wanted, RECORDED, seen(Status.COMPLETE, "2026-11-21T05:00:00Z"))
    assert decision.kind == "hold"
    assert "comes after extract, which is held: run since this was recorded" in decision.reason


def test_a_plan_that_looks_at_nothing_says_what_it_comes_after() -> None:
    decision = load_after(EXTRACT, RECORDED, None)
    assert (decision.kind, decision.reason) == ("run", "first run; the job is draft (JOB_STATE_DRAFT); after extract")


def test_what_is_not_run_waits_for_nothing() -> None:
    load = Subject(LOAD, Record("load", Desired.RUNNING), PLUGIN.same_config)
    order = Order(
        [Subject(EXTRACT, None, PLUGIN.same_config), load], {"extract": seen(Status.FAILED)}, lambda name: True
    )
    decision = decide(load, seen(Status.ACTIVE))
    assert order.defer(decision, load) == decision


def test_a_chain_of_ten_thousand_jobs_is_judged() -> None:
    jobs = [Job(f"j{n}", f"j{n}", Desired.RUNNING, {}, after=(f"j{n - 1}",) if n else ()) for n in range(10_000)]
    subjects = [Subject(job, None, PLUGIN.same_config) for job in jobs]
    order = Order(subjects, {job.id: seen(Status.DRAFT, None) for job in jobs}, lambda name: True)
    last = subjects[-1]
    assert (
        "waiting for j9998 (which is itself waiting)"
        in order.defer(decide(last, seen(Status.DRAFT, None)), last).reason
    )


HEAD = "apiVersion: reconciler/v1\ntarget: {engine: sandbox}\njobs:\n"


def faults(jobs: str) -> list[str]:
    with pytest.raises(ManifestError) as caught:
        parse([("jobs.yaml", (HEAD + jobs).encode())], plugin_named)
    return [str(fault) for fault in caught.value.diagnostics]


def test_a_circle_is_an_error_that_names_it_at_its_place() -> None:
    [fault] = faults(
        "  a: {state: running, after: [b]}\n  b: {state: running, after: [c, x]}\n  c: {state: running, after: [a]}\n"
        "  x: {state: running}\n"
    )
    circle = '"a" after "b", "b" after "c", "c" after "a"'
    assert fault == f"jobs.yaml:6:31: what comes after itself is never run: {circle}; take one of them out"


def test_an_unknown_job_is_an_error_with_the_nearest_name_at_its_place() -> None:
    assert faults("  extract: {state: running}\n  load:\n    state: running\n    after: [extract, extrakt]\n") == [
        'jobs.yaml:7:22: no job "extrakt" is declared; did you mean "extract"?'
    ]


def test_what_comes_after_what_may_stand_in_different_files() -> None:
    other = "apiVersion: reconciler/v1\njobs: {extract: {state: running}}"
    load = HEAD + "  load: {state: running, after: [extract]}\n"
    assert parse([("a.yaml", load.encode()), ("b.yaml", other.encode())], plugin_named).jobs["load"].after == (
        "extract",
    )


# Whole commands


PIPELINE = "extract: {state: running}\nload: {state: running, after: [extract]}"


@pytest.fixture
def quick(tmp_path: Path) -> Iterator[Project]:
    """On a server whose jobs are done within a second."""
    with served_project(tmp_path, job_seconds=0.8) as project:
        yield project


@pytest.fixture
def slow(tmp_path: Path) -> Iterator[Project]:
    """On a server whose jobs take as long as any test."""
    with served_project(tmp_path) as project:
        yield project


def test_the_next_apply_goes_on_once_it_has_completed(quick: Project) -> None:
    quick.write(PIPELINE)
    planned = quick.run("plan", "--detailed-exitcode")
    assert (planned.code, planned.out.splitlines()[0]) == (2, "Plan: 1 to run, 1 waiting.")
    assert "… wait     load     waiting for extract (to be run first): the next apply goes on" in planned.out
    first = quick.run("apply", "--yes", "--parallelism", "8")
    assert (first.code, first.out.splitlines()[-1]) == (0, "Applied: 1 succeeded, 1 waiting.")
    assert "waiting for extract (to be run first)" in first.out
    assert done(quick) == [("run", "extract")]
    while quick.run("status", "--format", "json").json["jobs"][0]["observed"] != "complete":
        pass
    assert quick.run("apply", "--yes").code == 0
    assert done(quick) == [("run", "extract"), ("run", "load")]
    assert quick.run("plan").out == "No changes: 2 jobs are as recorded.\n"


def test_wait_goes_on_within_one_apply_through_a_whole_chain(quick: Project) -> None:
    quick.write(f"{PIPELINE}\nreport: {{state: running, after: [load, extract]}}")
    run = quick.run("apply", "--yes", "--wait", "60")
    assert run.code == 0, run.out + run.err
    assert done(quick) == [("run", "extract"), ("run", "load"), ("run", "report")]
    assert run.out.splitlines()[-1] == "Applied: 3 succeeded."
    assert "waiting up to 60 s to run load, report" in run.err


def test_a_wait_ends_at_its_deadline(slow: Project) -> None:
    slow.write(PIPELINE)
    run = slow.run("apply", "--yes", "--wait", "0.7")
    assert (run.code, run.out.splitlines()[-1]) == (0, "Applied: 1 succeeded, 1 waiting.")
    assert done(slow) == [("run", "extract")]


def test_a_wait_ends_where_what_is_waited_for_fails(tmp_path: Path) -> None:
    with served_project(tmp_path, "run:fail:job=extract", job_seconds=0.5) as project:
        project.write(f"{PIPELINE}\nreport: {{state: running, after: [load]}}")
        run = project.run("apply", "--yes", "--wait", "60", "--format", "json")
        assert run.code == 4
        notes = {action["job"]: action.get("note", "") for action in run.json["actions"]}
        assert notes["load"].startswith("comes after extract, which is failed")
        assert notes["report"].startswith("comes after load, which is held: comes after extract") or notes[
            "report"
        ].startswith("comes after load, which has to be run first, and this plan does not include it")
        assert done(project) == [("run", "extract")]


def test_nothing_is_waited_for_once_something_failed_and_fail_fast_was_given(tmp_path: Path) -> None:
    with served_project(tmp_path, "run:403:job=bad", job_seconds=0.1) as project:
        project.write(f"{PIPELINE}\nbad: {{state: running}}")
        run = project.run("apply", "--yes", "--wait", "60", "--fail-fast", "--parallelism", "4")
        assert run.code == 3
        assert ("run", "load") not in done(project)
        assert "waiting" not in run.err


def test_an_interrupted_wait_exits_130_and_runs_nothing_more(slow: Project) -> None:
    import signal

    slow.write(PIPELINE)
    with slow.start("apply", "--yes", "--wait", "600") as child:
        assert child.stderr is not None
        for line in child.stderr:
            if "waiting" in line:
                break
        child.send_signal(signal.SIGINT)
        child.communicate(timeout=30)
        assert child.returncode == 130
    assert done(slow) == [("run", "extract")]
    assert list(slow.state["jobs"]) == ["extract"]


def test_what_comes_before_is_looked_at_outside_the_selection_too(quick: Project) -> None:
    quick.write(PIPELINE)
    held = quick.run("apply", "--yes", "--target", "load")
    assert held.code == 4
    assert "extract, which has to be run first, and this plan does not include it" in held.out
    assert done(quick) == []
    refreshed = quick.run("plan", "--refresh", "--target", "load")
    assert "comes after extract, which has to be run first, and this plan does not include it" in refreshed.out
    assert quick.run("apply", "--yes", "--target", "extract").code == 0
    assert quick.run("apply", "--yes", "--target", "load", "--wait", "60").code in (0, 4)
    while quick.run("status", "--format", "json").json["jobs"][0]["observed"] != "complete":
        pass
    quick.run("apply", "--yes", "--target", "load")
    assert done(quick) == [("run", "extract"), ("run", "load")]


def test_an_apply_that_only_waits_asks_nobody_exits_0_and_says_what_it_waits_for(slow: Project) -> None:
    slow.write(PIPELINE)
    slow.run("apply", "--yes")
    for options in ([], ["--yes"]):
        run = slow.run("apply", *options)
        assert (run.code, run.err) == (0, "")
        assert "waiting for extract (active (JOB_STATE_RUNNING))" in run.out
        assert run.out.endswith("Applied: 1 waiting.\n")
    document = slow.run("apply", "--format", "json").json
    (waits,) = [action for action in document["actions"] if action["job"] == "load"]
    assert (waits["action"], waits["outcome"], document["summary"]["wait"]) == ("wait", "waiting", 1)
    assert [call["request"] for call in waits["calls"]] == ["POST /jobs/load/run"]
    assert slow.run("plan", "--refresh", "--detailed-exitcode").code == 2


def test_an_apply_that_only_waits_asks_before_it_runs_what_waited(slow: Project) -> None:
    slow.write(PIPELINE)
    slow.run("apply", "--yes")
    run = slow.run("apply", "--wait", "600")
    assert (run.code, "nobody can be asked" in run.err) == (4, True)


def test_a_wait_counts_as_a_run_for_a_guard(slow: Project) -> None:
    slow.write(PIPELINE, more="guards: {maxRun: 1}")
    run = slow.run("apply", "--yes")
    assert (run.code, "2 to run, and guards.maxRun is 1" in run.err) == (4, True)
    assert done(slow) == []


def test_a_restart_that_waits_counts_as_a_restart_for_a_guard(slow: Project) -> None:
    slow.write("load: {state: running}\nextract: {state: running}")
    slow.run("apply", "--yes", "--parallelism", "1")
    waits = "load: {state: running, after: [extract], config: {jobTimeout: 9}}\nextract: {state: running}"
    slow.write(waits, more="guards: {maxRestart: 0}")
    run = slow.run("apply", "--yes")
    assert (run.code, "1 to restart, and guards.maxRestart is 0" in run.err) == (4, True)


def test_every_view_of_a_plan_shows_what_waits_and_for_what(slow: Project) -> None:
    slow.write(PIPELINE)
    slow.run("apply", "--yes")
    words = "waiting for extract (active (JOB_STATE_RUNNING))"
    way_out = "the next apply goes on once that has completed, `reconciler apply --wait 3600` waits for it"
    markdown = slow.run("plan", "--refresh", "--format", "markdown").out
    assert "#### Waits for its turn" in markdown
    assert f"- **wait** `load`: {words}" in markdown
    github = slow.run("plan", "--refresh", "--format", "github").out
    assert "::notice title=load%3A wait," in github
    page = slow.run("plan", "--refresh", "--format", "html").out
    assert 'class="waits w-wait note' in page
    for text in (markdown, github, page):
        assert way_out.replace("`", "") in text.replace("`", "").replace("<code>", "").replace("</code>", "")
    applied = slow.run("apply", "--yes", "--format", "github").out
    assert "::notice title=load%3A waiting," in applied


def test_a_saved_plan_runs_what_it_shows_as_waiting_once_its_turn_has_come(quick: Project) -> None:
    quick.write(PIPELINE)
    assert quick.run("plan", "--refresh", "--out", "waits.json").code == 0
    assert quick.run("apply", "--plan", "waits.json", "--yes", "--wait", "60").code == 0
    assert done(quick) == [("run", "extract"), ("run", "load")]
    quick.write(PIPELINE.replace("running", "running, runToken: again"))
    quick.run("plan", "--refresh", "--out", "later.json")
    later = quick.run("apply", "--plan", "later.json", "--yes")
    assert later.out.splitlines()[-1] == "Applied: 1 succeeded, 1 waiting."


def test_a_saved_plan_whose_job_no_longer_waits_runs_it_and_holds_it_if_it_can_wait_no_more(tmp_path: Path) -> None:
    with served_project(tmp_path, "run:fail:job=bad", job_seconds=3.0) as project:
        jobs = "extract: {state: running}\nbad: {state: running}"
        project.write(jobs)
        project.run("apply", "--yes")
        later = f"{jobs}\nload: {{state: running, after: [extract]}}\nreport: {{state: running, after: [bad]}}"
        project.write(later)
        assert "2 waiting" in project.run("plan", "--refresh", "--out", "plan.json").out
        while {job["observed"] for job in project.run("status", "--format", "json").json["jobs"]} & {"active"}:
            pass
        run = project.run("apply", "--plan", "plan.json", "--yes")
        assert run.code == 4
        assert "comes after bad, which is failed" in run.out
        assert ("run", "load") in done(project)
        assert ("run", "report") not in done(project)


def test_a_service_without_reads_holds_what_comes_after(tmp_path: Path) -> None:
    with served_project(tmp_path, "read:404", "list:404") as project:
        project.write(PIPELINE)
        assert project.run("apply", "--yes").code == 0
        again = project.run("apply", "--yes", "--wait", "60")
        assert again.code == 4
        assert "the service offers no reads" in again.out
        assert done(project) == [("run", "extract")]


def test_a_restart_waits_before_its_abort(slow: Project) -> None:
    slow.write("load: {state: running}\nextract: {state: running}")
    slow.run("apply", "--yes", "--parallelism", "1")
    slow.write("load: {state: running, after: [extract], config: {jobTimeout: 9}}\nextract: {state: running}")
    run = slow.run("apply", "--yes")
    assert run.code == 0
    assert "waiting for extract (active (JOB_STATE_RUNNING))" in run.out
    assert [verb for verb, _ in done(slow)] == ["run", "run"]
