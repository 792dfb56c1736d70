"""The commands of this tool that messages name, in a form that works when a user pastes it into a shell.

`command` writes a command between backticks. `with_place` adds the paths, the state and the endpoint of the command
line to each command in a message. Whatever prints a message calls `with_place` first. Plans and other documents for
machines keep the bare commands, because these documents must not depend on where they were made.
"""

import os
import re
import shlex
from collections.abc import Sequence
from typing import NamedTuple

_COMMAND = re.compile(
    r"""`reconciler (?P<verb>(?:state )?[a-z]+)(?P<rest>(?:[^`'"]|'[^']*'|"[^"]*")*)`(?P<end>$)?""", re.MULTILINE
)
"""A command between backticks. A backtick between quotes of the shell is part of the command."""

_OPERANDS = {"diff": 2, "history": 1, "logs": 1, "rerun": 1, "resolve": 1, "runs": 1}
_OPERANDS |= {"state forget": 1, "state mv": 2, "state push": 1, "state show": 1}
"""The number of operands that a command takes before the paths of the manifest; 0 for all other commands."""

WITH_PATHS = {*_OPERANDS, "apply", "drift", "fmt", "import", "plan", "status", "validate", "wait"}
WITH_PATHS |= {"state accept", "state list", "state pull"}
_WITHOUT_STATE = {"fmt", "validate"}

VALUED = {"--allow", "--at", "--ended", "--endpoint", "--exclude", "--format", "--id", "--lock-timeout", "--max-rps"}
VALUED |= {"--moved-to", "--name", "--out", "--parallelism", "--plan", "--push", "--reason", "--settle", "--since"}
VALUED |= {"--last", "--run", "--state", "--status", "--tail", "--target", "--tasks", "--timeout", "--token", "--wait"}
"""The options that take a value, of all commands that take paths."""


class Given(NamedTuple):
    """The place that a command line names: paths, state and endpoint; () and "" for what it does not name."""

    paths: Sequence[str] = ()
    state_url: str = ""
    endpoint: str = ""


def command(verb: str, *operands: str, options: Sequence[str] = ()) -> str:
    """A command of this tool between backticks, with its words quoted for a POSIX shell.

    `command("state show", "a job")` returns "`reconciler state show 'a job'`".
    """
    dashed = any(word.startswith("-") for word in operands)
    words = [*options, "--", *operands] if dashed else [*operands, *options]
    return f"`reconciler {' '.join([verb, *map(shlex.quote, words)])}`"


def settling(job: str) -> str:
    """The two commands, in words, with which a user settles the call in doubt of a job."""
    return f"{command('resolve', job, options=['--applied'])}, or the same with `--not-applied`"


def with_place(text: str, given: Given) -> str:
    """The text, with the given paths, --state and --endpoint added to each command in it.

    A command at the end of a line loses its backticks, so that the user can paste the end of the line.
    """
    return _COMMAND.sub(lambda found: _placed(found, given), text) if "`reconciler " in text else text


def _placed(found: "re.Match[str]", given: Given) -> str:
    """A command that was found in a text, with the given place added."""
    verb, rest, ends_line = found["verb"], found["rest"], found["end"] is not None
    try:
        words = shlex.split(rest)
    except ValueError:  # the text only looks like a command of this tool
        return found[0]
    if verb in WITH_PATHS and "--help" not in words:
        rest = _with_given(verb, rest, words, given)
    return f"reconciler {verb}{rest}" if ends_line else f"`reconciler {verb}{rest}`"


def _with_given(verb: str, rest: str, words: Sequence[str], given: Given) -> str:
    """The rest of a command, with the given options and paths that the command lacks."""
    has_state = verb in _WITHOUT_STATE or "--state" in words
    options = [] if has_state or not given.state_url else ["--state", given.state_url]
    has_endpoint = verb in _WITHOUT_STATE or "--endpoint" in words
    options += [] if has_endpoint or not given.endpoint else ["--endpoint", given.endpoint]
    paths = [] if "--plan" in words or _names_a_path(verb, words) else [_as_path(path) for path in given.paths]
    if verb == "history" and not _operands(words) and paths and os.path.isdir(paths[0]):
        paths[0] = os.path.join(paths[0], "")  # without the slash, `history` takes the folder for a job
    before, dashes, operands = rest.partition(" -- ")
    tail = "".join(f" {shlex.quote(path)}" for path in paths)
    added = "".join(f" {shlex.quote(word)}" for word in options)
    return f"{before}{added}{dashes}{operands}{tail}" if dashes else f"{rest}{tail}{added}"


def _names_a_path(verb: str, words: Sequence[str]) -> bool:
    """Whether the words of a command name a path of the manifest."""
    operands = [word for word in _operands(words) if verb != "import" or "=" not in word]
    return len(operands) > _OPERANDS.get(verb, 0)


def _operands(words: Sequence[str]) -> list[str]:
    """The words of a command that are neither options nor values of options."""
    after = list(words[words.index("--") + 1 :]) if "--" in words else []
    before = words[: words.index("--")] if "--" in words else words
    valued = {at + 1 for at, word in enumerate(before) if word in VALUED}
    return [word for at, word in enumerate(before) if not word.startswith("-") and at not in valued] + after


def _as_path(path: str) -> str:
    """The path in a form that no command takes for an option."""
    return os.path.join(".", path) if path.startswith("-") else path
