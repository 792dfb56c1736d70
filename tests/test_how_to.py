"""The how-tos, command by command: what they show is what happens."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from project import TOKEN
from reconciler.engines.sandbox.server import SandboxServer

FOLDER = Path(__file__).parent.parent / "docs" / "how-to"
PORT = "8080"
"""Where the how-tos have the service; the tests have it elsewhere."""


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


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[dict[str, str]]:
    """A folder with a bare remote, a service, and the environment of a person who works there."""
    binaries = tmp_path / "bin"
    binaries.mkdir()
    program = binaries / "reconciler"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m reconciler "$@"\n')
    program.chmod(0o755)
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", str(tmp_path / "remote.git")], check=True)
    (tmp_path / "work").mkdir()
    (tmp_path / "gitconfig").write_text(
        "[user]\n\tname = Ada\n\temail = ada@example.com\n[init]\n\tdefaultBranch = main\n"
    )
    with SandboxServer(tmp_path / "service.db", access_token=TOKEN, create_missing=True, job_seconds=1000) as server:
        yield {
            **os.environ,
            "PATH": f"{binaries}:{os.environ['PATH']}",
            "HOME": str(tmp_path),
            "GIT_CONFIG_GLOBAL": str(tmp_path / "gitconfig"),
            "GIT_CONFIG_NOSYSTEM": "1",
            "XDG_STATE_HOME": str(tmp_path / "state"),
            "XDG_CACHE_HOME": str(tmp_path / "cache"),
            "NO_COLOR": "1",
            "USER": "ada",
            "BYTENITE_ACCESS_TOKEN": TOKEN,
            "TEST_PORT": str(server.endpoint.split(":")[2].split("/")[0]),
        }


@pytest.mark.parametrize("page", sorted(FOLDER.glob("*.md")), ids=lambda page: page.stem)
def test_what_a_how_to_shows_is_what_happens(page: Path, shell: dict[str, str], tmp_path: Path) -> None:
    found = list(steps(page.read_text()))
    assert found
    for step in found:
        done = subprocess.run(
            ["bash", "-c", step.command.replace(f":{PORT}/", f":{shell['TEST_PORT']}/")],
            cwd=tmp_path / "work",
            env=shell,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
            check=False,
        )
        said = done.stdout.replace(f":{shell['TEST_PORT']}/", f":{PORT}/")
        rest = said
        for line in step.shown:
            _, found_line, rest = rest.partition(line)
            assert found_line, f"{page.name}:{step.line}: $ {step.command}\nshows no {line!r}:\n{said}"
        if not step.shown and "||" not in step.command:
            assert done.returncode == 0, f"{page.name}:{step.line}: $ {step.command}\n{said}"


def test_every_how_to_is_linked_from_the_readme() -> None:
    readme = (FOLDER.parent.parent / "README.md").read_text()
    assert {page.name for page in FOLDER.glob("*.md")} == set(re.findall(r"docs/how-to/([\w-]+\.md)", readme))
