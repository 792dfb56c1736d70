"""Each row of the table in each format: a plan and a drift report say what is done, why, and what a person can do."""

import html as pages
import json
import re

import jsonschema
import pytest

from decisions import COLUMNS, subject_of
from reconciler.engines.bytenite.plugin import PLUGIN
from reconciler.manifest.schema import schema_text
from reconciler.model.jobs import Desired, Observation, Record, State, Status, Target
from reconciler.model.places import Position
from reconciler.model.plan import Plan
from reconciler.model.plan_json import plan_from_json, plan_to_json
from reconciler.model.steps import Step
from reconciler.rules.actions import make_plan
from reconciler.rules.drift import QUIET, Drift, compare, review_drift
from reconciler.rules.matching import Matching, Subject
from reconciler.rules.review import Review, review_plan
from reconciler.rules.table import TABLE
from reconciler.views.answers import DriftAnswer, PlanAnswer
from reconciler.views.formats import ViewContext, find, names_for

TARGET = Target("bytenite", "https://api.example.org")
CASES = [(status, column) for status in TABLE for column in COLUMNS if COLUMNS[column][0] in TABLE[status].asked]


def case_of(status: Status, column: str) -> tuple[Subject, Observation] | None:
    """The job with its record and observation; None if the record of the column does not lead to the row."""
    _, desired, record = COLUMNS[column]
    if record is not None and record.state not in TABLE[status].recorded:
        return None
    return subject_of(status, desired, record)


def planned(subject: Subject, observed: Observation) -> tuple[Plan, Review]:
    """The plan for one job, and its review."""
    jobs: dict[str, Record] = {} if subject.record is None else {"a": subject.record}
    state = State("ours", 3, TARGET, jobs)

    def wording(step: Step) -> tuple[object, ...]:
        return PLUGIN.wording(TARGET, step)

    plan = make_plan(
        Matching((subject,), {}, (), (), PLUGIN.same_config),
        {"a": observed},
        wording,  # type: ignore[arg-type]
        lambda name: True,
        state=state,
        manifest_digest="sha256:" + "0" * 64,
        commit=None,
        paths=["jobs.yaml"],
    )
    review = review_plan(
        plan, [subject], {"a": observed}, lambda name: Position("jobs.yaml", 3, 5), {}, state_at="s", refusal=None
    )
    return plan, review


def plain(text: str) -> str:
    """The text without the marks, the escapes and the line ends of any format."""
    text = re.sub(r"</?code>|%0A", " ", text)
    text = pages.unescape(text.replace("%25", "%"))
    return re.sub(r"[\s`\\→]+", "", text)


def said(reason: str) -> list[str]:
    """The parts of a reason, in the order of the reason, that any format has to show."""
    return [plain(part) for part in re.split(r"[:;] ", reason.removeprefix("error: "))]


@pytest.mark.parametrize("name", names_for(PlanAnswer))
@pytest.mark.parametrize(("status", "column"), CASES)
def test_a_plan_in_each_format_says_what_is_done_and_why(status: Status, column: str, name: str) -> None:
    case = case_of(status, column)
    if case is None:
        return
    plan, review = planned(*case)
    (action,) = plan.actions
    view = find(name)
    assert view is not None
    shown = view.render(PlanAnswer(plan, None, lambda with_history=False: review), ViewContext())
    if name == "json":
        document = json.loads(shown)
        jsonschema.validate(document, json.loads(schema_text("plan.schema.json")))
        assert plan_from_json(document) == plan
        assert document == plan_to_json(plan)
        shown = f"{document['actions'][0]['action']} {document['actions'][0]['reason']}"
    if action.kind == "noop" and name != "json":
        return  # a job that is as recorded has no line
    word = action.kind.value if name in ("json", "text") or not action.error else "error"
    assert word in shown
    assert all(part in plain(shown) for part in said(action.reason)), shown


@pytest.mark.parametrize("name", names_for(DriftAnswer))
@pytest.mark.parametrize(("status", "column"), CASES)
def test_drift_in_each_format_says_what_was_found_and_the_way_out(status: Status, column: str, name: str) -> None:
    case = case_of(status, column)
    if case is None:
        return
    subject, observed = case
    finding = compare(subject, observed)
    drift = Drift(TARGET, "ours", 3, None, ("jobs.yaml",), (finding,))
    review = review_drift(drift, lambda name: Position("jobs.yaml", 3, 5), {}, state_at="s")
    view = find(name)
    assert view is not None
    shown = view.render(DriftAnswer(drift, lambda with_history=False: review), ViewContext())
    if name == "json":
        document = json.loads(shown)
        jsonschema.validate(document, json.loads(schema_text("drift.schema.json")))
        job = document["jobs"][0]
        shown = f"{job['found']} {job['reason']} {job['wayOut']}"
    elif finding.kind in QUIET:
        return
    for part in (finding.kind.value, *said(finding.reason), *said(finding.way_out)):
        assert plain(part) in plain(shown), shown


def test_the_cases_reach_every_row_of_the_table() -> None:
    reached = {status for status, column in CASES if case_of(status, column) is not None}
    assert reached == set(TABLE)
    assert {Desired.RUNNING, Desired.ABORTED, Desired.ABSENT} <= {job.state for _, job, _ in COLUMNS.values()}
