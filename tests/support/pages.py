"""Follow the pages of the documentation as a reader does.

A block of `sh` on a page holds commands, and can be pasted into a shell as it stands. A block of `text` right below
shows everything that the commands print. Without such a block the commands print nothing. A block of `python` or `toml`
shows a part of the example of a plugin, and so may a block of `text`. `python tests/support/pages.py [PAGE]...` runs
the commands of the pages, and writes their output, and the parts of the example, into the pages.

The reader has the tool, git and a shell. Any server, token or remote must be made by the page itself. The pages of
`ON_A_CLUSTER` also take a Kubernetes cluster for granted, and `tests/kubernetes/test_pages.py` follows them. Those of
`ON_SLURM` and `ON_RAY` take a Slurm cluster and a head of Ray for granted (`test_pages.py` and `test_ray_pages.py`).
"""

import ast
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from checkout import ROOT
from launcher import launcher_in
from project import NOBODY
from wheels import EXAMPLE, build, environment_with

DOCS = ROOT / "docs"
PORT = "8080"
"""The port of the server on the pages; a test gives the server a free one instead."""
FOLDER = "/home/ada"
"""The folder of the reader on the pages; a test works in a new folder instead."""
LONGEST_S = 240
PROGRESS = re.compile(r" *\d+/(\d+) ")
"""The start of a line of an apply: the number of the action, and the number of all actions."""

WITHOUT_COMMANDS = frozenset({"docs/how-to/kueue.md"})
"""How-tos without a block of commands."""
PLUGIN_PAGE = "docs/how-to/write-a-plugin.md"
"""The page whose reader has made an environment, and stands in a copy of the example of a plugin."""
ON_A_CLUSTER: Mapping[str, tuple[str, ...]] = {
    "README.md": ("On Kubernetes",),
    "docs/how-to/kubernetes.md": (),
    "docs/how-to/migrations.md": (),
    "docs/how-to/from-argo-cd.md": (),
}
"""The pages whose commands need a Kubernetes cluster, as in `FOLLOWED`."""

ON_SLURM: Mapping[str, tuple[str, ...]] = {
    "docs/how-to/slurm.md": (),
    "docs/how-to/slurm-arrays.md": (),
    "docs/how-to/slurm-training.md": (),
}
"""The pages whose commands need a Slurm cluster of their own, as in `FOLLOWED`."""

ON_RAY: Mapping[str, tuple[str, ...]] = {"docs/how-to/ray.md": ()}
"""The pages whose commands need a head of Ray, as in `FOLLOWED`."""

_ELSEWHERE = {*ON_A_CLUSTER, *ON_SLURM, *ON_RAY, *WITHOUT_COMMANDS}
_HOW_TOS = [f"docs/how-to/{page.name}" for page in sorted((DOCS / "how-to").glob("*.md"))]
FOLLOWED: Mapping[str, tuple[str, ...]] = {
    "README.md": ("What you see",),
    "docs/git-state.md": ("Try it", "Look back", "Move a state there, and back"),
    "docs/concepts.md": (),
    "docs/kubernetes.md": ("The manifest of a Job",),
    **{page: () for page in _HOW_TOS if page not in _ELSEWHERE},
    PLUGIN_PAGE: ("Try it", "Test it"),
}
"""The pages by path, each with the sections that are followed, in order; no section stands for the whole page."""


class Around(NamedTuple):
    """What a reader has beside the tool: variables, a folder of programs, and how texts of the page are typed.

    `typed` has texts of a page by what the reader types in their place. What is printed is read the other way round.
    The reader has `longest_s` for the whole page.
    """

    env: Mapping[str, str] = {}
    programs: str = ""
    typed: Mapping[str, str] = {}
    longest_s: float = LONGEST_S


ALONE = Around()
"""A reader who has nothing but the tool."""


class Block(NamedTuple):
    """Commands of a page, and the output that the page shows for them.

    `line` is the line where the commands begin, from 1. `shown_at` is the span of the lines of the output, from 0, as
    in a slice. If the page shows no output, the span is empty and lies below the commands.
    """

    line: int
    commands: str
    shown: str
    shown_at: tuple[int, int]


class Fence(NamedTuple):
    """A fenced block of a page. `start` and `end` are the lines of its body, from 0, as in a slice.

    `section` is the heading above the block, and `text_above` the last line of text between the block before and this
    one; "" without such a line.
    """

    language: str
    section: str
    text_above: str
    start: int
    end: int
    body: str


