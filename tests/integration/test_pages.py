"""The pages of the documentation: what they show is what is printed, and what they name exists."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from checkout import CAMPAIGNS, ROOT
from pages import (
    DOCS,
    FOLLOWED,
    ON_A_CLUSTER,
    ON_RAY,
    ON_SLURM,
    PLUGIN_PAGE,
    Block,
    blocks,
    excerpts,
    is_shown,
    part_of,
    wrong_outputs,
)
from project import Project
from reconciler.cli import cli
from reconciler.engines.http.exchange import Stage
from reconciler.model.jobs import Status, Verb
from reconciler.model.plan import ActionKind
from reconciler.rules.table import TABLE, Asked, Cell
from reconciler.views.formats import names_for
from wheels import EXAMPLE

PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
NOT_FOLLOWED = {("README.md", "Two commands"), ("README.md", "Install"), (PLUGIN_PAGE, "What you need")}
"""The sections whose commands are not run here: they install packages, build the project, and run these tests."""


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def fenced(page: Path) -> Iterator[tuple[str, str, str]]:
    """Each block of a page: the section that it stands in, its language, its text."""
    for section in re.split("^## ", page.read_text(encoding="utf-8"), flags=re.MULTILINE):
        for _, language, text in re.findall(r"^(`{3,})([a-z]*)\n(.*?)^\1$", section, re.DOTALL | re.MULTILINE):
            yield section.partition("\n")[0], language, text


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", FOLLOWED)
def test_what_a_page_shows_is_what_is_printed(page: str, tmp_path: Path) -> None:
    wrong = wrong_outputs(page, FOLLOWED[page], tmp_path)
    assert not wrong, "\n\n".join(wrong) + "\n\nRead it, and if it is meant: make pages"


@pytest.mark.parametrize(
    ("shown", "printed", "is_so"),
    [
        ("a\n\nb", "a\n\nb\n", True),
        ("a\nb", "a\nb\nc\n", False),
        ("a\nc", "a\nb\nc\n", False),
        ("a", "a b\n", False),
        ("", "a\n", False),
        ("a", "", False),
        ("run at 2026-11-28T14:00:00Z", "run at 2026-11-29T15:01:02.123456Z\n", True),
        ("run at 2026-11-28T14:00:00Z", "ran at 2026-11-28T14:00:00Z\n", False),
        ("TOOK    CPU\n1.03 s  0.00 s  10 MiB  Ada", "TOOK     CPU\n11.03 s  0.01 s  9 MiB   Ada\n", True),
        ("TOOK    CPU\n1.03 s  0.00 s  10 MiB  Ada", "TOOK    CPU\n1.03 s  10 MiB  Ada\n", False),
        ("1/2 + run  b 0.01 s\n2/2 + run  a 0.02 s", "1/2 + run  a 0.03 s\n2/2 + run  b 10.04 s\n", True),
        ("1/2 + run  b 0.01 s\n2/2 + run  a 0.02 s", "1/2 + run  a 0.03 s\n2/2 + run  c 0.04 s\n", False),
    ],
)
def test_a_page_shows_all_that_is_printed_but_for_times_ids_and_order(shown: str, printed: str, is_so: bool) -> None:
    assert is_shown(shown, printed) is is_so


def test_the_blocks_of_a_page_are_read_with_what_they_print() -> None:
    page = """# A page

The manifest, `jobs.yaml`:

```yaml
jobs: {}
```

```sh
one
two
```

````text
```
shown
````

## Another

```sh
three
```

Not what it prints:

```text
four
```
"""
    assert blocks(page) == [
        Block(6, "cat > jobs.yaml <<'EOF'\njobs: {}\nEOF", "", (7, 7)),
        Block(10, "one\ntwo", "```\nshown", (14, 16)),
        Block(22, "three", "", (23, 23)),
    ]
    assert blocks(page, ("Another",)) == [Block(22, "three", "", (23, 23))]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_each_piece_of_code_on_a_page_is_a_part_of_the_example(page: Path) -> None:
    wrong = [fence.text_above for fence, part in excerpts(page.read_text(encoding="utf-8")) if fence.body != part]
    assert not wrong, f"{name_of(page)}: {wrong}: make pages"


