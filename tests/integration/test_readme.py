"""What the README says of commands, options, exit codes and figures is so; `test_pages.py` follows what it shows."""

import json
import re
from collections.abc import Iterator

import click

from checkout import ROOT
from reconciler.cli import cli
from reconciler.cli.schema import SCHEMAS
from reconciler.manifest.layout import canonical
from reconciler.manifest.schema import schema_text
from reconciler.model.errors import ExitCode

README = (ROOT / "README.md").read_text()
SANDBOX_PAGE = (ROOT / "docs" / "how-to" / "sandbox.md").read_text()


def taken_by(group: click.Group, above: str) -> Iterator[tuple[str, set[str]]]:
    """Each command, the options that it takes, the names of formats, and "PATH" where it takes manifest paths."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from taken_by(command, f"{above}{name} ")
            continue
        words = {option for parameter in command.params for option in parameter.opts}
        for parameter in command.params:
            if "--format" in parameter.opts:
                words |= {str(item.value) for item in parameter.type.shell_complete(context, parameter, "")}
            if "[PATH]..." in (parameter.metavar or ""):
                words.add("PATH")
        yield f"{above}{name}", words


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
    for option in ("PATH", "--state", "--endpoint", "--verbose"):
        assert set(re.findall(r"`([^`]+)`", shared)) == {name for name, words in taking.items() if option not in words}


def test_every_field_of_a_manifest_stands_in_the_table_and_none_that_is_not_there() -> None:
    schema = json.loads((ROOT / "schemas" / "manifest.schema.json").read_text(encoding="utf-8"))
    parts: dict[str, set[str]] = {}
    for name, part in schema["$defs"].items():
        # The forms of several engines, such as target-local, count together.
        parts.setdefault(name.partition("-")[0], set()).update(part.get("properties", {}))
    table = README.split("| field | meaning |")[1].split("\n\n")[0]
    rows = [row.split("|")[1] for row in table.splitlines()[2:]]
    fields = {name for row in rows if not row.startswith(" … for ") for name in re.findall("`([^`]+)`", row)}
    blocks = set(schema["properties"]) - {"target", "jobs"}
    assert fields == blocks | {f"target.{one}" for one in parts["target"]} | {
        f"jobs.NAME.{one}" for one in parts["job"]
    }
    for block, name in (("defaults", "defaults"), ("guards", "guards")):
        [meaning] = re.findall(rf"^\| `{re.escape(name)}` \| (.*) \|$", table, re.MULTILINE)
        assert parts[block] <= set(re.findall(r"`(\w+)`", meaning)), name
    for name, part in schema["$defs"].items():
        kind, _, engine = name.partition("-")
        if kind == "config" and engine:
            [meaning] = re.findall(rf"^\| … for [^|]*`{engine}`[^|]* \| (.*) \|$", table, re.MULTILINE)
            assert set(part["properties"]) <= set(re.findall(r"`(\w+)`", meaning)), engine


def test_every_exit_code_stands_in_the_table() -> None:
    table = README.split("| exit | means |")[1].split("\n\n")[0]
    codes = {
        int(code) for row in table.splitlines() if row[2:3].isdigit() for code in re.findall(r"\d+", row.split("|")[1])
    }
    assert codes == {int(code) for code in ExitCode}


def test_every_exit_code_stands_in_the_help() -> None:
    listed = re.findall(r"^  (\d+) +\w", str(cli.epilog), re.MULTILINE)
    assert listed == [str(int(code)) for code in ExitCode]


def test_the_options_that_a_command_ignores_are_as_it_says() -> None:
    [sentence] = re.findall(r"`validate` and `diff` ignore .*? ignore\.", README, re.DOTALL)
    context = click.Context(cli)
    ignored: dict[str, list[str]] = {}
    for name in cli.list_commands(context):
        command = cli.get_command(context, name)
        assert command is not None
        for one in command.params:
            # `sandbox` stands among the commands that take none of these options.
            if getattr(one, "hidden", False) and name != "sandbox":
                ignored.setdefault(name, []).extend(one.opts)
    assert {name: sorted(options) for name, options in ignored.items()} == {
        "diff": ["--state"],
        "fmt": ["--endpoint", "--state"],
        "validate": ["--state"],
    }
    assert set(re.findall("`([a-z]+)`", sentence)) == set(ignored)


def test_each_json_answer_has_a_schema_or_is_named_as_one_without() -> None:
    [row] = re.findall(r"^\| `reconciler schema` \| (.*) \|$", README, re.MULTILINE)
    with_schema, without = row.split("What ")
    named = re.findall("`([a-z-]+)`", with_schema.split("prints: ")[1])
    assert named == [name for name in SCHEMAS if name != "manifest"]
    answers = {"apply": "outcome", "diff": "plan", "history --check": "history-check"}
    printing = {name for name, words in taken_by(cli, "") if "json" in words}
    assert {name for name in printing if answers.get(name, name) not in named} == set(
        re.findall("`([a-z ]+)`", without)
    )


def test_the_manifest_that_the_page_begins_with_is_laid_out_as_fmt_does() -> None:
    manifest = SANDBOX_PAGE.split("<<'EOF'\n")[1].split("EOF\n")[0].encode()
    assert canonical(manifest, "jobs.yaml", json.loads(schema_text("manifest.schema.json"))) == manifest


def test_the_figures_are_those_that_were_measured() -> None:
    """The sentences of "Speed" against the table that `make bench` writes."""
    [sentences] = re.findall("## Speed\n\n(.*?)\n\n", README, re.DOTALL)
    page = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    [rows] = re.findall(r"^\| no-op plan, 10,000 jobs( .*?)^\| \w", page, re.DOTALL | re.MULTILINE)
    cells = [[cell.strip() for cell in row.split("|")] for row in rows.splitlines()]
    ratio = {row[-8]: float(row[-4]) for row in cells}
    ours = max(one for row, one in ratio.items() if row.startswith("reconciler plan"))
    times, terraform = (int(number) for number in re.findall(r"(?:less|more) than (\d+) times", sentences))
    assert ours < times
    assert ratio["terraform plan -refresh=false"] > terraform * ours


def test_the_server_command_that_is_shown_is_understood() -> None:
    from reconciler.engines.sandbox.faults import parse_fault

    rules = re.findall(r"--fault (\S+)", SANDBOX_PAGE)
    assert rules
    for rule in rules:
        parse_fault(rule)
