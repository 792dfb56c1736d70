"""The commands that messages name: each parses, and carries what the command line said of where it is about."""

import ast
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

import reconciler
from project import Project, served_project
from reconciler.cli import cli
from reconciler.model.commands import VALUED, WITH_PATHS, Given, command, settling, with_place

FOLDER = Path(reconciler.__file__).parent
PATHS, STATE = "fleet one.yaml", "st ate.json"
NO_READS = ("read:404", "list:404")
VERBS = "|".join(cli.list_commands(click.Context(cli)))


def commands_in(text: str) -> list[list[str]]:
    """The commands in a text: between backticks, or at the end of a line after a colon."""
    inline = re.findall(r"`reconciler ((?:[^`'\n]|'[^'\n]*')*)`", text)
    at_end = re.findall(rf"(?:: |, or )reconciler ((?:{VERBS})\b[^`\n]*)$", text, re.MULTILINE)
    return [shlex.split(found) for found in [*inline, *at_end]]


def parsed(words: list[str]) -> dict[str, Any]:
    """What the command line makes of a command. Raises `click.UsageError` where it is none."""
    context = click.Context(cli, info_name="reconciler")
    group: click.Command = cli
    while isinstance(group, click.Group):
        _, inner, words = group.resolve_command(context, words)
        assert inner is not None
        group = inner
    with group.make_context(str(group.name), list(words), parent=context) as made:
        return {"command": group.name, **made.params}


@pytest.mark.parametrize(
    ("text", "completed"),
    [
        (f"do: {command('state accept')}", "do: reconciler state accept 'a b.yaml' --state s --endpoint e"),
        (f"{command('plan')} shows it", "`reconciler plan 'a b.yaml' --state s --endpoint e` shows it"),
        (command("fmt", "one.yaml"), "reconciler fmt one.yaml"),
        (command("validate"), "reconciler validate 'a b.yaml'"),
        (command("init"), "reconciler init"),
        (command("state accept", options=["--help"]), "reconciler state accept --help"),
        (command("apply", options=["--plan", "p q"]), "reconciler apply --plan 'p q' --state s --endpoint e"),
        (command("state mv", "a", "b"), "reconciler state mv a b 'a b.yaml' --state s --endpoint e"),
        (command("plan", options=["--state", "t"]), "reconciler plan --state t 'a b.yaml' --endpoint e"),
        (command("state show", "-x"), "reconciler state show --state s --endpoint e -- -x 'a b.yaml'"),
        (
            command("resolve", "a", options=["--ended", "failed"]),
            "reconciler resolve a --ended failed 'a b.yaml' --state s --endpoint e",
        ),
        (
            command("apply", options=["--wait", "3600"]),
            "reconciler apply --wait 3600 'a b.yaml' --state s --endpoint e",
        ),
        (command("state show", "a`b"), "reconciler state show 'a`b' 'a b.yaml' --state s --endpoint e"),
        (command("state show", "it's"), """reconciler state show 'it'"'"'s' 'a b.yaml' --state s --endpoint e"""),
        ("a name with `reconciler x", "a name with `reconciler x"),
        ("this reconciler can't read it", "this reconciler can't read it"),
    ],
)
def test_a_command_gets_what_was_given_and_nothing_else(text: str, completed: str) -> None:
    assert with_place(text, Given(("a b.yaml",), "s", "e")) == completed


def leaves(group: click.Group, before: str = "") -> Iterator[tuple[str, click.Command]]:
    """Each command that is no group, by its words."""
    context = click.Context(group)
    for name in group.list_commands(context):
        inner = group.get_command(context, name)
        assert inner is not None
        words = f"{before}{name}"
        yield from leaves(inner, f"{words} ") if isinstance(inner, click.Group) else [(words, inner)]


def test_a_value_of_an_option_is_not_taken_for_a_path() -> None:
    options = {
        name
        for verb, found in leaves(cli)
        for one in found.params
        if verb in WITH_PATHS and isinstance(one, click.Option) and not one.is_flag
        for name in one.opts
        if name.startswith("--")
    }
    assert options == VALUED


def test_a_folder_is_not_taken_for_a_job_of_the_history(tmp_path: Path) -> None:
    folder = tmp_path / "jobs"
    folder.mkdir()
    completed = with_place(command("history"), Given((str(folder),)))
    assert completed == f"reconciler history {folder}/"
    assert with_place(command("history", "a"), Given((str(folder),))) == f"reconciler history a {folder}"


def literals() -> Iterator[tuple[str, str]]:
    """Each text in the program that may name a command, and where it stands; docstrings and help are left out."""
    for path in sorted(FOLDER.rglob("*.py")):
        tree = ast.parse(path.read_text())
        nodes = list(ast.walk(tree))
        prose = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
        for node in nodes:
            if isinstance(node, ast.Constant) and type(node.value) is str and id(node) not in prose:
                yield f"{path.relative_to(FOLDER)}:{node.lineno}", node.value


