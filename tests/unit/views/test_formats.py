"""The output formats: each format is one file, found by its name, and imported only for its own name."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest

import golden
import reconciler
from checkout import ROOT
from imports import imported_by
from project import Project
from reconciler.cli import cli
from reconciler.cli.options import FormatName
from reconciler.engines.bytenite.plugin import PLUGIN
from reconciler.model.errors import ManifestError, Refused
from reconciler.model.executions import Execution
from reconciler.model.jobs import Desired, Job, Observation, Status, Verb
from reconciler.model.outcomes import ActionOutcome, Outcome
from reconciler.model.places import Diagnostic, Position
from reconciler.model.plan import ActionKind, Request
from reconciler.model.plan_json import plan_to_json
from reconciler.rules.drift import Drift, compare
from reconciler.rules.matching import Subject
from reconciler.rules.review import Review
from reconciler.usecases.runs import JobRun
from reconciler.usecases.status import JobStatus
from reconciler.usecases.wait import Waited
from reconciler.views import answers
from reconciler.views.answers import (
    DiffAnswer,
    DriftAnswer,
    FailureAnswer,
    HistoryAnswer,
    HistoryCheckAnswer,
    LogAnswer,
    OutcomeAnswer,
    PlanAnswer,
    RecordAnswer,
    RecordsAnswer,
    RequestsAnswer,
    RunsAnswer,
    StatusAnswer,
    ValidationAnswer,
    WaitAnswer,
)
from reconciler.views.formats import Channel, ViewContext, find, names_for

(NEW_FORMAT,) = re.findall(r"```python\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), re.DOTALL)


def commands() -> dict[str, click.Command]:
    """Return each command by its words, the commands of groups included."""
    context = click.Context(cli)
    found = {name: cli.get_command(context, name) for name in cli.list_commands(context)}
    for name, command in list(found.items()):
        if isinstance(command, click.Group):
            found |= {f"{name} {inner}": one for inner, one in command.commands.items()}
    return {name: command for name, command in found.items() if command is not None}


def format_of(command: click.Command) -> FormatName | None:
    """Return the type of a command's --format, or None."""
    types = [parameter.type for parameter in command.params]
    return next((one for one in types if isinstance(one, FormatName)), None)


WITH_FORMATS = {name: found for name, command in commands().items() if (found := format_of(command))}


def test_a_new_format_is_one_file(tmp_path: Path) -> None:
    package = tmp_path / "site" / "reconciler"
    shutil.copytree(Path(reconciler.__file__ or "").parent, package)
    (package / "views" / "lines.py").write_text(NEW_FORMAT)
    (tmp_path / "jobs.yaml").write_text(
        "apiVersion: reconciler/v1\ntarget: {engine: sandbox}\njobs:\n  a: {state: running}\n  b: {state: absent}\n"
    )

    def run(*words: str) -> "subprocess.CompletedProcess[str]":
        env = {**os.environ, "PYTHONPATH": str(package.parent), "XDG_CACHE_HOME": str(tmp_path / "cache")}
        command = [sys.executable, "-m", "reconciler", *words]
        return subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)

    shown = run("plan", "--format", "lines")
    assert (shown.returncode, shown.stdout, shown.stderr) == (0, "run a\ndelete b\n", "")
    assert "|lines|" in run("plan", "--help").stdout
    # The format shows plans, and nothing else.
    assert "|lines|" not in run("drift", "--help").stdout
    refused = run("drift", "--format", "lines")
    assert refused.returncode == 64
    assert f"'lines' is not one of {', '.join(map(repr, names_for(DriftAnswer)))}" in refused.stderr
    # The format has no view of errors, so an error is on stderr.
    failed = run("plan", "--format", "lines", "none.yaml")
    assert (failed.returncode, failed.stdout) == (1, "")
    assert failed.stderr.startswith("error: none.yaml")


