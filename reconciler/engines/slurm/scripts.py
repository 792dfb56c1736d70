"""Batch scripts: the options in their lines `#SBATCH`, and how a few lines of our own get into them.

`sbatch` reads its options from the first lines of a script, up to the first line that is neither a comment nor blank
(sbatch(1)). Everything of ours therefore stands after these lines. A shell then executes it before the rest; a script
for any other program is handed to that program by a shell.
"""

import os
import re
import shlex
from collections.abc import Iterator
from itertools import takewhile
from typing import NamedTuple

_MARKS = ("#SBATCH", "#SLURM")
_FOREIGN_MARKS = ("#PBS", "#BSUB")
"""What begins a line with options of other batch systems. `sbatch --ignore-pbs` leaves these lines alone."""

_SHELLS = frozenset({"sh", "bash", "dash", "ash", "ksh", "mksh", "zsh"})
"""The programs that read our lines, which are written for a POSIX shell."""

_LONG_NAMES = {
    "A": "account", "a": "array", "B": "extra-node-info", "b": "begin", "C": "constraint", "c": "cpus-per-task",
    "D": "chdir", "d": "dependency", "e": "error", "F": "nodefile", "G": "gpus", "H": "hold", "h": "help",
    "i": "input", "J": "job-name", "k": "no-kill", "L": "licenses", "M": "clusters", "m": "distribution",
    "N": "nodes", "n": "ntasks", "O": "overcommit", "o": "output", "p": "partition", "Q": "quiet", "q": "qos",
    "S": "core-spec", "s": "oversubscribe", "t": "time", "V": "version", "v": "verbose", "W": "wait",
    "w": "nodelist", "x": "exclude",
}  # fmt: skip
"""The long name of each option of one letter (`slurm_opt.c` of Slurm 22.05 to 26.05)."""

_WITHOUT_VALUE = frozenset({
    "consolidate-segments", "contiguous", "exclusive", "external", "get-user-env", "help", "hold", "ignore-pbs",
    "nice", "no-kill", "no-requeue", "oom-kill-step", "overcommit", "oversubscribe", "parsable", "propagate", "quiet",
    "reboot", "requeue", "resv-ports", "spread-job", "spread-segments", "stepmgr", "test-only", "usage",
    "use-min-nodes", "verbose", "version", "wait", "wait-all-nodes",
})  # fmt: skip
"""The options whose value, if they may have one, can't be the next word (the same source). Any other takes one."""


_READ = ("array", "chdir", "dependency", "gres", "output")
"""The options whose value the engine has to know, or whether a config has them."""


class ScriptOption(NamedTuple):
    """One option of a line `#SBATCH`: its long name, see `whole_name`, its value or "", and the number of its line."""

    name: str
    value: str
    line: int


def options_of(script: str) -> tuple[ScriptOption, ...]:
    """Return the options in the lines `#SBATCH` of a script, in their order."""
    found: list[ScriptOption] = []
    for number, line in enumerate(_head_of(script), 1):
        if mark := next((mark for mark in _MARKS if line.startswith(mark)), ""):
            found += _options_in(list(_words(line[len(mark) :])), number)
    return tuple(found)


def whole_name(name: str) -> str:
    """Return the whole name of an option that the engine reads, and any other name as it is.

    `sbatch` also takes the beginning of a name. It refuses one that may be that of several options.
    """
    return next((option for option in _READ if name and option.startswith(name)), name)


def is_heterogeneous(script: str) -> bool:
    """Return whether a script is for several Slurm jobs at once (`#SBATCH hetjob`)."""
    separator = re.compile(r"#(SBATCH|SLURM)\s*(hetjob|packjob)(\s|$)", re.IGNORECASE)
    return any(line.startswith(_MARKS) and separator.match(line) for line in _head_of(script))


def foreign_line(script: str) -> int:
    """Return the number of the first line with options of another batch system, such as `#PBS`; 0 if there is none."""
    lines = _head_of(script)
    return next((number for number, line in enumerate(lines, 1) if line.startswith(_FOREIGN_MARKS)), 0)


def is_for_a_shell(script: str) -> bool:
    """Return whether the program of a script is a shell. A script without `#!` is for /bin/sh."""
    return not script.startswith("#!") or _program(_parted(script)[0]) in _SHELLS


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
    if is_for_a_shell(script):
        return head + lines + body
    return _handed_over(script, head, lines)


def _handed_over(script: str, head: str, lines: str) -> str:
    """Return a shell script that gives a script to its own program, with the options of that script."""
    first, _, options = head.partition("\n")
    # The kernel passes all that follows the program as one argument (execve(2)).
    words = " ".join(map(shlex.quote, first[2:].strip().split(maxsplit=1)))
    end = "RECONCILER_END"
    while end in script:
        end += "_"
    text = script if script.endswith("\n") else f"{script}\n"
    # Other processes of the program read the script again, such as those that Python spawns. They find it as long as
    # the program goes on, since the shell becomes the program, with the same process id and the same open files.
    return (
        f"#!/bin/sh\n{options}{lines}reconciler_script=$(mktemp) || exit\n"
        f"cat >\"$reconciler_script\" <<'{end}' || exit\n{text}{end}\n"
        'exec 9<"$reconciler_script"\nrm "$reconciler_script"\n'
        f"exec {words} /proc/$$/fd/9\n"
    )


def _parted(script: str) -> tuple[str, str]:
    """Return the lines of a script in which `sbatch` looks for options, each with its newline, and the rest."""
    head = "".join(f"{line}\n" for line in _head_of(script))
    return head, script[len(head) :]


def _head_of(script: str) -> list[str]:
    """Return the lines before the first one that is neither a comment nor blank."""
    return list(takewhile(lambda line: not line.strip() or line.lstrip().startswith("#"), script.split("\n")))


def _program(head: str) -> str:
    """Return the name of the program that the first line of a script names, without its folder."""
    words = head.partition("\n")[0][2:].split()
    if words and os.path.basename(words[0]) == "env":
        words = [word for word in words[1:] if not word.startswith("-") and "=" not in word]
    return os.path.basename(words[0]) if words else ""


def _words(text: str) -> Iterator[str]:
    """Yield the words of a line, up to a comment (`get_argument` in Slurm's `sbatch/opt.c`)."""
    word, quote, is_escaped = "", "", False
    for character in text:
        if is_escaped:
            word, is_escaped = word + character, False
        elif character == "\\":
            is_escaped = True
        elif quote:
            word, quote = (word, "") if character == quote else (word + character, quote)
        elif character in "\"'":
            quote = character
        elif character == "#":
            break
        elif not character.isspace():
            word += character
        elif word:
            yield word
            word = ""
    if word:
        yield word


def _options_in(words: list[str], line: int) -> Iterator[ScriptOption]:
    """Yield the options that some words are."""
    left = iter(words)
    for word in left:
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            takes_next = not equals and not any(option.startswith(name) for option in _WITHOUT_VALUE)
            yield ScriptOption(whole_name(name), next(left, "") if takes_next else value, line)
            continue
        letters = word[1:] if word.startswith("-") else ""
        while letters:
            name = _LONG_NAMES.get(letters[0], letters[0])
            letters = letters[1:]
            if name not in _WITHOUT_VALUE:
                yield ScriptOption(name, letters or next(left, ""), line)
                break
            yield ScriptOption(name, "", line)