def fences(page: str) -> Iterator[Fence]:
    """Yield the fenced blocks of a page, in order."""
    lines = page.splitlines()
    section, text_above, fence, language, start = "", "", "", "", 0
    for number, line in enumerate(lines):
        if not fence and (opening := re.fullmatch("(`{3,})([a-z]*)", line)):
            fence, language, start = opening[1], opening[2], number + 1
        elif fence and line == fence:
            yield Fence(language, section, text_above, start, number, "\n".join(lines[start:number]))
            fence, text_above = "", ""
        elif not fence and line:
            text_above = line
            if line.startswith("## "):
                section = line[3:]


def blocks(page: str, sections: tuple[str, ...] = ()) -> list[Block]:
    """Return the blocks of these sections, in the order of the page. No section means all sections.

    A block of `yaml` counts as a command that writes a file, if the line above the block ends with the file's name and
    a colon ("`jobs.yaml`:").
    """
    found: list[Block] = []
    for language, section, text_above, start, end, body in fences(page):
        is_followed = not sections or section in sections
        if is_followed and language == "sh":
            found.append(Block(start + 1, body, "", (end + 1, end + 1)))
        elif is_followed and language == "yaml" and (named := re.search(r"`([\w.-]+)`:$", text_above)):
            heredoc = f"cat > {named[1]} <<'EOF'\n{body}\nEOF"
            found.append(Block(start + 1, heredoc, "", (end + 1, end + 1)))
        elif is_followed and language == "text" and not text_above and found and not found[-1].shown:
            found[-1] = found[-1]._replace(shown=body, shown_at=(start, end))
    return found


def excerpts(page: str) -> Iterator[tuple[Fence, str]]:
    """Yield each block that shows a part of the example of a plugin, with this part as it is now.

    The line above such a block ends with the file, or with the file and the definition, and a colon:
    "`reconciler_scripts/engine.py`, `ScriptsEngine.send`:". Each block of `python` and `toml` is one. A block of `text`
    shows a shell script, since a block of `sh` holds commands. Raises `ValueError` if there is no such part.
    """
    for fence in fences(page):
        named = re.search(r"`([\w./-]+\.(?:py|toml|sh))`(?:, `([^`]+)`)?:$", fence.text_above)
        if fence.language in {"python", "toml", "text"} and named:
            yield fence, part_of((EXAMPLE / named[1]).read_text(encoding="utf-8"), named[1], named[2] or "")
        elif fence.language in {"python", "toml"}:
            raise ValueError(f"the line above names no file: {fence.body}")


def part_of(text: str, file: str, name: str) -> str:
    """Return a definition of a Python file, a table of another file, or the whole file if `name` is "".

    A definition comes with its decorators, and without the white space before it.
    """
    lines = text.splitlines()
    if not name:
        return "\n".join(lines)
    if not file.endswith(".py"):
        start = lines.index(name)
        return "\n".join([*lines, ""][start : [*lines, ""].index("", start)])
    found: ast.AST = ast.parse(text)
    for word in name.split("."):
        found = next(node for node in ast.iter_child_nodes(found) if word in _names(node))
    assert isinstance(found, ast.stmt)
    first = min([found.lineno, *(one.lineno for one in getattr(found, "decorator_list", []))])
    return textwrap.dedent("\n".join(lines[first - 1 : found.end_lineno]))


def _names(node: ast.AST) -> set[str]:
    """The names that a statement defines."""
    match node:
        case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
            return {name}
        case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
            return {name}
        case _:
            return set()


SHELL_ON_ITS_JOBS = re.compile(r"^\[\d+\][+-]? +(Done|Exit|Terminated)|: line \d+: +\d+ (Done|Exit|Terminated) ")
"""The shell's message about a server that ended; each shell words this message differently."""
VARYING = (
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "TIME"),
    (r"\bsession_[0-9_-]+", "SESSION"),
    (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d+\tINFO job_manager\.py:\d+", "TIME"),
    (r"\b\d{4}-\d\d-\d\d\b", "DATE"),
    (r" *\b\d+\.\d\d s\b *", " SECONDS "),
    (r"\bTOOK +", "TOOK "),  # a column is as wide as its longest time
    (r" *\b\d+ MiB\b *", " MEMORY "),
    (r"\bprocess \d+", "process PID"),
    (r"\S+ pid \d+", "HOST pid PID"),
    (r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "UUID"),
    (r"\b(?=[0-9a-f]*[0-9])[0-9a-f]{7,64}\b", "HASH"),
    (r" deleted from \S+ namespace$", " deleted"),  # as kubectl says it since 1.34
    (r" +$", ""),
)
"""Patterns of text that differs from run to run, each with its substitute in a comparison."""


