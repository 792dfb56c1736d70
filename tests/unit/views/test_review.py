"""A plan for review: as a comment, as a page and as annotations. And the check of a manifest for CI."""

import hashlib
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import jsonschema
import pytest

import golden
from project import Project, served_project
from reconciler.engines.bytenite.plugin import PLUGIN
from reconciler.host.terminal import Terminal
from reconciler.model.jobs import Desired, Job, Observation, Record, Status, Verb
from reconciler.model.places import Position
from reconciler.model.plan import Change, Request
from reconciler.model.plan_json import plan_digest, plan_to_json
from reconciler.rules.review import Field, Review, Row, Weight, fields, sorted_rows
from reconciler.views import github, html, markdown

JUNIT: dict[str, tuple[set[str], set[str]]] = {
    "testsuites": ({"name", "tests", "failures", "errors"}, {"testsuite"}),
    "testsuite": ({"name", "tests", "failures", "errors", "skipped"}, {"testcase"}),
    "testcase": ({"classname", "name", "file", "line"}, {"failure", "error"}),
    "failure": ({"type", "message"}, set()),
    "error": ({"type", "message"}, set()),
}
"""The attributes and the children of each element that Jenkins, GitLab and GitHub's actions read."""


def sarif_part(required: str, **properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": required.split(), "additionalProperties": False, "properties": properties}


TEXT = sarif_part("text", text={"type": "string", "minLength": 1})
ONE_OR_MORE = {"type": "integer", "minimum": 1}
URI = {"type": "string", "format": "uri-reference"}
LEVEL = {"enum": ["none", "note", "warning", "error"]}
REGION = sarif_part("startLine startColumn", startLine=ONE_OR_MORE, startColumn=ONE_OR_MORE)
PLACE = sarif_part("artifactLocation region", artifactLocation=sarif_part("uri", uri=URI), region=REGION)
RULE = sarif_part(
    "id",
    id={"type": "string"},
    name={"type": "string"},
    shortDescription=TEXT,
    fullDescription=TEXT,
    help=TEXT,
    defaultConfiguration=sarif_part("level", level=LEVEL),
)
RESULT = sarif_part(
    "ruleId ruleIndex level message locations",
    ruleId={"const": "manifest"},
    ruleIndex={"const": 0},
    level=LEVEL,
    message=TEXT,
    locations={"type": "array", "items": sarif_part("physicalLocation", physicalLocation=PLACE), "minItems": 1},
)
DRIVER = sarif_part("name", name={"type": "string"}, rules={"type": "array", "items": RULE})
INVOCATION = sarif_part(
    "executionSuccessful",
    executionSuccessful={"type": "boolean"},
    toolExecutionNotifications={"type": "array", "items": sarif_part("message", level=LEVEL, message=TEXT)},
)
RUN = sarif_part(
    "tool results",
    tool=sarif_part("driver", driver=DRIVER),
    invocations={"type": "array", "items": INVOCATION},
    columnKind={"enum": ["utf16CodeUnits", "unicodeCodePoints"]},
    results={"type": "array", "items": RESULT},
)
SARIF = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    **sarif_part("version runs", **{"$schema": URI}, version={"const": "2.1.0"}, runs={"type": "array", "items": RUN}),
}
"""The part of the SARIF 2.1.0 schema that the log uses. Other properties are not allowed."""


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Project]:
    """A user's folder on a server that refuses every run of the job "bad"."""
    with served_project(tmp_path, "run:400:job=bad", job_seconds=5) as project:
        yield project


def check_junit(text: str) -> ElementTree.Element:
    """Check the elements, attributes and counts of a report, and return its root."""
    root = ElementTree.fromstring(text)
    assert root.tag == "testsuites"
    for element in root.iter():
        attributes, children = JUNIT[element.tag]
        assert set(element.keys()) <= attributes
        assert {child.tag for child in element} <= children
    for suites in (root, *root):
        for key, tag in (("tests", "testcase"), ("failures", "failure"), ("errors", "error")):
            assert suites.get(key) == str(len(list(suites.iter(tag))))
    return root


def check_sarif(text: str) -> Any:
    document = json.loads(text)
    jsonschema.validate(document, SARIF)
    return document


