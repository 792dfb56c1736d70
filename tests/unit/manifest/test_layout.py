"""`reconciler fmt`: one layout for each file. The meaning of the file and all its comments stay."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings

from checkout import ROOT
from manifests import MARK, Written, manifests
from project import Project
from reconciler.manifest.events import LIBYAML
from reconciler.manifest.layout import canonical, scalar
from reconciler.manifest.parse import parse
from reconciler.manifest.schema import schema_text
from reconciler.manifest.syntax import tree_of
from reconciler.manifest.yaml import read
from reconciler.usecases.engines import plugin_named

SCHEMA = json.loads(schema_text("manifest.schema.json"))
HEAD = "apiVersion: reconciler/v1\ntarget: {engine: sandbox}\n"


def laid_out(text: str) -> str:
    return canonical(text.encode(), "f", SCHEMA).decode()


@given(manifests())
@settings(max_examples=100, deadline=None)
def test_the_form_is_one_means_the_same_and_keeps_every_comment(written: Written) -> None:
    before = parse([("f", written.source)], plugin_named)
    made = canonical(written.source, "f", SCHEMA)
    after = parse([("f", made)], plugin_named)
    assert (after.digest, after.jobs) == (before.digest, before.jobs)
    assert canonical(made, "f", SCHEMA) == made
    assert b"\r" not in made.replace(b"\r\n", b"" if b"\r\n" in written.source else b"\r\n")
    text = made.decode().replace("\r\n", "\n")
    assert sorted(MARK.findall(text)) == sorted(MARK.findall(written.source.decode()))
    assert text.endswith("\n")
    assert [odd for odd in ("\r", "\n\n\n", " \n") if odd in f"{text}\n"] == []
    assert list(written.value["jobs"]) == list(read(made, "f").value["jobs"])


@pytest.mark.skipif(not LIBYAML, reason="no libyaml")
@given(manifests())
@settings(max_examples=40, deadline=None)
def test_both_parsers_see_the_same_places_and_comments(written: Written) -> None:
    text = written.source.decode("utf-8-sig")
    assert tree_of(text, libyaml=True) == tree_of(text, libyaml=False)


def test_an_untidy_file_becomes_tidy() -> None:
    assert (
        laid_out(
            """\
# What runs where.

jobs:     # all of them


    # Media.
    b:
        state:   'running'   # on
        id: "b-1"            # the service's

        # how long
        config: { jobTimeout: 7200 , taskTimeout: 600,}
        # end of b
    # end of media
# about a
    a: {state: aborted,   # off
        runToken: "2026-11-21"}
    c: {"state": absent, id: 'x'}
# the target
target:
- {}
apiVersion: reconciler/v1
""".replace("- {}", "    {engine: sandbox}")
        )
        == """\
# What runs where.

apiVersion: reconciler/v1
# the target
target: {engine: sandbox}
jobs:  # all of them
  # Media.
  b:
    id: b-1         # the service's
    state: running  # on

    # how long
    config: {taskTimeout: 600, jobTimeout: 7200}
    # end of b
  # end of media
  # about a
  a:
    state: aborted  # off
    runToken: "2026-11-21"
  c: {id: x, state: absent}
