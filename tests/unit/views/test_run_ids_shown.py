"""Run ids, and how runs ended: each format names the run that a line is about."""

import json
import re

import jsonschema
import pytest

import golden
from reconciler.host.safe_text import _MARKS
from reconciler.manifest.schema import schema_text
from reconciler.model.history import ENDED, HistoryEntry
from reconciler.model.jobs import Desired, Observation, Record, State, Status, Verb
from reconciler.model.plan import Action, ActionKind, Request
from reconciler.model.plan_json import plan_from_json, plan_to_json
from reconciler.rules.review import Row, Weight
from reconciler.usecases.status import JobStatus
from reconciler.views import html, markdown
from reconciler.views.answers import HistoryAnswer, RecordAnswer, RecordsAnswer, StatusAnswer
from reconciler.views.formats import ViewContext, find

AT = "2026-11-28T14:00:00Z"
RUN = HistoryEntry(AT, "ada", None, "run", "succeeded", 200, job="nightly", id="n1", op="1", run=7)
END = HistoryEntry(AT, "ada", None, ENDED, "succeeded", job="nightly", id="n1", op="2", run=7, end="failed")
ACCEPT = HistoryEntry(AT, "ada", None, "accept", "succeeded", op="3")
RECORD = Record("n1", Desired.RUNNING, run=7, end=Status.FAILED)
BY_HAND = Record("n2", Desired.RUNNING, end=Status.COMPLETE)
NEW = Record("n3", None)


def shown(name: str, answer: object, columns: int | None = None) -> str:
    view = find(name)
    assert view is not None
    return view.render(answer, ViewContext(columns=columns))


def cells(table: str, *names: str) -> list[tuple[str, ...]]:
    """The cells of some columns of a table, from the second line on."""
    head, *rows = re.sub(_MARKS, "", table).splitlines()
    starts = {name: head.index(name) for name in names}
    return [tuple(row[starts[name] :].split("  ")[0] for name in names) for row in rows]


def test_the_history_names_the_run_of_each_entry_and_how_it_ended() -> None:
    answer = HistoryAnswer([END, RUN, ACCEPT])
    assert cells(shown("text", answer), "RUN", "ACTION", "OUTCOME") == [
        ("n1-7", "ended", "failed"),
        ("n1-7", "run", "succeeded"),
        ("–", "accept", "succeeded"),
    ]
    narrow = shown("text", answer, columns=40)
    assert narrow.count("by ada, run id n1-7") == 2
    assert "nightly  ended failed" in narrow
    document = json.loads(shown("json", answer))
    jsonschema.validate(document, json.loads(schema_text("history.schema.json")))
    assert [(one["run"], one["runId"], one["end"]) for one in document["entries"]] == [
        (7, "n1-7", "failed"),
        (7, "n1-7", ""),
        (0, "", ""),
    ]


def test_a_run_that_was_withdrawn_has_not_succeeded() -> None:
    withdrawn = END._replace(end="", reason="run 7: withdrawn by the engine before it began")
    assert cells(shown("text", HistoryAnswer([withdrawn])), "ACTION", "OUTCOME") == [("ended", "withdrawn")]
    assert "<b>ended</b> withdrawn" in html._entry(withdrawn)


def test_the_status_names_the_last_run_and_how_it_ended() -> None:
    seen = Observation(Status.COMPLETE)
    records = {"a": RECORD, "b": BY_HAND, "c": NEW, "d": None}
    answer = StatusAnswer([JobStatus(name, Desired.RUNNING, record, seen) for name, record in records.items()])
    assert [cell for (cell,) in cells(shown("text", answer), "LAST RUN")] == ["n1-7, failed", "–, complete", "–", "–"]
    document = json.loads(shown("json", answer))
    jsonschema.validate(document, json.loads(schema_text("status.schema.json")))
    assert [(job["runId"], job["end"]) for job in document["jobs"]] == [
        ("n1-7", "failed"),
        ("", "complete"),
        ("", ""),
        ("", ""),
    ]


def test_the_records_name_the_last_run() -> None:
    state = State("l", 1, golden.STATE.target, {"a": RECORD, "c": NEW})
    assert [cell for (cell,) in cells(shown("text", RecordsAnswer(state)), "LAST RUN")] == ["n1-7, failed", "–"]
    lines = shown("text", RecordAnswer("a", RECORD)).splitlines()
    assert {"  run: n1-7", "  end: failed"} <= set(lines)
    assert json.loads(shown("json", RecordAnswer("a", RECORD)))["run"] == 7
    assert not [line for line in shown("text", RecordAnswer("b", BY_HAND)).splitlines() if line.startswith("  run:")]


@pytest.mark.parametrize("run_id", ["n1-8", ""])
def test_a_plan_names_the_run_that_its_calls_are_about(run_id: str) -> None:
    calls = (Request(Verb.RUN, "start it"),)
    action = Action("nightly", "n1", ActionKind.RUN, "first run", calls=calls, run_id=run_id)
    plan = golden.plan()._replace(actions=(action,))
    document = plan_to_json(plan)
    jsonschema.validate(document, json.loads(schema_text("plan.schema.json")))
    assert plan_from_json(document) == plan
    assert document["actions"][0].get("runId", "") == run_id
    row = Row("nightly", "n1", "run", Weight.STARTS, "first run", calls=calls, record=RECORD, run_id=run_id)
    review = golden.review()._replace(rows=(row._replace(history=[END, RUN]),))
    page = html.review(review)
    assert ("<small>n1-8</small>" in page) is bool(run_id)
    assert "<small>n1-7, failed</small>" in page
    assert '<li class="wrong"><time>2026-11-28T14:00:00Z</time> <b>ended</b> failed, run id n1-7, by ada' in page
    assert ("@@ run nightly (n1-8) @@" in markdown.review(review)) is bool(run_id)