def rows_of(weight: Weight, word: str, count: int, reason: str = "why", name: str = "job") -> list[Row]:
    changes = (Change("config.jobTimeout", 3600, 7200), Change("state", None, "running"))
    calls = (Request(Verb.ABORT, "POST /jobs/x/abort"), Request(Verb.RUN, "POST /jobs/x/run", {}))
    return [
        Row(f"{name}-{at:05}", f"{name}-{at:05}", word, weight, reason, changes=changes, calls=calls)
        for at in range(count)
    ]


def review_of(*groups: list[Row]) -> Review:
    return golden.review()._replace(rows=sorted_rows([row for group in groups for row in group]))


@pytest.mark.parametrize("name", golden.files())
def test_every_form_is_what_it_was(name: str) -> None:
    assert (golden.FOLDER / name).read_text(encoding="utf-8") == golden.files()[name], (
        "python tests/support/golden.py renews it"
    )


def test_the_golden_reports_are_well_formed() -> None:
    files = golden.files()
    assert len(list(check_junit(files["faulty.junit.xml"]).iter("failure"))) == 5
    assert len(list(check_junit(files["valid.junit.xml"]).iter("testcase"))) == 1
    assert len(check_sarif(files["faulty.sarif.json"])["runs"][0]["results"]) == 5
    assert check_sarif(files["valid.sarif.json"])["runs"][0]["results"] == []


def test_the_digest_of_a_plan_does_not_know_its_commit_and_can_be_taken_from_its_json() -> None:
    plan = golden.plan()
    assert plan_digest(plan) == plan_digest(plan._replace(commit="another"))
    assert plan_digest(plan) != plan_digest(plan._replace(serial=43))
    printed = json.loads(golden.files()["plan.json"])
    del printed["commit"]
    text = json.dumps(printed, sort_keys=True, separators=(",", ":"))
    assert plan_digest(plan) == "sha256:" + hashlib.sha256(text.encode()).hexdigest()
    assert plan_to_json(plan)["commit"] == golden.COMMIT


def test_a_comment_says_its_verdict_first_and_names_commit_serial_and_digest() -> None:
    comment = markdown.review(golden.review())
    first, *_ = comment.splitlines()
    assert first == "### Plan: 1 to abort, 1 to run, 1 to restart, 1 to delete, 4 held; 1 unchanged."
    for named in (golden.COMMIT, "serial 42", plan_digest(golden.plan())):
        assert named in comment


def test_what_stops_jobs_comes_before_what_runs_and_that_before_what_is_held() -> None:
    comment = markdown.review(golden.review())
    names = [
        "archive-2025",
        "old-report",
        "live-ladder",
        "thumbnails",
        "vanished",
        "caption-backfill",
        "retired-loader",
    ]
    places = [comment.index(f"** `{name}`") for name in names]
    assert places == sorted(places)
    assert "weekly-digest" not in comment


@pytest.mark.parametrize(
    "review",
    [
        review_of(rows_of(Weight.ENDS, "delete", 10_000), rows_of(Weight.STARTS, "run", 10_000)),
        review_of(*(rows_of(weight, weight, 3_000, "x" * 9_000, "👩‍💻" * 40) for weight in Weight)),
        review_of(rows_of(Weight.HELD, "hold", 20_000, "`" * 500, "`" * 128)),
        review_of(rows_of(Weight.STARTS, "run", 300))._replace(trouble="x" * 99_999, verdict="z" * 99_999),
        review_of()._replace(scope="`" * 99_999),
        review_of()._replace(facts=tuple((label, "é" * 99_999) for label, _ in golden.review().facts)),
    ],
    ids=["two kinds", "every kind, long", "backticks", "long refusal", "long scope", "long facts"],
)  # fmt: skip
def test_a_comment_fits_however_github_counts_and_whatever_the_plan(review: Review) -> None:
    comment = markdown.review(review)
    with_carriage_returns = comment.replace("\n", "\r\n")
    assert len(with_carriage_returns.encode()) <= 65_536
    assert len(with_carriage_returns.encode("utf-16-le")) // 2 <= 65_536
    shown = len(re.findall(r"^- \*\*", comment, re.MULTILINE))
    counted = sum(int(count) for count in re.findall(r"^…and (\d+) more", comment, re.MULTILINE))
    assert shown + counted == sum(row.weight is not Weight.QUIET for row in review.rows)
    assert comment.count("<details>") == comment.count("</details>")
    assert comment.splitlines()[-1] == f"<!-- reconciler:plan:{review.key} -->"