def test_a_part_of_a_file_is_found_by_its_name() -> None:
    source = "X: int = 1\n\n\nclass A:\n    y = 2\n\n    @property\n    def z(self) -> int:\n        return 3\n"
    assert part_of(source, "a.py", "X") == "X: int = 1"
    assert part_of(source, "a.py", "A.z") == "@property\ndef z(self) -> int:\n    return 3"
    assert part_of(source, "a.py", "") == source.rstrip("\n")
    assert part_of("[a]\nb = 1\n\n[c]\nd = 2\n", "a.toml", "[c]") == "[c]\nd = 2"
    with pytest.raises(StopIteration):
        part_of(source, "a.py", "A.w")


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_command_of_a_page_is_followed_and_can_be_pasted(page: Path) -> None:
    for section, language, text in fenced(page):
        assert language in {"sh", "text", "yaml", "python", "toml"}, f"{name_of(page)}: a block of {language!r}"
        if language == "sh":
            assert not re.search(r"^[$>] ", text, re.MULTILINE), f"{name_of(page)}: a prompt can't be pasted: {text}"
            all_pages = (FOLLOWED, ON_A_CLUSTER, ON_SLURM, ON_RAY)
            followed = [pages[name_of(page)] for pages in all_pages if name_of(page) in pages]
            is_followed = any(not sections or section in sections for sections in followed)
            assert is_followed or (name_of(page), section) in NOT_FOLLOWED, f"{name_of(page)}: not followed: {text}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_piece_of_a_manifest_on_a_page_is_accepted(page: Path, tmp_path: Path) -> None:
    project = Project(tmp_path)
    (tmp_path / "train").mkdir()  # the folder that manifests on pages name
    (tmp_path / "train" / "main.py").touch()
    for _, language, text in fenced(page):
        if language == "yaml":
            missing = {"apiVersion": "reconciler/v1", "target": "{engine: sandbox}", "jobs": "{a: {state: running}}"}
            added = "".join(f"{field}: {value}\n" for field, value in missing.items() if f"{field}:" not in text)
            (tmp_path / "jobs.yaml").write_text(text + added)
            assert project.run("validate").code == 0, f"{name_of(page)}: {project.run('validate').err}{text}"


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CONTRIBUTING.md"], ids=name_of)
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\((?!https?:)([^)]+)\)", page.read_text(encoding="utf-8")):
        path, _, anchor = link.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), f"{name_of(page)}: {link}"
        assert not anchor or anchor in anchors(there), f"{name_of(page)}: {link}"


def test_every_page_is_linked_from_the_readme() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert {name_of(page) for page in PAGES} - {"README.md"} <= set(re.findall(r"\]\(([\w/-]+\.md)", readme))


def rows(page: str, header: str) -> list[list[str]]:
    """The cells of the table with this header, without the header."""
    lines = (ROOT / page).read_text(encoding="utf-8").split(f"| {header} |")[1].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_what_running_means_is_what_the_planner_decides() -> None:
    words = {
        Cell.NOOP: "nothing",
        Cell.NOOP_FAILED: "nothing",
        Cell.ABORTED_ELSEWHERE: "hold",
        Cell.RESTART_OR_ADOPT: "restart",  # The job is recorded as running.
    }
    asked = {
        "the same as before": Asked.SAME,
        "a new config": Asked.NEW_CONFIG,
        "a new `runToken`": Asked.NEW_TOKEN,
        "`aborted`": Asked.ABORTED,
        "`absent`": Asked.ABSENT,
    }
    header = "the manifest asks for | active | complete | failed | aborted by someone else"
    columns = (Status.ACTIVE, Status.COMPLETE, Status.FAILED, Status.ABORTED)
    shown = {row[0]: row[1:] for row in rows("docs/concepts.md", header)}
    assert shown == {
        row: [words.get(cell, cell.word) for cell in (TABLE[status].asked[column] for status in columns)]
        for row, column in asked.items()
    }


def test_every_action_of_a_plan_is_explained() -> None:
    explained = [row[1].strip("`") for row in rows("docs/concepts.md", "sign | action | what an apply does")]
    assert sorted(explained) == sorted(kind for kind in ActionKind if kind is not ActionKind.NOOP)


def test_the_map_of_the_code_holds_every_module_once_and_no_other() -> None:
    mapped = {
        row[0].strip("`"): re.findall(r"`(\w+)`", row[2])
        for row in rows("docs/architecture.md", "floor | holds | modules")
    }
    floors = [path for path in (ROOT / "reconciler").iterdir() if path.is_dir() and path.name != "__pycache__"]
    assert sorted(mapped) == sorted(path.name for path in floors)
    for floor in floors:
        there = {path.stem for path in floor.iterdir() if path.suffix in {"", ".py"}}
        # A format is one file, and needs no line on the map.
        formats = set(names_for()) if floor.name == "views" else set()
        assert mapped[floor.name] == sorted(there - {"__init__", "__pycache__"} - formats)


def test_the_way_of_a_job_names_functions_that_exist() -> None:
    for step, file, function in rows("docs/architecture.md", "step | file | function"):
        source = (ROOT / "reconciler" / file.strip("`")).read_text(encoding="utf-8")
        assert re.search(rf"^ *def {function.strip('`')}\(", source, re.MULTILINE), f"{step} {file} {function}"