def stable(printed: str) -> list[str]:
    """Return the printed lines without their variable parts: times, ids, and the order of parallel calls."""
    text = printed.strip("\n")
    for pattern, word in VARYING:
        text = re.sub(pattern, word, text, flags=re.MULTILINE)
    lines: list[str] = []
    for is_progress, group in groupby(text.split("\n"), lambda line: bool(PROGRESS.match(line))):
        run = [PROGRESS.sub(r"N/\1 ", line) for line in group]
        lines += sorted(run) if is_progress else run
    return lines


def is_shown(shown: str, printed: str) -> bool:
    """Whether the output on a page equals the printed output, apart from variable parts."""
    return stable(shown) == stable(printed)


class Reader:
    """A person who follows a page in one shell, in a new folder."""

    def __init__(self, folder: Path, page: str, around: Around) -> None:
        work, self._typed = folder / "work", folder / "typed"
        binaries = _plugin_author_in(folder) if page == PLUGIN_PAGE else launcher_in(folder / "bin")
        work.mkdir(exist_ok=True)
        self._work = str(work)
        (folder / "gitconfig").write_text("[user]\n\tname = Ada\n\temail = ada@example.com\n")
        env = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("BYTENITE_", "RECONCILER_"))},
            **NOBODY,
            "PATH": ":".join(filter(None, (str(binaries), around.programs, os.environ["PATH"]))),
            "HOME": str(folder),
            "GIT_CONFIG_GLOBAL": str(folder / "gitconfig"),
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "PIP_NO_INDEX": "1",
            "NO_COLOR": "1",
            "USER": "ada",
            **around.env,
        }
        for name in ("XDG_STATE_HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"):
            env.pop(name, None)
        self._typed_for = around.typed
        self._port = PORT
        self._servers: set[int] = set()
        self._shell = subprocess.Popen(
            ["bash"],
            cwd=work,
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._alarm = threading.Timer(around.longest_s, self._end)
        self._alarm.start()
        # A shell at a terminal puts each server into a process group of its own, so that `kill %1` ends the server
        # alone.
        self._write("set -m\n")

    def leave(self) -> None:
        """End the shell and every process that the shell started."""
        self._alarm.cancel()
        self._end()
        self._shell.communicate()

    def types(self, block: Block) -> tuple[int, str]:
        """Paste a block into the shell; return the exit code of the last command, and the output.

        If the page shows the output of a server, wait until the server has printed as many lines.
        """
        assert self._shell.stdout is not None
        is_server = block.commands.endswith("&")
        self._typed.write_text(f"{self._as_typed(block.commands)}\n")
        # The shell sources a file, since a command would read the lines that follow it on stdin.
        self._write(f". {self._typed} < /dev/null\n")
        self._write("printf '\\n-- ended with %d, servers%s --\\n' $? \"$(printf ' %d' $(jobs -p))\"\n")
        output, code = "", None
        for line in self._shell.stdout:
            if ended := re.fullmatch("-- ended with ([0-9]+), servers([0-9 ]+) --\n", line):
                code = int(ended[1])
                self._servers = {int(group) for group in ended[2].split()} - {0}
            elif not SHELL_ON_ITS_JOBS.search(line):
                if is_server and (found := re.search("http://127.0.0.1:([0-9]+)/", line)):
                    self._port = found[1]
                output += self._as_shown(line)
            if code is not None and (not is_server or is_shown(block.shown, output)):
                return code, output
        raise AssertionError(f"the shell ended, or its time was over: {block.commands}\n{output}")

    def _as_typed(self, commands: str) -> str:
        text = commands.replace(f"--port {PORT}", "--port 0").replace(f":{PORT}/", f":{self._port}/")
        for shown, typed in self._typed_for.items():
            text = text.replace(shown, typed)
        return text

    def _as_shown(self, printed: str) -> str:
        text = printed.replace(f":{self._port}/", f":{PORT}/").replace(self._work, FOLDER)
        for shown, typed in self._typed_for.items():
            text = text.replace(typed, shown)
        return text

    def _write(self, text: str) -> None:
        assert self._shell.stdin is not None
        self._shell.stdin.write(text)
        self._shell.stdin.flush()

    def _end(self) -> None:
        for group in {self._shell.pid, *self._servers}:
            with suppress(ProcessLookupError):
                os.killpg(group, signal.SIGKILL)


def _plugin_author_in(folder: Path) -> Path:
    """Prepare what the page on plugins takes for granted: an environment with the tool, and a copy of the example.

    Returns the folder of the programs of the environment.
    """
    shutil.copytree(EXAMPLE, folder / "work", ignore=shutil.ignore_patterns("__pycache__", ".*_cache"))
    return environment_with(folder / "venv", build(ROOT, "wheel", folder / "wheel"))


@contextmanager
def a_reader(folder: Path, page: str = "", around: Around = ALONE) -> Iterator[Reader]:
    """Yield a reader of a page, and end all processes of the reader afterwards."""
    reader = Reader(folder, page, around)
    try:
        yield reader
    finally:
        reader.leave()


def untrue(name: str, reader: Reader, found: list[Block]) -> Iterator[tuple[Block, str]]:
    """Return each block whose output on the page is wrong, with the right output.

    Raises:
        AssertionError: The last command of a block failed.
    """
    for block in found:
        code, printed = reader.types(block)
        assert code == 0, f"{name}:{block.line}: exit {code}\n{block.commands}\n{printed}"
        if not is_shown(block.shown, printed):
            yield block, printed.strip("\n")


def with_excerpts(page: str) -> str:
    """Return a page whose blocks show the parts of the example as they are now."""
    lines = page.splitlines()
    for fence, part in reversed(list(excerpts(page))):
        lines[fence.start : fence.end] = part.splitlines()
    return "\n".join(lines) + "\n"


def wrong_outputs(name: str, sections: tuple[str, ...], folder: Path, around: Around = ALONE) -> list[str]:
    """Follow a page in a folder. Return a message about each block whose output on the page is wrong."""
    found = blocks((ROOT / name).read_text(encoding="utf-8"), sections)
    assert found, name
    with a_reader(folder, name, around) as reader:
        return [
            f"{name}:{block.line}: prints something else than is shown:\n{block.commands}\n--\n{printed}"
            for block, printed in untrue(name, reader, found)
        ]


def renew(name: str, sections: tuple[str, ...], around: Around = ALONE) -> None:
    """Follow a page, and correct each excerpt and each output that the page shows wrongly."""
    page = with_excerpts((ROOT / name).read_text(encoding="utf-8"))
    (ROOT / name).write_text(page, encoding="utf-8")
    lines = page.splitlines()
    added = 0
    with tempfile.TemporaryDirectory() as folder, a_reader(Path(folder), name, around) as reader:
        for block, printed in untrue(name, reader, blocks(page, sections)):
            start, end = (place + added for place in block.shown_at)
            new = printed.splitlines() if block.shown else ["", "```text", *printed.splitlines(), "```"]
            if block.shown and not printed:
                start, end = start - 1, end + 1
            lines[start:end] = new
            added += len(new) - (end - start)
            (ROOT / name).write_text("\n".join(lines) + "\n", encoding="utf-8")


def renew_on_a_cluster(names: Iterable[str]) -> None:
    """Renew the pages that take a cluster for granted, with one that ends afterwards."""
    from kubernetes.cluster import Cluster, missing
    from kubernetes.test_pages import around

    if reason := missing():
        sys.exit(f"{reason}; these pages stay as they are: {', '.join(names)}")
    with Cluster() as cluster:
        for name in names:
            renew(name, ON_A_CLUSTER[name], around(cluster))


def renew_on_slurm(names: Iterable[str]) -> None:
    """Renew the pages that take a Slurm cluster for granted, each with one that ends afterwards."""
    from slurm.cluster import Cluster, missing
    from slurm.test_pages import NAME, around

    if reason := missing():
        sys.exit(f"{reason}; these pages stay as they are: {', '.join(names)}")
    for name in names:
        with Cluster(NAME) as cluster:
            renew(name, ON_SLURM[name], around(cluster))


def renew_on_ray(names: Iterable[str]) -> None:
    """Renew the pages that take a head of Ray for granted, with one that ends afterwards."""
    from ray.cluster import Cluster, missing
    from ray.test_ray_pages import followed, free

    if reason := missing():
        sys.exit(f"{reason}; these pages stay as they are: {', '.join(names)}")
    with Cluster() as cluster, tempfile.TemporaryDirectory() as programs:
        for name in names:
            followed(cluster, Path(programs), partial(renew, name, ON_RAY[name]))
            free(cluster)


if __name__ == "__main__":
    asked = list(dict.fromkeys(sys.argv[1:] or [*FOLLOWED, *ON_A_CLUSTER, *ON_SLURM, *ON_RAY]))
    for page in (page for page in asked if page in FOLLOWED):
        renew(page, FOLLOWED[page])
    if on_a_cluster := [page for page in asked if page in ON_A_CLUSTER]:
        renew_on_a_cluster(on_a_cluster)
    if on_slurm := [page for page in asked if page in ON_SLURM]:
        renew_on_slurm(on_slurm)
    if on_ray := [page for page in asked if page in ON_RAY]:
        renew_on_ray(on_ray)