def test_room_that_is_there_is_used() -> None:
    comment = markdown.review(review_of(rows_of(Weight.ENDS, "delete", 10_000)))
    assert len(comment.encode()) > 55_000
    assert "Changes and calls of" in comment


def test_one_comment_is_found_again_by_its_last_line_and_another_state_has_its_own(project: Project) -> None:
    project.write("a: {state: running}")
    markers = {project.run("plan", "--format", "markdown").out.splitlines()[-1]}
    project.write("a: {state: aborted}\nb: {state: running}")
    markers.add(project.run("plan", "--format", "markdown", "--target", "b").out.splitlines()[-1])
    project.write("a: {state: wrong}")
    broken = project.run("plan", "--format", "markdown")
    assert broken.code == 1
    assert broken.out.startswith("### Error: the manifest has 1 fault\n")
    assert "`jobs.yaml:" in broken.out
    markers.add(broken.out.splitlines()[-1])
    assert len(markers) == 1
    project.write("a: {state: running}")
    markers.add(project.run("plan", "--format", "markdown", "--state", "other.json").out.splitlines()[-1])
    assert len(markers) == 2


def test_a_refused_plan_says_so_first_in_every_form(project: Project) -> None:
    project.write("a: {state: running}\nb: {state: running}", more="guards: {maxRun: 1}")
    comment, page, annotations = (project.run("plan", "--format", form) for form in ("markdown", "html", "github"))
    assert [run.code for run in (comment, page, annotations)] == [4, 4, 4]
    assert comment.out.splitlines()[0] == "### Refused. Plan: 2 to run."
    assert "guards.maxRun is 1" in comment.out
    assert "<h1>Refused. Plan: 2 to run.</h1>" in page.out
    assert annotations.out.startswith("::error title=Plan refused::")


def test_a_plan_in_any_form_writes_nothing_and_needs_no_credentials(served: Project) -> None:
    served.write("a: {state: running}")
    before = {path: content for path, content in served.files.items() if not path.startswith(".")}
    for form in ("markdown", "html", "github"):
        assert served.run("plan", "--format", form, BYTENITE_ACCESS_TOKEN="").code == 0
    assert {path: content for path, content in served.files.items() if not path.startswith(".")} == before


def test_annotations_name_files_as_the_repository_does(project: Project) -> None:
    folder = project.folder / "media"
    folder.mkdir()
    project.folder = folder
    project.write("a: {state: running}")
    for workspace, file in ((folder.parent, "media/jobs.yaml"), (folder, "jobs.yaml"), (folder / "other", "jobs.yaml")):
        out = project.run("plan", "--format", "github", GITHUB_WORKSPACE=str(workspace)).out
        assert f"::notice title=a%3A run,file={file},line=5,col=3::first run" in out
    project.write("a: {state: wrong}")
    located = project.run("validate", "--format", "sarif", GITHUB_WORKSPACE=str(folder.parent)).json
    [result] = located["runs"][0]["results"]
    assert result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == "media/jobs.yaml"


def test_more_annotations_than_github_shows_are_counted() -> None:
    lines = github.commands(
        github.review(review_of(rows_of(Weight.HELD, "hold", 10_000), rows_of(Weight.STARTS, "run", 3)))
    )
    assert len(lines) == 14
    assert lines[9] == "::warning title=reconciler::and 9991 more, which are in the log"
    exactly_ten = github.commands(github.review(review_of(rows_of(Weight.HELD, "hold", 10))))
    assert "more" not in "\n".join(exactly_ten)


def test_an_apply_annotates_what_failed_at_its_line_and_tells_the_rest_to_stderr(served: Project) -> None:
    served.write("good: {state: running}\nbad: {state: running}")
    run = served.run("apply", "--yes", "--format", "github")
    assert run.code == 3
    [line] = run.out.splitlines()
    assert line.startswith("::error title=bad%3A run failed,file=jobs.yaml,line=6,col=3::")
    assert "Applied: 1 succeeded, 1 failed." in run.err