def test_every_file_that_the_map_of_the_code_names_exists() -> None:
    named = re.findall(r"`([\w/]+(?:/|\.py|\.json))`", (DOCS / "architecture.md").read_text(encoding="utf-8"))
    assert named
    for name in named:
        assert (ROOT / "reconciler" / name).exists() or (ROOT / name).exists(), name


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CONTRIBUTING.md"], ids=name_of)
def test_every_test_and_harness_that_a_page_names_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for name in re.findall(r"\btest_\w+\.py", text):
        assert [*(ROOT / "tests").rglob(name), *EXAMPLE.rglob(name)], f"{name_of(page)}: {name}"
    for name, fragments in re.findall(r"`(test_\w+\.py)` \(((?:`…_\w+(?:_…)?`(?:, )?)+)\)", text):
        (test,) = (ROOT / "tests").rglob(name)
        source = test.read_text(encoding="utf-8")
        for fragment in re.findall(r"…_(\w+?)(?:_…)?`", fragments):
            assert re.search(rf"def test_\w*{fragment}", source), f"{name_of(page)}: {name}: {fragment}"
    for script, options in re.findall(r"(?<![\w/])(?:python )?((?:tests/[a-z/]+/)?[a-z_]+\.py)((?: --[^`|]*)?)`", text):
        harness = CAMPAIGNS / Path(script).name
        if options:
            # The harness for state in git takes the options of the one for files.
            source = harness.read_text(encoding="utf-8") + (CAMPAIGNS / "crash.py").read_text(encoding="utf-8")
            for option in re.findall(r"--[a-z-]+", options):
                assert option in source, f"{name_of(page)}: {script} {option}"
    for target in re.findall(r"`make ([a-z-]+)", text):
        assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE), target


def test_the_numbers_of_cases_are_those_of_the_harnesses() -> None:
    import crash
    import fault_rows
    import fuzz_targets
    import git_crash
    import scarce

    reliability, git_state = ((DOCS / name).read_text(encoding="utf-8") for name in ("reliability.md", "git-state.md"))
    faults, verbs = len(fault_rows.ROWS), len(Verb)
    assert f"in {len(crash.SCENARIOS)} scenarios; then applied again |" in reliability
    assert f"{faults} kinds × {verbs} verbs, with reads and without: {faults * verbs * 2} cases" in reliability
    assert f"{len(scarce.CASES)} cases" in reliability
    assert len(fuzz_targets.TARGETS) == 8
    assert "eight readers of untrusted bytes under atheris" in reliability
    assert f"in {len(crash.SCENARIOS) - len(git_crash.LEFT_OUT)} scenarios" in git_state


def texts_of_the_program() -> list[str]:
    """What the program says: the fixed pieces of more than one word, and the stages of a connection; longest first."""
    pieces = set()
    for path in [*(ROOT / "reconciler").rglob("*.py"), *(ROOT / "ci").glob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                pieces.add(node.value.strip(" :;,()`"))
    return sorted({*(piece for piece in pieces if " " in piece), *Stage}, key=len, reverse=True)


@pytest.mark.parametrize("page", ["docs/git-state.md", "docs/how-to/corporate-network.md"])
def test_every_message_of_a_table_is_one_that_the_program_has(page: str) -> None:
    pieces = texts_of_the_program()
    header = "message | do" if page == "docs/git-state.md" else "message | what to do"
    shown = [message for row in rows(page, header) for message in re.findall("`([^`]*)`", row[0])]
    assert shown
    for message in shown:
        without_openssl = re.sub(r"\([^)]*\)", "", message)
        for part in (part.strip() for part in without_openssl.split("…")):
            left = "" if any(part in piece for piece in pieces) else part
            for piece in pieces:
                left = left.replace(piece, "")
            assert not re.search(r"[a-z]{3}", left), f"{page}: {message}: nothing says {left!r}"


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"], ids=name_of)
def test_every_command_within_a_sentence_is_understood(page: Path) -> None:
    context = click.Context(cli)
    prose = re.sub(r"^(`{3,}).*?^\1$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    for code in re.findall(r"`([^`\n]+)`", prose):
        words = code.removeprefix("reconciler ").split()
        command: click.Command | None = cli
        while words and isinstance(command, click.Group) and command.get_command(context, words[0]):
            command = command.get_command(context, words.pop(0))
        if command is cli:
            assert not code.startswith("reconciler ") or words[0].startswith("-"), f"{name_of(page)}: {code}"
            continue
        assert command is not None
        options = [option for one in command.params for option in (*one.opts, *one.secondary_opts)]
        known = {*options, "--help"}
        for word in words:
            if word.startswith("--"):
                assert word.partition("=")[0] in known, f"{name_of(page)}: {code}: {word}"