"""
    )


def test_a_flow_collection_stays_one_up_to_100_columns() -> None:
    name = "n" * (100 - len("  : {state: running}"))
    fits = f"{HEAD}jobs:\n  {name}: {{state: running}}  # a comment is not counted\n"
    assert laid_out(fits) == fits
    assert laid_out(fits.replace("  n", "  mn")).endswith("n:  # a comment is not counted\n    state: running\n")


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("plain", "plain"),
        ("https://api.bytenite.com/v1", "https://api.bytenite.com/v1"),
        ("7728ba38-f0a0-4319-ae28-07734448a334", "7728ba38-f0a0-4319-ae28-07734448a334"),
        ("10%", "10%"),
        ("räksmörgås", "räksmörgås"),
        ("2026-11-21", '"2026-11-21"'),
        ("on", '"on"'),
        ("017", '"017"'),
        ("1e3", '"1e3"'),
        ("true", '"true"'),
        ("", '""'),
        ("a: b", '"a: b"'),
        ("a:", '"a:"'),
        ("a #b", '"a #b"'),
        ("a,b", '"a,b"'),
        ("- a", '"- a"'),
        ("...", '"..."'),
        (" a", '" a"'),
        ('"\\', r'"\"\\"'),
        ("a\tb\u00a0\u202e\U000e0001", r'"a\tb\xa0\u202e\U000e0001"'),
    ],
)
def test_quotes_stand_only_where_they_are_needed(text: str, written: str) -> None:
    assert scalar(text) == written
    for around in (f"{written}: {written}\n", f"{{{written}: {written}}}\n", f"k: [{written}, {written}]\n"):
        document = read(around.encode(), "f")
        assert document.faults == ()
        assert document.value in ({text: text}, {"k": [text, text]})


def test_numbers_and_flags_are_written_in_one_way() -> None:
    before = (
        f"{HEAD}jobs: {{a: {{state: running, config: {{taskTimeout: 0x10, jobTimeout: 600.0, isTestJob: TRUE}}}}}}\n"
    )
    assert laid_out(before).endswith("config: {taskTimeout: 16, jobTimeout: 600, isTestJob: true}}\n")


def test_lines_of_text_stay_lines() -> None:
    text = f"{HEAD}jobs:\n  a:\n    state: running\n    labels:\n      note: |  # kept\n        one\n          two\n"
    assert laid_out(text) == text
    assert laid_out(text.replace("|  # kept\n", ">-\n")).endswith("note: |-\n        one\n          two\n")


def test_a_mark_at_the_start_stays_and_one_at_the_end_goes() -> None:
    text = f"# c\n---\n{HEAD}jobs: {{a: {{state: running}}}}\n...\n# d\n"
    assert laid_out(text) == f"# c\n---\n{HEAD}jobs:\n  a: {{state: running}}\n# d\n"


def test_only_files_that_change_are_written_and_named(tmp_path: Path) -> None:
    project = Project(tmp_path)
    (tmp_path / "jobs").mkdir()
    tidy, untidy = tmp_path / "jobs" / "a.yaml", tmp_path / "jobs" / "b.yaml"
    tidy.write_text(f"{HEAD}jobs:\n  a: {{state: running}}\n")
    untidy.write_bytes(b"apiVersion: reconciler/v1\r\njobs: {b: {state: running}}")
    untidy.chmod(0o640)
    before = tidy.stat()
    digest = project.run("plan", "--format", "json").json["manifestDigest"]
    check = project.run("fmt", "--check")
    assert (check.code, check.out) == (1, "jobs/b.yaml\n")
    assert untidy.read_bytes().endswith(b"}}")
    run = project.run("fmt")
    assert (run.code, run.out) == (0, "jobs/b.yaml\n")
    assert untidy.read_bytes() == b"apiVersion: reconciler/v1\r\njobs:\r\n  b: {state: running}\r\n"
    assert untidy.stat().st_mode & 0o777 == 0o640
    assert (tidy.stat().st_ino, tidy.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert project.run("plan", "--format", "json").json["manifestDigest"] == digest
    again = project.run("fmt", "--check")
    assert (again.code, again.out) == (0, "")


def test_a_file_that_is_not_valid_is_left_as_it_is_and_the_others_are_laid_out(tmp_path: Path) -> None:
    project = Project(tmp_path)
    bad, good = tmp_path / "bad.yaml", tmp_path / "good.yaml"
    bad.write_text(f"{HEAD}jobs:   {{a: {{state: walking}}, b: {{state: yes}}}}\n")
    good.write_text("apiVersion:   reconciler/v1\n")
    before = bad.read_bytes()
    run = project.run("fmt", "bad.yaml", "good.yaml")
    assert run.code == 1
    assert "bad.yaml:3:21: state: expected running, aborted or absent" in run.err
    assert "bad.yaml:3:42: YAML 1.1 reads yes as true" in run.err
    assert bad.read_bytes() == before
    assert good.read_text() == "apiVersion: reconciler/v1\n"


def test_a_file_by_itself_needs_nothing_of_the_others(tmp_path: Path) -> None:
    (tmp_path / "part.yaml").write_text("apiVersion:  reconciler/v1\njobs: {}\n")
    run = Project(tmp_path).run("fmt", "part.yaml", "--diff")
    assert run.code == 0
    assert run.out == (
        "part.yaml\n--- a/part.yaml\n+++ b/part.yaml\n@@ -1,2 +1,2 @@\n"
        "-apiVersion:  reconciler/v1\n+apiVersion: reconciler/v1\n jobs: {}\n"
    )


@pytest.mark.parametrize(
    ("options", "code", "shows", "writes"),
    [
        ([], 0, False, True),
        (["--diff"], 0, True, False),
        (["--check"], 1, False, False),
        (["--check", "--diff"], 1, True, False),
    ],
    ids=["fmt", "diff", "check", "check-diff"],
)
def test_only_fmt_by_itself_writes(tmp_path: Path, options: list[str], code: int, shows: bool, writes: bool) -> None:
    path = tmp_path / "jobs.yaml"
    path.write_text("apiVersion:  reconciler/v1\n")
    run = Project(tmp_path).run("fmt", *options)
    assert run.code == code
    assert run.out.startswith("jobs.yaml\n")
    assert ("+apiVersion: reconciler/v1\n" in run.out) is shows
    assert (path.read_text() == "apiVersion: reconciler/v1\n") is writes


def test_what_comes_with_it_is_in_the_form_already(tmp_path: Path) -> None:
    project = Project(tmp_path)
    assert project.run("init").code == 0
    for path in ("jobs.yaml", ROOT / "examples" / "jobs.yaml", ROOT / "examples" / "sandbox" / "jobs.yaml"):
        check = project.run("fmt", "--check", str(path))
        assert (check.code, check.out) == (0, "")


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real.yaml").write_text("apiVersion:  reconciler/v1\n")
    (tmp_path / "jobs.yaml").symlink_to("real.yaml")
    assert Project(tmp_path).run("fmt").out == "jobs.yaml\n"
    assert (tmp_path / "jobs.yaml").is_symlink()
    assert (tmp_path / "real.yaml").read_text() == "apiVersion: reconciler/v1\n"
