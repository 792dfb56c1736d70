"""What the service says, compared with what is recorded: each kind of drift, and what is none."""

import json
import re
from pathlib import Path
from urllib.request import Request, urlopen

import jsonschema
import pytest

from project import TOKEN, Project, served_project
from reconciler.engines.bytenite.plugin import PLUGIN
from reconciler.engines.sandbox.life import calls
from reconciler.manifest.schema import schema_text
from reconciler.model.jobs import (
    Desired,
    Doubt,
    Freeze,
    Job,
    Observation,
    OnConfigChange,
    Record,
    Status,
    Target,
    Verb,
)
from reconciler.model.places import Position
from reconciler.model.plan import Change
from reconciler.rules.drift import Drift, Finding, compare, in_order, review_drift, verdict
from reconciler.rules.matching import Subject
from reconciler.rules.table import Kind
from reconciler.testing.hostile import TEXTS
from reconciler.views import html, markdown, text
from reconciler.views import json as json_view

BEGAN = "2026-11-21T02:00:00Z"
LATER = "2026-11-21T09:00:00Z"
CONFIG = {"jobTimeout": 3600}
JOB = Job("a", "a", Desired.RUNNING, CONFIG)
RUNNING = Record("a", Desired.RUNNING, CONFIG, submitted_at=BEGAN)
ABORTED = RUNNING._replace(state=Desired.ABORTED)
ABSENT = Record("a", Desired.ABSENT)

TABLE = {
    Status.DRAFT: (Kind.LOST, Kind.SAME, Kind.THERE),
    Status.ACTIVE: (Kind.SAME, Kind.ENDING, Kind.THERE),
    Status.COMPLETE: (Kind.SAME, Kind.SAME, Kind.THERE),
    Status.FAILED: (Kind.FAILED, Kind.SAME, Kind.THERE),
    Status.ABORTED: (Kind.ABORTED, Kind.SAME, Kind.THERE),
    Status.WITHDRAWN: (Kind.WITHDRAWN, Kind.SAME, Kind.THERE),
    Status.MISSING: (Kind.GONE, Kind.GONE, Kind.SAME),
    Status.UNREADABLE: (Kind.UNREADABLE, Kind.UNREADABLE, Kind.UNREADABLE),
}
"""The module's table, once more: observed, then recorded running, aborted, absent."""


def seen(status: Status, *, began: str | None = BEGAN, config: dict[str, int | bool] | None = None) -> Observation:
    return Observation(status, status.upper(), CONFIG if config is None else config, submitted_at=began)


def found(record: Record | None, observed: Observation, job: Job = JOB) -> Finding:
    return compare(Subject(job, record, PLUGIN.same_config), observed)


@pytest.mark.parametrize("status", TABLE)
@pytest.mark.parametrize(
    ("column", "record"), [(0, RUNNING), (1, ABORTED), (2, ABSENT)], ids=["running", "aborted", "absent"]
)
def test_each_cell_of_the_table(status: Status, column: int, record: Record) -> None:
    assert found(record, seen(status)).kind is TABLE[status][column]


@pytest.mark.parametrize("status", [Status.ACTIVE, Status.COMPLETE, Status.FAILED])
@pytest.mark.parametrize("record", [RUNNING, ABORTED], ids=("running", "aborted"))
def test_a_run_that_began_at_another_time_is_someone_elses(status: Status, record: Record) -> None:
    finding = found(record, seen(status, began=LATER))
    assert finding.kind is Kind.RUN
    assert Change("submittedAt", BEGAN, LATER) in finding.changes
    assert finding.way_out == "`reconciler resolve a --not-applied` records that run"


def test_a_run_of_a_job_that_was_never_run_is_someone_elses() -> None:
    assert found(ABORTED._replace(submitted_at=""), seen(Status.COMPLETE)).kind is Kind.RUN


def test_an_aborted_run_that_has_yet_to_end_is_no_run_by_someone_else() -> None:
    finding = found(ABORTED._replace(submitted_at=BEGAN), seen(Status.ACTIVE))
    assert finding.kind is Kind.ENDING
    assert finding.way_out == "look again once the aborted run has ended; an apply waits for its end"
    wanted = found(ABORTED._replace(submitted_at=BEGAN), seen(Status.ACTIVE), JOB._replace(state=Desired.ABORTED))
    assert "aborts it once more" in wanted.way_out
    assert found(ABORTED._replace(submitted_at=BEGAN), seen(Status.ACTIVE, began=LATER)).kind is Kind.RUN


def test_a_begin_that_is_written_in_another_way_is_no_drift() -> None:
    same = found(RUNNING, seen(Status.ACTIVE, began=BEGAN.replace("Z", ".000+00:00")))
    assert (same.kind, same.changes) == (Kind.SAME, ())


