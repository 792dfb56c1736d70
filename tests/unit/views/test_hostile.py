"""Texts from a manifest or a service stay where a format shows them. A real parser of each format checks that."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from xml.etree import ElementTree

import pytest
from markdown_it import MarkdownIt

from golden import plan as golden_plan
from project import Project
from reconciler.host.safe_text import field, log_field, printable
from reconciler.model.config_paths import path_text
from reconciler.model.errors import ReconcilerError
from reconciler.model.history import HistoryEntry
from reconciler.model.jobs import Config, Desired, Doubt, Job, Observation, Record, Status, Verb
from reconciler.model.outcomes import ActionOutcome, Outcome
from reconciler.model.places import Diagnostic, Position
from reconciler.model.plan import NULL, Action, ActionKind, Change, Narrowed, Request
from reconciler.model.plan_json import plan_from_json, plan_to_json
from reconciler.rules.review import Review, Row, Weight, sorted_rows
from reconciler.testing.hostile import TEXTS
from reconciler.views import github, html, junit, markdown, sarif, text
from reconciler.views import json as render_json

OURS = {"<sub>", "</sub>"}
FOLDS = re.compile(r"</?details>|<details><summary>[\w ]+</summary>|<!-- reconciler:plan:[0-9a-f]{16} -->")


def review(hostile_text: str) -> Review:
    """Return a review in which every text from outside is `hostile_text`."""
    config: Config = {hostile_text: 1, "env": {hostile_text: [hostile_text], "in all": {hostile_text: hostile_text}}}
    job = Job(hostile_text, hostile_text, Desired.RUNNING, config, run_token=hostile_text)
    record = Record(hostile_text, Desired.RUNNING, {hostile_text: 2}, submitted_at=hostile_text)
    doubt = Doubt(hostile_text, Verb.RUN, {}, hostile_text, None, hostile_text, hostile_text)
    seen = Observation(
        Status.FAILED, hostile_text, {hostile_text: 3}, submitted_at=f"{hostile_text}!", detail=hostile_text
    )
    row = Row(
        hostile_text,
        f"{hostile_text}.",
        "delete",
        Weight.ENDS,
        hostile_text,
        hostile_text,
        False,
        (
            Change(hostile_text, hostile_text, f"{hostile_text}!"),
            Change("x", None, hostile_text),
            Change(path_text(("config", hostile_text)), {hostile_text: [hostile_text]}, NULL),
        ),
        (Request(Verb.RUN, f"POST /jobs/{hostile_text}/run", {hostile_text: hostile_text}),),
        job,
        record,
        seen,
        Position(hostile_text, 3, 4),
        [HistoryEntry(hostile_text, hostile_text, hostile_text, hostile_text, hostile_text, 200, hostile_text)],
    )
    rows = [
        row._replace(weight=weight, word=word, job=f"{hostile_text}{number}")
        for number, (weight, word) in enumerate(
            zip(Weight, ("error", "delete", "run", "wait", "hold", "gone", "adopt", "left", "noop"), strict=True)
        )
    ]
    rows[3] = rows[3]._replace(wrong=True, record=record._replace(doubt=doubt))
    facts = (
        ("Manifest", hostile_text),
        ("Target", hostile_text),
        ("Observed", hostile_text),
        ("Commit", hostile_text),
        ("State", hostile_text),
    )
    return Review(
        "Plan",
        "0123456789abcdef",
        hostile_text,
        facts,
        sorted_rows(rows),
        hostile_text,
        hostile_text,
        scope=hostile_text,
    )


def faults(hostile_text: str) -> list[Diagnostic]:
    file = hostile_text.encode(errors="replace").decode()  # no file name holds half of a surrogate pair
    return [Diagnostic(Position(file, 1, 2), hostile_text), Diagnostic(Position(f"a/{file}", 3, 4), hostile_text)]


class Skeleton(HTMLParser):
    """The elements of a page without their text.

    Elements for code are left out, since backticks in a text create them.
    """

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[Any] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag != "code":
            kept = [(name, "" if name in ("id", "href") else value) for name, value in attrs]
            self.parts.append((tag, kept))
        for name, value in attrs:
            if name in ("id", "href") and value and value.lstrip("#").startswith("job-"):
                assert re.fullmatch(r"#?job-[A-Za-z0-9_.~%-]*", value), value

    def handle_endtag(self, tag: str) -> None:
        if tag != "code":
            self.parts.append(f"/{tag}")

    def handle_comment(self, data: str) -> None:
        self.parts.append(("comment", data))

    def handle_decl(self, decl: str) -> None:
        self.parts.append(("decl", decl))

    def handle_pi(self, data: str) -> None:
        self.parts.append(("pi", data))

    def unknown_decl(self, data: str) -> None:
        self.parts.append(("unknown", data))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_list_is_long_enough() -> None:
    assert len(set(TEXTS)) == len(TEXTS) >= 40


@pytest.mark.parametrize("hostile_text", TEXTS)
def test_a_page_has_the_same_skeleton_whatever_is_said(hostile_text: str) -> None:
    page = html.review(review(hostile_text))
    assert page.isascii()
    found = Skeleton(page)
    assert found.parts == Skeleton(html.review(review("x"))).parts
    assert found.text.replace("`", "").count(field(hostile_text).replace("`", "")) >= 6
    assert not re.search(r"##\w*\[", page)
    assert not any(line.lstrip().startswith("::") for line in page.splitlines())


@pytest.mark.parametrize("hostile_text", TEXTS)
def test_a_comment_has_the_same_blocks_whatever_is_said(hostile_text: str) -> None:
    comment = markdown.review(review(hostile_text))
    parser = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    blocks = parser.parse(comment)
    assert [b.type for b in blocks] == [b.type for b in parser.parse(markdown.review(review("x")))]
    for block in blocks:
        if block.type == "html_block":
            assert all(FOLDS.fullmatch(line) for line in block.content.split("\n") if line), block.content
        for part in block.children or ():
            assert part.type in {"text", "code_inline", "strong_open", "strong_close", "html_inline", "softbreak"}
            if part.type == "html_inline":
                assert part.content in OURS
            if part.type == "text":
                rest = part.content.removeprefix("[!CAUTION]").lower()
                assert not re.search(r"[@#!%&~^$]\w|://|www\.|gh-\d|:[a-z+]+:", rest), rest
    shown = [part.content for block in blocks for part in block.children or () if part.type == "code_inline"]
    assert log_field(f"{hostile_text}0"[:301])[:300].replace("<!--", "\\x3c!--").rstrip() in {
        one.rstrip("…") for one in shown
    }


@pytest.mark.parametrize("hostile_text", TEXTS)
def test_no_line_of_a_comment_is_a_command_and_its_marker_is_its_last_line_alone(hostile_text: str) -> None:
    lines = markdown.review(review(hostile_text)).splitlines()
    marker = "<!-- reconciler:plan:0123456789abcdef -->"
    assert lines[-1] == marker
    assert [line for line in lines if "<!--" in line] == [marker]
    assert not [line for line in lines if re.match(r"\s*(/|::|@\w|atlantis|##\w*\[)", line)]
    assert not any(re.search(r"##\w*\[", line) for line in lines)


@pytest.mark.parametrize("hostile_text", TEXTS)
def test_a_junit_report_holds_what_was_said_and_nothing_else(hostile_text: str) -> None:
    for report, cases in (
        (junit.report(faults(hostile_text)), 2),
        (junit.error(ReconcilerError(hostile_text, hostile_text)), 1),
    ):
        assert report.isascii()
        root = ElementTree.fromstring(report)
        assert [element.tag for element in root.iter()].count("testcase") == cases
        assert {element.tag for element in root.iter()} <= {"testsuites", "testsuite", "testcase", "failure", "error"}
        [first, *_] = root.iter("failure" if cases == 2 else "error")
        assert first.get("message") == field(hostile_text)
        assert field(hostile_text) in str(first.text)
        assert not re.search(r"##\w*\[", report)


@pytest.mark.parametrize("hostile_text", TEXTS)
def test_a_sarif_log_holds_what_was_said_and_its_uris_are_encoded(hostile_text: str) -> None:
    log = render_json.dumps(sarif.report(faults(hostile_text)))
    assert log.isascii()
    results = json.loads(log)["runs"][0]["results"]
    assert len(results) == 2
    for result in results:
        assert not re.search(r"\]\(|(?<!\{)\{\d+\}", result["message"]["text"])
        uri = result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
        assert re.fullmatch(r"(file:///)?[A-Za-z0-9_.~%/-]+", uri)
    if "/" not in hostile_text and "\\" not in hostile_text:
        assert unquote(uri) == f"a/{hostile_text}".encode(errors="replace").decode()


@pytest.mark.parametrize("hostile_text", TEXTS)
def test_an_annotation_says_what_was_said_at_its_own_place_and_level(hostile_text: str) -> None:
    annotations = [
        *github.diagnostics(faults(hostile_text)),
        *github.review(review(hostile_text)),
        github.error(ReconcilerError(hostile_text, hostile_text)),
    ]
    lines = github.commands(annotations)
    written = "\n".join(map(log_field, lines)).split("\n")
    in_order = [one for level in github.Level for one in annotations if one.level is level]
    for line, annotation in zip(written, in_order, strict=True):
        level, title, place, message = runner(line)
        assert level == annotation.level
        assert title == log_field(annotation.title[:1000])
        assert message.split("\n") == [log_field(text[:1000]) for text in annotation[2:4] if text]
        assert set(place) == ({"file", "line", "col"} if annotation.place else set())
        if annotation.place:
            assert place["file"] == log_field(annotation.place.file[:1000])


def runner(line: str) -> tuple[str, str, dict[str, str], str]:
    """Return a line as the Actions runner reads it (`ActionCommand.TryParseV2`)."""
    assert line.startswith("::")
    end = line.index("::", 2)
    level, _, listed = line[2:end].partition(" ")
    properties = {key: unescaped(value) for key, value in (one.split("=", 1) for one in listed.split(","))}
    return level, properties.pop("title"), properties, unescaped(line[end + 2 :])


def unescaped(text: str) -> str:
    for code, char in (("%3A", ":"), ("%2C", ","), ("%0D", "\r"), ("%0A", "\n"), ("%25", "%")):
        text = text.replace(code, char)
    return text


@pytest.mark.parametrize("hostile_text", TEXTS)
def test_a_plan_says_the_same_after_json_and_is_harmless_as_text(hostile_text: str) -> None:
    action = Action(
        hostile_text,
        hostile_text,
        ActionKind.RUN,
        hostile_text,
        (Change(hostile_text, hostile_text, hostile_text),),
        (Request(Verb.RUN, hostile_text, {hostile_text: 1}),),
        hostile_text,
    )
    narrowed = Narrowed(1, 2, (hostile_text,), (hostile_text,))
    plan = golden_plan()._replace(
        actions=(action,), undeclared=(hostile_text,), paths=(hostile_text,), commit=hostile_text, narrowed=narrowed
    )
    dumped = render_json.dumps(plan_to_json(plan))
    assert dumped.isascii()
    assert plan_from_json(json.loads(dumped)) == plan
    shown = printable(text.plan(plan, calls=True), color=False)
    assert not [line for line in shown.splitlines() if line.lstrip().startswith("::")]
    assert not re.search(r"##\w*\[", shown)
    assert shown.count("\n") == printable(text.plan(plan._replace(actions=(action,)), calls=True), color=False).count(
        "\n"
    )


@pytest.mark.parametrize("hostile_text", TEXTS)
def test_an_outcome_is_annotated_without_breaking_out(hostile_text: str) -> None:
    action = Action(hostile_text, hostile_text, ActionKind.RUN, hostile_text)
    outcome = ActionOutcome(
        action, Outcome.FAILED, ActionKind.RUN, error=hostile_text, status=500, request_id=hostile_text
    )
    [line] = github.commands(github.outcomes([outcome], lambda job: Position(hostile_text, 1, 1)))
    level, _, place, _ = runner(log_field(line))
    assert (level, place["line"]) == ("error", "1")
    assert log_field(line).count("\n") == 0


def test_hostile_names_go_through_every_command(tmp_path: Path) -> None:
    project = Project(tmp_path)
    names = [name for name in TEXTS if name.strip() == name and len(name) <= 128 and not re.search("[\0-\x1f]", name)]
    names = [name for name in names if name.encode(errors="ignore").decode() == name]
    assert len(names) >= 40
    quoted = ["".join(c if c.isascii() and c not in '"\\' else f"\\U{ord(c):08x}" for c in name) for name in names]
    lines = [f'"{name}": {{id: job-{at}, state: running}}' for at, name in enumerate(quoted)]
    (tmp_path / "jobs.yaml").write_text(
        "apiVersion: reconciler/v1\ntarget: {engine: sandbox}\njobs:\n" + "".join(f"  {line}\n" for line in lines)
    )
    planned = project.run("plan", "--format", "json").json
    assert sorted(action["job"] for action in planned["actions"]) == sorted(names)
    page = project.run("plan", "--format", "html")
    assert page.code == 0, page.err
    assert len([part for part in Skeleton(page.out).parts if part[0] == "tr"]) >= len(names)
    comment = project.run("plan", "--format", "markdown")
    assert comment.out.count("\n- **run** ") == len(names)
    annotated = project.run("plan", "--format", "github")
    assert [runner(line)[0] for line in annotated.out.splitlines()] == ["notice"] * 10
    assert not [line for line in annotated.err.splitlines() if line.startswith("::")]