def test_no_message_names_a_command_in_words_of_its_own() -> None:
    """A command stands between backticks, where it gets paths, --state and --endpoint; `command` writes it so."""
    own = {"usecases/init.py", "model/commands.py", "cli/init.py", "engines/sandbox/server.py", "views/junit.py"}
    bare = [
        (where, text)
        for where, text in literals()
        if where.partition(":")[0] not in own and re.search(rf"(?<!`)\breconciler ({VERBS})\b", text)
    ]
    assert bare == []


def test_each_command_that_is_written_out_parses() -> None:
    own = ("model/commands.py", "usecases/init.py")
    texts = [(where, text) for where, text in literals() if not where.startswith(own)]
    found = [(where, words) for where, text in texts for words in commands_in(text)]
    assert len(found) > 10
    for where, words in found:
        assert parsed(words), where


def advised_by(project: Project) -> Iterator[tuple[str, str]]:
    """What commands say that are about a manifest, a state and a service other than the default, and of which form."""
    assert project.server is not None
    where = [PATHS, "--state", STATE, "--endpoint", project.server.endpoint]
    state = project.folder / STATE

    def run(*words: str, place: list[str] = where) -> tuple[str, str]:
        done = project.run(*words, *place)
        form = words[words.index("--format") + 1] if "--format" in words else "text"
        if form == "html":
            return words[0], ""
        return words[0], f"{done.out}\n{done.err}" if form != "json" else "\n".join(texts_of(done.json))

    project.write("it's: {id: a, state: running}\nb: {state: running}\nc: {state: running}", name=PATHS)
    yield run("apply", "--yes")
    for form in ("text", "markdown", "github"):
        yield run("plan", "--format", form)
    yield run("plan", "--target", "nothing")
    yield run("plan", "--target", "nothing", "--format", "json")
    yield run("plan", "--out", "my plan.json")
    yield run("state", "forget", "it's")
    yield run("state", "show", "nobody")
    yield run("history", "nobody")
    yield run("resolve", "it's", "--applied")
    yield run("resolve", "it's", "--applied")
    yield run("apply", "--yes", "--target", "b", "--settle", "0")
    yield run("rerun", "it's")
    yield run("diff", "HEAD", "HEAD")
    yield run("import", "it's=zzz")
    project.write("b: {id: b2, state: running}\nc: {state: running}", name=PATHS)
    yield run("plan")
    yield run("resolve", "b", "--applied")
    yield run("history", "b")
    with (project.folder / PATHS).open("a") as manifest:
        manifest.write("<<<<<<< ours\n=======\n>>>>>>> theirs\n")
    yield run("state", "list")
    project.write("b: {id: b2, state: running}\nc: {state: running}", name=PATHS)
    text = state.read_text()
    state.write_text(text.replace('"id": "a"', '"id": "z"'))
    yield run("plan")
    yield run("plan", "--format", "json")
    state.write_text(f"<<<<<<< ours\n{text}")
    yield run("plan")
    state.write_text("{}")
    yield run("plan")
    state.write_text(text)
    yield run("plan", place=[PATHS, "--state", STATE, "--endpoint", "http://127.0.0.1:1/v1/customer"])


def texts_of(document: object) -> Iterator[str]:
    match document:
        case str():
            yield document
        case dict():
            for value in document.values():
                yield from texts_of(value)
        case list():
            for value in document:
                yield from texts_of(value)


def test_the_commands_that_errors_name_parse_and_are_about_the_same(tmp_path: Path) -> None:
    with served_project(tmp_path, "run:503:after", *NO_READS) as project:
        assert project.server is not None
        named: dict[str, int] = {}
        for by, text in advised_by(project):
            for words in commands_in(text.replace("\\`", "`")):
                made = parsed(words)
                verb = made["command"]
                named[verb] = named.get(verb, 0) + 1
                if "--help" in words or verb in ("init", "schema"):
                    continue
                paths = (*made.get("paths", ()), *made.get("words", ()))
                assert PATHS in paths or "--plan" in words, (by, words)
                if verb not in ("fmt", "validate"):
                    assert (made["state_url"], made["endpoint"]) in (
                        (STATE, project.server.endpoint),
                        (STATE, "http://127.0.0.1:1/v1/customer"),
                    ), (by, words)
        assert named.keys() >= {"resolve", "accept", "list", "show", "apply", "plan", "validate", "history", "forget"}


def test_with_nothing_given_nothing_is_added(tmp_path: Path) -> None:
    with served_project(tmp_path, "run:503:after", *NO_READS) as project:
        project.write("a: {state: running}")
        assert f"or settle it: {settling('a')}" in project.run("apply", "--yes").out
        project.run("plan", "--out", "plan.json")
        run = project.run("apply", "--plan", "plan.json", "--yes")
        assert settling("a") in run.out
        assert json.loads((tmp_path / "plan.json").read_text())["actions"][0]["reason"].endswith(settling("a"))