def test_a_time_that_is_not_on_record_or_not_told_says_nothing() -> None:
    assert found(RUNNING._replace(submitted_at=None), seen(Status.ACTIVE)).kind is Kind.SAME
    assert found(RUNNING, seen(Status.ACTIVE, began=None)).kind is Kind.SAME


def test_a_run_with_another_config_differs_and_says_in_what() -> None:
    finding = found(RUNNING, seen(Status.ACTIVE, config={"jobTimeout": 60, "taskTimeout": 5}))
    assert (finding.kind, finding.changes) == (Kind.CONFIG, (Change("config.jobTimeout", 3600, 60),))
    assert finding.reason == "recorded running, and the job is active (ACTIVE); config.jobTimeout not as recorded"


def test_the_config_of_a_run_that_has_ended_is_not_compared() -> None:
    assert found(RUNNING, seen(Status.COMPLETE, config={"jobTimeout": 60})).kind is Kind.SAME


def test_a_config_that_is_recorded_for_the_next_run_is_not_compared_with_this_one() -> None:
    waits = JOB._replace(on_config_change=OnConfigChange.NEXT_RUN)
    assert found(RUNNING, seen(Status.ACTIVE, config={"jobTimeout": 60}), waits).kind is Kind.SAME


def test_an_ignored_field_is_no_drift_and_another_one_is() -> None:
    ignoring = JOB._replace(ignore=("config.jobTimeout",))
    record = RUNNING._replace(config={"jobTimeout": 3600, "taskTimeout": 9})
    assert found(record, seen(Status.ACTIVE, config={"jobTimeout": 60, "taskTimeout": 9}), ignoring).kind is Kind.SAME
    differs = found(record, seen(Status.ACTIVE, config={"jobTimeout": 60, "taskTimeout": 8}), ignoring)
    assert differs.changes == (Change("config.taskTimeout", 9, 8),)


def test_what_was_changed_in_the_manifest_alone_is_no_drift() -> None:
    wanted = JOB._replace(config={"jobTimeout": 1}, run_token="new")
    assert found(RUNNING, seen(Status.ACTIVE), wanted).kind is Kind.SAME


def test_a_frozen_job_that_differs_is_shown_and_is_no_drift() -> None:
    frozen = JOB._replace(freeze=Freeze("mended by hand", "2026-12-01"))
    finding = found(RUNNING, seen(Status.ABORTED), frozen)
    assert finding.kind is Kind.FROZEN
    assert finding.reason.startswith("mended by hand until 2026-12-01; aborted by someone else; ")
    over = frozen._replace(freeze=Freeze("mended by hand", "2026-12-01", 0.0, over=True))
    assert found(RUNNING, seen(Status.ABORTED), over).kind is Kind.ABORTED


def test_a_call_in_doubt_comes_before_all_else() -> None:
    doubtful = RUNNING._replace(doubt=Doubt("op", Verb.RUN, {}, None, None, "then", "HTTP 503"))
    finding = found(doubtful, seen(Status.MISSING))
    assert finding.kind is Kind.IN_DOUBT
    assert finding.reason == "run was sent at then, and it is not known whether it was carried out (HTTP 503)"
    assert "reconciler resolve a" in finding.way_out


def test_a_declared_job_without_a_record_has_nothing_to_differ_from() -> None:
    assert found(None, seen(Status.FAILED)).kind is Kind.NOT_RECORDED
    assert found(None, seen(Status.UNREADABLE)).kind is Kind.UNREADABLE


def drift_of(*findings: Finding) -> Drift:
    return Drift(Target("bytenite", "https://x.example"), "lineage", 3, None, ("jobs.yaml",), in_order(findings))


def test_what_weighs_most_comes_first_and_sets_the_exit_code() -> None:
    same, gone = found(RUNNING, seen(Status.ACTIVE)), found(RUNNING, seen(Status.MISSING))
    unreadable = found(RUNNING, seen(Status.UNREADABLE))
    doubtful = found(RUNNING._replace(doubt=Doubt("", Verb.RUN, {}, None, None, "", "")), seen(Status.ACTIVE))
    drift = drift_of(same, doubtful, unreadable, gone)
    assert [finding.kind for finding in drift.findings] == [Kind.GONE, Kind.UNREADABLE, Kind.IN_DOUBT, Kind.SAME]
    assert drift.exit_code == 2
    assert verdict(drift) == "Drift: 1 gone, 1 unreadable, 1 in doubt; 1 as recorded."
    assert drift_of(same, doubtful, unreadable).exit_code == 3
    assert verdict(drift_of(same, unreadable)) == "Not all is known: 1 unreadable; 1 as recorded."
    assert drift_of(same, doubtful).exit_code == 5
    assert drift_of(same).exit_code == 0
    assert verdict(drift_of(same)) == "No drift: 1 job is as recorded."


