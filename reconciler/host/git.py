"""The one place that runs git: the environment, the deadline, and the errors.

Git runs in a session of its own, so Ctrl-C at the terminal does not reach git. Every command has a deadline. Git prints
to temporary files, because an ssh process that outlives git would hold a pipe open.
"""

import os
import re
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

from reconciler.host.crash_report import exhausted_resource
from reconciler.host.secrecy import without_credentials
from reconciler.model.errors import ReconcilerError

COMMAND_WITHIN_S = 60.0
"""The deadline of one git command."""

_KEPT_BYTES = 64 * 1024
"""The number of bytes of git's stderr that are kept."""

# The variables that name a repository, as `git rev-parse --local-env-vars` lists them. A hook or an editor may have set
# them for another repository. The variables GIT_CONFIG_* are not among them, since they hold the user's own settings.
_REPOSITORY_VARIABLES = re.compile(
    r"GIT_(DIR|WORK_TREE|INDEX_FILE|OBJECT_DIRECTORY|ALTERNATE_OBJECT_DIRECTORIES|COMMON_DIR|NAMESPACE|PREFIX"
    r"|INTERNAL_SUPER_PREFIX|IMPLICIT_WORK_TREE|GRAFT_FILE|NO_REPLACE_OBJECTS|QUARANTINE_PATH|TEMPLATE_DIR"
    r"|EXTERNAL_DIFF|TRACE.*|CURL_VERBOSE|SHALLOW_FILE|REPLACE_REF_BASE|ATTR_SOURCE|DEFAULT_HASH)"
)


class Unrunnable(ReconcilerError):
    """Git can't be started. `hint` says what to do."""


class Exhausted(Unrunnable):
    """This machine has no process, or no open file, left to run git with."""


class GitResult(NamedTuple):
    """The result of a git command: its exit code, its stdout, and its stderr.

    Where the deadline ended the command, `is_late` is True, `code` is -1, and the last line of `err` names the
    deadline.
    """

    code: int
    out: bytes
    err: str
    is_late: bool = False


def run_git(arguments: Sequence[str], env: Mapping[str, str], stdin: bytes = b"") -> GitResult:
    """Run git to its end, or to its deadline. `env` comes from `git_environment`.

    Raises `Exhausted` where no process or open file can be had, and `Unrunnable` where git can't be started for another
    reason.
    """
    try:
        return _run_git(arguments, env, stdin)
    except FileNotFoundError as fault:
        raise Unrunnable("git is not installed", "install git 2.31 or later") from fault
    except OSError as fault:
        if exhausted := exhausted_resource(fault):
            raise Exhausted(f"git can't be run: {fault.strerror}", exhausted) from fault
        raise Unrunnable(f"git can't be run: {fault.strerror}", "mend that") from fault


def _run_git(arguments: Sequence[str], env: Mapping[str, str], stdin: bytes) -> GitResult:
    with tempfile.TemporaryFile() as into, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        into.write(stdin)
        into.seek(0)
        child = subprocess.Popen(
            ["git", *arguments], stdin=into, stdout=out, stderr=err, env=env, start_new_session=True
        )
        late = ""
        try:
            code = child.wait(COMMAND_WITHIN_S)
        except subprocess.TimeoutExpired:
            late = f"no end within {COMMAND_WITHIN_S:g} s"
            code = -1
        finally:
            if child.returncode is None:
                with suppress(ProcessLookupError):
                    os.killpg(child.pid, signal.SIGKILL)
                child.wait()
        out.seek(0)
        err.seek(0)
        words = err.read(_KEPT_BYTES).decode("utf-8", "replace")
        return GitResult(code, out.read(), f"{words}\n{late}" if late else words, bool(late))


def git_environment(env: Mapping[str, str], settings: Sequence[tuple[str, str]] = ()) -> dict[str, str]:
    """The environment for a git command whose arguments name the repository.

    `settings` are (name, value) entries of git's configuration, and override the entries in `env`. Git never asks a
    question, and prints its messages in English.
    """
    own = without_credentials(env)  # Git passes its environment on to helpers, hooks and GIT_ASKPASS.
    kept = {name: value for name, value in own.items() if not _REPOSITORY_VARIABLES.fullmatch(name)}
    try:
        first = int(kept.get("GIT_CONFIG_COUNT", "0"))
    except ValueError:
        first = 0
    for number, (name, value) in enumerate(settings, first):
        kept[f"GIT_CONFIG_KEY_{number}"], kept[f"GIT_CONFIG_VALUE_{number}"] = name, value
    return kept | {
        "GIT_CONFIG_COUNT": str(first + len(settings)),
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_LITERAL_PATHSPECS": "1",
        "GIT_OPTIONAL_LOCKS": "0",
        "LC_ALL": "C",
        "LANGUAGE": "C",
    }
