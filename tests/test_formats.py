"""The output formats: each is one file, found by its name, and imported where it is asked for alone."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest

import reconciler
from project import Project
from reconciler.cli import cli
from reconciler.cli.options import FormatName
from reconciler.views.formats import find, names_for
from test_start_up import imported_by

NEW_FORMAT = """
from reconciler.views.answers import DriftAnswer, PlanAnswer
from reconciler.views.formats import Channel, Format

FORMAT = Format(Channel.DOCUMENT)


@FORMAT.shows(PlanAnswer)
def _(answer, context):
    return "".join(f"{action.job};{action.kind}\\n" for action in answer.plan.actions)
"""


def commands() -> dict[str, click.Command]:
    """Each command by its words, those of groups too."""
    context = click.Context(cli)
    found = {name: cli.get_command(context, name) for name in cli.list_commands(context)}
    for name, command in list(found.items()):
        if isinstance(command, click.Group):
            found |= {f"{name} {inner}": one for inner, one in command.commands.items()}
    return {name: command for name, command in found.items() if command is not None}


def format_of(command: click.Command) -> FormatName | None:
    """The type of the --format of a command, or None."""
    types = [parameter.type for parameter in command.params]
    return next((one for one in types if isinstance(one, FormatName)), None)


WITH_FORMATS = {name: found for name, command in commands().items() if (found := format_of(command))}


def test_a_new_format_is_one_file(tmp_path: Path) -> None:
    package = tmp_path / "site" / "reconciler"
    shutil.copytree(Path(reconciler.__file__ or "").parent, package)
    (package / "views" / "pairs.py").write_text(NEW_FORMAT)
    (tmp_path / "jobs.yaml").write_text(
        "apiVersion: reconciler/v1\ntarget: {engine: sandbox}\njobs:\n  a: {state: running}\n  b: {state: absent}\n"
    )

    def run(*words: str) -> "subprocess.CompletedProcess[str]":
        env = {**os.environ, "PYTHONPATH": str(package.parent), "XDG_CACHE_HOME": str(tmp_path / "cache")}
        command = [sys.executable, "-m", "reconciler", *words]
        return subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)

    shown = run("plan", "--format", "pairs")
    assert (shown.returncode, shown.stdout, shown.stderr) == (0, "a;run\nb;delete\n", "")
    assert "|pairs]" in run("plan", "--help").stdout
    # It shows plans, and nothing else.
    assert "pairs" not in run("drift", "--help").stdout
    refused = run("drift", "--format", "pairs")
    assert refused.returncode == 64
    assert "'pairs' is not one of 'text', 'github', 'html', 'json', 'markdown'" in refused.stderr
    # An error that it can't show is on stderr, as in any other format.
    failed = run("plan", "--format", "pairs", "none.yaml")
    assert (failed.returncode, failed.stdout) == (1, "")
    assert failed.stderr.startswith("error: none.yaml")


@pytest.mark.parametrize("command", WITH_FORMATS)
def test_every_command_with_formats_has_text_first_and_json(command: str) -> None:
    context = click.Context(cli)
    names = WITH_FORMATS[command].get_metavar(commands()[command].params[0], context)
    assert names.startswith("[text|")
    assert "json" in names.strip("[]").split("|")


def test_the_formats_are_those_that_the_readme_names() -> None:
    assert names_for() == ["text", "github", "html", "json", "junit", "markdown", "sarif"]


@pytest.mark.parametrize("name", ["answers", "edits", "formats", "__init__", "", "no such", "../text", "text.FORMAT"])
def test_what_is_no_format_is_refused(name: str, tmp_path: Path) -> None:
    assert find(name) is None
    project = Project(tmp_path)
    project.write("a: {state: running}")
    run = project.run("plan", "--format", name)
    assert run.code == 64
    assert "is not one of 'text', 'github', 'html', 'json', 'markdown'" in run.err


@pytest.mark.parametrize("name", ["json", "github", "markdown", "html"])
def test_no_format_but_the_one_that_is_asked_for_is_imported(name: str, tmp_path: Path) -> None:
    Project(tmp_path).write("a: {state: running}")
    formats = {f"reconciler.views.{one}" for one in names_for()}
    shared = {"reconciler.views.text"} if name == "github" else set()  # it shows requests as text does
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
