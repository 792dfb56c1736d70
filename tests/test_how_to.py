"""The how-tos, command by command: what they show is what happens.

Whoever follows a page has the tool, git and a shell, and nothing else: a server, a token and a remote are
there once the page makes them.
"""

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import pytest

DOCS = Path(__file__).parent.parent / "docs"
FOLDER = DOCS / "how-to"
PORT = "8080"
"""Where the how-tos have the service; the tests have it where there is room."""
LONGEST_S = 120


class Step(NamedTuple):
    """One command, and lines of which each must be in what it prints, in this order."""

    line: int
    command: str
    shown: list[str]


def steps(text: str) -> Iterator[Step]:
    """The commands of the console blocks: after "$ ", gone on after "> "; the lines below are what is printed.

    A line that is "…" stands for any number of lines.
    """
    number = 0
    step: Step | None = None
    inside = False
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("```"):
            inside = line == "```console"
            if step:
                yield step
            step = None
        elif not inside:
            continue
        elif line.startswith("$ "):
            if step:
                yield step
            step = Step(number, line[2:], [])
        elif step and line.startswith("> ") and not step.shown:
            step = step._replace(command=f"{step.command}\n{line[2:]}")
        elif step and line not in ("", "…"):
            step.shown.append(line)


class Reader:
    """A person who follows a page in one shell, in a folder of their own."""

    def __init__(self, folder: Path) -> None:
        binaries, self._work, self._typed = folder / "bin", folder / "work", folder / "typed"
        binaries.mkdir()
        program = binaries / "reconciler"
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m reconciler "$@"\n')
        program.chmod(0o755)
        self._work.mkdir()
        (folder / "gitconfig").write_text("[user]\n\tname = Ada\n\temail = ada@example.com\n")
        env = {
            **os.environ,
            "PATH": f"{binaries}:{os.environ['PATH']}",
            "HOME": str(folder),
            "GIT_CONFIG_GLOBAL": str(folder / "gitconfig"),
            "XDG_STATE_HOME": str(folder / "state"),
            "XDG_CACHE_HOME": str(folder / "cache"),
            "NO_COLOR": "1",
            "USER": "ada",
        }
        self._port = PORT
        self._shell = subprocess.Popen(
            ["bash"],
            cwd=self._work,
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._alarm = threading.Timer(LONGEST_S, self._end)
        self._alarm.start()

    def leave(self) -> None:
        """End the shell and all that was started in it."""
        self._alarm.cancel()
        self._end()
        self._shell.communicate()

    def _end(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._shell.pid, signal.SIGKILL)

    def types(self, step: Step) -> tuple[int, str]:
        """The exit code of a command and what it printed; a server's output is awaited until it has what is shown."""
        assert self._shell.stdin is not None
        assert self._shell.stdout is not None
        is_server = step.command.endswith("&")
        command = step.command.replace(f"--port {PORT}", "--port 0").replace(f":{PORT}/", f":{self._port}/")
        self._typed.write_text(f"{command}\n")
        # By `.`, so that what is typed next is not taken for the command's input.
        self._shell.stdin.write(f". {self._typed} < /dev/null\nprintf '\\n-- ended with %d --\\n' $?\n")
        self._shell.stdin.flush()
        said, code = "", None
        for line in self._shell.stdout:
            if ended := re.fullmatch("-- ended with ([0-9]+) --\n", line):
                code = int(ended[1])
            elif is_server and (found := re.search("http://127.0.0.1:([0-9]+)/", line)):
                self._port = found[1]
                said += line.replace(f":{self._port}/", f":{PORT}/")
            else:
                said += line.replace(f":{self._port}/", f":{PORT}/")
            if code is not None and (not is_server or all(each in said for each in step.shown)):
                return code, said
        raise AssertionError(f"the shell ended, or {LONGEST_S} s were over: $ {step.command}\n{said}")


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    reader = Reader(tmp_path)
    try:
        yield reader
    finally:
        reader.leave()


def follow(reader: Reader, page: str, found: list[Step]) -> None:
    assert found
    for step in found:
        code, said = reader.types(step)
        rest = said
        for line in step.shown:
            _, found_line, rest = rest.partition(line)
            assert found_line, f"{page}:{step.line}: $ {step.command}\nshows no {line!r}:\n{said}"
        assert code == 0, f"{page}:{step.line}: $ {step.command}\n{said}"


@pytest.mark.parametrize("page", sorted(FOLDER.glob("*.md")), ids=lambda page: page.stem)
def test_what_a_how_to_shows_is_what_happens(page: Path, reader: Reader) -> None:
    follow(reader, page.name, list(steps(page.read_text())))


def test_a_state_moves_to_a_branch_and_back_as_the_page_says(reader: Reader) -> None:
    page = (DOCS / "git-state.md").read_text()
    before = """
```console
$ git init -q --bare ../remote.git
$ git init -q -b main && git remote add origin ../remote.git
$ reconciler init && reconciler apply --yes && git add . && git commit -q -m "A job"
```
"""
    after = """
```console
$ reconciler plan
No changes: 1 job is as recorded.
```
"""
    [moving] = re.findall("## Move a state there, and back\n(.*?)\n## ", page, re.DOTALL)
    follow(reader, "git-state.md", [step for text in (before, moving, after) for step in steps(text)])


def test_every_how_to_is_linked_from_the_readme() -> None:
    readme = (DOCS.parent / "README.md").read_text()
    assert {page.name for page in FOLDER.glob("*.md")} == set(re.findall(r"docs/how-to/([\w-]+\.md)", readme))