@pytest.mark.parametrize("command", WITH_FORMATS)
def test_every_command_with_formats_has_text_first_and_json(command: str) -> None:
    context = click.Context(cli)
    names = WITH_FORMATS[command].get_metavar(commands()[command].params[0], context)
    assert names.startswith("[text|")
    assert "json" in names.strip("[]").split("|")


def test_every_format_that_a_page_names_exists() -> None:
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    named = {name for page in pages for name in re.findall(r"--format (\w+)", page.read_text(encoding="utf-8"))}
    assert {"github", "json", "markdown"} <= named
    assert named <= set(names_for())
    assert names_for()[0] == "text"


@pytest.mark.parametrize("name", ["answers", "edits", "formats", "__init__", "", "no such", "../text", "text.FORMAT"])
def test_what_is_no_format_is_refused(name: str, tmp_path: Path) -> None:
    assert find(name) is None
    project = Project(tmp_path)
    project.write("a: {state: running}")
    run = project.run("plan", "--format", name)
    assert run.code == 64
    assert f"is not one of {', '.join(map(repr, names_for(PlanAnswer)))}" in run.err


@pytest.mark.parametrize("name", ["json", "github", "markdown", "html"])
def test_no_format_but_the_one_that_is_asked_for_is_imported(name: str, tmp_path: Path) -> None:
    Project(tmp_path).write("a: {state: running}")
    formats = {f"reconciler.views.{one}" for one in names_for()}
    shared = {"reconciler.views.text"} if name == "github" else set()  # the format shows requests as `text` does
    imported = imported_by(["plan", "--format", name], tmp_path)
    assert imported & formats == {f"reconciler.views.{name}", *shared}


@pytest.mark.parametrize(("name", "begins"), [("json", "{"), ("sarif", "{"), ("junit", "<?xml"), ("github", "::error")])
def test_wrong_words_are_told_in_the_format_that_was_asked_for(name: str, begins: str, tmp_path: Path) -> None:
    project = Project(tmp_path)
    for run in (
        project.run("validate", "--format", name, "--nonsense"),
        project.run("validate", f"--format={name}", "--nonsense"),
        project.run("validate", "--nonsense", RECONCILER_VALIDATE_FORMAT=name),
    ):
        assert run.code == 64
        assert run.out.startswith(begins)
        assert "nonsense" in run.out
        assert run.err.startswith("error: No such option")


# Each format with each kind of answer


def reviewed(*, with_history: bool = False) -> Review:
    return golden.review()


FAULT = Diagnostic(Position("jobs.yaml", 3, 5), "unknown field: ##[error] ::warning::")
PLAN = golden.plan()
OUTCOMES = (
    ActionOutcome(PLAN.touching[0], Outcome.FAILED, ActionKind.RUN, error="##[error] no", request_id="req-1"),
    ActionOutcome(PLAN.touching[1], Outcome.SKIPPED, ActionKind.HOLD, note="skipped: it comes later"),
)
ENTRY = next(entry for entries in golden.HISTORIES.values() for entry in entries)
EXECUTION = Execution("host", 7, "2026-11-21T01:00:00Z", "2026-11-21T01:02:05.5Z", 3, "", "", 125.5, 0.25, 5 << 20, 2)
ROWS = [JobStatus("a", Desired.RUNNING, golden.STATE.jobs["caption-backfill"], Observation(Status.FAILED, "X"))]
DRIFT = Drift(
    PLAN.target,
    "lineage",
    3,
    None,
    ("jobs.yaml",),
    (compare(Subject(Job("a", "a", Desired.RUNNING, {}), None, PLUGIN.same_config), ROWS[0].observed),),
)
ANSWERS = [
    PlanAnswer(PLAN, Refused("a guard", "see `reconciler plan`"), reviewed),
    DiffAnswer(PLAN, "main", reviewed),
    DriftAnswer(DRIFT, reviewed),
    OutcomeAnswer(PLAN, OUTCOMES, frozenset(), False, lambda job: FAULT.position),
    RequestsAnswer(PLAN, [Request(Verb.ABORT, "POST https://api.example.org/jobs/x/abort")]),
    StatusAnswer(ROWS),
    RunsAnswer("a", [JobRun(2, "a-2", ENTRY, Status.FAILED, "##[error] exit code 3", EXECUTION)], 1),
    WaitAnswer([Waited("a", Observation(Status.FAILED, "", detail="::error::no", execution=EXECUTION), True)]),
    LogAnswer("a", "a-2", "##[error] no\n"),
    HistoryAnswer([entry for entries in golden.HISTORIES.values() for entry in entries]),
    HistoryCheckAnswer(3, ["line 2: damaged ##[error]"], ["a remark"]),
    RecordsAnswer(golden.STATE),
    RecordAnswer("caption-backfill", golden.STATE.jobs["caption-backfill"]),
    ValidationAnswer(ManifestError((FAULT,))),
    ValidationAnswer(None, 3, 1),
    FailureAnswer("Plan", ManifestError((FAULT,))),
    FailureAnswer("Plan", Refused("##[error] a guard", "a hint")),
]
KINDS: set[type] = {
    kind for kind in vars(answers).values() if isinstance(kind, type) and kind.__name__.endswith("Answer")
}