def test_an_apply_that_is_refused_is_annotated(served: Project) -> None:
    served.write("good: {state: running}")
    run = served.run("apply", "--format", "github")
    assert run.code == 4
    assert (
        run.out == "::error title=reconciler::nobody can be asked, and --yes was not given%0A"
        "give --yes, or run the command at a terminal\n"
    )


@pytest.mark.parametrize("form", ["github", "junit", "sarif"])
def test_validate_reports_faults_and_none_in_every_form(project: Project, form: str) -> None:
    project.write("a: {state: wrong}\nb: {colour: red}")
    faulty = project.run("validate", "--format", form)
    assert faulty.code == 1
    assert len(faults_in(form, faulty.out)) == 3
    project.write("a: {state: running}")
    fine = project.run("validate", "--format", form)
    assert (fine.code, fine.err) == (0, "")
    assert faults_in(form, fine.out) == []


def faults_in(form: str, out: str) -> list[Any]:
    if form == "github":
        return [line for line in out.splitlines() if line.startswith("::error title=Manifest,file=jobs.yaml,line=")]
    return list(check_junit(out).iter("failure")) if form == "junit" else check_sarif(out)["runs"][0]["results"]


def test_a_manifest_that_is_not_there_is_reported_in_every_form(project: Project) -> None:
    runs = {form: project.run("validate", "--format", form, "none.yaml") for form in ("github", "junit", "sarif")}
    assert {run.code for run in runs.values()} == {1}
    assert runs["github"].out.startswith("::error title=reconciler::none.yaml: no such file or folder%0A")
    assert len(list(check_junit(runs["junit"].out).iter("error"))) == 1
    [invocation] = check_sarif(runs["sarif"].out)["runs"][0]["invocations"]
    assert invocation["executionSuccessful"] is False


def test_what_unblocks_a_hold_stands_apart_from_why_it_is_held() -> None:
    rows = {row.job: row for row in golden.review().rows}
    held = rows["nightly-transcode"]
    assert held.reason == "aborted by someone else (aborted (JOB_STATE_ABORTED))"
    assert held.way_out == "a new runToken runs it again, `state: aborted` accepts it"
    assert (rows["vanished"].word, rows["vanished"].way_out) == ("error", "create a job there and give its id")
    assert all(row.way_out for row in rows.values() if row.weight is Weight.HELD)
    assert rows["retired-loader"].desired is None
    assert rows["live-ladder"].place == Position("jobs.yaml", 13, 3)


def test_the_fields_of_a_job_differ_where_what_is_asked_is_not_what_is_there() -> None:
    job = Job("a", "a", Desired.RUNNING, {"jobTimeout": 7200, "isTestJob": False, "taskTimeout": 60}, run_token="two")
    record = Record(
        "a", Desired.RUNNING, {"jobTimeout": 3600, "taskTimeout": 60}, frozenset({"one"}), submitted_at="10:00"
    )
    seen = Observation(
        Status.ACTIVE, "RUNNING", {"jobTimeout": 3600, "taskTimeout": 90, "extra": 5}, submitted_at="11:00"
    )
    row = Row(
        "a", "a", "restart", Weight.ENDS, "", desired=job, record=record, observed=seen, same_config=PLUGIN.same_config
    )
    assert fields(row) == (
        Field("state", Desired.RUNNING, Desired.RUNNING, "active (RUNNING)", False),
        Field("runToken", "two", None, None, True),
        Field("submittedAt", None, "10:00", "11:00", True),
        Field("config.extra", None, None, 5, False),
        Field("config.isTestJob", False, None, None, False),
        Field("config.jobTimeout", 7200, 3600, 3600, True),
        Field("config.taskTimeout", 60, 60, 90, True),
    )


def test_only_the_path_for_commands_lets_a_workflow_command_through() -> None:
    out = io.StringIO()
    terminal = Terminal(out, io.StringIO(), {}, no_color=True)
    terminal.answer("::error::x")
    terminal.commands(["::error title=a::x\n::warning::y ##[z]"])
    terminal.commands([])
    assert out.getvalue() == "\\::error::x\n::error title=a::x\\n::warning::y # #[z]\n"


def test_a_page_of_ten_thousand_jobs_is_small() -> None:
    quiet = [row._replace(changes=(), calls=()) for row in rows_of(Weight.QUIET, "noop", 10_000)]
    assert len(html.review(review_of(quiet))) < 2_500_000
