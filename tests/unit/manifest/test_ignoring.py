"""Ignore files: the same files are left out as git leaves out."""

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reconciler.manifest.ignoring import Patterns, patterns_of

PIECES = ["a", "b", "ab", "c", "/", "*", "**", "?", "[a-b]", "[!a]", "[^b]", "[b-a]", "\\a", "\\", "!", "#", " ", "\\ "]
MORE_PIECES = ["]", "[", "[]-a]", "[\\a-b]", "-", "[[:alpha:]]", "[[:nothing:]]", "[^[:digit:]a]", "\r", "\u00e9"]
NAMES = ["a", "b", "ab", "c", "ba", "a b", "#a", "!a", "a]", "[", "-", "a ", "\u00e9"]


def is_plain(line: str) -> bool:
    """Whether no name runs into two stars: git compares the name first, and takes the rest for a pattern of its own."""
    return not re.search(r"[^/*]\*\*", line.removeprefix("!"))


lines = st.lists(st.sampled_from([*PIECES, *MORE_PIECES]), min_size=1, max_size=5).map("".join).filter(is_plain)
paths = st.lists(st.sampled_from(NAMES), min_size=1, max_size=4).map("/".join)


def left(folder: bytes, patterns: Patterns, path: bytes = b"") -> Iterator[bytes]:
    """Yield the files below a folder that the patterns leave."""
    for name in os.listdir(os.path.join(folder, path)):
        below = path + b"/" + name if path else name
        is_folder = os.path.isdir(os.path.join(folder, below))
        if name == b".git" or patterns.verdict(below, is_folder=is_folder):
            continue
        if is_folder:
            yield from left(folder, patterns, below)
        else:
            yield below


def left_by_git(folder: Path) -> set[bytes]:
    command = ["git", "-C", str(folder), "ls-files", "--others", "--exclude-standard", "-z"]
    env = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "GIT_CONFIG_NOSYSTEM": "1"}
    return {*subprocess.run(command, env=env, capture_output=True, check=True).stdout.split(b"\0")} - {b""}


@pytest.mark.skipif(subprocess.run(["git", "--version"], check=False).returncode != 0, reason="git is not installed")
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(lines, min_size=1, max_size=4), st.lists(paths, min_size=5, max_size=20))
def test_git_leaves_out_the_same_files(
    tmp_path_factory: pytest.TempPathFactory, written: list[str], files: list[str]
) -> None:
    folder = tmp_path_factory.mktemp("ignoring")
    subprocess.run(["git", "init", "-q", str(folder)], check=True)
    content = "\n".join(written).encode()
    (folder / ".gitignore").write_bytes(content)
    for file in files:
        path = folder / file
        if not any(above.is_file() for above in path.parents) and not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    assert {*left(os.fsencode(folder), patterns_of(content))} == left_by_git(folder)


@pytest.mark.parametrize(
    ("written", "path", "is_ignored"),
    [
        (b"*.ckpt", b"a/b/x.ckpt", True),
        (b"/x", b"a/x", None),
        (b"a/x", b"b/a/x", None),
        (b"**/a/x", b"b/a/x", True),
        (b"a/**/x", b"a/x", True),
        (b"a/**", b"a/b/c", True),
        (b"data/", b"data", None),
        (b"*.log\n!keep.log", b"keep.log", False),
        (b"\\#x", b"#x", True),
        (b"#x", b"#x", None),
        (b"x  ", b"x", True),
        (b"x\\ ", b"x ", True),
        (b"\xef\xbb\xbfx\r\ny\r\n", b"x", True),
        (b"[", b"[", None),
        (b"?", "\u00e9".encode(), None),
        (b"??", "\u00e9".encode(), True),
    ],
)
def test_what_a_line_says_of_a_file(written: bytes, path: bytes, is_ignored: bool | None) -> None:
    assert patterns_of(written).verdict(path, is_folder=False) is is_ignored


def test_a_line_for_folders_is_about_folders() -> None:
    assert patterns_of(b"data/").verdict(b"a/data", is_folder=True) is True


def test_no_pattern_takes_long() -> None:
    """A pattern comes from whoever can change a file of the repository."""
    path = b"a" * 250
    assert patterns_of(b"*a" * 60 + b"b").verdict(path, is_folder=False) is None
    assert patterns_of(b"*a" * 60).verdict(path, is_folder=False) is True
    assert (
        patterns_of(b"/" + b"*a" * 60 + b"/" + b"*a" * 60 + b"b").verdict(path + b"/" + path, is_folder=False) is None
    )
