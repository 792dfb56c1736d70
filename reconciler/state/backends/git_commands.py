"""Git commands for a state that git keeps: how they are run, and what their failures mean."""

from collections.abc import Mapping, Sequence

from reconciler.host import git
from reconciler.host.git import GitResult
from reconciler.model.errors import StateError
from reconciler.state.backends.git_url import without_userinfo
from reconciler.state.port import Unreachable

_ERROR_BYTES = 4096
"""How much of the end of git's stderr `error_text` reads."""

_ERROR_CHARACTERS = 600
"""How long the result of `error_text` may be."""


class Exhausted(Unreachable):
    """This machine has no process, or no open file, left to run git with."""


def run_git(arguments: Sequence[str], env: Mapping[str, str], stdin: bytes = b"") -> GitResult:
    """Run a git command to its end, or to its deadline. `env` comes from `remote_environment`.

    Raises `Exhausted` where no process or open file can be had, and `StateError` where git can't be started.
    """
    try:
        return git.run_git(arguments, env, stdin)
    except git.Exhausted as fault:
        raise Exhausted(fault.message, fault.hint) from fault
    except git.Unrunnable as fault:
        raise StateError(fault.message, f"{fault.hint}, or keep state in a file") from fault


def remote_environment(env: Mapping[str, str], settings: Sequence[tuple[str, str]] = ()) -> dict[str, str]:
    """The environment for a git command that reaches a remote.

    `settings` are (name, value) entries of git's configuration.
    """
    return git.git_environment(env, settings) | {
        "GIT_ALLOW_PROTOCOL": "https:ssh:file:http:git",
        "GIT_DEFAULT_REF_FORMAT": "files",
    }


def error_text(result: GitResult) -> str:
    """The messages that git wrote to stderr, on one line of bounded length, without credentials and without hints."""
    lines = [line.strip() for line in without_userinfo(result.err[-_ERROR_BYTES:]).splitlines()]
    messages = [line for line in lines if line and not line.startswith("hint:")]
    return "; ".join(messages)[:_ERROR_CHARACTERS] or f"it ended with {result.code}"
