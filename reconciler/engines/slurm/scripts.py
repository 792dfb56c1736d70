"""Batch scripts: the options in their lines `#SBATCH`, and how a few lines of our own get into them.

`sbatch` reads its options from the first lines of a script, up to the first line that is neither a comment nor blank
(sbatch(1)). Everything of ours therefore stands after these lines. A shell then executes it before the rest; a script
for any other program is handed to that program by a shell.
"""

import os
import re
import shlex
from collections.abc import Iterator
from typing import NamedTuple

_MARK = "#SBATCH"
_SHELLS = frozenset({"sh", "bash", "dash", "ash", "ksh", "mksh", "zsh"})
"""The programs that read our lines, which are written for a POSIX shell."""

_LONG_NAMES = {
    "A": "account", "a": "array", "B": "extra-node-info", "b": "begin", "C": "constraint", "c": "cpus-per-task",
    "D": "chdir", "d": "dependency", "e": "error", "F": "nodefile", "G": "gpus", "i": "input", "J": "job-name",
    "k": "no-kill", "L": "licenses", "M": "clusters", "m": "distribution", "N": "nodes", "n": "ntasks",
    "o": "output", "p": "partition", "q": "qos", "S": "core-spec", "t": "time", "w": "nodelist", "x": "exclude",
    "H": "hold", "h": "help", "I": "immediate", "O": "overcommit", "Q": "quiet", "s": "oversubscribe", "u": "usage",
    "V": "version", "v": "verbose", "W": "wait",
}  # fmt: skip
"""The long name of each option of one letter (sbatch(1))."""

_WITHOUT_VALUE = frozenset("HhIkOQsuVvW")
"""The letters after which another letter may follow. The value of `-I`, `-k` or `-s` never is a word of its own."""

_WITH_VALUE = frozenset(name for letter, name in _LONG_NAMES.items() if letter not in _WITHOUT_VALUE) | {"comment"}


class ScriptOption(NamedTuple):
    """One option of a line `#SBATCH`: its long name as it is written, its value or "", and the number of its line."""

    name: str
    value: str
    line: int


def options_of(script: str) -> tuple[ScriptOption, ...]:
    """Return the options in the lines `#SBATCH` of a script, in their order."""
    found: list[ScriptOption] = []
    for number, line in enumerate(script.split("\n")[: _head(script)], 1):
        if line.startswith(_MARK) and (len(line) == len(_MARK) or line[len(_MARK)].isspace()):
            found += _options_in(_words(line[len(_MARK) :]), number)
    return tuple(found)


def is_heterogeneous(script: str) -> bool:
    """Return whether a script is for several Slurm jobs at once (`#SBATCH hetjob`)."""
    lines = script.split("\n")[: _head(script)]
    return any(re.match(r"#(SBATCH|SLURM)\s+(hetjob|packjob)\b", line) for line in lines)


def with_lines(script: str, lines: str) -> str:
    """Return a script that executes some lines of a POSIX shell before all of its own.

    `lines` ends in a newline, or is "". A script without `#!` is for /bin/sh. What the program of a script reads from
    its standard input stays the same, whichever program it is.
    """
    if not script.startswith("#!"):
        script = f"#!/bin/sh\n{script}"
    if not lines:
        return script
    head, body = _parted(script)
    if _program(head) in _SHELLS:
        return head + lines + body
    return _handed_over(script, head, lines)


def _handed_over(script: str, head: str, lines: str) -> str:
    """Return a shell script that gives a script to its own program, with the options of that script."""
    first, _, options = head.partition("\n")
    end = "RECONCILER_END"
    while end in script:
        end += "_"
    text = script if script.endswith("\n") else f"{script}\n"
    return f"#!/bin/sh\n{options}{lines}exec {first[2:].strip()} /dev/fd/9 9<<'{end}'\n{text}{end}\n"


def _parted(script: str) -> tuple[str, str]:
    """Return the lines of a script in which `sbatch` looks for options, and the rest."""
    lines = script.split("\n")
    at = _head(script)
    head, body = "\n".join(lines[:at]), "\n".join(lines[at:])
    return (f"{head}\n", body) if at < len(lines) or not script.endswith("\n") else (head, body)


def _head(script: str) -> int:
    """Return how many lines stand before the first one that is neither a comment nor blank."""
    lines = script.split("\n")
    return next((at for at, line in enumerate(lines) if line.strip() and not line.lstrip().startswith("#")), len(lines))


def _program(head: str) -> str:
    """Return the name of the program that the first line of a script names, without its folder."""
    words = head.partition("\n")[0][2:].split()
    if words and os.path.basename(words[0]) == "env":
        words = [word for word in words[1:] if not word.startswith("-") and "=" not in word]
    return os.path.basename(words[0]) if words else ""


def _words(text: str) -> list[str]:
    """Return the words of a line, up to a comment. Quotes hold a word together, as `sbatch` reads them."""
    reader = shlex.shlex(text, posix=True, punctuation_chars=False)
    reader.whitespace_split = True
    reader.commenters = "#"
    try:
        return list(reader)
    except ValueError:
        return text.split()


def _options_in(words: list[str], line: int) -> Iterator[ScriptOption]:
    """Yield the options that some words are."""
    at = 0
    while at < len(words):
        word = words[at]
        following = words[at + 1] if at + 1 < len(words) else ""
        at += 1
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            if not equals and name in _WITH_VALUE:
                value, at = following, at + 1
            yield ScriptOption(name, value, line)
        elif word.startswith("-"):
            letters = word[1:]
            while letters[:1] in _WITHOUT_VALUE and letters:
                yield ScriptOption(_LONG_NAMES[letters[0]], "", line)
                letters = letters[1:]
            if letters:
                value = letters[1:] or following
                at += 0 if letters[1:] else 1
                yield ScriptOption(_LONG_NAMES.get(letters[0], letters[0]), value, line)
