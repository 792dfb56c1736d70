"""What the README shows is what happens."""

import re
from collections.abc import Iterator
from pathlib import Path

import click

from project import Project
from reconciler.cli import cli
from reconciler.errors import ExitCode

README = (Path(__file__).parent.parent / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def shown(command: str) -> list[str]:
    """What the README prints after a command, each time that it shows it."""
    return [block.split("\n", 1)[1] for block in blocks("console") if block.startswith(f"$ {command}\n")]


def taken_by(group: click.Group, above: str) -> Iterator[tuple[str, set[str]]]:
    """Each command, the options that it takes, the forms of --format, and "PATH" where it takes manifest paths."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from taken_by(command, f"{above}{name} ")
            continue
        words = {option for parameter in command.params for option in parameter.opts}
        for parameter in command.params:
            if parameter.name == "form" and isinstance(parameter.type, click.Choice):
                words |= {str(form) for form in parameter.type.choices}
            if "[PATH]..." in (parameter.metavar or ""):
                words.add("PATH")
        yield f"{above}{name}", words


def test_the_manifest_and_both_plans_are_as_printed(tmp_path: Path) -> None:
    project = Project(tmp_path)
    [manifest] = blocks("yaml")
    (tmp_path / "jobs.yaml").write_text(manifest)
    first, second = shown("reconciler plan")
    assert project.run("plan").out == first
    assert project.run("apply", "--yes").code == 0
    (tmp_path / "jobs.yaml").write_text(manifest.replace("7200", "10800"))
    assert project.run("plan").out == second


def test_every_command_stands_in_the_table_and_none_that_is_not_there() -> None:
    table = README.split("## The commands")[1]
    named = set(re.findall(r"^\| `reconciler (\w+)", table, re.MULTILINE))
    assert named == set(cli.list_commands(click.Context(cli)))


def test_which_commands_take_what_is_as_it_says() -> None:
    taking = dict(taken_by(cli, ""))
    shared, documents, picking, pruning = re.findall(
        r"(All but .*?) take manifest.*?`--format json`, (.*?) print.*?With (.*?), `--target.*?With (.*?), `--prune`",
        README,
        re.DOTALL,
    )[0]
    for sentence, option in ((documents, "json"), (picking, "--target"), (picking, "--exclude"), (pruning, "--prune")):
        assert set(re.findall(r"`([^`]+)`", sentence)) == {name for name, words in taking.items() if option in words}
    for option in ("PATH", "--state", "--endpoint", "--no-cache", "--verbose"):
        assert set(re.findall(r"`([^`]+)`", shared)) == {name for name, words in taking.items() if option not in words}


def test_every_exit_code_stands_in_the_table() -> None:
    table = README.split("| exit | means |")[1].split("\n\n")[0]
    codes = {
        int(code) for row in table.splitlines() if row[2:3].isdigit() for code in re.findall(r"\d+", row.split("|")[1])
    }
    assert codes == {int(code) for code in ExitCode}


def test_every_file_that_is_linked_is_there() -> None:
    for link in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (Path(__file__).parent.parent / link).exists(), link


def test_the_server_command_that_is_shown_is_understood() -> None:
    from reconciler.engines.sandbox.faults import parse_fault

    rules = re.findall(r"--fault (\S+)", README)
    assert rules
    for rule in rules:
        parse_fault(rule)
