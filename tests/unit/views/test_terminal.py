"""The output at a terminal, and the output of a long apply in a log."""

import fcntl
import itertools
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.cells import cell_len

from project import Project, served_project
from reconciler.host.safe_text import Style, clip, styled, width, wrapped

ROWS, COLUMNS = 24, 80
WAIT_S = 120
_STYLE = re.compile(r"\x1b\[[0-9;?]*[A-JL-Za-z]")
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def at_terminal(
    project: Project, *arguments: str, answer: str = "", columns: int = COLUMNS, term: str = "xterm-256color"
) -> tuple[int, str, str]:
    """Run a command at a terminal. Return the exit code, the output up to the question, and the whole output."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, columns, 0, 0))
    child = subprocess.Popen(
        project.command(*arguments),
        cwd=project.folder,
        env=project.env | {"TERM": term, "COLUMNS": str(columns), "LINES": str(ROWS)},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    written, asked = b"", ""
    until_s = time.monotonic() + WAIT_S
    while time.monotonic() < until_s:
        if select.select([ours], [], [], 1)[0]:
            try:
                more = os.read(ours, 65536)
            except OSError:
                break
            if not more:
                break
            written += more
            if answer and not asked and written.endswith(b"Only `yes` does: "):
                asked = written.decode()
                os.write(ours, f"{answer}\n".encode())
    os.close(ours)
    return child.wait(WAIT_S), asked, written.decode()


def screen(written: str, columns: int = COLUMNS) -> list[str]:
    """Return the last visible lines, wrapped as a terminal wraps them."""
    rows: list[str] = []
    for line in _CONTROL.sub("", written).replace("\r\n", "\n").split("\n"):
        rows += [line[at : at + columns] for at in range(0, len(line), columns)] or [""]
    return rows[-ROWS:]


def numbered(count: int, timeout: str = "7200") -> str:
    return "\n".join(f"job-{n:05}: {{state: running, config: {{jobTimeout: {timeout}}}}}" for n in range(count))


# Lines and pages


def test_at_a_terminal_a_plan_is_broken_between_words_and_in_a_pipe_a_job_has_one_line(tmp_path: Path) -> None:
    with served_project(tmp_path, "run:reset:job=report") as project:
        project.write("report: {state: running}\nweekly-transcode: {state: running}")
        assert project.run("apply", "--yes").code == 5
        project.write("report: {state: running}\nweekly-transcode: {state: running, config: {jobTimeout: 7200}}")
        piped = project.run("plan").out.splitlines()
        held = next(line for line in piped if "! hold" in line)
        assert len(held) > 160
        code, _, written = at_terminal(project, "plan")
        assert code == 0
        lines = _CONTROL.sub("", written).replace("\r\n", "\n").splitlines()
        at = next(number for number, line in enumerate(lines) if "! hold" in line)
        column = held.index("in doubt")
        broken = [lines[at], *itertools.takewhile(lambda line: line.startswith(" " * column), lines[at + 1 :])]
        assert max(map(len, broken[:-1])) <= COLUMNS
        assert " ".join(line.strip() for line in broken) == held.strip()
        assert "reconciler resolve report --applied" in " ".join(broken)


def test_a_command_and_a_long_word_are_never_broken() -> None:
    command = "reconciler resolve 'a job' --applied --state a/long/path/of.state.json"
    text = f"error: one two three four five six seven\n  do this, `reconciler state list` first, or then: {command}"
    assert wrapped(text, 40) == (
        "error: one two three four five six seven\n"
        "  do this, `reconciler state list`\n"
        "    first, or then:\n"
        f"    {command}"
    )
    assert wrapped(f"a {'x' * 50} b", 40) == f"a\n    {'x' * 50}\n    b"
    assert wrapped(f"  + run  name  {styled(Style.RED, 'many words in one style')}", 26) == (
        f"  + run  name  {styled(Style.RED, 'many words in one style').replace(' in', chr(10) + ' ' * 9 + 'in')}"
    )


@pytest.fixture
def recorded(tmp_path: Path) -> Iterator[Project]:
    """A folder with a history of three entries. A pager in the folder writes its input to a file."""
    with served_project(tmp_path) as project:
        project.write("nightly-transcode: {state: running}\nb: {state: running}\nc: {state: aborted}")
        assert project.run("apply", "--yes").code == 0
        project.env["PAGER"] = "tee paged"
        yield project


def test_at_a_narrow_terminal_an_entry_of_the_history_has_a_few_short_lines(recorded: Project) -> None:
    code, _, written = at_terminal(recorded, "history")
    lines = _CONTROL.sub("", written).replace("\r\n", "\n").splitlines()
    assert (code, max(map(len, lines)) <= COLUMNS) == (0, True)
    at = next(number for number, line in enumerate(lines) if "  nightly-transcode  run succeeded" in line)
    assert lines[at + 1].startswith("    by ada@")
    assert lines[at + 2].startswith("    code 200, ")
    assert lines[at + 3].startswith("    first run; ")
    wide = _CONTROL.sub("", at_terminal(recorded, "history", columns=160)[2]).replace("\r\n", "\n").splitlines()
    assert (wide[0].startswith("WHEN "), max(map(len, wide)) <= 160) == (True, True)
    assert recorded.run("history").out.startswith("WHEN ")


def test_a_pager_shows_the_history_at_a_terminal_alone(recorded: Project) -> None:
    paged = recorded.folder / "paged"
    at_terminal(recorded, "history")
    assert "nightly-transcode  run succeeded" in _CONTROL.sub("", paged.read_text())
    paged.unlink()
    assert recorded.run("history").code == 0
    for variable, value in (("CI", "true"), ("TERM", "dumb"), ("PAGER", ""), ("PAGER", "cat"), ("PAGER", "no-such")):
        before = dict(recorded.env)
        recorded.env[variable] = value
        child = at_terminal(recorded, "history") if variable != "TERM" else at_terminal(recorded, "history", term=value)
        assert (child[0], "nightly-transcode  run succeeded" in _CONTROL.sub("", child[2])) == (0, True), variable
        recorded.env = before
    assert at_terminal(recorded, "plan")[0] == 0
    assert not paged.exists()


# The question


def test_the_question_shows_how_much_is_done_and_where_whatever_has_scrolled_off(tmp_path: Path) -> None:
    with served_project(tmp_path) as project:
        project.write(numbered(60))
        assert project.run("apply", "--yes").code == 0
        project.write("\n".join(f"job-{n:05}: {{state: running, runToken: t{n}}}" for n in range(60)))
        code, asked, written = at_terminal(project, "apply", "--allow", "restart=60", answer="no")
        assert code == 4, written
        assert project.server is not None
        target = f"bytenite at {project.server.endpoint}"
        first = _CONTROL.sub("", asked).replace("\r\n", "\n").splitlines()[:3]
        assert first == ["Plan: 60 to restart.", "Allowed past the guards: restart up to 60.", f"Target: {target}."]
        seen = screen(asked)
        assert "Plan: 60 to restart." in seen
        assert seen[-1] == "Carry this out? Only `yes` does: "
        assert seen[-2] == f"60 to restart, on {target}."


def test_a_short_plan_says_its_counts_once_before_the_question(tmp_path: Path) -> None:
    with served_project(tmp_path) as project:
        project.write("a: {state: running}")
        code, asked, written = at_terminal(project, "apply", answer="yes")
        assert code == 0, written
        assert asked.count("Plan: ") == 1
        assert "Applied: 1 succeeded." in _CONTROL.sub("", written)


# Many jobs


def test_more_than_twenty_jobs_of_one_action_and_reason_are_one_line(tmp_path: Path) -> None:
    project = Project(tmp_path)
    project.write(numbered(21) + "\nlast: {state: absent}")
    run = project.run("plan")
    assert run.out == (
        "Plan: 21 to run, 1 to delete.\n"
        "Target: sandbox (embedded).\n"
        "\n"
        "  + run      21 jobs (job-00000, job-00001, job-00002, …)  first run\n"
        "  × delete   last  declared absent\n"
        "  (--verbose lists them all)\n"
    )
    assert project.run("plan", "--verbose").out.count("  + run      job-") == 21
    assert len(project.run("plan", "--format", "json").json["actions"]) == 22
    project.write(numbered(20))
    assert project.run("plan").out.count("  + run      job-") == 20


def test_many_jobs_that_are_no_longer_declared_are_counted_too(tmp_path: Path) -> None:
    with served_project(tmp_path) as project:
        project.write(numbered(25))
        assert project.run("apply", "--yes").code == 0
        project.write("other: {state: running}")
        assert "left alone: 25 jobs (job-00000, job-00001, job-00002, …)\n" in project.run("plan").out
        assert "job-00024" in project.run("plan", "--verbose").out


def test_many_jobs_that_drifted_alike_are_counted_too(tmp_path: Path) -> None:
    with served_project(tmp_path) as project:
        project.write(numbered(25, "1"))
        assert project.run("apply", "--yes").code == 0
        while (run := project.run("drift")).out.splitlines()[0] != "Drift: 25 failed.":
            pass
        assert len(run.out.splitlines()) == 4
        assert len(project.run("drift", "--verbose").out.splitlines()) == 27


def test_an_apply_of_many_prints_few_lines_in_a_pipe(tmp_path: Path) -> None:
    with served_project(tmp_path, "run:403:job=job-000?3") as project:
        project.write(numbered(300))
        run = project.run("apply", "--yes", "--parallelism", "32")
        assert run.code == 3
        lines = run.out.splitlines()
        assert len(lines) < 60
        assert lines[-1] == "Applied: 290 succeeded, 10 failed."
        tallies = [line for line in lines if re.match(r"\d+/300: ", line)]
        assert len(tallies) == 10
        assert tallies[-1] == "300/300: 290 succeeded, 10 failed"
        assert sum("run was rejected" in line for line in lines) == 10


def test_many_that_fail_alike_are_listed_up_to_twenty_and_counted_at_the_end(tmp_path: Path) -> None:
    with served_project(tmp_path, "read:403") as project:
        project.write(numbered(60))
        assert project.run("plan", "--refresh").out.count("unreadable") == 1
        run = project.run("apply", "--yes")
        assert run.code == 3
        assert run.out.count("unreadable") <= 1 + 20
        verbose = project.run("apply", "--yes", "--verbose")
        assert verbose.out.count("unreadable") >= 60


# Lines and their width


NAMES = [
    "plain",
    "日本語のジョブ名前は長いです",
    "emoji-😀😀😀😀",
    "family-👨‍👩‍👧‍👦",
    "heart-❤️❤️❤️❤️❤️❤️❤️❤️",
    "flag-🇨🇭🇯🇵",
    "한국어-작업-이름",
    "combining-ééé",
    "long-" + "x" * 90,
]


def test_no_line_of_an_apply_is_wider_than_the_terminal_and_what_is_cut_is_told_at_the_end(tmp_path: Path) -> None:
    with served_project(tmp_path, "run:403:job=j1") as project:
        project.write("\n".join(f'"{name}": {{id: j{n}, state: running}}' for n, name in enumerate(NAMES)))
        code, _, written = at_terminal(project, "apply", "--yes")
        assert code == 3, written
        progress = written.partition("1/9")[2].rpartition("Not done:")[0]
        shown = re.split(r"[\r\n]+", _CONTROL.sub("", progress))
        assert sum("run" in line for line in shown) >= 8
        assert [line for line in shown if cell_len(line) > COLUMNS] == []
        rest = _CONTROL.sub("", written.rpartition("Not done:")[2]).replace("\r\n", "\n")
        assert "  ! failed     日本語のジョブ名前は長いです  run was rejected: " in rest
        assert rest.endswith("Applied: 8 succeeded, 1 failed.\n")


@pytest.mark.parametrize("columns", [30, 60, 80, 200])
def test_an_apply_at_a_terminal_has_a_bar_below_its_lines_where_there_is_room(tmp_path: Path, columns: int) -> None:
    with served_project(tmp_path) as project:
        project.write("\n".join(f"{name}: {{state: running}}" for name in "abcdef"))
        code, _, written = at_terminal(project, "apply", "--yes", columns=columns)
        assert code == 0, written
        assert "\x1b[?25l" not in written  # a command that is killed could not show the cursor again
        states = written.replace("\r\n", "\n").split("\n")
        bars = [_CONTROL.sub("", bar) for line in states for bar in line.split("\r") if bar.startswith("applying")]
        assert [bar for bar in bars if cell_len(bar) > columns] == []
        assert ([bar.rpartition("]")[2].split()[0] for bar in bars][-1:] == ["6/6"]) is (columns > 44)
        # The visible part of a line is the last one, since each part was erased before the next.
        ended = [line for line in on_screen(states) if re.match(r".*\d/6 \+ run ", line)]
        assert [line.split("/")[0] for line in ended] == list("123456")
        assert [line for line in ended if "applying" in line] == []


def test_the_bar_ends_with_its_last_action_and_no_line_stands_behind_it(tmp_path: Path) -> None:
    with served_project(tmp_path) as project:
        project.write("a: {state: running}\nb: {state: running}\nc: {state: running, after: [a]}")
        _, _, written = at_terminal(project, "apply", "--yes", "--wait", "1", columns=80)
        lines = on_screen(written.replace("\r\n", "\n").split("\n"))
        assert [line for line in lines if line.startswith("waiting up to")], lines
        assert [line for line in lines if "applying" in line and "waiting" in line] == []


def on_screen(lines: list[str]) -> list[str]:
    r"""Return lines as a terminal shows them in the end: \r returns to the start of a line, and \x1b[K erases
    the rest.
    """
    shown = []
    for line in lines:
        cells, at = "", 0
        for part in re.split("(\r|\x1b\\[K)", _STYLE.sub("", line)):
            if part == "\r":
                at = 0
            elif part == "\x1b[K":
                cells = cells[:at]
            else:
                cells = cells[:at] + part + cells[at + len(part) :]
                at += len(part)
        shown.append(cells)
    return shown


@pytest.mark.parametrize("text", [*NAMES, styled(Style.RED, "red 日本語") + " plain " + styled(Style.BOLD, "b" * 99)])
@pytest.mark.parametrize("columns", [1, 5, 20, 80])
def test_a_text_is_clipped_to_its_columns_and_its_marks_stay_in_pairs(text: str, columns: int) -> None:
    made = clip(text, columns)
    assert width(made) <= columns
    assert cell_len(re.sub("\x01.|\x02", "", made)) <= columns
    assert made.count("\x01") == made.count("\x02")
    assert (made == text) is (width(text) <= columns)
