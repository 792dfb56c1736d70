"""Runs the commands of Slurm, and tells what their failures mean.

A command has a session of its own: Ctrl-C ends the tool, and not the command that is in the middle of a call.
"""

import os
import re
import shutil
import subprocess
import threading
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple

from reconciler.engines.port import AnswerClass, CredentialsError, EngineError, Reason, Result, Surroundings
from reconciler.engines.slurm.settings import Settings
from reconciler.engines.slurm.ssh import MOST_SESSIONS, Connection, ended

_WITHIN_S = 120.0
"""How long a command may take. `sbatch` tries again by itself for some time while the controller is busy."""

_ON_NO_CONTROLLER = (
    "see whether the controller is up: scontrol ping; SLURM_CONF or target.conf says which cluster it is"
)
_NOT_FOUND = 127
"""The exit code of `env` if there is no such command."""

_MESSAGE_LENGTH = 1000
_PREFIX = re.compile(r"^(sbatch|squeue|scontrol|scancel|sacct|sacctmgr): (error: )?|^slurm_\w+ error: ")
_VARIABLES = ("SBATCH_", "SQUEUE_", "SACCT_", "SCANCEL_", "SCONTROL_", "SLURM_TIME_FORMAT", "SLURM_CLUSTERS")
"""The variables that change what a command does or prints. Those of the user would count for the commands of a plan."""

_OWN = {"SLURM_BITSTR_LEN": "0", "SLURM_TIME_FORMAT": "standard", "TZ": "UTC", "LC_ALL": "C.UTF-8"}
"""What the commands are to print: the indexes of arrays whole, and times in UTC."""


_SUBMITTING = "sbatch"
_INHERITED = ("HOME", "LANG", "LANGUAGE", "LOGNAME", "PATH", "SHELL", "SLURM_CONF", "SLURM_JWT", "TZ", "USER")
"""The variables that a job gets from the program, beside those that begin with LC_: `sbatch` hands on all that it has.

Slurm stores them, so that no credential of a CI runner may be among them. SLURM_JWT is the one that Slurm itself takes.
"""


class Failure(StrEnum):
    """What a failed command means.

    UNREACHABLE  the controller was not reached, so that nothing was sent
    LOST         the request may have arrived, and its answer did not
    DENIED       the user may not do this
    UNTRUSTED    the controller does not accept the credentials
    UNKNOWN_JOB  the controller has no such job
    ENDED        the job has ended
    REFUSED      any other refusal
    """

    UNREACHABLE = "unreachable"
    LOST = "lost"
    DENIED = "denied"
    UNTRUSTED = "untrusted"
    UNKNOWN_JOB = "unknown job"
    ENDED = "ended"
    REFUSED = "refused"


_FAILURES: Sequence[tuple[Failure, re.Pattern[str]]] = tuple(
    (failure, re.compile(words, re.IGNORECASE))
    for failure, words in (
        (Failure.UNREACHABLE, "connect failure|unable to establish (controller|configuration) |no route to host"),
        (Failure.UNTRUSTED, "protocol authentication error|invalid authentication credential|munge encode failed"),
        (
            Failure.LOST,
            (
                "timed out|zero bytes were transmitted|unexpected message received|communication connection|"
                "connection (reset|refused|closed)|unable to contact|header lengths are longer|insane message length|"
                "temporarily unable|in standby|resource temporarily unavailable|transport endpoint"
            ),
        ),
        (Failure.DENIED, "access/permission denied|user does not have permission|doesn't have privilege"),
        (Failure.ENDED, "already finished|already completing or completed"),
        (Failure.UNKNOWN_JOB, "invalid job id"),
    )
)
"""The messages of slurm_strerror(), in the order in which they count. They are the same in all commands."""