@pytest.mark.parametrize("hostile_text", TEXTS)
def test_whatever_is_said_stays_where_it_is_shown(hostile_text: str) -> None:
    record = Record(hostile_text, Desired.RUNNING, {"jobTimeout": 1}, submitted_at=hostile_text)
    observed = Observation(
        Status.FAILED, hostile_text, {"jobTimeout": 2}, submitted_at=f"{hostile_text}!", detail=hostile_text
    )
    job = Job(hostile_text, hostile_text, Desired.RUNNING, {}, freeze=Freeze(hostile_text, hostile_text))
    drift = drift_of(
        compare(Subject(job._replace(freeze=None), record, PLUGIN.same_config), observed),
        compare(Subject(job, record, PLUGIN.same_config), observed),
    )
    review = review_drift(drift, lambda name: Position(hostile_text, 1, 1), {}, state_at="s")
    comment = markdown.review(review)
    assert comment.count("<!--") == 1
    assert comment.splitlines()[-1] == f"<!-- reconciler:drift:{review.key} -->"
    assert html.review(review).isascii()
    assert len(text.drift(drift).splitlines()) == 4
    jsonschema.validate(json.loads(json.dumps(json_view.drift(drift))), json.loads(schema_text("drift.schema.json")))


# Whole commands


def by_hand(project: Project, method: str, path: str, body: str = "") -> None:
    assert project.server is not None
    headers = {"Authorization": TOKEN, "Content-Type": "application/json"}
    url = project.server.endpoint + path
    with urlopen(Request(url, method=method, headers=headers, data=body.encode() or None), timeout=10) as answer:
        assert answer.status == 200


def drifted(project: Project) -> None:
    """A job of each kind, and one as recorded."""
    project.write("\n".join(f"{name}: {{state: running}}" for name in ("aborted", "again", "gone", "same", "too")))
    assert project.run("apply", "--yes").code == 0
    by_hand(project, "POST", "/jobs/aborted/abort")
    by_hand(project, "POST", "/jobs/again/abort")
    by_hand(project, "POST", "/jobs/again/run", '{"config": {}}')
    by_hand(project, "POST", "/jobs/gone/abort")
    by_hand(project, "DELETE", "/jobs/gone")


def test_nothing_differs_right_after_an_apply(served: Project) -> None:
    served.write("a: {state: running}\nb: {state: aborted}\nc: {state: absent}")
    assert served.run("drift").out == "No drift: 0 jobs are as recorded, 3 not recorded.\n"
    served.run("apply", "--yes")
    before = served.files
    run = served.run("drift")
    assert (run.code, run.out) == (0, "No drift: 3 jobs are as recorded.\n")
    assert served.files == before


def test_each_kind_is_named_with_what_ends_it(served: Project) -> None:
    drifted(served)
    run = served.run("drift")
    assert run.code == 2
    lines = run.out.splitlines()
    assert lines[0] == "Drift: 1 gone, 1 aborted by someone else, 1 run by someone else; 2 as recorded."
    assert lines[2].startswith("  ! gone                     gone     recorded running, and the job is missing")
    assert "a new runToken runs it again, `state: aborted` accepts it" in lines[3]
    assert "reconciler resolve again --not-applied" in lines[4]
    assert len(lines) == 5


def test_a_run_by_someone_else_that_is_put_on_record_is_no_drift_any_more(served: Project) -> None:
    drifted(served)
    assert served.run("drift", "--target", "again").code == 2
    assert served.run("resolve", "again", "--not-applied").code == 0
    assert served.run("drift", "--target", "again").code == 0
    assert served.run("drift", "--target", "nobody").code == 1


def test_drift_is_found_of_jobs_that_are_no_longer_declared(served: Project) -> None:
    drifted(served)
    served.write("same: {state: running}")
    run = served.run("drift", "--format", "json")
    assert run.code == 2
    assert [(job["job"], job["declared"]) for job in run.json["jobs"] if job["differs"]] == [
        ("gone", False),
        ("aborted", False),
        ("again", False),
    ]