def test_there_is_an_answer_of_each_kind() -> None:
    assert {type(answer) for answer in ANSWERS} == KINDS


@pytest.mark.parametrize("kind", sorted(KINDS, key=repr))
def test_text_and_json_show_every_kind_of_answer(kind: type) -> None:
    assert "json" in names_for(kind)
    assert ("text" in names_for(kind)) is (kind is not FailureAnswer)  # errors of `text` are on stderr


SHOWN = [(name, answer) for name in names_for() for answer in ANSWERS if name in names_for(type(answer))]


@pytest.mark.parametrize(("name", "answer"), SHOWN, ids=lambda one: one if isinstance(one, str) else type(one).__name__)
def test_a_format_shows_an_answer_and_no_ci_log_finds_a_command_in_it(name: str, answer: object) -> None:
    format_ = find(name)
    assert format_ is not None
    shown = format_.render(answer, ViewContext())
    match format_.channel_of(answer):
        case Channel.DOCUMENT:
            assert shown.isascii() or name == "markdown"
            assert shown.endswith("\n")
            assert not re.search(r"##\w*\[", shown)
            assert not re.search(r"(?m)^\s*::", shown)
        case Channel.COMMANDS:
            lines = [line for line in shown.split("\n") if line]
            assert all(re.match(r"::(error|warning|notice) |(GET|POST|DELETE) https://", line) for line in lines)
        case Channel.TEXT | Channel.LINES | Channel.PAGES:  # the terminal escapes this text
            assert shown
            assert not shown.endswith("\n")


@pytest.mark.parametrize(("name", "answer"), SHOWN, ids=lambda one: one if isinstance(one, str) else type(one).__name__)
def test_commands_in_an_answer_are_complete_but_for_those_of_a_plan_that_can_be_saved(
    name: str, answer: object
) -> None:
    format_ = find(name)
    assert format_ is not None
    shown = format_.render(answer, ViewContext(complete=lambda text: text.replace("reconciler", "RECONCILER")))
    if format_.channel is Channel.TEXT:
        assert "RECONCILER" not in shown  # the terminal completes these commands
    elif isinstance(answer, PlanAnswer | RequestsAnswer) and name == "json":
        document = json.loads(shown)
        refused = document.pop("refused", None)
        assert refused == (
            {"message": "a guard", "hint": "see `RECONCILER plan`"} if type(answer) is PlanAnswer else None
        )
        assert document == json.loads(json.dumps(plan_to_json(PLAN)))
    else:
        assert "`reconciler" not in shown.replace("`reconciler schema`", "")  # the command takes no paths