class Answer(NamedTuple):
    """What came of a command. `code` is None if the command was ended after too long a time, or could not be run."""

    code: int | None
    out: str
    err: str

    @property
    def failure(self) -> Failure | None:
        """What the command failed by; None if it succeeded."""
        return None if self.code == 0 else failure_in(self.err, was_ended=self.code is None or self.code < 0)

    @property
    def message(self) -> str:
        """What the command complained of, in one line of bounded length."""
        return message_in(self.err) or ("no answer in time" if self.code is None else f"exit code {self.code}")


def failure_in(err: str, *, was_ended: bool = False) -> Failure:
    """Return what the complaint of a command means. A command that was ended has left its request in doubt."""
    if was_ended:
        return Failure.LOST
    return next((failure for failure, words in _FAILURES if words.search(err)), Failure.REFUSED)


def message_in(err: str) -> str:
    """Return the complaint of a command in one line of bounded length."""
    lines = dict.fromkeys(_PREFIX.sub("", line).strip() for line in err.splitlines())
    return "; ".join(filter(None, lines))[:_MESSAGE_LENGTH]


_CLASSES = {
    Failure.UNREACHABLE: (AnswerClass.NOT_SENT, Reason.OTHER),
    Failure.LOST: (AnswerClass.IN_DOUBT, Reason.OTHER),
    Failure.UNTRUSTED: (AnswerClass.REJECTED, Reason.NOT_AUTHENTICATED),
    Failure.DENIED: (AnswerClass.REJECTED, Reason.NOT_PERMITTED),
    Failure.UNKNOWN_JOB: (AnswerClass.REJECTED, Reason.NO_SUCH_JOB),
    Failure.ENDED: (AnswerClass.REJECTED, Reason.NOT_RUNNING),
    Failure.REFUSED: (AnswerClass.REJECTED, Reason.INVALID),
}


def result_of(failure: Failure, message: str) -> Result:
    """Return the result of a call whose command has failed."""
    kind, reason = _CLASSES[failure]
    return Result(kind, reason, message)