def test_a_refreshed_plan_judges_as_drift_does(served: Project) -> None:
    drifted(served)
    manifest = served.folder / "jobs.yaml"
    manifest.write_text(manifest.read_text() + "  short: {state: running, config: {jobTimeout: 1}}\n")
    assert served.run("apply", "--yes", "--target", "short").code == 0
    while "failed" not in served.run("status").out:
        pass
    drift = served.run("drift")
    assert drift.out.splitlines()[0] == (
        "Drift: 1 gone, 1 aborted by someone else, 1 run by someone else, 1 failed; 2 as recorded."
    )
    plan = served.run("plan", "--refresh", "--detailed-exitcode")
    assert (plan.code, drift.code) == (2, 2)
    assert plan.out.splitlines()[0] == "Plan: 2 held, 1 failed, 1 run by someone else; 2 unchanged."
    only = ("--target", "s*")
    assert served.run("drift", *only).out.splitlines()[0] == "Drift: 1 failed; 1 as recorded."
    run = served.run("plan", "--refresh", "--detailed-exitcode", *only)
    assert (run.code, run.out.splitlines()[0]) == (2, "Plan: 1 failed; 1 unchanged.")
    assert "  ! drift    short  failed: recorded running, and the job is failed (JOB_STATE_FAILED)" in run.out
    assert "a new runToken or config runs it again, `state: aborted` accepts it" in run.out
    document = served.run("plan", "--refresh", "--format", "json", *only).json
    jsonschema.validate(document, json.loads(schema_text("plan.schema.json")))
    assert [(one["action"], one.get("drift")) for one in document["actions"]] == [("noop", None), ("noop", "failed")]
    comment = served.run("plan", "--refresh", "--format", "markdown", *only).out
    assert comment.startswith("### Plan: 1 failed; 1 unchanged.\n")
    assert "#### To be looked at (1)\n\n- **failed** `short`: recorded running" in comment
    row = served.run("plan", "--refresh", "--format", "html", *only).out.partition('<tr id="job-short"')[2]
    cells = [re.sub("<[^>]*>", "", cell) for cell in row.partition("<tr ")[0].split("<td>")]
    assert cells[6].startswith("recorded running, and the job is failed (JOB_STATE_FAILED)")
    assert "runToken" not in cells[6]
    assert cells[7].startswith("a new runToken or config runs it again, state: aborted accepts it")
    assert "::warning title=short%3A failed" in served.run("plan", "--refresh", "--format", "github", *only).out
    assert served.run("plan", "--detailed-exitcode", *only).code == 0


def test_every_form_tells_the_same(served: Project) -> None:
    drifted(served)
    runs = {form: served.run("drift", "--format", form) for form in ("json", "markdown", "html", "github")}
    assert {run.code for run in runs.values()} == {2}
    document = runs["json"].json
    jsonschema.validate(document, json.loads(schema_text("drift.schema.json")))
    assert document["summary"]["gone"] == 1
    comment = runs["markdown"].out
    assert comment.startswith("### Drift: 1 gone, 1 aborted by someone else, 1 run by someone else; 2 as recorded.\n")
    assert "#### To be looked at (3)" in comment
    assert comment.splitlines()[-1].startswith("<!-- reconciler:drift:")
    assert '<tr id="job-gone" class="drifted w-gone note problem">' in runs["html"].out
    assert "::warning title=gone%3A gone,file=jobs.yaml" in runs["github"].out


def test_the_comment_on_drift_is_found_again_whatever_it_says(served: Project) -> None:
    served.write("a: {state: running}")
    markers = {served.run("drift", "--format", "markdown").out.splitlines()[-1]}
    served.write("a: {state: wrong}")
    markers.add(served.run("drift", "--format", "markdown").out.splitlines()[-1])
    assert len(markers) == 1
    assert served.run("plan", "--format", "markdown").out.splitlines()[-1] not in markers


def test_many_jobs_are_read_by_the_list_page_by_page(served: Project) -> None:
    served.write("\n".join(f"j{n}: {{state: running}}" for n in range(130)))
    served.run("apply", "--yes", "--parallelism", "32")
    before = len(calls(served.folder / "server.db"))
    by_hand(served, "POST", "/jobs/j77/abort")
    run = served.run("drift")
    assert run.code == 2
    assert "j77" in run.out
    assert "129 as recorded" in run.out
    assert len(calls(served.folder / "server.db")) - before == 3  # the abort, and two pages


def test_a_job_that_can_not_be_read_is_an_error_and_the_others_are_told(tmp_path: Path) -> None:
    with served_project(tmp_path, "read:403:job=bad") as project:
        project.write("bad: {state: running}\ngood: {state: running}")
        project.run("apply", "--yes")
        run = project.run("drift", "--parallelism", "1")
        assert run.code == 3
        assert run.out.startswith("Not all is known: 1 unreadable; 1 as recorded.")
        by_hand(project, "POST", "/jobs/good/abort")
        assert project.run("drift").code == 2


def test_a_service_without_reads_is_said_as_such(tmp_path: Path) -> None:
    with served_project(tmp_path, "read:404", "list:404") as project:
        project.write("a: {state: running}")
        project.run("apply", "--yes")
        run = project.run("drift")
        assert run.code == 1
        assert "offers no reads" in run.err


def test_without_credentials_or_service_nothing_is_told(served: Project) -> None:
    served.write("a: {state: running}")
    assert served.run("drift", BYTENITE_ACCESS_TOKEN="").code == 1
    assert served.run("drift", BYTENITE_ACCESS_TOKEN="wrong").code == 1