class Commands:
    """The commands of Slurm, here or on the machine that the target names. Several threads may call any method."""

    def __init__(self, settings: Settings, surroundings: Surroundings) -> None:
        self._settings = settings
        env = {name: value for name, value in surroundings.env.items() if not name.startswith(_VARIABLES)}
        self._own = dict(_OWN)
        self._there = Connection(settings.ssh, env) if settings.ssh else None
        if settings.conf and not self._there:
            self._own["SLURM_CONF"] = settings.conf
        self._env = env
        self._programs: dict[str, str] = {}
        self._lock = threading.Lock()
        self._user = ""
        self._knows_conf = not (settings.conf and self._there)
        # With more processes at a time, the controller refuses some, and a small machine only takes turns.
        most = MOST_SESSIONS if self._there else 4 * (os.cpu_count() or 1)
        self._room = threading.BoundedSemaphore(max(1, min(surroundings.parallelism, most)))

    def run(self, argv: Sequence[str], given: str = "") -> Answer:
        """Run a command with a text as its standard input. Raises `EngineError` if there is no such command."""
        self._find_conf()
        code, out, err = self._ended(argv, given.encode("utf-8", "surrogateescape"))
        return Answer(code, out.decode("utf-8", "replace"), err)

    def read(self, argv: Sequence[str]) -> str:
        """Return what a command prints that reads something.

        Raises `CredentialsError`, and `EngineError` for any other failure.
        """
        answer = self.run(argv)
        failure = answer.failure
        if failure is None:
            return answer.out
        if failure is Failure.UNTRUSTED:
            raise CredentialsError(f"Slurm does not accept the credentials: {answer.message}")
        hint = _ON_NO_CONTROLLER if failure in (Failure.UNREACHABLE, Failure.LOST) else ""
        raise EngineError(f"{argv[0]}: {answer.message}", hint)

    def file_from(self, path: str, at: int) -> tuple[int, bytes]:
        """Return how long a file is, and what it has from a byte on. A file that is not there is empty.

        Raises `EngineError` if it can't be read.
        """
        code, piece, err = self._ended(["tail", "-c", f"+{at + 1}", "--", path], b"")
        if code == 0:
            return at + len(piece), piece
        if "No such file" in err:
            return at, b""
        raise EngineError(f"the log {path} can't be read: {message_in(err)}")

    def user(self) -> str:
        """Return the name of the user as whom the commands are run. Raises as `read` does."""
        with self._lock:
            if not self._user:
                self._user = self.read(["id", "-un"]).strip()
            return self._user

    def close(self) -> None:
        """End the connection to the other machine."""
        if self._there:
            self._there.close()

    def _find_conf(self) -> None:
        """Find out which file is meant by a path in the home folder of the other machine."""
        if self._knows_conf:
            return
        path = self._settings.conf.removeprefix("~/")
        code, out, err = self._ended(["sh", "-c", 'cd && printf %s "$PWD"'], b"")
        if code != 0:
            raise EngineError(f"the home folder over there can't be found: {message_in(err)}")
        self._own["SLURM_CONF"] = os.path.join(out.decode("utf-8", "replace"), path)
        self._knows_conf = True

    def _ended(self, argv: Sequence[str], given: bytes) -> tuple[int | None, bytes, str]:
        """Run a command. Return its exit code, and what it printed. See `Answer` for the code."""
        with self._room:
            if self._there is None:
                code, out, told = self._executed(argv, given, {**self._inherited(argv), **self._given(argv)})
                return code, out, told.decode("utf-8", "replace")
            if why := self._there.connect():
                raise EngineError(f"{self._settings.ssh.destination if self._settings.ssh else ''}: {why}")
            _, out, told = self._executed(self._there.words(argv, self._given(argv)), given, self._env)
            code, err = ended(told.decode("utf-8", "replace"))
            if code == _NOT_FOUND:
                raise _no_command(argv[0], "that machine")
            return code, out, err

    def _inherited(self, argv: Sequence[str]) -> Mapping[str, str]:
        """Return the variables that a command of this machine gets from the program."""
        if argv[0] != _SUBMITTING:
            return self._env
        return {name: value for name, value in self._env.items() if name in _INHERITED or name.startswith("LC_")}

    def _given(self, argv: Sequence[str]) -> Mapping[str, str]:
        """Return the variables that a command gets from here. What a command is to print is nothing for a job."""
        if argv[0] != _SUBMITTING:
            return self._own
        return {name: value for name, value in self._own.items() if name not in _OWN}

    def _program(self, name: str) -> str:
        """Return the path of a command. An apply runs a command for each job, and PATH is searched once.

        A relative entry of PATH leads elsewhere from the folder in which the command is executed.
        """
        if name not in self._programs:
            found = shutil.which(name, path=self._env.get("PATH"))
            self._programs[name] = found if found and os.path.isabs(found) else name
        return self._programs[name]

    def _executed(self, argv: Sequence[str], given: bytes, env: Mapping[str, str]) -> tuple[int | None, bytes, bytes]:
        try:
            process = subprocess.Popen(
                [self._program(argv[0]), *argv[1:]],
                stdin=subprocess.PIPE if given else subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=env,
                cwd=self._settings.folder or None,
                start_new_session=True,
            )
        except FileNotFoundError as fault:
            raise _no_command(argv[0], "this machine") from fault
        except (OSError, ValueError) as fault:  # a value with a NUL is no argument
            raise EngineError(f"the command {argv[0]} can't be run: {fault}") from fault
        with process:
            try:
                out, err = process.communicate(given or None, timeout=_WITHIN_S)
            except subprocess.TimeoutExpired:
                process.kill()
                out, err = process.communicate()
                return None, out, err
            except BaseException:
                process.kill()
                raise
        return process.returncode, out, err


def _no_command(name: str, where: str) -> EngineError:
    return EngineError(
        f"the command {name} of Slurm is not on {where}",
        "use a machine with Slurm's commands, such as a login node: run this there, or name it as target.ssh",
    )
